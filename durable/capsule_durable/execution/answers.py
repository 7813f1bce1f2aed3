"""Answers and cancels inputs of kernels in other processes, through the promises of the inputs."""

from __future__ import annotations

import time

from resonate.types import PromiseRecord, Value

from capsule_durable.config.settings import Settings
from capsule_durable.engines.client import connect
from capsule_durable.errors import CapsuleError


class AlreadySettled(CapsuleError):
    """The input has been answered or cancelled.

    Args:
        is_answered: whether it has an answer; otherwise it was cancelled, or its cell has ended.
        at: when, in seconds since the epoch; None if that is unknown.
    """

    def __init__(self, *, is_answered: bool, at: float | None = None) -> None:
        what = "was already answered" if is_answered else "was cancelled, or its cell has ended"
        super().__init__(f"the input {what}")
        self.is_answered = is_answered
        self.at = at


async def answer(settings: Settings, input_id: str, value: str) -> None:
    """Answer an input.

    Args:
        settings: the configuration, which names the engine.
        input_id: the id of its promise.
        value: the answer. Not for secrets: it is stored as it is.

    Raises:
        AlreadySettled: it is not pending.
        StoreError, EngineUnavailable: the engine's file cannot be written.
    """
    async with connect(settings) as engine:
        if engine is None:
            raise AlreadySettled(is_answered=False)
        # The time distinguishes this answer from another one with the same text.
        record = {"value": value, "at": time.time()}
        settled = await engine.promises.resolve(input_id, Value(data=record))
        if settled.state != "resolved" or settled.value.data != record:
            raise _already(settled)


async def cancel(settings: Settings, input_id: str) -> None:
    """Cancel an input: its cell gets ``EOFError``.

    Args:
        settings: the configuration, which names the engine.
        input_id: the id of its promise.

    Raises:
        AlreadySettled: it is not pending.
        StoreError, EngineUnavailable: the engine's file cannot be written.
    """
    async with connect(settings) as engine:
        if engine is None:
            raise AlreadySettled(is_answered=False)
        settled = await engine.promises.cancel(input_id, Value())
        if settled.state != "rejected_canceled":
            raise _already(settled)


def _already(settled: PromiseRecord) -> AlreadySettled:
    at = settled.settled_at / 1000 if settled.settled_at is not None else None
    return AlreadySettled(is_answered=settled.state == "resolved", at=at)
