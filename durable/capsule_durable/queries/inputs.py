"""Inputs that wait for an answer, seen from outside of their kernels: which there are, and answering them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resonate.error import ConnectorError
from resonate.types import PromiseRecord, Value

from capsule_durable import ids
from capsule_durable.config.settings import Settings
from capsule_durable.engines.base import Engine, EngineContext
from capsule_durable.engines.registry import open_client
from capsule_durable.errors import CapsuleError, EngineUnavailable

#: The client as which engines know the commands.
_CLIENT = "command-line"
#: An input, and not a step of the function that asks for it.
_INPUT = re.compile(re.escape(ids.INPUT) + r"\d+")
#: Characters of an execution's id that people see.
_SHORT = 8


class NoSuchInput(CapsuleError):
    """No input that waits has this id, or more than one has. The message says which there are."""


class AlreadyAnswered(CapsuleError):
    """Somebody else was first, or the cell has ended."""


@dataclass(frozen=True)
class PendingInput:
    """An input that waits.

    Args:
        id: its promise.
        prompt: what it asks.
        password: whether the answer is a secret.
        asked: when, in seconds since the epoch.
        kernel: the word that stands for its kernel (``ids.word``).
        cell: the number of the cell, as in ``In [cell]``; None where it has none.
        code: the cell's.
    """

    id: str
    prompt: str
    password: bool
    asked: float
    kernel: str
    cell: int | None
    code: str

    @property
    def short(self) -> str:
        """The id, as people see it and give it back."""
        execution_id, _, step = self.id.removeprefix(ids.EXECUTION).partition(":")
        return f"{execution_id[:_SHORT]}.{step.rpartition('.')[2]}"


async def pending(settings: Settings) -> list[PendingInput]:
    """Return the inputs that wait, the oldest first.

    Args:
        settings: the configuration, for the engine.

    Raises:
        StoreError, EngineUnavailable: the store cannot be read.
    """
    async with _engine(settings) as engine:
        return [] if engine is None else await _pending(engine)


def find(inputs: list[PendingInput], reference: str) -> PendingInput:
    """Return the input that a person means: by its id, or by the beginning of it.

    Raises:
        NoSuchInput: there is none, or more than one.
    """
    found = [one for one in inputs if reference in (one.id, one.short)]
    found = found or [one for one in inputs if one.id.removeprefix(ids.EXECUTION).startswith(reference)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(one.short for one in found or inputs)
    what = "more than one input begins with" if found else "no input waits with the id"
    raise NoSuchInput(f"{what} {reference!r}" + (f"; there is: {known}" if known else "; none waits at all"))


async def answer(settings: Settings, input_id: str, value: str) -> None:
    """Answer an input.

    Args:
        settings: the configuration, for the engine.
        input_id: its promise.
        value: the answer. Not for secrets: it is kept as it is.

    Raises:
        AlreadyAnswered: it does not wait any more.
        StoreError, EngineUnavailable: the store cannot be written.
    """
    async with _engine(settings) as engine:
        if engine is None:
            raise AlreadyAnswered("there is no store of promises")
        # Tells this answer from another one with the same text.
        record = {"value": value, "at": time.time()}
        settled = await engine.promises.resolve(input_id, Value(data=record))
        if settled.state != "resolved" or settled.value.data != record:
            raise AlreadyAnswered(
                "somebody else has answered it" if settled.state == "resolved" else "its cell has ended"
            )


async def cancel(settings: Settings, input_id: str) -> None:
    """Let an input end without an answer: its cell meets the end of a file.

    Args:
        settings: the configuration, for the engine.
        input_id: its promise.

    Raises:
        AlreadyAnswered: it does not wait any more.
        StoreError, EngineUnavailable: the store cannot be written.
    """
    async with _engine(settings) as engine:
        if engine is None:
            raise AlreadyAnswered("there is no store of promises")
        settled = await engine.promises.cancel(input_id, Value())
        if settled.state != "rejected_canceled":
            raise AlreadyAnswered("somebody has answered it")


async def _pending(engine: Engine) -> list[PendingInput]:
    found = []
    async for promise in engine.search_all("pending"):
        root, _, step = promise.id.partition(":")
        if root.startswith(ids.EXECUTION) and _INPUT.fullmatch(step):
            asked: Any = promise.param.data
            found.append(_described(promise, await engine.promises.get(ids.execution(asked["args"][0]))))
    return found


def _described(promise: PromiseRecord, root: PromiseRecord) -> PendingInput:
    asked: Any = promise.param.data
    cell: Any = root.param.data
    _, prompt, password = asked["args"]
    request = cell["args"][0]
    return PendingInput(
        id=promise.id,
        prompt=str(prompt),
        password=bool(password),
        asked=promise.created_at / 1000,
        kernel=promise.tags.get("resonate:target", "").rpartition(".")[2],
        cell=request.get("execution_count"),
        code=str(request.get("code", "")),
    )


@contextlib.asynccontextmanager
async def _engine(settings: Settings) -> AsyncIterator[Engine | None]:
    engine = open_client(settings.engine, EngineContext(Path(settings.home), _CLIENT))
    if engine is None:
        yield None
        return
    try:
        yield engine
    except ConnectorError as error:
        raise EngineUnavailable(str(error.error)) from error
    finally:
        await engine.close()


@dataclass(frozen=True)
class TraceStep:
    """A promise of an execution.

    Args:
        id: its own.
        parent: that of which it is a step; None for the execution itself.
        state: ``pending``, ``resolved``, or ``rejected`` and the like.
        created: seconds since the epoch; so is ``settled``, None while it is pending.
        what: what it stands for, in a word or two.
    """

    id: str
    parent: str | None
    state: str
    created: float
    settled: float | None
    what: str


async def trace(settings: Settings, execution_id: str) -> list[TraceStep]:
    """Return the promises of an execution: its own, then its steps, in the order in which they were made.

    Args:
        settings: the configuration, for the engine.
        execution_id: the execution.

    Raises:
        StoreError, EngineUnavailable: the store cannot be read.
    """
    root = ids.execution(execution_id)
    async with _engine(settings) as engine:
        if engine is None:
            return []
        return [_step(promise, root) async for promise in engine.search_all(tags={"resonate:origin": root})]


def _step(promise: PromiseRecord, root: str) -> TraceStep:
    step = promise.id.removeprefix(root).removeprefix(":")
    if not step:
        what = "the cell"
    elif promise.id == ids.outcome(root):
        what = "its outcome"
    else:
        what = "an input" if _INPUT.fullmatch(step) else "a step"
    parent = promise.tags.get("resonate:parent")
    settled = promise.settled_at / 1000 if promise.settled_at is not None else None
    return TraceStep(
        promise.id, None if promise.id == root else parent, promise.state, promise.created_at / 1000, settled, what
    )
