"""Which cells the history keeps, and which it forgets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from capsule_durable.history import cells as module
from capsule_durable.history.cells import LARGE, CellRecord, CellStore, bounded, merged
from capsule_durable.history.schema import SCHEMA
from capsule_durable.storage.sqlite import Database
from capsule_worker.protocol import messages as m


@pytest.fixture
def cells(tmp_path: Path) -> Iterator[CellStore]:
    database = Database(tmp_path / "history.sqlite3", SCHEMA)
    yield CellStore(database)
    database.close()


def out(text: str, name: str = "stdout") -> m.StreamOutput:
    return m.StreamOutput(name=name, text=text)


def result(execution_id: str, number: int = 1) -> m.ResultMessage:
    return m.ResultMessage(
        execution_id=execution_id,
        status="ok",
        execution_count=number,
        next_execution_count=number + 1,
        execution_time=0.5,
    )


def cell(execution_id: str, ended: float = 2.0, text: str = "shown", session: str = "s") -> CellRecord:
    return CellRecord(execution_id, session, 1, "code", 1.0, ended, "ok", result(execution_id), [out(text)])


def test_a_cell_is_kept_as_it_was(cells: CellStore) -> None:
    display = m.DisplayOutput(data={"text/html": "<b>é</b>"}, metadata={"a": {"b": 1}}, transient={"display_id": "d"})
    error = m.ErrorOutput(ename="E", evalue="v", traceback=["t"])
    outputs = [out("x"), display, m.ClearOutput(), error]
    kept = CellRecord("e1", "s", 3, "a = 'é'", 1.5, 2.5, "error", None, outputs, cell_id="c1")
    cells.add(kept)
    assert cells.cell("e1") == kept
    assert cells.cell("e2") is None
    assert cells.of_session("s") == cells.of_session("s", 3) == [kept]
    assert cells.of_session("s", 4) == cells.of_session("t") == []


def large(letter: str) -> m.DisplayOutput:
    return m.DisplayOutput(data={"image/png": letter * LARGE}, metadata={})


def files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())


def test_a_large_output_is_in_a_file_of_its_own_and_there_once(cells: CellStore, tmp_path: Path) -> None:
    shown = [large("a"), out("x"), large("b"), large("a")]
    first, second = (replace(cell(name), outputs=shown) for name in ("e1", "e2"))
    cells.add(first)
    cells.add(second)
    cells.add(second)
    assert (cells.cell("e1"), cells.cell("e2")) == (first, second)
    found = files(tmp_path)
    assert len(found) == 2
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    assert (tmp_path / "history.sqlite3").stat().st_size < LARGE * 4


def test_a_file_goes_with_the_last_cell_that_refers_to_it(cells: CellStore, tmp_path: Path) -> None:
    cells.add(replace(cell("e1", ended=1.0), outputs=[large("a"), large("b")]))
    cells.add(replace(cell("e2", ended=9.0), outputs=[large("b")]))
    cells.forget(5.0, 1 << 30)
    assert len(files(tmp_path)) == 2, "one may be about to be referred to"
    for path in files(tmp_path):
        os.utime(path, (1, 1))
    cells.forget(5.0, 1 << 30)
    assert len(files(tmp_path)) == 1
    assert cells.of_session("s")[0].outputs == [large("b")]


def test_large_outputs_count_as_what_they_are(cells: CellStore) -> None:
    for number in range(4):
        cells.add(replace(cell(f"e{number}"), outputs=[large(str(number))]))
    assert cells.forget(0.0, int(2.5 * LARGE)) == 2
    assert [one.execution_id for one in cells.of_session("s")] == ["e2", "e3"]


@pytest.mark.parametrize("damage", [b"", b"damaged", None])
def test_a_file_that_is_lost_costs_its_output_only(cells: CellStore, tmp_path: Path, damage: bytes | None) -> None:
    cells.add(replace(cell("e1"), outputs=[out("x"), large("a")]))
    (path,) = files(tmp_path)
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    found = cells.cell("e1")
    assert found is not None
    text, lost = found.outputs
    assert text == out("x")
    assert isinstance(lost, m.StreamOutput)
    assert path.name in lost.text


def test_texts_that_follow_each_other_are_one() -> None:
    display = m.DisplayOutput(data={"text/plain": "d"})
    outputs = [out("a"), out("b"), out("c", "stderr"), out("d"), display, out("e"), out("f"), display]
    expected = [out("ab"), out("c", "stderr"), out("d"), display, out("ef"), display]
    assert merged(outputs) == expected
    assert merged([]) == []
    assert merged([display]) == [display]


def test_outputs_are_bounded_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OUTPUT", 1000)
    display = m.DisplayOutput(data={"text/plain": "d" * 400})
    kept = bounded([display] * 5)
    assert kept[:2] == [display, display]
    assert "more output was not kept" in kept[2].text
    assert len(kept) == 3


def test_old_cells_are_forgotten_and_large_ones_make_room(cells: CellStore) -> None:
    for number in range(6):
        cells.add(cell(f"e{number}", ended=float(number)))
    assert cells.forget(before=3.0, most=10**6) == 3
    assert [one.execution_id for one in cells.of_session("s")] == ["e3", "e4", "e5"]
    assert cells.forget(before=3.0, most=1) == 3
    assert cells.of_session("s") == []
