"""Waiting for conditions: every wait ends when its condition holds, none lasts an amount of time.

Only this module may poll. The worker's tests import it on the oldest Python that the worker supports.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = float(os.environ.get("CAPSULE_TEST_DEADLINE", "60"))
"""Seconds after which a condition that does not hold is a failure: generous, for machines that are busy."""

POLL_INTERVAL = 0.02
"""Seconds between two looks at a condition that nothing announces (a process gone, a file there)."""


def poll_until(look: Callable[[], T], what: str, deadline: float = DEADLINE, interval: float = POLL_INTERVAL) -> T:
    """Look until the result is true, and return it.

    Args:
        look: returns what is waited for, or something false.
        what: describes the condition.
        deadline: seconds.
        interval: seconds between two looks.

    Raises:
        AssertionError: `what` did not come true in time.
    """
    end = time.monotonic() + deadline
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        time.sleep(interval)
    return seen


def pass_time(seconds: float) -> None:
    """Let time pass where time itself is the subject: the pace of a load, or the moment of a kill.

    Args:
        seconds: how long.
    """
    time.sleep(seconds)


async def poll_until_async(look: Callable[[], T | Awaitable[T]], what: str, deadline: float = DEADLINE) -> T:
    """Look until the result is true, and return it; other tasks of the event loop run meanwhile.

    Args:
        look: returns what is waited for, or something false; it may be a coroutine function.
        what: describes the condition.
        deadline: seconds.

    Raises:
        AssertionError: `what` did not come true in time.
    """
    end = time.monotonic() + deadline
    while not (seen := await _value(look())):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        await asyncio.sleep(POLL_INTERVAL)
    return seen


async def try_often(look: Callable[[], object], times: int = 50) -> None:
    """Call a function until what it returns is true, at most some times."""
    for _ in range(times):
        if look():
            return
        await asyncio.sleep(POLL_INTERVAL)


async def _value(seen: T | Awaitable[T]) -> T:
    return await seen if inspect.isawaitable(seen) else seen
