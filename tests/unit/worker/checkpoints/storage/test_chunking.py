"""Where bytes are cut: every byte once, within bounds, and at the same places of what stayed the same."""

from __future__ import annotations

import pickle
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from capsule_worker.checkpoints.storage.chunking import BLOCK, LONGEST, SHORTEST, blocks, cuts
from capsule_worker.checkpoints.storage.pack_format import ALIGNMENT

#: Sizes around everything that matters: nothing, one byte, the shortest and the longest chunk, several of them.
SIZES = st.one_of(
    st.integers(0, 5),
    st.integers(SHORTEST - 2, SHORTEST + 2),
    st.integers(LONGEST - 2, LONGEST + 2),
    st.integers(0, 6 * LONGEST),
)


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def pieces(data: bytes) -> list[bytes]:
    return [data[start:end] for start, end in cuts(data, last=True)]


def pieces_of(parts: list[bytes]) -> list[bytes]:
    """Return the chunks of data that comes in parts."""
    found, waiting = [], b""
    for number, part in enumerate(parts):
        waiting += part
        end = 0
        for start, end in cuts(waiting, last=number == len(parts) - 1):
            found.append(waiting[start:end])
        waiting = waiting[end:]
    return found


@given(seed=st.integers(), size=SIZES)
@settings(max_examples=40, deadline=None)
def test_chunks_are_the_data_in_order_and_none_is_too_long_or_too_short(seed, size):
    data = noise(seed, size)
    found = pieces(data)
    assert b"".join(found) == data
    assert all(0 < len(chunk) <= LONGEST for chunk in found)
    assert all(len(chunk) >= SHORTEST for chunk in found[:-1])


@given(seed=st.integers(), size=SIZES, at=st.lists(st.floats(0, 1), max_size=6))
@settings(max_examples=40, deadline=None)
def test_cuts_do_not_depend_on_the_parts_in_which_data_comes(seed, size, at):
    data = noise(seed, size)
    places = sorted(int(part * size) for part in at)
    parts = [data[start:end] for start, end in zip([0, *places], [*places, size], strict=True)]
    assert pieces_of(parts) == pieces(data)


# Where the cuts meet again is a matter of chance: nearly always within two chunks, once in hundreds within ten, of 65.
@given(seed=st.integers(), inserted=st.binary(min_size=1, max_size=500), place=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_an_insertion_leaves_the_chunks_before_and_behind_it(seed, inserted, place):
    data = noise(seed, 20 * LONGEST)
    at = int(place * len(data))
    before, after = pieces(data), pieces(data[:at] + inserted + data[at:])
    assert len(set(after) - set(before)) < len(before) / 2


@given(seed=st.integers(), place=st.floats(0, 0.999))
@settings(max_examples=25, deadline=None)
def test_one_other_byte_changes_few_chunks(seed, place):
    data = bytearray(noise(seed, 20 * LONGEST))
    before = pieces(bytes(data))
    data[int(place * len(data))] ^= 1
    assert len(set(pieces(bytes(data))) - set(before)) < len(before) / 2


def test_a_pickle_is_cut_by_its_content_too():
    data = pickle.dumps([{"id": number, "name": f"name {number}", "score": number / 3} for number in range(60_000)], 5)
    found = pieces(data)
    assert max(map(len, found[:-1])) > min(map(len, found[:-1]))
    assert sum(map(len, found)) / len(found) < 0.9 * LONGEST


def test_data_without_any_place_to_cut_is_cut_all_the_same():
    assert [len(chunk) for chunk in pieces(bytes(3 * LONGEST + 5))] == [LONGEST] * 3 + [5]


@given(size=st.one_of(st.integers(0, 3), st.integers(BLOCK - 1, BLOCK + 1), st.integers(0, 10 * BLOCK)))
def test_blocks_are_of_one_size_but_for_the_last_one(size):
    found = list(blocks(size))
    assert [start for start, _ in found] == list(range(0, size, BLOCK))
    assert [end for _, end in found] == [*(start for start, _ in found[1:]), *([size] if size else [])]


def test_a_block_can_be_mapped():
    assert BLOCK % ALIGNMENT == 0
