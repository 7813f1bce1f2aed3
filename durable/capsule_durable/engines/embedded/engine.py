"""The engine ``embedded:``: promises in a file that all kernels of the user share."""

from __future__ import annotations

from pathlib import Path

from resonate.resonate import Resonate
from resonate.retry import Never

from capsule_durable import ids
from capsule_durable.engines.base import EngineContext, SdkEngine
from capsule_durable.engines.embedded.network import EmbeddedNetwork
from capsule_durable.engines.embedded.schema import FILE
from capsule_durable.engines.sdk_events import observe

#: The setting ``engine``.
URL = "embedded:"


class EmbeddedEngine(SdkEngine):
    """Promises in a file; they survive the end of any process.

    Args:
        path: the file; it is created if it does not exist.
        group: the group whose work is delivered, whichever process of the kernel this is.

    Raises:
        StoreError: the file cannot be used.
    """

    url = URL
    durable = True

    def __init__(self, path: Path, group: str) -> None:
        self._network = network = EmbeddedNetwork(path, group)
        resonate = Resonate(
            network=network,
            pid=network.pid,
            group=group,
            ttl=network.ttl,
            heartbeat=network.heartbeat,
            retry_policy=Never(),
            # The file tells what happens, so that no message is lost and nothing has to be refreshed.
            subscription_refresh_secs=0,
            observer=observe,
            autostart=False,
        )
        super().__init__(resonate, network.resolve_target(group))

    @classmethod
    def open(cls, url: str, context: EngineContext) -> EmbeddedEngine:  # noqa: ARG003  # as any factory
        """Return an engine for a kernel: see ``EngineFactory``.

        Args:
            url: the setting ``engine``.
            context: what the engine is for.

        Raises:
            StoreError: the file cannot be used.
        """
        return cls(context.home / FILE, context.group)

    @classmethod
    def open_client(cls, url: str, context: EngineContext) -> EmbeddedEngine | None:  # noqa: ARG003  # as any factory
        """Return an engine for requests from outside of kernels: see ``EngineFactory``.

        Args:
            url: the setting ``engine``.
            context: what the engine is for.

        Raises:
            StoreError: the file cannot be used.
        """
        path = context.home / FILE
        return cls(path, context.group) if path.exists() else None

    def preallocate(self, root_id: str, timeout_at: int) -> None:
        """Create the outcome of an execution together with its root promise.

        Args:
            root_id: the root promise of an execution, which is about to be created.
            timeout_at: when the outcome times out, in milliseconds since the epoch.
        """
        self._network.preallocate(root_id, ids.outcome(root_id), timeout_at)

    async def close(self) -> None:
        """Stop, release the leases and close the file. Idempotent."""
        await super().close()
        self._network.close()
