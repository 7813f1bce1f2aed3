"""Start a worker: ``python -m capsule_worker --fd N --stdout N --stderr N``. The front does this."""

from __future__ import annotations

import sys
import time

_STARTED = time.monotonic()
# ``-m`` puts the working directory first on the path. While the worker's own modules are imported it must not be
# there: a file of the user's named like one of them would be taken for it. Cells get it back.
_WORKING_DIRECTORY = sys.path.pop(0) if not getattr(sys.flags, "safe_path", False) else None


def main() -> None:
    """Read the arguments, take the descriptors, serve."""
    import argparse
    import faulthandler
    import os
    import socket

    parser = argparse.ArgumentParser(prog="capsule_worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="connected socket to the front")
    parser.add_argument("--stdout", type=int, required=True, help="reading end of the pipe at descriptor 1")
    parser.add_argument("--stderr", type=int, required=True, help="reading end of the pipe at descriptor 2")
    parser.add_argument("--journal", type=int, required=True, help="shared memory that keeps text until it is sent")
    parser.add_argument("--crash", type=int, required=True, help="file that gets Python's stack at a crash")
    parser.add_argument("--writers", type=int, required=True, help="pipe that is open while checkpoints are written")
    parser.add_argument("--standby", type=int, required=True, help="socket by which the front learns of copies")
    parser.add_argument("--drain-timeout", type=float, default=30.0, help="seconds (default 30)")
    arguments = parser.parse_args()

    faulthandler.enable(open(arguments.crash, "wb", buffering=0))  # noqa: SIM115, PTH123  # open until the next one
    given = (arguments.fd, arguments.stdout, arguments.stderr, arguments.journal, arguments.crash, arguments.writers)
    for fd in (*given, arguments.standby):
        os.set_inheritable(fd, False)

    from capsule_worker.protocol import journal
    from capsule_worker.server import Server

    server = Server(
        socket.socket(fileno=arguments.fd),
        arguments.stdout,
        arguments.stderr,
        journal.mapped(arguments.journal),
        arguments.writers,
        socket.socket(fileno=arguments.standby),
        arguments.drain_timeout,
    )
    os.close(arguments.journal)
    if _WORKING_DIRECTORY is not None:
        sys.path.insert(0, "")
    sys.argv = [""]
    server.run(_STARTED)


if __name__ == "__main__":
    main()
