"""A program in a pseudo-terminal, and a person who types when it asks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import pexpect

from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Sequence

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[=>()][0B]?")


class Terminal:
    """What a program shows in a terminal of its own, as text without the sequences for colour and place."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Start a program, in an environment like that of a person's shell."""
        environment = {**environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "LC_ALL": "C.UTF-8"}
        self._child = pexpect.spawn(
            command[0],
            list(command[1:]),
            env=environment,
            encoding="utf-8",
            dimensions=(50, 160),
            timeout=DEADLINE,
        )
        self.shown = ""
        self._raw = ""
        self._read_to = 0

    def __enter__(self) -> Self:
        """Return the terminal."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the program, however it is."""
        self._child.close(force=True)

    def see(self, pattern: str) -> str:
        """Wait until text that matches comes after the last text seen, and return it.

        Raises:
            AssertionError: it did not come; the error holds all that was shown.

        """
        while not (match := re.compile(pattern).search(self.shown, self._read_to)):
            try:
                self._raw += self._child.read_nonblocking(4096, timeout=DEADLINE)
            except (pexpect.TIMEOUT, pexpect.EOF) as error:
                unread = self.shown[self._read_to :]
                msg = f"{pattern!r} was not shown ({type(error).__name__}), but {unread!r}"
                raise AssertionError(msg) from error
            self.shown = ESCAPES.sub("", self._raw)
        self._read_to = match.end()
        return match.group()

    def type(self, text: str) -> None:
        """Type text and press Enter."""
        self._child.send(text + "\r")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._child.sendintr()

    def wait_for_end(self) -> int:
        """Wait until the program has ended by itself, and return its exit status."""
        self._child.expect(pexpect.EOF)
        self._child.wait()
        if self._child.exitstatus is not None:
            return int(self._child.exitstatus)
        assert self._child.signalstatus is not None
        return -int(self._child.signalstatus)
