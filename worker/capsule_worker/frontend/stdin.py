"""``input()`` and ``getpass()``: a question to the front, and a wait for the answer."""

from __future__ import annotations

import builtins
import getpass
import queue
import sys
from typing import Any

from IPython.core.error import StdinNotImplementedError

from capsule_worker.process import execution_context
from capsule_worker.process.channel import Channel
from capsule_worker.protocol.messages import InputMessage, InputResponseMessage


class Stdin:
    """Asks the front for lines. One for the worker's life; replaces the builtins by ``install``."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._answers: dict[str, queue.SimpleQueue[InputResponseMessage]] = {}
        self._count = 0
        self._forked = False
        #: The executions whose client can answer at all.
        self.allowed: set[str] = set()

    def install(self) -> None:
        """Let ``input`` and ``getpass.getpass`` ask the front."""
        builtins.input = self.ask_line
        getpass.getpass = self.ask_password

    def answer(self, response: InputResponseMessage) -> None:
        """Hand an answer to the code that waits for it; called by the thread that reads the channel."""
        waiting = self._answers.get(response.input_id)
        if waiting is not None:
            waiting.put(response)

    def after_fork_in_child(self) -> None:
        """In a forked child nobody answers: asking there is the end of the file."""
        self._forked = True

    def ask_line(self, prompt: object = "", /) -> str:
        """Stand for ``input``."""
        return self._ask(str(prompt), "input", password=False)

    def ask_password(self, prompt: str = "Password: ", *_args: Any, **_kwargs: Any) -> str:
        """Stand for ``getpass.getpass``."""
        return self._ask(str(prompt), "getpass", password=True)

    def _ask(self, prompt: str, asked_by: str, *, password: bool) -> str:
        if self._forked:
            msg = f"{asked_by}() in a forked process: only the cell itself can ask"
            raise EOFError(msg)
        if execution_context.current() not in self.allowed:
            msg = f"{asked_by} was called, but this frontend does not support input requests."
            raise StdinNotImplementedError(msg)
        sys.stdout.flush()
        sys.stderr.flush()
        self._count += 1
        input_id = str(self._count)
        answers: queue.SimpleQueue[InputResponseMessage] = queue.SimpleQueue()
        self._answers[input_id] = answers
        try:
            self._channel.send(
                InputMessage(id=input_id, execution_id=execution_context.current(), prompt=prompt, password=password)
            )
            response = answers.get()
        except KeyboardInterrupt:
            # The traceback should end at the user's line, not in here.
            msg = "Interrupted by user"
            raise KeyboardInterrupt(msg) from None
        finally:
            del self._answers[input_id]
        if response.value is None:
            raise EOFError(response.error or "no answer")
        if response.value == "\x04":  # Ctrl-D in a terminal client
            raise EOFError
        return response.value
