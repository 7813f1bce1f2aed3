"""Runs a program as an ordinary user, who has a home directory and may read what the program is made of.

``python as_user.py UID HOME PATH:PATH... PROGRAM [ARGUMENT ...]``, as root. The paths are what the program is made of;
where a directory above one of them may not be entered by others it is replaced, for the program only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def open_way(path: Path) -> None:
    """Have a directory be reachable for anybody, in this process's own namespace of mounts."""
    closed = next((one for one in [*reversed(path.parents), path] if not one.stat().st_mode & 0o001), None)
    if closed is None:
        return
    aside = tempfile.mkdtemp()
    mount("--rbind", path, aside)
    mount("-t", "tmpfs", "-o", "mode=755", "none", closed)
    path.mkdir(parents=True, exist_ok=True)
    mount("--move", aside, path)
    os.rmdir(aside)  # noqa: PTH106  # a mount point no more


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def main() -> None:
    uid, home, paths = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(":")
    os.unshare(os.CLONE_NEWNS)
    mount("--make-rprivate", "/")
    mount("--make-slave", "/")
    # Those that lie below others come later.
    for path in sorted({Path(one).resolve() for one in paths}):
        open_way(path)
    for path in [home, *home.rglob("*")]:
        os.chown(path, uid, uid, follow_symlinks=False)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.environ |= {"HOME": str(home), "USER": f"user{uid}", "LOGNAME": f"user{uid}"}
    os.execv(sys.argv[4], sys.argv[4:])


if __name__ == "__main__":
    main()
