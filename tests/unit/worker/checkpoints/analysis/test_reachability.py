"""What cells can have changed: from what they name to all that shares objects with that, without looking at data."""

from __future__ import annotations

import functools
import sys
import textwrap
import types
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from capsule_worker.checkpoints.analysis.name_usage import NameUsage, name_usage
from capsule_worker.checkpoints.analysis.reachability import (
    EVERY_MODULE,
    GroupIndex,
    HiddenReferences,
    ReachableNames,
    can_retain,
    reachable_names,
    root_of,
)
from capsule_worker.ipykernel_compat.kernel_proxy import KernelProxy
from capsule_worker.shell.shell import ZMQInteractiveShell

TRANSFORMER: Any = TransformerManager()  # type: ignore[no-untyped-call]  # IPython has no types


@dataclass
class Group:
    names: list[str] = field(default_factory=list)
    defines: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    plain: bool = False


def touch_of(cell: str) -> NameUsage:
    """Return what a cell touches, as it was typed."""
    return name_usage(TRANSFORMER.transform_cell(textwrap.dedent(cell)))


def notebook(setup: str) -> dict[str, Any]:
    """Return the namespace that a cell leaves."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent(setup), space)
    del space["__name__"], space["__builtins__"]
    return space


def reached(
    cell: str,
    space: dict[str, Any],
    groups: tuple[Group, ...] = (),
    links: HiddenReferences | None = None,
    unsaveable: tuple[str, ...] = (),
) -> ReachableNames:
    return reachable_names([touch_of(cell)], space, GroupIndex(groups), links or HiddenReferences(), unsaveable)


def names_of(found: ReachableNames) -> set[str]:
    assert found.names is not None
    return found.names


# -- what the source says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("x", "x"),
        ("x = y", "x y"),
        ("x[i].name = y.z", "x i y"),
        ("del x", "x"),
        ("x += 1", "x"),
        ("x, (y, *z) = w", "x y z w"),
        ("(x := y)", "x y"),
        ("for x in y: z", "x y z"),
        ("[x for x in y if z]", "x y z"),
        ("lambda a=x: a + y", "a x y"),
        ("with x as y: pass", "x y"),
        ("try:\n    x\nexcept E as e:\n    pass", "x E e"),
        ("match x:\n    case [a, *b]: pass\n    case {'k': c, **d}: pass\n    case P(e) as f: pass", "x a b c d e f P"),
        ("def f(a: t = x) -> r:\n    global g\n    return y", "f t x r g y"),
        ("async def f():\n    nonlocal_ = await x", "f nonlocal_ x"),
        ("@d\nclass C(B, metaclass=M):\n    a = x", "d C B M a x"),
        ("import a.b", "a"),
        ("import a.b as c", "c"),
        ("from a import b as c, d", "b c d"),
        ("f'{x} {y:{z}}'", "x y z"),
        ("x.append(1);", "x"),
        ("await x", "x"),
        ("'exec(x)'", ""),
        ("re.compile(x)", "re x"),
        ("model.eval()", "model"),
        ("model.modules()", "model"),
        ("frame.locals", "frame"),
        # Magics.
        ("%time x.append(1)", "x"),
        ("y = %time x", "x y"),
        ("%%time\nx.append(1)", "x"),
        ("%timeit x.append(1)", "x"),
        ("%timeit -n 10 -r 2 x.append(1)", "x"),
        ("%timeit -n1 -r1 x.append(1)", "x"),
        ("%%timeit x = y\nx.append(1)", "x y"),
        ("%%capture out\nx.append(1)", "x out"),
        ("%prun x.sort()", "x"),
        ("%cd $folder", "folder"),
        ("%matplotlib inline", "inline"),
        ("!ls", ""),
        ("!ls {x}", "ls x"),
        ("!ls $x", "ls x"),
        ("y = !ls {x[0]}", "y ls x 0"),
        ("%%bash --out x --err y\nls", "out x err y"),
        ("%%html\n<b>x</b>", ""),
        ("%capsule status", "status"),
        ("x?", "x"),
    ],
)
def test_a_cell_touches_the_names_in_it(cell: str, names: str) -> None:
    found = touch_of(cell)
    assert found.anything is None
    assert {name for name in found.names if name.isidentifier()} == {n for n in names.split() if n.isidentifier()}


@pytest.mark.parametrize(
    "cell",
    [
        "exec('x.append(1)')",
        "eval('x').append(1)",
        "globals()['x'].append(1)",
        "locals()",
        "vars()",
        "run = exec",
        "compile('x', '', 'eval')",
        "__import__('os')",
        "import importlib\nimportlib.import_module('a')",
        "from importlib import import_module",
        "f.__globals__['x']",
        "import sys\nsys._getframe().f_globals['x']",
        "import sys\nsys.modules['__main__'].x",
        "from sys import modules",
        "import __main__",
        "from __main__ import x",
        "import gc\ngc.get_objects()",
        "import ctypes",
        "from ctypes import cast",
        "from anywhere import *",
        "get_ipython().user_ns['x']",
        "get_ipython().run_cell('x.append(1)')",
        "get_ipython().ex('x.append(1)')",
        "shell = get_ipython()",
        "from IPython import get_ipython",
        "import IPython\nIPython.get_ipython().ex('x')",
        "%run program.py",
        "%run -i program.py",
        "%store -r x",
        "%reset -f",
        "%autoreload 2",
        "%unknown_magic x",
        "%%unknown_magic\nx",
        "%time exec('x')",
        "%%time\n%run program.py",
        "%%python\nx",
        "%prun -s cumulative x.sort()",
        "def f():\n    exec('x')",
        "this is invalid Python",
        "get_ipython().run_line_magic(name, '')",
    ],
)
def test_a_cell_that_can_reach_anything_is_known_as_such(cell: str) -> None:
    assert touch_of(cell).anything is not None


def test_the_modules_that_a_cell_imports_are_known_by_their_roots() -> None:
    assert touch_of("import a.b, c as d\nfrom e.f import g\nfrom . import h").modules == {"a", "c", "e", ""}
    assert touch_of("%time import a").modules == {"a"}


@given(st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_no_text_makes_it_fail(text: str) -> None:
    name_usage(text)


# -- what stands behind names, where nothing is saved yet ---------------------------------------------------------

TWO_LISTS = "x, y = [], []\n"


@pytest.mark.parametrize(
    ("setup", "cell", "names"),
    [
        ("", "x", "x"),
        ("", "z = x", "x"),
        ("def f(): x.append(1)", "f()", "f x"),
        ("def f(): y", "f", "f y"),
        ("f = lambda: x", "f()", "f x"),
        ("def f():\n    def g(): x.append(1)\n    g()", "f()", "f x"),
        ("def f(): return [x for _ in y]", "f()", "f x y"),
        ("def f(): x\ndef g(): f()\ndef h(): g()", "h()", "h g f x"),
        ("def f(): f(); x", "f()", "f x"),
        ("def f():\n    global y\n    y = 1", "f()", "f y"),
        ("def f(a): a.append(1)", "f(y)", "f y"),
        ("def f(a): yield x", "list(f(1))", "f x"),
        ("async def f(): x", "await f()", "f x"),
        ("def f(a=lambda: x): a()", "f()", "f x"),
        ("def make():\n    def inner(): x\n    return lambda: inner()\nf = make()", "f()", "f x"),
        (
            "import functools\ndef d(g):\n    @functools.wraps(g)\n    def outer(): return g()\n    return outer\n"
            "@d\ndef f(): x",
            "f()",
            "f x",
        ),
        ("import functools\ndef f(): x\np = functools.partial(f)", "p()", "p x"),
        ("import functools\ndef f(a): x\ndef g(): y\np = functools.partial(f, g)", "p()", "p x y"),
        ("import functools\ndef f(): x\np = functools.partial(f)\ndel f", "p()", "p x"),
        ("import contextlib\n@contextlib.contextmanager\ndef f():\n    x\n    yield", "with f(): pass", "f x"),
        ("class A:\n    def go(self): x", "A().go()", "A x"),
        ("class A:\n    def go(self): x\na = A()", "a.go()", "a x"),
        ("class A:\n    def go(self): x\na = A()\ndel A", "a.go()", "a x"),
        ("class A:\n    def go(self): x\na = A().go", "a()", "a x"),
        ("class A:\n    def go(self): self.do()\n    def do(self): x\na = A().go", "a()", "a x"),
        ("class A:\n    def go(self): x\nclass B(A): pass\nb = B()", "b.go()", "b x"),
        ("class A:\n    @property\n    def p(self): x\na = A()", "a.p", "a x"),
        ("class A:\n    @classmethod\n    def p(cls): x\na = A()", "a.p()", "a x"),
        ("class A:\n    @staticmethod\n    def p(): x\na = A()", "a.p()", "a x"),
        ("class A:\n    def __add__(self, other): x\na = A()", "a + 1", "a x"),
        ("class A:\n    class B:\n        def go(self): x\na = A()", "a.B().go()", "a x"),
        ("class M(type):\n    def __call__(cls): x\nclass A(metaclass=M): pass", "A()", "A x"),
        ("def f(): x\nfs = [f]", "fs[0]()", "fs x"),
        ("def f(): x\nfs = {'f': f}", "fs['f']()", "fs x"),
        ("class A:\n    def go(self): x\nls = [A()]", "ls[0].go()", "ls x"),
        ("import re\ndef f(t): return re.compile(t)", "f('a')", "f re"),
        ("def f(model): model.eval()", "f(y)", "f y"),
        ("import numpy as np\ndef f(): return np.zeros(3)", "f()", "f np"),
    ],
)
def test_code_behind_a_name_is_looked_at(setup: str, cell: str, names: str) -> None:
    found = reached(cell, notebook(TWO_LISTS + setup))
    assert found.reason is None
    assert found.names == set(names.split())


@pytest.mark.parametrize(
    "setup",
    [
        "def f(): exec('x.append(1)')",
        "def f(): eval('x')",
        "def f(): globals()['x']",
        "def f():\n    import sys\n    sys.modules['__main__'].x",
        "def f(): get_ipython().ex('x')",
        "def g(): exec('x')\ndef f(): g()",
        "def f(): return [exec(t) for t in 'x']",
        "def g(): exec('x')\nf = [g]",
        "class f:\n    def __init__(self): exec('x')",
        "import functools\ndef g(): exec('x')\nf = functools.partial(g)",
    ],
)
def test_code_that_can_reach_anything_does_so_behind_a_name(setup: str) -> None:
    found = reached("f()", notebook(TWO_LISTS + setup))
    assert found.names is None
    assert found.reason


@pytest.mark.parametrize("kind", [ZMQInteractiveShell, KernelProxy])
def test_a_cell_with_the_shell_can_reach_anything(kind: type) -> None:
    shell = kind.__new__(kind)
    assert reached("s.run_cell('x')", {"s": shell, "x": []}).names is None
    assert reached("x", {"s": shell, "x": []}).names == {"x"}


def test_names_that_are_gone_are_no_longer_reached() -> None:
    assert reached("nowhere = 1", notebook(TWO_LISTS)).names == set()


@pytest.mark.parametrize("cell", ["_.append(1)", "__", "___", "Out[3].append(1)", "_oh"])
def test_an_output_stands_for_all_of_them(cell: str) -> None:
    space: dict[str, Any] = {"_": 5, "_3": [], "_4": [], "_i4": "", "x": []}
    assert names_of(reached(cell, space)) - {"_"} == {"_3", "_4"}
    assert reached("_3.append(1)", space).names == {"_3"}


def test_an_output_that_is_not_loaded_is_reached_too() -> None:
    assert reached("_", {}, (Group(names=["_3", "x"]),)).names == {"_3", "x"}


# -- through what is saved together -------------------------------------------------------------------------------


def test_what_shares_objects_is_reached_together() -> None:
    groups = (Group(names=["a", "b"]), Group(names=["c"]))
    space: dict[str, Any] = {"a": [], "b": [], "c": []}
    assert reached("a.append(1)", space, groups).names == {"a", "b"}
    assert reached("c", space, groups).names == {"c"}


def test_what_is_not_loaded_yet_is_reached_through_what_is_known_of_it() -> None:
    groups = (Group(names=["f"], reads=["x", "len"]), Group(names=["x", "y"]))
    assert reached("f()", {}, groups).names == {"f", "x", "y"}


def test_code_in_a_group_reaches_what_it_reads_step_by_step() -> None:
    groups = (Group(names=["f"], reads=["g"]), Group(names=["g"], reads=["h"]), Group(names=["h", "x"]))
    assert reached("f", dict.fromkeys("fghx", 0), groups).names == {"f", "g", "h", "x"}


def test_code_in_a_group_that_can_reach_anything_does_so() -> None:
    assert reached("f", {"f": 0}, (Group(names=["f"], reads=["exec"]),)).names is None
    assert reached("f", {"f": 0}, (Group(names=["f"], reads=["sys", "sys.modules"]),)).names is None


def test_an_object_leads_to_its_class_and_to_what_that_shares() -> None:
    groups = (
        Group(names=["a"], needs=["1"]),
        Group(defines=["1"], needs=["2"], reads=["x"]),
        Group(names=["y"], defines=["2"]),
        Group(names=["z"]),
    )
    assert reached("a", dict.fromkeys("axyz", 0), groups).names == {"a", "x", "y"}


def test_a_rebound_name_also_leads_to_its_old_value() -> None:
    groups = (Group(names=["f", "x"]),)
    assert reached("f = []", {"f": [], "x": []}, groups).names == {"f", "x"}


def test_a_name_that_was_deleted_leads_to_what_it_was() -> None:
    assert reached("del f", {"x": []}, (Group(names=["f", "x"]),)).names == {"f", "x"}


# -- through hidden places ----------------------------------------------------------------------------------------


def linked(key: str, *names: str) -> HiddenReferences:
    links = HiddenReferences()
    links.join(key, names)
    return links


def test_a_module_hands_out_what_it_was_given() -> None:
    space: dict[str, Any] = {"x": [], "y": []}
    found = reached("import hoard\nhoard.keep(x)", space)
    assert found.joins == {"hoard": {"x"}}
    assert reached("import hoard\nhoard.poke()", space, links=linked("hoard", "x")).names == {"x"}
    assert reached("y", space, links=linked("hoard", "x")).names == {"y"}


@pytest.mark.parametrize(
    "value",
    [
        types.ModuleType("hoard.part"),
        type("Holder", (), {"__module__": "hoard"})(),
        type("Holder", (), {"__module__": "hoard"}),
        type("Holder", (), {"__module__": "hoard", "go": lambda self: 1})().go,
    ],
    ids=["module", "object", "class", "method"],
)
def test_a_module_is_met_by_whatever_belongs_to_it(value: Any) -> None:
    assert reached("h", {"h": value, "x": []}, links=linked("hoard", "x")).names == {"h", "x"}


def test_a_function_of_a_module_leads_to_it() -> None:
    space: dict[str, Any] = {"__name__": "hoard"}
    exec("def poke(): pass", space)
    assert reached("poke()", {"poke": space["poke"], "x": []}, links=linked("hoard", "x")).names == {"poke", "x"}


def test_a_module_that_saved_objects_belong_to_is_met() -> None:
    groups = (Group(names=["h"], modules=["hoard"]),)
    assert reached("h", {"h": 0, "x": []}, groups, linked("hoard", "x")).names == {"h", "x"}


def test_a_module_leads_to_those_that_it_can_call(monkeypatch: pytest.MonkeyPatch) -> None:
    hoard, errand, bystander = (types.ModuleType(name) for name in ("hoard_1", "errand_1", "bystander_1"))
    errand.hoard = hoard  # type: ignore[attr-defined]
    for module in (hoard, errand, bystander):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    space: dict[str, Any] = {"x": [], "y": []}
    assert reached("import errand_1", space, links=linked("hoard_1", "x")).names == {"x"}
    assert reached("import hoard_1", space, links=linked("errand_1", "x")).names == set()
    assert reached("import bystander_1", space, links=linked("hoard_1", "x")).names == set()
    assert reached("import errand_1\nerrand_1.keep(y)", space).joins == {"errand_1": {"y"}, "hoard_1": {"y"}}


@pytest.mark.parametrize("root", ["numpy", "pandas", "json", "math", "os", "IPython", "torch", "_private", "capsule"])
def test_a_module_that_keeps_nothing_is_not_a_link(root: str) -> None:
    assert not can_retain(root)
    found = reached(f"import {root}", {"x": []}, links=linked(root, "x"))
    assert found.names == set()
    assert found.joins == {}


@pytest.mark.parametrize("root", ["sys", "logging", "builtins", "weakref", "other_library", "matplotlib", "mlflow"])
def test_a_module_that_may_keep_something_is_a_link(root: str) -> None:
    assert can_retain(root)


def test_what_a_module_holds_spreads_to_what_is_near() -> None:
    """``y = [x]`` puts what the module holds into ``y``; what it does then may change ``y``."""
    found = reached("y = [x]", {"x": [], "y": [[]], "z": []}, links=linked("hoard", "x"))
    assert found.names == {"x", "y"}
    assert found.joins == {"hoard": {"x", "y"}}


def test_what_was_shared_before_the_module_got_it_is_linked_as_well() -> None:
    groups = (Group(names=["x", "y"]),)
    assert reached("import hoard\nhoard.keep(x)", {"x": [], "y": []}, groups).joins == {"hoard": {"x", "y"}}


def test_a_callback_that_a_module_keeps_is_followed() -> None:
    space = notebook("x = []\ndef f(): x.append(1)")
    links = HiddenReferences()
    for key, names in reached("import hoard\nhoard.register(f)", space).joins.items():
        links.join(key, names)
    assert reached("import hoard\nhoard.call()", space, links=links).names == {"f", "x"}


def test_lists_are_not_held_together_by_what_kind_of_thing_they_are() -> None:
    groups = (Group(names=["x"]), Group(names=["y"]))
    links = HiddenReferences()
    for key, names in reached("x.append(1)", {"x": [], "y": []}, groups).joins.items():
        links.join(key, names)
    assert reached("y", {"x": [], "y": []}, groups, links).names == {"y"}


def test_plain_values_and_modules_are_not_held() -> None:
    space = {"n": 5, "t": "text", "m": sys, "p": print, "x": []}
    assert reached("import hoard\nhoard.keep(n, t, p, x)", space).joins == {"hoard": {"x"}}


def test_figures_are_changed_by_their_library_and_frames_are_not() -> None:
    figure = type("Figure", (), {"__module__": "matplotlib.figure"})()
    frame = type("DataFrame", (), {"__module__": "pandas"})()
    space = {"fig": figure, "df": frame, "n": 5}
    assert reached("import matplotlib\nfig.plot(df)", space).joins == {"matplotlib": {"fig"}}
    groups = (Group(names=["axes"], modules=["matplotlib", "numpy"]), Group(names=["df"], modules=["pandas"]))
    found = reached("import matplotlib\naxes.plot(df)", {"axes": [], "df": frame}, groups)
    assert found.joins == {"matplotlib": {"axes"}}


def test_a_generator_holds_what_was_near_when_it_was_made() -> None:
    space = notebook("x, y = [], []\ndef produce(part):\n    yield part\ng = produce(x)")
    links = linked(":g", "x", "produce")
    assert reached("next(g)", space, links=links, unsaveable=("g",)).names == {"g", "x", "produce"}
    assert reached("y", space, links=links, unsaveable=("g",)).names == {"y"}


def test_what_is_changed_along_with_a_generator_is_linked_to_it() -> None:
    space = notebook("x, y = [], []\ng = (each for each in x)")
    found = reached("y.append(next(g))", space, links=linked(":g", "x"), unsaveable=("g",))
    assert found.names == {"g", "x", "y"}
    assert found.joins[":g"] == {"g", "x", "y"}


def test_a_socket_holds_nothing_of_the_notebook() -> None:
    sock = type("socket", (), {"__module__": "socket"})()
    found = reached("s.send(y)", {"s": sock, "x": [], "y": b"1"}, links=linked(":s", "x"), unsaveable=("s",))
    assert found.names == {"s", "y"}


def test_a_cell_that_can_reach_anything_links_everything_with_every_module() -> None:
    found = reached("exec('1')", {"x": [], "n": 5}, (Group(names=["gone"]),))
    assert found.names is None
    assert found.joins == {EVERY_MODULE: {"x", "gone"}}
    links = linked(EVERY_MODULE, "x")
    assert links.held_by("hoard") == {"x"}
    assert links.held_by(":g") == set()


def test_links_are_found_from_both_ends() -> None:
    links = HiddenReferences()
    links.join("hoard", {"x", "y"})
    links.join(":g", {"y"})
    assert links.held_by("hoard") == {"x", "y"}
    assert links.held_by("other") == set()
    assert links.holders_of({"x"}) == {"hoard"}
    assert links.holders_of({"y"}) == {"hoard", ":g"}
    assert links.holders_of({"z"}) == set()


# -- in general ---------------------------------------------------------------------------------------------------

NAMES = "abcdefgh"
some = functools.partial(st.sets, st.sampled_from(NAMES), max_size=3)


@st.composite
def states(draw: st.DrawFn) -> Any:
    """Draw groups, links, names that cannot be looked into, and what two cells touch."""
    left = list(NAMES)
    groups = []
    for number in range(draw(st.integers(0, 4))):
        names = [left.pop() for _ in range(draw(st.integers(0, min(3, len(left)))))]
        needs = draw(st.lists(st.sampled_from("0123"), max_size=2))
        modules = draw(st.lists(st.sampled_from(["hoard", "shelf", "numpy"]), max_size=1))
        groups.append(Group(names, [str(number)], needs, sorted(draw(some())), modules))
    links = [
        (draw(st.sampled_from(["hoard", "shelf", ":a", ":b", EVERY_MODULE])), draw(some()))
        for _ in range(draw(st.integers(0, 3)))
    ]
    touches = [NameUsage(frozenset(draw(some())), frozenset(draw(st.sets(st.just("hoard"))))) for _ in range(2)]
    return groups, links, draw(some()), touches


def found_in(state: Any, touches: list[NameUsage], known: int | None = None) -> ReachableNames:
    groups, joins, unsaveable, _ = state
    links = HiddenReferences()
    for key, names in joins[:known]:
        links.join(key, names)
    space: dict[str, Any] = {name: [] for name in NAMES}
    return reachable_names(touches, space, GroupIndex(groups), links, unsaveable)


@given(states())
@settings(max_examples=150, deadline=None)
def test_two_cells_reach_what_each_of_them_reaches(state: Any) -> None:
    first, second = state[-1]
    both = found_in(state, [first, second])
    apart = [names_of(found_in(state, [each])) for each in (first, second)]
    assert both.names == apart[0] | apart[1]
    assert found_in(state, [second, first]) == both


@given(states())
@settings(max_examples=150, deadline=None)
def test_what_is_reached_is_closed(state: Any) -> None:
    """Code that uses only what was reached reaches nothing else, whatever is linked with it meanwhile."""
    groups, joins, unsaveable, touches = state
    first = found_in(state, touches)
    after = (groups, [*joins, *first.joins.items()], unsaveable, touches)
    roots = frozenset().union(*(each.modules for each in touches))
    again = found_in(after, [NameUsage(frozenset(names_of(first)), roots)])
    assert again.names == first.names
    assert names_of(found_in(state, touches, known=0)) <= names_of(first)


class _Nowhere(type):
    """A class that does not say where it is from."""

    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("nowhere")


def test_a_class_that_does_not_say_where_it_is_from_is_from_nowhere() -> None:
    assert root_of(type("Silent", (), {"__module__": None})) == "None"
    assert root_of(_Nowhere("Hostile", (), {})) == ""
