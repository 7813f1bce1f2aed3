"""What belongs together: what holds the same thing, directly or through others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from capsule_worker.checkpoints.analysis.sharing import partition

HOLDINGS = st.dictionaries(
    st.text("abcdefghijkl", min_size=1, max_size=2), st.frozensets(st.integers(0, 30), max_size=5), max_size=25
)


def linked(holdings: dict[str, frozenset[int]], key: str) -> set[str]:
    """Return all that ``key`` is linked with, found the slow and obvious way."""
    found, things = {key}, set(holdings[key])
    while True:
        more = {other for other, held in holdings.items() if other not in found and held & things}
        if not more:
            return found
        found |= more
        things.update(*(holdings[other] for other in more))


@given(HOLDINGS)
def test_keys_are_together_exactly_if_they_are_linked(holdings):
    groups = partition(holdings)
    assert sorted(key for group in groups for key in group) == sorted(holdings)
    for group in groups:
        assert set(group) == linked(holdings, group[0])


@given(HOLDINGS)
def test_the_order_is_that_of_the_keys(holdings):
    order = {key: place for place, key in enumerate(holdings)}
    groups = partition(holdings)
    assert [group[0] for group in groups] == sorted((group[0] for group in groups), key=order.__getitem__)
    assert all(group == sorted(group, key=order.__getitem__) for group in groups)


@given(HOLDINGS, st.randoms())
def test_the_groups_do_not_depend_on_the_order(holdings, shuffler):
    keys = list(holdings)
    shuffler.shuffle(keys)
    again = partition({key: holdings[key] for key in keys})
    assert {frozenset(group) for group in again} == {frozenset(group) for group in partition(holdings)}


def test_any_iterable_will_do():
    assert partition({"a": [1, 1, 2], "b": iter([2, 3]), "c": [], "d": (3,)}) == [["a", "b", "d"], ["c"]]


def test_a_chain_of_many_is_one_group():
    assert len(partition({number: {number, number + 1} for number in range(50_000)})) == 1


def test_nothing_is_not_a_group():
    assert partition({}) == []
