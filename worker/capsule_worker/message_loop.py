"""The worker's life: one thread reads the channel, the main thread runs cells on its asyncio loop."""

from __future__ import annotations

import asyncio
import atexit
import builtins
import contextlib
import contextvars
import faulthandler
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import IPython
from IPython.core.inputtransformer2 import TransformerManager

import capsule_worker
from capsule_worker.checkpoints.analysis.background_activity import background_activity, fork_unsafe_threads
from capsule_worker.checkpoints.checkpointer import Checkpointer
from capsule_worker.frontend.comms import Comms
from capsule_worker.frontend.debug_session import Debugger, available
from capsule_worker.frontend.stdin import Stdin
from capsule_worker.ipykernel_compat import import_hook
from capsule_worker.ipykernel_compat.kernel_proxy import KernelProxy
from capsule_worker.isolation import resource_limits
from capsule_worker.output.fd_capture import FdCapture
from capsule_worker.output.output_writer import OutputWriter
from capsule_worker.output.streams import OutStream
from capsule_worker.process import execution_context, interrupts, orphan_cleanup
from capsule_worker.process import standby_fork as standby
from capsule_worker.process.channel import Channel
from capsule_worker.process.interrupts import InterruptGate
from capsule_worker.process.kernel_requests import KernelRequests
from capsule_worker.process.subshells import Subshells
from capsule_worker.protocol import PROTOCOL_VERSION, Message, ProtocolError
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.output_buffer import OutputBuffer, Piece, mapped
from capsule_worker.shell import introspection
from capsule_worker.shell.cell_runner import CellRunner, new_event_loop
from capsule_worker.shell.ipython_config import IPKernelApp
from capsule_worker.shell.shell import ZMQInteractiveShell

#: The oldest IPython that does all that is asked of it here; as in the distribution's requirements.
OLDEST_IPYTHON = (8, 20)
if IPython.version_info < OLDEST_IPYTHON:
    # Installers may leave one behind that other packages pin.
    raise ImportError(
        f"IPython {IPython.__version__} is too old; cells need {'.'.join(map(str, OLDEST_IPYTHON))} or newer"
    )

_QUESTIONS: dict[type, Callable[[Any, Any], Message]] = {
    m.CompleteMessage: introspection.complete,
    m.InspectMessage: introspection.inspect,
    m.HistoryMessage: introspection.history,
    m.IsCompleteMessage: introspection.is_complete,
}

#: Seconds of silence after which what objects have changed at the word of the client is saved.
COMMS_OVER = 2.0
#: Seconds between two writes to the history file: each is a commit to disk, and contends with the next cell.
HISTORY_INTERVAL = 0.25
#: Seconds without a cell after which a copy of this process is left. Cells that follow each other need not wait for it.
STANDBY_DELAY = 0.1
#: Seconds that the last checkpoint may take when the worker is asked to leave; and when the front is gone.
LAST_CHECKPOINT, LAST_WRITES = 4.0, 2.0


class MessageLoop:
    """A worker process, from the socket it is given to its end. Create it in the main thread.

    Args:
        sock: connected to the front.
        stdout: reading end of the pipe that is descriptor 1.
        stderr: reading end of the pipe that is descriptor 2.
        journal: shared with the front; keeps text until it is sent.
        writers: a pipe that the front sees closed when nothing writes a checkpoint any more.
        standby: connected to the front, which learns there of copies of this process.
        drain_timeout: seconds that a cell's output may take to leave before its result is withheld.
    """

    def __init__(
        self,
        sock: socket.socket,
        stdout: int,
        stderr: int,
        journal: OutputBuffer,
        writers: int,
        standby: socket.socket,
        drain_timeout: float,
    ) -> None:
        resource_limits.relax()
        resource_limits.end_with_threads()
        execution_context.follow_threads()
        _renew_thread_id()
        self._gate = InterruptGate()
        self._channel = Channel(sock, self._gate, on_lost=leave)
        self._drain_timeout = drain_timeout
        self._outlet = OutputWriter(self._channel, journal)
        self._pipes = FdCapture(stdout, stderr, self._outlet)
        self._outlet.read_pipes = self._pipes.read_available
        self._stdin = Stdin(self._channel)
        self._stdin.install()
        os.register_at_fork(after_in_child=self._after_fork_in_child)
        self._loop = new_event_loop()
        #: Context variables live as long as the notebook's own: NumPy, decimal and others keep their settings in them.
        self._context = contextvars.copy_context()
        app = IPKernelApp.read()
        self._shell = app.shell = ZMQInteractiveShell.instance(
            outlet=self._outlet,
            application=app,
            user_module=_main_module(),
            parent=app,
            profile_dir=app.profile_dir,
        )
        self._shell.configurables.append(app)  # type: ignore[arg-type]  # anything that has a configuration
        sys.stdout = OutStream("stdout", self._outlet)
        sys.stderr = OutStream("stderr", self._outlet)
        #: Its tip of the day is drawn with the notebook's random numbers, so it is drawn once.
        self._banner = self._shell.banner
        self._checkpointer = Checkpointer(self._shell, self._loop, self._channel.send, self._warn)
        self._channel.on_lost = self._leave_alone
        self._commands = KernelRequests(self._channel)
        self._comms = Comms(self._outlet)
        self._subshells = Subshells()
        self._debugger = Debugger(
            self._shell,
            self._shell.cell_files,
            self._outlet.publish,
            self._channel.send,
            self._loop.call_soon_threadsafe,
        )
        self._shell.kernel = app.kernel = KernelProxy(
            self._shell, self._comms, self._outlet, self._commands, self._stdin
        )
        import_hook.follow_imports()
        self._shell.client_debugger = self._debugger
        self._shell.checkpointer, self._shell.commands = self._checkpointer, self._commands
        self._runner = CellRunner(self._shell, self._gate, self._before_cell, self._checkpointer.before_code)
        #: The result that is sent when its checkpoint is on disk.
        self._withheld: m.ResultMessage | m.ErrorMessage | None = None
        #: The execution in flight, from its arrival to its result.
        self._executing: str | None = None
        #: Whether a cell is under way.
        self._begun = False
        self._history_saved = 0.0
        self._history_due = False
        self._questions: queue.SimpleQueue[Message] | None = None
        #: Held while a message is taken.
        self._taking = threading.Lock()
        self._writers, self._standby = writers, standby
        #: The latest execution that has ended.
        self._ended, self._cells = "", 0
        self._copying = False
        self._copy_timer: asyncio.TimerHandle | None = None
        self._copy_due = False
        self._comm_timer: asyncio.TimerHandle | None = None

    def run(self, started: float) -> None:
        """Say that this worker is ready, and serve until the front asks it to leave, or is gone.

        Args:
            started: ``time.monotonic()`` at which the process began.
        """
        self._say_ready(time.monotonic() - started)
        while True:
            try:
                self._loop.run_forever()
            except KeyboardInterrupt:
                # An interrupt hit a background task of the user while its cell was waiting: the task has died of
                # it, the cell gets its own, and the loop goes on.
                continue
            # The loop was stopped for this: a copy of this process must not find itself in the middle of it.
            if self._checkpointer.schedule.is_due:
                self._checkpointer.begin()
            if self._withheld is not None:
                self._checkpointer.writes.wait()
                self._finish(self._withheld)
            if self._copy_due:
                self._fork_standby()

    def _say_ready(self, startup_time: float) -> None:
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
                debugger=available(),
            )
        )
        # Before the first cell; while the front goes on.
        self._loop.call_soon(interrupts.let_debuggers_be_interrupted)
        threading.Thread(target=self._read_forever, name="capsule-reader", daemon=True).start()

    # -- the reader thread -----------------------------------------------------------------------------------

    def _read_forever(self) -> None:
        try:
            for message in self._channel.receive():
                with self._taking:
                    self._take(message)
        except ProtocolError as error:
            print(f"capsule-worker: the front broke the protocol: {error}", file=sys.__stderr__)
        self._leave_alone()

    def _leave_alone(self) -> None:
        """Leave when the front is gone, with what is being saved on disk. For any thread."""
        deadline = time.monotonic() + LAST_WRITES
        if threading.current_thread() is not threading.main_thread():
            # What the cell before has changed may be about to be saved, there.
            while (
                self._executing is None and self._checkpointer.schedule.has_unsaved_work and time.monotonic() < deadline
            ):
                time.sleep(0.001)
        self._checkpointer.writes.wait_for_threads(deadline)
        leave()

    def _take(self, message: Message) -> None:  # noqa: C901, PLR0912  # one case for each message
        match message:
            case m.ExecuteMessage(subshell=str() as subshell):
                self._beside(subshell, partial(self._execute_beside, message))
            case m.ExecuteMessage():
                if self._executing is not None:
                    text = f"execution {self._executing} is running; one runs at a time"
                    self._channel.send(m.ErrorMessage(execution_id=message.id, error_type="Busy", message=text))
                    return
                self._executing = message.id
                self._loop.call_soon_threadsafe(self._start_execution, message)
            case m.InputResponseMessage():
                self._stdin.answer(message)
            case m.InterruptMessage():
                interrupted = self._interrupt(message.execution_id)
                self._channel.send(m.InterruptReplyMessage(request_id=message.id, interrupted=interrupted))
            case m.LimitExceededMessage():
                self._gate.breach(getattr(builtins, message.error)(message.text))
            case m.HeartbeatMessage():
                self._channel.send(m.HeartbeatReplyMessage(request_id=message.id, execution_id=self._executing))
            case m.ShutdownMessage():
                self._loop.call_soon_threadsafe(self._shutdown, message)
            case m.CompleteMessage() | m.InspectMessage() | m.HistoryMessage() | m.IsCompleteMessage():
                if self._executing is None:
                    self._loop.call_soon_threadsafe(self._answer, message)
                else:
                    self._answer_beside_cell(message)
            case m.DebugMessage():
                if not self._debugger.evaluates(message.request):
                    self._debugger.take(message)
                elif self._executing is None or message.request["command"] == "initialize":
                    self._loop.call_soon_threadsafe(self._debugger.take, message)
                else:
                    self._answer_beside_cell(message)
            case m.CommMessage():
                taker = self._comms.taker(message)
                if taker is None:
                    self._loop.call_soon_threadsafe(self._take_comm, message)
                else:
                    self._beside(taker, partial(self._take_comm_beside, message))
            case m.CommInfoMessage():
                self._channel.send(m.CommInfoReplyMessage(request_id=message.id, targets=self._comms.targets()))
            case m.ConfigureCheckpointsMessage():
                self._loop.call_soon_threadsafe(self._configure_checkpoints, message)
            case m.CheckpointMessage() | m.RestoreMessage():
                self._loop.call_soon_threadsafe(self._save_or_restore, message)
            case m.CommandReplyMessage():
                self._commands.answer(message)
            case _:
                text = f"a worker takes no {message.type} message"
                raise ProtocolError(text)

    def _interrupt(self, execution_id: str | None) -> bool:
        """Send SIGINT to the cell and to the child processes in its process group."""
        running = self._executing
        if running is None or execution_id not in (None, running):
            return False
        os.killpg(os.getpgrp(), signal.SIGINT)
        return True

    def _answer_beside_cell(self, message: Message) -> None:
        """Answer in a thread of its own while the main thread runs a cell."""
        if self._questions is None:
            self._questions = queue.SimpleQueue()
            threading.Thread(target=self._answer_forever, name="capsule-questions", daemon=True).start()
        self._questions.put(message)

    def _answer_forever(self) -> None:
        questions = self._questions
        assert questions is not None
        while True:
            self._answer(questions.get())

    # -- the main thread -------------------------------------------------------------------------------------

    def _start_execution(self, message: m.ExecuteMessage) -> None:
        # The loop keeps only weak references to its tasks; this one lives until its result is sent.
        cell = self._execute(message)
        if sys.version_info >= (3, 11):
            self._task = self._loop.create_task(cell, name="capsule-cell", context=self._context)
        else:
            self._task = self._context.run(self._loop.create_task, cell, name="capsule-cell")

    async def _execute(self, message: m.ExecuteMessage) -> None:
        if self._executing != message.id:
            return  # it was sent to the process that this one is a copy of
        self._begun = True
        self._comms.remember_cell(message)
        self._pipes.before_cell()
        if message.allow_stdin:
            self._stdin.allowed.add(message.id)
        result: m.ResultMessage | m.ErrorMessage
        try:
            with resource_limits.enforced():
                result = await self._runner.run(message)
        except Exception as error:
            result = self._fault(error, execution_id=message.id)
        finally:
            self._stdin.allowed.discard(message.id)
        if sys.version_info < (3, 11):
            self._context = contextvars.copy_context()  # the task had one of its own
        self._checkpointer.after_cell(result.execution_time)
        if self._checkpointer.is_synchronous:
            self._withheld = result
        else:
            self._finish(result)
        self._begun = False
        if self._checkpointer.schedule.is_due and self._checkpointer.should_fork_standby:
            # What this cell has changed is in no checkpoint before long.
            self._copy_due = True
        if self._checkpointer.schedule.is_due or self._withheld is not None:
            self._loop.stop()

    def _take_comm(self, message: m.CommMessage) -> None:
        """Hand a message to the object that it is for; in the middle of a cell if that awaits."""
        idle = self._executing is None
        if idle:
            self._shell.begin()
            self._checkpointer.before_comm()
            self._gate.start()
        try:
            with resource_limits.enforced() if idle else contextlib.nullcontext():
                self._hand_over(message)
        finally:
            if idle:
                self._gate.stop()
        if idle:
            self._save_soon()

    def _hand_over(self, message: m.CommMessage) -> None:
        try:
            # A cell that awaits is in the context itself.
            self._context.copy().run(self._comms.take, message)
        # What objects of the notebook do; comms tell of most of it themselves.
        except BaseException:
            with execution_context.attributed_to(message.id):
                self._shell.showtraceback()
        self._outlet.flush()
        self._channel.send(m.CommReplyMessage(request_id=message.id))

    def _save_soon(self) -> None:
        """Save what was changed beside cells when that is over; it comes by the dozen."""
        if self._comm_timer is not None:
            self._comm_timer.cancel()
        self._comm_timer = self._loop.call_later(COMMS_OVER, self._save_after_comms)

    def _save_after_comms(self) -> None:
        self._comm_timer = None
        self._checkpointer.after_comm()
        if self._checkpointer.schedule.is_due:
            self._loop.stop()
        self._fork_standby_soon()

    # -- subshells -------------------------------------------------------------------------------------------

    def _beside(self, subshell: str, job: Callable[[], Awaitable[None]]) -> None:
        """Have a subshell do something; when all variables are there, where the main thread has time to see to that."""
        if self._executing is None and (self._checkpointer.loading.is_active or not self._shell.application.begun):

            def begin() -> None:
                self._shell.begin()
                self._checkpointer.before_comm()
                self._subshells.put(subshell, job)

            self._loop.call_soon_threadsafe(begin)
        else:
            self._subshells.put(subshell, job)

    async def _execute_beside(self, message: m.ExecuteMessage) -> None:
        self._comms.remember_cell(message)
        if message.allow_stdin:
            self._stdin.allowed.add(message.id)
        result: m.ResultMessage | m.ErrorMessage
        try:
            with resource_limits.enforced():
                result = await self._runner.run_beside(message)
        except Exception as error:
            result = self._fault(error, execution_id=message.id)
        finally:
            self._stdin.allowed.discard(message.id)
        try:
            self._outlet.finish(result, self._pipes.drain, self._drain_timeout)
        except ProtocolError as error:
            self._channel.send(self._fault(error, execution_id=message.id))
        self._loop.call_soon_threadsafe(self._save_soon)

    async def _take_comm_beside(self, message: m.CommMessage) -> None:
        with resource_limits.enforced():
            self._hand_over(message)
        self._loop.call_soon_threadsafe(self._save_soon)

    def _before_cell(self, source: str, message: m.ExecuteMessage, number: int) -> None:
        # What has no number of its own, such as a command from a terminal, comes after the cell that had one.
        last = number if message.store_history else number - 1
        self._checkpointer.before_cell(source, message.code, last, message.id)

    def _finish(self, result: m.ResultMessage | m.ErrorMessage) -> None:
        """Send the result behind all output."""
        self._withheld = None
        self._ended = result.execution_id or ""
        if isinstance(result, m.ResultMessage):
            self._cells = result.execution_count
        try:
            self._outlet.finish(result, self._pipes.drain, self._drain_timeout, before_send=self._idle)
        except ProtocolError as error:
            self._idle()
            self._channel.send(self._fault(error, execution_id=result.execution_id))
        self._save_history_soon()

    def _save_history_soon(self) -> None:
        """Save at once what a person typed, and once for many what a program sent in a burst."""
        now = self._loop.time()
        if now - self._history_saved > HISTORY_INTERVAL:
            self._history_saved = now
            self._shell.save_history()
        elif not self._history_due:
            self._history_due = True
            self._loop.call_later(HISTORY_INTERVAL, self._save_due_history)

    def _save_due_history(self) -> None:
        self._history_due = False
        self._history_saved = self._loop.time()
        self._shell.save_history()

    def _idle(self) -> None:
        """Accept the next execution: the front may send it as soon as it has the result."""
        self._executing = None
        self._fork_standby_soon()

    # -- the standby -----------------------------------------------------------------------------------------

    def _fork_standby_soon(self) -> None:
        """Leave a copy of this process when there has been nothing to do for a while."""
        if self._copy_timer is not None:
            self._copy_timer.cancel()
        self._copy_timer = self._loop.call_later(STANDBY_DELAY, self._consider_copy)

    def _consider_copy(self) -> None:
        self._copy_timer = None
        if self._executing is not None:
            return
        if not self._checkpointer.is_settled:
            self._copy_timer = self._loop.call_later(STANDBY_DELAY, self._consider_copy)
            return
        self._copy_due = True
        self._loop.stop()

    def _fork_standby(self) -> None:
        """Leave a copy, which goes on from here when it takes over."""
        self._copy_due = False
        if not self._checkpointer.is_enabled:
            return
        note = {
            "execution_id": self._ended,
            "execution_count": self._cells,
            "checkpoint": self._checkpointer.changes.last.head,
            "current": self._checkpointer.changes.is_up_to_date,
        }
        self._copying = True
        try:
            strange = "a debugger is attached" if self._debugger.attached else background_activity(self._loop)
            strange = strange or fork_unsafe_threads()
            if strange is not None:
                raise standby.CannotFork(strange)
            succession = standby.fork_standby(self._standby, note, self._own(), self._quiet(), self._close_inherited)
        except (standby.CannotFork, OSError) as error:
            self._checkpointer.standby = str(error)
        else:
            self._checkpointer.standby = None
            if succession is None:
                self._prewarm()
            else:
                try:
                    self._take_over(succession)
                except BaseException:
                    # The front does without this copy, and takes the latest checkpoint.
                    traceback.print_exc(file=sys.__stderr__)
                    os._exit(1)
        finally:
            self._copying = False

    def _prewarm(self) -> None:
        """Do what comes with every cell once in vain, while nobody waits.

        What this process and a copy share is copied when it is written to first, page by page, and Python writes to
        whatever it looks at. A cell that does all that takes milliseconds more.
        """
        code = "pass\n"
        try:
            exec(compile(TransformerManager().transform_cell(code), "<rehearsal>", "exec"), {})  # noqa: S102  # ours
            self._checkpointer.prewarm(code)
        # It was in vain anyway.
        except Exception:
            traceback.print_exc(file=sys.__stderr__)

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keep our threads from doing anything, and have nothing under way."""
        with self._taking, self._pipes.quiet(), self._outlet.quiet(), self._channel.quiet():
            if self._begun or self._subshells.busy:
                raise standby.CannotFork("a cell runs")
            yield

    def _own(self) -> set[int]:
        """Return the descriptors that are this process's and not the notebook's."""
        return {
            self._channel.fileno(),
            self._writers,
            self._standby.fileno(),
            *self._pipes.fileno(),
            *standby.sockets_of(self._loop),
        }

    def _close_inherited(self) -> None:
        """Close what belongs to the process that this one is a copy of."""
        self._channel.close()
        self._pipes.close()
        self._standby.close()
        os.close(self._writers)

    def _take_over(self, given: standby.TakeoverFds) -> None:
        """Take the place of the process that this one is a copy of."""
        fds = given.fds
        _renew_thread_id()
        for number, name in ((1, "stdout_writing"), (2, "stderr_writing")):
            os.dup2(fds[name], number)
            os.close(fds[name])
        faulthandler.enable(open(fds["crash"], "wb", buffering=0))  # noqa: SIM115, PTH123  # open until the next one
        standby.renew_loop(self._loop)
        self._channel.renew(socket.socket(fileno=fds["channel"]))
        self._outlet.renew(mapped(fds["journal"]))
        self._pipes.renew(fds["stdout"], fds["stderr"])
        self._writers, self._standby = fds["writers"], socket.socket(fileno=fds["standby"])
        self._questions = self._executing = None
        self._subshells.forget()
        self._shell.renew_history()
        self._checkpointer.renew()
        self._say_ready(0.0)
        self._fork_standby_soon()

    def _configure_checkpoints(self, message: m.ConfigureCheckpointsMessage) -> None:
        self._checkpointer.configure(message)
        # Only the worker that runs cells is told to keep checkpoints. This writes to disk: no cell is to wait for it.
        self._loop.call_later(HISTORY_INTERVAL, self._shell.open_history)

    def _save_or_restore(self, message: m.CheckpointMessage | m.RestoreMessage) -> None:
        if self._executing is not None:
            text = f"execution {self._executing} is running; its namespace is its own"
            self._channel.send(m.ErrorMessage(request_id=message.id, error_type="Busy", message=text))
            return
        try:
            self._shell.begin()
            act: Callable[[Any], Message] = self._save if isinstance(message, m.CheckpointMessage) else self._restore
            self._channel.send(act(message))
        except Exception as error:
            self._channel.send(self._fault(error, request_id=message.id))

    def _save(self, message: m.CheckpointMessage) -> m.CheckpointReplyMessage:
        saved = self._checkpointer.save_now(message.name, message.description, message.tags, lambda _: None)
        return m.CheckpointReplyMessage(
            request_id=message.id,
            checkpoint_id=saved.id,
            saved=[variable.name for variable in saved.variables if variable.reason is None],
            skipped={variable.name: variable.reason for variable in saved.variables if variable.reason is not None},
        )

    def _restore(self, message: m.RestoreMessage) -> m.RestoreReplyMessage:
        restored, failed, notes = self._checkpointer.restore(
            mf.load(message.manifest), message.variables, clear=message.clear_existing, lazily=message.variables is None
        )
        return m.RestoreReplyMessage(request_id=message.id, restored=restored, failed=failed, notes=notes)

    def _warn(self, text: str) -> None:
        """Show a line below the latest cell."""
        self._outlet.append(Piece(execution_context.latest(), "stderr", f"capsule: {text}\n"))

    def _answer(self, message: Any) -> None:
        if isinstance(message, m.DebugMessage):
            self._debugger.take(message)
            return
        try:
            if threading.current_thread() is threading.main_thread():
                self._shell.begin()
            reply = _QUESTIONS[type(message)](self._shell, message)
            self._channel.send(reply)
        except Exception as error:
            self._channel.send(self._fault(error, request_id=message.id))

    def _shutdown(self, message: m.ShutdownMessage) -> None:
        """Leave as an interpreter does: ``atexit`` functions first, with their output, then the children."""
        # Before those functions: IPython's own takes the history away, and others may take more.
        try:
            self._checkpointer.close(LAST_CHECKPOINT)
        except Exception:
            traceback.print_exc(file=sys.__stderr__)
        execution_context.enter(execution_context.latest())
        atexit._run_exitfuncs()  # noqa: SLF001  # the way to run them before the channel closes
        self._pipes.drain()
        deadline = time.monotonic() + self._drain_timeout
        self._outlet.flush(deadline)
        orphan_cleanup.end_children()
        self._channel.send(m.ShutdownReplyMessage(request_id=message.id), deadline)
        leave()

    def _fault(
        self, error: Exception, *, execution_id: str | None = None, request_id: str | None = None
    ) -> m.ErrorMessage:
        return m.ErrorMessage(
            execution_id=execution_id,
            request_id=request_id,
            error_type="InternalError",
            message=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exception(type(error), error, error.__traceback__),
        )

    def _after_fork_in_child(self) -> None:
        resource_limits.after_fork_in_child()
        if self._copying:
            return
        self._outlet.after_fork_in_child()
        self._stdin.after_fork_in_child()
        self._commands.after_fork_in_child()
        self._channel.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave() -> None:
    """End this process and every process that its cells started, at once."""
    orphan_cleanup.end_children()
    os._exit(0)


def _renew_thread_id() -> None:
    """Correct the main thread's id, which is the parent process's after a fork. Libraries compare it."""
    main: Any = threading.main_thread()
    main._set_native_id()  # noqa: SLF001  # there is no other way


def _main_module() -> Any:
    """Make the ``__main__`` in which cells run; the worker's own is not the user's business."""
    from types import ModuleType

    module = ModuleType("__main__", "Automatically created module for IPython interactive environment")
    sys.modules["__main__"] = module
    return module
