"""What became of cells: their source, outcome and outputs, kept in the file of the embedded engine.

Also which cells make up a *run*: a notebook that is executed from its beginning under an id, so that the next process
with the same id can go on where this one stopped.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import zstandard
from pydantic import TypeAdapter

from capsule_durable.errors import CapsuleError
from capsule_durable.history.blobs import BlobLost, BlobStore
from capsule_durable.storage.process_identity import ProcessIdentity, is_allowed, state_of
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.pydantic_plugins import without_plugins

#: Bytes of a cell's outputs that are kept, as JSON.
MAX_OUTPUT = 16 * 1024 * 1024
#: Bytes of an output, as JSON, from which on it is in a file of its own.
LARGE = 64 * 1024
#: Seconds after which a process that has not ended loses a run that it does not renew.
LEASE = 60.0
_SELECT = "SELECT execution, session, number, code, started, ended, status, outcome, outputs FROM cells"
#: Stands in the list of outputs for one that is in a file of its own.
_REFERENCE = "artifact"


class RunTaken(CapsuleError):
    """Another process executes the run."""


@dataclass(frozen=True)
class CellRecord:
    """A cell that was executed.

    Args:
        execution_id: names it.
        session: the session that it ran in.
        number: as in ``In [number]``.
        code: its source.
        started: seconds since the epoch; so is ``ended``.
        status: ``ok``, ``error`` where its code raised, or why there is no result, as ``WorkerDied``.
        outcome: its result, if there is one.
        outputs: what it showed.
    """

    execution_id: str
    session: str
    number: int
    code: str
    started: float
    ended: float
    status: str
    outcome: m.ResultMessage | None
    outputs: list[Output]


@dataclass(frozen=True)
class RunCell:
    """A cell of a run.

    Args:
        number: its place among the cells that the run has executed, from 1.
        source: identifies its source.
        execution_id: the execution, or the latest attempt at it.
        turn: which of the run's executions it is, counted from 1.
        checkpoint: the state behind it; None while it has not succeeded.
    """

    number: int
    source: bytes
    execution_id: str
    turn: int
    checkpoint: str | None


class CellStore:
    """The cells and the runs of a user. Used by one thread at a time.

    Args:
        database: the engine's file.

    Methods raise StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._artifacts = BlobStore(database.path.parent / "artifacts")

    # -- cells -----------------------------------------------------------------------------------------------

    def add(self, cell: CellRecord) -> None:
        """Keep a cell that has ended."""
        outcome = cell.outcome.model_dump_json().encode() if cell.outcome is not None else b""
        outputs = [output.model_dump_json().encode() for output in bounded(cell.outputs)]
        # What a row refers to is there before it.
        large: dict[str, int] = {}
        for place, output in enumerate(outputs):
            if len(output) >= LARGE:
                name = self._artifacts.put(output)
                large[name], outputs[place] = len(output), json.dumps({_REFERENCE: name}).encode()
        with self._database.writing() as sql:
            sql.execute("DELETE FROM artifacts WHERE execution = ?", (cell.execution_id,))
            sql.executemany(
                "INSERT INTO artifacts (execution, name, size) VALUES (?, ?, ?)",
                [(cell.execution_id, name, size) for name, size in large.items()],
            )
            sql.execute(
                "INSERT OR REPLACE INTO cells (execution, session, number, code, started, ended, status, outcome,"
                " outputs) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    cell.execution_id,
                    cell.session,
                    cell.number,
                    cell.code,
                    cell.started,
                    cell.ended,
                    cell.status,
                    zstandard.compress(outcome),
                    zstandard.compress(b"[" + b",".join(outputs) + b"]"),
                ),
            )

    def of_session(self, session: str, number: int | None = None) -> list[CellRecord]:
        """Return the cells of a session in the order in which they ended; or only those with a number."""
        return self._cells("session = ? AND (? IS NULL OR number = ?)", (session, number, number))

    def cell(self, execution_id: str) -> CellRecord | None:
        """Return a cell."""
        found = self._cells("execution = ?", (execution_id,))
        return found[0] if found else None

    def forget(self, before: float, most: int) -> int:
        """Forget old cells and runs; return how many cells.

        Args:
            before: what ended before this goes, in seconds since the epoch; a run is as old as its last cell.
            most: bytes of what is kept, at most; the oldest cells go first, those of runs as well.
        """
        with self._database.writing() as sql:
            sql.execute(
                "DELETE FROM runs WHERE owner IS NULL AND started < ? AND NOT EXISTS (SELECT 1 FROM run_cells AS r"
                " JOIN cells AS c ON c.execution = r.execution WHERE r.run = runs.id AND c.ended >= ?)",
                (before, before),
            )
            sql.execute("DELETE FROM run_cells WHERE run NOT IN (SELECT id FROM runs)")
            gone = sql.execute(
                "DELETE FROM cells WHERE ended < ? AND execution NOT IN (SELECT execution FROM run_cells)", (before,)
            ).rowcount
            size = 0
            for n, bytes_ in sql.execute(
                "SELECT n, length(outputs) + length(outcome) + (SELECT coalesce(sum(size), 0) FROM artifacts AS a"
                " WHERE a.execution = cells.execution) FROM cells ORDER BY n DESC"
            ):
                size += bytes_
                if size > most:
                    gone += sql.execute("DELETE FROM cells WHERE n <= ?", (n,)).rowcount
                    break
            sql.execute("DELETE FROM artifacts WHERE execution NOT IN (SELECT execution FROM cells)")
            names = {name for (name,) in sql.execute("SELECT name FROM artifacts")}
        self._artifacts.keep_only(names)
        return gone

    def _cells(self, where: str, values: Sequence[object]) -> list[CellRecord]:
        statement = f"{_SELECT} WHERE {where} ORDER BY n"
        with self._database.using() as sql:
            rows = sql.execute(statement, values).fetchall()
        return [self._cell(row) for row in rows]

    def _cell(self, row: tuple[Any, ...]) -> CellRecord:
        execution, session, number, code, started, ended, status, outcome, outputs = row
        unpack = zstandard.ZstdDecompressor()
        record = unpack.decompress(outcome, max_output_size=1 << 30)
        result = m.ResultMessage.model_validate_json(record) if record else None
        listed = json.loads(unpack.decompress(outputs, max_output_size=1 << 30))
        return CellRecord(
            execution, session, number, code, started, ended, status, result, list(map(self._output, listed))
        )

    def _output(self, listed: dict[str, Any]) -> Output:
        if _REFERENCE not in listed:
            return _outputs().validate_python(listed)
        try:
            return _outputs().validate_json(self._artifacts.get(listed[_REFERENCE]))
        except BlobLost as error:
            return m.StreamOutput(name="stderr", text=f"capsule: an output is not here any more: {error}\n")

    # -- runs ------------------------------------------------------------------------------------------------

    def lock(self, run: str, owner: str) -> None:
        """Have a run alone.

        Args:
            run: its id.
            owner: the identity of the process, as text.

        Raises:
            RunTaken: another process has it, and neither has it ended nor its lease expired.
        """
        with self._database.writing() as sql:
            row = sql.execute("SELECT owner, seen FROM runs WHERE id = ?", (run,)).fetchone()
            now = time.time()
            if row is not None and row[0] not in (None, owner):
                expired = row[1] is None or row[1] <= now - LEASE
                if not is_allowed("take_over", state_of(row[0]), expired=expired):
                    other = ProcessIdentity.parse(row[0])
                    raise RunTaken(
                        f"run {run!r} is being executed by process {other.pid if other is not None else row[0]}: wait"
                        " until it has ended, or choose another id"
                    )
            sql.execute(
                "INSERT INTO runs (id, owner, seen, started) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, seen = excluded.seen",
                (run, owner, now, now),
            )

    def renew(self, run: str, owner: str) -> None:
        """Say that the process that has a run lives; to be done more often than every ``LEASE`` seconds."""
        with self._database.writing() as sql:
            sql.execute("UPDATE runs SET seen = ? WHERE id = ? AND owner = ?", (time.time(), run, owner))

    def release(self, run: str, owner: str) -> None:
        """Let a run go."""
        with self._database.writing() as sql:
            sql.execute("UPDATE runs SET owner = NULL WHERE id = ? AND owner = ?", (run, owner))

    def begun(self, run: str) -> int:
        """Return how many executions a run has begun so far."""
        with self._database.using() as sql:
            return int(sql.execute("SELECT begun FROM runs WHERE id = ?", (run,)).fetchone()[0])

    def steps(self, run: str) -> list[RunCell]:
        """Return the cells of a run, in their order."""
        with self._database.using() as sql:
            rows = sql.execute(
                "SELECT number, source, execution, turn, checkpoint FROM run_cells WHERE run = ? ORDER BY number",
                (run,),
            ).fetchall()
        return [RunCell(*row) for row in rows]

    def begin(self, run: str, step: RunCell) -> None:
        """Note that a cell of a run begins; what was known of those behind it is forgotten."""
        with self._database.writing() as sql:
            sql.execute("DELETE FROM run_cells WHERE run = ? AND number >= ?", (run, step.number))
            sql.execute("UPDATE runs SET begun = ? WHERE id = ?", (step.turn, run))
            sql.execute(
                "INSERT INTO run_cells (run, number, source, execution, turn, checkpoint) VALUES (?, ?, ?, ?, ?, NULL)",
                (run, step.number, step.source, step.execution_id, step.turn),
            )

    def finish(self, run: str, number: int, checkpoint: str) -> None:
        """Note that a cell of a run has succeeded, and which checkpoint has the state behind it."""
        with self._database.writing() as sql:
            sql.execute("UPDATE run_cells SET checkpoint = ? WHERE run = ? AND number = ?", (checkpoint, run, number))


def source_of(code: str) -> bytes:
    """Return what identifies a cell's source."""
    return hashlib.blake2b(code.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def merged(outputs: Iterable[Output]) -> list[Output]:
    """Return outputs with texts joined that follow each other on one stream."""
    found: list[Output] = []
    texts: list[str] = []
    for output in outputs:
        last = found[-1] if found else None
        if isinstance(output, m.StreamOutput):
            if isinstance(last, m.StreamOutput) and last.name == output.name:
                texts.append(output.text)
                continue
            _join(found, texts)
            texts = [output.text]
        found.append(output)
    _join(found, texts)
    return found


def _join(found: list[Output], texts: list[str]) -> None:
    """Give the latest stream output all of its texts."""
    for place in range(len(found) - 1, -1, -1):
        output = found[place]
        if isinstance(output, m.StreamOutput):
            found[place] = output.model_copy(update={"text": "".join(texts)})
            return


@functools.cache
def _outputs() -> TypeAdapter[Output]:
    """Return what reads outputs; a kernel writes them."""
    with without_plugins():
        return TypeAdapter(Output)


def bounded(outputs: Iterable[Output]) -> list[Output]:
    """Return as much of a cell's outputs as is kept, with a note where that is not all."""
    kept: list[Output] = []
    size = 0
    for output in merged(outputs):
        size += len(output.model_dump_json())
        if size > MAX_OUTPUT:
            note = f"capsule: more output was not kept: it exceeds {MAX_OUTPUT / 1e6:,.0f} MB\n"
            kept.append(m.StreamOutput(name="stderr", text=note))
            break
        kept.append(output)
    return kept
