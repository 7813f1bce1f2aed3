"""Records the outputs and ends of cells, and every event, in the history. A thread writes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from capsule_durable.errors import ExecutionFailed, HistoryUnavailable
from capsule_durable.history.cells import MAX_OUTPUT, CellRecord, CellStore
from capsule_durable.history.ledger import Ledger, entry_of
from capsule_durable.history.runs import RunStore
from capsule_durable.history.schema import SCHEMA
from capsule_durable.messaging.capabilities import Capabilities, InputPrompt
from capsule_durable.storage.errors import StoreError
from capsule_durable.storage.sqlite import Database
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import CellEnded, Event, StoreFailed
from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m

T = TypeVar("T")
#: Seconds for which an event waits for others before it is written.
EVENT_WAIT = 0.2
#: Seconds for which a cell that has ended waits, so that the writing thread does not delay its reply.
CELL_WAIT = 0.01


@dataclass(frozen=True)
class HistoryStores:
    """The stores of the history, for use in the recorder's thread."""

    cells: CellStore
    runs: RunStore
    ledger: Ledger


@dataclass(slots=True)
class _OpenCell:
    """An execution that has not ended, and its outputs so far."""

    started: float
    outputs: list[Output] = field(default_factory=list)
    #: Characters of text in them.
    size: int = 0
    #: A hash of all outputs. Text counts as a whole, in however many pieces it comes.
    digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))
    #: The stream to which the latest output belongs.
    stream: str | None = None

    def add(self, output: Output) -> None:
        if self.size > MAX_OUTPUT:
            return
        self.outputs.append(output)
        if isinstance(output, m.StreamOutput):
            self.size += len(output.text)
            if output.name != self.stream:
                self.digest.update(f"\0{output.name}\0".encode())
            self.digest.update(output.text.encode("utf-8", "surrogatepass"))
            self.stream = output.name
        else:
            self.digest.update(f"\0{output.model_dump_json()}".encode("utf-8", "surrogatepass"))
            self.stream = None


class Recorder:
    """The history of one kernel: it listens to the outputs of cells and observes events.

    Args:
        path: the file of the history; None if it is off.
        shown: the capabilities that reach the client.
        bus: the events, all of which go to the ledger.
        warn: tells the user something, in a line.
    """

    def __init__(self, path: Path | None, shown: Capabilities, bus: EventBus, warn: Callable[[str], None]) -> None:
        self._path = path
        self._shown = shown
        self._bus = bus
        self._warn = warn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capsule-history")
        self._database: Database | None = None
        self._open: dict[str, _OpenCell] = {}
        #: The ids by which the client knows executions, if they are others.
        self._names: dict[str, str] = {}
        self._failing = False
        #: The session of the latest event.
        self._session_id = ""
        #: What is to be written.
        self._events: list[Event] = []
        self._cells: list[CellRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        self._actor = f"kernel {os.getpid()}"
        #: The capabilities that reach the client, as this object listens to them.
        self.capabilities = replace(shown, stream=self._stream, display=self._display, prompt=self._prompt)
        if path is not None:
            bus.subscribe(self)

    # -- cells and events ------------------------------------------------------------------------------------

    def begin(self, execution_id: str, shown_as: str | None = None) -> None:
        """Record the outputs of an execution from now on.

        Args:
            execution_id: the execution.
            shown_as: the id by which the client knows it; None for the same.
        """
        if shown_as is not None:
            self._names[execution_id] = shown_as
        self._open[execution_id] = _OpenCell(time.time())

    def end(self, request: m.ExecuteMessage, session: str, outcome: m.ResultMessage | ExecutionFailed) -> CellEnded:
        """Record an execution that has ended; its later outputs are not recorded.

        Args:
            request: the cell.
            session: the session that it ran in.
            outcome: its result, or why it has none.

        Returns:
            The event to publish.
        """
        now = time.time()
        cell = self._open.pop(request.id, None) or _OpenCell(now)
        outputs = cell.outputs
        if isinstance(outcome, ExecutionFailed):
            count, status, result = request.execution_count or 0, outcome.kind, None
            cell.add(m.ErrorOutput(ename=outcome.kind, evalue=outcome.message, traceback=[outcome.message]))
        else:
            count, status, result = outcome.execution_count, outcome.status, outcome
        if self._path is not None:
            self._cells.append(
                CellRecord(
                    request.id,
                    session,
                    count,
                    request.code,
                    cell.started,
                    now,
                    status,
                    result,
                    outputs,
                    request.cell_id,
                )
            )
            self._write_within(CELL_WAIT)
        return CellEnded(
            at=now,
            session_id=session,
            execution_id=request.id,
            status=status,
            duration=now - cell.started,
            outputs_digest=cell.digest.hexdigest(),
        )

    def on_event(self, event: Event) -> None:
        """Add an event to the ledger, soon, with those that follow until then."""
        self._session_id = event.session_id
        self._events.append(event)
        self._write_within(EVENT_WAIT)

    def forget(self, days: float, most: int) -> None:
        """Delete old cells, in the background.

        Args:
            days: how old cells may be.
            most: how many bytes to keep.
        """
        if self._path is not None:
            before = time.time() - days * 86400

            def forget(stores: HistoryStores) -> None:
                stores.cells.forget(before, most)

            self._submit(forget).add_done_callback(self._report)

    # -- writing ---------------------------------------------------------------------------------------------

    async def written(self) -> None:
        """Write the cell that has just ended, and wait until that is done.

        Raises:
            HistoryUnavailable: it cannot be written.
        """
        writing = self._write()
        if writing is not None:
            await writing

    async def act(self, do: Callable[[HistoryStores], T]) -> T:
        """Call a function with the stores, in the thread, after everything before is written.

        Args:
            do: the function; what it returns is returned.

        Raises:
            HistoryUnavailable: the history is off or cannot be used.
        """
        self._write()
        return await self._submit(do)

    async def close(self) -> None:
        """Write the rows that are waiting, and close the file. Later events are ignored. Idempotent."""
        if self._path is None:
            self._thread.shutdown(wait=False)
            return
        self._write()
        self._path = None

        def close() -> None:
            if self._database is not None:
                self._database.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown(wait=False)

    def _write_within(self, seconds: float) -> None:
        if self._path is None:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._write)

    def _write(self) -> asyncio.Future[None] | None:
        """Begin to write what is to be written; return None if nothing is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        events, self._events = self._events, []
        cells, self._cells = self._cells, []
        if self._path is None or not (events or cells):
            return None

        def write(stores: HistoryStores) -> None:
            for cell in cells:
                stores.cells.add(cell)
            stores.ledger.append(entry_of(event, self._actor) for event in events)

        writing = self._submit(write)
        writing.add_done_callback(self._report)
        return writing

    def _submit(self, do: Callable[[HistoryStores], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._act, self._path, do)

    def _act(self, path: Path | None, do: Callable[[HistoryStores], T]) -> T:
        """Call a function with the stores. Runs in the thread."""
        if path is None:
            raise HistoryUnavailable("the history is off (history_days = 0)")
        try:
            if self._database is None:
                self._database = Database(path, SCHEMA)
            return do(HistoryStores(CellStore(self._database), RunStore(self._database), Ledger(self._database)))
        except StoreError as error:
            raise HistoryUnavailable(str(error)) from error

    def _report(self, writing: asyncio.Future[None]) -> None:
        """Report the first of several failures."""
        error = None if writing.cancelled() else writing.exception()
        was_failing, self._failing = self._failing, error is not None
        if error is not None and not was_failing:
            self._warn(
                f"The history is not being recorded: {error}. Cells still run, but their outputs cannot be shown later"
            )
            self._bus.publish(StoreFailed(session_id=self._session_id, store="history", reason=str(error)))

    # -- the capabilities that reach the client --------------------------------------------------------------

    def show(self, execution_id: str, output: Output) -> None:
        """Show an output below the cell of an execution, without recording it.

        Args:
            execution_id: the execution, or the attempt at a cell.
            output: the output.
        """
        if isinstance(output, m.StreamOutput):
            self._shown.stream(self._names.get(execution_id, execution_id), output)
        else:
            self._shown.display(self._names.get(execution_id, execution_id), output)

    def _stream(self, execution_id: str, output: m.StreamOutput) -> None:
        self._record(execution_id, output)
        self.show(execution_id, output)

    def _display(self, execution_id: str, output: Output) -> None:
        # Messages of comms and of the debugger are for their counterparts only.
        if not isinstance(output, (m.CommOutput, m.DebugOutput)):
            self._record(execution_id, output)
        self.show(execution_id, output)

    def _record(self, execution_id: str, output: Output) -> None:
        cell = self._open.get(execution_id)
        if cell is not None:
            cell.add(output)

    def _prompt(self, question: InputPrompt) -> None:
        name = self._names.get(question.execution_id, question.execution_id)
        self._shown.prompt(InputPrompt(name, question.answer_id, question.prompt, question.password))
