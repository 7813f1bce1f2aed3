"""The rows of runs: which process executes a run, how far it has come, and when it is forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsule_durable.execution.runs import RunCoordinator, RunStepStart
from capsule_durable.history.cells import CellRecord, CellStore
from capsule_durable.history.ledger import Ledger
from capsule_durable.history.recorder import HistoryStores
from capsule_durable.history.runs import LEASE, RunRecord, RunStore, RunTaken
from capsule_durable.history.schema import SCHEMA
from capsule_durable.storage.process_identity import this_process
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import messages as m

#: A process of another machine.
ELSEWHERE = "nowhere.1.2.3"


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[HistoryStores]:
    database = Database(tmp_path / "history.sqlite3", SCHEMA)
    yield HistoryStores(CellStore(database), RunStore(database), Ledger(database))
    database.close()


def cell(execution_id: str, ended: float = 2.0) -> CellRecord:
    result = m.ResultMessage(
        execution_id=execution_id, status="ok", execution_count=1, next_execution_count=2, execution_time=0.5
    )
    return CellRecord(execution_id, "s", 1, "code", 1.0, ended, "ok", result, [])


def test_the_row_of_a_run_tells_its_owner_and_its_options(stores: HistoryStores) -> None:
    assert stores.runs.get("nightly") is None
    before = time.time()
    run = RunCoordinator(stores, "nightly", "me", {"retries": 3})
    run.next("1")
    row = stores.runs.get("nightly")
    assert row is not None
    assert row.owner_seen_at == row.started_at >= before
    assert row == RunRecord("nightly", "me", row.owner_seen_at, row.started_at, 1, {"retries": 3})
    run.close()
    RunCoordinator(stores, "nightly", "you", {"retries": 0})
    after = stores.runs.get("nightly")
    assert after is not None
    assert (after.owner, after.started_at, after.options) == ("you", row.started_at, {"retries": 0})


def test_cells_of_a_run_go_with_it(stores: HistoryStores) -> None:
    run = RunCoordinator(stores, "nightly", "me")
    begun = run.next("1")
    assert isinstance(begun, RunStepStart)
    stores.cells.add(cell(begun.step.execution_id, ended=1.0))
    run.succeeded(begun, "c1")
    recent = run.next("2")
    assert isinstance(recent, RunStepStart)
    stores.cells.add(cell(recent.step.execution_id, ended=10.0))
    run.close()
    # As long as one of its cells is young enough, all are needed.
    assert stores.cells.forget(before=5.0, most=10**6) == 0
    # It was begun now, whatever its cells say.
    assert stores.cells.forget(before=11.0, most=10**6) == 0
    assert len(stores.runs.steps("nightly")) == 2
    assert stores.cells.forget(before=10**11, most=10**6) == 2
    assert stores.runs.steps("nightly") == []


def ended() -> str:
    """Return the name of a process of this machine that has ended."""
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "from capsule_durable.storage.process_identity import this_process; print(this_process())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout.strip()


@pytest.mark.parametrize("owner", [ELSEWHERE, str(this_process())], ids=["of another place", "running"])
def test_a_process_that_has_not_ended_has_a_run_until_its_lease_expires(
    stores: HistoryStores, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    run = RunCoordinator(stores, "nightly", owner)
    mine = str(this_process())
    with pytest.raises(RunTaken):
        RunCoordinator(stores, "nightly", mine)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LEASE - 1)
    run.renew()
    monkeypatch.setattr(time, "time", lambda: now + LEASE + 1)
    with pytest.raises(RunTaken):
        RunCoordinator(stores, "nightly", mine)
    monkeypatch.setattr(time, "time", lambda: now + 2 * LEASE)
    RunCoordinator(stores, "nightly", mine)
    # Who comes back renews nothing any more.
    run.renew()
    run.close()
    with pytest.raises(RunTaken):
        RunCoordinator(stores, "nightly", str(this_process()))


@pytest.mark.process
def test_a_run_of_a_process_that_has_ended_is_taken_over_at_once(stores: HistoryStores) -> None:
    RunCoordinator(stores, "nightly", ended())
    RunCoordinator(stores, "nightly", str(this_process()))


@pytest.mark.process
def test_a_run_continues_from_the_history(stores: HistoryStores) -> None:
    first = RunCoordinator(stores, "nightly", ended())
    for number, code in enumerate(("a", "b"), 1):
        begun = first.next(code)
        assert isinstance(begun, RunStepStart)
        assert begun.restore is None
        stores.cells.add(cell(begun.step.execution_id))
        first.succeeded(begun, f"c{number}")
    third = first.next("c")
    assert isinstance(third, RunStepStart)
    # Its process is gone without a word.
    second = RunCoordinator(stores, "nightly", str(this_process()))
    assert isinstance(second.next("a"), CellRecord)
    assert isinstance(second.next("b"), CellRecord)
    again = second.next("c")
    assert isinstance(again, RunStepStart)
    assert again.restore == "c2"
    assert again.inputs == third.inputs
    assert again.step.execution_id != third.step.execution_id
    assert "continues at cell 3" in str(again.notice)


def test_a_changed_cell_and_what_is_behind_it_run_again(stores: HistoryStores) -> None:
    first = RunCoordinator(stores, "nightly", "me")
    ids = []
    for code in ("a", "b", "c"):
        begun = first.next(code)
        assert isinstance(begun, RunStepStart)
        ids.append(begun.step.execution_id)
        stores.cells.add(cell(begun.step.execution_id))
        first.succeeded(begun, f"after {code}")
    first.close()
    second = RunCoordinator(stores, "nightly", "me")
    assert isinstance(second.next("a"), CellRecord)
    changed = second.next("B")
    assert isinstance(changed, RunStepStart)
    assert changed.restore == "after a"
    assert "cell 2 of run 'nightly' was changed: it and the 1 behind it run again" in str(changed.notice)
    second.close()
    # Nothing is known of what was behind it, also if this was all; and no id is given twice.
    third = RunCoordinator(stores, "nightly", "me")
    assert isinstance(third.next("a"), CellRecord)
    back = third.next("b")
    assert isinstance(back, RunStepStart)
    assert back.step.execution_id not in [*ids, changed.step.execution_id]
    assert len(stores.runs.steps("nightly")) == 2


def test_a_run_has_one_process_at_a_time(stores: HistoryStores) -> None:
    mine = str(this_process())
    run = RunCoordinator(stores, "nightly", mine)
    with pytest.raises(RunTaken, match=f"process {os.getpid()}"):
        RunCoordinator(stores, "nightly", str(this_process()))
    RunCoordinator(stores, "weekly", str(this_process()))
    run.close()
    RunCoordinator(stores, "nightly", str(this_process()))
