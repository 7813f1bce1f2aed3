"""The history of a notebook's cells, which IPython keeps in a file."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

from IPython.core import history

from capsule_worker.shell import ipython_private

IN_MEMORY = ":memory:"
#: Seconds between two writes to the history file. Each is a commit to disk, and competes with the next cell.
FLUSH_INTERVAL_SECONDS = 0.25


class HistoryManager(history.HistoryManager):
    """Begins a session only with the first cell.

    Spare workers would otherwise put empty sessions between those of two kernels, and ``%history ~1/`` counts sessions.
    The class keeps its name since ``%config`` knows it by that.
    """

    opened = False

    def _get_hist_file_name(self, profile: Any = None) -> Any:
        """Return where the history is kept by default: in memory, if no file can be locked."""
        file: Any = super()._get_hist_file_name(profile)
        if _can_be_locked(file.parent):
            return file
        self.log.warning("the history is lost at the end of this process: no file can be locked in %s", file.parent)
        return IN_MEMORY

    def new_session(self, conn: Any = None) -> None:
        """Begin a session, if the history is open.

        Args:
            conn: connection to the database; None for that of the history.
        """
        if self.opened:
            super().new_session(conn)

    def open(self) -> None:
        """Begin the first session, once."""
        if self.opened:
            return
        self.opened = True
        try:
            self.new_session()
        except sqlite3.OperationalError as error:
            self.log.warning("the history of this notebook is not kept in %s: %s", self.hist_file, error)
            self.enabled = False

    def continue_session(self, session: int) -> None:
        """Continue the session of a process that has ended, and write what it could not write any more.

        Args:
            session: its number; its lines are in memory.
        """
        if not self.enabled or not session:
            return
        lines = zip(self.input_hist_parsed, self.input_hist_raw, strict=False)
        rows = [(session, number, parsed, raw) for number, (parsed, raw) in enumerate(lines) if raw]
        try:
            (last,) = self.db.execute("SELECT max(line) FROM history WHERE session = ?", (session,)).fetchone()
            if (last or 0) >= len(self.input_hist_raw):
                return  # another kernel has continued it
            with self.db:
                self.db.executemany("INSERT OR IGNORE INTO history VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            self.log.warning("the history in %s was not brought up to date: %s", self.hist_file, error)
        if not self.opened:
            self.opened, self.session_number = True, session

    def continue_at(self, count: int, is_repeated: bool) -> None:
        """Continue with a cell of another number than the next one.

        Args:
            count: its number. A crash of the worker leaves a gap before it.
            is_repeated: whether the cell runs again: its number is taken, so a new session begins in the file.
        """
        if is_repeated:
            outputs: dict[Any, Any] = self.output_hist
            for number in [earlier for earlier in outputs if earlier >= count]:
                del outputs[number]
            if self.enabled:
                self.writeout_cache()
                self.new_session()
        for inputs in (self.input_hist_parsed, self.input_hist_raw):
            del inputs[count:]
            inputs.extend([""] * (count - len(inputs)))

    def renew(self) -> None:
        """Continue the history in a fork of the process."""
        if not self.enabled or str(self.hist_file) == IN_MEMORY:
            return
        ipython_private.renew_history_thread(self)
        # The fork must not write again what the original has written since.
        (last,) = self.db.execute(
            "SELECT coalesce(max(line), 0) FROM history WHERE session = ?", (self.session_number,)
        ).fetchone()
        self.db_input_cache = [entry for entry in self.db_input_cache if entry[0] > last]
        ipython_private.start_history_thread(self)


class HistoryFlush:
    """Writes the history after cells: at once for a cell that a person ran, and once for many in a burst.

    Args:
        manager: the history.
        loop: the loop on which cells run.
    """

    def __init__(self, manager: HistoryManager, loop: asyncio.AbstractEventLoop) -> None:
        self._manager = manager
        self._loop = loop
        self._flushed_at = 0.0
        self._is_scheduled = False

    def schedule(self) -> None:
        """Write what is not in the history file yet, now or soon."""
        if self._loop.time() - self._flushed_at > FLUSH_INTERVAL_SECONDS:
            self._flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_later(FLUSH_INTERVAL_SECONDS, self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        self._flushed_at = self._loop.time()
        ipython_private.flush_history(self._manager)


def _can_be_locked(directory: Path) -> bool:
    """Return whether files in a directory can be locked. Where they cannot, SQLite waits 5 s for each lock."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
    finally:
        os.close(fd)
    return True
