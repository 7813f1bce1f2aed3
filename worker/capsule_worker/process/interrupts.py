"""What an interrupt (SIGINT) does to this process, and what a breach of a limit.

User code is interrupted by ``KeyboardInterrupt``, wherever the main thread happens to be. The worker's own code must
not be: an exception between two halves of a frame would corrupt the protocol. So an interrupt raises only while a cell
runs, and never inside a shielded section (``with gate:``); there it waits for the section's end.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import types
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
#: The signal for a breach; programs do not use it.
_BREACH = signal.SIGRTMIN + 9


class InterruptGate:
    """Turns SIGINT into ``KeyboardInterrupt`` for user code only. Create and use it in the main thread.

    As a context manager it shields: an interrupt that arrives inside is delivered at the end of the outermost
    section. Other threads may enter too; they are never interrupted, so for them it does nothing.

    While nothing shields the handler is Python's own, which has no frame of ours that tracebacks would show.
    """

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._depth = 0
        self._pending = False
        self._running = False
        self._outside: Any = signal.SIG_IGN
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False
        #: What to raise where a cell that awaits is interrupted.
        self._error: BaseException | None = None
        self._breach = Exception()
        self._breached = False
        signal.signal(_BREACH, self._raise_breach)

    def __enter__(self) -> None:
        if threading.get_ident() != self._main or not self._running:
            return
        self._depth += 1
        if self._depth == 1:
            self._outside = signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *_: object) -> None:
        if threading.get_ident() != self._main or not self._depth:
            return
        self._depth -= 1
        if self._depth:
            return
        signal.signal(signal.SIGINT, self._outside)
        if self._breached:
            self._breached = False
            if self._running:
                signal.raise_signal(_BREACH)
        if self._pending:
            self._pending = False
            if self._running:
                signal.raise_signal(signal.SIGINT)

    @contextmanager
    def ignoring(self) -> Iterator[None]:
        """Drop the interrupts that arrive inside: the cell is ending already."""
        with self:
            try:
                yield
            finally:
                self._pending = False

    def breach(self, error: Exception) -> None:
        """Raise an error in user code, if any runs. For any thread.

        A signal does it, since the thread that runs user code may be in the middle of anything.
        """
        self._breach = error
        signal.pthread_kill(self._main, _BREACH)

    def start(self) -> None:
        """From here on user code runs and may be interrupted; replaces a handler that an earlier cell set."""
        self._pending = self._breached = False
        self._interrupted = False
        self._running = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop(self) -> None:
        """From here on nothing is interrupted."""
        signal.signal(signal.SIGINT, _ignore)
        self._running = False
        self._depth = 0
        self._pending = False

    async def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Await user code such that an interrupt reaches it while it is suspended, as ``KeyboardInterrupt``."""
        self._task = asyncio.current_task()
        before = signal.signal(signal.SIGINT, self._interrupt_task)
        try:
            return await _interruptible(coro, self)
        finally:
            self._task = None
            signal.signal(signal.SIGINT, before)

    def take_interrupted(self) -> BaseException | None:
        """Return the interrupt for which the cancellation stands that just arrived, if for any; once."""
        interrupted, self._interrupted = self._interrupted, False
        error, self._error = self._error, None
        return (error or KeyboardInterrupt()) if interrupted else None

    def _note(self, _signum: int, _frame: types.FrameType | None) -> None:
        self._pending = True

    def _interrupt_task(self, _signum: int, _frame: types.FrameType | None) -> None:
        """Interrupt a cell that awaits: where it is suspended, by a cancellation that is turned around."""
        if self._task is not None and not self._cancel(self._task):
            raise KeyboardInterrupt

    def _cancel(self, task: asyncio.Task[Any]) -> bool:
        """Cancel a cell that is suspended; return whether that was all, since no other code runs."""
        loop = task.get_loop()
        current = asyncio.current_task(loop)
        if current is task:
            return False
        self._interrupted = True
        loop.call_soon_threadsafe(task.cancel)
        return current is None

    def _raise_breach(self, _signum: int, _frame: types.FrameType | None) -> None:
        if not self._running:
            return
        if self._depth:
            self._breached = True
            return
        error = self._breach
        if self._task is not None:
            self._error = error
            if self._cancel(self._task):
                return
            self._error = None
        raise error


def _ignore(_signum: int, _frame: types.FrameType | None) -> None:
    """Take SIGINT between cells. Ignored by the system it would be ignored in child processes, too."""


@types.coroutine
def _interruptible(coro: Coroutine[Any, Any, T], gate: InterruptGate) -> Generator[Any, Any, T]:
    """Drive ``coro``, throwing ``KeyboardInterrupt`` into it where a cancellation stands for an interrupt."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            awaited = coro.send(value) if error is None else coro.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        value = error = None
        try:
            value = yield awaited
        except asyncio.CancelledError as cancelled:
            error = gate.take_interrupted() or cancelled
        except BaseException as exc:
            error = exc


def let_debuggers_be_interrupted() -> None:
    """Put IPython's debugger in the place of Python's, which takes an interrupt for a command and asks again.

    A cell that stands in ``pdb.set_trace()`` or ``breakpoint()`` could not be ended by it.
    """
    import pdb  # noqa: T100  # it is only replaced

    from IPython.core import debugger

    pdb.Pdb = debugger.Pdb = debugger.InterruptiblePdb  # type: ignore[misc, assignment]
    pdb.set_trace = debugger.set_trace
