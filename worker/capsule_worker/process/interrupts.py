"""What an interrupt (SIGINT), and the breach of a limit, do to this process.

An interrupt raises ``KeyboardInterrupt`` in user code, wherever the main thread is. It must not do so in the worker's
own code: an exception between two halves of a frame would corrupt the protocol. So an interrupt raises only while a
cell runs, and never inside a shielded section (``with gate:``); there it waits for the end of the section.
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
#: The signal that raises an error for a limit; programs do not use it.
_LIMIT_SIGNAL = signal.SIGRTMIN + 9


class InterruptGate:
    """Turns SIGINT into ``KeyboardInterrupt`` in user code only. Create and use it in the main thread.

    As a context manager it is a shield: an interrupt that arrives inside is delivered at the end of the outermost
    section. Other threads may enter too; they are never interrupted, so it does nothing for them.

    Outside of sections the handler is Python's own, which adds no frame to tracebacks.
    """

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._depth = 0
        self._is_pending = False
        self._is_running = False
        self._handler_outside: Any = signal.SIG_IGN
        self._task: asyncio.Task[Any] | None = None
        self._is_interrupted = False
        #: What to raise where a cell that awaits is interrupted; None for ``KeyboardInterrupt``.
        self._error: BaseException | None = None
        self._limit_error = Exception()
        self._is_limit_pending = False
        signal.signal(_LIMIT_SIGNAL, self._raise_limit_error)

    def __enter__(self) -> None:
        if threading.get_ident() != self._main or not self._is_running:
            return
        self._depth += 1
        if self._depth == 1:
            self._handler_outside = signal.signal(signal.SIGINT, self._set_pending)

    def __exit__(self, *_: object) -> None:
        if threading.get_ident() != self._main or not self._depth:
            return
        self._depth -= 1
        if self._depth:
            return
        signal.signal(signal.SIGINT, self._handler_outside)
        if self._is_limit_pending:
            self._is_limit_pending = False
            if self._is_running:
                signal.raise_signal(_LIMIT_SIGNAL)
        if self._is_pending:
            self._is_pending = False
            if self._is_running:
                signal.raise_signal(signal.SIGINT)

    @contextmanager
    def ignoring(self) -> Iterator[None]:
        """Drop the interrupts that arrive inside, since the cell is ending already."""
        with self:
            try:
                yield
            finally:
                self._is_pending = False

    def raise_in_cell(self, error: Exception) -> None:
        """Raise an error in user code, if a cell runs. For any thread.

        It is done by a signal, since the main thread may be anywhere in user code.

        Args:
            error: what to raise.
        """
        self._limit_error = error
        signal.pthread_kill(self._main, _LIMIT_SIGNAL)

    def start(self) -> None:
        """Let interrupts through, since user code runs. This replaces a handler that an earlier cell set."""
        self._is_pending = self._is_limit_pending = False
        self._is_interrupted = False
        self._is_running = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop(self) -> None:
        """Let no interrupts through, since the cell has ended."""
        signal.signal(signal.SIGINT, _ignore)
        self._is_running = False
        self._depth = 0
        self._is_pending = False

    async def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Await user code such that an interrupt raises ``KeyboardInterrupt`` in it while it is suspended.

        Args:
            coro: the user code.
        """
        self._task = asyncio.current_task()
        before = signal.signal(signal.SIGINT, self._interrupt_task)
        try:
            return await _interruptible(coro, self)
        finally:
            self._task = None
            signal.signal(signal.SIGINT, before)

    def pop_interrupt(self) -> BaseException | None:
        """Return the error that the latest cancellation of the cell stands for, once; None if it stands for none."""
        is_interrupted, self._is_interrupted = self._is_interrupted, False
        error, self._error = self._error, None
        return (error or KeyboardInterrupt()) if is_interrupted else None

    def _set_pending(self, _signum: int, _frame: types.FrameType | None) -> None:
        self._is_pending = True

    def _interrupt_task(self, _signum: int, _frame: types.FrameType | None) -> None:
        """Interrupt a cell that awaits: where it is suspended, by a cancellation that becomes the interrupt."""
        if self._task is not None and not self._cancel(self._task):
            raise KeyboardInterrupt

    def _cancel(self, task: asyncio.Task[Any]) -> bool:
        """Cancel a cell that is suspended; return whether that is enough, since no other code runs."""
        loop = task.get_loop()
        current = asyncio.current_task(loop)
        if current is task:
            return False
        self._is_interrupted = True
        loop.call_soon_threadsafe(task.cancel)
        return current is None

    def _raise_limit_error(self, _signum: int, _frame: types.FrameType | None) -> None:
        if not self._is_running:
            return
        if self._depth:
            self._is_limit_pending = True
            return
        error = self._limit_error
        if self._task is not None:
            self._error = error
            if self._cancel(self._task):
                return
            self._error = None
        raise error


def _ignore(_signum: int, _frame: types.FrameType | None) -> None:
    """Ignore SIGINT between cells. If the system ignored it, child processes would ignore it too."""


@types.coroutine
def _interruptible(coro: Coroutine[Any, Any, T], gate: InterruptGate) -> Generator[Any, Any, T]:
    """Run a coroutine, and throw ``KeyboardInterrupt`` into it where a cancellation stands for an interrupt."""
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
            error = gate.pop_interrupt() or cancelled
        except BaseException as exc:
            error = exc


def make_debuggers_interruptible() -> None:
    """Replace Python's debugger by IPython's, in which an interrupt ends the cell.

    Python's takes an interrupt for a command and asks again, so it would not end a cell in ``pdb.set_trace()`` or
    ``breakpoint()``.
    """
    import pdb  # noqa: T100  # it is only replaced

    from IPython.core import debugger

    pdb.Pdb = debugger.Pdb = debugger.InterruptiblePdb  # type: ignore[misc, assignment]
    pdb.set_trace = debugger.set_trace
