"""Runs the kernel: one asyncio loop for sockets, session and engine, from the connection file to the last message."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from pathlib import Path

from capsule_durable.config.sources import Configuration
from capsule_durable.execution.runtime import Runtime
from capsule_durable.storage.kernel_lock import lock_name
from capsule_durable.workers.channels import WorkerHandle
from capsule_durable.workers.launcher import Launcher
from capsule_kernel.jupyter.bound_sockets import BoundSockets
from capsule_kernel.jupyter.channels import Channels, watch_parent
from capsule_kernel.jupyter.connection_file import ConnectionFile
from capsule_kernel.jupyter.kernel import CapsuleKernel


def run(
    endpoints: BoundSockets,
    connection: ConnectionFile,
    configuration: Configuration,
    launcher: Launcher,
    first: WorkerHandle | None,
) -> None:
    """Serve until shutdown.

    Args:
        endpoints: the sockets, bound.
        connection: the file with ports and key.
        configuration: the settings, and what is wrong with their sources.
        launcher: starts workers.
        first: a worker that is on its way already.
    """
    logging.basicConfig(
        level=configuration.settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    asyncio.run(_serve(endpoints, connection, configuration, launcher, first))


async def _serve(
    endpoints: BoundSockets,
    connection: ConnectionFile,
    configuration: Configuration,
    launcher: Launcher,
    first: WorkerHandle | None,
) -> None:
    settings = configuration.settings
    channels = Channels(endpoints)
    # Who sees the file takes the kernel for one that answers.
    connection.publish()
    if not int(os.environ.get("JPY_PARENT_PID") or 0):
        print(connection.advice(), flush=True)
    kernel = CapsuleKernel(
        session=channels.session,
        iopub_socket=channels.iopub.socket,
        log=logging.getLogger("capsule_kernel"),
    )
    session_id = lock_name(Path(settings.home), connection.path.stem)
    kernel.setup(channels, lambda capabilities: Runtime(session_id, settings, capabilities, launcher))
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)

    loop.add_signal_handler(signal.SIGINT, kernel.interrupt)
    loop.add_signal_handler(signal.SIGTERM, kernel.stopped.set)
    watch_parent(kernel.stopped.set)
    kernel.runtime.start(first)
    for warning in configuration.warnings:
        kernel.runtime.notices.add(warning)
    kernel.start()
    # What was imported stays: the garbage collector need not look at it again and again.
    gc.freeze()
    gc.enable()
    try:
        await kernel.stopped.wait()
    finally:
        await kernel.runtime.close()
        with contextlib.suppress(Exception):
            channels.close()
