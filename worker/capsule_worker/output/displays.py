"""What a cell shows beside text: results and displays, on their way from IPython to the outlet."""

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
    """What belongs to the cell that runs in a thread: beside the main thread's, subshells run some."""

    #: The cell's number, if it is not the shell's.
    number: int | None = None
    #: Its source, where it is in no history.
    source = ""
    #: The traceback of its exception, as lines; None where none was raised.
    last_error: ErrorOutput | None = None
    #: Whether its value could not be shown: then it has failed, as in ipykernel.
    result_failed = False
    #: Whether its value is being turned into its representations, and those.
    formatting = False
    data: dict[str, Any]
    metadata: dict[str, Any]
    #: What IPython tells those who ask for the outcome.
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
        """What becomes of the cell."""
        return running.result

    @exec_result.setter
    def exec_result(self, result: Any) -> None:
        running.result = result

    def quiet(self) -> bool:
        """Whether the cell ends in a semicolon; IPython looks at the last one of the history."""
        if running.number is None:
            return bool(super().quiet())
        return bool(self.semicolon_at_end_of_expression(running.source))

    def start_displayhook(self) -> None:
        """Begin a result; the parts follow."""
        running.formatting = True
        running.data, running.metadata = {}, {}

    def write_output_prompt(self) -> None:
        """Do nothing: the client draws the prompt."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        """Keep the representations of the value."""
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
                _outlet(self).publish(ExecuteResultOutput(**content))
        running.data, running.metadata = {}, {}
        running.formatting = False


class ZMQDisplayPublisher(Publisher, DisplayPublisher):
    """Sends what ``display`` shows, and its updates."""

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
        """Show a mime bundle, or replace those with the same ``display_id``.

        Raises:
            TypeError: the bundle, or its metadata, is no dict.
        """
        self._validate_data(data, metadata)
        if self.store_display_history:
            self._remember(data)
        content = {
            "data": jsonable(data),
            "metadata": jsonable(metadata or {}),
            "transient": jsonable(transient or {}),
        }
        if self._hooks:
            self._send("update_display_data" if update else "display_data", content)
        else:
            _outlet(self).publish(UpdateOutput(**content) if update else DisplayOutput(**content))

    def _remember(self, data: dict[str, Any]) -> None:
        """Keep a display with the outputs of its cell, where IPython does (from version 9 on)."""
        try:
            from IPython.core.history import HistoryOutput
        except ImportError:
            return
        count = self.shell.displayhook.prompt_count
        outputs = self.shell.history_manager.outputs
        outputs.setdefault(count, []).append(HistoryOutput(output_type="display_data", bundle=data))

    def clear_output(self, wait: bool = False) -> None:
        """Clear the cell's output, with ``wait`` when the next output comes."""
        if self._hooks:
            self._send("clear_output", {"wait": bool(wait)})
        else:
            _outlet(self).publish(ClearOutput(wait=bool(wait)))


def _outlet(part: Any) -> OutputWriter:
    """Return the outlet of the shell that a display hook or publisher belongs to."""
    outlet: OutputWriter = part.shell.outlet
    return outlet
