"""Objects to bytes and back, such that a namespace behaves afterwards as if nothing had happened.

cloudpickle is the base. What it does otherwise, or not at all:

- functions of the notebook get the live namespace as their globals, closures that share a variable go on sharing it;
- classes of the notebook are *definitions*: saved once under an id, referred to by it from everywhere else;
- what a class or an object does when it is made is not done again, since its state has all that came of it;
- arrays that share memory share it afterwards, and pandas knows of it where it keeps account of that;
- files that are read are opened again at their position; locks that nobody holds come back, unlocked.
"""

from __future__ import annotations

import abc
import argparse
import array as arrays
import builtins
import contextlib
import dataclasses
import enum
import functools
import gc
import importlib
import io
import json
import operator
import os
import pickle
import re
import struct
import subprocess
import sys
import threading
import types
import typing
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import cloudpickle  # type: ignore[import-untyped]

#: Buffers below this many bytes stay within the pickle: they are not worth a file position of their own.
SMALL_BUFFER = 64 * 1024

#: Objects of these types may be shared by variables that are saved apart: nobody can tell whether they are the same.
_ATOMS: frozenset[type] = frozenset(
    {
        str,
        bytes,
        int,
        float,
        complex,
        bool,
        type(None),
        tuple,
        frozenset,
        range,
        slice,
        types.BuiltinFunctionType,
        types.CodeType,
        types.ModuleType,
        types.MethodDescriptorType,
        types.WrapperDescriptorType,
        types.GetSetDescriptorType,
        types.MemberDescriptorType,
        type(Ellipsis),
        type(NotImplemented),
    }
)
#: And objects of the classes in these modules, which cannot be changed or are the same by their names.
_IMMUTABLE_MODULES = (
    "datetime",
    "decimal",
    "fractions",
    "uuid",
    "pathlib",
    "re",
    "zoneinfo",
    "ipaddress",
    "operator",
    "dataclasses",
    "numpy.dtypes",
    "pyarrow.",
    "pandas._libs.tslibs",
    "pandas.core.dtypes",
    "pandas.core.indexes",
    "pandas.core.arrays",
    "polars.datatypes",
)


#: Modules whose functions are in pickles because we put them there.
_OURS = frozenset({"builtins", "capsule_worker", "cloudpickle", "__main__"})


class Definitions(Protocol):
    """Knows the classes of the notebook by id."""

    def id_of(self, cls: type) -> str:
        """Return the id of a class."""


class Definer(Protocol):
    """Finds the classes of the notebook while they are being loaded."""

    namespace: dict[str, Any]

    def begin(self, uid: str, cls: type) -> None:
        """Take notice of a class whose attributes follow."""

    def find(self, uid: str) -> type:
        """Return a class."""


class Unit:
    """What is pickled in one piece: values, or a class.

    Args:
        values: variables by name.
        classes: definitions by id that belong to this piece.
    """

    def __init__(self, values: dict[str, Any], classes: dict[str, type] | None = None) -> None:
        self.values = values
        self.classes = classes or {}

    @property
    def key(self) -> frozenset[str]:
        """The names and ids in it."""
        return frozenset([*self.values, *self.classes])

    def parts(self) -> list[Unit]:
        """Return each value and each class as a unit of its own."""
        values = [Unit({name: value}) for name, value in self.values.items()]
        return values + [Unit({}, {uid: cls}) for uid, cls in self.classes.items()]

    def merged(self, other: Unit) -> Unit:
        """Return both in one piece."""
        return Unit({**self.values, **other.values}, {**self.classes, **other.classes})


def _anchors(namespace: dict[str, Any]) -> tuple[Any, ...]:
    """Return what is never pickled, but referred to by its number: that is part of the format."""
    # argparse asks whether a text is this very one.
    return namespace, builtins.__dict__, argparse.SUPPRESS


class NamespacePickler(cloudpickle.Pickler):
    """Pickles a unit of a namespace.

    Args:
        file: gets the pickle, in pieces.
        namespace: the notebook's globals.
        definitions: knows the classes.
        owned: ids of the classes that are pickled here by value.
    """

    def __init__(
        self, file: Any, namespace: dict[str, Any], definitions: Definitions, owned: Iterable[str] = ()
    ) -> None:
        #: Large buffers, in order.
        self.buffers: list[pickle.PickleBuffer] = []
        # Nothing that is held here refers to the pickler: it shall be gone, with its memo, once nobody needs it.
        super().__init__(file, protocol=5, buffer_callback=_taker(self.buffers))
        self._namespace = namespace
        self._definitions = definitions
        self._owned = frozenset(owned)
        #: How objects of the types that were met are reduced.
        self._ways = _REDUCERS.copy()
        self._anchors = [_Anchor(number, value) for number, value in enumerate(_anchors(namespace))]
        #: Addresses of the dicts that are variables; None before anybody has asked.
        self._dicts: set[int] | None = None
        #: Classes that were referred to, by id.
        self.needs: dict[str, type] = {}
        #: Code of the notebook's functions that were met.
        self.codes: list[types.CodeType] = []
        #: Roots of the modules that classes and functions came from.
        self.modules: set[str] = set()

    def dump(self, obj: Any) -> Any:
        """Pickle an object, behind what it may refer to although it is there before anything is loaded."""
        return super().dump((self._anchors, _Settled(), obj))

    def shareable(self) -> set[int]:
        """Return the ids of all objects that were pickled and that another unit must not pickle too."""
        memo = self.memo.copy()
        matter: dict[type, bool] = {}
        found = set()
        anchored = {id(anchor.value) for anchor in self._anchors}
        for key, (_, value) in memo.items():
            if key in anchored:
                continue
            kind = type(value)
            does = matter.get(kind)
            if does is None:
                does = matter[kind] = _matters(kind)
            if does and (kind is not types.FunctionType or value.__globals__ is self._namespace):
                found.add(key)
        return found

    def reducer_override(self, obj: Any) -> Any:
        """Reduce what is special here; leave the rest to cloudpickle."""
        kind = type(obj)
        way = self._ways.get(kind)
        if way is None:
            way = self._ways[kind] = self._way(kind)
        return self._own(obj) if way is _ours else way(obj)

    def _way(self, kind: type) -> Callable[[Any], Any]:
        """Return how objects of a type that is met for the first time are reduced."""
        module = str(kind.__module__)
        if issubclass(kind, type) or kind in {types.FunctionType, types.ModuleType, _Settled}:
            return _ours
        if module == "numpy":
            return _ARRAYS.get(kind.__name__, _leave)
        if module.startswith("capsule_worker."):
            return _of_the_worker
        if issubclass(kind, BaseException):
            return _exception
        if module.partition(".")[0] == "pandas" and _keeps_account_of_sharing():
            return _way_of_pandas(kind)
        return _delicate if _is_delicate(kind) else _leave

    def _own(self, obj: Any) -> Any:
        """Reduce what it takes the pickler for."""
        if isinstance(obj, types.FunctionType):
            return self._any_function(obj)
        if isinstance(obj, type):
            return self._class(obj)
        return self._module(obj) if isinstance(obj, types.ModuleType) else self._settle()

    def _settle(self) -> Any:
        """Have the objects that anchors stand for take their places: they are referred to, and not pickled."""
        pickler: Any = self
        memo = pickler.memo.copy()
        for anchor in self._anchors:
            place, _ = memo.pop(id(anchor))
            memo[id(anchor.value)] = (place, anchor.value)
        pickler.memo = memo
        return tuple, ()

    def _met(self, thing: Any) -> None:
        root = str(getattr(thing, "__module__", None)).partition(".")[0]
        if root not in _OURS:
            self.modules.add(root)

    def _any_function(self, function: types.FunctionType) -> Any:
        if function.__globals__ is self._namespace:
            self.codes.append(function.__code__)
            return _function(function)
        self._met(function)
        reduced = super().reducer_override(function)
        if reduced is NotImplemented:
            return reduced  # a function that can be imported
        home = self._home_of(function.__globals__)
        # cloudpickle gives it a namespace of its own, with those globals in it that it uses.
        return reduced if home is None else _function(function, home)

    def _home_of(self, space: dict[str, Any]) -> Any:
        """Return the module, or else the dict of the notebook, that functions have as their globals."""
        module = sys.modules.get(str(space.get("__name__")))
        if module is not None and module.__dict__ is space and getattr(module, "__spec__", None) is not None:
            return module
        if self._dicts is None:
            self._dicts = {id(value) for value in self._namespace.values() if type(value) is dict}
        return space if id(space) in self._dicts else None

    def _module(self, module: types.ModuleType) -> Any:
        if module.__dict__ is self._namespace:
            return importlib.import_module, ("__main__",)
        names = _submodules_imported(module.__name__, self._namespace.get("In"))
        return (import_with, (module.__name__, names)) if names else NotImplemented

    def _class(self, cls: type) -> Any:
        if _is_array_of_ctypes(cls):
            made: Any = cls
            return operator.mul, (made._type_, made._length_)
        reduced = super().reducer_override(cls)
        if not isinstance(reduced, tuple) or len(reduced) < 6:  # noqa: PLR2004  # cloudpickle's way with its own
            self._met(cls)
            return reduced  # a class that can be imported
        uid = self._definitions.id_of(cls)
        if uid not in self._owned:
            self.needs[uid] = cls
            return find_class, (uid,)
        _, arguments, (attributes, _), *_ = reduced
        if issubclass(cls, enum.Enum):
            make, arguments, state = _enum(cls, attributes)
        else:
            _, _, bases, space, *_ = arguments
            make, arguments, state = _plain_class(cls, bases, space, attributes)
        return make_class, (uid, make, arguments), state, None, None, fill_class


class PlainPickler(pickle.Pickler):
    """Pickles a unit that holds nothing but texts, numbers and containers that nothing else holds.

    Args:
        file: gets the pickle, in pieces.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=5)
        self.buffers: list[pickle.PickleBuffer] = []
        self.needs: dict[str, type] = {}
        self.codes: list[types.CodeType] = []
        self.modules: set[str] = set()

    def dump(self, obj: Any) -> None:
        """Pickle an object, in the place where the unpickler looks for it."""
        super().dump(((), None, obj))

    def shareable(self) -> set[int]:
        """Return nothing: no other unit has any of it."""
        return set()


class NamespaceUnpickler(pickle.Unpickler):
    """Loads a unit.

    Args:
        file: the pickle.
        buffers: the large buffers.
        definer: knows the classes.
    """

    def __init__(self, file: Any, buffers: Iterable[Any], definer: Definer) -> None:
        super().__init__(file, buffers=buffers)
        # What is found goes into the memo. It does not refer to the unpickler: that shall be gone, with its memo, once
        # an object is loaded, for nobody else holds what the notebook has let go.
        self._found: dict[str, Callable[..., Any]] = {
            "make_function": functools.partial(_make_function, definer),
            "find_class": definer.find,
            "make_class": functools.partial(_make_class, definer),
            "find_anchor": _anchors(definer.namespace).__getitem__,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Find a global; ours are bound to this unpickling."""
        found = self._found.get(name) if module == __name__ else None
        return super().find_class(module, name) if found is None else found

    def load(self) -> Any:
        """Load an object."""
        _, _, value = super().load()
        return value


def _make_function(
    definer: Definer, code: types.CodeType, name: str, closure: Any, home: Any = None
) -> types.FunctionType:
    space = definer.namespace if home is None else home if type(home) is dict else home.__dict__
    return types.FunctionType(code, space, name, None, closure)


def _make_class(definer: Definer, uid: str, make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    cls = make(*arguments)
    definer.begin(uid, cls)
    return cls


# -- what pickles refer to: their names and places are part of the format -------------------------------------------


def make_function(*_: Any) -> Any:
    """Make a function of the notebook; the unpickler knows how."""
    raise pickle.UnpicklingError("a function of a notebook can only be loaded into one")


def find_class(*_: Any) -> Any:
    """Find a class of the notebook; the unpickler knows how."""
    raise pickle.UnpicklingError("a class of a notebook can only be loaded into one")


def make_class(*_: Any) -> Any:
    """Make a class of the notebook; the unpickler knows how."""
    raise pickle.UnpicklingError("a class of a notebook can only be loaded into one")


def find_anchor(*_: Any) -> Any:
    """Find an object that is there before anything is loaded; the unpickler knows how."""
    raise pickle.UnpicklingError("what is in a notebook can only be loaded into one")


def fill_function(function: types.FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Give a function its defaults, names and attributes."""
    slots, attributes = state
    for name, value in slots.items():
        setattr(function, name, value)
    function.__dict__.update(attributes)


def make_plain_class(meta: type | None, name: str, bases: tuple[Any, ...], space: dict[str, Any]) -> type:
    """Make a class without its attributes.

    Args:
        meta: its metaclass; None for that of its bases.
        name: its ``__name__``.
        bases: its bases, as they were written.
        space: what has to be there from the beginning.
    """
    resolved = types.resolve_bases(bases)
    if resolved is not bases:
        space["__orig_bases__"] = bases
    kind: Any = meta or _metaclass_of(resolved)
    maker: Any = _beyond_notebook(kind)

    def make() -> Any:
        prepared = maker.__prepare__(name, resolved)
        prepared.update(space)
        # The notebook's own metaclass has been at work already.
        return kind(name, resolved, prepared) if maker is kind else maker.__new__(kind, name, resolved, prepared)

    try:
        with _without_hooks(resolved, everywhere=False):
            cls: type = make()
    except TypeError:  # a library's hook that misses its arguments
        with _without_hooks(resolved, everywhere=True):
            cls = make()
    return cls


def make_enum(meta: type, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> type:
    """Make an enumeration with its members, those included that have several names."""
    maker: Any = _beyond_notebook(meta)
    space = maker.__prepare__(name, bases)
    for member, value in members.items():
        space[member] = value
    cls: type = maker.__new__(meta, name, bases, space)
    return cls


def fill_class(cls: type, state: tuple[dict[str, Any], dict[str, dict[str, Any]]]) -> None:
    """Give a class its attributes, and an enumeration's members theirs."""
    attributes, members = state
    maker: Any = _beyond_notebook(type(cls))
    subclasses = attributes.pop("_abc_impl", ())
    for name, value in attributes.items():
        maker.__setattr__(cls, name, value)
    if "__firstlineno__" in attributes:  # setting others takes it away
        maker.__setattr__(cls, "__firstlineno__", attributes["__firstlineno__"])
    for subclass in subclasses:
        abc.ABCMeta.register(typing.cast("abc.ABCMeta", cls), subclass)
    enumeration: Any = cls
    for name, values in members.items():
        vars(enumeration.__members__[name]).update(values)


def fill_object(obj: Any, attributes: Any) -> None:
    """Give an object its attributes without asking its class, which may need some of them to answer."""
    if type(attributes) is tuple:
        attributes, slots = attributes
        for name, value in slots.items():
            object.__setattr__(obj, name, value)
    if attributes:
        own = object.__getattribute__(obj, "__dict__")
        for name, value in attributes.items():
            own[sys.intern(name)] = value


def fill_container(obj: Any, state: tuple[Any, Any, Any]) -> None:
    """Give an object its attributes and items without asking its class."""
    attributes, items, pairs = state
    if items is not None:
        list.extend(obj, items)
    if pairs is not None:
        dict.update(obj, pairs)
    fill_object(obj, attributes)


def make_exception(kind: type[BaseException], *arguments: Any) -> BaseException:
    """Make an exception of a class of the notebook, whose own way to make one may ask for more."""
    base: Any = _beyond_notebook(kind)
    error: BaseException = base.__new__(kind, *arguments)
    base.__init__(error, *arguments)
    return error


def fill_exception(error: Any, state: tuple[Any, Any, Any, bool]) -> None:
    """Give an exception its attributes, and those that it came from."""
    attributes, cause, context, suppressed = state
    if attributes is not None:
        error.__setstate__(attributes)
    error.__cause__, error.__context__, error.__suppress_context__ = cause, context, suppressed


def make_cell() -> types.CellType:
    """Make the cell of a variable that functions share."""
    return types.CellType()


def fill_cell(cell: types.CellType, state: tuple[Any]) -> None:
    """Give it its value."""
    (cell.cell_contents,) = state


def import_with(name: str, submodules: list[str]) -> Any:
    """Import a module, and those below it that are used by way of it."""
    module = importlib.import_module(name)
    for each in submodules:
        with contextlib.suppress(ImportError):
            importlib.import_module(each)
    return module


def fill_block(block: Any, state: tuple[Any]) -> None:
    """Have pandas know what shares memory with a block."""
    (block.refs,) = state
    block.refs.add_reference(block)


def make_lock(kind: str) -> Any:
    """Make a lock that nobody holds."""
    return threading.RLock() if kind == "RLock" else threading.Lock()


def open_again(path: str, arguments: dict[str, Any], position: int) -> Any:
    """Open a file that was being read, at its position."""
    file = open(path, **arguments)  # noqa: SIM115, PTH123  # the user's file, which stays open
    file.seek(position)
    return file


def closed_file(name: Any, mode: str, arguments: dict[str, Any]) -> Any:
    """Make a file that is closed."""
    file: Any = open(os.devnull, mode.replace("x", "w"), **arguments)  # noqa: SIM115, PTH123  # closed below
    raw = file if isinstance(file, io.FileIO) else file.raw if "b" in mode else file.buffer.raw
    file.close()
    raw.name = name
    if "b" not in mode:
        file.mode = mode
    return file


def match_again(pattern: re.Pattern[Any], how: str, text: Any, start: int, end: int) -> Any:
    """Find a match again."""
    return getattr(pattern, how)(text, start, end)


def view_of(mapping: Any, what: str) -> Any:
    """Return the ``keys``, ``values`` or ``items`` of a dict."""
    return getattr(mapping, what)()


def dead_reference() -> Any:
    """Make a weak reference to something that is gone."""
    return weakref.ref(type("gone", (), {})())


def make_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """Give a function a cache, which is empty."""
    return functools.lru_cache(maxsize, typed)(function)


def make_new_type(name: str, supertype: Any, module: str) -> Any:
    """Make a type for type checkers."""
    made: Any = typing.NewType(name, supertype)  # type: ignore[misc]  # the name is not known before
    made.__module__ = module
    return made


def make_alias(name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    """Make what a ``type`` statement makes."""
    return typing.TypeAliasType(name, value, type_params=parameters)


def make_type_variable(kind: Any, name: str, constraints: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Make a ``TypeVar`` or a ``ParamSpec``."""
    variable = kind(name, *constraints, **options)
    variable.__module__ = "__main__"
    return variable


def make_scanner(options: dict[str, Any]) -> Any:
    """Make what a JSON decoder reads with."""
    return json.scanner.make_scanner(types.SimpleNamespace(**options))  # type: ignore[attr-defined]  # not in stubs


def open_memmap(path: str, dtype: Any, mode: str, offset: int, shape: tuple[int, ...], order: str) -> Any:
    """Make an array on a file again."""
    numpy = importlib.import_module("numpy")
    return numpy.memmap(path, dtype=dtype, mode=mode, offset=offset, shape=shape, order=order)


def make_part(*view: Any) -> Any:
    """Make an array on the memory of another, of the same class."""
    return make_view(*view).view(type(view[0]))


def make_view(root: Any, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], start: int, write: bool) -> Any:
    """Make an array on the memory of another."""
    numpy = importlib.import_module("numpy")
    if dtype.hasobject:
        items = root.ravel(order="K")[start // dtype.itemsize :]
        view = numpy.lib.stride_tricks.as_strided(items, shape, strides)
    else:
        view = numpy.ndarray(shape, dtype, _bytes_of(root), start, strides)
    if not write:
        view.flags.writeable = False
    return view


def make_array_on(owner: Any, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], start: int) -> Any:
    """Make an array on the memory of a bytearray or the like."""
    return importlib.import_module("numpy").ndarray(shape, dtype, owner, start, strides)


def same(value: Any) -> Any:
    """Return ``value``."""
    return value


# -- reducers: classes and objects of the notebook ------------------------------------------------------------------


class _Anchor:
    """Stands in a pickle for an object that is there before anything is loaded.

    Args:
        number: which one.
        value: the object.
    """

    def __init__(self, number: int, value: Any) -> None:
        self.number = number
        self.value = value


class _Settled:
    """Comes behind the anchors in a pickle."""


def _anchor(anchor: _Anchor) -> Any:
    return find_anchor, (anchor.number,)


def _taker(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    """Return what decides of a buffer whether it stays within the pickle; if not, it is added to ``buffers``."""

    def take(buffer: pickle.PickleBuffer) -> bool:
        with buffer.raw() as raw:
            if raw.nbytes < SMALL_BUFFER:
                return True
        buffers.append(buffer)
        return False

    return take


def _leave(_: Any) -> Any:
    return NotImplemented


def _ours(_: Any) -> Any:
    """Stand for the pickler's own ways."""
    return NotImplemented


def _function(function: types.FunctionType, *home: Any) -> Any:
    slots = {
        name: getattr(function, name)
        for name in ("__defaults__", "__kwdefaults__", "__doc__", "__module__", "__qualname__", "__type_params__")
        if getattr(function, name, None) not in (None, ())
    }
    annotations = _annotations_of(function)
    if annotations:
        slots["__annotations__"] = annotations
    arguments = (function.__code__, function.__name__, function.__closure__, *home)
    return make_function, arguments, (slots, function.__dict__), None, None, fill_function


def _plain_class(cls: type, bases: tuple[Any, ...], space: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """Return how a class is made, from what, and its state."""
    space = {**space, "__qualname__": cls.__qualname__}
    if type(cls) is type and bases is not cls.__bases__:
        # What stood there made the class, as NamedTuple does; it shall not do so again.
        space["__orig_bases__"], bases = bases, cls.__bases__
    own = (types.MemberDescriptorType, types.GetSetDescriptorType)
    members = [name for name, value in vars(cls).items() if isinstance(value, own) and value.__objclass__ is cls]
    # The names of slots are kept there by the one who pickles.
    attributes = {name: value for name, value in attributes.items() if name not in {*members, "__slotnames__"}}
    if "__slots__" in attributes:
        slots = attributes.pop("__slots__")
        known = isinstance(slots, (str, tuple, list, dict))
        space["__slots__"] = slots if known else tuple(members)
    if "_fields_" in attributes and _is_of_ctypes(cls):
        fields = attributes.pop("_fields_")
        attributes = {name: value for name, value in attributes.items() if type(value).__name__ != "CField"}
        attributes["_fields_"] = fields  # last: it makes the others, and from then on none can be added
    meta = None if type(cls) is _metaclass_of(cls.__bases__) else type(cls)
    return make_plain_class, (meta, cls.__name__, bases, space), (attributes, {})


def _enum(cls: type[enum.Enum], attributes: dict[str, Any]) -> Any:
    members = cls.__members__
    attributes = {name: value for name, value in attributes.items() if name not in members}
    attributes.update(__module__=cls.__module__, __qualname__=cls.__qualname__)
    given = {"_value_", "_name_", "__objclass__", "_sort_order_"}
    extras = {
        name: {key: value for key, value in vars(member).items() if key not in given}
        for name, member in members.items()
        if vars(member).keys() - given
    }
    values = {name: member.value for name, member in members.items()}
    return make_enum, (type(cls), cls.__name__, cls.__bases__, values), (attributes, extras)


def _metaclass_of(bases: Iterable[type]) -> type:
    """Return the metaclass that a class gets from its bases."""
    winner = type
    for base in bases:
        if issubclass(type(base), winner):
            winner = type(base)
    return winner


def _beyond_notebook(cls: type) -> type:
    """Return the nearest of a class and its bases that is not the notebook's."""
    return next(base for base in cls.__mro__ if base.__module__ != "__main__")


@contextlib.contextmanager
def _without_hooks(bases: Iterable[type], *, everywhere: bool) -> Iterator[None]:
    """Have ``__init_subclass__`` of the notebook's classes not called, or that of all classes."""
    hooks = []
    for cls in {each: None for base in bases for each in base.__mro__}:
        hook = vars(cls).get("__init_subclass__")
        if hook is not None and (everywhere or cls.__module__ == "__main__"):
            setter: Any = _beyond_notebook(type(cls))
            with contextlib.suppress(TypeError):  # a class that cannot be changed
                setter.__delattr__(cls, "__init_subclass__")
                hooks.append((setter, cls, hook))
    try:
        yield
    finally:
        for setter, cls, hook in hooks:
            setter.__setattr__(cls, "__init_subclass__", hook)


def _submodules_imported(name: str, cells: Any) -> list[str]:
    """Return the modules below one that cells have imported by their full names: no variable tells of them."""
    if not isinstance(cells, list):
        return []
    found = {each for cell in cells if "import" in cell for each in _imports(cell) if each.startswith(f"{name}.")}
    return sorted(found & sys.modules.keys())


@functools.lru_cache(maxsize=4096)
def _imports(cell: str) -> tuple[str, ...]:
    """Return what a cell's ``import`` statements import below other modules."""
    statements = re.findall(r"^[ \t]*import[ \t]+([\w., \t]+)", cell.replace(";", "\n"), re.MULTILINE)
    names = (name.split()[0] for names in statements for name in names.split(",") if name.strip())
    return tuple(name for name in names if "." in name)


def _is_of_ctypes(cls: type) -> bool:
    return any(type(base).__module__ == "_ctypes" for base in cls.__mro__)


def _is_array_of_ctypes(cls: Any) -> bool:
    """Whether a class is what ctypes makes when a type is multiplied."""
    if type(cls).__name__ != "PyCArrayType" or getattr(cls, "_type_", None) is None:
        return False
    return bool(cls is cls._type_ * cls._length_)


def _owner(kind: type, name: str) -> Any:
    """Return which of a class and its bases defines a name."""
    return next((base for base in kind.__mro__ if name in vars(base)), None)


def _is_delicate(kind: type) -> bool:
    """Whether code of a class would run while its objects get their state, which that code may rely on."""
    if any(_owner(kind, name) is not object for name in ("__reduce__", "__reduce_ex__")) or _owner(
        kind, "__setstate__"
    ):
        return False
    hooks = ["__getattr__", "__getattribute__", "__setattr__"]
    if issubclass(kind, list):
        hooks += ["append", "extend"]
    elif issubclass(kind, dict):
        hooks += ["__setitem__"]
    owners = [(name, _owner(kind, name)) for name in hooks]
    return any(owner is not None and isinstance(vars(owner)[name], types.FunctionType) for name, owner in owners)


def _delicate(obj: Any) -> Any:
    reduced = object.__reduce_ex__(obj, 5)
    if not isinstance(reduced, tuple):
        return NotImplemented
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if not (state is None or isinstance(state, (dict, tuple))):
        return NotImplemented
    if items is None and pairs is None:
        return make, arguments, state, None, None, fill_object
    everything = (state, None if items is None else [*items], None if pairs is None else dict(pairs))
    return make, arguments, everything, None, None, fill_container


def _exception(error: BaseException) -> Any:
    """Reduce an exception with those that it came from, and without its class's own way to make one."""
    reduced = error.__reduce_ex__(5)
    if not isinstance(reduced, tuple) or any(item is not None for item in reduced[3:]):
        return reduced
    make, arguments, state = (*reduced, None)[:3]
    kind = type(error)
    owners = {_owner(kind, "__reduce__"), _owner(kind, "__reduce_ex__"), _beyond_notebook(kind)}
    if kind.__module__ == "__main__" and make is kind and all(str(o.__module__) == "builtins" for o in owners if o):
        make, arguments = make_exception, (kind, *arguments)
    if error.__cause__ is None and error.__context__ is None and not error.__suppress_context__:
        return make, arguments, state
    state = (state, error.__cause__, error.__context__, error.__suppress_context__)
    return make, arguments, state, None, None, fill_exception


# -- reducers: objects of libraries --------------------------------------------------------------------------------


class _Owned:
    """An array inside pandas: its memory belongs to this one object as far as anybody can see."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __reduce__(self) -> Any:
        array = self._array
        if array.dtype.hasobject:
            return same, (array.copy(order="K"),)
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            array = array.copy(order="K")
        return array.__reduce_ex__(5)


def _cell(cell: types.CellType) -> Any:
    try:
        contents = cell.cell_contents
    except ValueError:
        return make_cell, ()
    return make_cell, (), (contents,), None, None, fill_cell


def _array(array: Any) -> Any:
    """Reduce an array that lies in the memory of another one to a view of that."""
    if array.dtype.hasobject and array.dtype != object:
        return NotImplemented
    root = array
    base = _base_of(array)
    while type(base).__module__ == "numpy" and type(base).__name__ in _ARRAYS:
        root, base = base, _base_of(base)
    start = array.__array_interface__["data"][0]
    if root is array:
        if array.dtype.hasobject:
            return NotImplemented
        owner = base.obj if isinstance(base, memoryview) else base
        if type(owner) in _OWNERS and array.size:
            owner_at, size = _memory_of(owner)
            if 0 <= start - owner_at <= size:
                return make_array_on, (owner, array.dtype, array.shape, array.strides, start - owner_at)
        return NotImplemented
    if not (root.flags.c_contiguous or root.flags.f_contiguous) or root.dtype.hasobject != array.dtype.hasobject:
        return NotImplemented
    offset = start - root.__array_interface__["data"][0]
    return make_view, (root, array.dtype, array.shape, array.strides, offset, bool(array.flags.writeable))


def _base_of(array: Any) -> Any:
    """Return what an array lies on, past the go-between that numpy makes for strides of one's own."""
    base = array.base
    return base.base if type(base).__name__ == "DummyArray" else base


def _memmap(array: Any) -> Any:
    """Reduce an array on a file to the file, unless what was written to the array stays in memory."""
    mapped = type(array.base).__module__ == "mmap"
    path, mode = getattr(array, "filename", None), getattr(array, "mode", "c")
    if not mapped:
        reduced = _array(array) if type(array.base) is type(array) else NotImplemented
        return reduced if reduced is NotImplemented else (make_part, *reduced[1:])
    if path is None or mode == "c" or array.dtype.hasobject or not Path(path).exists():
        return NotImplemented
    order = "C" if array.flags.c_contiguous else "F"
    mode = "r" if mode == "r" else "r+"
    return open_memmap, (str(Path(path).absolute()), array.dtype, mode, array.offset, array.shape, order)


def _bytes_of(array: Any) -> Any:
    """Return an array as the flat buffer that a view is made on."""
    return array if array.flags.c_contiguous else array.T


def _memory_of(owner: Any) -> tuple[int, int]:
    """Return the address and the size of an object's memory, in bytes."""
    import ctypes

    size = memoryview(owner).nbytes
    return (ctypes.addressof((ctypes.c_char * size).from_buffer(owner)) if size else 0), size


def _way_of_pandas(kind: type) -> Callable[[Any], Any]:
    """Return how objects of a class of pandas are reduced where it copies on write.

    What shares memory there has a common object that keeps account of it. Blocks get theirs back. Indexes and arrays of
    pandas' own types get memory of their own: it makes no difference but that it is more.
    """
    names = {base.__name__ for base in kind.__mro__ if str(base.__module__).startswith("pandas")}
    if "Block" in names:
        return _block
    if "SingleBlockManager" in names:
        return _manager_of_series
    if "BlockValuesRefs" in names:
        return _account
    return _without_sharing if names & {"Index", "ExtensionArray"} else _leave


def _block(block: Any) -> Any:
    make, arguments, *_ = block.__reduce_ex__(5)
    return make, arguments, (block.refs,), None, None, fill_block


def _manager_of_series(manager: Any) -> Any:
    return type(manager), (manager.blocks[0], manager.axes[0])


def _account(account: Any) -> Any:
    return type(account), ()


def _without_sharing(obj: Any) -> Any:
    return _own(obj.__reduce_ex__(5))


def _own(value: Any) -> Any:
    """Return what pandas reduced an object to, such that the arrays in it own their memory."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind(_own(item) for item in value)
    if kind is dict:
        return {key: _own(item) for key, item in value.items()}
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return _Owned(value)
    return value


def _of_the_worker(obj: Any) -> Any:
    """Reduce what belongs to the worker and not to the notebook to the way to get it."""
    if kind_is(obj, "OutputStream"):
        return getattr, (sys, obj.name.strip("<>"))
    if kind_is(obj, "ZMQInteractiveShell"):
        from IPython import get_ipython

        return get_ipython, ()
    return NotImplemented


def kind_is(obj: Any, name: str) -> bool:
    """Whether an object's class has this name."""
    return type(obj).__name__ == name


def _keeps_account_of_sharing() -> bool:
    """Whether pandas copies on write: always from version 3 on, before that if it is switched on."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return False
    try:
        always = int(pandas.__version__.split(".")[0]) >= 3  # noqa: PLR2004  # said above
        return always or bool(pandas.options.mode.copy_on_write)
    except Exception:
        return False


def _lock(lock: Any) -> Any:
    if not lock.acquire(blocking=False):
        raise pickle.PicklingError("a lock that is held")
    lock.release()
    return make_lock, ("Lock",)


def _rlock(lock: Any) -> Any:
    if "owner=0 " not in repr(lock):
        raise pickle.PicklingError("a lock that is held")
    return make_lock, ("RLock",)


def _text_file(file: io.TextIOWrapper) -> Any:
    return _file(file, {"encoding": file.encoding, "errors": file.errors})


def _binary_file(file: Any) -> Any:
    return _file(file, {})


def _raw_file(file: io.FileIO) -> Any:
    return _file(file, {"buffering": 0})


def _file(file: Any, arguments: dict[str, Any]) -> Any:
    name, mode = getattr(file, "name", None), str(getattr(file, "mode", ""))
    mode = mode or getattr(getattr(file, "raw", None), "mode", "")
    if file.closed and mode:
        return closed_file, (name, mode, arguments)
    if not isinstance(name, str) or not Path(name).is_file():
        raise pickle.PicklingError("a file that is open and has no name any more")
    if set(mode) - set("rbt"):
        raise pickle.PicklingError(f"a file open for writing (mode {mode!r})")
    return open_again, (str(Path(name).absolute()), {"mode": mode, **arguments}, file.tell())


def _process(process: subprocess.Popen[Any]) -> Any:
    if process.returncode is None:
        raise pickle.PicklingError("a process that nobody has waited for")
    return NotImplemented


def _condition(condition: Any) -> Any:
    """Reduce a condition to its lock: nobody waits for it any more."""
    return threading.Condition, (condition._lock,)  # noqa: SLF001  # there is no other way to it


def _memory_view(view: Any) -> Any:
    if view.obj is None or memoryview(view.obj) != view or view.format != memoryview(view.obj).format:
        raise pickle.PicklingError("a view of a part of memory")
    return memoryview, (view.obj,)


def _reference(reference: Any) -> Any:
    target, callback = reference(), reference.__callback__
    if target is None:
        return dead_reference, ()
    return weakref.ref, (target,) if callback is None else (target, callback)


def _weak_mapping(mapping: Any) -> Any:
    return type(mapping), (), None, None, iter(list(mapping.items()))


def _dict_view(view: Any) -> Any:
    (mapping,) = gc.get_referents(view)
    return view_of, (mapping, type(view).__name__.rpartition("_")[2])


def _read_only(proxy: Any) -> Any:
    (mapping,) = gc.get_referents(proxy)
    # What shows the attributes of a class is left to cloudpickle, which copies them.
    return NotImplemented if "__module__" in proxy else (types.MappingProxyType, (mapping,))


def _match(match: re.Match[Any]) -> Any:
    for how, start in (("search", match.pos), ("match", match.pos), ("match", match.start()), ("fullmatch", match.pos)):
        again = getattr(match.re, how)(match.string, start, match.endpos)
        if again is not None and again.regs == match.regs:
            return match_again, (match.re, how, match.string, start, match.endpos)
    raise pickle.PicklingError("a match that cannot be found again")


def _cached(function: Any) -> Any:
    if _is_importable(function):
        return NotImplemented
    options = function.cache_parameters()
    added = {k: v for k, v in vars(function).items() if k not in {"__wrapped__", "cache_parameters"}}
    return make_cached, (function.__wrapped__, options["maxsize"], options["typed"]), added


def _new_type(kind: Any) -> Any:
    if _is_importable(kind):
        return NotImplemented
    return make_new_type, (kind.__name__, kind.__supertype__, kind.__module__)


def _alias(alias: Any) -> Any:
    if _is_importable(alias):
        return NotImplemented
    return make_alias, (alias.__name__, alias.__value__, alias.__type_params__)


def _type_variable(variable: Any) -> Any:
    if _is_importable(variable):
        return NotImplemented
    options = {"bound": variable.__bound__, "covariant": variable.__covariant__}
    options["contravariant"] = variable.__contravariant__
    if getattr(variable, "__infer_variance__", False):
        options["infer_variance"] = True
    if getattr(variable, "has_default", bool)():  # Python 3.13
        options["default"] = variable.__default__
    constraints = getattr(variable, "__constraints__", ())
    return make_type_variable, (type(variable), variable.__name__, constraints, options)


def _type_tuple(kind: Any) -> Any:
    return NotImplemented if _is_importable(kind) else (type(kind), (kind.__name__,))


def _is_importable(thing: Any) -> bool:
    """Whether a thing is found by its name in a module that is not the notebook."""
    module = getattr(thing, "__module__", None)
    if module in {None, "__main__"}:
        return False
    found: Any = sys.modules.get(str(module))
    for name in getattr(thing, "__qualname__", thing.__name__).split("."):
        found = getattr(found, name, None)
    return found is thing


def _struct(layout: struct.Struct) -> Any:
    return struct.Struct, (layout.format,)


def _scanner(scanner: Any) -> Any:
    names = ("strict", "object_hook", "object_pairs_hook", "parse_float", "parse_int", "parse_constant")
    return make_scanner, ({**{name: getattr(scanner, name) for name in names}, "memo": {}},)


def _annotations_of(function: types.FunctionType) -> dict[str, Any]:
    try:
        return dict(function.__annotations__)
    except NameError:  # evaluated late, and not possible (Python 3.14)
        return {}


def _missing(_: Any) -> Any:
    return getattr, (dataclasses, "MISSING")


#: Objects whose memory numpy's arrays may lie on.
_OWNERS = (bytearray, arrays.array)
#: By the name of the class.
_ARRAYS: dict[str, Callable[[Any], Any]] = {"ndarray": _array, "memmap": _memmap}
_REDUCERS: dict[type, Callable[[Any], Any]] = {
    _Anchor: _anchor,
    types.CellType: _cell,
    type(dataclasses.MISSING): _missing,
    type(threading.Lock()): _lock,
    type(threading.RLock()): _rlock,
    threading.Condition: _condition,
    io.TextIOWrapper: _text_file,
    io.BufferedReader: _binary_file,
    io.BufferedWriter: _binary_file,
    io.BufferedRandom: _binary_file,
    io.FileIO: _raw_file,
    subprocess.Popen: _process,
    memoryview: _memory_view,
    weakref.ref: _reference,
    weakref.WeakKeyDictionary: _weak_mapping,
    weakref.WeakValueDictionary: _weak_mapping,
    types.MappingProxyType: _read_only,
    re.Match: _match,
    struct.Struct: _struct,
    type(functools.lru_cache(len)): _cached,
    typing.NewType: _new_type,
    typing.TypeVar: _type_variable,
    typing.ParamSpec: _type_variable,
    **{
        type(getattr(kind(), what)()): _dict_view
        for kind in (dict, OrderedDict)
        for what in ("keys", "values", "items")
    },
    type(getattr(json.JSONDecoder(), "scan_once")): _scanner,  # noqa: B009  # the stubs know nothing of it
}
for _name, _reducer in (("TypeVarTuple", _type_tuple), ("TypeAliasType", _alias)):  # not in every Python
    if hasattr(typing, _name):
        _REDUCERS[getattr(typing, _name)] = _reducer


def _matters(kind: type) -> bool:
    """Whether it makes a difference that two variables share one object of this type."""
    if kind in _ATOMS or issubclass(kind, (type, enum.Enum, re.Pattern)):
        return False
    module = str(kind.__module__)
    if module.startswith(_IMMUTABLE_MODULES):
        return False
    return module != "numpy" or kind.__name__ in {"ndarray", "recarray", "matrix", "MaskedArray"}
