"""Runs one cell: code in, result out. What the cell prints and displays takes its own way, through the outlet."""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import Callable
from typing import Any

from IPython.core.async_helpers import _pseudo_sync_runner as run_without_loop
from IPython.core.interactiveshell import ExecutionResult

from capsule_worker.output.displays import running
from capsule_worker.output.jsonable import jsonable
from capsule_worker.process import execution_context
from capsule_worker.process.interrupts import InterruptGate
from capsule_worker.protocol.messages import ExecuteMessage, ResultMessage
from capsule_worker.shell.shell import ZMQInteractiveShell


class CellRunner:
    """Runs cells in ``shell``: in the main thread and on its asyncio loop, one at a time, and beside it in subshells.

    Args:
        shell: the shell.
        gate: lets interrupts through while the user's code runs.
        before: called with a cell's Python, its message and its number before it runs.
        before_code: called with other code of the client's before it runs.
    """

    def __init__(
        self,
        shell: ZMQInteractiveShell,
        gate: InterruptGate,
        before: Callable[[str, ExecuteMessage, int], None] = lambda _source, _message, _number: None,
        before_code: Callable[[str], None] = lambda _source: None,
    ) -> None:
        self._shell = shell
        self._gate = gate
        self._before, self._before_code = before, before_code
        # Parameters of run_cell_async that came with later versions of IPython.
        parameters = inspect.signature(shell.run_cell_async).parameters
        self._knows_cell_id, self._knows_cell_meta = "cell_id" in parameters, "cell_meta" in parameters

    async def run(self, message: ExecuteMessage) -> ResultMessage:
        """Run the cell to its end. Never raises: whatever the user's code does is in the result."""
        shell = self._shell
        execution_context.enter(message.id)
        if message.execution_count is not None:
            shell.go_on_at(message.execution_count)
        return await self._run_to_result(message, shell.execution_count)

    async def run_beside(self, message: ExecuteMessage) -> ResultMessage:
        """Run a cell in the calling thread, that of a subshell, beside what the main thread runs.

        It has the number that it was given, and leaves no trace in the history, which is in the order of cells.
        """
        with execution_context.attributed_to(message.id):
            message = message.model_copy(update={"store_history": False})
            return await self._run_to_result(message, message.execution_count or self._shell.execution_count)

    async def _run_to_result(self, message: ExecuteMessage, count: int) -> ResultMessage:
        shell = self._shell
        in_main = message.subshell is None
        started = time.perf_counter()
        expressions: dict[str, Any] = {}
        raised = None
        try:
            try:
                if in_main:
                    self._gate.start()
                    shell.open_history()
                    shell.begin()
                    shell.forget_errors()
                else:
                    shell.forget_errors(message.execution_count, message.code)
                ended = await self._run_cell(message)
                raised = ended.error_before_exec or ended.error_in_exec
                succeeded = bool(ended.success) and not shell.result_failed
                if succeeded and message.user_expressions:
                    if in_main:
                        self._before_code("\n".join(message.user_expressions.values()))
                    expressions = shell.user_expressions(message.user_expressions)
            # The cell's own exceptions are caught by the shell; this is what escapes it: an interrupt that came between
            # the user's code and the shell's, or a hook of the user's that raised.
            except BaseException:
                succeeded = False
                with self._gate.ignoring():
                    shell.showtraceback()
            finally:
                if in_main:
                    self._gate.stop()
        # One that comes where the cell ends, or while another is told of, is no more than that one.
        except KeyboardInterrupt as late:
            self._gate.stop()
            succeeded, raised = False, raised or late
            if running.last_error is None:
                shell.showtraceback()
        elapsed = time.perf_counter() - started
        payload = shell.take_payload() if in_main else []
        error = None if succeeded else shell.take_error(raised)
        return ResultMessage(
            execution_id=message.id,
            status="ok" if succeeded else "error",
            execution_count=count,
            next_execution_count=shell.execution_count if in_main else count + 1,
            execution_time=elapsed,
            ename=error.ename if error else None,
            evalue=error.evalue if error else None,
            traceback=error.traceback if error else [],
            user_expressions=jsonable(expressions),
            payload=[item for item in jsonable(payload) if isinstance(item, dict)],
        )

    async def _run_cell(self, message: ExecuteMessage) -> ExecutionResult:
        """Run the code through the shell and return how it ended.

        As ``InteractiveShell.run_cell`` does, without its copy of all output in memory, and with cells that await
        on the loop that is already running, where the tasks that they start live on.
        """
        shell = self._shell
        preprocessing_error = None
        try:
            transformed = shell.transform_cell(message.code)
        except Exception:
            transformed, preprocessing_error = message.code, sys.exc_info()
        if message.subshell is None:
            with self._gate:
                self._before(transformed, message, shell.execution_count)
        arguments: dict[str, Any] = {
            "store_history": message.store_history,
            "silent": message.silent,
            "transformed_cell": transformed,
            "preprocessing_exc_tuple": preprocessing_error,
        }
        if self._knows_cell_id:
            arguments["cell_id"] = message.cell_id
        if self._knows_cell_meta:
            arguments["cell_meta"] = message.metadata
        needs_loop = shell.should_run_async(
            message.code, transformed_cell=transformed, preprocessing_exc_tuple=preprocessing_error
        )
        coro = shell.run_cell_async(message.code, **arguments)
        result: Any = None
        try:
            if needs_loop and shell.loop_runner is asyncio_runner():
                result = await (self._gate.run(coro) if message.subshell is None else coro)
            elif needs_loop:
                result = shell.loop_runner(coro)
            else:
                result = run_without_loop(coro)
        finally:
            shell.events.trigger("post_execute")
            if not message.silent:
                shell.events.trigger("post_run_cell", result)
        ended: ExecutionResult = result
        return ended


def asyncio_runner() -> Any:
    """Return IPython's runner for asyncio, which stands for the loop that runs already."""
    from IPython.core.interactiveshell import _asyncio_runner  # type: ignore[attr-defined]

    return _asyncio_runner


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make the loop on which the worker lives, and user code with it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop
