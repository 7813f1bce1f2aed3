"""Results and displays of cells, from IPython to the output writer."""

from __future__ import annotations

import threading
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from traitlets import Bool

from capsule_worker.output.jsonable import jsonable
from capsule_worker.output.output_writer import OutputWriter
from capsule_worker.output.publish_hooks import OfThread, Publisher
from capsule_worker.protocol.messages import (
    ClearOutput,
    DisplayOutput,
    ErrorOutput,
    ExecuteResultOutput,
    UpdateOutput,
)


class Running(threading.local):
    """The state of the cell that runs in a thread: the main thread's, or a subshell's."""

    #: The cell's number, if it is not the shell's.
    number: int | None = None
    #: The source of a cell that is in no history.
    source = ""
    #: The exception that was shown; None if none was.
    last_error: ErrorOutput | None = None
    #: Whether the value of the cell could not be shown: then the cell has failed, as in ipykernel.
    result_failed = False
    #: Whether IPython is making the representations of the value, and those.
    formatting = False
    data: dict[str, Any]
    metadata: dict[str, Any]
    #: IPython's own result of the cell.
    result: Any = None


running = Running()


class ZMQShellDisplayHook(Publisher, DisplayHook):
    """Sends the value of a cell's last expression as ``execute_result``."""

    __module__ = "ipykernel.displayhook"
    topic = b"execute_result"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._of_thread = OfThread()
        super().__init__(*args, **kwargs)

    @property
    def prompt_count(self) -> int:
        """The number of the cell."""
        return running.number or super().prompt_count

    @property
    def exec_result(self) -> Any:
        """IPython's own result of the cell."""
        return running.result

    @exec_result.setter
    def exec_result(self, result: Any) -> None:
        running.result = result

    def quiet(self) -> bool:
        """Return whether the cell ends in a semicolon; IPython looks at the last cell of the history."""
        if running.number is None:
            return bool(super().quiet())
        return bool(self.semicolon_at_end_of_expression(running.source))

    def start_displayhook(self) -> None:
        """Start a result; its parts follow."""
        running.formatting = True
        running.data, running.metadata = {}, {}

    def write_output_prompt(self) -> None:
        """Do nothing: the client draws the prompt."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        """Keep the representations of the value.

        Args:
            format_dict: the representations by MIME type.
            md_dict: their metadata by MIME type.
        """
        running.data, running.metadata = format_dict, md_dict or {}

    def finish_displayhook(self) -> None:
        """Send the result."""
        if running.data:
            content = {
                "execution_count": self.prompt_count,
                "data": jsonable(running.data),
                "metadata": jsonable(running.metadata),
            }
            if self._hooks:
                self._send("execute_result", content)
            else:
                _output_of(self).publish(ExecuteResultOutput(**content))
        running.data, running.metadata = {}, {}
        running.formatting = False


class ZMQDisplayPublisher(Publisher, DisplayPublisher):
    """Sends what ``display`` shows, and updates of it."""

    __module__ = "ipykernel.zmqshell"
    topic = b"display_data"
    store_display_history = Bool(
        default_value=False, help="Whether displays are kept in the history manager's outputs."
    ).tag(config=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._of_thread = OfThread()
        super().__init__(*args, **kwargs)

    def publish(  # the signature is IPython's
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: Any = None,  # noqa: ARG002  # the signature is IPython's
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **kwargs: Any,  # noqa: ARG002  # as above
    ) -> None:
        """Show a MIME bundle, or replace those with the same ``display_id``.

        Args:
            data: the representations by MIME type.
            metadata: their metadata by MIME type.
            source: ignored.
            transient: what is not saved with the notebook, for example a ``display_id``.
            update: whether to replace.
            kwargs: ignored.

        Raises:
            TypeError: the bundle, or its metadata, is not a dict.
        """
        self._validate_data(data, metadata)
        if self.store_display_history:
            self.shell.remember_display(data)
        content = {
            "data": jsonable(data),
            "metadata": jsonable(metadata or {}),
            "transient": jsonable(transient or {}),
        }
        if self._hooks:
            self._send("update_display_data" if update else "display_data", content)
        else:
            _output_of(self).publish(UpdateOutput(**content) if update else DisplayOutput(**content))

    def clear_output(self, wait: bool = False) -> None:
        """Clear the output of the cell.

        Args:
            wait: whether to wait until the next output comes.
        """
        if self._hooks:
            self._send("clear_output", {"wait": bool(wait)})
        else:
            _output_of(self).publish(ClearOutput(wait=bool(wait)))


def _output_of(part: Any) -> OutputWriter:
    """Return the output writer of the shell that a display hook or publisher belongs to."""
    output: OutputWriter = part.shell.output_writer
    return output
