"""The thread that keeps the file small: it moves the write-ahead log into the file and deletes old promises.

Both may wait for the disk, so they have a connection and a thread of their own.
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

#: Seconds between two rounds if there are few requests.
INTERVAL = 600.0
#: Pages of the log from which on it is restarted.
MAX_LOG_PAGES = 2000
#: Seconds between two steps, so that other connections get the file.
STEP_DELAY = 0.005
#: Seconds for which maintenance waits for other connections. They wait as long for it while it restarts the log.
TIMEOUT = 0.05


class Maintenance:
    """Runs rounds of maintenance: at the start, on request, and at regular intervals.

    Args:
        path: the file.
        synchronous: SQLite's setting of this name.
        retention: which promises are kept.
        clock: milliseconds since the epoch.
    """

    def __init__(self, path: Path, synchronous: Synchronous, retention: Retention, clock: Clock = now_ms) -> None:
        self._path = path
        self._synchronous = synchronous
        self._retention = retention
        self._clock = clock
        self._requested = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine maintenance", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._requested.set()
        self._thread.start()

    def wake(self) -> None:
        """Request a round."""
        self._requested.set()

    def stop(self) -> None:
        """End the thread and wait for it. Idempotent."""
        self._stopping.set()
        self._requested.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            database = Database(self._path, SCHEMA, self._synchronous, TIMEOUT)
        except StoreError:
            logger.exception("the engine's file is not maintained")
            return
        try:
            while not self._stopping.is_set():
                self._requested.wait(INTERVAL)
                self._requested.clear()
                try:
                    self.round(database)
                except StoreError as error:
                    logger.warning("maintenance failed and will be tried again: %s", error)
        finally:
            database.close()

    def round(self, database: Database) -> None:
        """Shorten the log and delete old promises.

        Args:
            database: the file.

        Raises:
            StoreError: the file cannot be used.
        """
        shorten(database)
        after: int | None = 0
        while after is not None and not self._stopping.wait(STEP_DELAY):
            with contextlib.suppress(StoreBusy), database.writing() as sql:
                after = sweep(sql, self._retention, self._clock(), after)


def shorten(database: Database) -> None:
    """Move the log into the file; restart the log if it is long.

    Args:
        database: the file.
    """
    with database.using() as sql:
        # Other connections keep writing meanwhile, so the log is seldom empty after this.
        _, pages, _ = sql.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages > MAX_LOG_PAGES:
            # The few pages that were added since are moved while others wait, so that the log can start over.
            sql.execute("PRAGMA wal_checkpoint(RESTART)")
