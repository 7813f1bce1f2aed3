"""The output buffer keeps text in order and undamaged until it is sent; a reader checks everything."""

from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from capsule_worker.output.output_writer import split
from capsule_worker.protocol.output_buffer import ROOM, SIZE, OutputBuffer, read

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
WRITES = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["stdout", "stderr"]), TEXT), max_size=40)


def _buffer() -> tuple[OutputBuffer, bytearray]:
    memory = bytearray(SIZE)
    return OutputBuffer(memoryview(memory)), memory


def _runs(writes) -> list[tuple[str, str, str]]:
    return [
        (*origin, "".join(text for _, _, text in run)) for origin, run in groupby(writes, key=lambda write: write[:2])
    ]


@given(WRITES)
def test_a_batch_has_the_text_that_was_written_run_by_run(writes) -> None:
    buffer, _ = _buffer()
    for write in writes:
        assert buffer.write(*write) == len(buffer)
    pieces, _ = buffer.next_batch()
    assert [tuple(piece) for piece in pieces] == _runs(writes)
    assert len(buffer) == 0


@given(WRITES, WRITES)
def test_a_reader_finds_the_batch_that_is_sent_and_the_text_after_it(sending, waiting) -> None:
    buffer, memory = _buffer()
    for write in sending:
        buffer.write(*write)
    _, mark = buffer.next_batch()
    for write in waiting:
        buffer.write(*write)
    expected = [(name, text) for _, name, text in _runs(sending)] + [(name, text) for _, name, text in _runs(waiting)]
    assert read(bytes(memory)) == expected
    buffer.clear(mark)
    assert read(bytes(memory)) == [(name, text) for _, name, text in _runs(waiting)]


def test_text_without_room_is_refused_as_a_whole() -> None:
    buffer, memory = _buffer()
    assert buffer.write("a", "stdout", "x" * ROOM) == len(buffer)
    assert buffer.write("a", "stdout", "y") == -1
    assert buffer.write("a", "stderr", "y") == -1
    assert read(bytes(memory)) == [("stdout", "x" * ROOM)]


def test_half_of_a_surrogate_pair_is_kept_as_an_escape() -> None:
    buffer, _ = _buffer()
    buffer.write("a", "stdout", "x\udc80")
    assert buffer.next_batch()[0][0].text == "x\\udc80"


@given(st.binary(max_size=200), st.integers(0, SIZE // 2))
def test_a_reader_survives_any_memory(noise: bytes, at: int) -> None:
    memory = bytearray(SIZE)
    memory[at : at + len(noise)] = noise
    assert isinstance(read(bytes(memory)), list)
    assert read(noise) == [] or isinstance(read(noise), list)


@given(st.text("ab\r\n", max_size=60), st.integers(2, 7))
def test_splitting_loses_nothing_and_keeps_line_ends_together(text: str, chunk: int) -> None:
    pieces = list(split(text, chunk))
    assert "".join(pieces) == text
    assert all(len(piece) <= chunk + 1 for piece in pieces)
    for before, after in pairwise(pieces):
        assert not (before.endswith("\r") and after.startswith("\n"))
