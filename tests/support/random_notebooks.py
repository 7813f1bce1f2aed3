"""Makes notebooks up: cells that share, change, hide and hand around objects in the ways that people's cells do.

A notebook is a list of steps. A step knows which kind of cell it is and three numbers, by which the cell chooses among
the names that exist when it comes: so a step means something wherever it stands, and any part of a notebook is one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

#: The module that keeps what it is given, and changes it later without being given it again.
HOARD = """
import sys
_kept = []
_callbacks = []
f = [0]

def keep(thing):
    _kept.append(thing)

def poke(n):
    for thing in _kept:
        thing.append(n)
    return len(_kept)

def call():
    return [callback() for callback in _callbacks]

def register(function):
    _callbacks.append(function)
    return function

def latest():
    return _kept[-1]

class Holder:
    def __init__(self, thing):
        self.thing = thing

    def poke(self, n):
        self.thing.append(n)
        return len(self.thing)
"""
#: A module that reaches what another one keeps.
ERRAND = """
import hoard

def run(n):
    return hoard.poke(n)

def tell(thing):
    hoard.keep(thing)
"""
MODULES = {"hoard": HOARD, "errand": ERRAND}

_NAMES = "abcdef"
#: A generator is gone after a death, and so is all that holds one: nothing else uses these names.
_GENERATORS = "gh"
_LIST, _DICT, _CALL, _TAKES, _CLASS, _OBJECT, _ARRAY, _FRAME, _NUMBER, _ITERATOR, _ANY = (
    "list",
    "dict",
    "callable without arguments",
    "callable with a list",
    "class",
    "object",
    "array",
    "frame",
    "number",
    "iterator",
    "anything",
)


@dataclass(frozen=True)
class Step:
    """One cell, and what happens around it.

    Args:
        kind: the name of the cell's maker.
        a: chooses.
        b: chooses.
        c: chooses.
        settle: whether its checkpoint is on disk before the next cell runs.
        die: whether the process is killed before it.
        load: whether the process has had time to load one more group before it.
    """

    kind: str
    a: int
    b: int
    c: int
    settle: bool
    die: bool
    load: bool


@dataclass(frozen=True)
class Cell:
    """A step as it is run."""

    code: str
    step: Step


@dataclass
class Model:
    """What is known of a namespace while a notebook is written: which names there are, and of which kind."""

    step: Step
    kinds: dict[str, str] = field(default_factory=dict)
    #: Distinguishes one change from another.
    count: int = 100
    #: Outputs by number, with their kinds.
    outputs: dict[int, str] = field(default_factory=dict)
    number: int = 0
    #: The number of deaths so far.
    deaths: int = 0
    #: Generators that run, by name: the life that they belong to.
    generators: dict[str, int] = field(default_factory=dict)

    def new(self, kind: str, by: int | None = None) -> str:
        """Choose a name, old or new, and note what it is from now on."""
        name = _NAMES[(self.step.a if by is None else by) % len(_NAMES)]
        self.kinds[name] = kind
        return name

    def old(self, by: int, *kinds: str) -> str | None:
        """Choose a name of one of these kinds."""
        found = sorted(name for name, kind in self.kinds.items() if kind in kinds or not kinds)
        return found[by % len(found)] if found else None

    def list(self, by: int) -> str:
        """Choose a list: a name, or an expression for a new one where there is none."""
        return self.old(by, _LIST) or "[]"

    def value(self, by: int) -> str:
        """Choose anything."""
        return self.old(by) or f"[{self.next()}]"

    def next(self) -> int:
        """Return a number that was not used before."""
        self.count += 1
        return self.count


Maker = Callable[[Model], str]
MAKERS: dict[str, Maker] = {}
#: Cells that make a difference to what a process keeps outside of the namespace.
FORGETFUL: set[str] = set()


def maker(function: Maker) -> Maker:
    """Register a function that makes cells."""
    MAKERS[function.__name__] = function
    return function


def forgetful(function: Maker) -> Maker:
    """Record a cell that depends on state that a crash loses."""
    FORGETFUL.add(function.__name__)
    return maker(function)


# -- data ---------------------------------------------------------------------------------------------------------


@maker
def assign(m: Model) -> str:
    """Make an object."""
    n = m.next()
    kind, text = [
        (_LIST, f"[{n}]"),
        (_LIST, f"[{n}, [{n}]]"),
        (_DICT, f"{{'k': [{n}]}}"),
        (_NUMBER, f"{n} * 1000"),
        (_NUMBER, f"{n} / 7"),
        (_ANY, f"'text {n}'"),
        (_ANY, f"{{{n}, {n + 1}}}"),
        (_LIST, f"__import__('collections').deque([{n}])"),
        (_LIST, f"bytearray([{n % 200}])"),
        (_ANY, "None"),
    ][m.step.b % 10]
    return f"{m.new(kind)} = {text}"


@maker
def alias(m: Model) -> str:
    """Give an object a second name."""
    source = m.value(m.step.b)
    return f"{m.new(m.kinds.get(source, _LIST))} = {source}"


@maker
def swap(m: Model) -> str:
    """Exchange two names."""
    one, two = m.value(m.step.a), m.value(m.step.b)
    if one not in m.kinds or two not in m.kinds:
        return "pass"
    m.kinds[one], m.kinds[two] = m.kinds[two], m.kinds[one]
    return f"{one}, {two} = {two}, {one}"


@maker
def contain(m: Model) -> str:
    """Put objects into a new one."""
    one, two = m.value(m.step.b), m.value(m.step.c)
    kind, text = [
        (_LIST, f"[{one}, {two}]"),
        (_DICT, f"{{'k': {one}, 'other': {two}}}"),
        (_ANY, f"({one}, [{two}])"),
        (_LIST, f"[{one}] * 2"),
        (_LIST, f"[[each] for each in [{one}, {two}]]"),
        (_DICT, f"dict(k={one})"),
        (_OBJECT, f"__import__('types').SimpleNamespace(v={one})"),
        (_DICT, f"__import__('collections').OrderedDict(k={one})"),
    ][m.step.a % 8]
    return f"{m.new(kind, m.step.a + m.step.b)} = {text}"


@maker
def copy(m: Model) -> str:
    """Copy an object, shallowly or deeply."""
    source = m.value(m.step.b)
    word = ["copy.copy", "copy.deepcopy"][m.step.c % 2]
    return f"import copy\n{m.new(m.kinds.get(source, _LIST))} = {word}({source})"


@maker
def change(m: Model) -> str:
    """Change an object by its name."""
    thing, value, n = m.old(m.step.a, _LIST, _DICT, _OBJECT), m.value(m.step.b), m.next()
    if thing is None:
        return "pass"
    kind = m.kinds[thing]
    if kind == _DICT:
        return [
            f"{thing}['k'] = {value}",
            f"{thing}['k'].append({n})",
            f"{thing}.pop('k', None)",
            f"{thing}[{n}] = {n}",
        ][m.step.c % 4]
    if kind == _OBJECT:
        return [
            f"{thing}.v = {value}",
            f"{thing}.v.append({n})",
            f"{thing}.extra = [{n}]",
            f"print({thing}.push({n}))",
        ][m.step.c % 4]
    return [
        f"{thing}.append({n % 200})",
        f"{thing}.append({value})",
        f"{thing}[0] = {value}",
        f"{thing}[0].append({n})",
        f"{thing} += [{n % 200}]",
        f"del {thing}[-1]",
        f"{thing}.clear()",
        f"getattr({thing}, 'app' + 'end')({n % 200})",
        f"{thing}[:] = [{value}]",
        f"list.append({thing}, {n})",
    ][m.step.c % 10]


@maker
def change_inside(m: Model) -> str:
    """Change what a container holds, without naming it."""
    thing, n = m.old(m.step.a, _LIST, _DICT, _ANY, _ITERATOR), m.next()
    if thing is None:
        return "pass"
    parts = f"list({thing}.values() if isinstance({thing}, dict) else {thing})"
    return f"for part in {parts}:\n    if hasattr(part, 'append'):\n        part.append({n % 200})"


@maker
def count(m: Model) -> str:
    """Count with numbers that come and go at the same addresses."""
    name = m.new(_NUMBER)
    rounds, n = m.step.b, m.next()
    return [
        f"for {name} in range({1000 + rounds}):\n    pass",
        f"{name} = 0.5\nfor step in range({rounds}):\n    {name} = {name} * 1.5 + step",
        f"{name} = None\n{name} = int('{n}000')",
        f"{name} = ''\n{name} = str({n}) * 3",
    ][m.step.c % 4]


@maker
def remove(m: Model) -> str:
    """Delete a name."""
    name = m.old(m.step.a)
    if name is None:
        return "pass"
    del m.kinds[name]
    return f"del {name}"


@maker
def iterate(m: Model) -> str:
    """Go through something, one at a time."""
    source, name = m.value(m.step.b), m.old(m.step.a, _ITERATOR)
    if name is not None and m.step.c % 2:
        return f"part = next({name}, None)\nif hasattr(part, 'append'):\n    part.append({m.next() % 200})"
    word = ["iter", "enumerate", "map"][m.step.c % 3]
    before = f"{m.old(m.step.b, _TAKES) or 'len'}, " if word == "map" else ""
    # A list of its own: where an iterator stands in one that has become shorter than that, a pickle does not say.
    return f"{m.new(_ITERATOR)} = {word}({before}[{source}, {m.next()}, {source}])"


@maker
def unpack(m: Model) -> str:
    """Assign in less common ways."""
    one, n = m.list(m.step.b), m.next()
    name = m.new(_LIST)
    return [
        f"{name}, *rest = [{one}, {n}]",
        f"if ({name} := {one}):\n    {name}.append({n % 200})",
        f"for {name} in [{one}]:\n    pass",
        f"try:\n    raise ValueError({one})\nexcept ValueError as error:\n    {name} = error.args[0]",
        f"for _ in range({n}):\n    {name} = {one}",
        f"match {one}:\n    case {name}:\n        {name}.append({n % 200})",
        f"import contextlib\nwith contextlib.nullcontext({one}) as {name}:\n    {name}.append({n % 200})",
    ][m.step.c % 7]


# -- functions ----------------------------------------------------------------------------------------------------


@maker
def function(m: Model) -> str:
    """Define a function that works on a global."""
    n = m.next()
    target = m.old(m.step.b, _LIST) or "a"
    name = m.new(_CALL, m.step.a)
    other = m.old(m.step.c, _CALL) or "len"
    return [
        f"def {name}():\n    {target}.append({n % 200})\n    return len({target})",
        f"def {name}(part={target}):\n    part.append({n % 200})\n    return len(part)",
        f"def {name}(*, part=[{n}]):\n    part.append({n})\n    return len(part)",
        f"def {name}():\n    global {target}\n    {target} = [{n}]\n    return {n}",
        f"def {name}():\n    def inner():\n        {target}.append({n % 200})\n    inner()\n    return {n}",
        f"{name} = lambda: {target}.append({n % 200})",
        f"import functools\n{name} = functools.partial(list.append, {target}, {n})",
        f"def {name}():\n    return {other}()",
        f"def {name}():\n    return sum(1 for _ in map({target}.append, [{n % 200}]))",
        f"{name} = {target}.copy",
        f"def {name}():\n    {name}.runs = getattr({name}, 'runs', 0) + 1\n    return {name}.runs",
        f"def {name}():\n    exec('{target}.append({n % 200})')\n    return {n}",
        f"def {name}():\n    globals()['{target}'].append({n % 200})\n    return {n}",
        f"async def work():\n    {target}.append({n % 200})\n    return {n}\ndef {name}():\n"
        "    import asyncio\n    return asyncio.iscoroutinefunction(work)",
    ][m.step.c % 14]


@maker
def function_of(m: Model) -> str:
    """Define a function that changes what it is given."""
    n, target = m.next(), m.old(m.step.b, _LIST) or "a"
    name = m.new(_TAKES, m.step.a)
    return [
        f"def {name}(part):\n    part.append({n % 200})\n    return len(part)",
        f"def {name}(part):\n    part.append({target})\n    return len(part)",
        f"def {name}(part):\n    {target}.append(part)\n    return len(part)",
        f"{name} = {target}.append",
        f"def {name}(part):\n    for each in list(part):\n        {target}.append({n % 200})\n        yield each",
        f"def {name}(part):\n    {name}.last = part\n    return len(part)",
    ][m.step.c % 6]


@maker
def closure(m: Model) -> str:
    """Define functions that close over an object, or share a variable."""
    n, target = m.next(), m.list(m.step.b)
    name, other = m.new(_CALL, m.step.a), m.new(_CALL, m.step.a + 1)
    return [
        f"def make(part):\n    def inner():\n        part.append({n % 200})\n        return len(part)\n"
        f"    return inner\n{name} = make({target})\n{other} = {name}",
        "def make():\n    total = 0\n    def up():\n        nonlocal total\n        total += 1\n        return total\n"
        f"    def look():\n        return total\n    return up, look\n{name}, {other} = make()",
        f"def make(part):\n    def put():\n        part.append({n % 200})\n        return len(part)\n    def renew():\n"
        f"        nonlocal part\n        part = [{n}]\n        return {n}\n    return put, renew\n"
        f"{name}, {other} = make({target})",
        f"def make(part):\n    return [lambda: part.append({n % 200})]\n{name} = make({target})[0]\n{other} = len",
    ][m.step.c % 4]


@maker
def decorate(m: Model) -> str:
    """Define a function with a decorator of the notebook's or the standard library's."""
    n, target = m.next(), m.old(m.step.b, _LIST) or "a"
    name = m.new(_CALL, m.step.a)
    if m.step.c % 3 == 0:
        return (
            f"import functools\ndef logged(inner):\n    @functools.wraps(inner)\n    def outer():\n"
            f"        {target}.append({n % 200})\n        return inner()\n    return outer\n"
            f"@logged\ndef {name}():\n    return {n}"
        )
    if m.step.c % 3 == 1:
        return (
            f"class Counted:\n    def __init__(self, inner):\n        self.inner, self.v = inner, {target}\n"
            f"    def __call__(self):\n        self.v.append({n % 200})\n        return self.inner()\n"
            f"@Counted\ndef {name}():\n    return {n}"
        )
    return (
        f"import contextlib\n@contextlib.contextmanager\ndef scope():\n    {target}.append({n % 200})\n    yield\n"
        f"def {name}():\n    with scope():\n        return {n}"
    )


@maker
def call(m: Model) -> str:
    """Call a function."""
    name = m.old(m.step.a, _CALL)
    if name is None:
        return "pass"
    return [
        f"print({name}())",
        f"[{name}() for _ in range(2)]; None",
        f"{m.old(m.step.b, _LIST) or 'i'} = [{name}()]",
        f"%time print({name}())",
        f"try:\n    {name}()\nfinally:\n    done = True",
    ][m.step.c % 5]


@maker
def call_with(m: Model) -> str:
    """Call a function with an object."""
    name = m.old(m.step.a, _TAKES)
    if name is None:
        return "pass"
    value = m.list(m.step.b)
    return [
        f"{name}({value}); None",
        f"list({name}({value})); None",
        f"list(map({name}, [{value}])); None",
        f"import functools\nfunctools.reduce(lambda _, each: {name}(each), [{value}], None); None",
    ][m.step.c % 4]


@maker
def attach(m: Model) -> str:
    """Hang an object on a function."""
    name, n = m.old(m.step.a, _CALL, _TAKES), m.next()
    if name is None:
        return "pass"
    if m.step.c % 2:
        return f"{name}.part = {m.list(m.step.b)}"
    return f"{name}.part.append({n % 200})"


@maker
def generator_function(m: Model) -> str:
    """Define a generator function and exhaust it at once."""
    n, target = m.next(), m.list(m.step.b)
    name = m.new(_TAKES, m.step.a)
    return (
        f"def {name}(part):\n    for _ in range(2):\n        part.append({n % 200})\n        yield len(part)\n"
        f"print(list({name}({target})))"
    )


@forgetful
def generator(m: Model) -> str:
    """Start a generator, or continue one of this life."""
    running = sorted(name for name, life in m.generators.items() if life == m.deaths)
    if running and m.step.c % 3:
        return f"next({running[m.step.a % len(running)]}, None)"
    n, target = m.next(), m.list(m.step.b)
    name = _GENERATORS[m.step.a % len(_GENERATORS)]
    m.generators[name] = m.deaths
    return (
        f"def produce(part):\n    while True:\n        part.append({n % 200})\n        yield\n"
        f"{name} = produce({target})\nnext({name})"
    )


# -- classes ------------------------------------------------------------------------------------------------------

_METHODS = """
def push(self, n):
    self.v.append(n)
    return len(self.v)

def poke(self):
    {target}.append({n})
    return len({target})

def tally(self):
    type(self).tallies = getattr(type(self), 'tallies', 0) + 1
    return self.tallies

@property
def size(self):
    {target}.append({n})
    return len(self.v)

@classmethod
def gather(cls, part):
    cls.shared.append(part)
    return len(cls.shared)

@staticmethod
def stray():
    {target}.append({n})
    return {n}

def __getitem__(self, key):
    self.v.append({n})
    if key > 3:
        raise IndexError
    return key

def __eq__(self, other):
    {target}.append({n})
    return self is other

__hash__ = None
"""


@maker
def define_class(m: Model) -> str:
    """Define a class, anew or for the first time."""
    n, target = m.next(), m.old(m.step.b, _LIST) or "a"
    base = m.old(m.step.b, _CLASS)
    name = m.new(_CLASS, m.step.a)
    shared = m.list(m.step.c)
    methods = textwrap.indent(_METHODS.format(target=target, n=n % 200), "    ")
    plain = f"    shared = {shared}\n    def __init__(self, v):\n        self.v = v\n"
    choice = m.step.c % 6
    if choice == 0 or (choice == 1 and base is None):
        return f"class {name}:\n{plain}{methods}"
    if choice == 1:
        return (
            f"class {name}({base}):\n    more = [{n}]\n    def push(self, n):\n        self.more.append(n)\n"
            f"        return super().push(n)"
        )
    if choice == 2:
        return (
            f"import dataclasses\n@dataclasses.dataclass\nclass {name}:\n    v: list\n    shared = {shared}\n"
            f"    tags: list = dataclasses.field(default_factory=list)\n{methods}"
        )
    if choice == 3:
        return f"class {name}:\n    __slots__ = ('v', 'extra')\n{plain}{methods}"
    if choice == 4:
        return (
            f"class Meta(type):\n    def __call__(cls, *args):\n        {target}.append({n % 200})\n"
            f"        return super().__call__(*args)\nclass {name}(metaclass=Meta):\n{plain}{methods}"
        )
    inner = textwrap.indent(plain + methods, "    ")
    return f"def make(part):\n    class {name}:\n{inner}\n    return {name}\n{name} = make(1)"


@maker
def instantiate(m: Model) -> str:
    """Make an instance."""
    cls = m.old(m.step.b, _CLASS)
    if cls is None:
        return "pass"
    return f"{m.new(_OBJECT)} = {cls}({m.list(m.step.c)})"


@maker
def use_object(m: Model) -> str:
    """Use an instance."""
    thing, n = m.old(m.step.a, _OBJECT), m.next() % 200
    if thing is None:
        return "pass"
    return [
        f"print({thing}.push({n}))",
        f"print({thing}.poke())",
        f"print({thing}.tally())",
        f"print({thing}.size)",
        f"print({thing}.gather({n}))",
        f"print({thing}.stray())",
        f"{thing}[{n}]",
        f"{thing} == {n}",
        f"type({thing}).shared.append({n})",
        f"print([cls.__name__ for cls in type({thing}).__mro__])",
        f"{m.new(_CALL, m.step.b)} = {thing}.poke",
        f"del {thing}.v",
        f"{m.new(_CLASS, m.step.b)} = type({thing})",
    ][m.step.c % 13]


@maker
def use_class(m: Model) -> str:
    """Change a class, or ask it something."""
    cls, n = m.old(m.step.a, _CLASS), m.next() % 200
    if cls is None:
        return "pass"
    thing = m.value(m.step.b)
    return [
        f"{cls}.shared.append({n})",
        f"{cls}.shared = {m.list(m.step.b)}",
        f"{cls}.added = {thing}",
        f"{cls}.push = lambda self, n: {m.old(m.step.b, _LIST) or 'a'}.append(n)",
        f"print(isinstance({thing}, {cls}))",
        f"print({cls}.gather({m.list(m.step.b)}))",
        f"setattr({cls}, 'number', {n})",
        f"print({cls}.stray())",
    ][m.step.c % 8]


# -- arrays and frames --------------------------------------------------------------------------------------------


@maker
def array(m: Model) -> str:
    """Make an array, or another one on its memory."""
    n, source = m.next(), m.old(m.step.b, _ARRAY)
    size = [6, 6, 12, 30000][m.step.b % 4]
    if source is None or m.step.c % 3 == 0:
        text = [
            f"np.arange({size}) + {n}",
            f"np.zeros(({size // 2}, 2), order='F')",
            f"np.array([{m.value(m.step.b)}, None, {n}], dtype=object)",
            f"np.frombuffer(bytearray({size}), np.uint8)",
            f"np.array([{n}, 1.5])",
            f"np.arange({size})[::2]",
        ][m.step.a % 6]
    else:
        text = [
            f"{source}[1:]",
            f"{source}.reshape(-1)",
            f"{source}.T",
            f"{source}[::-1]",
            f"{source}[:2].copy()",
            source,
        ][m.step.a % 6]
    return f"import numpy as np\n{m.new(_ARRAY, m.step.a + m.step.c)} = {text}"


@maker
def change_array(m: Model) -> str:
    """Change an array."""
    name, n = m.old(m.step.a, _ARRAY), m.next() % 200
    if name is None:
        return "pass"
    return [
        f"{name}[0] = {n}",
        f"{name} += 1",
        f"{name}.flat[-1] = {n}",
        f"{name}.sort()",
        f"import numpy as np\nnp.add({name}, 1, out={name}, casting='unsafe')",
        f"{name}[1:][0] = {n}",
        f"{m.new(_LIST, m.step.b)} = [{name}]",
        f"{name}.flags.writeable = False",
    ][m.step.c % 8]


@maker
def frame(m: Model) -> str:
    """Make a frame, or a part of one."""
    n, source = m.next(), m.old(m.step.b, _FRAME)
    if source is None or m.step.c % 2 == 0:
        things = m.value(m.step.b)
        text = f"pd.DataFrame({{'k': [{n}, 2], 'o': [{things}, {things}], 't': ['x', 'y']}})"
    else:
        text = [f"{source}[['k']]", f"{source}['k']", f"{source}.copy()", f"{source}.iloc[:1]", source][m.step.a % 5]
    return f"import pandas as pd\n{m.new(_FRAME)} = {text}"


@maker
def change_frame(m: Model) -> str:
    """Change a frame."""
    name, n = m.old(m.step.a, _FRAME), m.next() % 200
    if name is None:
        return "pass"
    return [
        f"{name}.loc[0, 'k'] = {n}",
        f"{name}['new'] = {n}",
        f"{name}['o'][0].append({n})",
        f"{name}.iloc[0] = {n}",
        f"{name}.drop(columns='t', inplace=True)",
        f"{name}.attrs['note'] = [{n}]",
        f"{name}['k'] += {n}",
        f"{name}.sort_values('k', inplace=True)",
    ][m.step.c % 8]


# -- what is not named --------------------------------------------------------------------------------------------


@maker
def output(m: Model) -> str:
    """Show a value, so that it is an output."""
    value = m.value(m.step.a)
    m.outputs[m.number] = m.kinds.get(value, _LIST)
    return value


@maker
def use_output(m: Model) -> str:
    """Use an output."""
    n = m.next() % 200
    numbers = sorted(number for number, kind in m.outputs.items() if kind == _LIST)
    if not numbers:
        return "print(len(Out))"
    number = numbers[m.step.a % len(numbers)]
    return [
        f"_.append({n})",
        f"Out[{number}].append({n})",
        f"_{number}.append({n})",
        f"{m.new(_LIST, m.step.b)} = Out[{number}]",
        f"__.append({n})",
        "print(sorted(Out))",
    ][m.step.c % 6]


@maker
def run_text(m: Model) -> str:
    """Run code that stands in a text."""
    name, n = m.old(m.step.a, _LIST), m.next() % 200
    if name is None:
        return "pass"
    return [
        f"exec('{name}.append({n})')",
        f"eval('{name}').append({n})",
        f"globals()['{name}'].append({n})",
        f"globals()['{m.new(_LIST, m.step.b)}'] = [{n}]",
        f"import sys\nsys.modules['__main__'].{name}.append({n})",
        f"get_ipython().user_ns['{name}'].append({n})",
        f"get_ipython().ex('{name}.append({n})')",
        f"%timeit -n1 -r1 {name}.append({n})",
        f"%%time\n{name}.append({n})",
        f"%%capture\n{name}.append({n})",
        f"shell = get_ipython()\nshell.run_cell('{name}.append({n})'); None",
    ][m.step.c % 11]


@forgetful
def hoard(m: Model) -> str:
    """Give a module something to keep, or have it change what it keeps."""
    value, n = m.list(m.step.a), m.next() % 200
    if m.step.c % 14 == 13:  # the star
        m.kinds["f"] = _LIST
    return [
        f"import hoard\nhoard.keep({value})",
        f"import hoard\nprint(hoard.poke({n}))",
        f"from hoard import poke\nprint(poke({n}))",
        f"import hoard\n{m.new(_OBJECT, m.step.b)} = hoard.Holder({value})",
        f"import hoard\nhoard.register({m.old(m.step.b, _CALL) or 'len'})",
        "import hoard\nhoard.call(); None",
        f"import errand\nprint(errand.run({n}))",
        f"import errand\nerrand.tell({value})",
        f"import hoard\n{m.new(_LIST, m.step.b)} = hoard.latest()",
        f"import sys\nsys.hoarded = {value}",
        f"import sys\nsys.hoarded.append({n})",
        f"import hoard\nhoard._kept.append({value})",
        f"import hoard\n{m.new(_TAKES, m.step.b)} = hoard.keep",
        "from hoard import *",
    ][m.step.c % 14]


@maker
def surroundings(m: Model) -> str:
    """Change what belongs to the process, or ask for it."""
    n = m.next()
    return [
        f"import random\nrandom.seed({n})",
        "import random\nprint(random.random())",
        "import numpy as np\nprint(np.random.rand())",
        f"import os\nos.environ['NOTE'] = '{n}'",
        "import os\nprint(os.environ.get('NOTE'))",
        "import random\nrandom.shuffle([1, 2, 3])",
        "print(len(In))",
    ][m.step.c % 7]


@maker
def wait(m: Model) -> str:
    """Await something."""
    n, target = m.next() % 200, m.list(m.step.a)
    return (
        f"import asyncio\nasync def work(part):\n    await asyncio.sleep(0)\n    part.append({n})\nawait work({target})"
    )


@maker
def fail(m: Model) -> str:
    """Change something, then fail."""
    return f"{m.list(m.step.a)}.append({m.next() % 200})\n1 / 0"


def write(steps: list[Step]) -> list[Cell]:
    """Return the cells of a notebook."""
    cells = []
    model: Model | None = None
    for number, step in enumerate(steps, 1):
        if model is None:
            model = Model(step)
        model.step, model.number = step, number
        if step.die:
            model.deaths += 1
        cells.append(Cell(MAKERS[step.kind](model), step))
    return cells


def notebooks(most: int = 24, without: Iterable[str] = ()) -> st.SearchStrategy[list[Step]]:
    """Return the strategy that makes notebooks up.

    Args:
        most: the number of cells, at most.
        without: kinds of cells that are not wanted.
    """
    kinds = [kind for kind in MAKERS if kind not in without]
    numbers = st.integers(0, 29)
    seldom = st.sampled_from([False, False, False, False, True])
    step: Any = st.builds(
        Step,
        kind=st.sampled_from(kinds),
        a=numbers,
        b=numbers,
        c=numbers,
        settle=st.booleans(),
        die=seldom,
        load=seldom,
    )
    return st.lists(step, min_size=2, max_size=most)
