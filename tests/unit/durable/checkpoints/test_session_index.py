"""Sessions: their order, and which of them run, may be recovered or collected."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from capsule_durable.checkpoints import removal, session_locks
from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import UnknownSession
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.checkpoints.session_locks import SESSION_LOCK
from capsule_durable.storage.process_identity import ProcessIdentity, this_process
from capsule_worker.protocol import manifest as mf
from tests.support.catalogues import (
    ELSEWHERE,
    ENDED,
    OTHER_MACHINE,
    Clock,
    packs_of,
    save,
    write_pack,
    writer,
)

KEEP_FEW = Retention(count=0, age=None, size=None)


def test_session_ids_sort_by_time_and_sessions_have_directories(catalogue: Catalogue, clock: Clock) -> None:
    ids = []
    for _ in range(50):
        clock.now += 0.7
        ids.append(catalogue.sessions.begin("k", None, this_process()).id)
    assert ids == sorted(set(ids))
    assert [row.id for row in catalogue.sessions.all()] == ids[::-1]
    assert all((catalogue.sessions.directory(one) / part).is_dir() for one in ids for part in (mf.PACKS, mf.INCOMING))


def test_a_session_ends_once(catalogue: Catalogue, session: str, clock: Clock) -> None:
    clock.now += 5
    catalogue.sessions.end(session)
    clock.now += 5
    catalogue.sessions.end(session)
    (row,) = catalogue.sessions.all()
    assert row.ended == row.started + 5


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".", "UPPER"])
def test_a_text_that_cannot_be_a_session_id_has_no_directory(catalogue: Catalogue, name: str) -> None:
    with pytest.raises(UnknownSession):
        catalogue.sessions.directory(name)


def test_the_previous_session_is_the_notebooks_latest_with_checkpoints(catalogue: Catalogue, clock: Clock) -> None:
    def begin(kernel: str, notebook: str | None, saved: int) -> str:
        clock.now += 1
        session = catalogue.sessions.begin(kernel, notebook, this_process()).id
        for number in range(1, saved + 1):
            save(catalogue, session, number)
        return session

    first = begin("k1", "a", 2)
    other = begin("k2", "b", 1)
    empty = begin("k3", "a", 0)
    last = begin("k1", "a", 0)
    unknown = begin("k2", None, 1)
    found = {one: catalogue.sessions.previous(one) for one in (first, other, empty, last, unknown)}
    assert {one: row and row.id for one, row in found.items()} == {
        first: None,
        other: None,
        empty: first,
        last: first,
        unknown: other,
    }
    assert found[last] is not None
    assert found[last].checkpoints == 2


@pytest.fixture
def other(tmp_path: Path, clock: Clock) -> Iterator[Catalogue]:
    """The same catalogue, in another process as far as locks are concerned."""
    with Catalogue(tmp_path / "home", clock) as other:
        yield other


def leave_draft(catalogue: Catalogue, session: str) -> Path:
    """Leave what a writer leaves that is killed, or still at work, and return the draft."""
    directory = catalogue.sessions.directory(session)
    write_pack(directory, 9)
    draft = directory / mf.INCOMING / f"00000009-x{mf.DRAFT_SUFFIX}"
    draft.write_bytes(b"half")
    return draft


@pytest.mark.parametrize("process", [this_process(), ELSEWHERE, OTHER_MACHINE], ids=["here", "container", "machine"])
def test_a_running_session_is_left_alone_wherever_it_runs(
    catalogue: Catalogue, other: Catalogue, clock: Clock, process: ProcessIdentity
) -> None:
    session = other.sessions.begin("k", "a.ipynb", process)
    identity = save(other, session.id, 1)
    draft = leave_draft(other, session.id)
    clock.now += 1
    assert catalogue.sessions.killed(catalogue.sessions.begin("k", "a.ipynb", this_process()).id) is None
    assert catalogue.sessions.is_running(session)
    assert removal.collect_all(catalogue, KEEP_FEW, time.time()).freed == 0
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []
    assert catalogue.garbage.in_use() == {identity}
    assert catalogue.garbage.delete([identity]) == 0
    # It says that it ends, and is not done yet.
    other.sessions.end(session.id)
    assert removal.collect_all(catalogue, KEEP_FEW, time.time()).freed == 0
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []
    assert draft.exists()
    assert packs_of(catalogue, session.id) == [1, 9]


@pytest.mark.parametrize("process", [ELSEWHERE, OTHER_MACHINE], ids=["container", "machine"])
def test_a_session_in_another_place_has_ended_when_its_locks_are_free(
    catalogue: Catalogue, other: Catalogue, clock: Clock, process: ProcessIdentity
) -> None:
    session = other.sessions.begin("k", "a.ipynb", process)
    identity = save(other, session.id, 1)
    draft = leave_draft(other, session.id)
    clock.now += 1
    other.close()
    with writer(catalogue.sessions.directory(session.id)):
        # Its last writer may write on.
        assert removal.collect_all(catalogue, KEEP_FEW, time.time()).freed == 0
        assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []
        with catalogue.sessions.access(session) as access:
            assert not access.allows("recover")
        assert draft.exists()
    assert not catalogue.sessions.is_running(session)
    assert catalogue.garbage.in_use() == set()
    killed = catalogue.sessions.killed(catalogue.sessions.begin("k", "a.ipynb", this_process()).id)
    assert killed is not None
    assert killed.id == session.id
    with catalogue.sessions.access(session) as access:
        assert access.allows("recover")
    assert removal.collect_all(catalogue, KEEP_FEW, time.time()).freed == 104
    assert not draft.exists()
    assert catalogue.garbage.delete([identity]) == 1
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == [session.id]


def test_the_writers_of_a_front_that_has_ended_are_left_alone(catalogue: Catalogue, clock: Clock) -> None:
    session = catalogue.sessions.begin("k", "a.ipynb", ENDED)
    save(catalogue, session.id, 1)
    draft = leave_draft(catalogue, session.id)
    write_pack(catalogue.sessions.directory(session.id), 0)
    with writer(catalogue.sessions.directory(session.id)):
        assert removal.collect_all(catalogue, KEEP_FEW, time.time()).freed == 100
        assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []
        assert draft.exists()
        assert packs_of(catalogue, session.id) == [1, 9]
    assert removal.collect_all(catalogue, KEEP_FEW, time.time()).freed == 104
    assert not draft.exists()


def test_a_kernel_whose_pid_was_reused_was_killed(catalogue: Catalogue, clock: Clock) -> None:
    me = this_process()
    session = catalogue.sessions.begin("k", None, replace(me, start=me.start + 1))
    clock.now += 1
    killed = catalogue.sessions.killed(catalogue.sessions.begin("k", None, me).id)
    assert killed is not None
    assert killed.id == session.id


def test_a_session_in_another_place_without_lock_file_is_left_alone(catalogue: Catalogue, other: Catalogue) -> None:
    session = other.sessions.begin("k", None, ELSEWHERE)
    draft = leave_draft(other, session.id)
    (other.sessions.directory(session.id) / SESSION_LOCK).unlink()
    assert removal.collect_all(catalogue, KEEP_FEW, time.time()).freed == 0
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []
    assert draft.exists()


def test_a_session_is_locked_before_other_processes_can_see_it(
    catalogue: Catalogue, other: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    hold = session_locks.hold

    def look(directory: Path) -> int:
        seen.append(other.sessions.all())
        return hold(directory)

    monkeypatch.setattr(session_locks, "hold", look)
    catalogue.sessions.begin("k", None, ELSEWHERE)
    assert seen == [[]]


def test_no_process_recovers_a_session_while_another_collects_it(catalogue: Catalogue, other: Catalogue) -> None:
    session = other.sessions.begin("k", None, ELSEWHERE)
    (other.sessions.directory(session.id) / mf.LOCK).touch()
    other.close()
    with Catalogue(catalogue.sessions.directory(session.id).parents[1]) as third:
        with catalogue.sessions.access(session) as first, third.sessions.access(session) as second:
            assert first.allows("collect")
            assert not second.allows("recover")
        with third.sessions.access(session) as second:
            assert second.allows("recover")
