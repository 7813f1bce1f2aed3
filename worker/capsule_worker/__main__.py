"""Start workers: ``python -m capsule_worker --warden N --cookie TEXT``. The front does this.

With the descriptors of one worker in place of a warden's (``--fd N --stdout N ...``), be that worker.
"""

from __future__ import annotations

import sys
import time

_STARTED = time.monotonic()
# ``-m`` puts the working directory first on the path. While the worker's own modules are imported it must not be
# there: a file of the user's named like one of them would be taken for it. Cells get it back (``application``).
if not getattr(sys.flags, "safe_path", False):
    sys.path.pop(0)


def _prepare() -> None:
    """Import what workers are made of, and have the garbage collector leave it alone: forks go on sharing the memory.

    That is modules only: people ask the collector who holds their objects, and the answer is in the shell's namespace.
    """
    import contextlib
    import gc

    # A worker fails of it in its turn, and says so.
    with contextlib.suppress(Exception):
        import capsule_worker.message_loop  # noqa: F401  # for the forks
    gc.freeze()


def main() -> None:
    """Read the arguments, take the descriptors, serve."""
    import argparse
    import faulthandler
    import gc
    import os
    import socket

    # What is imported stays: to look for garbage in it takes a tenth of the time.
    gc.disable()
    parser = argparse.ArgumentParser(prog="capsule_worker", description=__doc__)
    parser.add_argument("--warden", type=int, metavar="FD", help="socket by which the front asks for workers")
    parser.add_argument("--cookie", help="the beginning of their cookies")
    parser.add_argument(
        "--confine", metavar="JSON", help="what to give up; see capsule_worker.isolation.self_sandboxing"
    )
    parser.add_argument("--fd", type=int, help="connected socket to the front")
    parser.add_argument("--stdout", type=int, help="reading end of the pipe at descriptor 1")
    parser.add_argument("--stderr", type=int, help="reading end of the pipe at descriptor 2")
    parser.add_argument("--journal", type=int, help="shared memory that keeps text until it is sent")
    parser.add_argument("--crash", type=int, help="file that gets Python's stack at a crash")
    parser.add_argument("--writers", type=int, help="pipe that is open while checkpoints are written")
    parser.add_argument("--standby", type=int, help="socket by which the front learns of copies")
    parser.add_argument("--drain-timeout", type=float, default=30.0, help="seconds (default 30)")
    arguments = parser.parse_args()

    from capsule_worker.process import forkserver

    order: forkserver.WorkerStart | None
    if arguments.warden is not None:
        os.set_inheritable(arguments.warden, False)
        control = socket.socket(fileno=arguments.warden)
        order = forkserver.watch(control, arguments.cookie, arguments.confine, _prepare)
        if order is None:
            return
    else:
        fds = {name: getattr(arguments, name) for name in forkserver.HANDED if hasattr(arguments, name)}
        order = forkserver.WorkerStart(fds, arguments.drain_timeout, _STARTED)
    for fd in order.fds.values():
        os.set_inheritable(fd, False)
    faulthandler.enable(open(order.fds["crash"], "wb", buffering=0))  # noqa: SIM115, PTH123  # open until the next one

    from capsule_worker.message_loop import MessageLoop
    from capsule_worker.protocol import output_buffer

    server = MessageLoop(
        socket.socket(fileno=order.fds["fd"]),
        order.fds["stdout"],
        order.fds["stderr"],
        output_buffer.mapped(order.fds["journal"]),
        order.fds["writers"],
        socket.socket(fileno=order.fds["standby"]),
        order.drain_timeout,
    )
    os.close(order.fds["journal"])
    sys.argv = [""]
    gc.enable()
    server.run(order.started)


if __name__ == "__main__":
    main()
