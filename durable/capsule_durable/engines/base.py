"""The interface of durable engines, and the part that all engines of the SDK share.

Durable functions do not know which engine they run on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from resonate.promises import Promises
from resonate.resonate import Resonate
from resonate.types import PromiseRecord

#: The group to which work is addressed: this, a dot, and the kernel.
GROUP = "capsule"
#: Promises that are read at a time.
_PAGE = 100


@dataclass(frozen=True)
class EngineContext:
    """What an engine is opened for.

    Args:
        home: the user's directory.
        kernel: a slug of the kernel whose work the engine delivers, or of another client.
    """

    home: Path
    kernel: str

    @property
    def group(self) -> str:
        """The group to which the kernel's work is addressed."""
        return f"{GROUP}.{self.kernel}"


class Engine(Protocol):
    """A durable engine: it stores promises and delivers the work that settles them."""

    #: As in the setting ``engine``.
    url: str
    #: The address at which it delivers this kernel's work.
    target: str
    #: Whether promises survive this process.
    durable: bool
    #: The SDK's entry point.
    resonate: Resonate

    @property
    def promises(self) -> Promises:
        """Its promises."""

    def start(self) -> None:
        """Begin to deliver work. Requests work before, too."""

    async def close(self) -> None:
        """Stop and release everything. Idempotent."""

    def preallocate(self, root_id: str, timeout_at: int) -> None:
        """Announce a root promise whose function creates one promise, waits for it and returns its value.

        An engine may create both promises at once, or do nothing: then the function creates the second one.

        Args:
            root_id: the root promise, which is about to be created.
            timeout_at: when the second promise times out, in milliseconds since the epoch.
        """

    def forget(self, root_id: str) -> None:
        """Announce that an execution is over, so that its promises may be deleted after some others have ended.

        An engine that deletes promises by its own rules does nothing.

        Args:
            root_id: the root promise of the execution.
        """

    async def result_of(self, promise_id: str) -> Any:
        """Wait for a promise and return its value.

        Args:
            promise_id: the promise.

        Raises:
            ApplicationError: it was rejected.
        """

    def search_all(
        self, state: str | None = None, tags: Mapping[str, str] | None = None
    ) -> AsyncIterator[PromiseRecord]:
        """Return promises in the order of their creation.

        Args:
            state: only those in this state, for example ``pending``.
            tags: only those with these tags.
        """


class EngineFactory(Protocol):
    """Opens engines of one scheme."""

    def open(self, url: str, context: EngineContext) -> Engine:
        """Return an engine for a kernel, not yet started.

        Args:
            url: the setting ``engine``.
            context: what it is for.

        Raises:
            StoreError: its store cannot be used.
        """

    def open_client(self, url: str, context: EngineContext) -> Engine | None:
        """Return an engine for requests from outside of kernels, or None if nothing was ever stored.

        Args:
            url: the setting ``engine``.
            context: what it is for.

        Raises:
            StoreError: its store cannot be used.
            EngineUnavailable: other processes cannot see its promises.
        """


class SdkEngine(Engine):
    """What engines have in common: they differ in the SDK's connection.

    Args:
        resonate: the SDK's entry point.
        target: the address at which the engine delivers this kernel's work.
    """

    def __init__(self, resonate: Resonate, target: str) -> None:
        self.resonate = resonate
        self.target = target

    @property
    def promises(self) -> Promises:
        """Its promises."""
        return self.resonate.promises

    def start(self) -> None:
        """Begin to deliver work."""
        self.resonate.start()

    async def close(self) -> None:
        """Stop and release everything. Idempotent."""
        await self.resonate.stop()

    def preallocate(self, root_id: str, timeout_at: int) -> None:
        """Do nothing: see ``Engine``.

        Args:
            root_id: the root promise of an execution, which is about to be created.
            timeout_at: when the outcome times out, in milliseconds since the epoch.
        """

    def forget(self, root_id: str) -> None:
        """Do nothing: see ``Engine``.

        Args:
            root_id: the root promise of the execution.
        """

    async def result_of(self, promise_id: str) -> Any:
        """Wait for a promise and return its value: see ``Engine``.

        Args:
            promise_id: the promise.

        Raises:
            ApplicationError: it was rejected.
        """
        handle = await self.resonate.get(promise_id)
        return await handle.result()

    async def search_all(
        self, state: str | None = None, tags: Mapping[str, str] | None = None
    ) -> AsyncIterator[PromiseRecord]:
        """Return promises in the order of their creation: see ``Engine``.

        Args:
            state: only those in this state, for example ``pending``; None for all.
            tags: only those with these tags; None for all.
        """
        cursor = None
        while True:
            page = await self.promises.search(state, dict(tags) if tags else None, _PAGE, cursor)
            for promise in page.promises:
                yield promise
            cursor = page.cursor
            if cursor is None:
                return
