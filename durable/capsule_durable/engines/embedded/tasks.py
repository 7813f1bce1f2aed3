"""Requests about tasks.

A task is *pending* until a process runs it, *acquired* by one owner at a time, *suspended* until one of some promises
is settled, and ends when its own promise is settled. Every acquisition raises the version; older ones are refused.
"""

from __future__ import annotations

import msgspec

from capsule_durable.engines.embedded import promises, wire
from capsule_durable.engines.embedded.transaction import RETURNED, TARGET, Promise, Task, Transaction
from capsule_durable.engines.embedded.wire import Answer, refusal

#: Milliseconds after which a released task is offered again. A task is released because of an error, which mostly
#: repeats itself: without a delay it would be tried thousands of times a second.
RELEASE_DELAY_MS = 250
#: How many steps are sent together with a task; more are requested one by one.
MAX_STEPS = 1000


def create(tx: Transaction, request: wire.CreateTask, step: wire.CreatePromise | None = None) -> Answer:
    """Create a promise and acquire its task, or acquire a pending task.

    Args:
        tx: the transaction.
        request: the request.
        step: a promise to create together with the first one, and to send together with its task.
    """
    wanted = request.action.data
    promise = tx.promise(wanted.id)
    if promise is None:
        promise = tx.add(wanted)
        if promise.state == "pending":
            version = tx.add_leased(promise.n, wanted.tags.get(TARGET, ""), request.pid, request.ttl)
            steps = [tx.add(step).record()] if step is not None else []
            return _acquired(201, promise, version, request.pid, request.ttl, steps)
        return _fulfilled(promise)
    if promise.state != "pending" and promise.tag(TARGET) is not None:
        return _fulfilled(promise)
    task = _task(tx, promise.n)
    if task is None or task.state != "pending":
        return refusal(409, f"promise {promise.id} exists")
    version = tx.lease(promise.n, task.version, request.pid, request.ttl)
    return _acquired(200, promise, version, request.pid, request.ttl, tx.steps(promise.n, MAX_STEPS))


def acquire(tx: Transaction, request: wire.AcquireTask) -> Answer:
    """Acquire a task that was offered.

    Args:
        tx: the transaction.
        request: names the task, its version, the new owner and the length of the lease.
    """
    promise = tx.promise(request.id)
    task = None if promise is None else _task(tx, promise.n)
    if promise is None or task is None:
        return _no_task(promise, request.id)
    if task.state != "pending" or task.version != request.version:
        return refusal(409, f"task {request.id} is {task.state} at version {task.version}")
    version = tx.lease(promise.n, task.version, request.pid, request.ttl)
    return _acquired(200, promise, version, request.pid, request.ttl, tx.steps(promise.n, MAX_STEPS))


def fence(tx: Transaction, request: wire.FenceTask) -> Answer:
    """Create or settle a promise, if the caller still owns the task.

    Args:
        tx: the transaction.
        request: names the task and its version, and has the change of the promise.
    """
    held = _held(tx, request)
    if isinstance(held, Answer):
        return held
    try:
        inner = wire.fenced(request.action)
    except msgspec.MsgspecError as error:
        return refusal(400, str(error))
    answer = promises.create(tx, inner) if isinstance(inner, wire.CreatePromise) else promises.settle(tx, inner)
    if "promise" not in answer.data:
        return answer
    # No other process creates steps of this task, so there is nothing to send with the answer.
    return Answer(200, {"action": {"data": answer.data}})


def suspend(tx: Transaction, request: wire.SuspendTask) -> Answer:
    """Suspend a task until one of some promises is settled; if one is settled already, the owner continues at once.

    Args:
        tx: the transaction.
        request: names the task, its version and the promises to wait for.
    """
    held = _held(tx, request)
    awaited = [tx.promise(action.data.awaited) for action in request.actions]
    if isinstance(held, Answer):
        returned = [promise for promise in awaited if promise is not None and RETURNED in promise.tags]
        # The promise that it waits for was settled, and its own promise with it: nothing is left to do.
        return Answer(200) if any(step.state != "pending" for step in returned) else held
    if None in awaited:
        return refusal(422, f"task {request.id} waits for a promise that does not exist")
    if any(promise.state != "pending" for promise in awaited if promise is not None):
        return Answer(300, {"preload": tx.steps(held.n, MAX_STEPS)})
    tx.sql.executemany(
        "INSERT OR IGNORE INTO callbacks VALUES (?, ?)", [(promise.n, held.n) for promise in awaited if promise]
    )
    tx.sql.execute("UPDATE tasks SET state = 'suspended', owner = NULL, ttl = NULL, due = NULL WHERE n = ?", (held.n,))
    return Answer(200)


def fulfill(tx: Transaction, request: wire.FulfillTask) -> Answer:
    """Settle the promise of a task, if the caller still owns the task.

    Args:
        tx: the transaction.
        request: names the task and its version, and has the state and value of its promise.
    """
    held = _held(tx, request)
    if isinstance(held, Answer):
        return held
    return promises.settle(tx, request.action.data)


def release(tx: Transaction, request: wire.ReleaseTask) -> Answer:
    """Release a task. It is offered again after a delay.

    Args:
        tx: the transaction.
        request: names the task and its version.
    """
    held = _held(tx, request)
    if isinstance(held, Answer):
        return held
    tx.free([held.n], tx.now + RELEASE_DELAY_MS)
    return Answer(200)


def heartbeat(tx: Transaction, request: wire.Heartbeat) -> Answer:
    """Renew the leases that the caller still owns.

    Args:
        tx: the transaction.
        request: names the owner and the tasks with their versions.
    """
    tx.sql.executemany(
        "UPDATE tasks SET due = ? + ttl WHERE n = (SELECT n FROM promises WHERE id = ?)"
        " AND state = 'acquired' AND version = ? AND owner = ?",
        [(tx.now, task.id, task.version, request.pid) for task in request.tasks],
    )
    return Answer(200)


def _task(tx: Transaction, n: int) -> Task | None:
    row = tx.sql.execute("SELECT n, state, version, target FROM tasks WHERE n = ?", (n,)).fetchone()
    return None if row is None else Task(*row)


def _held(
    tx: Transaction, request: wire.FenceTask | wire.SuspendTask | wire.FulfillTask | wire.ReleaseTask
) -> Task | Answer:
    """Return the task if the caller still owns it, and the refusal if not."""
    promise = tx.promise(request.id)
    task = None if promise is None else _task(tx, promise.n)
    if task is None:
        return _no_task(promise, request.id)
    if task.state != "acquired" or task.version != request.version:
        return refusal(
            409, f"task {request.id} is {task.state} at version {task.version}, so the caller does not own it"
        )
    return task


def _acquired(
    status: int, promise: Promise, version: int, pid: str, ttl: int, steps: list[wire.PromiseRecord]
) -> Answer:
    task = wire.TaskRecord(promise.id, "acquired", version, pid, ttl)
    return Answer(status, {"task": task, "promise": promise.record(), "preload": steps})


def _fulfilled(promise: Promise) -> Answer:
    task = wire.TaskRecord(promise.id, "fulfilled", 0)
    return Answer(200, {"task": task, "promise": promise.record(), "preload": []})


def _no_task(promise: Promise | None, task_id: str) -> Answer:
    if promise is None:
        return refusal(404, f"task {task_id} not found")
    return refusal(409, f"task {task_id} has ended or never existed")
