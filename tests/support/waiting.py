"""Waiting for conditions: every wait ends when its condition holds, none lasts an amount of time."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = float(os.environ.get("CAPSULE_TEST_DEADLINE", "60"))
"""Seconds after which a condition that does not hold is a failure: generous, for machines that are busy."""

POLL_INTERVAL = 0.02
"""Seconds between two looks at a condition that nothing announces (a process gone, a file there)."""


def poll_until[T](look: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Look until the result is true, and return it.

    Raises:
        AssertionError: `what` did not come true within `deadline` seconds.

    """
    end = time.monotonic() + deadline
    while not (seen := look()):
        if time.monotonic() > end:
            msg = f"not within {deadline:g} s: {what}"
            raise AssertionError(msg)
        time.sleep(POLL_INTERVAL)
    return seen
