"""The events of the ledger, and whether its chain is intact."""

from __future__ import annotations

from pathlib import Path

from capsule_durable.history.ledger import ChainBreak, Ledger, StoredEvent
from capsule_durable.queries.history import open_history


def list_events(home: Path, session: str | None = None, after: int = 0) -> list[StoredEvent]:
    """Return events in their order.

    Args:
        home: the user's directory.
        session: only events of this session.
        after: only events behind this position, counted from 1.

    Raises:
        NotRecorded: no kernel has recorded anything yet.
        StoreError: the history cannot be read.
    """
    with open_history(home) as database:
        return Ledger(database).events(session, after)


def verify(home: Path) -> tuple[int, ChainBreak | None]:
    """Return how many events are intact, and where the chain is broken, if it is.

    Args:
        home: the user's directory.

    Raises:
        NotRecorded: no kernel has recorded anything yet.
        StoreError: the history cannot be read.
    """
    with open_history(home) as database:
        return Ledger(database).verify()
