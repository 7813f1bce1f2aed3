"""The file of the embedded engine: how it is opened and shared, and what can be wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from resonate.error import ServerError
from resonate_base import ConnectorError

from capsule_durable.engines.embedded.schema import SCHEMA
from capsule_durable.storage import errors, process_identity, sqlite
from capsule_durable.storage.sqlite import Database
from tests.support.engines import TTL, close_engine, creation, open_engine

STORES = Path(__file__).with_name("stores")


def dump(path: Path) -> str:
    """Return the SQL dump of a file."""
    with contextlib.closing(sqlite3.connect(path)) as sql:
        pragmas = [sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        return "\n".join([*(str(value) for value in pragmas), *sql.iterdump()])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "engine.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Database]:
    store = Database(path, SCHEMA)
    yield store
    store.close()


# -- opening -------------------------------------------------------------------------------------------------


def test_only_the_owner_can_read_what_is_kept(store: Database, path: Path) -> None:
    with store.writing() as sql:
        sql.execute("INSERT INTO outbox VALUES ('a', 1)")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    files = list(path.parent.iterdir())
    assert {file.name for file in files} >= {path.name, f"{path.name}-wal"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_connection_waits_before_its_first_statement_and_syncs_as_configured(path: Path) -> None:
    def asked(store: Database, name: str) -> object:
        return store.connection.execute(f"PRAGMA {name}").fetchone()[0]

    for synchronous, number in (("NORMAL", 1), ("FULL", 2), ("NORMAL", 1)):
        store = Database(path, SCHEMA, synchronous, timeout=3)
        assert (asked(store, "synchronous"), asked(store, "busy_timeout")) == (number, 3000)
        assert (asked(store, "journal_mode"), asked(store, "wal_autocheckpoint")) == ("wal", 0)
        store.close()


def test_a_file_that_is_damaged_is_named_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(errors.StoreDamaged, match=r"engine\.sqlite3 is damaged .* move it away"):
        Database(path, SCHEMA)
    assert path.read_bytes() == b"no database at all" * 1000


@pytest.mark.parametrize(
    ("statements", "kind"),
    [
        (["CREATE TABLE promises (theirs)"], errors.StoreForeign),
        (["PRAGMA user_version = 1"], errors.StoreForeign),
        (["PRAGMA application_id = 7"], errors.StoreForeign),
        ([f"PRAGMA application_id = {SCHEMA.application_id}", "PRAGMA user_version = 99"], errors.StoreTooNew),
        (["PRAGMA journal_mode = WAL", "CREATE TABLE promises (theirs)"], errors.StoreForeign),
    ],
)
def test_a_file_that_is_newer_or_not_ours_is_not_touched(
    path: Path, statements: list[str], kind: type[errors.StoreError]
) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as sql:
        for statement in statements:
            sql.execute(statement)
    before = path.read_bytes()
    with pytest.raises(kind, match="CAPSULE_HOME"):
        Database(path, SCHEMA)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_file_system_without_locks_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.raises(errors.StoreNotLockable, match="local disk"):
            Database(path, SCHEMA)
    # In memory there is no log that processes could share: SQLite keeps another journal, as it does on some networks.
    monkeypatch.setattr(sqlite, "_connect", lambda path: sqlite3.connect(":memory:", isolation_level=None))
    with pytest.raises(errors.StoreNotLockable, match="the journal stays in mode 'memory'"):
        Database(path, SCHEMA)


@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_file_locks_an_existing_file_is_not_opened(
    path: Path, refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(refusal, "locks are refused")

    Database(path, SCHEMA).close()
    before = path.read_bytes()
    # It would wait, since it takes a refusal for another process's lock.
    monkeypatch.setattr(sqlite, "_connect", lambda path: pytest.fail("SQLite was asked"))
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(errors.StoreNotLockable, match=r"locks are refused.* local disk"):
        Database(path, SCHEMA)
    assert path.read_bytes() == before


def test_an_existing_file_opens_while_another_process_locks_the_directory(path: Path) -> None:
    Database(path, SCHEMA).close()
    directory = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    Database(path, SCHEMA).close()
    os.close(directory)


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "engine.sqlite3").mkdir()
    with pytest.raises(errors.StoreReadOnly, match=r"engine\.sqlite3 cannot be written"):
        Database(tmp_path / "engine.sqlite3", SCHEMA)
    (tmp_path / "file").touch()
    with pytest.raises(errors.StoreError, match=r"cannot use .*file"):
        Database(tmp_path / "file" / "engine.sqlite3", SCHEMA)


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("reason")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite_error(sqlite3.SQLITE_CORRUPT_INDEX), errors.StoreDamaged),
        (sqlite_error(sqlite3.SQLITE_FULL), errors.StoreFull),
        (sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED), errors.StoreReadOnly),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), errors.StoreBusy),
        (sqlite_error(sqlite3.SQLITE_IOERR_LOCK), errors.StoreNotLockable),
        (sqlite_error(sqlite3.SQLITE_IOERR_SHMMAP), errors.StoreNotLockable),
        (sqlite_error(sqlite3.SQLITE_PROTOCOL), errors.StoreNotLockable),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), errors.StoreFailed),
        (sqlite_error(sqlite3.SQLITE_MISUSE), errors.StoreError),
        (OSError(errno.ENOSPC, "reason", "/file"), errors.StoreFull),
        (OSError(errno.EROFS, "reason", "/file"), errors.StoreReadOnly),
        (OSError(errno.EIO, "reason", "/file"), errors.StoreError),
    ],
)
def test_every_error_has_its_class_and_names_the_file(error: Exception, kind: type[errors.StoreError]) -> None:
    explained = errors.explain(error, Path("/file"))
    assert type(explained) is kind
    assert "/file" in str(explained)
    assert "reason" in str(explained)
    assert kind.retryable == (kind in {errors.StoreFull, errors.StoreBusy})


def test_a_file_that_is_locked_too_long_is_an_error(store: Database, path: Path) -> None:
    hasty = Database(path, SCHEMA, timeout=0)
    with store.writing(), pytest.raises(errors.StoreBusy), hasty.writing():
        pass
    with hasty.writing():
        pass
    hasty.close()


# -- versions ------------------------------------------------------------------------------------------------


def kept(path: Path) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(path)) as sql:
        return sql.execute("SELECT id, state, param, value FROM promises ORDER BY n").fetchall()


def opened(path: Path, old: Path) -> bytes:
    """Make a store as an older version left it, and return its content."""
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as sql:
        sql.executescript(old.read_text(encoding="utf-8"))
    return path.read_bytes()


@pytest.mark.parametrize("number", [1, 2])
def test_a_store_of_an_unreleased_version_is_refused_and_left_as_it_is(path: Path, number: int) -> None:
    before = opened(path, STORES / f"unreleased_{number}.sql")
    with pytest.raises(
        errors.StoreUnreleased,
        match=r"engine\.sqlite3 was made by an unreleased version; move it away or set CAPSULE_HOME",
    ):
        Database(path, SCHEMA)
    assert path.read_bytes() == before


def test_what_this_version_kept_is_kept(path: Path) -> None:
    opened(path, STORES / f"version_{SCHEMA.version}.sql")
    before = kept(path)
    assert len(before) == 5
    Database(path, SCHEMA).close()
    assert kept(path) == before


def test_there_is_an_old_file_of_every_version() -> None:
    assert [old.stem for old in sorted(STORES.glob("version_*"))] == [
        f"version_{number + 1}" for number in range(SCHEMA.version)
    ]


def test_a_file_is_brought_up_to_date_all_at_once_or_not_at_all(path: Path) -> None:
    Database(path, SCHEMA).close()
    before = dump(path)
    good, bad = "CREATE TABLE more (a)", "CREATE TABLE more (a)"
    with pytest.raises(errors.StoreError, match="more already exists"):
        Database(path, replace(SCHEMA, migrations=(*SCHEMA.migrations, (good, bad))))
    assert dump(path) == before
    newer = replace(SCHEMA, migrations=(*SCHEMA.migrations, (good,), ("ALTER TABLE more ADD b",)))
    Database(path, newer).close()
    with contextlib.closing(sqlite3.connect(path)) as sql:
        assert sql.execute("SELECT a, b FROM more").fetchall() == []
        assert sql.execute("PRAGMA user_version").fetchone() == (newer.version,)


# -- trouble later -------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_full_disk_is_reported_and_loses_no_stored_promise(tmp_path: Path) -> None:
    engine = await open_engine("embedded", tmp_path)
    sql = engine.connection._database.connection
    await engine.create("a")
    await engine.settle("a", "a2VwdA==")
    sql.execute("PRAGMA max_page_count = 1")
    with pytest.raises(ConnectorError, match=r"no space left for .*engine\.sqlite3") as caught:
        await engine.sender.promise_create(creation("b", large="x" * 100_000))
    assert isinstance(caught.value.error, errors.StoreFull)
    sql.execute("PRAGMA max_page_count = 1000000")
    assert (await engine.sender.promise_get("a")).value.data == "a2VwdA=="
    with pytest.raises(ServerError):
        await engine.sender.promise_get("b")
    await engine.create("b", large="x" * 100_000)
    await close_engine(engine)


@pytest.mark.asyncio
async def test_a_file_that_becomes_read_only_says_so(tmp_path: Path) -> None:
    engine = await open_engine("embedded", tmp_path)
    await engine.create("a")
    engine.connection._database.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(ConnectorError, match="cannot be written") as caught:
        await engine.settle("a")
    assert isinstance(caught.value.error, errors.StoreReadOnly)
    engine.connection._database.connection.execute("PRAGMA query_only = OFF")
    assert (await engine.settle("a")).state == "resolved"
    await close_engine(engine)


@pytest.mark.asyncio
async def test_damage_found_later_is_reported_and_never_overwritten(tmp_path: Path) -> None:
    engine = await open_engine("embedded", tmp_path)
    for number in range(200):
        await engine.create(f"p{number}", large="x" * 1000)
    await close_engine(engine)
    path = tmp_path / "engine.sqlite3"
    data = bytearray(path.read_bytes())
    data[3 * 4096 :] = b"\xff" * (len(data) - 3 * 4096)
    path.write_bytes(data)
    engine = await open_engine("embedded", tmp_path)
    for request in (engine.create("p5"), engine.settle("p5"), engine.create("new")):
        with pytest.raises(ConnectorError, match="is damaged") as caught:
            await request
        assert isinstance(caught.value.error, errors.StoreDamaged)
    await close_engine(engine)
    assert path.read_bytes() == data


@pytest.mark.asyncio
async def test_a_request_waits_for_another_process_without_blocking_the_loop(tmp_path: Path) -> None:
    engine = await open_engine("embedded", tmp_path)
    other = sqlite3.connect(tmp_path / "engine.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(engine.create("a"))
    turns = 0
    while turns < 100:
        await asyncio.sleep(0)
        turns += 1
    assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    assert (await waiting).state == "pending"
    await close_engine(engine)


@pytest.mark.asyncio
async def test_a_malformed_request_is_refused(tmp_path: Path) -> None:
    engine = await open_engine("embedded", tmp_path)
    for text in ("", "no json", "[]", '{"kind": 1}'):
        with pytest.raises(ConnectorError):
            await engine.connection.send(text)
    await close_engine(engine)


@pytest.mark.asyncio
async def test_one_that_is_closed_says_so(tmp_path: Path) -> None:
    engine = await open_engine("embedded", tmp_path)
    await close_engine(engine)
    await close_engine(engine)
    with pytest.raises(ConnectorError, match="closed"):
        await engine.create("a")


@pytest.mark.asyncio
async def test_a_closed_engine_releases_its_tasks_and_listeners(tmp_path: Path) -> None:
    first = await open_engine("embedded", tmp_path)
    await first.create("x")
    await first.sender.promise_register_listener("x", first.address)
    await first.sender.task_create(first.connection.pid, TTL, creation("a", target=first.target))
    second = await open_engine("embedded", tmp_path)
    await second.pass_time(0)
    assert second.offers() == []
    await close_engine(first)
    await second.pass_time(0)
    assert [task_id for task_id, _ in second.offers()] == ["a"]
    with second.connection._database.using() as sql:
        assert sql.execute("SELECT * FROM listeners").fetchall() == []
    await close_engine(second)


@pytest.mark.asyncio
@pytest.mark.parametrize("owner", ["ended", "running", "elsewhere"])
async def test_a_lease_is_taken_over_at_once_only_from_a_process_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    me = process_identity.this_process()
    changes: dict[str, dict[str, Any]] = {
        "ended": {"start": me.start + 1},
        "running": {},
        "elsewhere": {"place": "elsewhere", "pid": 2**22 + 1},
    }
    with monkeypatch.context() as patch:
        patch.setattr(process_identity, "this_process", lambda: replace(me, **changes[owner]))
        first = await open_engine("embedded", tmp_path)
    await first.sender.task_create(first.connection.pid, TTL, creation("a", target=first.target))
    # It is not heard of any more.
    await first.connection.stop()
    second = await open_engine("embedded", tmp_path)
    await second.pass_time(0)
    assert [task_id for task_id, _ in second.offers()] == (["a"] if owner == "ended" else [])
    if owner != "ended":
        await second.pass_time(TTL - 1)
        assert second.offers() == []
        await second.pass_time(1)
        assert [task_id for task_id, _ in second.offers()] == ["a"]
    for engine in (first, second):
        await close_engine(engine)


# -- company -------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_listener_is_told_once_what_another_engine_settles(tmp_path: Path) -> None:
    first, second = [await open_engine("embedded", tmp_path) for _ in range(2)]
    await first.create("a")
    await first.sender.promise_register_listener("a", first.address)
    settled = await second.settle("a", "dmFsdWU=")
    for _ in range(3):
        await second.pass_time(0)
        await first.pass_time(0)
    assert (first.told(), second.told()) == ([settled], [])
    with first.connection._database.using() as sql:
        for table in ("listeners", "outbox"):
            assert sql.execute(f"SELECT * FROM {table}").fetchall() == []
    for engine in (first, second):
        await close_engine(engine)


@pytest.mark.asyncio
async def test_a_task_is_offered_to_one_listener(tmp_path: Path) -> None:
    first, second = [await open_engine("embedded", tmp_path) for _ in range(2)]
    await first.create("a", target=first.target)
    for _ in range(3):
        await second.pass_time(0)
        await first.pass_time(0)
    assert (len(first.offers()), second.offers()) == (1, [])
    for engine in (first, second):
        await close_engine(engine)
