"""Functions that pickles refer to: they make objects again from what these were reduced to.

The names and places of these functions are part of the format.
"""

from __future__ import annotations

import abc
import contextlib
import importlib
import pickle
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from capsule_worker.checkpoints.pickling.placeholder import Placeholder
from capsule_worker.protocol.manifest import Variable


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
    """Find an object that exists before anything is loaded; the unpickler knows how."""
    raise pickle.UnpicklingError("what is in a notebook can only be loaded into one")


def fill_function(function: types.FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Set the defaults, names and attributes of a function.

    Args:
        function: the function.
        state: two dicts: attributes that are slots, such as ``__defaults__``, and the items of its ``__dict__``.
    """
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
    kind: Any = meta or metaclass_of(resolved)
    maker: Any = beyond_notebook(kind)

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
    """Make an enumeration with its members, aliases included.

    Args:
        meta: metaclass of the enumeration.
        name: its ``__name__``.
        bases: its bases.
        members: values by name; names with equal values are aliases.
    """
    maker: Any = beyond_notebook(meta)
    space = maker.__prepare__(name, bases)
    for member, value in members.items():
        space[member] = value
    cls: type = maker.__new__(meta, name, bases, space)
    return cls


def fill_class(cls: type, state: tuple[dict[str, Any], dict[str, dict[str, Any]]]) -> None:
    """Set the attributes of a class, and those of the members of an enumeration.

    Args:
        cls: the class.
        state: two dicts: attributes of the class by name, and by each member's name the attributes of that member.
    """
    attributes, members = state
    maker: Any = beyond_notebook(type(cls))
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
    """Set the attributes of an object without calling code of its class, which may need some of them to run.

    Args:
        obj: the object.
        attributes: items of its ``__dict__``; or a pair of these (or None) and the values of its slots by name.
    """
    if type(attributes) is tuple:
        attributes, slots = attributes
        for name, value in slots.items():
            object.__setattr__(obj, name, value)
    if attributes:
        own = object.__getattribute__(obj, "__dict__")
        for name, value in attributes.items():
            own[sys.intern(name)] = value


def fill_container(obj: Any, state: tuple[Any, Any, Any]) -> None:
    """Set the attributes and items of an object without calling code of its class.

    Args:
        obj: a list, a dict or an object of a subclass.
        state: three items: attributes as for `fill_object`, items of a list, pairs of a dict; None for none.
    """
    attributes, items, pairs = state
    if items is not None:
        list.extend(obj, items)
    if pairs is not None:
        dict.update(obj, pairs)
    fill_object(obj, attributes)


def make_exception(kind: type[BaseException], *arguments: Any) -> BaseException:
    """Make an exception without the ``__init__`` of its class, which may require other arguments.

    Args:
        kind: the class, which the notebook defines.
        *arguments: the exception's ``args``.
    """
    base: Any = beyond_notebook(kind)
    error: BaseException = base.__new__(kind, *arguments)
    base.__init__(error, *arguments)
    return error


def fill_exception(error: Any, state: tuple[Any, Any, Any, bool]) -> None:
    """Set the attributes of an exception, and the exceptions that it came from.

    Args:
        error: the exception.
        state: four items: the argument of its ``__setstate__``, or None; ``__cause__``; ``__context__``;
            ``__suppress_context__``.
    """
    attributes, cause, context, suppressed = state
    if attributes is not None:
        error.__setstate__(attributes)
    error.__cause__, error.__context__, error.__suppress_context__ = cause, context, suppressed


def import_with(name: str, submodules: list[str]) -> Any:
    """Import and return a module, and import submodules that code reaches through its attributes.

    Args:
        name: full name of the module.
        submodules: their full names; those that cannot be imported are skipped.
    """
    module = importlib.import_module(name)
    for each in submodules:
        with contextlib.suppress(ImportError):
            importlib.import_module(each)
    return module


def find_namespace() -> dict[str, Any]:
    """Return the notebook's globals, as the value of a variable."""
    return sys.modules["__main__"].__dict__


def make_placeholder(fields: dict[str, Any]) -> Placeholder:
    """Make the placeholder of a variable.

    Args:
        fields: fields of a `Variable` by name.
    """
    return Placeholder(Variable.model_validate(fields))


# -- helpers of these, which no pickle refers to --------------------------------------------------------------------


def metaclass_of(bases: Iterable[type]) -> type:
    """Return the metaclass that a class gets from its bases."""
    winner = type
    for base in bases:
        if issubclass(type(base), winner):
            winner = type(base)
    return winner


def beyond_notebook(cls: type) -> type:
    """Return the nearest of a class and its bases that is not the notebook's."""
    return next(base for base in cls.__mro__ if base.__module__ != "__main__")


@contextlib.contextmanager
def _without_hooks(bases: Iterable[type], *, everywhere: bool) -> Iterator[None]:
    """Have ``__init_subclass__`` of the notebook's classes not called, or that of all classes."""
    hooks = []
    for cls in {each: None for base in bases for each in base.__mro__}:
        hook = vars(cls).get("__init_subclass__")
        if hook is not None and (everywhere or cls.__module__ == "__main__"):
            setter: Any = beyond_notebook(type(cls))
            with contextlib.suppress(TypeError):  # a class that cannot be changed
                setter.__delattr__(cls, "__init_subclass__")
                hooks.append((setter, cls, hook))
    try:
        yield
    finally:
        for setter, cls, hook in hooks:
            setter.__setattr__(cls, "__init_subclass__", hook)
