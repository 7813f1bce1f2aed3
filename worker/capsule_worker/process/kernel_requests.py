"""Commands that a person gives to the kernel from within a cell: a question to the front, and a wait for its answer."""

from __future__ import annotations

import queue
from typing import Any

from capsule_worker.process import execution_context
from capsule_worker.process.channel import Channel
from capsule_worker.protocol.messages import CommandMessage, CommandReplyMessage


class RequestRefused(Exception):
    """A command cannot be carried out. The message says why."""


class KernelRequests:
    """Sends commands to the front. One for the worker's life."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._answers: dict[str, queue.SimpleQueue[CommandReplyMessage]] = {}
        self._count = 0
        self._forked = False

    def answer(self, reply: CommandReplyMessage) -> None:
        """Hand an answer to the code that waits for it; called by the thread that reads the channel."""
        waiting = self._answers.get(reply.command_id)
        if waiting is not None:
            waiting.put(reply)

    def after_fork_in_child(self) -> None:
        """In a forked child nobody answers."""
        self._forked = True

    def ask(self, command: str, **arguments: Any) -> CommandReplyMessage:
        """Have the front carry out a command.

        Raises:
            CommandRefused: it cannot be carried out.
        """
        if self._forked:
            raise RequestRefused("only the cell itself can ask, not a process that it forked")
        self._count += 1
        command_id = str(self._count)
        answers: queue.SimpleQueue[CommandReplyMessage] = queue.SimpleQueue()
        self._answers[command_id] = answers
        try:
            self._channel.send(
                CommandMessage(
                    id=command_id, execution_id=execution_context.current(), command=command, arguments=arguments
                )
            )
            reply = answers.get()
        finally:
            del self._answers[command_id]
        if reply.error is not None:
            raise RequestRefused(reply.error)
        return reply
