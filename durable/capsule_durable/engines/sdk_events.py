"""Logs failures inside of the SDK. The SDK also reports every request that succeeds."""

from __future__ import annotations

import logging

from resonate.observability import BackgroundTaskFailed, Dropped, Event

logger = logging.getLogger(__name__)

#: In the SDK's text for a request that another process made first.
_CONFLICT = "code=409"


def observe(event: Event) -> None:
    """Log an event of the SDK if something failed.

    Args:
        event: the event, for ``Resonate(observer=...)``.
    """
    match event:
        case BackgroundTaskFailed(cause=cause) if _CONFLICT in cause:
            logger.debug("another process was first: %s", cause)
        case BackgroundTaskFailed(cause=cause):
            logger.error("a task of the engine failed: %s", cause)
        case Dropped(what=what, id=promise_id, cause=cause):
            logger.warning("the engine dropped %s %s: %s", what, promise_id, cause)
        case _:
            pass
