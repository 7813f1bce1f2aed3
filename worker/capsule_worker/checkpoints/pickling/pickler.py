"""Pickles a namespace such that it behaves after a restore as if nothing had happened.

cloudpickle is the base. What is different here:

- functions of the notebook get the live namespace as their globals; closures that share a variable still share it;
- classes of the notebook are *definitions*: saved once under an id, and referred to by it from all other pickles;
- code that runs when a class or an object is made does not run again: its results are in the saved state;
- arrays that share memory share it afterwards, and pandas knows of it where it keeps account of that;
- files that are read are opened again at their position; locks that are not held are restored, unlocked.

`reducers` and the adapters take single kinds of objects apart; `reconstruct` and the adapters make them again.
"""

from __future__ import annotations

import argparse
import builtins
import enum
import functools
import importlib
import operator
import pickle
import re
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import cloudpickle  # type: ignore[import-untyped]

from capsule_worker.checkpoints.adapters.known_libraries import IMMUTABLE_MODULES, MUTABLE_TYPES
from capsule_worker.checkpoints.adapters.registry import ADAPTERS
from capsule_worker.checkpoints.pickling import reconstruct
from capsule_worker.checkpoints.pickling.reducers import (
    is_array_of_ctypes,
    leave,
    reduce_enum,
    reduce_exception,
    reduce_function,
    reduce_plain_class,
    reducer_for_class,
    submodules_imported,
)

#: Buffers below this many bytes stay within the pickle: they are not worth a file position of their own.
SMALL_BUFFER = 64 * 1024

#: Objects of these types may be shared by variables that are saved apart: no code can tell the difference.
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
#: Modules whose functions are in pickles because Capsule puts them there.
_OURS = frozenset({"builtins", "capsule_worker", "cloudpickle", "ipykernel", "__main__"})


class Definitions(Protocol):
    """Knows the classes of the notebook by id."""

    def id_of(self, cls: type) -> str:
        """Return the id of a class."""


class Definer(Protocol):
    """Finds the classes of the notebook while they are being loaded."""

    namespace: dict[str, Any]

    def begin(self, uid: str, cls: type) -> None:
        """Record a class whose attributes follow.

        Args:
            uid: the id of the class.
            cls: the class, without attributes.
        """

    def find(self, uid: str) -> type:
        """Return a class.

        Args:
            uid: the id of the class.

        Raises:
            UnpicklingError: the class cannot be loaded.
        """


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


class _Anchor:
    """Stands in a pickle for an object that exists before anything is loaded.

    Args:
        number: which one.
        value: the object.
    """

    def __init__(self, number: int, value: Any) -> None:
        self.number = number
        self.value = value


class _Settled:
    """Follows the anchors in a pickle."""


def _anchor(anchor: _Anchor) -> Any:
    return reconstruct.find_anchor, (anchor.number,)


def _reduce_code(code: types.CodeType) -> Any:
    """Keep the file that code is from, which cloudpickle 3.1.3 leaves out: tracebacks and breakpoints need it."""
    made, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return made, tuple(code.co_filename if each == "<dynamic-code>" else each for each in arguments)


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
        # Nothing in here refers to the pickler, so that it is freed with its memo as soon as the writer drops it.
        super().__init__(file, protocol=5, buffer_callback=_taker(self.buffers))
        self._namespace = namespace
        self._definitions = definitions
        self._owned = frozenset(owned)
        #: How objects of the types that were met are reduced.
        self._reducers: dict[type, Callable[[Any], Any]] = {_Anchor: _anchor, types.CodeType: _reduce_code}
        self._anchors = [_Anchor(number, value) for number, value in enumerate(_anchors(namespace))]
        #: Addresses of the dicts that are variables; None until they are needed.
        self._dicts: set[int] | None = None
        #: Classes that were referred to, by id.
        self.needs: dict[str, type] = {}
        #: Code of the notebook's functions that were met.
        self.codes: list[types.CodeType] = []
        #: Roots of the modules that classes and functions came from.
        self.modules: set[str] = set()

    def dump(self, obj: Any) -> Any:
        """Pickle an object, after the anchors: objects that exist before anything is loaded."""
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
        """Reduce an object that needs special treatment; leave others to cloudpickle."""
        kind = type(obj)
        reducer = self._reducers.get(kind)
        if reducer is None:
            reducer = self._reducers[kind] = self._reducer_for(kind)
        return self._own(obj) if reducer is _ours else reducer(obj)

    def _reducer_for(self, kind: type) -> Callable[[Any], Any]:
        """Return what reduces objects of a type that is seen for the first time."""
        if issubclass(kind, type) or kind in {types.FunctionType, types.ModuleType, _Settled}:
            return _ours
        reducer = ADAPTERS.reducer_for(kind)
        if reducer is not None:
            return reducer
        if str(kind.__module__).startswith(("capsule_worker.", "ipykernel.")):
            return leave
        return reduce_exception if issubclass(kind, BaseException) else reducer_for_class(kind)

    def _own(self, obj: Any) -> Any:
        """Reduce a function, a class or a module, which depends on the pickler."""
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
            return reduce_function(function)
        self._met(function)
        reduced = super().reducer_override(function)
        if reduced is NotImplemented:
            return reduced  # a function that can be imported
        home = self._home_of(function.__globals__)
        # cloudpickle gives it a namespace of its own, with those globals in it that it uses.
        return reduced if home is None else reduce_function(function, home)

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
        names = submodules_imported(module.__name__, self._namespace.get("In"))
        return (reconstruct.import_with, (module.__name__, names)) if names else NotImplemented

    def _class(self, cls: type) -> Any:
        if is_array_of_ctypes(cls):
            made: Any = cls
            return operator.mul, (made._type_, made._length_)
        reduced = super().reducer_override(cls)
        if not isinstance(reduced, tuple) or len(reduced) < 6:  # noqa: PLR2004  # how cloudpickle reduces a class by value
            self._met(cls)
            return reduced  # a class that can be imported
        uid = self._definitions.id_of(cls)
        if uid not in self._owned:
            self.needs[uid] = cls
            return reconstruct.find_class, (uid,)
        _, arguments, (attributes, _), *_ = reduced
        if issubclass(cls, enum.Enum):
            make, arguments, state = reduce_enum(cls, attributes)
        else:
            _, _, bases, space, *_ = arguments
            make, arguments, state = reduce_plain_class(cls, bases, space, attributes)
        return reconstruct.make_class, (uid, make, arguments), state, None, None, reconstruct.fill_class


def _taker(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    """Return what decides of a buffer whether it stays within the pickle; if not, it is added to ``buffers``."""

    def take(buffer: pickle.PickleBuffer) -> bool:
        with buffer.raw() as raw:
            if raw.nbytes < SMALL_BUFFER:
                return True
        buffers.append(buffer)
        return False

    return take


def _ours(_: Any) -> Any:
    """Stand for the reducers of the pickler itself."""
    return NotImplemented


def _matters(kind: type) -> bool:
    """Whether it makes a difference that two variables share one object of this type."""
    if kind in _ATOMS or issubclass(kind, (type, enum.Enum, re.Pattern)):
        return False
    module = str(kind.__module__)
    if module.startswith(IMMUTABLE_MODULES):
        return False
    return module not in MUTABLE_TYPES or kind.__name__ in MUTABLE_TYPES[module]


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
        # What is found goes into the memo. It does not refer to the unpickler: that is freed, with its memo,
        # once an object is loaded: the memo would keep what the notebook has dropped.
        self._found: dict[str, Callable[..., Any]] = {
            "make_function": functools.partial(_make_function, definer),
            "find_class": definer.find,
            "make_class": functools.partial(_make_class, definer),
            "find_anchor": _anchors(definer.namespace).__getitem__,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return a global; those of `reconstruct` that need the notebook are bound to this unpickling.

        Args:
            module: full name of the module.
            name: name of the global, with dots for one in a class.
        """
        found = self._found.get(name) if module == reconstruct.__name__ else None
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
