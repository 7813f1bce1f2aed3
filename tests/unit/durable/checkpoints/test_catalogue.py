"""The catalogue of checkpoints: what it takes over, finds, keeps and removes, alone and beside other processes."""

from __future__ import annotations

import fcntl
import itertools
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule_durable.checkpoints import commands, session_locks
from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import UnknownCheckpoint, UnknownSession
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.checkpoints.schema import SCHEMA
from capsule_durable.checkpoints.session_locks import SESSION_LOCK
from capsule_durable.config.paths import home
from capsule_durable.storage import sqlite
from capsule_durable.storage.errors import StoreBusy, StoreError, StoreUnreleased
from capsule_durable.storage.process_identity import ProcessIdentity, this_process
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.manifest import Manifest
from tests.support import ROOT
from tests.support.catalogues import (
    ELSEWHERE,
    ENDED,
    OTHER_MACHINE,
    Clock,
    checkpoint,
    incoming_of,
    pack_name,
    packs_of,
    publish,
    save,
    write_pack,
    writer,
)

KEEP_ALL = Retention(count=1000, age=None, size=None)
KEEP_FEW = Retention(count=0, age=None, size=None)
DAY = 86400.0
#: What catalogues of each version looked like.
OLD = Path(__file__).with_name("catalogues")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalogue(tmp_path: Path, clock: Clock) -> Iterator[Catalogue]:
    with Catalogue(tmp_path / "home", clock) as catalogue:
        yield catalogue


@pytest.fixture
def session(catalogue: Catalogue) -> str:
    return catalogue.sessions.begin("kernel", "a.ipynb", this_process()).id


# -- home ----------------------------------------------------------------------------------------------------


def test_the_home_is_where_the_variable_says_or_where_the_platform_keeps_data(tmp_path: Path) -> None:
    assert home({"CAPSULE_HOME": str(tmp_path)}) == tmp_path
    assert home({}) == home({"CAPSULE_HOME": ""})
    assert home({}).name == "capsule"
    assert home({"CAPSULE_HOME": "here"}).is_absolute()


def test_only_the_owner_can_read_what_is_kept(catalogue: Catalogue, session: str, tmp_path: Path) -> None:
    save(catalogue, session, 1)
    root = tmp_path / "home"
    directories = [root, *(path for path in root.rglob("*") if path.is_dir())]
    files = list(root.glob("catalogue.sqlite3*"))
    assert {path.name for path in files} >= {"catalogue.sqlite3", "catalogue.sqlite3-wal"}
    assert {path.stat().st_mode & 0o777 for path in directories} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


# -- sessions ------------------------------------------------------------------------------------------------


def test_a_session_has_an_id_that_sorts_by_time_and_directories(catalogue: Catalogue, clock: Clock) -> None:
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
def test_what_cannot_be_a_session_has_no_directory(catalogue: Catalogue, name: str) -> None:
    with pytest.raises(UnknownSession):
        catalogue.sessions.directory(name)


def test_the_previous_session_is_the_latest_of_the_notebook_that_has_checkpoints(
    catalogue: Catalogue, clock: Clock
) -> None:
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


# -- adopting ------------------------------------------------------------------------------------------------


def test_manifests_are_taken_in_order_and_their_files_go(catalogue: Catalogue, session: str) -> None:
    manifests = [checkpoint(session, number) for number in (3, 1, 2)]
    for manifest in manifests:
        publish(catalogue.sessions.directory(session), manifest)
    assert [one.number for one in catalogue.incoming.import_session(session)] == [1, 2, 3]
    assert incoming_of(catalogue, session) == []
    assert catalogue.incoming.import_session(session) == []
    assert catalogue.manifest(manifests[0].id) == manifests[0]
    (entry, *_) = catalogue.checkpoints()
    assert (entry.number, entry.head, entry.variables, entry.unsaved, entry.notebook) == (3, True, 2, 1, "a.ipynb")
    assert [one.head for one in catalogue.checkpoints()] == [True, False, False]
    assert catalogue.head(session) == catalogue.newest(session) == entry


def test_a_crash_between_row_and_file_does_no_harm(catalogue: Catalogue, session: str) -> None:
    first = save(catalogue, session, 1)
    second = save(catalogue, session, 2)
    catalogue.set_head(session, first)
    path = publish(catalogue.sessions.directory(session), checkpoint(session, 2))
    assert catalogue.incoming.import_session(session) == []
    assert not path.exists()
    assert [entry.id for entry in catalogue.checkpoints()] == [second, first]
    assert catalogue.head(session) == catalogue.find(first)


def test_a_crash_before_the_row_leaves_the_file_for_the_next_process(tmp_path: Path) -> None:
    class Crash(BaseException):
        pass

    with Catalogue(tmp_path) as catalogue:
        session = catalogue.sessions.begin("k", None, this_process()).id
        path = publish(catalogue.sessions.directory(session), checkpoint(session, 1))
        with pytest.raises(Crash), catalogue._database.writing() as connection:
            connection.execute("UPDATE sessions SET head = 'nonsense'")
            raise Crash
        assert path.exists()
    with Catalogue(tmp_path) as catalogue:
        assert catalogue.head(session) is None
        assert [one.number for one in catalogue.incoming.import_session(session)] == [1]


def test_one_that_another_process_took_and_dropped_meanwhile_does_not_come_back(
    catalogue: Catalogue, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = checkpoint(session, 1)
    path = publish(catalogue.sessions.directory(session), manifest)
    load = mf.load

    def load_slowly(data: bytes) -> Manifest:
        path.unlink()
        return load(data)

    monkeypatch.setattr(mf, "load", load_slowly)
    assert catalogue.incoming.import_session(session) == []
    assert catalogue.checkpoints() == []


def test_what_cannot_be_read_is_set_aside_and_the_rest_is_taken(
    catalogue: Catalogue, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = catalogue.sessions.directory(session)
    torn = publish(directory, checkpoint(session, 1))
    torn.write_bytes(torn.read_bytes()[:-20])
    strange = publish(directory, checkpoint("another", 2))
    publish(directory, checkpoint(session, 3))
    for number in (2, 4):
        (directory / mf.INCOMING / f"{number:08d}-x.draft").write_bytes(b"half")
    assert [one.number for one in catalogue.incoming.import_session(session)] == [3]
    assert incoming_of(catalogue, session) == sorted(
        [f"{torn.name}.damaged", f"{strange.name}.damaged", "00000002-x.draft.damaged", "00000004-x.draft"]
    )
    assert all(name in caplog.text for name in (torn.name, strange.name, "00000002-x.draft"))


def test_a_session_that_is_not_there_adopts_nothing(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownSession, match="nowhere"):
        catalogue.incoming.import_session("nowhere")


# -- finding -------------------------------------------------------------------------------------------------


@pytest.fixture
def library(catalogue: Catalogue, session: str, clock: Clock) -> dict[str, str]:
    """Two sessions with checkpoints, some with names."""
    clock.now += 1
    later = catalogue.sessions.begin("kernel", "b.ipynb", this_process()).id
    return {
        "early": save(catalogue, session, 1, id="abcd1111", name="Model", description="the first", tags=["good", "Ä"]),
        "named": save(catalogue, session, 2, id="abcd2222", name="Model"),
        "plain": save(catalogue, session, 3, id="ffff3333", time=1_000_010.0),
        "elsewhere": save(catalogue, later, 2, id="abcd4444", name="Model", description="50% of it"),
        "alone": save(catalogue, later, 9, id="12345678", time=1_000_020.0),
        "ours": session,
        "later": later,
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["alone", "plain", "elsewhere", "named", "early"]),
        ("MODEL", ["elsewhere", "named", "early"]),
        ("first model", ["early"]),
        ("ä", ["early"]),
        ("%", ["elsewhere"]),
        ("3333", ["plain"]),
        ("model nothing", []),
    ],
)
def test_a_query_finds_what_has_all_its_words(
    catalogue: Catalogue, library: dict[str, str], query: str, found: list[str]
) -> None:
    entries = catalogue.checkpoints(query)
    assert sorted(entry.id for entry in entries) == sorted(library[one] for one in found)
    assert [entry.time for entry in entries] == sorted((entry.time for entry in entries), reverse=True)


def test_a_list_may_be_of_one_session_and_short(catalogue: Catalogue, library: dict[str, str]) -> None:
    assert [one.number for one in catalogue.checkpoints(session=library["ours"], limit=2)] == [3, 2]
    assert [one.number for one in catalogue.checkpoints("model", limit=1)] == [2]


@pytest.mark.parametrize(
    ("reference", "where", "found"),
    [
        ("Model", "ours", "named"),
        ("Model", "later", "elsewhere"),
        ("1", "ours", "early"),
        ("#3", "ours", "plain"),
        ("#9", None, "alone"),
        ("1234", "ours", "alone"),
        ("abcd2", "ours", "named"),
        ("abcd", "later", "elsewhere"),
        (" ffff3333 ", None, "plain"),
    ],
)
def test_a_reference_is_a_name_a_number_or_the_beginning_of_an_id(
    catalogue: Catalogue, library: dict[str, str], reference: str, where: str | None, found: str
) -> None:
    assert catalogue.find(reference, where and library[where]).id == library[found]


@pytest.mark.parametrize(
    ("reference", "where", "message"),
    [
        ("model", "ours", "no checkpoint 'model'; the closest: Model"),
        ("abc", "ours", "no checkpoint"),
        ("#7", "ours", "no checkpoint"),
        ("abcd", "ours", "begins the ids of 2"),
        ("#2", None, "the number of 2"),
        ("", None, "name a checkpoint"),
    ],
)
def test_a_reference_that_stands_for_nothing_or_too_much_is_refused(
    catalogue: Catalogue, library: dict[str, str], reference: str, where: str | None, message: str
) -> None:
    with pytest.raises(UnknownCheckpoint, match=message):
        catalogue.find(reference, where and library[where])


def test_where_there_are_no_checkpoints_that_is_said(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownCheckpoint, match="no checkpoints yet"):
        catalogue.find("x")


def test_packs_that_a_living_writer_has_claimed_are_left_alone(catalogue: Catalogue, session: str) -> None:
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


def test_annotations_change_what_is_given_and_show_everywhere(catalogue: Catalogue, session: str) -> None:
    identity = save(catalogue, session, 1, description="old", tags=["x"])
    catalogue.annotate(identity, name="best", tags=["y", "z"])
    manifest, entry = catalogue.manifest(identity), catalogue.find("best")
    assert (manifest.name, manifest.description, manifest.tags) == ("best", "old", ["y", "z"])
    assert (entry.name, entry.description, entry.tags) == ("best", "old", ["y", "z"])
    catalogue.annotate(identity, name="", description="")
    assert (catalogue.manifest(identity).name, catalogue.manifest(identity).description) == (None, "")


@pytest.mark.parametrize("method", ["annotate", "manifest"])
def test_an_id_that_is_not_there_is_refused(catalogue: Catalogue, session: str, method: str) -> None:
    with pytest.raises(UnknownCheckpoint, match="nothing"):
        getattr(catalogue, method)("nothing")
    with pytest.raises(UnknownCheckpoint, match="nothing"):
        catalogue.set_head(session, "nothing")


# -- collecting ----------------------------------------------------------------------------------------------


def test_collecting_removes_only_packs_that_nothing_needs(catalogue: Catalogue, session: str) -> None:
    ids = [save(catalogue, session, number, *older) for number, older in [(1, ()), (2, ()), (3, (1,)), (4, (3,))]]
    collected = catalogue.garbage.collect(session, Retention(count=2, age=None, size=None), 0.0, has_writers=True)
    assert collected.dropped == ids[:2]
    assert (collected.freed, collected.kept) == (100, 300)
    assert packs_of(catalogue, session) == [1, 3, 4]


def test_head_newest_and_named_checkpoints_are_kept_by_every_policy(catalogue: Catalogue, session: str) -> None:
    ids = [save(catalogue, session, number) for number in range(1, 6)]
    catalogue.annotate(ids[0], name="precious")
    catalogue.set_head(session, ids[2])
    policy = Retention(count=0, age=0.0, size=0)
    assert catalogue.garbage.collect(session, policy, 1e12, has_writers=False).dropped == [ids[1], ids[3]]
    assert packs_of(catalogue, session) == [1, 3, 5]


def test_a_checkpoint_at_which_another_session_stands_is_kept(catalogue: Catalogue, session: str) -> None:
    ids = [save(catalogue, session, number) for number in (1, 2)]
    resumed = catalogue.sessions.begin("kernel", "a.ipynb", this_process()).id
    catalogue.set_head(resumed, ids[0])
    assert catalogue.garbage.collect(session, KEEP_FEW, 0.0, has_writers=False).dropped == []
    assert catalogue.garbage.delete(ids) == 0
    catalogue.sessions.end(session)
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []


def test_what_a_writer_is_writing_is_left_alone(catalogue: Catalogue, session: str) -> None:
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
def test_what_waits_to_be_adopted_is_needed(catalogue: Catalogue, session: str, writing: bool) -> None:
    save(catalogue, session, 1)
    save(catalogue, session, 2)
    publish(catalogue.sessions.directory(session), checkpoint(session, 3, 1))
    catalogue.garbage.collect(session, KEEP_FEW, 0.0, has_writers=writing)
    assert packs_of(catalogue, session) == [1, 2, 3]


def test_forgetting_drops_named_ones_but_not_what_a_running_session_needs(catalogue: Catalogue, session: str) -> None:
    ids = [save(catalogue, session, number, name="n") for number in range(1, 5)]
    catalogue.set_head(session, ids[1])
    assert catalogue.garbage.delete([*ids, "nothing"]) == 2
    assert [one.id for one in catalogue.checkpoints()] == [ids[3], ids[1]]
    catalogue.sessions.end(session)
    assert catalogue.garbage.delete([ids[1]]) == 1
    assert catalogue.head(session) == catalogue.find(ids[3])
    assert catalogue.garbage.delete(ids) == 1
    assert catalogue.head(session) is None


def test_sessions_that_nobody_needs_are_removed_with_their_data(catalogue: Catalogue, clock: Clock) -> None:
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


def test_a_removal_that_was_cut_short_is_finished_the_next_time(
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
def test_a_collection_never_removes_what_a_kept_checkpoint_needs(
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


# -- whose data it is ----------------------------------------------------------------------------------------


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
def test_a_session_that_runs_is_left_alone_wherever_it_runs(
    catalogue: Catalogue, other: Catalogue, clock: Clock, process: ProcessIdentity
) -> None:
    session = other.sessions.begin("k", "a.ipynb", process)
    identity = save(other, session.id, 1)
    draft = leave_draft(other, session.id)
    clock.now += 1
    assert catalogue.sessions.killed(catalogue.sessions.begin("k", "a.ipynb", this_process()).id) is None
    assert catalogue.sessions.is_running(session)
    assert commands.collecting(catalogue, KEEP_FEW).data["freed"] == 0
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []
    assert catalogue.garbage.in_use() == {identity}
    assert catalogue.garbage.delete([identity]) == 0
    # It says that it ends, and is not done yet.
    other.sessions.end(session.id)
    assert commands.collecting(catalogue, KEEP_FEW).data["freed"] == 0
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []
    assert draft.exists()
    assert packs_of(catalogue, session.id) == [1, 9]


@pytest.mark.parametrize("process", [ELSEWHERE, OTHER_MACHINE], ids=["container", "machine"])
def test_a_session_elsewhere_has_ended_when_its_locks_are_free(
    catalogue: Catalogue, other: Catalogue, clock: Clock, process: ProcessIdentity
) -> None:
    session = other.sessions.begin("k", "a.ipynb", process)
    identity = save(other, session.id, 1)
    draft = leave_draft(other, session.id)
    clock.now += 1
    other.close()
    with writer(catalogue.sessions.directory(session.id)):
        # Its last writer may write on.
        assert commands.collecting(catalogue, KEEP_FEW).data["freed"] == 0
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
    assert commands.collecting(catalogue, KEEP_FEW).data["freed"] == 104
    assert not draft.exists()
    assert catalogue.garbage.delete([identity]) == 1
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == [session.id]


def test_a_session_whose_process_has_ended_needs_no_lock_but_its_writers_are_left_alone(
    catalogue: Catalogue, clock: Clock
) -> None:
    session = catalogue.sessions.begin("k", "a.ipynb", ENDED)
    save(catalogue, session.id, 1)
    draft = leave_draft(catalogue, session.id)
    write_pack(catalogue.sessions.directory(session.id), 0)
    with writer(catalogue.sessions.directory(session.id)):
        assert commands.collecting(catalogue, KEEP_FEW).data["freed"] == 100
        assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []
        assert draft.exists()
        assert packs_of(catalogue, session.id) == [1, 9]
    assert commands.collecting(catalogue, KEEP_FEW).data["freed"] == 104
    assert not draft.exists()


def test_a_kernel_whose_pid_was_reused_was_killed(catalogue: Catalogue, clock: Clock) -> None:
    me = this_process()
    session = catalogue.sessions.begin("k", None, replace(me, start=me.start + 1))
    clock.now += 1
    killed = catalogue.sessions.killed(catalogue.sessions.begin("k", None, me).id)
    assert killed is not None
    assert killed.id == session.id


def test_a_session_elsewhere_whose_lock_is_gone_is_left_alone(catalogue: Catalogue, other: Catalogue) -> None:
    session = other.sessions.begin("k", None, ELSEWHERE)
    draft = leave_draft(other, session.id)
    (other.sessions.directory(session.id) / SESSION_LOCK).unlink()
    assert commands.collecting(catalogue, KEEP_FEW).data["freed"] == 0
    assert catalogue.garbage.remove_sessions(Retention(age=0.0), 1e12) == []
    assert draft.exists()


def test_a_session_is_locked_before_others_can_see_it(
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


def test_what_another_process_collects_is_recovered_by_none_meanwhile(catalogue: Catalogue, other: Catalogue) -> None:
    session = other.sessions.begin("k", None, ELSEWHERE)
    (other.sessions.directory(session.id) / mf.LOCK).touch()
    other.close()
    with Catalogue(catalogue.sessions.directory(session.id).parents[1]) as third:
        with catalogue.sessions.access(session) as first, third.sessions.access(session) as second:
            assert first.allows("collect")
            assert not second.allows("recover")
        with third.sessions.access(session) as second:
            assert second.allows("recover")


# -- trouble -------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreError, match=r"catalogue\.sqlite3 is damaged .* move it away"):
        Catalogue(tmp_path)
    assert path.read_bytes() == b"no database at all" * 1000


def test_damage_that_is_met_later_is_named_as_well(tmp_path: Path) -> None:
    with Catalogue(tmp_path) as catalogue:
        session = catalogue.sessions.begin("k", None, this_process()).id
        for number in range(1, 30):
            save(catalogue, session, number, code="x" * 3000)
    path = tmp_path / "catalogue.sqlite3"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with Catalogue(tmp_path) as catalogue, pytest.raises(StoreError, match="is damaged"):
        catalogue.checkpoints()


def test_a_manifest_that_is_damaged_in_the_catalogue_is_named(catalogue: Catalogue, session: str) -> None:
    identity = save(catalogue, session, 1)
    with catalogue._database.writing() as connection:
        connection.execute("UPDATE checkpoints SET manifest = x'00'")
    with pytest.raises(StoreError, match=f"{identity} is damaged"):
        catalogue.manifest(identity)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (f"PRAGMA application_id = {SCHEMA.application_id}; PRAGMA user_version = 99", "newer version"),
        ("CREATE TABLE sessions (theirs)", "belongs to another program"),
        ("PRAGMA application_id = 7", "belongs to another program"),
    ],
)
def test_a_file_that_is_newer_or_not_ours_is_not_touched(tmp_path: Path, statement: str, message: str) -> None:
    path = tmp_path / "catalogue.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(statement)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        Catalogue(tmp_path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["catalogue.sqlite3"]


def made_by(version: str, directory: Path) -> bytes:
    """Make a catalogue as a version left it, and return its content."""
    path = directory / "catalogue.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript((OLD / f"{version}.sql").read_text(encoding="utf-8"))
    connection.close()
    return path.read_bytes()


@pytest.mark.parametrize("number", [1, 2])
def test_a_catalogue_of_an_unreleased_version_is_refused_and_left_as_it_is(tmp_path: Path, number: int) -> None:
    before = made_by(f"unreleased_{number}", tmp_path)
    refusal = r"catalogue\.sqlite3 was made by an unreleased version; move it away or set CAPSULE_HOME"
    with pytest.raises(StoreUnreleased, match=refusal):
        Catalogue(tmp_path)
    assert (tmp_path / "catalogue.sqlite3").read_bytes() == before


def test_what_this_version_listed_is_listed(tmp_path: Path) -> None:
    made_by(f"version_{SCHEMA.version}", tmp_path)
    with Catalogue(tmp_path) as catalogue:
        (session,) = catalogue.sessions.all()
        assert [(one.number, one.name, one.code) for one in catalogue.checkpoints()] == [
            (2, None, "b = 2"),
            (1, "first", "a = 1"),
        ]
        assert catalogue.manifest(catalogue.find("first").id).packs == {pack_name(1)}
        assert catalogue.head(session.id) == catalogue.newest(session.id)
        catalogue.annotate(catalogue.find("2").id, name="second")
        assert catalogue.find("second").number == 2


def test_there_is_an_old_file_of_every_version() -> None:
    released = [f"version_{number + 1}" for number in range(SCHEMA.version)]
    assert [old.stem for old in sorted(OLD.glob("version_*"))] == released


def test_what_is_listed_survives_a_loss_of_power_and_sqlite_keeps_the_log_short(catalogue: Catalogue) -> None:
    with catalogue._database.using() as connection:
        asked = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "wal_autocheckpoint")]
    assert asked == [2, 1000]


def test_whoever_has_the_home_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "TIMEOUT", 0.05)
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(StoreBusy, match=r"another process holds .*catalogue\.sqlite3 .* try again"):
        Catalogue(tmp_path)
    os.close(directory)
    Catalogue(tmp_path).close()


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "catalogue.sqlite3").mkdir()
    with pytest.raises(StoreError, match=r"catalogue\.sqlite3 cannot be written"):
        Catalogue(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot use .*file"):
        Catalogue(tmp_path / "file")


def test_a_catalogue_that_is_read_only_can_be_read_and_says_that_it_cannot_be_written(
    catalogue: Catalogue, session: str
) -> None:
    identity = save(catalogue, session, 1)
    with catalogue._database.using() as connection:
        connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match=r"cannot be written .* permissions"):
        catalogue.annotate(identity, name="x")
    assert catalogue.find(identity).name is None


def test_a_full_disk_is_said_and_costs_nothing_that_was_listed(catalogue: Catalogue, session: str) -> None:
    identity = save(catalogue, session, 1)
    with catalogue._database.using() as connection:
        connection.execute("PRAGMA max_page_count = 1")
    path = publish(catalogue.sessions.directory(session), checkpoint(session, 2, code="x" * 100_000))
    with pytest.raises(StoreError, match=r"no space left for .*catalogue\.sqlite3"):
        catalogue.incoming.import_session(session)
    assert path.exists()
    assert [one.id for one in catalogue.checkpoints()] == [identity]
    with catalogue._database.using() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert [one.number for one in catalogue.incoming.import_session(session)] == [2]


def test_one_that_is_closed_says_so(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.close()
    catalogue.close()
    with pytest.raises(StoreError, match="closed"):
        catalogue.sessions.all()


# -- company -------------------------------------------------------------------------------------------------


def test_threads_share_one_catalogue(catalogue: Catalogue, session: str) -> None:
    for number in range(1, 41):
        publish(catalogue.sessions.directory(session), checkpoint(session, number))
    adopted: list[int] = []
    start = threading.Barrier(4)

    def adopt() -> None:
        start.wait()
        adopted.extend(one.number for one in catalogue.incoming.import_session(session))

    threads = [threading.Thread(target=adopt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(adopted) == list(range(1, 41))


#: Waits for a line, so that all begin at once; opens a catalogue that is not there yet, and uses it a lot.
BUSY_PROCESS = """
import sys
from pathlib import Path
from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.retention import Retention
from capsule_durable.storage.process_identity import this_process
from tests.support.catalogues import save

input()
for round in range(3):
    with Catalogue(Path(sys.argv[1])) as catalogue:
        session = catalogue.sessions.begin("kernel", None, this_process()).id
        for number in range(1, 21):
            identity = save(catalogue, session, number, *range(max(1, number - 3), number))
            catalogue.annotate(identity, description="described", tags=[str(number)])
            catalogue.garbage.collect(session, Retention(count=5), 1_000_000.0, has_writers=True)
            assert catalogue.head(session).number == number
            for other in catalogue.sessions.all():
                catalogue.incoming.import_session(other.id)
            assert catalogue.checkpoints("described")
        assert [one.number for one in catalogue.checkpoints(session=session)] == [20, 19, 18, 17, 16]
print("done")
"""


@pytest.mark.process
def test_processes_share_one_catalogue_and_never_find_it_locked(tmp_path: Path) -> None:
    root = ROOT
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", BUSY_PROCESS, str(tmp_path / "home")],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=100) for process in processes]
    assert said == [("done\n", "")] * 3
    with Catalogue(tmp_path / "home") as catalogue:
        assert len(catalogue.sessions.all()) == 9
        assert len(catalogue.checkpoints()) == 9 * 5
