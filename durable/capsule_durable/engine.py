"""Chooses the durable engine: a connection behind the SDK's seams. Durable functions do not know which."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from resonate.connections import LocalConnection
from resonate.ids import origin_of
from resonate.observability import BackgroundTaskFailed, Dropped, Event
from resonate.resonate import Resonate
from resonate.retry import Never

from capsule_durable.errors import EngineUnavailable

logger = logging.getLogger(__name__)

#: The group to which this kernel's work is addressed.
GROUP = "capsule"


#: Finished executions whose promises the in-process engine keeps. It looks through all that it holds at every
#: settlement, and never forgets by itself.
RETAINED = 16


@dataclass(frozen=True, slots=True)
class Engine:
    """A durable engine, not yet started.

    Args:
        resonate: the SDK's entry point.
        target: the address at which the engine delivers this process's work.
        network: the in-process engine itself.
    """

    resonate: Resonate
    target: str
    network: LocalConnection
    _finished: deque[str] = field(default_factory=deque)

    def retire(self, root_id: str) -> None:
        """Say that an execution is over: its promises may be forgotten when enough others have ended after it."""
        self._finished.append(root_id)
        if len(self._finished) > RETAINED:
            self._forget(self._finished.popleft())

    def _forget(self, root_id: str) -> None:
        state = self.network.state
        for promise_id in [known for known in state.promises if origin_of(known) == root_id]:
            del state.promises[promise_id]
            state.tasks.pop(promise_id, None)
            state.del_p_timeout(promise_id)
            state.del_t_timeout(promise_id)

    async def result_of(self, promise_id: str) -> Any:
        """Wait for a promise and return its value, or raise what it was rejected with."""
        handle = await self.resonate.get(promise_id)
        return await handle.result()


def open_engine(url: str) -> Engine:
    """Return the engine that ``url`` names.

    Args:
        url: ``memory:`` for the SDK's in-process engine, which forgets everything at the end of the process.

    Raises:
        EngineUnavailable: this version has no such engine.
    """
    if url != "memory:":
        msg = f"no engine for {url!r}: this version knows 'memory:' only"
        raise EngineUnavailable(msg)
    pid = uuid.uuid4().hex
    network = LocalConnection(pid=pid, group=GROUP)
    resonate = Resonate(
        network=network,
        pid=pid,
        group=GROUP,
        ttl=timedelta(minutes=1),
        retry_policy=Never(),
        # In one process no push message is ever lost, so there is nothing to refresh.
        subscription_refresh_secs=0,
        observer=_observe,
        autostart=False,
    )
    return Engine(resonate, network.resolve_target(GROUP), network)


def _observe(event: Event) -> None:
    """Log what went wrong; the SDK also tells of every request that went right."""
    match event:
        case BackgroundTaskFailed(cause=cause):
            logger.error("a task of the engine failed: %s", cause)
        case Dropped(what=what, id=promise_id, cause=cause):
            logger.warning("the engine dropped %s %s: %s", what, promise_id, cause)
        case _:
            pass
