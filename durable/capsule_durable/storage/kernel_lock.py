"""Lock the name of a kernel: the same name after a restart, and never one that another process uses."""

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

#: The file whose bytes are locked, one for each kernel that runs. It is empty.
FILE = "kernels.lock"
#: Seconds to wait for a process that was just killed.
TIMEOUT = 1.0
#: Seconds between two attempts.
POLL_INTERVAL = 0.02


def lock_name(home: Path, name: str) -> str:
    """Return the name under which this process may continue a kernel's sessions, runs and cells.

    It is ``name``, or ``name`` with a number if another process that runs has locked it: connection files in two
    directories may have the same name, and so may those of two containers that share a home. The lock is held until
    this process ends. Call it once.

    Args:
        home: the directory for data. If it cannot be written it is not shared either, and nothing is locked.
        name: the kernel's name, from its connection file.
    """
    try:
        # The system closes it when the process ends. Closing it releases the lock.
        fd = os.open(ensure(home) / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        logger.debug("cannot lock the name %s: %s", name, error)
        return name
    deadline = time.monotonic() + TIMEOUT
    for number in itertools.count(1):
        candidate = name if number == 1 else f"{name}-{number}"
        offset = int(ids.slug(candidate), 16) >> 1
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except (BlockingIOError, PermissionError):
                if time.monotonic() >= deadline:
                    break
                time.sleep(POLL_INTERVAL)
            except OSError as error:
                logger.debug("cannot lock the name %s: %s", name, error)
                return name
            else:
                if number > 1:
                    logger.warning("another running kernel has the name %s; this one is %s", name, candidate)
                return candidate
    raise AssertionError("unreachable")
