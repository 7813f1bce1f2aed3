"""What a session can do at the client: show text and objects, ask for input, render answers, end the kernel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capsule_worker.protocol import Output
from capsule_worker.protocol.messages import MimeBundle, StreamOutput

if TYPE_CHECKING:
    from capsule_worker.protocol.messages import Answer


@dataclass(frozen=True, slots=True)
class InputPrompt:
    """An input that a cell waits for.

    Args:
        execution_id: the cell's execution.
        answer_id: the promise that an answer at the client resolves (``Bridge.answer``).
        prompt: what to show.
        password: whether the answer must not be shown or kept.
    """

    execution_id: str
    answer_id: str
    prompt: str
    password: bool


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The ways from a session to the people at its clients. None of them may block.

    Args:
        stream: shows text below the cell of an execution, which may have ended.
        display: shows, updates or clears rich output there.
        prompt: shows a question at the client.
        leave: ends the kernel when no cell runs any more.
        subshells: returns the ids of the subshells.
        render: returns how the answer to a request is displayed; empty if it is not.
    """

    stream: Callable[[str, StreamOutput], None]
    display: Callable[[str, Output], None]
    prompt: Callable[[InputPrompt], None]
    leave: Callable[[], None] = lambda: None
    subshells: Callable[[], list[str]] = list
    render: Callable[[Answer], MimeBundle] = lambda _: {}


#: Answers a cell's input: execution id, prompt, password -> the text.
AskInput = Callable[[str, str, bool], Awaitable[str]]
