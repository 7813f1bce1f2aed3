"""The events that the front publishes: a closed union of frozen dataclasses.

A new type is added to ``Event``, to ``docs/reference/events.md`` and to the test of the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Union, get_args


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseEvent:
    """The fields of every event.

    Args:
        at: when it happened, in seconds since the epoch.
        session_id: the session.
        execution_id: the execution; None if the event does not belong to one.
    """

    at: float = field(default_factory=time.time)
    session_id: str
    execution_id: str | None = None


# -- the kernel and its workers --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSessionStarted(BaseEvent):
    """The kernel has started.

    Args:
        notebook: path of the notebook, if Jupyter passed it.
        kernel: the identity of the kernel, which later processes of it share.
    """

    notebook: str | None
    kernel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSessionEnded(BaseEvent):
    """The kernel ends in order.

    Args:
        reason: why, for example ``shutdown``.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(BaseEvent):
    """A worker is ready to run cells.

    Args:
        pid: its process id.
        python: the version of its interpreter.
    """

    pid: int
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerExited(BaseEvent):
    """A worker has ended although the kernel did not end it.

    Args:
        returncode: its exit status; negative for a signal.
        peak_memory: the most memory that it used, in bytes.
    """

    returncode: int
    peak_memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyTookOver(BaseEvent):
    """A standby has replaced the worker.

    Args:
        execution_count: the number of the cell after which it was forked.
    """

    execution_count: int


# -- cells -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStarted(BaseEvent):
    """An attempt to run a cell begins.

    Args:
        execution_count: the number of the cell, if it is known.
        cell_id: the id that the client gave the cell, if any.
    """

    execution_count: int | None
    cell_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellEnded(BaseEvent):
    """An attempt to run a cell has ended.

    Args:
        status: ``ok``, ``error``, or the class of the failure.
        duration: seconds from its start.
        outputs_digest: a hash of its outputs, in hexadecimal digits.
    """

    status: str
    duration: float
    outputs_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRetried(BaseEvent):
    """An attempt to run a cell has failed, and another one follows.

    Args:
        attempt: the number of the failed attempt, from 1.
        failure: why it failed.
    """

    attempt: int
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellReplayed(BaseEvent):
    """A cell was not run: the run returned its recorded outcome.

    Args:
        run_id: the run.
    """

    run_id: str


# -- inputs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRequested(BaseEvent):
    """A cell waits for an input.

    Args:
        input_id: the promise of the input.
        password: whether the answer is a secret.
    """

    input_id: str
    password: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InputAnswered(BaseEvent):
    """An input was answered.

    Args:
        input_id: the promise of the input.
        source: ``client`` for the Jupyter client, ``external`` for any other process.
    """

    input_id: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputCancelled(BaseEvent):
    """An input ended without an answer.

    Args:
        input_id: the promise of the input.
    """

    input_id: str


# -- checkpoints -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved(BaseEvent):
    """A checkpoint is on disk.

    Args:
        checkpoint_id: the checkpoint.
        bytes_written: size of the data that was written for it, in bytes.
        duration: seconds that it took.
    """

    checkpoint_id: str
    bytes_written: int
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFailed(BaseEvent):
    """A checkpoint could not be saved.

    Args:
        reason: why.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VariablesRestored(BaseEvent):
    """The variables of a checkpoint were restored.

    Args:
        checkpoint_id: the checkpoint.
        failed: the names of variables that were not restored, and why.
    """

    checkpoint_id: str
    failed: Mapping[str, str]

    def __post_init__(self) -> None:
        """Protect the names from changes by observers."""
        object.__setattr__(self, "failed", MappingProxyType(dict(self.failed)))


# -- limits and stores -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitExceeded(BaseEvent):
    """A cell is beyond a limit.

    Args:
        limit: the setting.
        value: what was measured, with its unit.
    """

    limit: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChanged(BaseEvent):
    """Another engine stores promises from now on.

    Args:
        url: the engine.
        durable: whether its promises survive this process.
    """

    url: str
    durable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFailed(BaseEvent):
    """A store cannot be used.

    Args:
        store: ``engine``, ``history`` or ``checkpoints``.
        reason: why.
    """

    store: str
    reason: str


Event = Union[
    KernelSessionStarted,
    KernelSessionEnded,
    WorkerStarted,
    WorkerExited,
    StandbyTookOver,
    CellStarted,
    CellEnded,
    CellRetried,
    CellReplayed,
    InputRequested,
    InputAnswered,
    InputCancelled,
    CheckpointSaved,
    CheckpointFailed,
    VariablesRestored,
    LimitExceeded,
    EngineChanged,
    StoreFailed,
]
#: All types of the union.
EVENT_TYPES: tuple[type[Event], ...] = get_args(Event)
