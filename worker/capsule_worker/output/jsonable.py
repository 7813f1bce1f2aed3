"""Turns what user code displays into JSON values, which Jupyter's messages need."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from capsule_worker.protocol.codec import MAX_INTEGER

#: Longer integers are sent as text.
_INT_BITS = 8 * MAX_INTEGER - 1
#: Deeper structures are cut off: one that contains itself has no end.
_MAX_DEPTH = 100


def jsonable(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911  # a table of kinds
    """Return a value that consists of dict (with str keys), list, str, int, float, bool and None.

    Bytes become base64 text, as the Jupyter messaging specification asks for images. NaN and the infinities, which JSON
    does not have, become their names. Anything else becomes its ``str``.

    Args:
        value: any object.
        depth: how deep it is in the structure.
    """
    if value is None or isinstance(value, (bool, str)):
        return str(value) if type(value) not in (str, bool, type(None)) else value
    if isinstance(value, int):
        # Python refuses to write a number of more than some thousand digits, except in this form.
        return int(value) if value.bit_length() <= _INT_BITS else hex(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if depth >= _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item, depth + 1) for item in value]
    return str(value)
