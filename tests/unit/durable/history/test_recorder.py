"""The recorder: it listens to outputs, observes events, and writes both in a thread of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from capsule_durable.errors import HistoryUnavailable, WorkerDied
from capsule_durable.history.cells import CellRecord
from capsule_durable.history.recorder import EVENT_WAIT, Recorder
from capsule_durable.history.schema import FILE
from capsule_durable.messaging.capabilities import Capabilities
from capsule_durable.telemetry.bus import EventBus
from capsule_durable.telemetry.events import CellEnded, Event, KernelSessionStarted, StoreFailed
from capsule_worker.protocol import messages as m

pytestmark = [pytest.mark.asyncio, pytest.mark.fast]

STARTED = KernelSessionStarted(session_id="s", notebook=None, kernel="k")


class Recording:
    """A recorder, and everything that it tells."""

    def __init__(self, path: Path | None) -> None:
        self.bus = EventBus()
        self.shown: list[tuple[str, object]] = []
        self.warnings: list[str] = []
        self.events: list[Event] = []
        self.bus.subscribe(self, StoreFailed)
        capabilities = Capabilities(
            stream=lambda name, output: self.shown.append((name, output)),
            display=lambda name, output: self.shown.append((name, output)),
            prompt=lambda _: None,
        )
        self.recorder = Recorder(path, capabilities, self.bus, self.warnings.append)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def cell(self, name: str, *outputs: m.Output, error: bool = False) -> CellEnded:
        """Record a cell that shows something."""
        self.recorder.begin(name)
        for output in outputs:
            if isinstance(output, m.StreamOutput):
                self.recorder.capabilities.stream(name, output)
            else:
                self.recorder.capabilities.display(name, output)
        request = m.ExecuteMessage(id=name, code="1", execution_count=3, cell_id="c")
        result = m.ResultMessage(
            execution_id=name, status="ok", execution_count=3, next_execution_count=4, execution_time=0.5
        )
        return self.recorder.end(request, "s", WorkerDied("gone", name) if error else result)


def out(text: str) -> m.StreamOutput:
    return m.StreamOutput(name="stdout", text=text)


async def test_cells_and_events_are_written_together(tmp_path: Path) -> None:
    one = Recording(tmp_path / FILE)
    one.bus.publish(STARTED)
    ended = one.cell("e1", out("a"), out("b"))
    one.bus.publish(ended)
    await one.recorder.written()
    (cell,) = await one.recorder.act(lambda stores: stores.cells.of_session("s"))
    assert isinstance(cell, CellRecord)
    assert (cell.number, cell.cell_id, cell.status, cell.outputs) == (3, "c", "ok", [out("ab")])
    stored = await one.recorder.act(lambda stores: stores.ledger.events())
    assert [event.type for event in stored] == ["KernelSessionStarted", "CellEnded"]
    assert stored[1].data["outputs_digest"] == ended.outputs_digest
    await one.recorder.close()
    assert [name for name, _ in one.shown] == ["e1", "e1"]
    assert (one.warnings, one.events) == ([], [])


async def test_the_digest_depends_on_what_was_shown_and_not_on_its_pieces(tmp_path: Path) -> None:
    one = Recording(tmp_path / FILE)
    display = m.DisplayOutput(data={"text/plain": "d"})
    shown: list[tuple[m.Output, ...]] = [
        (out("ab"), display),
        (out("a"), out("b"), display),
        (out("a"), display, out("b")),
        (m.StreamOutput(name="stderr", text="ab"), display),
        (),
    ]
    digests = [one.cell(f"e{n}", *outputs).outputs_digest for n, outputs in enumerate(shown)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    assert all(len(digest) == 32 for digest in digests)
    await one.recorder.close()


async def test_a_cell_without_a_result_has_the_failure_as_its_output(tmp_path: Path) -> None:
    one = Recording(tmp_path / FILE)
    assert one.cell("e1", error=True).status == "WorkerDied"
    cell = await one.recorder.act(lambda stores: stores.cells.cell("e1"))
    assert cell is not None
    assert cell.outputs == [m.ErrorOutput(ename="WorkerDied", evalue="gone", traceback=["gone"])]
    await one.recorder.close()


async def test_an_event_is_written_soon_though_none_follows(tmp_path: Path) -> None:
    one = Recording(tmp_path / FILE)
    one.bus.publish(STARTED)
    assert not (tmp_path / FILE).exists()
    await asyncio.wait_for(_exists(tmp_path / FILE), 50 * EVENT_WAIT)
    await one.recorder.close()


async def _exists(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.01)


async def test_a_history_that_cannot_be_used_is_reported_once_and_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database " * 1000)
    one = Recording(tmp_path / FILE)
    for name in ("e1", "e2"):
        one.bus.publish(one.cell(name))
        with pytest.raises(HistoryUnavailable, match="is damaged"):
            await one.recorder.written()
    with pytest.raises(HistoryUnavailable, match="is damaged"):
        await one.recorder.act(lambda stores: stores.runs.get("nightly"))
    assert len(one.warnings) == 1
    assert [event.store for event in one.events if isinstance(event, StoreFailed)] == ["history"]
    await one.recorder.close()


async def test_nothing_is_written_where_the_history_is_off() -> None:
    one = Recording(None)
    one.bus.publish(STARTED)
    assert one.cell("e1", out("a")).status == "ok"
    await one.recorder.written()
    with pytest.raises(HistoryUnavailable, match="history_days"):
        await one.recorder.act(lambda stores: stores.cells.cell("e1"))
    await one.recorder.close()
    assert one.warnings == []


async def test_later_events_are_ignored_after_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = Recording(tmp_path / FILE)
    one.bus.publish(STARTED)
    await one.recorder.close()
    await one.recorder.close()
    one.bus.publish(STARTED)
    assert not caplog.records
