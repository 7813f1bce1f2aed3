"""The connection between the SDK and the file: requests in, answers and messages out.

The state machine is one of our own, on rows (``promises``, ``tasks``, ``timers``), and not the SDK's ``ServerState``.
That one holds all of an execution's promises in memory, so that each request would read and write all of them; and it
fences no versions, fires few timers by itself and finds nothing. Row by row, a request costs the same in an execution
of ten thousand steps as in a new one, and the rules are no longer than what would have to be added.

SQLite is asked on the loop's thread: the way to another thread and back would take half as long again as the request.
For that, nothing here may wait. Where another process has the file, the request is tried again after a pause in which
the loop goes on, and what takes a sync of the disk is left to ``Upkeep``.
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
#: How long a lease lasts that its owner does not prolong.
TTL = timedelta(seconds=5)
#: Seconds between two looks at what others did: at first; at most, while something is awaited; and at most, else.
#: Between these it is a hundredth of the time since the last request or message: waking up costs more than looking.
SOON, LATE, LATER = 0.01, 0.05, 0.1
#: Seconds between two looks for processes that have ended.
REAP = 1.0
#: Seconds between two looks after one that failed.
RECOVERY = 5.0
#: Seconds between two attempts at a file that another process has: the first and the longest.
SHORTEST, LONGEST = 0.0005, 0.02
#: Seconds for which those who ask to be sent a message let all others go first.
GIVE_WAY = 0.001
#: Requests between two rounds of upkeep.
ROUND = 500

_KEEP = Retention()
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
        path: the file; it is made if there is none.
        group: whose work this process does, if it listens.
        ttl: how long a lease lasts when its owner has stopped, but not ended.
        retention: which settled promises are kept.
        synchronous: as SQLite has it; ``FULL`` syncs the disk at each request.
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
        retention: Retention = _KEEP,
        synchronous: Synchronous = "NORMAL",
        clock: Clock = now_ms,
    ) -> None:
        self.pid = str(process_identity.this_process())
        self.group = group
        self.ttl = ttl
        #: Of the tasks that this process runs.
        self.heartbeat = Leases()
        self._clock = clock
        self._database = Database(path, SCHEMA, synchronous, timeout=0)
        self._upkeep = Maintenance(path, synchronous, retention, clock)
        self._receivers: list[Callable[[str], None]] = []
        #: Promises of whose settlement this process is to be told.
        self._awaited: set[str] = set()
        self._here = Here(self.pid, (), self._awaited)
        #: What is to be made along with roots, by their ids.
        self._foreseen: dict[str, wire.CreatePromise] = {}
        self._requests = 0
        self._looking = self._stopped = False
        self._next_look: asyncio.TimerHandle | None = None
        #: SQLite's number for the state of the file that was looked at last.
        self._seen: int | None = None
        #: When the next timer of the file is due, in milliseconds since the epoch.
        self._due = 0
        # In the loop's seconds: the last request or message, the next renewal of leases, the next search for the dead.
        self._active = self._renewal = self._reaping = 0.0

    # -- the SDK's seams -------------------------------------------------------------------------------------

    def unicast(self) -> str:
        """Return the address of this process alone."""
        return f"{SCHEME}://uni@{self.group}/{self.pid}"

    def resolve_target(self, target: str) -> str:
        """Return the address of a group: whichever of its processes comes first does the work."""
        return f"{SCHEME}://any@{target}"

    def recv(self, callback: Callable[[str], None]) -> None:
        """Have messages given to ``callback``, on the loop."""
        self._receivers.append(callback)
        self._here = Here(self.pid, (self.unicast(), self.resolve_target(self.group)), self._awaited)

    async def start(self) -> None:
        """Begin to look at what other processes do, and at timers. Tasks whose owners have ended are freed at once."""
        if self._stopped:  # the SDK starts in a task of its own, which may come too late
            return
        self._upkeep.start()
        self._looking = True
        self._look()

    async def stop(self) -> None:
        """Receive nothing more. Idempotent."""
        self._awaited.clear()
        self._here = Here(self.pid, (), self._awaited)
        self._receivers.clear()
        self._stopped = True
        self._looking = False
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        await asyncio.to_thread(self._upkeep.stop)

    def preallocate(self, root_id: str, step_id: str, timeout_at: int) -> None:
        """Have a root made together with the promise that its function begins with, and returns the value of.

        Two requests become one, and the settlement of that promise settles the root as well, for which its function
        would have to run again. For the SDK it is a promise that is there already, and a root that somebody settles.

        Args:
            root_id: the root, which is about to be made.
            step_id: the promise.
            timeout_at: when that is rejected, in milliseconds since the epoch.
        """
        self._foreseen[root_id] = returned_step(root_id, step_id, timeout_at)

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:  # noqa: ARG002  # the seam's
        """Carry out a request, in one transaction, and return its answer.

        Raises:
            ConnectorError: it was not carried out; the error in it is a ``StoreError``, or tells what is no request.
        """
        try:
            received = wire.receive(req)
            request = received.request
            answer = request if isinstance(request, wire.Answer) else await self._carry_out(request)
            return wire.reply(received, answer)
        except (StoreError, msgspec.MsgspecError) as error:
            raise ConnectorError(error) from error

    def close(self) -> None:
        """Give up what this process holds, and close the file, after ``stop``. Idempotent."""
        self._upkeep.stop()
        with contextlib.suppress(StoreError):
            self._database.set_timeout(1.0)
            self._transact(self._leave)
        self._database.close()

    # -- requests --------------------------------------------------------------------------------------------

    async def _carry_out(self, request: wire.Request) -> wire.Answer:
        rule = _RULES[type(request)]
        if isinstance(request, wire.CreateTask):
            rule = partial(rule, step=self._foreseen.pop(request.action.data.id, None))
        loop = asyncio.get_running_loop()
        if isinstance(request, wire.Listen):
            await asyncio.sleep(GIVE_WAY)
        deadline, pause = loop.time() + TIMEOUT, SHORTEST
        while (answer := self._attempt(lambda tx: rule(tx, request), loop.time() > deadline)) is None:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # so that two do not meet again
            pause = min(2 * pause, LONGEST)
        self._requests += 1
        if self._requests % ROUND == 0:
            self._upkeep.wake()
        self._active = loop.time()
        self._plan()
        return answer

    def _attempt(self, act: Callable[[Transaction], wire.Answer], last: bool) -> wire.Answer | None:
        try:
            return self._transact(act)
        except StoreBusy:
            if last:
                raise
            return None

    def _transact[T](self, act: Callable[[Transaction], T]) -> T:
        """Do something in one transaction; then, and only then, give out the messages that follow from it."""
        with self._database.writing() as sql:
            tx = Transaction(sql, self._clock(), self._here)
            result = act(tx)
        self._due = min(self._due, tx.due)
        self._awaited |= tx.awaited
        self._awaited -= tx.told
        if tx.messages:
            loop = asyncio.get_running_loop()
            self._active = loop.time()
            for message in tx.messages:
                for receiver in self._receivers:
                    loop.call_soon(receiver, message)
        return result

    def _leave(self, tx: Transaction) -> None:
        timers.release_dead_owner(tx, self.pid)

    # -- what happens without requests -----------------------------------------------------------------------

    def _look(self) -> None:
        """See what others did, and do what is due."""
        self._next_look = None
        pause = 0.0
        try:
            with self._database.using() as sql:
                (seen,) = sql.execute("PRAGMA data_version").fetchone()
                settled = False
                if seen != self._seen:
                    self._due = timers.next_due(sql, self._here)
                    settled = timers.any_settled(sql, self._awaited)
                    self._seen = seen
                ended = self._ended(sql)
            if ended or settled or self._clock() >= self._due or self._leases_are_due():
                self._due = self._transact(lambda tx: self._round(tx, ended))
        except StoreBusy:
            pause = SHORTEST
        except StoreError as error:
            logger.warning("the engine cannot look at its file, and will try again: %s", error)
            pause = RECOVERY
        finally:
            self._plan(pause)

    def _round(self, tx: Transaction, ended: list[str]) -> int:
        """Do what is due, and return when there is more to do."""
        # First, lest this process's own leases end because it slept.
        timers.renew(tx, self.heartbeat.held)
        self._renewal = asyncio.get_running_loop().time() + self.ttl.total_seconds() / 2
        for name in ended:
            timers.release_dead_owner(tx, name)
        timers.fire(tx)
        timers.deliver(tx)
        return timers.next_due(tx.sql, tx.here)

    def _leases_are_due(self) -> bool:
        return bool(self.heartbeat.held) and asyncio.get_running_loop().time() >= self._renewal

    def _ended(self, sql: sqlite3.Connection) -> list[str]:
        """Return the processes that have ended and still hold something; now and then."""
        now = asyncio.get_running_loop().time()
        if now < self._reaping:
            return []
        self._reaping = now + REAP
        return [
            name
            for name in timers.holders(sql)
            if name != self.pid and is_allowed("take_over", process_identity.state_of(name))
        ]

    def _plan(self, pause: float = 0.0) -> None:
        """See that the next look comes in time.

        Args:
            pause: how long to wait at least, in seconds.
        """
        if not self._looking:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        wait = min(max(SOON, (now - self._active) / 100), LATE if self._awaited else LATER)
        when = now + max(min(wait, (self._due - self._clock()) / 1000), pause)
        if self._next_look is not None:
            if self._next_look.when() <= when:
                return
            self._next_look.cancel()
        self._next_look = loop.call_at(when, self._look)
