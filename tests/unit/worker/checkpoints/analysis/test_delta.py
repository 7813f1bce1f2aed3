"""What a checkpoint saves again and what it keeps: nothing is left out, nothing stale is kept, no class is missing."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from capsule_worker.checkpoints.analysis.delta import Delta, delta

NAMES = "abcdefgh"
CLASSES = ["C1", "C2", "C3", "C4"]


@dataclass
class Group:
    names: list[str] = field(default_factory=list)
    defines: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)


@st.composite
def states(draw):
    """Draw groups on disk, as one checkpoint may have left them, and what the namespace is by now."""
    where = draw(st.fixed_dictionaries({name: st.integers(-1, 4) for name in NAMES}))
    defined = draw(st.fixed_dictionaries({uid: st.integers(0, 6) for uid in CLASSES}))
    groups: dict[object, Group] = {}
    for name, place in where.items():
        if place >= 0:
            groups.setdefault(place, Group()).names.append(name)
    for uid, place in defined.items():
        # A class lies with the variables that it shares something with, or by itself.
        key = place if place in groups else uid
        groups.setdefault(key, Group()).defines.append(uid)
    found = list(groups.values())
    for group in found:
        group.needs = [uid for uid in draw(st.lists(st.sampled_from(CLASSES), unique=True)) if uid not in group.defines]
    waiting = set()
    for group in found:
        if group.names and draw(st.integers(0, 5)) == 0:
            waiting.update(group.names)
    bound = draw(st.sets(st.sampled_from(NAMES))) - waiting
    present = {name: draw(st.booleans()) for name in sorted(bound)}
    on_disk = {name for group in found for name in group.names}
    changed = {name for name in present if name not in on_disk or draw(st.integers(0, 3)) == 0}
    reached = draw(st.none() | st.sets(st.sampled_from(NAMES)))
    return found, present, changed, reached, waiting


def kept_groups(groups: list[Group], found: Delta) -> list[Group]:
    return [groups[place] for place in found.kept]


@given(states())
@settings(max_examples=120, deadline=None)
def test_each_name_is_saved_once_or_kept_once(state):
    groups, present, changed, reached, waiting = state
    found = delta(groups, present, changed, reached, waiting)
    names = [name for group in kept_groups(groups, found) for name in group.names]
    names += [name for several in found.dirty for name in several]
    assert sorted(names) == sorted({*present, *waiting})
    assert all(found.dirty), "an empty list is nothing to save"


@given(states())
@settings(max_examples=120, deadline=None)
def test_nothing_is_kept_that_may_have_changed(state):
    groups, present, changed, reached, waiting = state
    found = delta(groups, present, changed, reached, waiting)
    for name in {name for group in kept_groups(groups, found) for name in group.names} - waiting:
        assert name in present
        assert name not in changed
        assert reached is not None
        assert name not in reached


@given(states())
@settings(max_examples=120, deadline=None)
def test_all_classes_that_are_needed_are_kept_or_saved_again(state):
    groups, present, changed, reached, waiting = state
    found = delta(groups, present, changed, reached, waiting)
    kept = kept_groups(groups, found)
    assert {uid for group in kept for uid in group.needs} <= found.required | {
        uid for group in kept for uid in group.defines
    }
    assert not set(found.kept) & set(found.stale)


@given(states())
@settings(max_examples=120, deadline=None)
def test_classes_of_what_may_have_changed_are_saved_again(state):
    groups, present, changed, reached, waiting = state
    found = delta(groups, present, changed, reached, waiting)
    alone = {uid: group for group in groups if not group.names for uid in group.defines}
    kept = {uid for group in kept_groups(groups, found) for uid in group.defines}
    used = [uid for place in found.stale for uid in groups[place].needs]
    for uid in used:
        assert uid not in alone or uid not in kept


def test_nothing_happened_and_nothing_is_saved():
    groups = [Group(["a", "b"], [], ["C1"]), Group(["n"]), Group([], ["C1"], ["C2"]), Group([], ["C2"])]
    found = delta(groups, {"a": False, "b": False, "n": True}, changed=(), reached=set())
    assert found == Delta([0, 1, 2, 3], [], [], set())


def test_a_group_is_saved_together_without_its_rebound_names():
    groups = [Group(["a", "b", "c"])]
    present = {"a": False, "b": False, "c": False}
    assert delta(groups, present, changed={"c"}, reached={"a"}).dirty == [["a", "b"], ["c"]]


def test_plain_values_are_saved_in_one_piece():
    present = {"a": False, "i": True, "j": True}
    assert delta([], present, changed=present, reached=set()).dirty == [["a"], ["i", "j"]]


def test_a_plain_value_that_a_cell_reached_is_saved_again():
    """It may be another one at the same address, which nothing tells apart from the first."""
    assert delta([Group(["i"])], {"i": True}, changed=(), reached={"i"}) == Delta([], [0], [["i"]], set())


def test_a_deleted_name_takes_its_group_along_and_leaves_the_others_in_it():
    found = delta([Group(["a", "b"])], {"a": False}, changed=(), reached=set())
    assert (found.kept, found.dirty) == ([], [["a"]])


def test_classes_that_nothing_needs_any_more_are_dropped():
    groups = [Group(["x"], [], ["C1"]), Group([], ["C1"], ["C2"]), Group([], ["C2"])]
    assert delta(groups, {}, changed=(), reached=set()).kept == []


def test_the_class_of_something_that_stays_is_saved_again_if_a_cell_reached_it_through_something_else():
    groups = [Group(["x"], [], ["C1"]), Group(["y"], [], ["C1"]), Group([], ["C1"])]
    found = delta(groups, {"x": False, "y": False}, changed=(), reached={"x"})
    assert (found.kept, found.dirty, found.required) == ([1], [["x"]], {"C1"})


def test_what_is_not_loaded_yet_stays_whatever_was_reached():
    groups = [Group(["x"], [], ["C1"]), Group([], ["C1"])]
    assert delta(groups, {}, changed=(), reached={"x"}, waiting={"x"}).kept == [0, 1]
