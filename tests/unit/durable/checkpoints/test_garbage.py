"""Garbage collection: what is removed, and what every policy keeps."""

from __future__ import annotations

import fcntl
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.storage.errors import StoreError
from capsule_durable.storage.process_identity import ProcessIdentity, this_process
from capsule_worker.protocol import manifest as mf
from tests.support.catalogues import (
    ENDED,
    Clock,
    checkpoint,
    packs_of,
    publish,
    save,
    write_pack,
)

KEEP_ALL = Retention(count=1000, age=None, size=None)


KEEP_FEW = Retention(count=0, age=None, size=None)


DAY = 86400.0


def test_packs_that_a_running_writer_has_leased_are_left_alone(catalogue: Catalogue, session: str) -> None:
    """Its checkpoint may be older than the newest, where a copy of its worker has taken the worker's place."""
    directory = catalogue.sessions.directory(session)
    save(catalogue, session, 5)
    pack = directory / mf.PACKS / f"00000002-abcdefgh{mf.PACK_SUFFIX}"
    pack.write_bytes(b"being written")
    claim = directory / mf.INCOMING / f"00000002-someid{mf.CLAIM_SUFFIX}"
    with claim.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("00000002-abcdefgh\n00000001-another")
        file.flush()
        catalogue.garbage.collect(session, Retention(count=5, age=None, size=None), 0.0, has_writers=True)
        assert pack.exists()
    catalogue.garbage.collect(session, Retention(count=5, age=None, size=None), 0.0, has_writers=True)
    assert not pack.exists()
    assert not claim.exists()


def test_collecting_removes_only_packs_that_nothing_needs(catalogue: Catalogue, session: str) -> None:
    ids = [save(catalogue, session, number, *older) for number, older in [(1, ()), (2, ()), (3, (1,)), (4, (3,))]]
    collected = catalogue.garbage.collect(session, Retention(count=2, age=None, size=None), 0.0, has_writers=True)
    assert collected.dropped == ids[:2]
    assert (collected.freed, collected.kept) == (100, 300)
    assert packs_of(catalogue, session) == [1, 3, 4]


def test_every_policy_keeps_head_newest_and_named_checkpoints(catalogue: Catalogue, session: str) -> None:
    ids = [save(catalogue, session, number) for number in range(1, 6)]
    catalogue.annotate(ids[0], name="precious")
    catalogue.set_head(session, ids[2])
    policy = Retention(count=0, age=0.0, size=0)
    assert catalogue.garbage.collect(session, policy, 1e12, has_writers=False).dropped == [ids[1], ids[3]]
    assert packs_of(catalogue, session) == [1, 3, 5]


def test_the_head_of_another_session_is_kept(catalogue: Catalogue, session: str) -> None:
    ids = [save(catalogue, session, number) for number in (1, 2)]
    resumed = catalogue.sessions.begin("kernel", "a.ipynb", this_process()).id
    catalogue.set_head(resumed, ids[0])
    assert catalogue.garbage.collect(session, KEEP_FEW, 0.0, has_writers=False).dropped == []
    assert catalogue.garbage.delete(ids) == 0
    catalogue.sessions.end(session)
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []


def test_files_that_a_writer_is_writing_are_left_alone(catalogue: Catalogue, session: str) -> None:
    directory = catalogue.sessions.directory(session)
    save(catalogue, session, 3)
    for number in (2, 4):
        write_pack(directory, number)
    draft = directory / mf.INCOMING / "00000004-x.draft"
    draft.write_bytes(b"half")
    foreign = directory / mf.PACKS / "strange.pack"
    foreign.write_bytes(b"?")
    assert catalogue.garbage.collect(session, KEEP_ALL, 0.0, has_writers=True).freed == 100
    assert draft.exists()
    foreign.unlink()
    assert packs_of(catalogue, session) == [3, 4]
    assert catalogue.garbage.collect(session, KEEP_ALL, 0.0, has_writers=False).freed == 104
    assert not draft.exists()
    assert packs_of(catalogue, session) == [3]


@pytest.mark.parametrize("writing", [False, True])
def test_packs_of_checkpoints_that_are_not_imported_yet_are_needed(
    catalogue: Catalogue, session: str, writing: bool
) -> None:
    save(catalogue, session, 1)
    save(catalogue, session, 2)
    publish(catalogue.sessions.directory(session), checkpoint(session, 3, 1))
    catalogue.garbage.collect(session, KEEP_FEW, 0.0, has_writers=writing)
    assert packs_of(catalogue, session) == [1, 2, 3]


def test_deleting_removes_named_checkpoints_but_not_those_that_a_running_session_needs(
    catalogue: Catalogue, session: str
) -> None:
    ids = [save(catalogue, session, number, name="n") for number in range(1, 5)]
    catalogue.set_head(session, ids[1])
    assert catalogue.garbage.delete([*ids, "nothing"]) == 2
    assert [one.id for one in catalogue.checkpoints()] == [ids[3], ids[1]]
    catalogue.sessions.end(session)
    assert catalogue.garbage.delete([ids[1]]) == 1
    assert catalogue.head(session) == catalogue.find(ids[3])
    assert catalogue.garbage.delete(ids) == 1
    assert catalogue.head(session) is None


def test_expired_sessions_are_removed_with_their_data(catalogue: Catalogue, clock: Clock) -> None:
    def begin(process: ProcessIdentity, **fields) -> str:
        session = catalogue.sessions.begin("k", None, process).id
        save(catalogue, session, 1, **fields)
        return session

    policy = Retention(age=DAY)
    gone, running, named = begin(ENDED), begin(this_process()), begin(ENDED, name="precious")
    ended = begin(this_process())
    catalogue.sessions.end(ended)
    waiting = catalogue.sessions.begin("k", None, ENDED).id
    publish(catalogue.sessions.directory(waiting), checkpoint(waiting, 1, name="not adopted"))
    assert catalogue.garbage.remove_sessions(policy, clock.now + DAY) == []
    assert catalogue.garbage.remove_sessions(Retention(age=None), 1e12) == []
    recent = begin(ENDED, time=clock.now + 2 * DAY)
    assert sorted(catalogue.garbage.remove_sessions(policy, clock.now + DAY + 10)) == sorted([gone, ended])
    assert {row.id for row in catalogue.sessions.all()} == {running, named, waiting, recent}
    assert [catalogue.sessions.directory(one).exists() for one in (gone, ended, running, named)] == [
        False,
        False,
        True,
        True,
    ]
    assert {one.session for one in catalogue.checkpoints()} == {running, named, waiting, recent}


def test_an_interrupted_removal_of_a_session_is_finished_by_the_next_one(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = catalogue.sessions.begin("k", None, ENDED).id
    save(catalogue, session, 1)

    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("capsule_durable.checkpoints.garbage.shutil.rmtree", fail)
        with pytest.raises(StoreError, match=session):
            catalogue.garbage.remove_sessions(Retention(age=DAY), 1e12)
    assert catalogue.garbage.remove_sessions(Retention(age=DAY), 1e12) == [session]
    assert not catalogue.sessions.directory(session).exists()
    assert catalogue.sessions.all() == []


HISTORY = st.lists(
    st.tuples(st.sets(st.integers(1, 12)), st.sampled_from([None, None, "name"]), st.sampled_from([True, True, False])),
    min_size=1,
    max_size=8,
)


POLICIES = st.builds(
    Retention, count=st.integers(0, 8), age=st.none() | st.floats(0, 10), size=st.none() | st.integers(0, 900)
)


@settings(max_examples=40, deadline=None)
@given(HISTORY, POLICIES, st.booleans(), st.sets(st.integers(1, 12)))
def test_collecting_never_removes_what_a_kept_checkpoint_needs(
    history: list, policy: Retention, writing: bool, orphans: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory, Catalogue(Path(directory)) as catalogue:
        session = catalogue.sessions.begin("k", None, this_process()).id
        waiting = list(itertools.takewhile(lambda one: not one[1][2], reversed(list(enumerate(history, 1)))))
        last = len(history) - len(waiting)
        needed = {}
        for number, (older, name, _) in enumerate(history, 1):
            manifest = checkpoint(session, number, *sorted(one for one in older if one < number), name=name)
            publish(catalogue.sessions.directory(session), manifest)
            needed[number] = {int(pack[:8]) for pack in manifest.packs}
            if number == last:
                catalogue.incoming.import_session(session)
        for number in orphans:
            write_pack(catalogue.sessions.directory(session), number)
        before = set(packs_of(catalogue, session))
        collected = catalogue.garbage.collect(session, policy, 1_000_000.0 + len(history), has_writers=writing)
        catalogue.incoming.import_session(session)
        after = set(packs_of(catalogue, session))
        kept = [entry.number for entry in catalogue.checkpoints()]
        wanted = set().union(*(needed[number] for number in kept))
        assert wanted <= after <= before
        assert after - wanted == ({one for one in before - wanted if one > last} if writing else set())
        assert collected.kept == 100 * len(after)
        assert collected.freed == 100 * len(before - after)
        assert set(kept) >= {number for number, (_, name, _) in enumerate(history, 1) if name or number >= last > 0}
