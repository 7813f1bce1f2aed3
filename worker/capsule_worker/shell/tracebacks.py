"""How a cell fails: IPython's tracebacks, kept for the result and shown below the cell."""

from __future__ import annotations

import builtins
import sys
import traceback
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from capsule_worker.isolation import resource_limits
from capsule_worker.isolation.error_hints import hints
from capsule_worker.output.displays import running
from capsule_worker.process import interrupts
from capsule_worker.protocol.messages import ErrorOutput


class ErrorShell(InteractiveShell):
    """The part of the shell that reports errors. It overrides methods that are private in IPython (8.20 and newer)."""

    #: Sends output; see ``ZMQInteractiveShell``.
    output_writer: Any

    def begin_cell(self, number: int | None = None, source: str = "") -> None:
        """Forget the error of the cell before, in the calling thread.

        Args:
            number: the number of the cell that begins, if it is not the shell's.
            source: its source, then.
        """
        running.number, running.source = number, source
        running.last_error = None
        running.result_failed = running.formatting = False

    def cell_error(self, raised: BaseException | None = None) -> ErrorOutput:
        """Return the error that the cell in the calling thread ended with.

        Args:
            raised: the exception itself. A handler of the user's (``set_custom_exc``) may show none.
        """
        if running.last_error is not None:
            return running.last_error
        if raised is None:
            return ErrorOutput(ename="Error", evalue="no traceback was shown", traceback=[])
        return ErrorOutput(ename=type(raised).__name__, evalue=_text_of(raised), traceback=[])

    def show_usage_error(self, exc: BaseException) -> None:
        """Show the wrong use of a magic in one line, on stderr.

        Args:
            exc: the ``UsageError``.
        """
        super().show_usage_error(exc)
        running.last_error = ErrorOutput(ename=type(exc).__name__, evalue=str(exc), traceback=[f"UsageError: {exc}"])

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Show the exception that is being handled.

        Interrupts are dropped meanwhile: a second one must not spoil the report of the first.

        Args:
            *args: arguments of ``InteractiveShell.showtraceback``; see IPython.
            **kwargs: such arguments by name.
        """
        with self.output_writer.gate.ignoring():
            # The error keeps the cell's objects alive, and a traceback needs memory besides.
            resource_limits.relax()
            value = sys.exc_info()[1]
            if not args and value is not None and _contains_group(value):
                # IPython prints these to stderr, where no client finds an error.
                stack = value.__traceback__
                while stack is not None and not self.compile.format_code_name(stack.tb_frame.f_code.co_filename):
                    stack = stack.tb_next
                self._show_lines(value, traceback.format_exception(type(value), value, stack))
                return
            super().showtraceback(*args, **kwargs)
            if running.last_error is None and value is not None:
                # IPython failed itself, for example since it cannot open a file any more, and wrote that to stderr.
                self._show_lines(value, traceback.format_exception_only(value))

    def _show_lines(self, value: BaseException, lines: list[str]) -> None:
        self._showtraceback(type(value), value, "".join(lines).splitlines())

    def _get_exc_info(self, exc_tuple: Any = None) -> Any:
        """Return the exception to show, without our frame that raised it for a limit."""
        etype, value, stack = super()._get_exc_info(exc_tuple)
        frame = stack
        while frame is not None and frame.tb_next is not None:
            if frame.tb_next.tb_frame.f_code.co_filename == interrupts.__file__:
                frame.tb_next = None
            frame = frame.tb_next
        return etype, value, stack

    def _format_exception_for_storage(self, exception: BaseException, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the traceback that was shown; IPython would make it a second time (9.1 and newer)."""
        shown = running.last_error
        if shown is None or shown.ename != type(exception).__name__:
            stored: dict[str, Any] = super()._format_exception_for_storage(exception, *args, **kwargs)
            return stored
        return {"ename": shown.ename, "evalue": shown.evalue, "traceback": list(shown.traceback)}

    def _showtraceback(self, etype: type[BaseException], evalue: Any, stb: list[str] | str) -> None:
        lines = [stb] if isinstance(stb, str) else [str(line) for line in stb]
        lines += hints(evalue)
        running.last_error = ErrorOutput(ename=etype.__name__, evalue=_text_of(evalue), traceback=lines)
        running.result_failed |= running.formatting
        self.output_writer.publish(running.last_error)


def _text_of(error: object) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"<exception str() failed: {type(failure).__name__}>"


def _contains_group(error: BaseException | None) -> bool:
    """Return whether an exception, or one that led to it, is a group (Python 3.11)."""
    group = getattr(builtins, "BaseExceptionGroup", ())
    while error is not None:
        if isinstance(error, group):
            return True
        error = error.__cause__ or error.__context__
    return False
