"""Start workers: ``python -m capsule_worker --control FD --process-tag TEXT``. The front runs this command.

With the descriptors of one worker instead of a control socket (``--fd FD --stdout FD ...``), be that worker.
"""

from __future__ import annotations

import sys
import time

_STARTED = time.monotonic()
# ``-m`` puts the working directory first on the path. It must not be there while the worker's own modules are imported:
# a file of the user's could replace one of them. Cells get it back (``ipython_config``).
if not getattr(sys.flags, "safe_path", False):
    sys.path.pop(0)


def _prepare() -> None:
    """Import the modules of workers, and exempt them from garbage collection, so that forks continue to share memory.

    This freezes only modules: people ask the collector what refers to their objects, which are made later.
    """
    import contextlib
    import gc

    # If this fails it fails in the worker too, which reports it.
    with contextlib.suppress(Exception):
        import capsule_worker.message_loop  # noqa: F401  # for the forks
    gc.freeze()


def main() -> None:
    """Read the arguments, and be a forkserver or a worker."""
    import argparse
    import faulthandler
    import gc
    import os
    import socket

    # Imports leave no garbage; without the search for it they are a tenth faster.
    gc.disable()
    parser = argparse.ArgumentParser(prog="capsule_worker", description=__doc__)
    parser.add_argument("--control", type=int, metavar="FD", help="socket by which the front requests workers")
    parser.add_argument("--process-tag", metavar="TEXT", help="the beginning of the process tags of the workers")
    parser.add_argument(
        "--confinement", metavar="JSON", help="what to give up; see capsule_worker.isolation.self_sandboxing"
    )
    parser.add_argument("--fd", type=int, help="connected socket to the front")
    parser.add_argument("--stdout", type=int, metavar="FD", help="reading end of the pipe at descriptor 1")
    parser.add_argument("--stderr", type=int, metavar="FD", help="reading end of the pipe at descriptor 2")
    parser.add_argument(
        "--output-buffer", type=int, metavar="FD", help="shared memory that keeps text until it is sent"
    )
    parser.add_argument("--crash", type=int, metavar="FD", help="file that gets Python's stack at a crash")
    parser.add_argument("--writers", type=int, metavar="FD", help="pipe that is open while checkpoints are written")
    parser.add_argument("--standby", type=int, metavar="FD", help="socket by which the front learns of standbys")
    parser.add_argument("--drain-timeout", type=float, default=30.0, metavar="SECONDS", help="default 30")
    arguments = parser.parse_args()

    from capsule_worker.process import forkserver

    start: forkserver.WorkerStart | None
    if arguments.control is not None:
        os.set_inheritable(arguments.control, False)
        control = socket.socket(fileno=arguments.control)
        start = forkserver.serve(control, arguments.process_tag, arguments.confinement, _prepare)
        if start is None:
            return
    else:
        fds = {name: getattr(arguments, name) for name in forkserver.PASSED_FDS if hasattr(arguments, name)}
        start = forkserver.WorkerStart(fds, arguments.drain_timeout, _STARTED)
    for fd in start.fds.values():
        os.set_inheritable(fd, False)
    faulthandler.enable(open(start.fds["crash"], "wb", buffering=0))  # noqa: SIM115, PTH123  # open until the next one

    from capsule_worker.message_loop import MessageLoop
    from capsule_worker.protocol.output_buffer import map_buffer

    loop = MessageLoop(
        socket.socket(fileno=start.fds["fd"]),
        start.fds["stdout"],
        start.fds["stderr"],
        map_buffer(start.fds["output_buffer"]),
        start.fds["writers"],
        socket.socket(fileno=start.fds["standby"]),
        start.drain_timeout,
    )
    os.close(start.fds["output_buffer"])
    sys.argv = [""]
    gc.enable()
    loop.run(start.started)


if __name__ == "__main__":
    main()
