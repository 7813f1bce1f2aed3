"""The worker: one thread reads messages from the front, the main thread runs cells on its asyncio loop."""

from __future__ import annotations

import atexit
import contextvars
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

import IPython

import capsule_worker
from capsule_worker.cell_task import CellServices, CellTask, internal_error
from capsule_worker.checkpoints.checkpointer import Checkpointer
from capsule_worker.frontend.comms import Comms
from capsule_worker.frontend.debug_session import DebugSession, is_available
from capsule_worker.frontend.stdin import Stdin
from capsule_worker.ipykernel_compat import import_hook
from capsule_worker.ipykernel_compat.kernel_proxy import KernelProxy
from capsule_worker.isolation import resource_limits
from capsule_worker.output.fd_capture import FdCapture
from capsule_worker.output.output_writer import OutputWriter
from capsule_worker.output.streams import OutStream
from capsule_worker.process import execution_context, interrupts, orphan_cleanup, standby_fork
from capsule_worker.process.channel import Channel
from capsule_worker.process.interrupts import InterruptGate
from capsule_worker.process.kernel_requests import KernelRequests
from capsule_worker.process.subshells import Subshells
from capsule_worker.protocol import PROTOCOL_VERSION, Message, ProtocolError
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.output_buffer import OutputBuffer, Piece
from capsule_worker.shell import introspection
from capsule_worker.shell.cell_runner import CellRunner, new_event_loop
from capsule_worker.shell.history import FLUSH_INTERVAL_SECONDS, HistoryFlush
from capsule_worker.shell.ipython_config import IPKernelApp
from capsule_worker.shell.shell import ZMQInteractiveShell
from capsule_worker.subshell_jobs import DeferredSave, SubshellJobs
from capsule_worker.takeover import Takeover

#: The oldest IPython that has what the worker uses; the same as in the distribution's requirements.
OLDEST_IPYTHON = (8, 20)
if IPython.version_info < OLDEST_IPYTHON:
    # An installer may keep an older one that another package pins.
    raise ImportError(
        f"IPython {IPython.__version__} is too old: cells need {'.'.join(map(str, OLDEST_IPYTHON))} or newer"
    )

_QUESTIONS: dict[type, Callable[[Any, Any], Message]] = {
    m.CompleteMessage: introspection.complete,
    m.InspectMessage: introspection.inspect,
    m.HistoryMessage: introspection.history,
    m.IsCompleteMessage: introspection.is_complete,
}
_LIMIT_ERRORS: dict[str, type[Exception]] = {
    "MemoryError": MemoryError,
    "TimeoutError": TimeoutError,
    "OSError": OSError,
}

#: Seconds that the last checkpoint may take when the front asks the worker to leave.
LAST_CHECKPOINT_SECONDS = 4.0
#: Seconds that writes under way may take when the front is gone, and seconds between two looks at them.
LAST_WRITES_SECONDS, POLL_INTERVAL_SECONDS = 2.0, 0.001


class MessageLoop:
    """A worker process, from its start to its end. Create it in the main thread.

    Args:
        sock: connected to the front.
        stdout: reading end of the pipe that is descriptor 1.
        stderr: reading end of the pipe that is descriptor 2.
        output_buffer: shared with the front; keeps text until it is sent.
        writers: a pipe that the front sees closed when no process writes a checkpoint any more.
        standby: connected to the front, which learns there of standbys.
        drain_timeout: seconds that the output of a cell may take to leave before an error replaces its result.
    """

    def __init__(
        self,
        sock: socket.socket,
        stdout: int,
        stderr: int,
        output_buffer: OutputBuffer,
        writers: int,
        standby: socket.socket,
        drain_timeout: float,
    ) -> None:
        resource_limits.relax()
        resource_limits.exit_with_threads()
        execution_context.follow_threads()
        standby_fork.renew_thread_id()
        self._gate = InterruptGate()
        self._channel = Channel(sock, self._gate, on_lost=leave)
        output = OutputWriter(self._channel, output_buffer)
        capture = FdCapture(stdout, stderr, output)
        output.read_pipes = capture.read_available
        stdin = Stdin(self._channel)
        stdin.install()
        self._loop = new_event_loop()
        context = contextvars.copy_context()
        app = IPKernelApp.read()
        self._shell = app.shell = ZMQInteractiveShell.instance(
            output_writer=output,
            application=app,
            user_module=make_main_module(),
            parent=app,
            profile_dir=app.profile_dir,
        )
        self._shell.configurables.append(app)  # type: ignore[arg-type]  # anything that has a configuration
        sys.stdout = OutStream("stdout", output)
        sys.stderr = OutStream("stderr", output)
        #: Kept, since its tip of the day is drawn with the notebook's random numbers.
        self._banner = self._shell.banner
        self._checkpointer = Checkpointer(self._shell, self._loop, self._channel.send, self._warn)
        self._channel.on_lost = self._leave_after_writes
        self._requests = KernelRequests(self._channel)
        comms = Comms(output)
        self._debugger = DebugSession(
            self._shell, self._shell.cell_files, output.publish, self._channel.send, self._loop.call_soon_threadsafe
        )
        self._shell.kernel = app.kernel = KernelProxy(self._shell, comms, output, self._requests, stdin)
        import_hook.follow_imports()
        self._shell.client_debugger = self._debugger
        self._shell.checkpointer, self._shell.requests = self._checkpointer, self._requests
        runner = CellRunner(self._shell, self._gate, self._checkpointer)
        self._services = CellServices(
            self._shell, runner, self._channel, output, capture, stdin, comms, context, drain_timeout
        )
        self._history = HistoryFlush(self._shell.history_manager, self._loop)
        subshells = Subshells()
        self._takeover = Takeover(
            self._services, self._loop, self._checkpointer, self._debugger, subshells, writers, standby
        )
        self._deferred_save = DeferredSave(self._loop, self._checkpointer, self._takeover)
        self._subshell_jobs = SubshellJobs(
            self._services, self._loop, self._checkpointer, subshells, self._deferred_save
        )
        #: The latest cell of the main shell, from the arrival of its message on.
        self._cell: CellTask | None = None
        self._questions: queue.SimpleQueue[Message] | None = None
        os.register_at_fork(after_in_child=self._after_fork_in_child)

    def run(self, started: float) -> None:
        """Report that this worker is ready, and serve until the front asks it to leave, or is gone.

        Args:
            started: ``time.monotonic()`` at which the process began.
        """
        self._begin(time.monotonic() - started)
        while True:
            try:
                self._loop.run_forever()
            except KeyboardInterrupt:
                # An interrupt reached a background task of the user while its cell waited. The task ends with it, the
                # cell gets its own interrupt.
                continue
            # The loop stops for the following: a fork must not start in the middle of it.
            if self._checkpointer.schedule.is_due:
                self._checkpointer.begin()
            cell = self._cell
            if cell is not None and cell.awaits_checkpoint:
                self._checkpointer.writes.wait()
                cell.send_result()
                self._history.schedule()
            if self._takeover.is_due and self._takeover.fork():
                self._questions = self._cell = None
                self._begin(0.0)
                self._takeover.schedule()

    def _begin(self, startup_time: float) -> None:
        """Report that this worker is ready, and read what the front sends.

        Args:
            startup_time: seconds that the start took.
        """
        self._channel.send(
            m.ReadyMessage(
                protocol_version=PROTOCOL_VERSION,
                worker_version=capsule_worker.__version__,
                python_version=sys.version.split()[0],
                ipython_version=IPython.__version__,
                executable=sys.executable,
                pid=os.getpid(),
                banner=self._banner,
                startup_time=startup_time,
                debugger=is_available(),
            )
        )
        # Before the first cell, while the front continues its own start.
        self._loop.call_soon(interrupts.make_debuggers_interruptible)
        threading.Thread(target=self._read_forever, name="capsule-reader", daemon=True).start()

    # -- the reader thread -----------------------------------------------------------------------------------

    def _read_forever(self) -> None:
        try:
            for message in self._channel.receive():
                self._handle(message)
        except ProtocolError as error:
            print(f"capsule-worker: the front broke the protocol: {error}", file=sys.__stderr__)
        self._leave_after_writes()

    def _leave_after_writes(self) -> None:
        """Leave because the front is gone, after the checkpoints that are being written. For any thread."""
        deadline = time.monotonic() + LAST_WRITES_SECONDS
        if threading.current_thread() is not threading.main_thread():
            # The main thread may be about to begin the checkpoint of the cell that has just ended.
            while (
                self._running_id is None
                and self._checkpointer.schedule.has_unsaved_work
                and time.monotonic() < deadline
            ):
                time.sleep(POLL_INTERVAL_SECONDS)
        self._checkpointer.writes.wait_for_threads(deadline)
        leave()

    def _handle(self, message: Message) -> None:  # noqa: C901, PLR0912  # one case for each message
        match message:
            case m.ExecuteMessage(subshell=str() as subshell):
                self._subshell_jobs.run_cell(subshell, message, main_is_idle=self._running_id is None)
            case m.ExecuteMessage():
                if self._running_id is not None:
                    text = f"execution {self._running_id} is running; one runs at a time"
                    self._channel.send(m.ErrorMessage(execution_id=message.id, error_type="Busy", message=text))
                    return
                self._cell = CellTask(message, self._services)
                self._loop.call_soon_threadsafe(self._start_cell, self._cell)
            case m.InputResponseMessage():
                self._services.stdin.answer(message)
            case m.InterruptMessage():
                interrupted = self._interrupt(message.execution_id)
                self._channel.send(m.InterruptReplyMessage(request_id=message.id, interrupted=interrupted))
            case m.LimitExceededMessage():
                self._gate.raise_in_cell(_LIMIT_ERRORS[message.error](message.text))
            case m.HeartbeatMessage():
                self._channel.send(m.HeartbeatReplyMessage(request_id=message.id, execution_id=self._running_id))
            case m.ShutdownMessage():
                self._loop.call_soon_threadsafe(self._shut_down, message)
            case m.CompleteMessage() | m.InspectMessage() | m.HistoryMessage() | m.IsCompleteMessage():
                self._answer_soon(message)
            case m.DebugMessage():
                if not self._debugger.needs_shell(message.request):
                    self._debugger.handle(message)
                elif message.request["command"] == "initialize":
                    self._loop.call_soon_threadsafe(self._debugger.handle, message)
                else:
                    self._answer_soon(message)
            case m.CommMessage():
                in_subshell = self._services.comms.subshell_for(message)
                if in_subshell is None:
                    self._loop.call_soon_threadsafe(self._deliver, message)
                else:
                    self._subshell_jobs.deliver(in_subshell, message, main_is_idle=self._running_id is None)
            case m.CommInfoMessage():
                targets = self._services.comms.targets()
                self._channel.send(m.CommInfoReplyMessage(request_id=message.id, targets=targets))
            case m.ConfigureCheckpointsMessage():
                self._loop.call_soon_threadsafe(self._configure_checkpoints, message)
            case m.CheckpointMessage() | m.RestoreMessage():
                self._loop.call_soon_threadsafe(self._save_or_restore, message)
            case m.AnswerMessage():
                self._requests.complete(message)
            case _:
                raise ProtocolError(f"the front sends {message.type} messages to no worker")

    @property
    def _running_id(self) -> str | None:
        """The execution in the main shell, from the arrival of its message until its result leaves."""
        cell = self._cell
        return None if cell is None or cell.is_done else cell.execution_id

    def _interrupt(self, execution_id: str | None) -> bool:
        """Send SIGINT to the running cell and its child processes; return whether a cell ran.

        Args:
            execution_id: interrupt only this cell; None for whichever runs.
        """
        running = self._running_id
        if running is None or execution_id not in (None, running):
            return False
        os.killpg(os.getpgrp(), signal.SIGINT)
        return True

    def _answer_soon(self, message: Message) -> None:
        """Answer a question in the main thread; while that runs a cell, in another thread."""
        if self._running_id is None:
            self._loop.call_soon_threadsafe(self._answer, message)
            return
        if self._questions is None:
            self._questions = queue.SimpleQueue()
            threading.Thread(
                target=self._answer_forever, args=[self._questions], name="capsule-questions", daemon=True
            ).start()
        self._questions.put(message)

    def _answer_forever(self, questions: queue.SimpleQueue[Message]) -> None:
        while True:
            self._answer(questions.get())

    # -- the main thread -------------------------------------------------------------------------------------

    def _start_cell(self, cell: CellTask) -> None:
        if self._cell is not cell:
            return  # the front sent the cell to the worker that this standby was forked from
        # The loop keeps only weak references to its tasks.
        if sys.version_info >= (3, 11):
            context = self._services.context
            self._task = self._loop.create_task(self._run_cell(cell), name="capsule-cell", context=context)
        else:
            self._task = self._services.context.run(self._loop.create_task, self._run_cell(cell), name="capsule-cell")

    async def _run_cell(self, cell: CellTask) -> None:
        self._takeover.before_cell()
        await cell.run(self._checkpointer)
        if sys.version_info < (3, 11):
            self._services.context = contextvars.copy_context()  # the task had a copy of its own
        self._takeover.after_cell(cell)
        if cell.is_done:
            self._history.schedule()
        if self._checkpointer.schedule.is_due or not cell.is_done:
            self._loop.stop()

    def _deliver(self, message: m.CommMessage) -> None:
        """Give a comm message to its comm; in the middle of a cell if that awaits."""
        if self._running_id is not None:
            self._services.deliver(message)
            return
        self._shell.run_startup()
        self._checkpointer.before_comm()
        self._gate.start()
        try:
            with resource_limits.enforced():
                self._services.deliver(message)
        finally:
            self._gate.stop()
        self._deferred_save.schedule()

    def _configure_checkpoints(self, message: m.ConfigureCheckpointsMessage) -> None:
        self._checkpointer.configure(message)
        # Only the worker that runs cells is asked to save checkpoints. This writes to disk, so no cell waits for it.
        self._loop.call_later(FLUSH_INTERVAL_SECONDS, self._shell.history_manager.open)

    def _save_or_restore(self, message: m.CheckpointMessage | m.RestoreMessage) -> None:
        if self._running_id is not None:
            text = f"execution {self._running_id} is running and may change variables"
            self._channel.send(m.ErrorMessage(request_id=message.id, error_type="Busy", message=text))
            return
        try:
            self._shell.run_startup()
            reply = self._save(message) if isinstance(message, m.CheckpointMessage) else self._restore(message)
            self._channel.send(reply)
        except Exception as error:
            self._channel.send(internal_error(error, request_id=message.id))

    def _save(self, message: m.CheckpointMessage) -> Message:
        saved = self._checkpointer.save_now(message.name, message.description, message.tags, lambda _: None)
        return m.CheckpointReplyMessage(
            request_id=message.id,
            checkpoint_id=saved.id,
            saved=[variable.name for variable in saved.variables if variable.reason is None],
            skipped={variable.name: variable.reason for variable in saved.variables if variable.reason is not None},
        )

    def _restore(self, message: m.RestoreMessage) -> Message:
        restored, failed, notes = self._checkpointer.restore(
            mf.load(message.manifest), message.variables, clear=message.clear_existing, lazily=message.variables is None
        )
        return m.RestoreReplyMessage(request_id=message.id, restored=restored, failed=failed, notes=notes)

    def _warn(self, text: str) -> None:
        """Show a line below the latest cell."""
        self._services.output.append(Piece(execution_context.latest(), "stderr", f"capsule: {text}\n"))

    def _answer(self, message: Any) -> None:
        if isinstance(message, m.DebugMessage):
            self._debugger.handle(message)
            return
        try:
            if threading.current_thread() is threading.main_thread():
                self._shell.run_startup()
            self._channel.send(_QUESTIONS[type(message)](self._shell, message))
        except Exception as error:
            self._channel.send(internal_error(error, request_id=message.id))

    def _shut_down(self, message: m.ShutdownMessage) -> None:
        """Leave as an interpreter does: ``atexit`` functions first, with their output, then the child processes."""
        # Before those functions, since IPython's own closes the history, and others may close more.
        try:
            self._checkpointer.close(LAST_CHECKPOINT_SECONDS)
        except Exception:
            traceback.print_exc(file=sys.__stderr__)
        services = self._services
        execution_context.enter(execution_context.latest())
        atexit._run_exitfuncs()  # noqa: SLF001  # no public function runs them before the channel closes
        services.capture.drain()
        deadline = time.monotonic() + services.drain_timeout
        services.output.flush(deadline)
        orphan_cleanup.end_children()
        self._channel.send(m.ShutdownReplyMessage(request_id=message.id), deadline)
        leave()

    def _after_fork_in_child(self) -> None:
        resource_limits.after_fork_in_child()
        if self._takeover.is_forking:
            return
        self._services.output.after_fork_in_child()
        self._services.stdin.after_fork_in_child()
        self._requests.after_fork_in_child()
        self._channel.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave() -> None:
    """End this process and every process that its cells started, at once."""
    orphan_cleanup.end_children()
    os._exit(0)


def make_main_module() -> ModuleType:
    """Make the ``__main__`` in which cells run, in place of the worker's own."""
    module = ModuleType("__main__", "Automatically created module for IPython interactive environment")
    sys.modules["__main__"] = module
    return module
