"""One transaction on the tables, from which the rules of promises, tasks and timers are built. No clock, no loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import Raw

from capsule_durable.engines.embedded import wire

#: Milliseconds until a task that was offered to a process and not acquired is offered again.
OFFER_INTERVAL_MS = 30_000
#: A time that is never reached.
NEVER = 2**63 - 1

TARGET, TIMER, DELAY, PARENT = "resonate:target", "resonate:timer", "resonate:delay", "resonate:parent"
#: Marks a promise whose value becomes that of its parent: see ``returned_step``.
RETURNED = "capsule:returned"

_PROMISES = "SELECT n, id, state, timeout_at, created_at, settled_at, tags, param, value FROM promises"
_BY_ID = f"{_PROMISES} WHERE id = ?"
_BY_NUMBER = f"{_PROMISES} WHERE n = ?"
_BY_PARENT = f"{_PROMISES} WHERE parent = ? ORDER BY n LIMIT ?"
_PARENT_OF = f"{_PROMISES} WHERE n = (SELECT parent FROM promises AS step WHERE step.n = ?) AND state = 'pending'"  # noqa: S608
#: In these states the value or error becomes the parent's unchanged. In others the parent's function handles it.
_RETURNABLE = frozenset({"resolved", "rejected"})
_TO_TELL = f"{_PROMISES} WHERE n IN (SELECT promise FROM outbox WHERE address = ?) ORDER BY n"  # noqa: S608  # made of constants


class Promise(NamedTuple):
    """A row of ``promises``, without its parent."""

    n: int
    id: str
    state: str
    timeout_at: int
    created_at: int
    settled_at: int | None
    tags: str
    param: str | None
    value: str | None

    def record(self) -> wire.PromiseRecord:
        """Return the promise as clients see it."""
        return wire.PromiseRecord(
            id=self.id,
            state=self.state,
            timeout_at=self.timeout_at,
            created_at=self.created_at,
            settled_at=self.settled_at,
            param=_raw(self.param),
            value=_raw(self.value),
            tags=Raw(self.tags),
        )

    def tag(self, name: str) -> str | None:
        """Return the value of a tag; None if the promise does not have it.

        Args:
            name: the name of the tag.
        """
        tags: dict[str, str] = msgspec.json.decode(self.tags)
        return tags.get(name)


class Task(NamedTuple):
    """A row of ``tasks``."""

    n: int
    state: str
    version: int
    target: str


@dataclass(frozen=True, slots=True)
class Here:
    """The process in which a transaction runs.

    Args:
        name: its name as the owner of leases.
        addresses: the addresses at which it listens.
        awaited: ids of the promises whose settlement it waits for.
    """

    name: str
    addresses: tuple[str, ...]
    awaited: Collection[str] = ()


@dataclass(slots=True)
class Transaction:
    """A snapshot of the rows, and changes to them.

    Args:
        sql: a connection, in a transaction.
        now: milliseconds since the epoch.
        here: the process.
    """

    sql: sqlite3.Connection
    now: int
    here: Here
    #: Messages to this process, to be delivered after the commit.
    messages: list[str] = field(default_factory=list)
    #: Ids of promises that this process begins to wait for, and of those whose settlement is in the messages.
    awaited: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    #: The earliest timer that was set.
    due: int = NEVER
    #: Numbers of promises that were read, by id.
    _numbers: dict[str, int] = field(default_factory=dict)

    def promise(self, promise_id: str) -> Promise | None:
        """Return a promise, after settling it if its timeout has passed.

        Args:
            promise_id: its id.
        """
        row = self.sql.execute(_BY_ID, (promise_id,)).fetchone()
        if row is None:
            return None
        self._numbers[promise_id] = row[0]
        return self._timed_out(Promise(*row))

    def numbered(self, n: int) -> Promise:
        """Return a promise by its number, unchanged.

        Args:
            n: the number of the promise, which must exist.
        """
        return Promise(*self.sql.execute(_BY_NUMBER, (n,)).fetchone())

    def steps(self, n: int, limit: int) -> list[wire.PromiseRecord]:
        """Return the first steps of a promise.

        Args:
            n: the number of the promise.
            limit: how many are returned at most.
        """
        return [Promise(*row).record() for row in self.sql.execute(_BY_PARENT, (n, limit))]

    def to_tell(self, address: str) -> list[Promise]:
        """Return the settled promises of which an address was not notified.

        Args:
            address: the address of a process.
        """
        return [Promise(*row) for row in self.sql.execute(_TO_TELL, (address,))]

    def add(self, request: wire.CreatePromise) -> Promise:
        """Create a promise whose id is free. If its timeout has passed, it is settled.

        Args:
            request: the promise: its id, timeout, parameter and tags.
        """
        state, created_at, settled_at = "pending", self.now, None
        if request.timeout_at <= self.now:
            state, created_at = _state_at_timeout(request.tags.get(TIMER)), request.timeout_at
            settled_at = created_at
        tags, param = msgspec.json.encode(request.tags).decode(), bytes(request.param).decode()
        parent_id = request.tags.get(PARENT, request.id)
        parent = self._numbers.get(parent_id)
        if parent is None and parent_id != request.id:
            (parent,) = self.sql.execute("SELECT n FROM promises WHERE id = ?", (parent_id,)).fetchone() or (None,)
        n = self.sql.execute(
            "INSERT INTO promises (id, state, timeout_at, created_at, settled_at, parent, tags, param)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (request.id, state, request.timeout_at, created_at, settled_at, parent, tags, param),
        ).lastrowid
        assert n is not None
        if state == "pending":
            self.due = min(self.due, request.timeout_at)
        return Promise(n, request.id, state, request.timeout_at, created_at, settled_at, tags, param, None)

    def settle(self, promise: Promise, state: str, value: str | None, settled_at: int) -> Promise:
        """Settle a pending promise: end its task, resume the tasks that wait for it, and notify listeners.

        Args:
            promise: the promise.
            state: its new state, such as ``resolved``.
            value: its value as JSON; None if it has none.
            settled_at: milliseconds since the epoch.
        """
        n = promise.n
        self.sql.execute(
            "UPDATE promises SET state = ?, value = ?, settled_at = ? WHERE n = ?", (state, value, settled_at, n)
        )
        self.sql.execute("DELETE FROM tasks WHERE n = ?", (n,))
        settled = promise._replace(state=state, value=value, settled_at=settled_at)
        if RETURNED in promise.tags and state in _RETURNABLE:
            returning = self.sql.execute(_PARENT_OF, (n,)).fetchone()
            if returning is not None:
                self.settle(Promise(*returning), state, value, settled_at)
        self._resume(n)
        self._spread(settled)
        return settled

    def add_task(self, n: int, task_id: str, target: str, due: int) -> None:
        """Create a task, to be offered when it is due.

        Args:
            n: the number of the promise.
            task_id: id of the task, which is that of the promise.
            target: the address of the kernel or group that runs the task.
            due: when it is offered, in milliseconds since the epoch.
        """
        self.sql.execute(
            "INSERT INTO tasks (n, state, version, target, due) VALUES (?, 'pending', 0, ?, ?)", (n, target, due)
        )
        self.offer(n, task_id, 0, target, due)

    def offer(self, n: int, task_id: str, version: int, target: str, due: int) -> None:
        """Offer a pending task to this process, if it is due and addressed to it. Other processes find the row.

        Args:
            n: the number of the promise.
            task_id: id of the task, which is that of the promise.
            version: the version of the task.
            target: the address to which the task is addressed.
            due: when it is offered, in milliseconds since the epoch.
        """
        if target not in self.here.addresses:
            return
        if due <= self.now:
            due = self.now + OFFER_INTERVAL_MS
            self.sql.execute("UPDATE tasks SET owner = ?, due = ? WHERE n = ?", (self.here.name, due, n))
            self.messages.append(wire.execute(task_id, version))
        self.due = min(self.due, due)

    def add_leased(self, n: int, target: str, owner: str, ttl: int) -> int:
        """Create a task that is leased from the start, and return its version.

        Args:
            n: the number of the promise.
            target: the address to which the task is offered when the lease has expired.
            owner: the process that runs the task.
            ttl: how long the lease lasts, in milliseconds.
        """
        due = self.now + ttl
        self.sql.execute(
            "INSERT INTO tasks (n, state, version, target, owner, ttl, due) VALUES (?, 'acquired', 1, ?, ?, ?, ?)",
            (n, target, owner, ttl, due),
        )
        self.due = min(self.due, due)
        return 1

    def lease(self, n: int, version: int, owner: str, ttl: int) -> int:
        """Lease a task to an owner, and return its new version, so that an earlier owner is refused.

        Args:
            n: the number of the promise.
            version: the present version of the task.
            owner: the process that runs the task.
            ttl: how long the lease lasts, in milliseconds.
        """
        version += 1
        due = self.now + ttl
        self.sql.execute(
            "UPDATE tasks SET state = 'acquired', version = ?, owner = ?, ttl = ?, due = ? WHERE n = ?",
            (version, owner, ttl, due, n),
        )
        self.due = min(self.due, due)
        return version

    def free(self, numbers: Sequence[int], due: int) -> None:
        """Release tasks, to be offered when they are due.

        Args:
            numbers: the numbers of the promises.
            due: when their tasks are offered, in milliseconds since the epoch.
        """
        if numbers:
            self.sql.executemany(
                "UPDATE tasks SET state = 'pending', owner = NULL, due = ? WHERE n = ?", [(due, n) for n in numbers]
            )
            self.due = min(self.due, due)

    def tell(self, promise: Promise) -> None:
        """Notify this process of a settlement."""
        self.messages.append(wire.unblock(promise.record()))
        self.told.add(promise.id)

    def time_out(self, promise: Promise) -> Promise:
        """Settle a pending promise whose timeout has passed. A timer is resolved, any other promise rejected."""
        return self.settle(promise, _state_at_timeout(promise.tag(TIMER)), None, promise.timeout_at)

    def _timed_out(self, promise: Promise) -> Promise:
        return self.time_out(promise) if promise.state == "pending" and promise.timeout_at <= self.now else promise

    def _resume(self, n: int) -> None:
        """Resume the tasks that are suspended until a promise is settled."""
        awaiters = self.sql.execute("DELETE FROM callbacks WHERE awaited = ? RETURNING awaiter", (n,)).fetchall()
        for (awaiter,) in awaiters:
            suspended = self.sql.execute(
                "UPDATE tasks SET state = 'pending', due = ? WHERE n = ? AND state = 'suspended'"
                " RETURNING (SELECT id FROM promises AS p WHERE p.n = tasks.n), version, target",
                (self.now, awaiter),
            ).fetchone()
            if suspended is not None:
                task_id, version, target = suspended
                self.offer(awaiter, task_id, version, target, self.now)

    def _spread(self, promise: Promise) -> None:
        """Notify listeners of a settlement: this process at once, others through the outbox."""
        if promise.id in self.here.awaited:
            self.tell(promise)
        addresses = self.sql.execute(
            "DELETE FROM listeners WHERE promise = ? RETURNING address", (promise.n,)
        ).fetchall()
        for (address,) in addresses:
            self.sql.execute("INSERT OR IGNORE INTO outbox VALUES (?, ?)", (address, promise.n))


def returned_step(root_id: str, step_id: str, timeout_at: int) -> wire.CreatePromise:
    """Return the first step of a root whose function does nothing but wait for it, and returns what it is settled with.

    It is what ``Context.promise`` of the SDK would make, and marked: its settlement is that of the root.

    Args:
        root_id: the root's id.
        step_id: its own.
        timeout_at: milliseconds since the epoch.
    """
    tags = {
        "resonate:scope": "global",
        "resonate:branch": step_id,
        PARENT: root_id,
        "resonate:origin": root_id,
        "resonate:external": "true",
        RETURNED: "true",
    }
    return wire.CreatePromise(id=step_id, timeout_at=timeout_at, tags=tags)


def _state_at_timeout(timer: str | None) -> str:
    return "resolved" if timer == "true" else "rejected_timedout"


def _raw(text: str | None) -> Raw | msgspec.UnsetType:
    return msgspec.UNSET if text is None or text == "null" else Raw(text)
