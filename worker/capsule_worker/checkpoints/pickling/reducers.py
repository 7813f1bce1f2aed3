"""Reducers of functions, classes and objects of the notebook; `reconstruct` makes them again."""

from __future__ import annotations

import enum
import functools
import re
import sys
import types
from collections.abc import Callable
from typing import Any

from capsule_worker.checkpoints.pickling.reconstruct import (
    beyond_notebook,
    fill_container,
    fill_exception,
    fill_function,
    fill_object,
    find_namespace,
    make_enum,
    make_exception,
    make_function,
    make_plain_class,
    metaclass_of,
)


class _NamespaceItself:
    """Stands for ``globals()`` as the value of a variable."""

    def __reduce__(self) -> Any:
        return find_namespace, ()


def stand_in(value: Any, namespace: dict[str, Any]) -> Any:
    """Return what is pickled as the value of a variable: the value, unless it is the namespace itself.

    Args:
        value: the value.
        namespace: the notebook's globals.
    """
    return _NamespaceItself() if value is namespace else value


def leave(_: Any) -> Any:
    """Leave an object to cloudpickle."""
    return NotImplemented


def reduce_function(function: types.FunctionType, *home: Any) -> Any:
    """Reduce a function to its code, closure and attributes.

    Args:
        function: the function.
        *home: the module or the dict whose globals it has; nothing for the notebook.
    """
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


def _annotations_of(function: types.FunctionType) -> dict[str, Any]:
    try:
        return dict(function.__annotations__)
    except NameError:  # evaluated late, and not possible (Python 3.14)
        return {}


def reduce_plain_class(cls: type, bases: tuple[Any, ...], space: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """Return how a class is made, the arguments for that, and its state.

    Args:
        cls: the class.
        bases: its bases, as they were written.
        space: what has to be in its namespace from the beginning.
        attributes: its attributes by name.
    """
    space = {**space, "__qualname__": cls.__qualname__}
    if type(cls) is type and bases is not cls.__bases__:
        # An object among the bases made the class, as NamedTuple does; it must not do so again.
        space["__orig_bases__"], bases = bases, cls.__bases__
    own = (types.MemberDescriptorType, types.GetSetDescriptorType)
    members = [name for name, value in vars(cls).items() if isinstance(value, own) and value.__objclass__ is cls]
    # Pickling adds the names of slots.
    attributes = {name: value for name, value in attributes.items() if name not in {*members, "__slotnames__"}}
    if "__slots__" in attributes:
        slots = attributes.pop("__slots__")
        known = isinstance(slots, (str, tuple, list, dict))
        space["__slots__"] = slots if known else tuple(members)
    if "_fields_" in attributes and _is_of_ctypes(cls):
        fields = attributes.pop("_fields_")
        attributes = {name: value for name, value in attributes.items() if type(value).__name__ != "CField"}
        attributes["_fields_"] = fields  # last: it makes the others, and from then on none can be added
    meta = None if type(cls) is metaclass_of(cls.__bases__) else type(cls)
    return make_plain_class, (meta, cls.__name__, bases, space), (attributes, {})


def reduce_enum(cls: type[enum.Enum], attributes: dict[str, Any]) -> Any:
    """Return how an enumeration is made, the arguments for that, and its state.

    Args:
        cls: the enumeration.
        attributes: its attributes by name, members included.
    """
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


def submodules_imported(name: str, cells: Any) -> list[str]:
    """Return the submodules that cells have imported by full name: no variable refers to those.

    Args:
        name: full name of the module above them.
        cells: source of the cells that ran (``In``); anything but a list counts as none.
    """
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


def is_array_of_ctypes(cls: Any) -> bool:
    """Whether a class is what ctypes makes when a type is multiplied."""
    if type(cls).__name__ != "PyCArrayType" or getattr(cls, "_type_", None) is None:
        return False
    return bool(cls is cls._type_ * cls._length_)


def _owner(kind: type, name: str) -> Any:
    """Return which of a class and its bases defines a name."""
    return next((base for base in kind.__mro__ if name in vars(base)), None)


def reducer_for_class(kind: type) -> Callable[[Any], Any]:
    """Return how objects of a class are reduced of which nothing else is known."""
    if _is_made_with_arguments(kind):
        return _reduce_bare
    return _reduce_delicate if _is_delicate(kind) else leave


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


def _reduce_delicate(obj: Any) -> Any:
    """Reduce an object such that no code of its class runs while it gets its state."""
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


def _is_made_with_arguments(kind: type) -> bool:
    """Whether ``__new__`` of a class wants arguments, and nothing in its objects tells which."""
    ways = ("__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__")
    if any(_owner(kind, name) not in {None, object} for name in ways):
        return False
    make = kind.__new__
    if not isinstance(make, types.FunctionType) or _beneath(kind) is not object:
        return False
    code, optional = make.__code__, len(make.__defaults__ or ())
    return code.co_argcount - optional > 1 or code.co_kwonlyargcount > len(make.__kwdefaults__ or ())


def _beneath(kind: type) -> type:
    """Return the type of C that a class stands on."""
    heap_type = 1 << 9
    while kind.__flags__ & heap_type and kind.__base__ is not None:
        kind = kind.__base__
    return kind


def _reduce_bare(obj: Any) -> Any:
    """Reduce an object such that it is made without its class's ``__new__``."""
    kind = type(obj)
    reduced = object.__reduce_ex__(obj, 5) if _owner(kind, "__setstate__") else _reduce_delicate(obj)
    return (object.__new__, (kind,), *reduced[2:]) if isinstance(reduced, tuple) else NotImplemented


def reduce_exception(error: BaseException) -> Any:
    """Reduce an exception with those that it came from, and without its class's own way to make one."""
    reduced = error.__reduce_ex__(5)
    if not isinstance(reduced, tuple) or any(item is not None for item in reduced[3:]):
        return reduced
    make, arguments, state = (*reduced, None)[:3]
    kind = type(error)
    owners = {_owner(kind, "__reduce__"), _owner(kind, "__reduce_ex__"), beyond_notebook(kind)}
    if kind.__module__ == "__main__" and make is kind and all(str(o.__module__) == "builtins" for o in owners if o):
        make, arguments = make_exception, (kind, *arguments)
    if error.__cause__ is None and error.__context__ is None and not error.__suppress_context__:
        return make, arguments, state
    state = (state, error.__cause__, error.__context__, error.__suppress_context__)
    return make, arguments, state, None, None, fill_exception
