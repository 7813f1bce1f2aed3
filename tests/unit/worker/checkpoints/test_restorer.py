"""Checkpoints on their way back: whole or in part, in any order, and what damage costs."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import os
import pickle
import random
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capsule_worker.checkpoints.pickling import class_registry
from capsule_worker.checkpoints.pickling.class_registry import ClassRegistry
from capsule_worker.checkpoints.pickling.placeholder import NotRestoredError, Placeholder, variable_of
from capsule_worker.checkpoints.restorer import Restorer
from capsule_worker.checkpoints.storage.pack_format import DamagedError, pack_path
from capsule_worker.checkpoints.storage.pack_reader import PackReader
from capsule_worker.checkpoints.writing.job import chunks_of
from capsule_worker.checkpoints.writing.writer import Writer
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.errors import ProtocolError
from tests.support.saved_notebook import Notebook, forget_classes, manifest_paths, pack_paths

CELLS = (
    """
import numpy as np

rng = np.random.default_rng(1)
array = rng.random(60_000)
other = rng.random(60_000)
view = other[100:]
text = "a text that is long; " * 10_000
items = [{"number": number} for number in range(5_000)]

class Base:
    factor = 2

class Thing(Base):
    def double(self):
        return self.value * self.factor

thing = Thing()
thing.value = 21
number = 5
""",
    "array[30_000:] = 0\nnumber = 6\nadded = {'a': array[:3].tolist()}",
    "items[4_000]['number'] = -1\nlast = thing",
)
#: What shows that a variable is what it was.
SAME: dict[str, Callable[[Any, Any], bool]] = {
    "array": lambda one, two: bool((one == two).all()),
    "other": lambda one, two: bool((one == two).all()),
    "view": lambda one, two: bool((one == two).all()),
    "rng": lambda one, two: one.bit_generator.state == two.bit_generator.state,
    "thing": lambda one, two: type(one).__name__ == "Thing" and vars(one) == vars(two) and one.double() == 42,
    "last": lambda one, two: type(one).__name__ == "Thing" and vars(one) == vars(two) and one.double() == 42,
    "Base": lambda one, two: one.factor == two.factor,
    "Thing": lambda one, two: one.__name__ == two.__name__ and one.factor == 2,
}


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path)


@pytest.fixture
def saved(notebook: Notebook) -> Notebook:
    """Return a notebook whose latest checkpoint lies in three packs."""
    reached = (None, {"array", "added", "number"}, {"items", "last", "thing"})
    for cell, names in zip(CELLS, reached, strict=True):
        notebook.run(cell)
        notebook.save(reached=names, rewrite=False)
    assert len(pack_paths(notebook.directory)) == len(notebook.manifest.packs) == 3
    return notebook


def come_back(notebook: Notebook) -> dict[str, str]:
    """Restore the latest checkpoint; return what could not be restored. All else must be what it was."""
    fresh = Notebook(notebook.directory)
    forget_classes()
    lost = fresh.restore(notebook.manifest)
    assert fresh.values().keys() == notebook.values().keys()
    for name, value in notebook.values().items():
        back = fresh[name]
        if name in lost:
            assert type(back) is Placeholder
        else:
            assert SAME.get(name, lambda one, two: one == two)(back, value), name
    return lost


def used_by(notebook: Notebook) -> dict[tuple[str, int, int], set[str]]:
    """Return each part of a pack that holds something, and the variables that cannot do without it."""
    manifest = notebook.manifest
    definers = {uid: group for group in manifest.groups for uid in group.defines}
    found: dict[tuple[str, int, int], set[str]] = {}
    reader = PackReader(notebook.directory)
    for group in manifest.groups:
        needed, more = [group], list(group.needs)
        while more:
            definer = definers[more.pop()]
            if definer not in needed:
                needed.append(definer)
                more += definer.needs
        for each in needed:
            record = each.record
            parts = [(record.pack, record.offset, record.size)]
            parts += [(chunk.pack, chunk.offset, chunk.stored) for chunk in chunks_of(reader.blob(record))]
            for part in parts:
                found.setdefault(part, set()).update(group.names)
    reader.close()
    return {part: names for part, names in found.items() if part[2]}


def flip(path: Path, offset: int) -> None:
    """Damage one bit; a second call restores it."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


# -- damage ------------------------------------------------------------------------------------------------------


def test_nothing_is_lost_from_complete_files(saved):
    assert come_back(saved) == {}


def test_each_part_of_each_pack_costs_the_variables_in_it_and_no_others(saved):
    parts = used_by(saved)
    assert len({pack for pack, _, _ in parts}) == 3
    for (pack, offset, size), names in parts.items():
        path = pack_path(saved.directory, pack)
        for place in {offset, offset + size // 2, offset + size - 1}:
            flip(path, place)
            lost = come_back(saved)
            assert lost.keys() == names
            assert all(f"pack {pack} is damaged at byte {offset:,}" in reason for reason in lost.values())
            flip(path, place)


def test_damage_where_nothing_lies_costs_nothing(saved):
    parts = used_by(saved)
    shell = saved.manifest.shell.record
    reader = PackReader(saved.directory)
    parts[(shell.pack, shell.offset, shell.size)] = set()
    for chunk in chunks_of(reader.blob(shell)):
        parts[(chunk.pack, chunk.offset, chunk.stored)] = set()
    reader.close()
    for path in pack_paths(saved.directory):
        places = set(range(path.stat().st_size))
        for pack, offset, size in parts:
            if pack == path.stem:
                places -= set(range(offset, offset + size))
        for place in random.Random(1).sample(sorted(places), min(5, len(places))):
            flip(path, place)
            assert come_back(saved) == {}
            flip(path, place)


@pytest.mark.parametrize("left", [0.0, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("number", range(3))
def test_a_pack_that_was_cut_off_costs_what_lay_behind(saved, number, left):
    path, parts = pack_paths(saved.directory)[number], used_by(saved)
    size = int(path.stat().st_size * left)
    os.truncate(path, size)
    behind = {part for part in parts if part[0] == path.stem and part[1] + part[2] > size}
    lost = come_back(saved)
    assert lost.keys() == {name for part in behind for name in parts[part]}
    assert all(f"pack {path.stem} ends before byte" in reason for reason in lost.values())


@pytest.mark.parametrize("number", range(3))
def test_a_pack_that_is_gone_costs_what_lay_in_it(saved, number):
    path, parts = pack_paths(saved.directory)[number], used_by(saved)
    path.unlink()
    lost = come_back(saved)
    assert lost.keys() == {name for (pack, _, _), names in parts.items() if pack == path.stem for name in names}
    assert all(f"pack {path.stem} cannot be read: No such file" in reason for reason in lost.values())


def test_the_state_of_the_interpreter_can_be_damaged_alone(saved):
    record = saved.manifest.shell.record
    restorer = Restorer(saved.directory, saved.manifest, {}, ClassRegistry())
    assert restorer.shell_state() == {"path": ["/somewhere"]}
    flip(pack_path(saved.directory, record.pack), record.offset)
    with pytest.raises(DamagedError, match=f"pack {record.pack} is damaged"):
        restorer.shell_state()
    restorer.close()
    assert come_back(saved) == {}


def test_what_is_damaged_is_not_built_upon(saved):
    """The next checkpoint keeps what is whole as it is on disk, and lists what is not."""
    (part,) = [part for part, names in used_by(saved).items() if names == {"added"}][:1]
    flip(pack_path(saved.directory, part[0]), part[1])
    fresh = Notebook(saved.directory)
    forget_classes()
    assert fresh.restore(saved.manifest).keys() == {"added"}
    kept = {name for one in fresh.kept for name in one.group.names}
    assert kept == saved.values().keys() - {"added"}


def test_any_damage_to_a_manifest_is_noticed(notebook):
    notebook.run("items = [1, 2, 3]\nnumber = 5\nname = 'text'")
    notebook.save()
    data = manifest_paths(notebook.directory)[-1].read_bytes()
    manifest = mf.load(data)
    for place in range(len(data)):
        for damaged in (data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]):
            try:
                found = mf.load(damaged)
            except ProtocolError:
                continue
            assert found == manifest, f"a manifest damaged at byte {place} is taken for another one"


# -- order -------------------------------------------------------------------------------------------------------


def test_a_group_is_loaded_when_one_of_its_names_is_needed(notebook):
    notebook.run("shared = []\nfirst, second, third = [shared], [shared], [3]")
    notebook.save()
    fresh = Notebook(notebook.directory)
    restorer = Restorer(notebook.directory, notebook.manifest, fresh.namespace, fresh.definitions)
    assert restorer.waiting() == {"shared", "first", "second", "third"}
    restorer.load({"first"})
    assert fresh.values().keys() == {"shared", "first", "second"}
    assert restorer.waiting() == {"third"}
    assert not restorer.done
    restorer.load_next()
    assert restorer.done
    assert fresh["third"] == [3]
    assert {name for kept in restorer.all_kept() for name in kept.group.names} == notebook.values().keys()
    restorer.close()


def test_small_groups_come_first(notebook):
    notebook.run("import os\nlarge, small, middle = [os.urandom(50_000)], [1], [b'2' * 1000]")
    notebook.save()
    fresh = Notebook(notebook.directory)
    restorer = Restorer(notebook.directory, notebook.manifest, fresh.namespace, fresh.definitions)
    order = []
    while not restorer.done:
        restorer.load_next()
        order += [name for name in fresh.values() if name not in order]
    restorer.close()
    assert [name for name in order if name != "os"] == ["small", "middle", "large"]


def test_what_is_interrupted_can_be_loaded_again(notebook):
    notebook.run("""
        class Slow:
            def __setstate__(self, state):
                if not seen:
                    seen.append(1)
                    raise KeyboardInterrupt
                self.value = state["value"]

        slow = Slow()
        slow.value = 5
    """)
    notebook.save()
    fresh = Notebook(notebook.directory)
    fresh.namespace["seen"] = []
    restorer = Restorer(notebook.directory, notebook.manifest, fresh.namespace, fresh.definitions)
    forget_classes()
    with pytest.raises(KeyboardInterrupt), fresh.as_main():
        restorer.load_all()
    assert "slow" in restorer.waiting()
    assert gc.isenabled()
    with fresh.as_main():
        restorer.load_all()
    restorer.close()
    assert fresh["slow"].value == 5


@pytest.mark.parametrize("error", ["ValueError('no')", "SystemExit(1)", "RecursionError()", "MemoryError()"])
def test_variables_that_cannot_be_loaded_are_named_and_all_others_restored(notebook, error):
    notebook.run(f"""
        class Bad:
            def __setstate__(self, state):
                raise {error}

        bad, good = Bad(), [1]
        bad.value = 5
    """)
    notebook.save()
    fresh = Notebook(notebook.directory)
    forget_classes()
    lost = fresh.restore(notebook.manifest)
    assert lost.keys() == {"bad"}
    assert error.partition("(")[0] in lost["bad"]
    assert fresh["good"] == [1]
    with pytest.raises(NotRestoredError, match=r"bad \(Bad\) was not restored: .* Re-run its cell \(In \[7\]\)"):
        _ = fresh["bad"].value


def test_a_module_that_is_not_installed_is_named(notebook, monkeypatch):
    module = types.ModuleType("some_library")
    exec("class Tool:\n    pass", module.__dict__)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "some_library", module)
        notebook.run("import some_library\ntool = some_library.Tool()\ngood = [1]")
        notebook.save()
    fresh = Notebook(notebook.directory)
    lost = fresh.restore(notebook.manifest)
    assert lost.keys() == {"some_library", "tool"}
    assert all("No module named 'some_library'" in reason for reason in lost.values())
    assert fresh["good"] == [1]


# -- classes -----------------------------------------------------------------------------------------------------

FAMILIES = {
    "a base that knows its child": """
        class Base:
            def who(self):
                return type(self).__name__

        class Child(Base):
            def who(self):
                return "child of " + super().who()

        Base.favourite = Child
    """,
    "two that know each other": """
        class Base:
            pass

        class Child:
            friend = Base

        Base.favourite = Child
    """,
    "a base that keeps a list": """
        class Base:
            children = []

        class Child(Base):
            pass

        Base.children.append(Child)
        Base.favourite = Child
    """,
    "a list outside that both hold": """
        log = []

        class Base:
            log = log

        class Child(Base):
            own = log

        Base.favourite = Child
    """,
    "a method's default": """
        class Base:
            pass

        class Child(Base):
            def make(self, kind=Base):
                return kind()

        Base.favourite = Child
    """,
    "generations": """
        class Base:
            pass

        class Middle(Base):
            pass

        class Child(Middle):
            top = Base

        Base.favourite = Child
        Middle.favourites = [Child, Base]
    """,
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_classes_that_refer_to_each_other_come_back_as_one_in_any_order(notebook, family):
    notebook.run(family)
    notebook.run("base, child = Base(), Child()")
    notebook.save()
    manifest = notebook.manifest
    orders = list(itertools.permutations(range(len(manifest.groups))))
    for order in random.Random(1).sample(orders, min(60, len(orders))):
        groups = [group.model_copy(update={"size": order[place]}) for place, group in enumerate(manifest.groups)]
        fresh = notebook.restored(manifest.model_copy(update={"groups": groups}))
        base, child = fresh["Base"], fresh["Child"]
        assert base.favourite is child
        assert type(fresh["base"]) is base
        assert type(fresh["child"]) is child
        assert [each.__name__ for each in child.__mro__] == [each.__name__ for each in notebook["Child"].__mro__]
        assert base in child.__mro__ or child.friend is base
        if "log" in fresh.values():
            assert base.log is child.own is fresh["log"]


def test_a_class_of_which_a_part_is_missing_is_not_taken_for_whole(notebook, monkeypatch):
    module = types.ModuleType("some_library")
    exec("class Tool:\n    pass", module.__dict__)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "some_library", module)
        notebook.run("""
            import some_library

            class Thing:
                before = 1
                tool = some_library.Tool()

                def act(self):
                    return 1

            first, second, good = Thing(), Thing(), [1]
            del some_library
        """)
        notebook.save()
    fresh = notebook.restored()
    assert fresh["good"] == [1]
    for name in ("Thing", "first", "second"):
        variable = variable_of(fresh[name])
        assert variable is not None
        assert "its class was not restored" in (variable.reason or "")
        assert "No module named 'some_library'" in (variable.reason or "")


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_what_is_made_of_a_class_that_is_not_whole_does_not_come(notebook, monkeypatch, order):
    module = types.ModuleType("some_library")
    exec("class Tool:\n    pass", module.__dict__)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "some_library", module)
        notebook.run("""
            import some_library

            class Base:
                pass

            class Child(Base):
                pass

            Base.child = Child
            Base.tool = some_library.Tool()
            child = Child()
            del some_library, Child, Base
        """)
        notebook.run("class Other:\n    pass\nother = Other()\ndel Other")
        notebook.save()
    manifest = notebook.manifest
    assert len(manifest.groups) == 5
    sizes = dict(zip(["child", "other", *"ab"], order, strict=True))
    letters = iter("ab")
    groups = [
        group.model_copy(update={"size": sizes[group.names[0] if group.names else next(letters, "a")]})
        for group in manifest.groups
    ]
    fresh = notebook.restored(manifest.model_copy(update={"groups": groups}))
    assert type(fresh["other"]).__name__ == "Other"
    variable = variable_of(fresh["child"])
    assert variable is not None
    assert "No module named 'some_library'" in (variable.reason or "")


# -- in part -----------------------------------------------------------------------------------------------------


def test_only_the_wanted_variables_are_restored(notebook):
    notebook.run("shared = []\nfirst, second, third = [shared], [shared], [3]")
    notebook.save()
    notebook.run("first, second, third = 1, 2, 3")
    assert notebook.restore(notebook.manifest, {"first"}, fresh=False) == {}
    assert (notebook["first"], notebook["second"], notebook["third"]) == ([[]], 2, 3)


def test_an_instance_comes_back_as_one_of_the_class_that_is_there(notebook):
    notebook.run("class Thing:\n    pass\nthing = Thing()\nthing.value = 1")
    notebook.save()
    notebook.run("thing.value = 2\nThing.added = 3")
    notebook.restore(notebook.manifest, {"thing"}, fresh=False)
    assert notebook["thing"].value == 1
    assert type(notebook["thing"]) is notebook["Thing"]
    assert notebook["thing"].added == 3


def test_an_instance_brings_its_class_along_if_that_is_gone(notebook):
    notebook.run("class Thing:\n    kind = 'first'\nthing = Thing()")
    notebook.save()
    notebook.run("class Thing:\n    kind = 'second'\ndel thing")
    gc.collect()
    notebook.restore(notebook.manifest, {"thing"}, fresh=False)
    assert notebook["thing"].kind == "first"
    assert notebook["Thing"].kind == "second"


@pytest.mark.parametrize("sizes", list(itertools.permutations(range(3))))
def test_names_in_the_group_of_a_class_are_restored_too(notebook, sizes):
    notebook.run("log = []\nclass Thing:\n    log = log\nthing = Thing()")
    notebook.save()
    manifest = notebook.manifest
    assert any(group.names == ["log"] and group.defines for group in manifest.groups)
    groups = [group.model_copy(update={"size": sizes[place]}) for place, group in enumerate(manifest.groups)]
    forget_classes()
    fresh = Notebook(notebook.directory)
    wanted = {"log", "thing"}
    assert fresh.restore(manifest.model_copy(update={"groups": groups}), wanted, fresh=False) == {}
    assert fresh.values().keys() == wanted
    assert type(fresh["thing"]).log is fresh["log"]


def test_another_class_at_the_same_address_is_not_mistaken_for_the_one_that_was_saved(notebook, monkeypatch):
    monkeypatch.setattr(class_registry, "id", lambda _: 1, raising=False)
    notebook.run("class Thing:\n    kind = 'first'\nthing = Thing()")
    notebook.save()
    manifest = notebook.manifest
    notebook.definitions.remember(notebook.definitions.id_of(notebook["Thing"]), notebook["Thing"])
    notebook.run("del Thing, thing")
    notebook.kept, notebook.shell = [], None
    forget_classes()
    gc.collect()
    notebook.run("class Other:\n    kind = 'second'\nother = Other()")
    notebook.restore(manifest, {"thing"}, fresh=False)
    assert notebook["thing"].kind == "first"
    assert type(notebook["thing"]) is not notebook["Other"]


def test_a_class_keeps_its_id_as_long_as_it_exists(notebook):
    notebook.run("class Thing:\n    pass")
    known, cls = notebook.definitions, notebook["Thing"]
    uid = known.id_of(cls)
    assert known.id_of(cls) == uid
    assert known.get(uid) is cls
    known.learn([uid, "another.1"])
    assert known.id_of(cls) == uid
    assert known.get(uid) is cls
    assert known.get("another.1") is None
    known.renew()
    assert known.id_of(cls) != uid
    assert known.get(uid) is None


# -- placeholders ------------------------------------------------------------------------------------------------

USES: dict[str, Callable[[Any], object]] = {
    "an attribute": lambda it: it.value,
    "a call": lambda it: it(),
    "an item": lambda it: it[0],
    "a length": len,
    "a loop": list,
    "next": next,
    "membership": lambda it: 1 in it,
    "truth": bool,
    "equality": lambda it: it == 1,
    "order": lambda it: it < 1,
    "arithmetic": lambda it: it + 1,
    "arithmetic from the right": lambda it: 1 + it,
    "divmod": lambda it: divmod(it, 2),
    "divmod from the right": lambda it: divmod(2, it),
    "rounding": round,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "an integer": int,
    "a float": float,
    "an index": lambda it: [1, 2][it],
    "a key": lambda it: {it: 1},
    "reversed": reversed,
    "a path": os.fspath,
    "bytes": bytes,
    "assignment to an attribute": lambda it: setattr(it, "value", 1),
    "assignment to an item": lambda it: it.__setitem__(0, 1),
    "hasattr": lambda it: hasattr(it, "value"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_error_of_a_placeholder_names_the_cell_to_run_again(use):
    cell = mf.SavedCell(number=3, line="sock = connect()")
    placeholder = Placeholder(mf.Variable(name="sock", type="socket", cell=cell, reason="it is open"))
    told = r"sock \(socket\) was not restored: it is open\. Re-run its cell \(In \[3\]\): sock = connect\(\)"
    with pytest.raises(NotRestoredError, match=told):
        use(placeholder)


async def enter(placeholder: Placeholder) -> None:
    async with placeholder:  # type: ignore[attr-defined]  # it says so when it runs
        pass


def test_a_placeholder_is_not_a_context():
    placeholder = Placeholder(mf.Variable(name="sock", type="socket"))
    with pytest.raises(NotRestoredError), placeholder:  # type: ignore[attr-defined]  # it says so when it runs
        pass
    with pytest.raises(NotRestoredError):
        enter(placeholder).send(None)


def test_a_placeholder_can_be_looked_at_and_copied():
    placeholder = Placeholder(mf.Variable(name="sock", type="socket"))
    assert repr(placeholder) == "<sock (socket) was not restored: it was not saved>"
    for other in (copy.copy(placeholder), pickle.loads(pickle.dumps(placeholder))):
        assert variable_of(other) == variable_of(placeholder)
    assert variable_of("anything else") is None


def test_a_placeholder_stays_one_through_the_checkpoints_that_follow(notebook):
    notebook.run("import socket\nsock = socket.socket()\nheld = [1]")
    notebook.save()
    notebook["sock"].close()
    fresh = notebook.restored()
    standing = variable_of(fresh["sock"])
    assert standing is not None
    job = fresh.job()
    dirty = [[name for name in names if name != "sock"] for names in job.dirty]
    fresh.take(fresh.carry_out(Writer(replace(job, dirty=dirty, unsaveable={"sock": standing}))))
    again = fresh.restored()
    assert variable_of(again["sock"]) == standing
    assert again["held"] == [1]
