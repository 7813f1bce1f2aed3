"""What differs between two checkpoints, told from their manifests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from capsule_durable.checkpoints.diff import Change, difference
from capsule_worker.protocol.manifest import Group, Location, Manifest, Variable

SHELL = Group(record=Location(pack="", offset=0, size=0, digest=b""))


def checkpoint(*variables: Variable) -> Manifest:
    return Manifest(id="a", session="s", number=1, time=0.0, execution_count=1, shell=SHELL, variables=list(variables))


def variable(name: str, digest: bytes = b"", kind: str = "int", size: int = 0, reason: str | None = None) -> Variable:
    return Variable(name=name, type=kind, size=size, digest=digest, reason=reason)


def test_added_removed_and_changed_variables_are_sorted_by_name() -> None:
    before = checkpoint(variable("z", b"1", "list", 10), variable("gone", b"2", "str", 20), variable("same", b"3"))
    after = checkpoint(variable("same", b"3"), variable("z", b"4", "dict", 30), variable("a", b"5", "float", 40))
    assert difference(before, after) == [
        Change(name="a", kind="added", type_after="float", size_after=40),
        Change(name="gone", kind="removed", type_before="str", size_before=20),
        Change(name="z", kind="changed", type_before="list", type_after="dict", size_before=10, size_after=30),
    ]


def test_a_variable_that_cannot_be_saved_has_changed_if_its_type_or_the_reason_has() -> None:
    before = checkpoint(*(variable(name, kind="socket", reason="open") for name in "abc"), variable("d", b"1"))
    after = checkpoint(
        variable("a", kind="socket", reason="open"),
        variable("b", kind="file", reason="open"),
        variable("c", kind="socket", reason="closed"),
        variable("d", reason="too large"),
    )
    assert [change.name for change in difference(before, after)] == ["b", "c", "d"]


def test_outputs_are_compared_only_on_request() -> None:
    before = checkpoint()
    after = checkpoint(*(variable(name) for name in ("_", "__", "___", "_12", "_x", "_1a", "____", "x_1")))
    assert [change.name for change in difference(before, after)] == ["_1a", "____", "_x", "x_1"]
    assert len(difference(before, after, outputs=True)) == 8


VARIABLES = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.sampled_from([b"1", b"2"]), st.sampled_from(["int", "str"]))
).map(lambda found: checkpoint(*(variable(name, digest, kind) for name, (digest, kind) in found.items())))


@given(VARIABLES, VARIABLES)
def test_the_reverse_comparison_is_the_opposite(before: Manifest, after: Manifest) -> None:
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    there, back = difference(before, after), difference(after, before)
    assert [(one.name, opposite[one.kind], one.type_after) for one in there] == [
        (one.name, one.kind, one.type_before) for one in back
    ]
    assert difference(before, before) == []
