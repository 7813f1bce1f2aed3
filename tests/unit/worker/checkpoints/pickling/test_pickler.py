"""Namespaces through checkpoints and back: afterwards they behave as if nothing had happened."""

from __future__ import annotations

import itertools
import pickle
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from capsule_worker.checkpoints.pickling.pickler import NamespacePickler
from capsule_worker.checkpoints.pickling.placeholder import NotRestoredError, variable_of
from capsule_worker.checkpoints.pickling.reconstruct import make_class, make_function
from tests.support.saved_notebook import Notebook, forget_classes


@dataclass(frozen=True)
class Trip:
    """Cells, a checkpoint after each, and a cell that looks at what came back."""

    name: str
    cells: tuple[str, ...]
    check: str


TRIPS = (
    Trip(
        "the files that functions are from",
        ("exec(compile('def f():\\n    return lambda: 1', '/a/cell.py', 'exec'))",),
        "assert f.__code__.co_filename == f().__code__.co_filename == '/a/cell.py'",
    ),
    Trip("one list under two names", ("a = b = [1]",), "assert a is b"),
    Trip(
        "a list within others",
        ("x = [1]; y = {'x': x}", "z = (x, y)"),
        """
        assert y["x"] is x is z[0] and z[1] is y
        x.append(2)
        assert z[1]["x"] == [1, 2]
        """,
    ),
    Trip("a list that holds itself", ("x = []; x.append(x)",), "assert x[0] is x and len(x) == 1"),
    Trip(
        "a dict in two objects",
        (
            """
            class Box:
                pass

            shared = {}; first, second = Box(), Box()
            first.it = second.it = shared
            """,
        ),
        "first.it['new'] = 1; assert second.it['new'] == 1 == shared['new']",
    ),
    Trip(
        "views of an array",
        ("import numpy as np; base = np.arange(100_000); view = base[100:200:2]; flipped = base[::-1]",),
        """
        view[0] = -1; base[-1] = -2
        assert base[100] == -1 and flipped[0] == -2 and np.shares_memory(base, flipped)
        """,
    ),
    Trip(
        "views whose base has no name",
        (
            """
            import numpy as np
            first = np.arange(100.0).reshape(10, 10); second = first.T; third = second[1]
            del first
            """,
        ),
        "third[0] = 50; assert second[1, 0] == 50 and second[0, 1] == 10",
    ),
    Trip(
        "views in a list",
        ("import numpy as np; base = np.zeros(50_000); views = [base[n : n + 10] for n in range(3)]",),
        "base[2] = 7; assert [view[2 - n] for n, view in enumerate(views)] == [7, 7, 7]",
    ),
    Trip(
        "a view that cannot be written to",
        ("import numpy as np; base = np.arange(10); view = base[2:]; view.flags.writeable = False",),
        "assert not view.flags.writeable and base.flags.writeable; base[2] = 9; assert view[0] == 9",
    ),
    Trip(
        "arrays of many types",
        (
            """
            import numpy as np
            arrays = [np.array(5), np.array([]), np.array(["a", None], object), np.array(["a", "b"])]
            arrays += [np.zeros((2, 3), order="F"), np.array([1j]), np.array(["2020-01-01"], "M8[D]")]
            arrays += [np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])]
            masked = np.ma.array([1, 2], mask=[1, 0])
            """,
        ),
        """
        assert [each.dtype.str for each in arrays] == "<i8 <f8 |O <U1 <f8 <c16 <M8[D] |V12".split()
        assert arrays[0] == 5 and arrays[4].flags.f_contiguous and arrays[7]["b"][0] == 2 and masked.sum() == 2
        arrays[3][0] = "c"
        assert list(arrays[3]) == ["c", "b"]
        """,
    ),
    Trip(
        "a frame",
        (
            """
            import pandas as pd
            frame = pd.DataFrame({"n": range(20_000), "t": ["x"] * 20_000, "c": pd.Categorical(["a", "b"] * 10_000)})
            part = frame[frame.n > 5]; column = frame["n"]
            """,
            "frame.loc[0, 'n'] = -1",
        ),
        """
        assert frame.n[0] == -1 and len(part) == 19_994 and column[0] == 0 and list(frame.c[:3]) == ["a", "b", "a"]
        frame["new"] = 1; frame.loc[9, "t"] = "y"
        assert part.t[9] == "x" and frame.t[9] == "y" and "new" not in part
        """,
    ),
    Trip(
        "a function sees the names that exist",
        ("factor = 2\ndef times(x):\n    return x * factor", "factor = 3"),
        "assert times(2) == 6; factor = 10; assert times(2) == 20 and times.__globals__ is globals()",
    ),
    Trip(
        "functions that call themselves and each other",
        (
            "def even(n):\n    return n == 0 or odd(n - 1)",
            "def odd(n):\n    return n != 0 and even(n - 1)",
            "def factorial(n):\n    return n * factorial(n - 1) if n else 1",
        ),
        "assert even(10) and not odd(10) and factorial(5) == 120",
    ),
    Trip(
        "all that a function carries",
        (
            """
            def f(a: int, b=[1], *rest, c={"k": 2}, **more) -> str:
                "Says it."
                return a, b, c

            f.calls = 3
            g = lambda x, y=f: (x, y)
            """,
        ),
        """
        import inspect
        assert f(1) == (1, [1], {"k": 2}) and f.__doc__ == "Says it." and f.calls == 3 and f.__name__ == "f"
        assert f.__annotations__ == {"a": int, "return": str} and f.__module__ == "__main__" and g(1)[1] is f
        assert str(inspect.signature(f)) == "(a: int, b=[1], *rest, c={'k': 2}, **more) -> str"
        """,
    ),
    Trip(
        "closures that share a variable",
        (
            """
            def counter():
                count = 0
                def up():
                    nonlocal count
                    count += 1
                    return count
                def look():
                    return count
                return up, look

            up, look = counter(); other, _ = counter()
            """,
            "up()",
            "up()",
        ),
        "assert look() == 2 and up() == 3 and look() == 3 and other() == 1 and look() == 3",
    ),
    Trip(
        "a closure over itself",
        ("def make():\n    def walk(n):\n        return n and walk(n - 1)\n    return walk", "walk = make()"),
        "assert walk(5) == 0 and walk.__closure__[0].cell_contents is walk",
    ),
    Trip(
        "a variable of a closure that has no value",
        (
            """
            def make():
                def use():
                    return later
                if False:
                    later = 1
                return use

            use = make()
            """,
        ),
        """
        try:
            use()
        except NameError:
            pass
        else:
            raise AssertionError
        """,
    ),
    Trip(
        "decorators",
        (
            """
            import functools
            seen = []

            def noted(f):
                @functools.wraps(f)
                def inner(*arguments):
                    seen.append(arguments)
                    return f(*arguments)
                return inner

            @noted
            def add(a, b):
                return a + b
            """,
            "add(1, 2); seen",
        ),
        "assert add(3, 4) == 7 and seen == [(1, 2), (3, 4)] and add.__name__ == 'add' and add.__wrapped__(1, 1) == 2",
    ),
    Trip(
        "partial functions",
        (
            "import functools\ndef scaled(x, by):\n    return x * by * scale",
            "double = functools.partial(scaled, by=2); scale = 1",
        ),
        "scale = 10; assert double(3) == 60 and double.func is scaled and double.keywords == {'by': 2}",
    ),
    Trip(
        "generator functions and coroutines",
        ("def numbers(n):\n    yield from range(n)\nasync def later(x):\n    return x + plus\nplus = 1",),
        "import asyncio; assert list(numbers(3)) == [0, 1, 2] and asyncio.run(later(1)) == 2",
    ),
    Trip(
        "bound methods",
        (
            """
            class Dog:
                def bark(self):
                    return self.sound

            items = []; add = items.append; dog = Dog(); dog.sound = "wuff"; bark = dog.bark
            """,
        ),
        """
        add(1); dog.sound = "grr"
        assert items == [1] and bark() == "grr" and bark.__self__ is dog
        """,
    ),
    Trip(
        "a class and its instances from different checkpoints",
        ("class Thing:\n    pass", "thing = Thing()", "other = Thing()"),
        "assert isinstance(thing, Thing) and type(other) is type(thing) is Thing",
    ),
    Trip(
        "a class redefined while an instance lives",
        (
            "class Thing:\n    def act(self):\n        return 1\nold = Thing()",
            "class Thing:\n    def act(self):\n        return 2\nnew = Thing()",
            "both = [old, new]",
        ),
        """
        assert old.act() == 1 and new.act() == 2 and type(new) is Thing and not isinstance(old, Thing)
        assert both[0] is old and type(old).__name__ == "Thing" and type(old)().act() == 1
        """,
    ),
    Trip(
        "a class that changes",
        (
            "class Thing:\n    kind = 1\nthing = Thing()",
            "Thing.kind = 2; Thing.get = lambda self: self.kind * scale; scale = 2",
        ),
        """
        assert thing.kind == 2 and thing.get() == 4
        scale = 5; Thing.kind = 3
        assert thing.get() == 15
        """,
    ),
    Trip(
        "all that a class may have",
        (
            """
            import abc

            class Shape(abc.ABC):
                @abc.abstractmethod
                def area(self): ...

            class Square(Shape):
                "A square."
                __slots__ = ("side",)
                made = 0

                class Corner:
                    deep = True

                def __init__(self, side):
                    self.side = side
                    type(self).made += 1

                def area(self):
                    return self.side**2

                @property
                def twice(self):
                    return self.side * 2

                @twice.setter
                def twice(self, value):
                    self.side = value / 2

                @classmethod
                def unit(cls):
                    return cls(1)

                @staticmethod
                def sides():
                    return 4

            class Cube(Square):
                def area(self):
                    return super().area() * 6
            """,
            "cube = Cube(2); corner = Square.Corner(); Cube",
        ),
        """
        assert cube.area() == 24 and Cube.unit().side == 1 and Square.sides() == 4 and Square.__doc__ == "A square."
        cube.twice = 6
        assert cube.side == 3 and Cube.made == 2 and type(corner) is Square.Corner and corner.deep
        assert isinstance(cube, Shape) and Cube.__mro__ == (Cube, Square, Shape, abc.ABC, object)
        try:
            Shape()
        except TypeError:
            pass
        else:
            raise AssertionError
        """,
    ),
    Trip(
        "a metaclass",
        (
            """
            class Meta(type):
                @property
                def loud(cls):
                    return cls.__name__.upper()

            class Thing(metaclass=Meta):
                pass
            """,
            "thing = Thing()",
        ),
        "assert type(Thing) is Meta and Thing.loud == 'THING' and type(thing) is Thing and type(Thing()) is Thing",
    ),
    Trip(
        "a descriptor",
        (
            """
            class Positive:
                def __set_name__(self, owner, name):
                    self.name = "_" + name

                def __get__(self, it, owner):
                    return getattr(it, self.name)

                def __set__(self, it, value):
                    assert value > 0
                    setattr(it, self.name, value)

            class Thing:
                size = Positive()

            thing = Thing(); thing.size = 3
            """,
        ),
        "assert thing.size == 3; thing.size = 4; assert thing._size == 4",
    ),
    Trip(
        "enums",
        (
            """
            import enum

            class Color(enum.Enum):
                RED = 1
                BLUE = 2

                @property
                def nice(self):
                    return self is Color.RED

            class Right(enum.Flag):
                READ = 1
                WRITE = 2
            """,
            "color = Color.RED; right = Right.READ | Right.WRITE",
        ),
        """
        assert color is Color.RED and color.nice and Color(2) is Color.BLUE and len(Color) == 2
        assert right == Right.READ | Right.WRITE and Right.READ in right
        """,
    ),
    Trip(
        "dataclasses",
        (
            """
            from dataclasses import asdict, dataclass, field, replace

            @dataclass(order=True)
            class Point:
                x: int
                tags: list = field(default_factory=list)

                def far(self):
                    return self.x > limit

            @dataclass(frozen=True, slots=True)
            class Fixed:
                y: int = 1
            """,
            "point = Point(3); fixed = Fixed(2); limit = 5",
        ),
        """
        assert point == Point(3) and point < Point(4) and asdict(point) == {"x": 3, "tags": []} and not point.far()
        limit = 1
        assert point.far() and replace(fixed, y=5).y == 5 and hash(fixed) == hash(Fixed(2))
        assert Point(1).tags is not Point(1).tags
        try:
            fixed.y = 3
        except AttributeError:
            pass
        else:
            raise AssertionError
        """,
    ),
    Trip(
        "named tuples",
        (
            """
            from collections import namedtuple
            from typing import NamedTuple

            class Row(NamedTuple):
                a: int
                b: str = "x"

                def both(self):
                    return f"{self.a}{self.b}"

            Pair = namedtuple("Pair", "l r")
            """,
            "row, pair = Row(1), Pair(1, [2])",
        ),
        """
        assert row == (1, "x") and row.both() == "1x" and type(row) is Row and row._replace(a=2).a == 2
        assert pair.r == [2] and type(pair) is Pair and Pair._fields == ("l", "r")
        """,
    ),
    Trip(
        "a pydantic model",
        (
            """
            from pydantic import BaseModel, field_validator

            class Item(BaseModel):
                name: str
                parts: list["Item"] = []

                @field_validator("name")
                @classmethod
                def short(cls, value):
                    if len(value) > longest:
                        raise ValueError("too long")
                    return value

            longest = 5
            """,
            "item = Item(name='a', parts=[Item(name='b')])",
        ),
        """
        assert item == Item(name="a", parts=[{"name": "b"}]) and type(item.parts[0]) is Item
        assert Item.model_validate_json(item.model_dump_json()) == item
        try:
            Item(name="far too long")
        except ValueError:
            pass
        else:
            raise AssertionError
        longest = 50
        assert Item(name="far too long").parts == []
        """,
    ),
    Trip(
        "generic classes",
        (
            """
            from typing import Generic, TypeVar
            T = TypeVar("T")

            class Stack(Generic[T]):
                def __init__(self):
                    self.items: list[T] = []
            """,
            "stack = Stack[int](); hint = Stack[int]",
        ),
        "assert type(stack) is Stack and hint.__origin__ is Stack and hint.__args__ == (int,)",
    ),
    Trip(
        "exceptions",
        (
            """
            class Oops(Exception):
                def __init__(self, text, code):
                    super().__init__(text, code)
                    self.code = code
            """,
            "try:\n    raise Oops('bad', 3)\nexcept Oops as error:\n    caught = error",
        ),
        "assert isinstance(caught, Oops) and caught.code == 3 and caught.args == ('bad', 3)",
    ),
    Trip(
        "subclasses of what is built in",
        (
            """
            class Names(dict):
                def __missing__(self, key):
                    return key

            class Row(list):
                pass
            """,
            "names = Names(a=1); row = Row([1]); row.label = 'l'",
        ),
        "assert names['b'] == 'b' and names['a'] == 1 and row == [1] and row.label == 'l' and type(row) is Row",
    ),
    Trip(
        "collections",
        (
            """
            import collections
            found = collections.defaultdict(list, a=[1]); order = collections.OrderedDict(b=1)
            latest = collections.deque([1, 2], maxlen=2); count = collections.Counter("aab")
            """,
        ),
        """
        found["new"].append(1); latest.append(3)
        assert found["new"] == [1] and list(latest) == [2, 3] and count["a"] == 2 and list(order) == ["b"]
        """,
    ),
    Trip(
        "iterators", ("letters = iter('abc'); next(letters)",), "assert next(letters) == 'b' and next(letters) == 'c'"
    ),
    Trip(
        "modules",
        ("import os.path as p, math, xml.dom.minidom; modules = [math, p]",),
        "import sys; assert math is sys.modules['math'] is modules[0] and p.join('a', 'b') and xml.dom.minidom.parse",
    ),
    Trip("globals", ("here = globals(); name = 'n'",), "assert here is globals() and here['name'] == 'n'"),
    Trip(
        "locks",
        ("import threading; lock, again = threading.Lock(), threading.RLock(); held = [lock]",),
        """
        assert held[0] is lock and lock.acquire(blocking=False) and not lock.acquire(blocking=False)
        with again, again:
            pass
        """,
    ),
    Trip(
        "large integers and texts",
        ("large = 7 ** 100_000; text = 'ü' * 200_000 + '\\ud800'; name = 'n' * 10",),
        "assert large == 7 ** 100_000 and text == 'ü' * 200_000 + '\\ud800' and name == 'n' * 10",
    ),
    Trip(
        "names that are not identifiers",
        ("globals()['with space'] = [1]; globals()['ünïcode'] = [2]",),
        "assert globals()['with space'] == [1] and ünïcode == [2]",
    ),
)
each_trip = pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.name)


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path)


@pytest.mark.parametrize("reach", ["all", "what a cell names"])
@each_trip
def test_it_comes_back_as_it_was(notebook, trip, reach):
    for cell in trip.cells:
        notebook.run(cell)
        named = {name for name in notebook.values() if name in cell}
        notebook.save(reached=None if reach == "all" else named)
    assert not [variable for variable in notebook.manifest.variables if variable.reason]
    notebook.restored().run(trip.check)


@each_trip
def test_it_comes_back_from_what_came_back(notebook, trip):
    for cell in trip.cells:
        notebook.run(cell)
    notebook.save()
    second = notebook.restored()
    second.run("added = 1")
    second.save()
    third = second.restored()
    third.run(trip.check)
    assert third["added"] == 1


@each_trip
def test_the_order_in_which_it_is_loaded_does_not_matter(notebook, trip):
    for cell in trip.cells:
        notebook.run(cell)
        notebook.save()
    manifest = notebook.manifest
    orders = list(itertools.islice(itertools.permutations(range(len(manifest.groups))), 5000))
    for order in random.Random(3).sample(orders, min(4, len(orders))):
        groups = [group.model_copy(update={"size": order[place]}) for place, group in enumerate(manifest.groups)]
        notebook.restored(manifest.model_copy(update={"groups": groups})).run(trip.check)


#: What has a state that cannot be saved.
GONE: dict[str, tuple[str, str, str]] = {
    "a generator": ("it = (n for n in range(3))", "next(it)", "generator"),
    "a socket": ("import socket\nit = socket.socket()\nit.close()", "it.recv(1)", "socket"),
    "a held lock": ("import threading\nit = threading.Lock()\nit.acquire()", "it.release()", "a lock that is held"),
    "a running frame": ("import sys\nit = sys._getframe()", "it.f_code", "frame"),
    "a database": ("import sqlite3\nit = sqlite3.connect(':memory:')\nit.close()", "it.cursor()", "Connection"),
}


@pytest.mark.parametrize(("make", "use", "reason"), GONE.values(), ids=GONE)
def test_what_cannot_come_back_says_so_when_it_is_used(notebook, make, use, reason):
    notebook.run(make)
    notebook.run("other = [1]")
    notebook.save()
    fresh = notebook.restored()
    variable = variable_of(fresh["it"])
    assert variable is not None
    assert reason in (variable.reason or "")
    with pytest.raises(
        NotRestoredError, match=r"it \(.*\) was not restored: .*Re-run its cell \(In \[7\]\): it = \.\.\."
    ):
        fresh.run(use)
    assert fresh["other"] == [1]


def test_a_file_that_is_read_continues_where_it_was(notebook, tmp_path):
    (tmp_path / "text.txt").write_text("first\nsecond\nthird\n")
    (tmp_path / "data.bin").write_bytes(b"0123456789")
    notebook.run(f"""
        text, data = open({str(tmp_path / "text.txt")!r}), open({str(tmp_path / "data.bin")!r}, "rb")
        text.readline()
        data.read(3)
    """)
    notebook.save()
    fresh = notebook.restored()
    assert fresh["text"].readline() == "second\n"
    assert fresh["data"].read(2) == b"34"
    for each in (notebook, fresh):
        each["text"].close()
        each["data"].close()


def test_a_class_is_saved_once_however_many_use_it(notebook):
    notebook.run("class Thing:\n    data = list(range(50_000))\nthings = [Thing() for _ in range(3)]\nsingle = Thing()")
    notebook.save()
    defining = [group for group in notebook.manifest.groups if group.defines]
    assert [group.defines for group in defining] == [[notebook.definitions.id_of(notebook["Thing"])]]
    assert sum(group.size for group in notebook.manifest.groups if not group.defines) < 1000


def test_nothing_is_saved_again_because_it_was_saved_before(notebook):
    """A checkpoint of what has not changed is equal to the one before, classes and functions included."""
    for trip in TRIPS:
        for cell in trip.cells:
            notebook.run(cell)
    notebook.save(changed=())
    before = {tuple(group.names): group.record for group in notebook.manifest.groups}
    forget_classes()
    notebook.save(changed=())
    after = {tuple(group.names): group.record for group in notebook.manifest.groups}
    assert [names for names in after if after[names] != before.get(names)] == []


def test_what_is_not_of_a_notebook_cannot_load_what_is():
    for make in (make_function, make_class):
        with pytest.raises(pickle.UnpicklingError):
            make()


def test_what_is_shared_is_known(notebook):
    notebook.run("""
        import numpy as np

        items, array = [1], np.zeros(10)
        plain = (1, "text", 2.5, None, True, b"bytes", np.float64(1))
        first, second = {"items": items, "array": array, "plain": plain}, [items, array[2:], plain]
    """)
    ids = {}
    picklers = []  # they keep what they met: an address must not be given twice
    for name in ("first", "second"):
        with (notebook.directory / name).open("wb") as file:
            pickler = NamespacePickler(file, notebook.namespace, notebook.definitions)
            picklers.append(pickler)
            pickler.dump(notebook[name])
            ids[name] = pickler.shareable()
    assert ids["first"] & ids["second"] == {id(notebook["items"]), id(notebook["array"])}
