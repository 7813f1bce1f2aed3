# ruff: noqa: D102  # what a method does is said where it is first
"""Chooses the durable engine: a connection behind the SDK's seams. Durable functions do not know which."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import Any

from resonate.connections import LocalConnection
from resonate.ids import origin_of
from resonate.observability import BackgroundTaskFailed, Dropped, Event
from resonate.promises import Promises
from resonate.resonate import Resonate
from resonate.retry import Never

from capsule_durable import ids
from capsule_durable.engines.embedded.network import EmbeddedNetwork
from capsule_durable.errors import EngineUnavailable

logger = logging.getLogger(__name__)

EMBEDDED, MEMORY = "embedded:", "memory:"
#: The file of the embedded engine, in the user's directory.
FILE = "engine.sqlite3"
#: The group to which work is addressed: this, and which kernel it is.
GROUP = "capsule"
#: Finished executions whose promises the in-process engine keeps. It looks through all that it holds at every
#: settlement, and never forgets by itself.
RETAINED = 16
#: How the SDK's text for a lost race begins.
_CONFLICT = "code=409"


class Engine:
    """A durable engine, not yet started.

    Args:
        resonate: the SDK's entry point.
        target: the address at which the engine delivers this kernel's work.
    """

    #: Whether it knows what earlier processes have asked for.
    durable = True

    def __init__(self, resonate: Resonate, target: str) -> None:
        self.resonate = resonate
        self.target = target

    def preallocate(self, root_id: str, timeout_at: int) -> None:
        """Say that a root is about to be made whose function waits for one promise, and returns what comes of it.

        An engine may make both at once. Otherwise the function makes the promise.

        Args:
            root_id: the root's id.
            timeout_at: when that promise ends by itself, in milliseconds since the epoch.
        """

    def forget(self, root_id: str) -> None:
        """Say that an execution is over: its promises may be forgotten when enough others have ended after it.

        Most engines see to it themselves.
        """

    @property
    def promises(self) -> Promises:
        """Its promises."""
        return self.resonate.promises

    async def result_of(self, promise_id: str) -> Any:
        """Wait for a promise and return its value, or raise what it was rejected with."""
        handle = await self.resonate.get(promise_id)
        return await handle.result()

    async def close(self) -> None:
        """Stop, and let go what it holds."""
        await self.resonate.stop()


class EmbeddedEngine(Engine):
    """Promises in a file that all kernels of the user share; they survive the end of any process.

    Args:
        path: the file.
        group: names the kernel, whichever process it runs in.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path, group: str) -> None:
        self._connection = connection = EmbeddedNetwork(path, group)
        resonate = Resonate(
            network=connection,
            pid=connection.pid,
            group=group,
            ttl=connection.ttl,
            heartbeat=connection.heartbeat,
            retry_policy=Never(),
            # What happens is told by the file, and so cannot be missed: there is nothing to refresh.
            subscription_refresh_secs=0,
            observer=_observe,
            autostart=False,
        )
        super().__init__(resonate, connection.resolve_target(group))

    def preallocate(self, root_id: str, timeout_at: int) -> None:
        self._connection.preallocate(root_id, ids.outcome(root_id), timeout_at)

    async def close(self) -> None:
        await super().close()
        self._connection.close()


class MemoryEngine(Engine):
    """The SDK's in-process engine: promises end with this process."""

    durable = False

    def __init__(self) -> None:
        pid = uuid.uuid4().hex
        self.network = LocalConnection(pid=pid, group=GROUP)
        resonate = Resonate(
            network=self.network,
            pid=pid,
            group=GROUP,
            ttl=timedelta(minutes=1),
            retry_policy=Never(),
            # In one process no push message is ever lost, so there is nothing to refresh.
            subscription_refresh_secs=0,
            observer=_observe,
            autostart=False,
        )
        super().__init__(resonate, self.network.resolve_target(GROUP))
        self._finished: deque[str] = deque()

    def forget(self, root_id: str) -> None:
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


def open_engine(url: str, home: Path, kernel: str) -> Engine:
    """Return the engine that ``url`` names.

    Args:
        url: ``embedded:`` for the one in a file of the user; ``memory:`` for one that forgets everything at the end
            of the process.
        home: the user's directory.
        kernel: names the kernel, whichever process it runs in; a word.

    Raises:
        StoreError: its file cannot be used.
        EngineUnavailable: there is none of this name.
    """
    if url == EMBEDDED:
        return EmbeddedEngine(home / FILE, f"{GROUP}.{kernel}")
    if url == MEMORY:
        return MemoryEngine()
    msg = f"no engine for {url!r}: this version knows {EMBEDDED!r} and {MEMORY!r}"
    raise EngineUnavailable(msg)


def _observe(event: Event) -> None:
    """Log what went wrong; the SDK also tells of every request that went right."""
    match event:
        case BackgroundTaskFailed(cause=cause) if _CONFLICT in cause:
            logger.debug("somebody else was first: %s", cause)
        case BackgroundTaskFailed(cause=cause):
            logger.error("a task of the engine failed: %s", cause)
        case Dropped(what=what, id=promise_id, cause=cause):
            logger.warning("the engine dropped %s %s: %s", what, promise_id, cause)
        case _:
            pass
