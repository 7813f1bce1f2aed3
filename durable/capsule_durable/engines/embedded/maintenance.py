"""The thread that keeps the file small: moves its log into it, and forgets old promises.

Both may wait for the disk, and so have a connection and a thread of their own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

from resonate.timing import Clock, now_ms

from capsule_durable.engines.embedded.retention import Retention, sweep
from capsule_durable.engines.embedded.schema import SCHEMA
from capsule_durable.storage.errors import StoreBusy, StoreError
from capsule_durable.storage.sqlite import Database, Synchronous

logger = logging.getLogger(__name__)

#: Seconds between two rounds where nothing happens.
INTERVAL = 600.0
#: Pages of the log from which on it is made to begin anew.
PAGES = 2000
#: Seconds between two steps, in which others have the file.
REST = 0.005
#: For how many seconds upkeep waits for others, and they for it: a log begins anew while nobody else can write.
PATIENCE = 0.05


class Maintenance:
    """Runs rounds of upkeep: one at the start, one when told to, one now and then.

    Args:
        path: the file.
        synchronous: as SQLite has it.
        retention: what is kept.
        clock: milliseconds since the epoch.
    """

    def __init__(self, path: Path, synchronous: Synchronous, retention: Retention, clock: Clock = now_ms) -> None:
        self._path = path
        self._synchronous = synchronous
        self._retention = retention
        self._clock = clock
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine upkeep", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._due.set()
        self._thread.start()

    def wake(self) -> None:
        """Have a round soon."""
        self._due.set()

    def stop(self) -> None:
        """End the thread, and wait for it. Idempotent."""
        self._stopping.set()
        self._due.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            database = Database(self._path, SCHEMA, self._synchronous, PATIENCE)
        except StoreError:
            logger.exception("no upkeep")
            return
        try:
            while not self._stopping.is_set():
                self._due.wait(INTERVAL)
                self._due.clear()
                try:
                    self.round(database)
                except StoreError as error:
                    logger.warning("upkeep failed, and will be tried again: %s", error)
        finally:
            database.close()

    def round(self, database: Database) -> None:
        """Forget what is to be forgotten, and shorten the log."""
        shorten(database)
        after: int | None = 0
        while after is not None and not self._stopping.wait(REST):
            with contextlib.suppress(StoreBusy), database.writing() as sql:
                after = sweep(sql, self._retention, self._clock(), after)


def shorten(database: Database) -> None:
    """Move the log into the file; if it is long, see that it begins anew."""
    with database.using() as sql:
        # Without holding others up. They go on writing behind its back, so the log is seldom empty then.
        _, pages, _ = sql.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages > PAGES:
            # What little has come since is moved while others wait, so that the log can begin from its start.
            sql.execute("PRAGMA wal_checkpoint(RESTART)")
