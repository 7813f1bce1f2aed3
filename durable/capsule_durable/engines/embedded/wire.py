"""Requests and answers of the SDK's protocol (``resonate.send``), with types.

Parameters and values of promises stay the JSON that they came as: the engine does not read them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct
from resonate_base import PROTOCOL_VERSION

type Id = Annotated[str, Meta(min_length=1, max_length=4096)]
#: Milliseconds, of a kind that SQLite can hold.
type Time = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
#: Milliseconds that a lease lasts.
type Ttl = Annotated[int, Meta(ge=1, le=2**53)]
type Settled = Literal["resolved", "rejected", "rejected_canceled"]

NULL = Raw(b"null")


class Request(Struct, rename="camel", frozen=True):
    """The ``data`` of a request."""


class GetPromise(Request, frozen=True):
    """Read a promise."""

    id: Id


class CreatePromise(Request, frozen=True):
    """Create a promise, unless one with this id exists; with a target, also a task."""

    id: Id
    timeout_at: Time = 2**63 - 1
    param: Raw = NULL
    tags: dict[str, str] = {}  # msgspec copies it


class SettlePromise(Request, frozen=True):
    """Settle a promise, unless it is settled already."""

    id: Id
    state: Settled
    value: Raw = NULL


class Listen(Request, frozen=True):
    """Notify an address when a promise is settled."""

    awaited: Id
    address: Id


class SearchPromises(Request, frozen=True):
    """List promises in the order of their creation."""

    state: Literal["pending", "rejected_timedout"] | Settled | None = None
    tags: dict[str, str] = {}
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class Part[T](Struct, frozen=True):
    """A request inside a request."""

    data: T


class CreateTask(Request, frozen=True):
    """Create a promise and acquire its task at once."""

    pid: Id
    ttl: Ttl
    action: Part[CreatePromise]


class AcquireTask(Request, frozen=True):
    """Acquire a task that is offered."""

    id: Id
    version: int
    pid: Id
    ttl: Ttl


class FencedPart(Struct, frozen=True):
    """A change of a promise that only the owner of the task may make."""

    kind: Literal["promise.create", "promise.settle"]
    data: Raw


class FenceTask(Request, frozen=True):
    """Create or settle a promise, if the caller still owns the task."""

    id: Id
    version: int
    action: FencedPart


class Callback(Request, frozen=True):
    """A promise that a task waits for."""

    awaited: Id


class SuspendTask(Request, frozen=True):
    """Suspend a task until one of some promises is settled."""

    id: Id
    version: int
    actions: list[Part[Callback]] = []  # msgspec copies it


class FulfillTask(Request, frozen=True):
    """Settle the promise of a task, if the caller still owns the task."""

    id: Id
    version: int
    action: Part[SettlePromise]


class ReleaseTask(Request, frozen=True):
    """Release a task, so that it is offered again."""

    id: Id
    version: int


class TaskRef(Request, frozen=True):
    """A task that the caller owns."""

    id: Id
    version: int


class Heartbeat(Request, frozen=True):
    """Renew leases. The tasks may be of any origin."""

    pid: Id
    tasks: list[TaskRef]


class PromiseRecord(Struct, rename="camel", frozen=True, omit_defaults=True):
    """A promise as clients see it."""

    id: str
    state: str
    timeout_at: int
    created_at: int
    tags: Raw
    #: Left out where there is none: in a message, the SDK does not understand ``null``.
    param: Raw | msgspec.UnsetType = msgspec.UNSET
    value: Raw | msgspec.UnsetType = msgspec.UNSET
    settled_at: int | None = None


class TaskRecord(Struct, rename="camel", frozen=True, omit_defaults=True):
    """A task as clients see it."""

    id: str
    state: str
    version: int
    pid: str | None = None
    ttl: int | None = None


class Answer(Struct, frozen=True):
    """The answer to a request; its status is as in HTTP."""

    status: int
    data: Any = {}


def refusal(status: int, reason: str) -> Answer:
    """Return the answer to a request that was refused.

    Args:
        status: why, as in HTTP.
        reason: why, in words.
    """
    return Answer(status, {"error": reason})


class _Head(Struct, rename="camel", frozen=True):
    corr_id: str = ""
    status: int = 200
    version: str = PROTOCOL_VERSION


class _Envelope(Struct, frozen=True):
    kind: str = ""
    head: _Head = _Head()
    data: Any = {}


class _RawEnvelope(_Envelope, frozen=True):
    data: Raw = NULL


_ENVELOPE = msgspec.json.Decoder(_RawEnvelope)
_ENCODER = msgspec.json.Encoder()
_CREATE = msgspec.json.Decoder(CreatePromise)
_SETTLE = msgspec.json.Decoder(SettlePromise)
_REQUESTS: dict[str, msgspec.json.Decoder[Request]] = {
    kind: msgspec.json.Decoder(data)
    for kind, data in {
        "promise.get": GetPromise,
        "promise.create": CreatePromise,
        "promise.settle": SettlePromise,
        "promise.register_listener": Listen,
        "promise.search": SearchPromises,
        "task.create": CreateTask,
        "task.acquire": AcquireTask,
        "task.fence": FenceTask,
        "task.suspend": SuspendTask,
        "task.fulfill": FulfillTask,
        "task.release": ReleaseTask,
        "task.heartbeat": Heartbeat,
    }.items()
}


class Received(Struct, frozen=True):
    """A request, and the fields that its answer repeats."""

    kind: str
    corr_id: str
    #: The request; a refusal if it is malformed or unknown.
    request: Request | Answer


def receive(text: str) -> Received:
    """Return the request of an envelope.

    Args:
        text: an envelope as JSON.

    Raises:
        msgspec.DecodeError: the text is not an envelope.
    """
    envelope = _ENVELOPE.decode(text)
    decoder = _REQUESTS.get(envelope.kind)
    request: Request | Answer
    if decoder is None:
        request = refusal(501, f"the embedded engine has no {envelope.kind!r}")
    else:
        try:
            request = decoder.decode(envelope.data)
        except msgspec.MsgspecError as error:
            request = refusal(400, str(error))
    return Received(envelope.kind, envelope.head.corr_id, request)


def fenced(part: FencedPart) -> CreatePromise | SettlePromise:
    """Return the request inside a ``FenceTask``.

    Args:
        part: the request, whose data is still JSON.

    Raises:
        msgspec.ValidationError: it is malformed.
    """
    return (_CREATE if part.kind == "promise.create" else _SETTLE).decode(part.data)


def reply(received: Received, answer: Answer) -> str:
    """Return the envelope of an answer.

    Args:
        received: the request.
        answer: its answer.
    """
    head = _Head(received.corr_id, answer.status)
    return _ENCODER.encode(_Envelope(received.kind, head, answer.data)).decode()


def execute(task_id: str, version: int) -> str:
    """Return the message that offers a task.

    Args:
        task_id: the task.
        version: its version, which the owner must name.
    """
    return _message("execute", {"task": {"id": task_id, "version": version}})


def unblock(promise: PromiseRecord) -> str:
    """Return the message that a promise is settled.

    Args:
        promise: the promise.
    """
    return _message("unblock", {"promise": promise})


def _message(kind: str, data: dict[str, Any]) -> str:
    return _ENCODER.encode({"kind": kind, "data": data}).decode()
