"""Hooks of the notebook belong to a thread, and checkpoints know whether hooks are registered."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from capsule_worker.checkpoints.analysis.background_activity import hooks
from capsule_worker.output.publish_hooks import OfThread, Publisher

SHELL = SimpleNamespace(client_debugger=None, user_ns={}, events=SimpleNamespace(callbacks={}))


class Part(Publisher):
    """A publisher."""

    def __init__(self) -> None:
        self._of_thread = OfThread()


def test_checkpoints_check_everything_while_hooks_are_registered() -> None:
    part = Part()
    assert not hooks(SHELL)
    part.register_hook(dict)
    assert hooks(SHELL)
    assert (part.unregister_hook(dict), part.unregister_hook(dict)) == (True, False)
    assert not hooks(SHELL)


def test_hooks_belong_to_the_thread_that_registered_them() -> None:
    part, found = Part(), list[bool]()
    part.register_hook(dict)
    other = threading.Thread(target=lambda: found.append(part.unregister_hook(dict)))
    other.start()
    other.join()
    assert (found, part.unregister_hook(dict)) == ([False], True)
