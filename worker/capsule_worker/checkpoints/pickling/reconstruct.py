"""What pickles refer to: makes objects again from what they were reduced to.

The names and places of these functions are part of the format.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import importlib
import io
import json
import os
import pickle
import re
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any


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
    """Make an enumeration with its members, those included that have several names."""
    maker: Any = beyond_notebook(meta)
    space = maker.__prepare__(name, bases)
    for member, value in members.items():
        space[member] = value
    cls: type = maker.__new__(meta, name, bases, space)
    return cls


def fill_class(cls: type, state: tuple[dict[str, Any], dict[str, dict[str, Any]]]) -> None:
    """Give a class its attributes, and an enumeration's members theirs."""
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
    """Give an object its attributes without asking its class, which may need some of them to answer."""
    if type(attributes) is tuple:
        attributes, slots = attributes
        for name, value in slots.items():
            object.__setattr__(obj, name, value)
    if attributes:
        own = object.__getattribute__(obj, "__dict__")
        for name, value in attributes.items():
            own[sys.intern(name)] = value


def fill_bokeh_document(document: Any, attributes: dict[str, Any]) -> None:
    """Give a document of bokeh its attributes, and make it the one in which bokeh keeps what is shown."""
    fill_object(document, attributes)
    importlib.import_module("bokeh.io.state").curstate().document = document


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
    base: Any = beyond_notebook(kind)
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
    module: Any = typing  # Python 3.12 has it, and so does whatever reads what a newer one wrote
    return module.TypeAliasType(name, value, type_params=parameters)


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


def _bytes_of(array: Any) -> Any:
    """Return an array as the flat buffer that a view is made on."""
    return array if array.flags.c_contiguous else array.T
