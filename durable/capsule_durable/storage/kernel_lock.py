"""Which kernel this is: the same one again after a death, and never one that another process is."""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import time
from pathlib import Path

from capsule_durable import ids
from capsule_durable.config.paths import ensure

logger = logging.getLogger(__name__)

#: The file whose bytes are locked, one for each kernel that runs; it holds nothing.
FILE = "kernels.lock"
#: Seconds that a process which was just killed may take to be gone.
TIMEOUT = 1.0


def lock_name(home: Path, name: str) -> str:
    """Return the name under which this process may go on with a kernel's sessions, runs and cells.

    It is ``name``, unless a process that lives goes by it: connection files in two folders may be called the same, and
    so may those of two containers that share a home. The claim ends with this process. Call it once.

    Args:
        home: the directory for data. Where it cannot be written there is nothing to share, and nothing is claimed.
        name: the kernel's, from its connection file.
    """
    try:
        # Closed by the system, when the process ends: closing it ends the claim.
        fd = os.open(ensure(home) / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        logger.debug("no claim on %s: %s", name, error)
        return name
    deadline = time.monotonic() + TIMEOUT
    for number in itertools.count(1):
        claimed = name if number == 1 else f"{name}-{number}"
        place = int(ids.slug(claimed), 16) >> 1
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.02)
            except OSError as error:
                logger.debug("no claim on %s: %s", name, error)
                return name
            else:
                if number > 1:
                    logger.warning("a kernel that runs is called %s already; this one is %s", name, claimed)
                return claimed
    raise AssertionError("unreachable")
