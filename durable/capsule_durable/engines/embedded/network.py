"""The connection between the SDK and the file: requests in, answers and messages out.

The state machine is our own, on rows (``promises``, ``tasks``, ``timers``), instead of the SDK's ``ServerState``. The
SDK's keeps all promises of an execution in memory, so that each request would read and write all of them. It also does
not fence versions, fires few timers by itself, and cannot search. Row by row, a request costs the same in an execution
of ten thousand steps as in a new one.

SQLite runs on the thread of the loop, because a switch to another thread and back takes half as long again as a
request. So nothing here may wait. If another process has locked the file, the request is tried again after a delay in
which the loop continues. Work that syncs the disk is left to ``Maintenance``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sqlite3
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
from resonate.timing import Clock, now_ms
from resonate_base import ConnectorError

from capsule_durable.engines.embedded import promises, tasks, timers, wire
from capsule_durable.engines.embedded.leases import Leases
from capsule_durable.engines.embedded.maintenance import Maintenance
from capsule_durable.engines.embedded.retention import Retention
from capsule_durable.engines.embedded.schema import SCHEMA
from capsule_durable.engines.embedded.transaction import Here, Transaction, returned_step
from capsule_durable.storage import process_identity
from capsule_durable.storage.errors import StoreBusy, StoreError
from capsule_durable.storage.process_identity import is_allowed
from capsule_durable.storage.sqlite import TIMEOUT, Database, Synchronous

logger = logging.getLogger(__name__)

#: The scheme of addresses.
SCHEME = "capsule"
#: How long a lease lasts that its owner does not renew.
TTL = timedelta(seconds=5)
#: Seconds between two polls of the file: the least, and the most with and without awaited promises. In between it is a
#: hundredth of the time since the last request or message, because waking up costs more than a poll.
MIN_POLL_INTERVAL, MAX_AWAITED_INTERVAL, MAX_POLL_INTERVAL = 0.01, 0.05, 0.1
#: Seconds between two searches for owners that have ended.
DEAD_OWNER_INTERVAL = 1.0
#: Seconds between two polls after one that failed.
RECOVERY_INTERVAL = 5.0
#: Seconds between two attempts while another process has locked the file: the first delay and the longest.
MIN_RETRY_DELAY, MAX_RETRY_DELAY = 0.0005, 0.02
#: Seconds by which requests for notifications are delayed, so that others go first.
LISTEN_DELAY = 0.001
#: Requests between two rounds of maintenance.
MAINTENANCE_REQUESTS = 500

_RETENTION = Retention()
_RULES: Mapping[type[wire.Request], Callable[..., wire.Answer]] = {
    wire.GetPromise: promises.get,
    wire.CreatePromise: promises.create,
    wire.SettlePromise: promises.settle,
    wire.Listen: promises.listen,
    wire.SearchPromises: promises.search,
    wire.CreateTask: tasks.create,
    wire.AcquireTask: tasks.acquire,
    wire.FenceTask: tasks.fence,
    wire.SuspendTask: tasks.suspend,
    wire.FulfillTask: tasks.fulfill,
    wire.ReleaseTask: tasks.release,
    wire.Heartbeat: tasks.heartbeat,
}


class EmbeddedNetwork:
    """A ``Network`` and a ``Source`` of the SDK, on one file that several processes share.

    Give ``Resonate`` the same ``pid``, ``group``, ``ttl`` and ``heartbeat``. Requests work from the beginning until
    ``close``; messages come between ``start`` and ``stop``.

    Args:
        path: the file; it is created if it does not exist.
        group: the group whose work is delivered to this process.
        ttl: how long a lease lasts if its owner is stopped but has not ended.
        retention: which settled promises are kept.
        synchronous: SQLite's setting of this name; ``FULL`` syncs the disk at each request.
        clock: milliseconds since the epoch.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        group: str,
        *,
        ttl: timedelta = TTL,
        retention: Retention = _RETENTION,
        synchronous: Synchronous = "NORMAL",
        clock: Clock = now_ms,
    ) -> None:
        self.pid = str(process_identity.this_process())
        self.group = group
        self.ttl = ttl
        #: The leases of the tasks that this process runs.
        self.heartbeat = Leases()
        self._clock = clock
        self._database = Database(path, SCHEMA, synchronous, timeout=0)
        self._maintenance = Maintenance(path, synchronous, retention, clock)
        self._receivers: list[Callable[[str], None]] = []
        #: Promises whose settlement this process waits for.
        self._awaited: set[str] = set()
        self._here = Here(self.pid, (), self._awaited)
        #: The promises to create together with roots, by the ids of the roots.
        self._preallocated: dict[str, wire.CreatePromise] = {}
        self._requests = 0
        self._polling = self._stopped = False
        self._next_poll: asyncio.TimerHandle | None = None
        #: SQLite's ``data_version`` at the last poll.
        self._version: int | None = None
        #: When the next timer of the file is due, in milliseconds since the epoch.
        self._due = 0
        # By the loop's clock: the last request or message, the next renewal of leases, the next search for dead owners.
        self._active_at = self._renew_at = self._search_at = 0.0

    # -- the SDK's seams -------------------------------------------------------------------------------------

    def unicast(self) -> str:
        """Return the address of this process."""
        return f"{SCHEME}://uni@{self.group}/{self.pid}"

    def resolve_target(self, target: str) -> str:
        """Return the address of a group. Work that is sent there is done once, by any of its processes.

        Args:
            target: the group.
        """
        return f"{SCHEME}://any@{target}"

    def recv(self, callback: Callable[[str], None]) -> None:
        """Deliver messages to a callback, on the loop.

        Args:
            callback: gets each message.
        """
        self._receivers.append(callback)
        self._here = Here(self.pid, (self.unicast(), self.resolve_target(self.group)), self._awaited)

    async def start(self) -> None:
        """Begin to poll for changes by other processes and for timers. Tasks of dead owners are released at once."""
        if self._stopped:  # the SDK calls this in a task of its own, which may run too late
            return
        self._maintenance.start()
        self._polling = True
        self._poll()

    async def stop(self) -> None:
        """Deliver no more messages. Idempotent."""
        self._awaited.clear()
        self._here = Here(self.pid, (), self._awaited)
        self._receivers.clear()
        self._stopped = True
        self._polling = False
        if self._next_poll is not None:
            self._next_poll.cancel()
            self._next_poll = None
        await asyncio.to_thread(self._maintenance.stop)

    def preallocate(self, root_id: str, step_id: str, timeout_at: int) -> None:
        """Create a root promise together with the promise that its function creates first and returns the value of.

        Two requests become one. The settlement of the second promise also settles the root, for which the function
        would otherwise run again. To the SDK, the second promise exists already and another process settles the root.

        Args:
            root_id: the root, which is about to be created.
            step_id: the second promise.
            timeout_at: when that one is rejected, in milliseconds since the epoch.
        """
        self._preallocated[root_id] = returned_step(root_id, step_id, timeout_at)

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:  # noqa: ARG002  # the SDK passes them
        """Carry out a request in one transaction and return its answer.

        Args:
            req: the envelope of the request, in JSON.
            headers: not used.

        Raises:
            ConnectorError: the request was not carried out; it contains a ``StoreError``, or the error of a malformed
                request.
        """
        try:
            received = wire.receive(req)
            request = received.request
            answer = request if isinstance(request, wire.Answer) else await self._handle(request)
            return wire.reply(received, answer)
        except (StoreError, msgspec.MsgspecError) as error:
            raise ConnectorError(error) from error

    def close(self) -> None:
        """Release the leases of this process and close the file, after ``stop``. Idempotent."""
        self._maintenance.stop()
        with contextlib.suppress(StoreError):
            self._database.set_timeout(1.0)
            self._transact(self._release)
        self._database.close()

    # -- requests --------------------------------------------------------------------------------------------

    async def _handle(self, request: wire.Request) -> wire.Answer:
        rule = _RULES[type(request)]
        if isinstance(request, wire.CreateTask):
            rule = partial(rule, step=self._preallocated.pop(request.action.data.id, None))
        loop = asyncio.get_running_loop()
        if isinstance(request, wire.Listen):
            await asyncio.sleep(LISTEN_DELAY)
        deadline, delay = loop.time() + TIMEOUT, MIN_RETRY_DELAY
        while (answer := self._attempt(lambda tx: rule(tx, request), loop.time() > deadline)) is None:
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  # so that two do not collide again
            delay = min(2 * delay, MAX_RETRY_DELAY)
        self._requests += 1
        if self._requests % MAINTENANCE_REQUESTS == 0:
            self._maintenance.wake()
        self._active_at = loop.time()
        self._plan()
        return answer

    def _attempt(self, act: Callable[[Transaction], wire.Answer], last: bool) -> wire.Answer | None:
        """Return the answer to a request; None if the file is locked and this is not the last attempt."""
        try:
            return self._transact(act)
        except StoreBusy:
            if last:
                raise
            return None

    def _transact[T](self, act: Callable[[Transaction], T]) -> T:
        """Run a function in one transaction. Its messages are delivered after the commit."""
        with self._database.writing() as sql:
            tx = Transaction(sql, self._clock(), self._here)
            result = act(tx)
        self._due = min(self._due, tx.due)
        self._awaited |= tx.awaited
        self._awaited -= tx.told
        if tx.messages:
            loop = asyncio.get_running_loop()
            self._active_at = loop.time()
            for message in tx.messages:
                for receiver in self._receivers:
                    loop.call_soon(receiver, message)
        return result

    def _release(self, tx: Transaction) -> None:
        timers.release_dead_owner(tx, self.pid)

    # -- polling ---------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        """Look for changes by other processes, and do what is due."""
        self._next_poll = None
        delay = 0.0
        try:
            with self._database.using() as sql:
                (version,) = sql.execute("PRAGMA data_version").fetchone()
                if version != self._version:
                    # A settlement stays due until a round has told it, also if the file is locked now.
                    settled = timers.any_settled(sql, self._awaited)
                    self._due = 0 if settled else timers.next_due(sql, self._here)
                    self._version = version
                ended = self._ended(sql)
            if ended or self._clock() >= self._due or self._leases_are_due():
                self._due = self._transact(lambda tx: self._round(tx, ended))
        except StoreBusy:
            delay = MIN_RETRY_DELAY
        except StoreError as error:
            logger.warning("the engine cannot read its file and will try again: %s", error)
            delay = RECOVERY_INTERVAL
        finally:
            self._plan(delay)

    def _round(self, tx: Transaction, ended: list[str]) -> int:
        """Handle the timers that are due; return when more are due, in milliseconds since the epoch."""
        # First, so that this process does not lose its own leases after it was suspended.
        timers.renew(tx, self.heartbeat.held)
        self._renew_at = asyncio.get_running_loop().time() + self.ttl.total_seconds() / 2
        for name in ended:
            timers.release_dead_owner(tx, name)
        timers.fire(tx)
        timers.deliver(tx)
        return timers.next_due(tx.sql, tx.here)

    def _leases_are_due(self) -> bool:
        return bool(self.heartbeat.held) and asyncio.get_running_loop().time() >= self._renew_at

    def _ended(self, sql: sqlite3.Connection) -> list[str]:
        """Return the owners that have ended; searched for at intervals."""
        now = asyncio.get_running_loop().time()
        if now < self._search_at:
            return []
        self._search_at = now + DEAD_OWNER_INTERVAL
        return [
            name
            for name in timers.holders(sql)
            if name != self.pid and is_allowed("take_over", process_identity.state_of(name))
        ]

    def _plan(self, delay: float = 0.0) -> None:
        """Schedule the next poll.

        Args:
            delay: the least time until then, in seconds.
        """
        if not self._polling:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        wait = min(
            max(MIN_POLL_INTERVAL, (now - self._active_at) / 100),
            MAX_AWAITED_INTERVAL if self._awaited else MAX_POLL_INTERVAL,
        )
        when = now + max(min(wait, (self._due - self._clock()) / 1000), delay)
        if self._next_poll is not None:
            if self._next_poll.when() <= when:
                return
            self._next_poll.cancel()
        self._next_poll = loop.call_at(when, self._poll)
