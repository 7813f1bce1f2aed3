"""Encodes and decodes messages, without a socket, clock or loop.

A message is sent as one frame: a 4-byte big-endian length, then a msgpack map. Fields of type ``bytes`` are sent as
they are. The JSON form is for logs and for readers only.

The peer may be hostile (user code shares the worker's process), so everything has a bound that is checked before it is
built: the size of a frame, the length of each array and map, their number in one message, and how deep they nest. What
exceeds a bound, or does not fit the models, raises ``ProtocolError``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, get_args

import msgpack  # type: ignore[import-untyped]
import pydantic_core
from pydantic import BaseModel, ValidationError

from capsule_worker.protocol.errors import FrameTooLarge, ProtocolError
from capsule_worker.protocol.messages import Message

#: The largest payload of a frame, in bytes.
MAX_FRAME = 256 * 1024 * 1024
#: The longest array or map.
MAX_LENGTH = 1_000_000
#: The number of arrays and maps in one message: each costs some 64 bytes, however small it is.
MAX_CONTAINERS = 1_000_000
#: The longest integer, in bytes (2,400 digits; Python writes at most 4,300). Integers of more than 64 bits are msgpack
#: extensions, and occur only in outputs, never in fields of the protocol.
MAX_INTEGER = 1024
#: How deep arrays and maps may nest; well below what the JSON encoder of the front can recurse.
MAX_DEPTH = 200

HEADER = struct.Struct(">I")

#: The msgpack extension type of integers.
_INTEGER = 1

#: The models of the messages by type.
_MODELS: dict[str, type[Message]] = {model.model_fields["type"].default: model for model in get_args(Message)}


def encode(message: Message) -> bytes:
    """Return a message as one frame.

    Args:
        message: the message. Text that UTF-8 cannot express (lone surrogates) is sent with backslash escapes.

    Raises:
        FrameTooLarge: the payload exceeds ``MAX_FRAME``.
        ProtocolError: a field has a value that msgpack cannot express.
    """
    fields = message.model_dump(mode="python")
    try:
        payload: bytes = msgpack.packb(fields, use_bin_type=True, unicode_errors="backslashreplace", default=_long)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"cannot encode a {message.type} message: {error}") from error
    if len(payload) > MAX_FRAME:
        raise FrameTooLarge(len(payload), MAX_FRAME)
    return HEADER.pack(len(payload)) + payload


def decode(payload: bytes | bytearray | memoryview) -> Message:
    """Return the message in a payload.

    Args:
        payload: a frame without its length.

    Raises:
        ProtocolError: the payload is not a message of this protocol within its bounds.
    """
    bound = _Bound()
    try:
        fields = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            use_list=True,
            object_hook=bound.container,
            list_hook=bound.container,
            max_array_len=MAX_LENGTH,
            max_map_len=MAX_LENGTH,
            max_str_len=MAX_FRAME,
            max_bin_len=MAX_FRAME,
            max_ext_len=MAX_INTEGER,
            ext_hook=bound.extension,
            timestamp=1,  # a float, which is harmless
        )
    except ProtocolError:
        raise  # a bound was exceeded
    # msgpack raises many types for hostile input, RecursionError and its own StackError among them.
    except Exception as error:
        raise ProtocolError(f"not a msgpack message: {type(error).__name__}: {error}") from error
    # Nesting is never deeper than the number of containers, so most messages need no check.
    if bound.containers > MAX_DEPTH:
        _check_depth(fields)
    try:
        message = _model(fields).model_validate(fields)
    except (ValidationError, RecursionError) as error:
        raise ProtocolError(f"not a message of this protocol: {error}") from error
    if bound.integers:
        _replace_integers(message.__dict__)
    return message


def to_json(message: Message, *, indent: int | None = None) -> str:
    """Return a message as JSON, with bytes in base64, for logs and debugging.

    Args:
        message: the message.
        indent: spaces of a level; None for one line.
    """
    return message.model_dump_json(indent=indent)


def from_json(text: str | bytes) -> Message:
    """Return the message of a JSON text.

    Args:
        text: the JSON form.

    Raises:
        ProtocolError: the text is not the JSON form of a message.
    """
    try:
        return _model(pydantic_core.from_json(text)).model_validate_json(text)
    except ValueError as error:
        raise ProtocolError(f"not the JSON form of a message: {error}") from error


def _model(fields: Any) -> type[Message]:
    """Return the model of a message.

    Args:
        fields: the fields of the message.

    Raises:
        ProtocolError: they have no known type.
    """
    kind = fields.get("type") if isinstance(fields, dict) else None
    model = _MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise ProtocolError(f"unknown message type {kind!r:.100}")
    return model


class Decoder:
    """Decodes a stream that is split anywhere. Do not use it after a ``ProtocolError``.

    Args:
        max_frame: the largest payload in bytes.
    """

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._max_frame = max_frame

    @property
    def pending(self) -> int:
        """The number of bytes of an incomplete frame so far."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Message]:
        """Yield the messages that the next bytes of the stream complete.

        Args:
            data: the bytes.

        Raises:
            FrameTooLarge: a header has a length over the limit. Nothing of the frame is stored.
            ProtocolError: a frame is not a message. Those before it have been yielded.
        """
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        broken: ProtocolError | None = None
        offset = 0
        header = HEADER.size
        view = memoryview(buffer)
        try:
            while len(buffer) - offset >= header:
                (size,) = HEADER.unpack_from(buffer, offset)
                if size > self._max_frame:
                    raise FrameTooLarge(size, self._max_frame)
                end = offset + header + size
                if len(buffer) < end:
                    break
                with view[offset + header : end] as payload:
                    messages.append(decode(payload))
                offset = end
        except ProtocolError as error:
            broken = error
        finally:
            view.release()
        if offset:
            del buffer[:offset]
        yield from messages
        if broken is not None:
            raise broken


class _Integer:
    """An integer of more than 64 bits. No field of a message accepts this class."""

    def __init__(self, value: int) -> None:
        self.value = value


class _Bound:
    """Counts the arrays and maps of a message, and stops it at the bound."""

    def __init__(self) -> None:
        self.containers = self.integers = 0

    def extension(self, kind: int, data: bytes) -> _Integer:
        if kind != _INTEGER:
            raise ProtocolError(f"unknown extension type {kind}")
        self.integers += 1
        return _Integer(int.from_bytes(data, "big", signed=True))

    def container(self, value: Any) -> Any:
        self.containers += 1
        if self.containers > MAX_CONTAINERS:
            raise ProtocolError(f"a message has more than {MAX_CONTAINERS:,} arrays and maps")
        return value


def _long(value: Any) -> msgpack.ExtType:
    """Return the extension for an integer that msgpack has no form for. msgpack calls this for other values too."""
    if not isinstance(value, int):
        raise TypeError(f"{type(value).__name__} has no msgpack form")
    return msgpack.ExtType(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _replace_integers(holder: dict[Any, Any] | list[Any]) -> None:
    """Replace the integers of extensions by their values, at any depth."""
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        if isinstance(value, _Integer):
            holder[key] = value.value
        elif isinstance(value, (dict, list)):
            _replace_integers(value)
        elif isinstance(value, BaseModel):
            _replace_integers(value.__dict__)


def _check_depth(value: Any) -> None:
    """Raise ``ProtocolError`` if a value nests deeper than ``MAX_DEPTH``. This does not recurse."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, (dict, list)))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, (dict, list)))
        if not below:
            return
        level = below
    raise ProtocolError(f"a message nests deeper than {MAX_DEPTH} levels")
