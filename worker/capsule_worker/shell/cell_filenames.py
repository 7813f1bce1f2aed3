"""The file names of cells, which tracebacks and debuggers show.

As in ipykernel the name of a file depends on the code alone, so clients (JupyterLab) know it without asking. Unlike
there the folder is the same in every process of a user: breakpoints stay valid in functions that a checkpoint restores.
The folder is named like ipykernel's, because libraries (numba, joblib, line_profiler, executing) recognise the code of
a cell by that. Its number is one that no process has, so no ipykernel uses it.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from pathlib import Path

#: The seed of the hash; clients are told (``debugInfo``).
SEED = 0xC70F6907
SUFFIX = ".py"
#: Added to the id of the user; ids of processes are below 4,194,304.
_BEYOND_PROCESSES = 10_000_000_000
_MASK = 0xFFFFFFFF


class CellFiles:
    """Names the files of cells, and writes them for a debugger."""

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        number = _BEYOND_PROCESSES + os.getuid()
        self.folder = parent / f"ipykernel_{number}"
        if not _is_ours(self.folder):
            self.folder = parent / f"ipykernel_{number}{os.getpid():07}"
        #: The beginning of every path.
        self.prefix = f"{self.folder}{os.sep}"

    def name(self, code: str) -> str:
        """Return the path of the file for a cell; ``IPYKERNEL_CELL_NAME`` in the environment overrides it.

        Args:
            code: the source of the cell.
        """
        given = os.environ.get("IPYKERNEL_CELL_NAME")
        return given or f"{self.prefix}{murmur2(code.encode('utf-8', 'replace'), SEED)}{SUFFIX}"

    def write(self, code: str) -> str:
        """Write the file for a cell, and return its path.

        Args:
            code: the source of the cell.

        Raises:
            OSError: the file cannot be written, or another user can write into its folder.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_ours(self.folder):
            raise PermissionError(f"another user can write to {self.folder}")
        path = self.name(code)
        Path(path).write_text(code, encoding="utf-8", errors="replace")
        return path


def murmur2(data: bytes, seed: int) -> int:
    """Return the 32-bit MurmurHash2, as its author published it.

    Args:
        data: what to hash.
        seed: the seed, of 32 bits.
    """
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
    """Return whether no other user can write into a folder. A folder that does not exist can be made."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
