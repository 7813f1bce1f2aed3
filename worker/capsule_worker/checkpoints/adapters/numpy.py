"""Adapter for numpy: arrays that share memory, arrays on files, the global random generator."""

from __future__ import annotations

import array
import ctypes
import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

from capsule_worker.checkpoints.adapters.base import Adapter

#: Objects that may own the memory of an array.
_OWNERS = (bytearray, array.array)
#: Bytes of an array, and of a scalar, that are small.
_SMALL_ARRAY_BYTES, _SMALL_SCALAR_BYTES = 64 * 1024, 32


def _reduce_array(array: Any) -> Any:
    """Reduce an array that lies in the memory of another one to a view of that one."""
    if array.dtype.hasobject and array.dtype != object:
        return NotImplemented
    root = array
    base = _base_of(array)
    while type(base).__module__ == "numpy" and type(base).__name__ in {"ndarray", "memmap"}:
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


def make_view(root: Any, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], start: int, write: bool) -> Any:
    """Make an array on the memory of another.

    Args:
        root: the other array, contiguous.
        dtype: type of the elements.
        shape: elements in each dimension.
        strides: bytes from one element to the next, in each dimension.
        start: bytes from the beginning of the other array's memory.
        write: whether the array is writable.
    """
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
    """Make an array on the memory of an object that is not an array.

    Args:
        owner: the bytearray or ``array.array`` that owns the memory.
        dtype: type of the elements.
        shape: elements in each dimension.
        strides: bytes from one element to the next, in each dimension.
        start: bytes from the beginning of the owner's memory.
    """
    return importlib.import_module("numpy").ndarray(shape, dtype, owner, start, strides)


def _base_of(array: Any) -> Any:
    """Return what owns the memory of an array, past the object that numpy inserts for custom strides."""
    base = array.base
    return base.base if type(base).__name__ == "DummyArray" else base


def _bytes_of(array: Any) -> Any:
    """Return an array as the flat buffer that a view is made on."""
    return array if array.flags.c_contiguous else array.T


def _memory_of(owner: Any) -> tuple[int, int]:
    """Return the address and the size of an object's memory, in bytes."""
    size = memoryview(owner).nbytes
    return (ctypes.addressof((ctypes.c_char * size).from_buffer(owner)) if size else 0), size


def _reduce_memmap(array: Any) -> Any:
    """Reduce an array on a file to the file, unless writes to the array stay in memory."""
    mapped = type(array.base).__module__ == "mmap"
    path, mode = getattr(array, "filename", None), getattr(array, "mode", "c")
    if not mapped:
        reduced = _reduce_array(array) if type(array.base) is type(array) else NotImplemented
        return reduced if reduced is NotImplemented else (make_part, *reduced[1:])
    if path is None or mode == "c" or array.dtype.hasobject or not Path(path).exists():
        return NotImplemented
    order = "C" if array.flags.c_contiguous else "F"
    mode = "r" if mode == "r" else "r+"
    return open_memmap, (str(Path(path).absolute()), array.dtype, mode, array.offset, array.shape, order)


def open_memmap(path: str, dtype: Any, mode: str, offset: int, shape: tuple[int, ...], order: str) -> Any:
    """Map an array from its file again.

    Args:
        path: absolute path of the file.
        dtype: type of the elements.
        mode: ``r`` or ``r+``.
        offset: bytes from the beginning of the file to the first element.
        shape: elements in each dimension.
        order: ``C`` (the last index varies fastest) or ``F`` (the first one).
    """
    numpy = importlib.import_module("numpy")
    return numpy.memmap(path, dtype=dtype, mode=mode, offset=offset, shape=shape, order=order)


def make_part(*view: Any) -> Any:
    """Make an array on the memory of another, of the same class.

    Args:
        *view: arguments of `make_view`, in its order.
    """
    return make_view(*view).view(type(view[0]))


def _is_small(value: Any) -> bool:
    kind = type(value)
    if kind.__module__ != "numpy":
        return False
    if kind.__name__ == "ndarray":
        return not value.dtype.hasobject and value.nbytes <= _SMALL_ARRAY_BYTES and value.base is None
    return getattr(value, "nbytes", _SMALL_SCALAR_BYTES + 1) <= _SMALL_SCALAR_BYTES and not value.dtype.hasobject


def _save_random() -> bytes | None:
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        return None
    kind, keys, *rest = numpy_random.get_state(legacy=True)
    return pickle.dumps((kind, keys.tobytes(), str(keys.dtype), *rest), 5)


def _restore_random(state: bytes) -> None:
    numpy: Any = importlib.import_module("numpy")
    kind, keys, dtype, *rest = pickle.loads(state)  # noqa: S301  # from our own checkpoint
    numpy.random.set_state((kind, numpy.frombuffer(keys, dtype), *rest))


ADAPTER = Adapter(
    "numpy",
    {"numpy.ndarray": _reduce_array, "numpy.memmap": _reduce_memmap},
    is_small=_is_small,
    save_state=_save_random,
    restore_state=_restore_random,
)
