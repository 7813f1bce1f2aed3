"""Adapter for the standard library: locks, files, references, patterns, types for type checkers, random numbers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import io
import json
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import threading
import types
import typing
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capsule_worker.checkpoints.adapters.base import Adapter, Reducer, name_of

# -- variables of closures ----------------------------------------------------------------------------------


def _reduce_cell(cell: types.CellType) -> Any:
    try:
        contents = cell.cell_contents
    except ValueError:
        return make_cell, ()
    return make_cell, (), (contents,), None, None, fill_cell


def make_cell() -> types.CellType:
    """Make the cell of a variable that functions share."""
    return types.CellType()


def fill_cell(cell: types.CellType, state: tuple[Any]) -> None:
    """Set the value of a closure's cell.

    Args:
        cell: the cell of a closure, empty.
        state: one item: the value.
    """
    (cell.cell_contents,) = state


# -- locks and processes --------------------------------------------------------------------------------------


def _reduce_lock(lock: Any) -> Any:
    if not lock.acquire(blocking=False):
        raise pickle.PicklingError("a lock that is held")
    lock.release()
    return make_lock, ("Lock",)


def _reduce_rlock(lock: Any) -> Any:
    if "owner=0 " not in repr(lock):
        raise pickle.PicklingError("a lock that is held")
    return make_lock, ("RLock",)


def make_lock(kind: str) -> Any:
    """Make a lock that is not acquired.

    Args:
        kind: ``Lock`` or ``RLock``.
    """
    return threading.RLock() if kind == "RLock" else threading.Lock()


def _reduce_condition(condition: Any) -> Any:
    """Reduce a condition to its lock: after a restore no thread waits for it."""
    return threading.Condition, (condition._lock,)  # noqa: SLF001  # there is no public way


def _reduce_process(process: subprocess.Popen[Any]) -> Any:
    if process.returncode is None:
        raise pickle.PicklingError("a process that has not been waited for")
    return NotImplemented


# -- files and memory -------------------------------------------------------------------------------------------


def _reduce_text_file(file: io.TextIOWrapper) -> Any:
    return _reduce_file(file, {"encoding": file.encoding, "errors": file.errors})


def _reduce_binary_file(file: Any) -> Any:
    return _reduce_file(file, {})


def _reduce_raw_file(file: io.FileIO) -> Any:
    return _reduce_file(file, {"buffering": 0})


def _reduce_file(file: Any, arguments: dict[str, Any]) -> Any:
    name, mode = getattr(file, "name", None), str(getattr(file, "mode", ""))
    mode = mode or getattr(getattr(file, "raw", None), "mode", "")
    if file.closed and mode:
        return closed_file, (name, mode, arguments)
    if not isinstance(name, str) or not Path(name).is_file():
        raise pickle.PicklingError("a file that is open and has no name any more")
    if set(mode) - set("rbt"):
        raise pickle.PicklingError(f"a file open for writing (mode {mode!r})")
    return open_again, (str(Path(name).absolute()), {"mode": mode, **arguments}, file.tell())


def open_again(path: str, arguments: dict[str, Any], position: int) -> Any:
    """Open a file that was being read, at the same position.

    Args:
        path: absolute path of the file.
        arguments: keyword arguments of ``open``, the mode included.
        position: what ``tell`` returned: a byte offset, or an opaque number for a text file.
    """
    file = open(path, **arguments)  # noqa: SIM115, PTH123  # the user's file, which stays open
    file.seek(position)
    return file


def closed_file(name: Any, mode: str, arguments: dict[str, Any]) -> Any:
    """Make a file object that is closed.

    Args:
        name: the ``name`` of the file: a path or a descriptor.
        mode: the mode in which it was open.
        arguments: further keyword arguments of ``open``.
    """
    file: Any = open(os.devnull, mode.replace("x", "w"), **arguments)  # noqa: SIM115, PTH123  # closed below
    raw = file if isinstance(file, io.FileIO) else file.raw if "b" in mode else file.buffer.raw
    file.close()
    raw.name = name
    if "b" not in mode:
        file.mode = mode
    return file


def _reduce_memory_view(view: Any) -> Any:
    if view.obj is None or memoryview(view.obj) != view or view.format != memoryview(view.obj).format:
        raise pickle.PicklingError("a view of a part of memory")
    return memoryview, (view.obj,)


# -- references and views -----------------------------------------------------------------------------------------


def _reduce_reference(reference: Any) -> Any:
    target, callback = reference(), reference.__callback__
    if target is None:
        return dead_reference, ()
    return weakref.ref, (target,) if callback is None else (target, callback)


def dead_reference() -> Any:
    """Make a weak reference to an object that no longer exists."""
    return weakref.ref(type("gone", (), {})())


def _reduce_weak_mapping(mapping: Any) -> Any:
    return type(mapping), (), None, None, iter(list(mapping.items()))


def _reduce_dict_view(view: Any) -> Any:
    (mapping,) = gc.get_referents(view)
    return view_of, (mapping, type(view).__name__.rpartition("_")[2])


def view_of(mapping: Any, method: str) -> Any:
    """Return a view of a dict.

    Args:
        mapping: the dict.
        method: ``keys``, ``values`` or ``items``.
    """
    return getattr(mapping, method)()


def _reduce_proxy(proxy: Any) -> Any:
    (mapping,) = gc.get_referents(proxy)
    # A view of the attributes of a class is left to cloudpickle, which copies them.
    return NotImplemented if "__module__" in proxy else (types.MappingProxyType, (mapping,))


# -- functions and types ------------------------------------------------------------------------------------------


def _reduce_cached(function: Any) -> Any:
    if _is_importable(function):
        return NotImplemented
    options = function.cache_parameters()
    added = {k: v for k, v in vars(function).items() if k not in {"__wrapped__", "cache_parameters"}}
    return make_cached, (function.__wrapped__, options["maxsize"], options["typed"]), added


def make_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """Wrap a function with an empty cache.

    Args:
        function: the function without a cache.
        maxsize: results that the cache holds; None for no limit.
        typed: whether arguments of different types have results of their own.
    """
    return functools.lru_cache(maxsize, typed)(function)


def _reduce_new_type(kind: Any) -> Any:
    if _is_importable(kind):
        return NotImplemented
    return make_new_type, (kind.__name__, kind.__supertype__, kind.__module__)


def make_new_type(name: str, supertype: Any, module: str) -> Any:
    """Make a ``typing.NewType``.

    Args:
        name: name of the type.
        supertype: what it is at runtime.
        module: ``__module__`` of the type.
    """
    made: Any = typing.NewType(name, supertype)  # type: ignore[misc]  # the name is not known before
    made.__module__ = module
    return made


def _reduce_alias(alias: Any) -> Any:
    if _is_importable(alias):
        return NotImplemented
    return make_alias, (alias.__name__, alias.__value__, alias.__type_params__)


def make_alias(name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    """Make the alias that a ``type`` statement defines.

    Args:
        name: name of the alias.
        value: what it stands for.
        parameters: its type parameters.
    """
    module: Any = typing  # Python 3.12 has it, and so does every process that reads what a newer one wrote
    return module.TypeAliasType(name, value, type_params=parameters)


def _reduce_type_variable(variable: Any) -> Any:
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


def make_type_variable(kind: Any, name: str, constraints: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Make a ``TypeVar`` or a ``ParamSpec``.

    Args:
        kind: ``TypeVar`` or ``ParamSpec``.
        name: name of the variable.
        constraints: the types that it is limited to; empty for no limit.
        options: keyword arguments of ``kind``, such as ``bound`` and ``covariant``.
    """
    variable = kind(name, *constraints, **options)
    variable.__module__ = "__main__"
    return variable


def _reduce_type_tuple(kind: Any) -> Any:
    return NotImplemented if _is_importable(kind) else (type(kind), (kind.__name__,))


def _is_importable(thing: Any) -> bool:
    """Whether a thing can be found by its name in a module other than the notebook."""
    module = getattr(thing, "__module__", None)
    if module in {None, "__main__"}:
        return False
    found: Any = sys.modules.get(str(module))
    for name in getattr(thing, "__qualname__", thing.__name__).split("."):
        found = getattr(found, name, None)
    return found is thing


# -- others -------------------------------------------------------------------------------------------------------


def _reduce_match(match: re.Match[Any]) -> Any:
    for how, start in (("search", match.pos), ("match", match.pos), ("match", match.start()), ("fullmatch", match.pos)):
        again = getattr(match.re, how)(match.string, start, match.endpos)
        if again is not None and again.regs == match.regs:
            return match_again, (match.re, how, match.string, start, match.endpos)
    raise pickle.PicklingError("a match that cannot be found again")


def match_again(pattern: re.Pattern[Any], how: str, text: Any, start: int, end: int) -> Any:
    """Repeat the search that found a match.

    Args:
        pattern: the compiled pattern.
        how: its method: ``search``, ``match`` or ``fullmatch``.
        text: the text, or the bytes, that was searched.
        start: index in the text from which to search.
        end: index in the text before which the search ends.
    """
    return getattr(pattern, how)(text, start, end)


def _reduce_struct(layout: struct.Struct) -> Any:
    return struct.Struct, (layout.format,)


def _reduce_scanner(scanner: Any) -> Any:
    names = ("strict", "object_hook", "object_pairs_hook", "parse_float", "parse_int", "parse_constant")
    return make_scanner, ({**{name: getattr(scanner, name) for name in names}, "memo": {}},)


def make_scanner(options: dict[str, Any]) -> Any:
    """Make the scanner of a JSON decoder.

    Args:
        options: attributes of the decoder that the scanner reads, such as ``strict``, and an empty ``memo``.
    """
    return json.scanner.make_scanner(types.SimpleNamespace(**options))  # type: ignore[attr-defined]  # not in stubs


def _reduce_missing(_: Any) -> Any:
    return getattr, (dataclasses, "MISSING")


def _save_random() -> bytes:
    return pickle.dumps(random.getstate(), 5)


def _restore_random(state: bytes) -> None:
    random.setstate(pickle.loads(state))  # noqa: S301  # from our own checkpoint


def _reducers() -> dict[str, Reducer]:
    reducers: dict[type, Reducer] = {
        types.CellType: _reduce_cell,
        type(dataclasses.MISSING): _reduce_missing,
        type(threading.Lock()): _reduce_lock,
        type(threading.RLock()): _reduce_rlock,
        threading.Condition: _reduce_condition,
        io.TextIOWrapper: _reduce_text_file,
        io.BufferedReader: _reduce_binary_file,
        io.BufferedWriter: _reduce_binary_file,
        io.BufferedRandom: _reduce_binary_file,
        io.FileIO: _reduce_raw_file,
        subprocess.Popen: _reduce_process,
        memoryview: _reduce_memory_view,
        weakref.ref: _reduce_reference,
        weakref.WeakKeyDictionary: _reduce_weak_mapping,
        weakref.WeakValueDictionary: _reduce_weak_mapping,
        types.MappingProxyType: _reduce_proxy,
        re.Match: _reduce_match,
        struct.Struct: _reduce_struct,
        type(functools.lru_cache(len)): _reduce_cached,
        typing.NewType: _reduce_new_type,
        typing.TypeVar: _reduce_type_variable,
        typing.ParamSpec: _reduce_type_variable,
        type(getattr(json.JSONDecoder(), "scan_once")): _reduce_scanner,  # noqa: B009  # not in the stubs
    }
    for kind in (dict, OrderedDict):
        for method in ("keys", "values", "items"):
            reducers[type(getattr(kind(), method)())] = _reduce_dict_view
    for name, reducer in (("TypeVarTuple", _reduce_type_tuple), ("TypeAliasType", _reduce_alias)):
        with contextlib.suppress(AttributeError):  # not in every Python
            reducers[getattr(typing, name)] = reducer
    return {name_of(kind): reducer for kind, reducer in reducers.items()}


#: Modules that may keep objects of the notebook, and hand them out again.
_RETAINING = frozenset(
    "__main__ ast_hooks asyncio atexit builtins code codeop concurrent contextvars copyreg ctypes faulthandler gc "
    "importlib inspect linecache logging multiprocessing optparse pdb pkgutil runpy sched selectors signal site "
    "socketserver sqlite3 sys threading tkinter trace tracemalloc unittest warnings weakref".split()
)

ADAPTER = Adapter("stdlib", _reducers(), retains=_RETAINING, save_state=_save_random, restore_state=_restore_random)
