"""How objects of the standard library, numpy, pandas and the worker are reduced, by their types."""

from __future__ import annotations

import array as arrays
import dataclasses
import functools
import gc
import io
import json
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capsule_worker.checkpoints.pickling.reconstruct import (
    closed_file,
    dead_reference,
    fill_block,
    fill_bokeh_document,
    fill_cell,
    make_alias,
    make_array_on,
    make_cached,
    make_cell,
    make_lock,
    make_new_type,
    make_part,
    make_scanner,
    make_type_variable,
    make_view,
    match_again,
    open_again,
    open_memmap,
    same,
    view_of,
)
from capsule_worker.checkpoints.pickling.reducers import leave


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
    while type(base).__module__ == "numpy" and type(base).__name__ in ARRAYS:
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


def _memory_of(owner: Any) -> tuple[int, int]:
    """Return the address and the size of an object's memory, in bytes."""
    import ctypes

    size = memoryview(owner).nbytes
    return (ctypes.addressof((ctypes.c_char * size).from_buffer(owner)) if size else 0), size


def way_of_pandas(kind: type) -> Callable[[Any], Any]:
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
    return _without_sharing if names & {"Index", "ExtensionArray"} else leave


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


def reduce_part_of_worker(obj: Any) -> Any:
    """Reduce what belongs to the worker and not to the notebook to the way to get it."""
    if kind_is(obj, "OutStream"):
        return getattr, (sys, obj.name)
    if kind_is(obj, "ZMQInteractiveShell"):
        from IPython import get_ipython

        return get_ipython, ()
    return NotImplemented


def _bokeh_document(obj: Any) -> Any:
    """Reduce the document in which bokeh keeps what is shown such that it has this place again: it owns its figures."""
    state = sys.modules.get("bokeh.io.state")
    if state is None or not kind_is(obj, "Document") or obj is not state.curstate().document:
        return NotImplemented
    return *obj.__reduce_ex__(5)[:3], None, None, fill_bokeh_document


def kind_is(obj: Any, name: str) -> bool:
    """Whether an object's class has this name."""
    return type(obj).__name__ == name


def keeps_account_of_sharing() -> bool:
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


def _missing(_: Any) -> Any:
    return getattr, (dataclasses, "MISSING")


#: Objects whose memory numpy's arrays may lie on.
_OWNERS = (bytearray, arrays.array)
#: Reducers of numpy's arrays, by the names of their classes.
ARRAYS: dict[str, Callable[[Any], Any]] = {"ndarray": _array, "memmap": _memmap}
#: Reducers of what is in other modules of libraries, by their names.
OF_MODULES: dict[str, Callable[[Any], Any]] = {"bokeh.document.document": _bokeh_document}
#: Reducers of all others, by type.
REDUCERS: dict[type, Callable[[Any], Any]] = {
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
        REDUCERS[getattr(typing, _name)] = _reducer
