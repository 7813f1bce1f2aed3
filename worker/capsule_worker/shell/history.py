"""The history of a notebook's cells, which IPython keeps in a file."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

from IPython.core import history

IN_MEMORY = ":memory:"


class HistoryManager(history.HistoryManager):
    """Counts a session when there is something to keep: those of spare workers would stand between two kernels'.

    (``%history ~1/`` is the session whose number is one less.) ``%config`` knows it by this name.
    """

    opened = False

    def _get_hist_file_name(self, profile: Any = None) -> Any:
        """Return where the history is kept where no configuration says it: in memory, if no file can be locked."""
        file: Any = super()._get_hist_file_name(profile)
        if _can_be_locked(file.parent):
            return file
        self.log.warning("the history is kept until the end of this process: no file can be locked in %s", file.parent)
        return IN_MEMORY

    def new_session(self, conn: Any = None) -> None:
        """Begin a session, once the history is open."""
        if self.opened:
            super().new_session(conn)

    def open(self) -> None:
        """Begin the first session."""
        if self.opened:
            return
        self.opened = True
        try:
            self.new_session()
        except sqlite3.OperationalError as error:
            self.log.warning("the history of this notebook is not kept in %s: %s", self.hist_file, error)
            self.enabled = False

    def go_on(self, session: int) -> None:
        """Go on with the session of a process that has ended, and write what it could not write any more.

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
                return  # another kernel has gone on with it
            with self.db:
                self.db.executemany("INSERT OR IGNORE INTO history VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            self.log.warning("the history in %s was not brought up to date: %s", self.hist_file, error)
        if not self.opened:
            self.opened, self.session_number = True, session


def _can_be_locked(directory: Path) -> bool:
    """Tell whether files in a directory can be locked. Where they cannot, SQLite waits 5 s for each lock."""
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
