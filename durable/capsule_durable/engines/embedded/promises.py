"""Requests about promises."""

from __future__ import annotations

from typing import Any

from capsule_durable.engines.embedded import wire
from capsule_durable.engines.embedded.transaction import DELAY, TARGET, TIMER, Promise, Transaction
from capsule_durable.engines.embedded.wire import Answer, refusal

#: How many promises one search request reads. A page can be short or empty and still not be the last.
MAX_READ = 2000

_ALL = "SELECT n, state, tags FROM promises WHERE n > :after ORDER BY n LIMIT :most"
#: Pending promises are few and have an index of their own.
_PENDING = (
    "SELECT n, state, tags FROM promises INDEXED BY promises_due"
    " WHERE state = 'pending' AND n > :after ORDER BY n LIMIT :most"
)
_TAG = "EXISTS (SELECT 1 FROM json_each(tags) WHERE key = :name{0} AND value = :value{0})"


def get(tx: Transaction, request: wire.GetPromise) -> Answer:
    """Read a promise.

    Args:
        tx: the transaction.
        request: names the promise.
    """
    promise = tx.promise(request.id)
    return no_promise(request.id) if promise is None else _answer(200, promise)


def create(tx: Transaction, request: wire.CreatePromise) -> Answer:
    """Create a promise, and its task if it has a target; an existing promise is not changed.

    Args:
        tx: the transaction.
        request: the promise to create.
    """
    promise = tx.promise(request.id)
    if promise is not None:
        return _answer(200, promise)
    promise = tx.add(request)
    if promise.state != "pending":
        return _answer(200, promise)
    target = request.tags.get(TARGET)
    # A timer is settled by its timeout. It has a target only for servers without timers of their own: the SDK drops the
    # task, because there is nothing to run.
    if target is not None and request.tags.get(TIMER) != "true":
        delay = request.tags.get(DELAY, "")
        tx.add_task(promise.n, promise.id, target, max(int(delay) if delay.isdecimal() else 0, tx.now))
    return _answer(201, promise)


def settle(tx: Transaction, request: wire.SettlePromise) -> Answer:
    """Settle a promise; one that is settled already is not changed.

    Args:
        tx: the transaction.
        request: names the promise, and has its new state and value.
    """
    promise = tx.promise(request.id)
    if promise is None:
        return no_promise(request.id)
    if promise.state == "pending":
        promise = tx.settle(promise, request.state, bytes(request.value).decode(), tx.now)
    return _answer(200, promise)


def listen(tx: Transaction, request: wire.Listen) -> Answer:
    """Notify an address of the settlement, unless the promise is settled already.

    Args:
        tx: the transaction.
        request: names the promise and the address to notify.
    """
    promise = tx.promise(request.awaited)
    if promise is None:
        return no_promise(request.awaited)
    if promise.state == "pending":
        if request.address in tx.here.addresses:
            # The listener ends with this process, so it needs no row.
            tx.awaited.add(promise.id)
        else:
            tx.sql.execute("INSERT OR IGNORE INTO listeners VALUES (?, ?)", (promise.n, request.address))
    return _answer(200, promise)


def search(tx: Transaction, request: wire.SearchPromises) -> Answer:
    """List promises by state and tags, page by page.

    Args:
        tx: the transaction.
        request: the state and tags to search for, and the page.
    """
    cursor = request.cursor or "0"
    if not cursor.isdecimal():
        return refusal(400, f"not a cursor of this engine: {cursor!r}")
    values: dict[str, Any] = {"after": int(cursor), "most": MAX_READ, "state": request.state, "limit": request.limit}
    conditions = ["n > :after"] if request.state is None else ["state = :state"]
    for number, (name, value) in enumerate(request.tags.items()):
        values |= {f"name{number}": name, f"value{number}": value}
        conditions.append(_TAG.format(number))
    rows = _PENDING if request.state == "pending" else _ALL
    where = " AND ".join(conditions)
    last, read = tx.sql.execute(f"SELECT max(n), count(*) FROM ({rows})", values).fetchone()  # noqa: S608
    found = [
        n
        for (n,) in tx.sql.execute(f"SELECT n FROM ({rows}) WHERE {where} ORDER BY n LIMIT :limit", values)  # noqa: S608
    ]
    page: dict[str, Any] = {"promises": [tx.numbered(n).record() for n in found]}
    if len(found) == request.limit:
        page["cursor"] = str(found[-1])
    elif read == MAX_READ:
        page["cursor"] = str(last)
    return Answer(200, page)


def no_promise(promise_id: str) -> Answer:
    """Return the answer for a promise that does not exist."""
    return refusal(404, f"promise {promise_id} not found")


def _answer(status: int, promise: Promise) -> Answer:
    return Answer(status, {"promise": promise.record()})
