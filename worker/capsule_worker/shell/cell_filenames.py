"""The files that the code of cells is said to be in, which debuggers want to see.

As in ipykernel a file's name depends on the code alone, so clients (JupyterLab) know it without asking. Other than
there the folder is the same in every process of a user: a function that a checkpoint has brought back is where its
breakpoints are. It is called as ipykernel's are, because by that libraries (numba, joblib, line_profiler, executing)
know the code of a cell, but by a number that no process has, and so no ipykernel.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from pathlib import Path

#: What the hash begins with; clients are told (``debugInfo``).
SEED = 0xC70F6907
SUFFIX = ".py"
#: What is added to a user's id; ids of processes are below 4,194,304.
_BEYOND_PROCESSES = 10_000_000_000
_MASK = 0xFFFFFFFF


class CellFiles:
    """Names and writes them."""

    def __init__(self) -> None:
        here = Path(tempfile.gettempdir())
        number = _BEYOND_PROCESSES + os.getuid()
        self.folder = here / f"ipykernel_{number}"
        if not _is_ours(self.folder):
            self.folder = here / f"ipykernel_{number}{os.getpid():07}"

    @property
    def prefix(self) -> str:
        """What every name begins with."""
        return f"{self.folder}{os.sep}"

    def name(self, code: str) -> str:
        """Return the path of the file for a cell; ``IPYKERNEL_CELL_NAME`` in the environment overrides it."""
        given = os.environ.get("IPYKERNEL_CELL_NAME")
        return given or f"{self.prefix}{murmur2(code.encode('utf-8', 'replace'), SEED)}{SUFFIX}"

    def write(self, code: str) -> str:
        """Write the file for a cell, and return its path. Raises OSError where that cannot be done."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_ours(self.folder):
            msg = f"{self.folder} belongs to somebody else"
            raise PermissionError(msg)
        path = self.name(code)
        Path(path).write_text(code, encoding="utf-8", errors="replace")
        return path


def murmur2(data: bytes, seed: int) -> int:
    """Return the 32-bit hash of ``data``: MurmurHash2, as its author published it."""
    factor = 0x5BD1E995
    value = (seed ^ len(data)) & _MASK
    whole = len(data) & ~3
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        mixed = word * factor & _MASK
        value = value * factor & _MASK ^ (mixed ^ mixed >> 24) * factor & _MASK
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * factor & _MASK
    value = (value ^ value >> 13) * factor & _MASK
    return value ^ value >> 15


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can put anything into a folder; one that is not there can be made."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
