"""Publishes the outputs of cells, each as a consequence of the request that caused it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from capsule_kernel.jupyter import contents
from capsule_kernel.jupyter.sockets import IOPub
from capsule_worker.protocol import Output
from capsule_worker.protocol import messages as m

#: Executions whose late outputs can still be attributed to their requests.
MAX_REQUESTS = 10_000


class OutputPublisher:
    """Publishes outputs.

    Args:
        iopub: the socket.
        topic: returns the topic of a message type.
    """

    def __init__(self, iopub: IOPub, topic: Callable[[str], bytes]) -> None:
        self._iopub = iopub
        self._topic = topic
        self._requests: OrderedDict[str, Any] = OrderedDict()

    def remember(self, execution_id: str, request: Any, count: int | None = None) -> None:
        """Attribute the outputs of an execution to a request from now on.

        Args:
            execution_id: the execution.
            request: the whole request.
            count: the number of the cell; None if the request is not a cell.
        """
        allow_stdin = bool(request["content"].get("allow_stdin", False))
        content = {"allow_stdin": allow_stdin, "execution_count": count}
        self._requests[execution_id] = {"header": request["header"], "content": content}
        if len(self._requests) > MAX_REQUESTS:
            self._requests.popitem(last=False)

    def request_of(self, execution_id: str) -> Any:
        """Return the header of an execution's request, and whether its client answers inputs; empty if unknown.

        Args:
            execution_id: the execution.
        """
        return self._requests.get(execution_id, {})

    def publish(self, execution_id: str, output: Output) -> None:
        """Publish an output of an execution.

        Args:
            execution_id: the execution. If its request is unknown, the output belongs to none.
            output: the output.
        """
        msg_type, body = contents.output_message(output)
        if execution_id in self._requests:
            self._requests.move_to_end(execution_id)
        metadata: dict[str, Any] = {}
        buffers: list[bytes] = []
        if isinstance(output, m.CommOutput):
            metadata, buffers = output.metadata, output.buffers
        self._iopub.send(
            msg_type,
            body,
            self._requests.get(execution_id, {}),
            metadata=metadata,
            topic=self._topic(msg_type),
            buffers=buffers,
        )
