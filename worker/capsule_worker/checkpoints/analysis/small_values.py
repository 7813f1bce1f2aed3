"""Which values can be pickled between two cells without a noticeable delay: small, and without foreign code."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from typing import Any

from capsule_worker.checkpoints.adapters.registry import ADAPTERS

#: Objects that are looked at before it is said that there are too many.
MAX_OBJECTS = 2_000
#: Bytes of a text that is small.
MAX_BYTES = 64 * 1024

_SCALARS = frozenset({int, float, complex, bool, type(None), range, slice, type(Ellipsis)})
_SEQUENCES = frozenset({list, tuple, set, frozenset})
_TEXTS = frozenset({str, bytes, bytearray})
#: Integers above this many bits take time to write.
_MAX_BITS = 100_000


def is_atom(value: Any) -> bool:
    """Whether a value is small, cannot be changed, and shares nothing with others as far as cells can tell."""
    kind = type(value)
    if kind is int:
        return bool(value.bit_length() < _MAX_BITS)
    if kind is str or kind is bytes:
        return len(value) < 1024  # noqa: PLR2004  # a line of text
    return kind in _SCALARS or (kind is types.ModuleType and _is_importable(value))


def _is_importable(module: types.ModuleType) -> bool:
    return sys.modules.get(getattr(module, "__name__", "")) is module


def are_small(values: Iterable[Any], namespace: dict[str, Any]) -> bool:
    """Whether values together are small, and of types that run no code of the notebook when they are pickled.

    Args:
        values: the values, at most `MAX_OBJECTS` objects in all if the answer is to be yes.
        namespace: the notebook's globals.
    """
    try:
        return _are_small(values, namespace)
    except Exception:  # objects that do not even let themselves be looked at
        return False


def _are_small(values: Iterable[Any], namespace: dict[str, Any]) -> bool:
    stack = list(values)
    seen = 0
    while stack:
        seen += 1
        if seen > MAX_OBJECTS or len(stack) > MAX_OBJECTS:
            return False
        value = stack.pop()
        kind = type(value)
        if (kind in _SEQUENCES or kind is dict) and len(value) > MAX_OBJECTS and value is not namespace:
            return False  # before all of it is looked at
        if kind in _SEQUENCES:
            stack.extend(value)
        elif kind is dict:
            if value is not namespace:
                stack.extend(value.keys())
                stack.extend(value.values())
        elif kind is types.FunctionType and _is_simple(value, namespace):
            stack.extend(value.__defaults__ or ())
        elif kind not in _SCALARS and not _is_small(kind, value):
            return False
    return True


def _is_small(kind: type, value: Any) -> bool:
    if kind in _TEXTS:
        return len(value) <= MAX_BYTES
    if kind is types.ModuleType:
        return _is_importable(value)
    return ADAPTERS.is_small(str(kind.__module__).partition(".")[0], value)


def _is_simple(function: types.FunctionType, namespace: dict[str, Any]) -> bool:
    """Whether a function is one of the notebook with nothing attached that would have to be looked at."""
    return (
        function.__globals__ is namespace
        and function.__closure__ is None
        and not function.__dict__
        and not function.__kwdefaults__
        and not function.__annotations__
    )
