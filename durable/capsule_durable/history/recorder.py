"""Listens to what cells show, and keeps it with what became of them, in a thread of its own."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from capsule_durable.engines.embedded.schema import FORM
from capsule_durable.errors import EngineUnavailable, ExecutionFailed
from capsule_durable.history.cells import MAX_OUTPUT, CellRecord, CellStore, merged
from capsule_durable.history.ledger import Ledger, LedgerEntry
from capsule_durable.messaging.capabilities import Capabilities, InputPrompt
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Seconds for which what happened waits for what else happens, at most, before it is written; and for which a cell
#: that has ended does, lest the thread that writes holds up its reply.
NOTES_WAIT, CELL_WAIT = 0.2, 0.01


@dataclass(frozen=True)
class HistoryStores:
    """What is kept, for whoever is in the record's thread."""

    cells: CellStore
    ledger: Ledger


class Recorder:
    """The record of the cells of one kernel.

    Args:
        path: the engine's file; None where nothing is to be kept.
        shown: the ways to the client.
    """

    def __init__(self, path: Path | None, shown: Capabilities) -> None:
        self._path = path
        self._shown = shown
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capsule-record")
        self._database: Database | None = None
        self._outputs: dict[str, list[Output]] = {}
        self._sizes: dict[str, int] = {}
        self._began: dict[str, float] = {}
        #: By which id the client knows an execution, where that is another one.
        self._names: dict[str, str] = {}
        self._failing = False
        #: What is to be written: what happened, and cells that have ended with what tells that they have.
        self._notes: list[LedgerEntry] = []
        self._cells: list[tuple[CellRecord, LedgerEntry]] = []
        self._writing: asyncio.TimerHandle | None = None
        self._actor = f"kernel {os.getpid()}"
        #: The ways to the client, listened to.
        self.capabilities = replace(shown, stream=self._stream, display=self._display, prompt=self._prompt)

    def __contains__(self, execution_id: str) -> bool:
        """Whether an execution is listened to."""
        return execution_id in self._outputs

    def begin(self, execution_id: str, shown_as: str | None = None) -> None:
        """Listen to an execution from now on.

        Args:
            execution_id: the execution.
            shown_as: by which id the client knows it.
        """
        if shown_as is not None:
            self._names[execution_id] = shown_as
        self._outputs[execution_id], self._sizes[execution_id] = [], 0
        self._began[execution_id] = time.time()

    def end(self, request: m.ExecuteMessage, session: str, outcome: m.ResultMessage | ExecutionFailed) -> None:
        """Keep what became of an execution, soon; what it shows later is not kept."""
        cell = CellRecord(
            execution_id=request.id,
            session=session,
            number=(request.execution_count or 0) if isinstance(outcome, ExecutionFailed) else outcome.execution_count,
            code=request.code,
            started=self._began.pop(request.id, time.time()),
            ended=time.time(),
            status=outcome.kind if isinstance(outcome, ExecutionFailed) else outcome.status,
            outcome=None if isinstance(outcome, ExecutionFailed) else outcome,
            outputs=self._outputs.pop(request.id, []),
        )
        if isinstance(outcome, ExecutionFailed):
            cell.outputs.append(m.ErrorOutput(ename=outcome.kind, evalue=outcome.message, traceback=[outcome.message]))
        self._sizes.pop(request.id, None)
        if self._path is not None:
            data = {"execution": request.id, "cell": cell.number, "status": cell.status}
            entry = LedgerEntry(time.time(), self._actor, session, "cell ended", data)
            self._notes.append(entry)
            self._cells.append((cell, entry))
            self._write_within(CELL_WAIT)

    def note(self, session: str, what: str, **data: object) -> None:
        """Have something that happened put into the ledger, soon and with what else happens until then."""
        if self._path is not None:
            self._notes.append(LedgerEntry(time.time(), self._actor, session, what, data))
            self._write_within(NOTES_WAIT)

    def _write_within(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        if self._writing is not None:
            if self._writing.when() <= when:
                return
            self._writing.cancel()
        self._writing = loop.call_at(when, self._write)

    def _write(self) -> asyncio.Future[None] | None:
        """Begin to write what is to be written, if anything is."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        notes, self._notes = self._notes, []
        ended, self._cells = self._cells, []

        def write(books: HistoryStores) -> None:
            for cell, entry in ended:
                entry.data["shown"] = _digest(cell)
                books.cells.add(cell)
            books.ledger.append(notes)

        if not notes:
            return None
        writing = self._submit(write)
        writing.add_done_callback(self._look)
        return writing

    async def written(self) -> None:
        """Have the cell that has just ended written, and wait for it.

        Raises:
            EngineUnavailable: nothing is kept.
            StoreError: it cannot be written.
        """
        writing = self._write()
        if writing is not None:
            await writing

    def forget(self, days: float, most: int) -> None:
        """Have old cells forgotten, beside everything else.

        Args:
            days: how old they may be.
            most: bytes of what is kept, at most.
        """
        if self._path is not None:
            before = time.time() - days * 86400

            def forget(books: HistoryStores) -> None:
                books.cells.forget(before, most)

            self.act(forget).add_done_callback(self._look)

    def act(self, do: Callable[[HistoryStores], T]) -> asyncio.Future[T]:
        """Do something with the record, after all that was asked for before."""
        self._write()
        return self._submit(do)

    def _submit(self, do: Callable[[HistoryStores], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._act, do)

    def _act(self, do: Callable[[HistoryStores], T]) -> T:
        if self._path is None:
            raise EngineUnavailable("what comes of cells is not kept: the engine keeps everything in memory")
        if self._database is None:
            self._database = Database(self._path, FORM)
        return do(HistoryStores(CellStore(self._database), Ledger(self._database)))

    def _look(self, future: asyncio.Future[None]) -> None:
        """Log the first of several failures; what has to be kept is waited for, and its failure met, elsewhere."""
        error = None if future.cancelled() else future.exception()
        if error is not None and self._path is not None and not self._failing:
            logger.warning("what cells show is not kept: %s", error)
        self._failing = error is not None

    async def close(self) -> None:
        """Wait until all is kept, and close the file."""
        self._write()

        def close() -> None:
            if self._database is not None:
                self._database.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown(wait=False)

    # -- the ways to the client ------------------------------------------------------------------------------

    def show(self, execution_id: str, output: Output) -> None:
        """Show an output below the cell of an execution."""
        if isinstance(output, m.StreamOutput):
            self._shown.stream(self._names.get(execution_id, execution_id), output)
        else:
            self._shown.display(self._names.get(execution_id, execution_id), output)

    def _stream(self, execution_id: str, output: m.StreamOutput) -> None:
        self._keep(execution_id, output, len(output.text))
        self.show(execution_id, output)

    def _display(self, execution_id: str, output: Output) -> None:
        # What an object, or the debugger, says to its counterpart is for that one only.
        if not isinstance(output, (m.CommOutput, m.DebugOutput)):
            self._keep(execution_id, output, 0)
        self.show(execution_id, output)

    def _keep(self, execution_id: str, output: Output, size: int) -> None:
        outputs = self._outputs.get(execution_id)
        if outputs is not None and self._sizes[execution_id] <= MAX_OUTPUT:
            self._sizes[execution_id] += size
            outputs.append(output)

    def _prompt(self, question: InputPrompt) -> None:
        name = self._names.get(question.execution_id, question.execution_id)
        self._shown.prompt(InputPrompt(name, question.answer_id, question.prompt, question.password))


def _digest(cell: CellRecord) -> str:
    """Return what identifies all that a cell showed."""
    shown = hashlib.blake2b(digest_size=16)
    for output in merged(cell.outputs):
        shown.update(output.model_dump_json().encode())
    return shown.hexdigest()
