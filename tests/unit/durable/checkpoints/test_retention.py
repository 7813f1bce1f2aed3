"""Retention: which checkpoints are dropped because of their number, age and size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from capsule_durable.checkpoints.retention import Candidate, Retention, dropped

DAY = 86400.0
ALL = Retention(count=1000, age=None, size=None)


def candidate(number: int, packs: str = "", *, time: float | None = None, **fields: bool) -> Candidate:
    return Candidate(str(number), number, float(number) if time is None else time, frozenset(packs), **fields)


def test_the_newest_without_a_name_are_kept_and_named_ones_do_not_count() -> None:
    entries = [candidate(number, is_named=number in (1, 3)) for number in range(1, 7)]
    assert dropped(entries, ALL.model_copy(update={"count": 2}), 0.0, {}) == ["2", "4"]


def test_current_checkpoints_stay_and_count() -> None:
    entries = [candidate(number, is_current=number in (2, 6)) for number in range(1, 7)]
    assert dropped(entries, ALL.model_copy(update={"count": 2}), 0.0, {}) == ["1", "3", "4"]


def test_checkpoints_older_than_the_limit_are_dropped_and_those_just_as_old_stay() -> None:
    entries = [candidate(1, time=0.0), candidate(2, time=1.0), candidate(3, time=0.0, is_named=True)]
    assert dropped(entries, ALL.model_copy(update={"age": DAY}), DAY + 1.0, {}) == ["1"]


def test_a_policy_without_limits_keeps_everything() -> None:
    entries = [candidate(number, "a") for number in range(50)]
    assert dropped(entries, ALL, 1e12, {"a": 10**15}) == []


def test_the_oldest_are_dropped_until_the_packs_of_the_rest_fit() -> None:
    entries = [candidate(1, "a"), candidate(2, "ab"), candidate(3, "bc"), candidate(4, "d")]
    sizes = dict.fromkeys("abcd", 10)
    limit = ALL.model_copy(update={"size": 30})
    assert dropped(entries, limit, 0.0, sizes) == ["1", "2"]


def test_a_checkpoint_that_would_free_nothing_stays() -> None:
    entries = [candidate(1, "a"), candidate(2, "ab"), candidate(3, "a", is_named=True)]
    sizes = {"a": 100, "b": 1}
    limit = ALL.model_copy(update={"size": 50})
    assert dropped(entries, limit, 0.0, sizes) == ["2"]


def test_packs_that_only_dropped_checkpoints_need_do_not_count() -> None:
    entries = [candidate(1, "a"), candidate(2, "b"), candidate(3, "c")]
    policy = Retention(count=2, age=None, size=20)
    assert dropped(entries, policy, 0.0, dict.fromkeys("abc", 10)) == ["1"]


@pytest.mark.parametrize("limits", [{"count": -1}, {"age": -1.0}, {"size": -1}, {"unknown": 1}])
def test_an_invalid_policy_is_refused(limits: dict) -> None:
    with pytest.raises(ValidationError):
        Retention(**limits)


PACKS = "abcdefgh"
SIZES = st.fixed_dictionaries(dict.fromkeys(PACKS, st.integers(0, 100)))
HISTORIES = st.lists(
    st.tuples(st.frozensets(st.sampled_from(PACKS)), st.booleans(), st.booleans(), st.floats(0, 100))
).map(
    lambda found: [
        Candidate(str(number), number, time, packs, named, current)
        for number, (packs, named, current, time) in enumerate(found)
    ]
)
POLICIES = st.builds(
    Retention, count=st.integers(0, 10), age=st.none() | st.floats(0, 100), size=st.none() | st.integers(0, 600)
)


@given(HISTORIES, POLICIES, SIZES)
def test_every_kept_checkpoint_is_protected_or_within_every_limit(
    entries: list[Candidate], policy: Retention, sizes: dict[str, int]
) -> None:
    gone = dropped(entries, policy, 100.0, sizes)
    stays = [one for one in entries if one.id not in gone]
    free = [one for one in stays if not one.is_protected]
    newest = [one for one in reversed(entries) if not one.is_named][: policy.count]
    assert len(set(gone)) == len(gone)
    assert all(one.is_protected <= (one.id not in gone) for one in entries)
    assert set(free) <= set(newest)
    assert policy.age is None or all(100.0 - one.time <= policy.age for one in free)
    needed = {pack for one in stays for pack in one.packs}
    if policy.size is not None and sum(sizes[pack] for pack in needed) > policy.size:
        forced = {pack for one in stays if one.is_protected for pack in one.packs}
        assert not any(sizes[pack] for one in free for pack in one.packs - forced)


@given(HISTORIES, st.integers(0, 600), SIZES)
def test_no_checkpoint_is_dropped_for_its_size_that_could_stay(
    entries: list[Candidate], size: int, sizes: dict[str, int]
) -> None:
    gone = dropped(entries, ALL.model_copy(update={"size": size}), 0.0, sizes)
    stays = [one for one in entries if one.id not in gone]
    if gone:
        newest_gone = next(one for one in reversed(entries) if one.id in gone)
        needed = {pack for one in [*stays, newest_gone] for pack in one.packs}
        assert sum(sizes[pack] for pack in needed) > size


@given(HISTORIES, POLICIES, SIZES)
def test_a_second_time_drops_nothing_more(entries: list[Candidate], policy: Retention, sizes: dict[str, int]) -> None:
    gone = dropped(entries, policy, 100.0, sizes)
    stays = [one for one in entries if one.id not in gone]
    assert dropped(stays, policy, 100.0, sizes) == []
