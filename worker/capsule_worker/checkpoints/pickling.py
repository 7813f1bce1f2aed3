"""Objects to bytes and back, such that a namespace behaves afterwards as if nothing had happened.

cloudpickle is the base. What it does otherwise, or not at all:

- functions of the notebook get the live namespace as their globals, and closures that share a variable go on sharing it;
- classes of the notebook are *definitions*: saved once under an id, referred to by it from everywhere else;
- what a class or an object does when it is made is not done again, since its state has all that came of it;
- arrays that share memory share it afterwards, except inside pandas, whose copy-on-write keeps account of sharing itself;
- files that are read are opened again at their position; locks that nobody holds come back, unlocked.
"""

from __future__ import annotations

import abc
import builtins
import collections
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
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import cloudpickle  # type: ignore[import-untyped]

#: Buffers below this many bytes stay within the pickle: they are not worth a file position of their own.
SMALL_BUFFER = 64 * 1024

_Lock = type(threading.Lock())
_RLock = type(threading.RLock())
_CellType = types.CellType

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


class NamespacePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
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
        super().__init__(file, protocol=5, buffer_callback=self._take_buffer)
        self._namespace = namespace
        self._definitions = definitions
        self._owned = frozenset(owned)
        #: Large buffers, in order.
        self.buffers: list[pickle.PickleBuffer] = []
        #: Classes that were referred to, by id.
        self.needs: dict[str, type] = {}
        #: Code of the notebook's functions that were met.
        self.codes: list[types.CodeType] = []
        #: Roots of the modules that classes and functions came from.
        self.modules: set[str] = set()

    def shareable(self) -> set[int]:
        """Return the ids of all objects that were pickled and that another unit must not pickle too."""
        memo = self.memo.copy()
        matter: dict[type, bool] = {}
        found = set()
        for key, (_, value) in memo.items():
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
        if kind is types.FunctionType:
            if obj.__globals__ is self._namespace:
                return self._function(obj)
            self._met(obj)
        if kind is _CellType:
            return _cell(obj)
        if issubclass(kind, type):
            return self._class(obj)
        special = _REDUCERS.get(kind)
        if special is not None:
            return special(obj)
        module = kind.__module__
        if module == "numpy" and kind.__name__ == "ndarray":
            return _array(obj)
        if kind is types.ModuleType and obj.__dict__ is self._namespace:
            return importlib.import_module, ("__main__",)
        if module.startswith(_ACCOUNTS) and _keeps_account_of_sharing():
            return _own(obj.__reduce_ex__(5))
        if module.startswith("capsule_worker."):
            return _of_the_worker(obj)
        return super().reducer_override(obj)

    def _take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        with buffer.raw() as raw:
            if raw.nbytes < SMALL_BUFFER:
                return True
        self.buffers.append(buffer)
        return False

    def _met(self, thing: Any) -> None:
        root = str(getattr(thing, "__module__", None)).partition(".")[0]
        if root not in _OURS:
            self.modules.add(root)

    def _function(self, function: types.FunctionType) -> Any:
        self.codes.append(function.__code__)
        slots = {
            name: getattr(function, name)
            for name in ("__defaults__", "__kwdefaults__", "__doc__", "__module__", "__qualname__", "__type_params__")
            if getattr(function, name, None) not in (None, ())
        }
        annotations = _annotations_of(function)
        if annotations:
            slots["__annotations__"] = annotations
        arguments = (function.__code__, function.__name__, function.__closure__)
        return make_function, arguments, (slots, function.__dict__), None, None, fill_function

    def _class(self, cls: type) -> Any:
        reduced = super().reducer_override(cls)
        if not isinstance(reduced, tuple) or len(reduced) < 6:
            self._met(cls)
            return reduced  # a class that can be imported
        uid = self._definitions.id_of(cls)
        if uid not in self._owned:
            self.needs[uid] = cls
            return find_class, (uid,)
        make, arguments, state, *_, fill = reduced
        attributes, slots = state
        # The registries of abstract base classes and caches are the interpreter's.
        return make_class, (uid, make, arguments), (fill, attributes, slots), None, None, fill_class


class NamespaceUnpickler(pickle.Unpickler):
    """Loads a unit.

    Args:
        file: the pickle.
        buffers: the large buffers.
        definer: knows the classes.
    """

    def __init__(self, file: Any, buffers: Iterable[Any], definer: Definer) -> None:
        super().__init__(file, buffers=buffers)
        self._definer = definer

    def find_class(self, module: str, name: str) -> Any:
        """Find a global; ours are bound to this unpickling."""
        if module == __name__:
            if name == "make_function":
                return self._make_function
            if name == "find_class":
                return self._definer.find
            if name == "make_class":
                return self._make_class
        return super().find_class(module, name)

    def _make_function(self, code: types.CodeType, name: str, closure: Any) -> types.FunctionType:
        return types.FunctionType(code, self._definer.namespace, name, None, closure)

    def _make_class(self, uid: str, make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
        cls = make(*arguments)
        self._definer.begin(uid, cls)
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


def fill_function(function: types.FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Give a function its defaults, names and attributes."""
    slots, attributes = state
    for name, value in slots.items():
        setattr(function, name, value)
    function.__dict__.update(attributes)


def fill_class(cls: type, state: tuple[Callable[..., None], dict[str, Any], Any]) -> None:
    """Give a class its attributes."""
    fill, attributes, slots = state
    fill(cls, (attributes, slots))


def make_cell() -> types.CellType:
    """Make the cell of a variable that functions share."""
    return types.CellType()


def fill_cell(cell: types.CellType, state: tuple[Any]) -> None:
    """Give it its value."""
    (cell.cell_contents,) = state


def make_lock(kind: str) -> Any:
    """Make a lock that nobody holds."""
    return threading.RLock() if kind == "RLock" else threading.Lock()


def open_again(path: str, arguments: dict[str, Any], position: int) -> Any:
    """Open a file that was being read, at its position."""
    file = open(path, **arguments)  # noqa: SIM115, PTH123  # the user's file, which stays open
    file.seek(position)
    return file


def make_view(root: Any, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], start: int, write: bool) -> Any:
    """Make an array on the memory of another."""
    numpy = importlib.import_module("numpy")
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


# -- reducers ----------------------------------------------------------------------------------------------------


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
        reduced = array.__reduce_ex__(5)
        return reduced


def _cell(cell: types.CellType) -> Any:
    try:
        contents = cell.cell_contents
    except ValueError:
        return make_cell, ()
    return make_cell, (), (contents,), None, None, fill_cell


def _array(array: Any) -> Any:
    """Reduce an array that lies in the memory of another one to a view of that."""
    root = array
    base = array.base
    kind = type(array)
    while isinstance(base, kind) and type(base) is kind:
        root, base = base, base.base
    if array.dtype.hasobject:
        return NotImplemented
    start = array.__array_interface__["data"][0]
    if root is array:
        if isinstance(base, bytearray) and array.size:
            owner_at = _address_of(base)
            if 0 <= start - owner_at <= len(base):
                return make_array_on, (base, array.dtype, array.shape, array.strides, start - owner_at)
        return NotImplemented
    if not (root.flags.c_contiguous or root.flags.f_contiguous) or root.dtype.hasobject:
        return NotImplemented
    offset = start - root.__array_interface__["data"][0]
    return make_view, (root, array.dtype, array.shape, array.strides, offset, bool(array.flags.writeable))


def _bytes_of(array: Any) -> Any:
    """Return an array as the flat buffer that a view is made on."""
    return array if array.flags.c_contiguous else array.T


def _address_of(data: bytearray) -> int:
    import ctypes

    return ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data)) if data else 0


#: Classes of pandas whose arrays several objects may share, each believing that it owns them.
_ACCOUNTS = ("pandas._libs.internals", "pandas.core.indexes", "pandas.core.arrays")


def _own(value: Any) -> Any:
    """Return what pandas reduced an object to, such that the arrays in it own their memory."""
    kind = type(value)
    if kind is tuple:
        return tuple(_own(item) for item in value)
    if kind is dict:
        return {key: _own(item) for key, item in value.items()}
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return _Owned(value)
    if kind.__module__.startswith("pandas.core.arrays") and hasattr(value, "view"):
        return value.view()
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
        return int(pandas.__version__.split(".")[0]) >= 3 or bool(pandas.options.mode.copy_on_write)
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
    return _open_file(file, {"encoding": file.encoding, "errors": file.errors, "newline": None})


def _open_file(file: Any, arguments: dict[str, Any]) -> Any:
    mode = getattr(file, "mode", "")
    if file.closed or not isinstance(file.name, str) or not os.path.isfile(file.name) or set(mode) - set("rbt"):
        raise pickle.PicklingError(f"a file open for writing (mode {mode!r})" if not file.closed else "a closed file")
    return open_again, (os.path.abspath(file.name), {"mode": mode, **arguments}, file.tell())


def _binary_file(file: Any) -> Any:
    return _open_file(file, {})


def _annotations_of(function: types.FunctionType) -> dict[str, Any]:
    try:
        return dict(function.__annotations__)
    except NameError:  # evaluated late, and not possible (Python 3.14)
        return {}


def _missing(_: Any) -> Any:
    return getattr, (dataclasses, "MISSING")


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    type(dataclasses.MISSING): _missing,
    _Lock: _lock,
    _RLock: _rlock,
    io.TextIOWrapper: _text_file,
    io.BufferedReader: _binary_file,
}


def _matters(kind: type) -> bool:
    """Whether it makes a difference that two variables share one object of this type."""
    if kind in _ATOMS or issubclass(kind, (type, enum.Enum, re.Pattern)):
        return False
    module = kind.__module__
    if module.startswith(_IMMUTABLE_MODULES):
        return False
    return module != "numpy" or kind.__name__ in {"ndarray", "recarray", "matrix", "MaskedArray"}
