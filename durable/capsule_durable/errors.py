"""Errors, named by what failed. Each says what happened, to which execution, and what to do."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any, ClassVar

from capsule_worker.protocol.errors import CapsuleError, ProtocolError

if TYPE_CHECKING:
    from capsule_worker.protocol.messages import ErrorMessage

__all__ = [
    "Busy",
    "CapsuleError",
    "EngineUnavailable",
    "ExecutionFailed",
    "ExecutionTimeout",
    "HistoryUnavailable",
    "InputCancelled",
    "InternalError",
    "KernelDied",
    "OutputDrainTimeout",
    "ProtocolError",
    "Rejection",
    "RequestTimeout",
    "SessionClosed",
    "TransportClosed",
    "WorkerDied",
    "WorkerUnavailable",
    "describe_exit",
    "failure_from_message",
    "from_rejection",
    "rejection_text",
]


class EngineUnavailable(CapsuleError):
    """The durable engine cannot be had."""


class TransportClosed(CapsuleError):
    """The connection to the worker has ended."""


class InputCancelled(CapsuleError):
    """An input will not be answered any more: its cell has ended or was interrupted."""


class ExecutionFailed(CapsuleError):
    """Base of the reasons why an execution has no result. The user's own exceptions are results, not this.

    Args:
        message: what happened and what to do.
        execution_id: the execution; empty where the request belonged to none.
        fields: what else is known; strings and numbers only, since they are stored with the promise.
    """

    #: The ``type`` of rejection records, and the ``ename`` that a client shows.
    kind: ClassVar[str] = "ExecutionFailed"

    def __init__(self, message: str, execution_id: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.execution_id = execution_id
        self.fields = fields

    def to_rejection(self) -> dict[str, Any]:
        """Return the plain record that a promise is rejected with."""
        return {
            "capsule": 1,
            "type": self.kind,
            "message": self.message,
            "execution_id": self.execution_id,
            **self.fields,
        }


class Busy(ExecutionFailed):
    """The worker runs another execution; one runs at a time."""

    kind = "Busy"


class OutputDrainTimeout(ExecutionFailed):
    """The cell ran, but its output could not be delivered; the result is hidden."""

    kind = "OutputDrainTimeout"


class ExecutionTimeout(ExecutionFailed):
    """The execution took longer than it was allowed to."""

    kind = "ExecutionTimeout"


class RequestTimeout(ExecutionFailed):
    """The worker did not answer a question about code or names in time."""

    kind = "RequestTimeout"


class SessionClosed(ExecutionFailed):
    """The session ended before the execution did."""

    kind = "SessionClosed"


class InternalError(ExecutionFailed):
    """An internal error: a defect of Capsule itself."""

    kind = "InternalError"


class WorkerDied(ExecutionFailed):
    """The process that ran the cell has ended."""

    kind = "WorkerDied"


class KernelDied(ExecutionFailed):
    """The kernel's own process ended while the execution was under way."""

    kind = "KernelDied"


class WorkerUnavailable(ExecutionFailed):
    """No worker could be started: the environment in which cells run lacks something."""

    kind = "WorkerUnavailable"


class HistoryUnavailable(ExecutionFailed):
    """The history is off or cannot be used, and a run needs it."""

    kind = "HistoryUnavailable"


class Rejection(CapsuleError):
    """Carries a rejection record out of a durable function, as the text that the SDK keeps.

    It refuses to be pickled: the SDK would store the pickle with the promise and load it wherever the promise is
    awaited, and this project loads no pickles.
    """

    def __reduce__(self) -> str:
        msg = "a rejection travels as text"
        raise TypeError(msg)


_BY_KIND: dict[str, type[ExecutionFailed]] = {
    error.kind: error
    for error in (
        Busy,
        OutputDrainTimeout,
        ExecutionTimeout,
        HistoryUnavailable,
        RequestTimeout,
        SessionClosed,
        InternalError,
        KernelDied,
        WorkerDied,
        WorkerUnavailable,
    )
}


def rejection_text(record: dict[str, Any]) -> dict[str, str]:
    """Return ``record`` in the form in which the SDK keeps it apart from a pickled exception.

    The SDK unpickles a rejected value that carries ``__py_pickle`` (``resonate.codec``); one that has only a
    ``message`` comes back as that text and nothing else. So the record travels as JSON in the message.

    Args:
        record: the record of ``ExecutionFailed.to_rejection``; its values must be JSON or have a text.
    """
    return {"message": json.dumps(record, allow_nan=False, default=str)}


def failure_from_message(message: ErrorMessage) -> ExecutionFailed:
    """Return our error for an error message of the worker, made from its fields one by one.

    Args:
        message: the worker's message; an unknown type of error becomes an ``InternalError``.
    """
    kind = _BY_KIND.get(message.error_type, InternalError)
    return kind(
        message.message,
        message.execution_id or "",
        traceback=[line[:2000] for line in message.traceback[:100]],
        execution_time=message.execution_time,
    )


def from_rejection(text: str, execution_id: str) -> ExecutionFailed:
    """Return our error for the message of a rejected promise, with notes on where it came from.

    Args:
        text: the message, with a rejection record as JSON. Any other text becomes an ``InternalError``.
        execution_id: the execution.
    """
    try:
        record = json.loads(text)
        kind, message = record.pop("type"), record.pop("message")
        record.pop("capsule", None)
        record.pop("execution_id", None)
        error = _BY_KIND.get(kind, InternalError)(message, execution_id, **record)
    except (ValueError, KeyError, TypeError, AttributeError):
        error = InternalError(f"the execution was rejected from outside: {text}", execution_id)
    error.add_note(f"execution id: {execution_id}")
    error.add_note(f"original rejection: {text}")
    return error


def describe_exit(returncode: int, peak_memory: int | None = None) -> str:
    """Return how a process ended, as a predicate such as ``was killed (SIGKILL, peak memory 209 MB)``.

    Args:
        returncode: as ``subprocess`` has it: an exit status, or minus the number of the signal.
        peak_memory: the most memory that it used, in bytes; None to leave it out.
    """
    memory = "" if peak_memory is None else f", peak memory {peak_memory / 1e6:,.0f} MB"
    if returncode >= 0:
        return f"exited (status {returncode}{memory})"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"was killed ({name}{memory})"
