"""The cells that have ended: their source, result and outputs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import zstandard
from pydantic import TypeAdapter

from capsule_durable.history.blobs import DIRECTORY, BlobLost, BlobStore
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m
from capsule_worker.protocol.pydantic_plugins import without_plugins

#: Bytes of a cell's outputs that are kept, in JSON.
MAX_OUTPUT = 16_000_000
#: Size of an output, in JSON, from which on it is stored as a blob, in bytes.
LARGE = 64_000
_SELECT = (
    "SELECT execution_id, session_id, execution_count, source, started_at, ended_at, status, result, outputs, cell_id"
    " FROM cells"
)
#: The key that stands in the list of outputs for one that is a blob.
_REFERENCE = "blob"


@dataclass(frozen=True)
class CellRecord:
    """An execution that has ended.

    Args:
        execution_id: the execution.
        session: the session that it ran in.
        number: as in ``In [number]``.
        code: its source.
        started: seconds since the epoch.
        ended: seconds since the epoch.
        status: ``ok``; ``error`` if its code raised; otherwise the class of the failure, for example ``WorkerDied``.
        outcome: its result, if it has one.
        outputs: its outputs.
        cell_id: the id that the client gave the cell, if any.
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
    cell_id: str | None = None


class CellStore:
    """The cells of a user. One thread uses it at a time.

    Args:
        database: the history; blobs are in a directory next to it.

    All methods raise StoreError if the file cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._blobs = BlobStore(database.path.parent / DIRECTORY)

    def add(self, cell: CellRecord) -> None:
        """Store a cell. One with the same execution id is replaced.

        Args:
            cell: the cell; its outputs are cut to what ``bounded`` keeps.
        """
        result = cell.outcome.model_dump_json().encode() if cell.outcome is not None else b""
        outputs = [output.model_dump_json().encode() for output in bounded(cell.outputs)]
        # A blob is on the disk before the row that refers to it.
        large: dict[str, int] = {}
        for place, output in enumerate(outputs):
            if len(output) >= LARGE:
                digest = self._blobs.put(output)
                large[digest], outputs[place] = len(output), json.dumps({_REFERENCE: digest}).encode()
        with self._database.writing() as sql:
            sql.execute("DELETE FROM blobs WHERE execution_id = ?", (cell.execution_id,))
            sql.executemany(
                "INSERT INTO blobs (execution_id, digest, size) VALUES (?, ?, ?)",
                [(cell.execution_id, digest, size) for digest, size in large.items()],
            )
            sql.execute(
                "INSERT OR REPLACE INTO cells (execution_id, session_id, cell_id, execution_count, started_at,"
                " ended_at, status, source, result, outputs) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    cell.execution_id,
                    cell.session,
                    cell.cell_id,
                    cell.number,
                    cell.started,
                    cell.ended,
                    cell.status,
                    cell.code,
                    zstandard.compress(result),
                    zstandard.compress(b"[" + b",".join(outputs) + b"]"),
                ),
            )

    def of_session(self, session: str, number: int | None = None) -> list[CellRecord]:
        """Return the cells of a session, in the order in which they ended.

        Args:
            session: the session.
            number: only those with this execution count.
        """
        return self._cells("session_id = ? AND (? IS NULL OR execution_count = ?)", (session, number, number))

    def cell(self, execution_id: str) -> CellRecord | None:
        """Return a cell, or None if it is not stored.

        Args:
            execution_id: its execution id.
        """
        found = self._cells("execution_id = ?", (execution_id,))
        return found[0] if found else None

    def forget(self, before: float, most: int) -> int:
        """Delete old cells and runs; return how many cells.

        Args:
            before: delete what ended before this time, in seconds since the epoch; a run is as old as its last cell.
            most: how many bytes to keep. The oldest cells are deleted first, also those of runs.
        """
        with self._database.writing() as sql:
            sql.execute(
                "DELETE FROM runs WHERE owner IS NULL AND started_at < ? AND NOT EXISTS (SELECT 1 FROM run_cells AS r"
                " JOIN cells AS c ON c.execution_id = r.execution_id WHERE r.run_id = runs.id AND c.ended_at >= ?)",
                (before, before),
            )
            sql.execute("DELETE FROM run_cells WHERE run_id NOT IN (SELECT id FROM runs)")
            gone = sql.execute(
                "DELETE FROM cells WHERE ended_at < ? AND execution_id NOT IN (SELECT execution_id FROM run_cells)",
                (before,),
            ).rowcount
            size = 0
            for n, bytes_ in sql.execute(
                "SELECT n, length(outputs) + length(result) + (SELECT coalesce(sum(size), 0) FROM blobs AS b"
                " WHERE b.execution_id = cells.execution_id) FROM cells ORDER BY n DESC"
            ):
                size += bytes_
                if size > most:
                    gone += sql.execute("DELETE FROM cells WHERE n <= ?", (n,)).rowcount
                    break
            sql.execute("DELETE FROM blobs WHERE execution_id NOT IN (SELECT execution_id FROM cells)")
            digests = {digest for (digest,) in sql.execute("SELECT digest FROM blobs")}
        self._blobs.keep_only(digests)
        return gone

    def _cells(self, where: str, values: Sequence[object]) -> list[CellRecord]:
        statement = f"{_SELECT} WHERE {where} ORDER BY n"
        with self._database.using() as sql:
            rows = sql.execute(statement, values).fetchall()
        return [self._cell(row) for row in rows]

    def _cell(self, row: tuple[Any, ...]) -> CellRecord:
        execution_id, session, number, code, started, ended, status, result, outputs, cell_id = row
        unpack = zstandard.ZstdDecompressor()
        record = unpack.decompress(result, max_output_size=1 << 30)
        listed = json.loads(unpack.decompress(outputs, max_output_size=1 << 30))
        outcome = m.ResultMessage.model_validate_json(record) if record else None
        shown = [self._output(one) for one in listed]
        return CellRecord(execution_id, session, number, code, started, ended, status, outcome, shown, cell_id)

    def _output(self, listed: dict[str, Any]) -> Output:
        if _REFERENCE not in listed:
            return _outputs().validate_python(listed)
        try:
            return _outputs().validate_json(self._blobs.get(listed[_REFERENCE]))
        except BlobLost as error:
            return m.StreamOutput(name="stderr", text=f"capsule: an output is lost: {error}\n")


def merged(outputs: Iterable[Output]) -> list[Output]:
    """Return outputs with consecutive texts of one stream joined.

    Args:
        outputs: the outputs, in their order.
    """
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
    """Return the validator of outputs; a kernel only writes them."""
    with without_plugins():
        return TypeAdapter(Output)


def bounded(outputs: Iterable[Output]) -> list[Output]:
    """Return as much of a cell's outputs as is kept, with a note if that is not all.

    Args:
        outputs: the outputs, in their order.
    """
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
