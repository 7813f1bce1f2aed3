"""The codec decodes every message that it encodes, and refuses everything else, at any split of the stream."""

from __future__ import annotations

import struct
from typing import Annotated, get_args, get_origin

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from capsule_worker.output.jsonable import jsonable
from capsule_worker.protocol import (
    Decoder,
    FrameTooLarge,
    Message,
    ProtocolError,
    codec,
    decode,
    encode,
    from_json,
    to_json,
)
from capsule_worker.protocol import messages as m

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(0, 2**53)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)


def _strategy(model: type) -> st.SearchStrategy:
    model.model_rebuild()  # what requests and answers carry is known then
    fields = {}
    for name, field in model.model_fields.items():
        if name == "history":
            fields[name] = st.lists(st.tuples(NUMBER, NUMBER, TEXT), max_size=3)
        elif name == "output" and model is m.OutputMessage:
            fields[name] = st.one_of(*[_strategy(kind) for kind in get_args(get_args(m.Output)[0])])
        elif name in {"type", "kind"} and not field.is_required():
            continue
        elif parts := _parts(field.annotation):
            one = st.one_of(*map(_strategy, parts))
            is_list = get_origin(field.annotation) is list
            fields[name] = st.lists(one, max_size=2) if is_list else one | st.none() if _is_optional(field) else one
        elif field.annotation == list[bytes]:
            fields[name] = st.lists(st.binary(max_size=20), max_size=2)
        elif "bytes" in str(field.annotation):
            fields[name] = st.binary(max_size=20) if field.annotation is bytes else st.none() | st.binary(max_size=20)
        elif "Any" in str(field.annotation):
            fields[name] = st.lists(OBJECT, max_size=2) if "list" in str(field.annotation) else OBJECT
        else:
            bounded = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
            fields[name] = st.from_type(bounded).filter(_expressible)
    return st.builds(model, **fields)


def _parts(annotation: object) -> list[type]:
    """Return the models that an annotation is made of; none if it is not made of models."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is dict:
        return []
    return [model for part in get_args(annotation) for model in _parts(part)]


def _is_optional(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)


def _expressible(value: object) -> bool:
    """Whether msgpack and UTF-8 can express a value that was made up from its type alone."""
    try:
        return msgpack.unpackb(msgpack.packb(value)) == value and value == value  # noqa: PLR0124  # NaN
    except (ValueError, OverflowError, UnicodeEncodeError, TypeError):
        return False


MODELS = sorted(
    {kind for union in (m.ToWorker, m.FromWorker) for part in get_args(union) for kind in (get_args(part) or (part,))},
    key=lambda model: model.__name__,
)
MESSAGE = st.one_of(*[_strategy(model) for model in MODELS])


@pytest.mark.parametrize("model", MODELS)
def test_every_message_survives_encoding_and_its_json_form(model: type) -> None:
    @settings(max_examples=25, deadline=None)
    @given(_strategy(model))
    def check(message: Message) -> None:
        frame = encode(message)
        assert decode(frame[4:]) == message
        assert struct.unpack(">I", frame[:4]) == (len(frame) - 4,)
        assert from_json(to_json(message)) == message

    check()


@settings(max_examples=100, deadline=None)
@given(st.lists(MESSAGE, max_size=4), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_of_the_stream_gives_the_same_messages(messages: list[Message], cuts: list[int]) -> None:
    stream = b"".join(map(encode, messages))
    decoder, got, start = Decoder(), [], 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        got += decoder.feed(stream[start:cut])
        start = cut
    assert got == messages
    assert decoder.pending == 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_messages_or_a_protocol_error(noise: bytes, cut: int) -> None:
    decoder = Decoder(max_frame=1 << 16)
    try:
        for part in (noise[:cut], noise[cut:]):
            list(decoder.feed(part))
    except ProtocolError:
        pass


@settings(max_examples=200, deadline=None)
@given(MESSAGE, st.data())
def test_a_damaged_frame_is_a_message_or_a_protocol_error(message: Message, data: st.DataObject) -> None:
    payload = bytearray(encode(message)[4:])
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decode(payload)
    except ProtocolError:
        pass


@settings(max_examples=50, deadline=None)
@given(st.lists(MESSAGE, max_size=4), st.sampled_from([b"\xff" * 100, b"\x00\x00\x00\x05abcde"]))
def test_messages_before_a_broken_frame_are_not_lost(messages: list[Message], broken: bytes) -> None:
    got = []
    with pytest.raises(ProtocolError):
        for message in Decoder().feed(b"".join(map(encode, messages)) + broken):
            got.append(message)  # noqa: PERF402  # what follows raises
    assert got == messages


def test_a_length_beyond_the_limit_is_refused_before_its_data_arrives() -> None:
    with pytest.raises(FrameTooLarge) as caught:
        list(Decoder(max_frame=1000).feed(struct.pack(">I", 1001)))
    assert (caught.value.size, caught.value.limit) == (1001, 1000)


def test_a_message_beyond_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_FRAME", 100)
    with pytest.raises(FrameTooLarge):
        encode(m.ExecuteMessage(id="1", code="x" * 100))


@pytest.mark.parametrize(
    "payload",
    [
        b"\xdd\x00\x98\x96\x80" + b"\x80" * 10_000_000,
        msgpack.packb({"type": "output", "x": [[{} for _ in range(1000)] for _ in range(1001)]}),
        b"\x81\xa1a" * 5000 + b"\xc0",
        msgpack.packb({"type": "heartbeat", "id": msgpack.ExtType(2, b"x")}),
        msgpack.packb(msgpack.ExtType(1, b"x" * 1025)),
        msgpack.packb({"type": "complete", "id": "1", "code": "", "cursor_pos": msgpack.ExtType(1, b"x")}),
        msgpack.packb({1: 2}),
        msgpack.packb({"type": "no such message"}),
        msgpack.packb({"type": "heartbeat", "id": "1", "more": 1}),
        msgpack.packb({"type": "heartbeat"}),
        msgpack.packb([1, 2]),
        b"",
        msgpack.packb({"type": "heartbeat", "id": "1"}) + b"\x00",
        b"\x82\xa4type\xa9heartbeat\xa2id\xa1\xff",
    ],
    ids=[
        "bomb",
        "grid",
        "deep",
        "ext",
        "long",
        "field",
        "key",
        "type",
        "extra",
        "missing",
        "list",
        "empty",
        "trailing",
        "utf8",
    ],
)
def test_a_payload_that_exceeds_a_bound_or_does_not_fit_its_model_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(payload)


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> dict:
        value: dict = {}
        for _ in range(depth):
            value = {"a": value}
        return value

    def message(depth: int) -> m.OutputMessage:
        return m.OutputMessage(execution_id="1", output=m.DisplayOutput(data=nested(depth)))

    assert decode(encode(message(100))[4:]) == message(100)
    with pytest.raises(ProtocolError):
        decode(encode(message(300))[4:])


@pytest.mark.parametrize(
    "number",
    [2**64, -(2**63) - 1, 10**50, 1 - 2**8191, 2**8191 - 1],
    ids=["past 64 bits", "below 64 bits", "fifty digits", "the least", "the greatest"],
)
def test_integers_of_any_usual_length_are_shown_as_they_are(number: int) -> None:
    data = jsonable({"application/json": {"n": number, "list": [1, [number]]}})
    message = m.OutputMessage(execution_id="1", output=m.DisplayOutput(data=data))
    received = decode(encode(message)[4:])
    assert received == message
    assert received.output.data["application/json"] == {"n": number, "list": [1, [number]]}


def test_integers_of_unusual_length_are_shown_as_text() -> None:
    assert jsonable([2**8191, -(2**8191), 10**10_000]) == [hex(2**8191), hex(-(2**8191)), hex(10**10_000)]


def test_half_of_a_surrogate_pair_is_sent_as_an_escape() -> None:
    message = m.OutputMessage(execution_id="1", output=m.StreamOutput(name="stdout", text="x\udc80"))
    assert decode(encode(message)[4:]).output.text == "x\\udc80"


def test_messages_are_frozen() -> None:
    message = m.HeartbeatMessage(id="1")
    with pytest.raises(ValidationError):
        message.id = "2"
