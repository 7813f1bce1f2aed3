"""Hooks: the user's functions that see what a thread shows before it is sent. They may change it, or drop it.

As in ipykernel a hook belongs to the thread that registered it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

#: Takes a message, and returns it, or another one, or None to send nothing.
Hook = Callable[[dict[str, Any]], "dict[str, Any] | None"]


class OfThread(threading.local):
    """The hooks of each thread."""

    #: How many hooks all threads have, on all publishers.
    registered = 0

    def __init__(self) -> None:
        self.hooks: list[Hook] = []


class Publisher:
    """The attributes that the streams, display hook and display publisher have in ipykernel besides their own."""

    #: The topic of its messages; see ``session``.
    topic: bytes | None = None
    pub_socket = None
    _of_thread: OfThread

    @property
    def session(self) -> Any:
        """What sends to clients; see ``ipykernel_compat.shell_proxies``."""
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
        """Show the output of the calling thread or task below the cell of a request.

        Args:
            parent: the request, or its header.
        """
        InteractiveShell.instance().set_parent(parent)  # type: ignore[attr-defined]  # it is ours

    def set_thread_parent(self, parent: dict[str, Any]) -> Any:
        """Do as ``set_parent``; return a token for ``reset_thread_parent``.

        Args:
            parent: the request, or its header.
        """
        return InteractiveShell.instance().set_thread_parent(parent)  # type: ignore[attr-defined]  # as above

    def reset_thread_parent(self, token: Any) -> None:
        """Undo ``set_thread_parent``.

        Args:
            token: what it returned.
        """
        InteractiveShell.instance().reset_thread_parent(token)  # type: ignore[attr-defined]  # as above

    @property
    def _hooks(self) -> list[Hook]:
        return self._of_thread.hooks

    def register_hook(self, hook: Hook) -> None:
        """Pass what this thread shows here through a function.

        Args:
            hook: the function.
        """
        self._hooks.append(hook)
        OfThread.registered += 1

    def unregister_hook(self, hook: Hook) -> bool:
        """Undo ``register_hook``; return whether the hook was registered.

        Args:
            hook: the function.
        """
        if hook not in self._hooks:
            return False
        self._hooks.remove(hook)
        OfThread.registered -= 1
        return True

    def _send(self, kind: str, content: dict[str, Any]) -> None:
        """Send a message through the hooks. What a hook shows itself does not pass them again."""
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
