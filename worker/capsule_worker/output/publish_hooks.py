"""Functions of the notebook's that see what a thread shows before it leaves; they may change it, or keep it.

As in ipykernel each belongs to the thread that has registered it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

#: Takes a message, and returns it, or another one, or None where nothing is to be sent.
Hook = Callable[[dict[str, Any]], "dict[str, Any] | None"]


class OfThread(threading.local):
    """The hooks of each thread."""

    #: Those of all threads, and of all that has some.
    registered = 0

    def __init__(self) -> None:
        self.hooks: list[Hook] = []


class Publisher:
    """What ipykernel's streams, display hook and publisher have beside what they are for."""

    #: What its messages are sent under, where there are sockets.
    topic: bytes | None = None
    pub_socket = None
    _of_thread: OfThread

    @property
    def session(self) -> Any:
        """What sends to clients; see ``stand_ins``."""
        return _kernel().session

    @property
    def parent_header(self) -> dict[str, Any]:
        """The header of the request that the calling code belongs to."""
        header: dict[str, Any] = _kernel().get_parent()["header"]
        return header

    @parent_header.setter
    def parent_header(self, header: dict[str, Any]) -> None:
        self.set_parent(header)

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Have what the calling thread or task shows appear below the cell of a request, or of its header."""
        InteractiveShell.instance().set_parent(parent)  # type: ignore[attr-defined]  # it is ours

    def set_thread_parent(self, parent: dict[str, Any]) -> Any:
        """Do as ``set_parent``; return what ``reset_thread_parent`` takes."""
        return InteractiveShell.instance().set_thread_parent(parent)  # type: ignore[attr-defined]  # as above

    def reset_thread_parent(self, token: Any) -> None:
        """Undo ``set_thread_parent``."""
        InteractiveShell.instance().reset_thread_parent(token)  # type: ignore[attr-defined]  # as above

    @property
    def _hooks(self) -> list[Hook]:
        return self._of_thread.hooks

    def register_hook(self, hook: Hook) -> None:
        """Have a function see what this thread shows here."""
        self._hooks.append(hook)
        OfThread.registered += 1

    def unregister_hook(self, hook: Hook) -> bool:
        """Take back ``register_hook``; return whether there was anything to take back."""
        if hook not in self._hooks:
            return False
        self._hooks.remove(hook)
        OfThread.registered -= 1
        return True

    def _send(self, kind: str, content: dict[str, Any]) -> None:
        """Send a message, by way of the hooks. What they show themselves goes past them."""
        message: dict[str, Any] | None = self.session.msg(kind, content, parent=self.parent_header)
        hooks, self._of_thread.hooks = self._of_thread.hooks, []
        try:
            for hook in hooks:
                message = hook(message) if message is not None else None
        finally:
            self._of_thread.hooks = hooks
        if message is not None:
            self.session.send(self.pub_socket, message, ident=self.topic)


def _kernel() -> Any:
    return InteractiveShell.instance().kernel  # type: ignore[attr-defined]  # as above
