"""Adapter for pandas: what shares memory under copy-on-write.

What shares memory there has a common object that keeps account of it. Blocks get theirs back. Indexes and arrays of
pandas' own types get memory of their own, which makes no difference except that it takes more memory.
"""

from __future__ import annotations

import sys
from typing import Any

from capsule_worker.checkpoints.adapters.base import Adapter

#: Values in a small frame: pandas takes about 0.2 ms to reduce it to its parts.
_SMALL_VALUES = 10_000


class _Owned:
    """An array inside pandas: as far as anything can see, its memory belongs to this one object."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __reduce__(self) -> Any:
        array = self._array
        if array.dtype.hasobject:
            return same, (array.copy(order="K"),)
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            array = array.copy(order="K")
        return array.__reduce_ex__(5)


def same(value: Any) -> Any:
    """Return ``value``."""
    return value


def _reduce_block(block: Any) -> Any:
    if not _copies_on_write():
        return NotImplemented
    make, arguments, *_ = block.__reduce_ex__(5)
    return make, arguments, (block.refs,), None, None, fill_block


def fill_block(block: Any, state: tuple[Any]) -> None:
    """Register a block with the object that tracks which blocks share its memory.

    Args:
        block: the block, which shares memory with others.
        state: one item: the ``BlockValuesRefs`` that pandas uses to track sharing.
    """
    (block.refs,) = state
    block.refs.add_reference(block)


def _reduce_manager_of_series(manager: Any) -> Any:
    return (type(manager), (manager.blocks[0], manager.axes[0])) if _copies_on_write() else NotImplemented


def _reduce_account(account: Any) -> Any:
    return (type(account), ()) if _copies_on_write() else NotImplemented


def _reduce_without_sharing(obj: Any) -> Any:
    return _with_own_memory(obj.__reduce_ex__(5)) if _copies_on_write() else NotImplemented


def _with_own_memory(value: Any) -> Any:
    """Return what pandas reduced an object to, such that the arrays in it own their memory."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind(_with_own_memory(item) for item in value)
    if kind is dict:
        return {key: _with_own_memory(item) for key, item in value.items()}
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return _Owned(value)
    return value


def _copies_on_write() -> bool:
    """Whether pandas copies on write: always from version 3 on, before that if it is switched on."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return False
    try:
        always = int(pandas.__version__.split(".")[0]) >= 3  # noqa: PLR2004  # the version of the docstring
        return always or bool(pandas.options.mode.copy_on_write)
    except Exception:
        return False


def _is_small(value: Any) -> bool:
    kind = type(value).__name__
    if kind == "DataFrame":
        plain = not any(dtype.kind == "O" for dtype in value.dtypes) and not value.attrs
        return plain and bool(value.size <= _SMALL_VALUES)
    if kind == "Series":
        return bool(value.size <= _SMALL_VALUES and value.dtype != object and not value.attrs)
    return False


#: Public classes have moved from where they are defined to short names in pandas 3.
ADAPTER = Adapter(
    "pandas",
    {
        "pandas.core.internals.blocks.Block+": _reduce_block,
        "pandas.core.internals.managers.SingleBlockManager+": _reduce_manager_of_series,
        "pandas._libs.internals.BlockValuesRefs+": _reduce_account,
        "pandas.Index+": _reduce_without_sharing,
        "pandas.core.indexes.base.Index+": _reduce_without_sharing,
        "pandas.api.extensions.ExtensionArray+": _reduce_without_sharing,
        "pandas.core.arrays.base.ExtensionArray+": _reduce_without_sharing,
    },
    is_small=_is_small,
)
