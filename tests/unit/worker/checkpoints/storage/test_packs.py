"""Chunks on disk: written once, read back checked, mapped where that is possible, and nothing left of what failed."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule_worker.checkpoints.storage import pack_reader, pack_writer
from capsule_worker.checkpoints.storage.chunking import BLOCK
from capsule_worker.checkpoints.storage.pack_format import (
    ALIGNMENT,
    Chunk,
    DamagedError,
    StorageError,
    pack_chunks,
    pack_path,
    unpack_chunks,
)
from capsule_worker.checkpoints.storage.pack_reader import PackReader
from capsule_worker.checkpoints.storage.pack_writer import PackWriter
from capsule_worker.protocol.manifest import PACKS


@pytest.fixture
def session(tmp_path: Path) -> Path:
    (tmp_path / PACKS).mkdir()
    return tmp_path


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def writer(session: Path, name: str = "one", known: dict[bytes, Chunk] | None = None) -> PackWriter:
    return PackWriter(session, name, {} if known is None else known)


def flip(path: Path, offset: int) -> None:
    """Damage one bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def open_files() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


# -- content -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("data", [b"a", b"ab" * 50_000, noise(70_000), bytes(BLOCK), bytes(1000), noise(BLOCK)])
def test_what_is_kept_comes_back(session, data, compress):
    pack = writer(session)
    chunk = pack.chunk(data, compress=compress)
    location = pack.blob(b"a record")
    pack.finish()
    reader = PackReader(session)
    assert reader.chunk(chunk) == data
    assert reader.blob(location) == b"a record"
    reader.close()


def test_what_is_known_is_not_written_again(session):
    known: dict[bytes, Chunk] = {}
    first = writer(session, "one", known)
    chunk = first.chunk(noise(50_000), compress=True)
    first.finish()
    second = writer(session, "two", known)
    assert second.chunk(noise(50_000), compress=True) == chunk
    second.finish()
    assert second.written == 0
    assert not pack_path(session, "two").exists(), "without data there is no file"


def test_what_can_be_made_smaller_is_and_what_cannot_stays_as_it_is(session):
    pack = writer(session)
    text, random_data = pack.chunk(b"some text; " * 5000, compress=True), pack.chunk(noise(50_000), compress=True)
    assert text.stored < 0.05 * text.size
    assert random_data.stored == random_data.size


def test_blocks_of_zeros_take_no_room(session):
    pack = writer(session)
    chunks = pack.buffer(memoryview(bytes(100 * BLOCK)))
    assert pack.written == 0
    assert PackReader(session).buffer(chunks, 100 * BLOCK) == bytes(100 * BLOCK)


def test_a_pack_is_for_its_owner_alone(session):
    pack = writer(session)
    pack.blob(b"secret")
    pack.finish()
    assert pack_path(session, "one").stat().st_mode & 0o777 == 0o600


def test_the_bytes_that_were_written_are_those_of_the_file(session, monkeypatch):
    monkeypatch.setattr(pack_writer, "_COLLECT", 100_000)
    told: list[int] = []
    pack = PackWriter(session, "one", {}, told.append)
    for number in range(20):
        pack.chunk(noise(50_000, number), compress=False)
    pack.buffer(memoryview(noise(3 * BLOCK)))
    pack.finish()
    assert pack_path(session, "one").stat().st_size == pack.written == told[-1]
    assert told == sorted(told)
    assert len(told) > 5, "a watcher is told of progress"


@given(sizes=st.lists(st.sampled_from([1, 500, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 0]), max_size=6), data=st.data())
@settings(max_examples=40, deadline=None)
def test_buffers_come_back_whatever_lies_between_their_blocks(tmp_path_factory, sizes, data):
    session = tmp_path_factory.mktemp("session")
    (session / PACKS).mkdir()
    pack = writer(session)
    contents = []
    for number, size in enumerate(sizes):
        content = bytearray(noise(size, number))
        if size > BLOCK and data.draw(st.booleans()):
            content[:BLOCK] = bytes(BLOCK)
        pack.blob(noise(data.draw(st.integers(1, 2000))))
        contents.append((bytes(content), pack.buffer(memoryview(content))))
    pack.finish()
    reader = PackReader(session)
    views = [(content, reader.buffer(chunks, len(content))) for content, chunks in contents]
    reader.close()
    for content, view in views:
        assert bytes(view) == content


def test_a_buffer_can_be_written_to_and_the_pack_stays_as_it_is(session):
    pack = writer(session)
    content = noise(5 * BLOCK + 10)
    chunks = pack.buffer(memoryview(content))
    pack.finish()
    reader = PackReader(session)
    view = reader.buffer(chunks, len(content))
    view[:] = bytes(len(content))
    assert reader.buffer(chunks, len(content)) == content


def test_a_large_buffer_is_mapped_and_not_read(session, monkeypatch):
    pack = writer(session)
    content = noise(64 * BLOCK)
    chunks = pack.buffer(memoryview(content))
    pack.finish()
    assert all(chunk.offset % ALIGNMENT == 0 for chunk in chunks)
    reader = PackReader(session)
    monkeypatch.setattr(PackReader, "chunk", None)
    assert reader.buffer(chunks, len(content)) == content


def test_mapped_data_outlives_its_reader_and_its_file(session):
    pack = writer(session)
    content = noise(8 * BLOCK)
    chunks = pack.buffer(memoryview(content))
    pack.finish()
    reader = PackReader(session)
    view = reader.buffer(chunks, len(content))
    reader.close()
    pack_path(session, "one").unlink()
    assert view == content


def test_a_buffer_that_is_scattered_too_much_is_read(session, monkeypatch):
    monkeypatch.setattr(pack_reader, "MAX_RUNS", 3)
    pack = writer(session)
    content = b""
    chunks = []
    for number in range(8):
        part = noise(BLOCK, number)
        content += part
        chunks += pack.buffer(memoryview(part))
        pack.blob(b"between")
    pack.finish()
    assert PackReader(session).buffer(chunks, len(content)) == content


def test_a_buffer_of_blocks_from_several_packs_comes_back(session):
    known: dict[bytes, Chunk] = {}
    content = bytearray(noise(6 * BLOCK))
    first = writer(session, "one", known)
    first.buffer(memoryview(content))
    first.finish()
    content[2 * BLOCK : 3 * BLOCK] = noise(BLOCK, 7)
    second = writer(session, "two", known)
    chunks = second.buffer(memoryview(content))
    second.finish()
    assert [chunk.pack for chunk in chunks] == ["one", "one", "two", "one", "one", "one"]
    assert second.written == BLOCK
    assert PackReader(session).buffer(chunks, len(content)) == content


def test_a_chunk_is_carried_over_as_it_is_stored(session):
    first = writer(session, "one")
    chunks = [first.chunk(b"some text; " * 5000, compress=True), *first.buffer(memoryview(noise(2 * BLOCK)))]
    first.finish()
    reader = PackReader(session)
    second = writer(session, "two", {chunk.digest: chunk for chunk in chunks})
    second.blob(b"something before")
    moved = [second.copy(chunk, reader.stored(chunk)) for chunk in chunks]
    second.finish()
    pack_path(session, "one").unlink()
    fresh = PackReader(session)
    assert fresh.chunk(moved[0]) == b"some text; " * 5000
    assert fresh.buffer(moved[1:], 2 * BLOCK) == noise(2 * BLOCK)
    assert all(chunk.offset % ALIGNMENT == 0 for chunk in moved[1:])


# -- references --------------------------------------------------------------------------------------------------

CHUNKS = st.builds(
    Chunk,
    pack=st.sampled_from(["one", "two", "three"]),
    offset=st.integers(0, 2**64 - 1),
    stored=st.integers(0, 2**32 - 1),
    size=st.integers(0, 2**32 - 1),
    kind=st.integers(0, 2),
    digest=st.binary(min_size=16, max_size=16),
)


@given(st.lists(CHUNKS), st.lists(CHUNKS))
def test_references_come_back(first, second):
    names: list[str] = []
    data = [pack_chunks(chunks, names) for chunks in (first, second)]
    assert [list(unpack_chunks(each, names)) for each in data] == [first, second]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("data", "names"), [(bytes(34), ["one"]), (b"\x01" + bytes(34), ["one"]), (bytes(35), [])])
def test_references_that_make_no_sense_are_damage(data, names):
    with pytest.raises(DamagedError, match="make no sense"):
        list(unpack_chunks(data, names))


# -- damage ------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(session: Path) -> tuple[Path, list[Chunk], int]:
    """Return a pack that holds compressed, plain and mapped chunks, and how long the buffer of the latter is."""
    pack = writer(session)
    chunks = [pack.chunk(b"some text; " * 5000, compress=True), pack.chunk(noise(50_000), compress=True)]
    chunks += pack.buffer(memoryview(noise(3 * BLOCK + 100, 1)))
    pack.finish()
    return session, chunks, 3 * BLOCK + 100


def test_each_bit_matters(written):
    session, chunks, size = written
    for number, chunk in enumerate(chunks):
        for offset in (0, 1, chunk.stored // 2, chunk.stored - 1):
            flip(pack_path(session, "one"), chunk.offset + offset)
            reader = PackReader(session)
            with pytest.raises(DamagedError, match=f"pack one is damaged at byte {chunk.offset:,}"):
                reader.chunk(chunk)
            if number >= 2:
                with pytest.raises(DamagedError, match=f"pack one is damaged at byte {chunk.offset:,}"):
                    reader.buffer(chunks[2:], size)
            for other in chunks:
                if other is not chunk:
                    reader.chunk(other)
            reader.close()
            flip(pack_path(session, "one"), chunk.offset + offset)


@pytest.mark.parametrize("left", [0, 1000, 60_000, 200_000, -1])
def test_a_pack_that_was_cut_off_is_damaged_where_it_ends(written, left):
    session, chunks, size = written
    path = pack_path(session, "one")
    total = path.stat().st_size
    left %= total
    os.truncate(path, left)
    reader = PackReader(session)
    for chunk in chunks:
        if chunk.offset + chunk.stored > left:
            with pytest.raises(DamagedError, match=r"pack one ends before byte"):
                reader.chunk(chunk)
        else:
            reader.chunk(chunk)
    with pytest.raises(DamagedError, match=r"pack one ends before byte"):
        reader.buffer(chunks[2:], size)


def test_a_pack_that_is_gone_is_named(written):
    session, chunks, size = written
    pack_path(session, "one").unlink()
    for read in (lambda reader: reader.chunk(chunks[0]), lambda reader: reader.buffer(chunks[2:], size)):
        with pytest.raises(DamagedError, match="pack one cannot be read: No such file"):
            read(PackReader(session))


def test_a_disk_that_cannot_be_read_is_damage(written, monkeypatch):
    session, chunks, _ = written

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(DamagedError, match=f"pack one cannot be read at byte {chunks[1].offset:,}: Input/output error"):
        PackReader(session).chunk(chunks[1])


def test_a_buffer_must_have_the_size_that_it_had(written):
    session, chunks, size = written
    with pytest.raises(DamagedError, match="has chunks of"):
        PackReader(session).buffer(chunks[2:], size + 1)


# -- trouble while writing ---------------------------------------------------------------------------------------


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, number: int, code: int) -> None:
    """Have a system call fail from its ``number``-th use on."""
    calls = []
    real = getattr(os, name)

    def call(*arguments, **keywords):
        calls.append(name)
        if len(calls) > number:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **keywords)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize(
    ("name", "number", "code", "text"),
    [
        ("open", 0, errno.ENOSPC, "No space left on device"),
        ("open", 0, errno.EROFS, "Read-only file system"),
        ("open", 1, errno.EMFILE, "Too many open files"),
        ("write", 0, errno.ENOSPC, "No space left on device"),
        ("write", 2, errno.EDQUOT, "quota exceeded"),
        ("fsync", 0, errno.EIO, "Input/output error"),
        ("fsync", 1, errno.EIO, "Input/output error"),
    ],
)
def test_disk_errors_are_reported_and_leave_no_files(session, monkeypatch, name, number, code, text):
    monkeypatch.setattr(pack_writer, "_COLLECT", 10_000)
    before = open_files()
    with monkeypatch.context() as patched:
        fail_at(patched, name, number, code)
        pack = writer(session)

        def write() -> None:
            for seed in range(5):
                pack.chunk(noise(20_000, seed), compress=False)
            pack.finish()

        with pytest.raises(StorageError) as raised:
            write()
    assert text in str(raised.value)
    assert "one.pack" in str(raised.value)
    pack.discard()
    assert not list((session / PACKS).iterdir())
    assert open_files() == before


def test_a_write_that_takes_only_a_part_is_gone_on_with(session, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:1000]))
    pack = writer(session)
    chunk = pack.chunk(noise(30_000), compress=False)
    pack.finish()
    assert PackReader(session).chunk(chunk) == noise(30_000)


def test_a_file_is_closed_once_whatever_happens_afterwards(session):
    """By the second time its number may be that of another file."""
    pack = writer(session)
    pack.blob(b"data")
    pack.finish()
    reading, writing = os.pipe()
    pack.discard()
    os.write(writing, b"still open")
    assert os.read(reading, 100) == b"still open"
    os.close(reading)
    os.close(writing)
    assert not list((session / PACKS).iterdir())


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_copy_of_the_process_writes_nothing(session):
    pack = writer(session)
    pack.blob(b"data")
    child = os.fork()
    if not child:
        pack.finish()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert not list((session / PACKS).iterdir())
