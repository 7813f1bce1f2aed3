"""``input()`` and ``getpass()``: they ask the front, and wait for its answer."""

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
    """Asks the front for input. A worker has one; ``install`` replaces the builtins.

    Args:
        channel: sends the questions.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._answers: dict[str, queue.SimpleQueue[InputResponseMessage]] = {}
        self._count = 0
        self._forked = False
        #: The executions whose client can answer.
        self.allowed: set[str] = set()

    def install(self) -> None:
        """Replace ``input`` and ``getpass.getpass`` by functions that ask the front."""
        builtins.input = self.ask_line
        getpass.getpass = self.ask_password

    def answer(self, response: InputResponseMessage) -> None:
        """Pass an answer to the code that waits for it. The thread that reads the channel calls this.

        Args:
            response: the answer.
        """
        waiting = self._answers.get(response.input_id)
        if waiting is not None:
            waiting.put(response)

    def after_fork_in_child(self) -> None:
        """Refuse questions in a forked child, which gets no answers: they end with EOFError."""
        self._forked = True

    def ask_line(self, prompt: object = "", /) -> str:
        """Do as ``input``.

        Args:
            prompt: the question.

        Raises:
            EOFError: the front refused the question.
            StdinNotImplementedError: the client cannot answer.
        """
        return self._ask(str(prompt), "input", password=False)

    def ask_password(self, prompt: str = "Password: ", *_args: Any, **_kwargs: Any) -> str:
        """Do as ``getpass.getpass``.

        Args:
            prompt: the question.

        Raises:
            EOFError: the front refused the question.
            StdinNotImplementedError: the client cannot answer.
        """
        return self._ask(str(prompt), "getpass", password=True)

    def _ask(self, prompt: str, asked_by: str, *, password: bool) -> str:
        if self._forked:
            raise EOFError(f"{asked_by}() in a forked process: only the process of the cell can ask")
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
            # The traceback should end at the user's line, and not show this function.
            msg = "Interrupted by user"
            raise KeyboardInterrupt(msg) from None
        finally:
            del self._answers[input_id]
        if response.value is None:
            raise EOFError(response.error or "no answer")
        if response.value == "\x04":  # Ctrl-D in a terminal client
            raise EOFError
        return response.value
