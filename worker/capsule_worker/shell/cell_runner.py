"""Runs the code of one cell. What it prints and displays leaves through the output writer; the rest is its result."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from IPython.core.interactiveshell import ExecutionResult

from capsule_worker.checkpoints.checkpointer import Checkpointer
from capsule_worker.output.displays import running
from capsule_worker.output.jsonable import jsonable
from capsule_worker.process import execution_context
from capsule_worker.process.interrupts import InterruptGate
from capsule_worker.protocol.messages import ExecuteMessage, ResultMessage
from capsule_worker.shell.ipython_private import accepts_cell_meta, asyncio_runner, run_without_loop
from capsule_worker.shell.shell import ZMQInteractiveShell


class CellRunner:
    """Runs cells: in the main thread and on its asyncio loop, one at a time, and in the threads of subshells.

    Args:
        shell: the shell that runs the code.
        gate: lets interrupts through while the user's code runs.
        checkpointer: learns of the main shell's code before that runs.
    """

    def __init__(self, shell: ZMQInteractiveShell, gate: InterruptGate, checkpointer: Checkpointer) -> None:
        self._shell = shell
        self._gate = gate
        self._checkpointer = checkpointer
        self._accepts_cell_meta = accepts_cell_meta(shell)

    async def run(self, message: ExecuteMessage) -> ResultMessage:
        """Run a cell of the main shell to its end. Never raises: the result has the error of the user's code.

        Args:
            message: the cell.
        """
        shell = self._shell
        execution_context.enter(message.id)
        count = message.execution_count
        if count is not None:
            shell.history_manager.continue_at(count, is_repeated=count < shell.execution_count)
            shell.execution_count = count
        return await self._run_to_result(message, shell.execution_count)

    async def run_in_subshell(self, message: ExecuteMessage) -> ResultMessage:
        """Run a cell in the calling thread, which is a subshell's, while the main thread may run others.

        It is not in the history, which has the order of the main shell's cells.

        Args:
            message: the cell, with its number.
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
                    shell.history_manager.open()
                    shell.run_startup()
                    shell.begin_cell()
                else:
                    shell.begin_cell(message.execution_count, message.code)
                ended = await self._run_code(message)
                raised = ended.error_before_exec or ended.error_in_exec
                succeeded = bool(ended.success) and not running.result_failed
                if succeeded and message.user_expressions:
                    if in_main:
                        self._checkpointer.before_code("\n".join(message.user_expressions.values()))
                    expressions = shell.user_expressions(message.user_expressions)
            # The shell catches the cell's own exceptions. Others are an interrupt between the user's code and the
            # shell's, and a hook of the user's that raised.
            except BaseException:
                succeeded = False
                with self._gate.ignoring():
                    shell.showtraceback()
            finally:
                if in_main:
                    self._gate.stop()
        # An interrupt at the very end of a cell, or while another error is shown, is reported as one error.
        except KeyboardInterrupt as late:
            self._gate.stop()
            succeeded, raised = False, raised or late
            if running.last_error is None:
                shell.showtraceback()
        elapsed = time.perf_counter() - started
        payload = shell.pop_payload() if in_main else []
        error = None if succeeded else shell.cell_error(raised)
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

    async def _run_code(self, message: ExecuteMessage) -> ExecutionResult:
        """Run the code in the shell and return how it ended.

        This is ``InteractiveShell.run_cell`` without its copy of all output in memory. Cells that await run on the loop
        that is already running, where the tasks that they start continue afterwards.
        """
        shell = self._shell
        preprocessing_error = None
        try:
            transformed = shell.transform_cell(message.code)
        except Exception:
            transformed, preprocessing_error = message.code, sys.exc_info()
        if message.subshell is None:
            # Code without a number, such as a command from a terminal, comes after the last cell with one.
            last = shell.execution_count if message.store_history else shell.execution_count - 1
            with self._gate:
                self._checkpointer.before_cell(transformed, message.code, last, message.id)
        arguments: dict[str, Any] = {
            "store_history": message.store_history,
            "silent": message.silent,
            "transformed_cell": transformed,
            "preprocessing_exc_tuple": preprocessing_error,
            "cell_id": message.cell_id,
        }
        if self._accepts_cell_meta:
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


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop for the worker and the user's code, which is the current one from now on."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop
