"""The inputs that cells request: the pending ones, and the one that a person names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from resonate.error import ServerError
from resonate.types import PromiseRecord

from capsule_durable import ids
from capsule_durable.checkpoints.models import SessionRow
from capsule_durable.config.settings import Settings
from capsule_durable.engines.base import GROUP
from capsule_durable.engines.client import connect
from capsule_durable.errors import CapsuleError
from capsule_worker.protocol.model import Model

#: The step of a promise id that stands for an input, and not for a step of the function that requests it.
_INPUT = re.compile(re.escape(ids.INPUT) + r"\d+")
_TAGS = {ids.INPUT_TAG: "true"}
_CODE_HEAD = 80


class UnknownInput(CapsuleError):
    """A reference matches no input, or more than one. The message names candidates."""


class Input(Model):
    """An input that a cell requested."""

    #: The id of its promise.
    id: str
    #: The shortest id by which a person can name it.
    short: str
    prompt: str
    #: Whether the answer is a secret.
    password: bool
    state: Literal["pending", "answered", "cancelled"]
    #: Seconds since the epoch.
    asked: float
    #: Seconds since the epoch; None while it is pending.
    settled: float | None
    #: The latest session of its kernel; None if that session is no longer stored.
    session: str | None
    notebook: str | None
    #: The number of the cell, as in ``In [cell]``; None if it has none.
    cell: int | None
    #: The first line of the cell.
    code_head: str


async def list_inputs(
    settings: Settings, sessions: Sequence[SessionRow] = (), state: Literal["pending"] | None = "pending"
) -> list[Input]:
    """Return inputs, oldest first.

    Args:
        settings: the configuration, which names the engine.
        sessions: all sessions, newest first.
        state: ``pending`` for those without an answer; None for all that are stored.

    Raises:
        StoreError, EngineUnavailable: the engine's file cannot be read.
    """
    kernels: dict[str, SessionRow] = {}
    for session in sessions:
        kernels.setdefault(ids.slug(session.kernel), session)
    async with connect(settings) as engine:
        if engine is None:
            return []
        promises = [each async for each in engine.search_all(state) if is_input(each.id)] if state else None
        # The inputs of a run have names in common with earlier ones of the run. Settled ones count, so that a late
        # answer to one of them cannot reach another. A search for them takes time in a large store.
        if promises is None or any(_has_long_ids(each.id) for each in promises):
            promises = [each async for each in engine.search_all(None, _TAGS) if is_input(each.id)]
        roots: dict[str, PromiseRecord | None] = {}
        for root_id in map(_root_id, promises):
            if root_id not in roots:
                try:
                    roots[root_id] = await engine.promises.get(root_id)
                except ServerError:
                    roots[root_id] = None  # the promise of its cell has expired
    found = [_described(each, roots[_root_id(each)], kernels) for each in promises]
    known = Counter(short for one in found for short in ids.short_input_ids(one.id, one.cell))
    shortest = [next(short for short in ids.short_input_ids(one.id, one.cell) if known[short] == 1) for one in found]
    named = [one.model_copy(update={"short": short}) for one, short in zip(found, shortest, strict=True)]
    return [one for one in named if state is None or one.state == state]


def is_input(promise_id: str) -> bool:
    """Return whether a promise is that of an input of a cell.

    Args:
        promise_id: the promise.
    """
    root, _, step = promise_id.partition(":")
    return root.startswith(ids.EXECUTION) and _INPUT.fullmatch(step) is not None


def find(inputs: Iterable[Input], reference: str) -> Input:
    """Return the input that a person names by its id, a short id, or the beginning of its id.

    Args:
        inputs: all inputs that are stored, settled ones included.
        reference: what the person wrote.

    Raises:
        UnknownInput: it matches none, or more than one.
    """
    inputs = list(inputs)
    exact = [one for one in inputs if reference in (one.id, *ids.short_input_ids(one.id, one.cell))]
    found = exact or [one for one in inputs if reference and one.id.removeprefix(ids.EXECUTION).startswith(reference)]
    if len(found) == 1:
        return found[0]
    if found:
        candidates = ", ".join(f"{one.short} ({one.state})" for one in found)
        raise UnknownInput(f'"{reference}" matches {len(found)} inputs (choose from {candidates}).')
    pending = ", ".join(one.short for one in inputs if one.state == "pending")
    hint = f" (choose from {pending})." if pending else ". No pending inputs."
    raise UnknownInput(f'No input "{reference}"{hint}')


def _has_long_ids(input_id: str) -> bool:
    """Return whether several inputs can have the shortest id of an input."""
    return len(ids.short_input_ids(input_id, None)) > 2  # noqa: PLR2004  # the shortest, and that of the promise


def _root_id(promise: PromiseRecord) -> str:
    """Return the id of the promise of the execution that requests an input."""
    request: Any = promise.param.data
    return ids.execution(request["args"][0])


def _described(promise: PromiseRecord, root: PromiseRecord | None, kernels: dict[str, SessionRow]) -> Input:
    arguments: Any = promise.param.data
    cell: Any = root.param.data if root is not None else {"args": [{}]}
    _, prompt, password = arguments["args"]
    request = cell["args"][0]
    lines = [line for line in str(request.get("code", "")).splitlines() if line.strip()]
    session = kernels.get(promise.tags.get("resonate:target", "").rpartition(f"{GROUP}.")[2])
    states: dict[str, Literal["pending", "answered"]] = {"pending": "pending", "resolved": "answered"}
    return Input(
        id=promise.id,
        short=promise.id,
        prompt=str(prompt),
        password=bool(password),
        state=states.get(promise.state, "cancelled"),
        asked=promise.created_at / 1000,
        settled=promise.settled_at / 1000 if promise.settled_at is not None else None,
        session=session.id if session is not None else None,
        notebook=(session.notebook or session.kernel) if session is not None else None,
        cell=request.get("execution_count"),
        code_head=lines[0][:_CODE_HEAD] if lines else "",
    )
