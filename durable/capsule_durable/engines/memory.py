"""The engine ``memory:``: the in-process engine of the SDK. Its promises end with this process."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Never as NoEngine

from resonate.connections import LocalConnection
from resonate.ids import origin_of
from resonate.resonate import Resonate
from resonate.retry import Never
from resonate.types import PromiseRecord

from capsule_durable.engines.base import GROUP, EngineContext, SdkEngine
from capsule_durable.engines.sdk_events import observe
from capsule_durable.errors import EngineUnavailable

#: The setting ``engine``.
URL = "memory:"
#: Finished executions whose promises are kept. The SDK's engine reads all promises at each settlement; it deletes none.
RETAINED = 16


class MemoryEngine(SdkEngine):
    """Promises in the memory of this process."""

    url = URL
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
            # Within one process no message is lost, so that nothing has to be refreshed.
            subscription_refresh_secs=0,
            observer=observe,
            autostart=False,
        )
        super().__init__(resonate, self.network.resolve_target(GROUP))
        self._finished: deque[str] = deque()

    @classmethod
    def open(cls, url: str, context: EngineContext) -> MemoryEngine:  # noqa: ARG003  # as any factory
        """Return an engine for a kernel: see ``EngineFactory``.

        Args:
            url: the setting ``engine``.
            context: what the engine is for.
        """
        return cls()

    @classmethod
    def open_client(cls, url: str, context: EngineContext) -> NoEngine:  # noqa: ARG003  # as any factory
        """Refuse: only the kernel itself sees these promises.

        Args:
            url: the setting ``engine``.
            context: what the engine is for.

        Raises:
            EngineUnavailable: always.
        """
        raise EngineUnavailable(f'other processes cannot see the promises of the engine "{url}"')

    def forget(self, root_id: str) -> None:
        """Delete the promises of an execution after some others have ended.

        Args:
            root_id: the root promise of the execution.
        """
        self._finished.append(root_id)
        if len(self._finished) > RETAINED:
            self._delete(self._finished.popleft())

    async def search_all(
        self, state: str | None = None, tags: Mapping[str, str] | None = None
    ) -> AsyncIterator[PromiseRecord]:
        """Return promises in the order of their creation: see ``Engine``. The SDK's engine cannot search.

        Args:
            state: only those in this state, for example ``pending``; None for all.
            tags: only those with these tags; None for all.
        """
        for promise_id in list(self.network.state.promises):
            promise = await self.promises.get(promise_id)
            if state in (None, promise.state) and (tags or {}).items() <= promise.tags.items():
                yield promise

    def _delete(self, root_id: str) -> None:
        state = self.network.state
        for promise_id in [known for known in state.promises if origin_of(known) == root_id]:
            del state.promises[promise_id]
            state.tasks.pop(promise_id, None)
            state.del_p_timeout(promise_id)
            state.del_t_timeout(promise_id)
