"""The catalogue of checkpoints: finding, annotating, and files that cannot be used."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import UnknownCheckpoint
from capsule_durable.checkpoints.schema import SCHEMA
from capsule_durable.config.paths import home
from capsule_durable.storage import sqlite
from capsule_durable.storage.errors import StoreBusy, StoreError, StoreUnreleased
from capsule_durable.storage.process_identity import this_process
from tests.support import ROOT
from tests.support.catalogues import (
    Clock,
    checkpoint,
    pack_name,
    publish,
    save,
)

#: What catalogues of each version looked like.
OLD = Path(__file__).with_name("catalogues")


def test_the_home_is_that_of_the_variable_or_the_default(tmp_path: Path) -> None:
    assert home({"CAPSULE_HOME": str(tmp_path)}) == tmp_path
    assert home({}) == home({"CAPSULE_HOME": ""})
    assert home({}).name == "capsule"
    assert home({"CAPSULE_HOME": "here"}).is_absolute()


def test_only_the_owner_can_read_the_files(catalogue: Catalogue, session: str, tmp_path: Path) -> None:
    save(catalogue, session, 1)
    root = tmp_path / "home"
    directories = [root, *(path for path in root.rglob("*") if path.is_dir())]
    files = list(root.glob("checkpoints.sqlite3*"))
    assert {path.name for path in files} >= {"checkpoints.sqlite3", "checkpoints.sqlite3-wal"}
    assert {path.stat().st_mode & 0o777 for path in directories} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


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
def test_a_query_finds_the_checkpoints_that_have_all_its_words(
    catalogue: Catalogue, library: dict[str, str], query: str, found: list[str]
) -> None:
    entries = catalogue.checkpoints(query)
    assert sorted(entry.id for entry in entries) == sorted(library[one] for one in found)
    assert [entry.time for entry in entries] == sorted((entry.time for entry in entries), reverse=True)


def test_a_list_can_be_limited_to_a_session_and_a_length(catalogue: Catalogue, library: dict[str, str]) -> None:
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
def test_an_unknown_or_ambiguous_reference_is_refused(
    catalogue: Catalogue, library: dict[str, str], reference: str, where: str | None, message: str
) -> None:
    with pytest.raises(UnknownCheckpoint, match=message):
        catalogue.find(reference, where and library[where])


def test_without_checkpoints_every_reference_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownCheckpoint, match="no checkpoints yet"):
        catalogue.find("x")


def test_annotations_change_only_what_is_given(catalogue: Catalogue, session: str) -> None:
    identity = save(catalogue, session, 1, description="old", tags=["x"])
    catalogue.annotate(identity, name="best", tags=["y", "z"])
    manifest, entry = catalogue.manifest(identity), catalogue.find("best")
    assert (manifest.name, manifest.description, manifest.tags) == ("best", "old", ["y", "z"])
    assert (entry.name, entry.description, entry.tags) == ("best", "old", ["y", "z"])
    catalogue.annotate(identity, name="", description="")
    assert (catalogue.manifest(identity).name, catalogue.manifest(identity).description) == (None, "")


@pytest.mark.parametrize("method", ["annotate", "manifest"])
def test_an_unknown_id_is_refused(catalogue: Catalogue, session: str, method: str) -> None:
    with pytest.raises(UnknownCheckpoint, match="nothing"):
        getattr(catalogue, method)("nothing")
    with pytest.raises(UnknownCheckpoint, match="nothing"):
        catalogue.set_head(session, "nothing")


def test_a_damaged_file_is_named_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.sqlite3"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreError, match=r"checkpoints\.sqlite3 is damaged .* move it away"):
        Catalogue(tmp_path)
    assert path.read_bytes() == b"no database at all" * 1000


def test_damage_that_is_found_later_is_named_too(tmp_path: Path) -> None:
    with Catalogue(tmp_path) as catalogue:
        session = catalogue.sessions.begin("k", None, this_process()).id
        for number in range(1, 30):
            save(catalogue, session, number, code="x" * 3000)
    path = tmp_path / "checkpoints.sqlite3"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with Catalogue(tmp_path) as catalogue, pytest.raises(StoreError, match="is damaged"):
        catalogue.checkpoints()


def test_a_damaged_manifest_in_the_catalogue_is_named(catalogue: Catalogue, session: str) -> None:
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
def test_a_newer_or_foreign_file_is_refused_unchanged(tmp_path: Path, statement: str, message: str) -> None:
    path = tmp_path / "checkpoints.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(statement)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        Catalogue(tmp_path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoints.sqlite3"]


def made_by(version: str, directory: Path) -> bytes:
    """Make a catalogue as a version left it, and return its content."""
    path = directory / "checkpoints.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript((OLD / f"{version}.sql").read_text(encoding="utf-8"))
    connection.close()
    return path.read_bytes()


@pytest.mark.parametrize("number", [1, 2])
def test_a_catalogue_of_an_unreleased_version_is_refused_and_left_as_it_is(tmp_path: Path, number: int) -> None:
    before = made_by(f"unreleased_{number}", tmp_path)
    refusal = r"checkpoints\.sqlite3 was made by an unreleased version; move it away or set CAPSULE_HOME"
    with pytest.raises(StoreUnreleased, match=refusal):
        Catalogue(tmp_path)
    assert (tmp_path / "checkpoints.sqlite3").read_bytes() == before


def test_records_of_this_version_are_listed(tmp_path: Path) -> None:
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


def test_commits_survive_a_loss_of_power_and_the_log_stays_short(catalogue: Catalogue) -> None:
    with catalogue._database.using() as connection:
        asked = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "wal_autocheckpoint")]
    assert asked == [2, 1000]


def test_opening_a_home_that_another_process_holds_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "TIMEOUT", 0.05)
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(StoreBusy, match=r"another process holds .*checkpoints\.sqlite3 .* try again"):
        Catalogue(tmp_path)
    os.close(directory)
    Catalogue(tmp_path).close()


def test_a_home_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints.sqlite3").mkdir()
    with pytest.raises(StoreError, match=r"checkpoints\.sqlite3 cannot be written"):
        Catalogue(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot use .*file"):
        Catalogue(tmp_path / "file")


def test_a_read_only_catalogue_can_be_read_and_reports_that_it_cannot_be_written(
    catalogue: Catalogue, session: str
) -> None:
    identity = save(catalogue, session, 1)
    with catalogue._database.using() as connection:
        connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match=r"cannot be written .* permissions"):
        catalogue.annotate(identity, name="x")
    assert catalogue.find(identity).name is None


def test_a_full_disk_is_reported_and_loses_nothing(catalogue: Catalogue, session: str) -> None:
    identity = save(catalogue, session, 1)
    with catalogue._database.using() as connection:
        connection.execute("PRAGMA max_page_count = 1")
    path = publish(catalogue.sessions.directory(session), checkpoint(session, 2, code="x" * 100_000))
    with pytest.raises(StoreError, match=r"no space left for .*checkpoints\.sqlite3"):
        catalogue.incoming.import_session(session)
    assert path.exists()
    assert [one.id for one in catalogue.checkpoints()] == [identity]
    with catalogue._database.using() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert [one.number for one in catalogue.incoming.import_session(session)] == [2]


def test_a_closed_catalogue_says_so(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.close()
    catalogue.close()
    with pytest.raises(StoreError, match="closed"):
        catalogue.sessions.all()


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


#: Waits for a line, so that all begin at once; opens a catalogue that does not exist yet, and uses it a lot.
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
