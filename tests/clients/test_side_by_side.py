"""Several things at once: requests while a cell runs, several clients, several transports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.conversation import Conversation
from tests.support.kernels import INTERRUPT, INTERRUPTS
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

    from tests.support.kernels import Opened

ASK: dict[str, Callable[[BlockingKernelClient], str]] = {
    "kernel_info": lambda client: client.kernel_info(),
    "complete": lambda client: client.complete("known_na"),
    "inspect": lambda client: client.inspect("known_name"),
    "is_complete": lambda client: client.is_complete("for i in x:"),
    "history": lambda client: client.history(hist_access_type="tail", n=1),
    "comm_info": lambda client: client.comm_info(),
}

EXPECT: dict[str, tuple[str, object]] = {
    "complete": ("matches", ["known_name"]),
    "inspect": ("found", True),
    "is_complete": ("status", "incomplete"),
}


@pytest.fixture
def second(shared_kernel: Opened) -> Iterator[Conversation]:
    """Return a second client's conversation with the shared kernel."""
    client = shared_kernel[0].client()
    client.session.session = f"{client.session.session}-second"
    client.start_channels()
    client.wait_for_ready(timeout=DEADLINE)
    yield Conversation(client)
    client.stop_channels()


def end(opened: Opened, request: str) -> None:
    """End a cell that runs; a kernel in which it cannot be ended is not handed on."""
    if INTERRUPTS:
        manager, kernel = opened
        manager.interrupt_kernel()
        kernel.finish(request)


def test_the_control_channel_answers_while_a_cell_runs(shared_kernel: Opened) -> None:
    _, kernel = shared_kernel
    request = kernel.start("import time\nprint('started')\ntime.sleep(60)")
    (answer,) = kernel.finish(kernel.send_control("kernel_info_request"))
    assert answer.reply["status"] == "ok"
    assert not kernel.exchange(request).replies
    end(shared_kernel, request)


@pytest.mark.capsule_only
@pytest.mark.parametrize("ask", ASK)
def test_a_request_is_answered_while_a_cell_sleeps(shared_kernel: Opened, ask: str) -> None:
    _, kernel = shared_kernel
    kernel.run("known_name = 1")
    request = kernel.start("import time\nprint('started')\ntime.sleep(60)")
    (answer,) = kernel.finish(ASK[ask](kernel.client), deadline=10)
    assert not kernel.exchange(request).replies
    if ask in EXPECT:
        field, value = EXPECT[ask]
        assert answer.reply[field] == value
    end(shared_kernel, request)


@pytest.mark.capsule_only
@pytest.mark.parametrize("ask", ASK)
def test_a_request_is_answered_in_bounded_time_while_a_cell_computes(shared_kernel: Opened, ask: str) -> None:
    _, kernel = shared_kernel
    request = kernel.start("print('started')\nwhile True: pass")
    kernel.finish(ASK[ask](kernel.client), deadline=10)
    assert not kernel.exchange(request).replies
    end(shared_kernel, request)


def test_two_clients_share_a_namespace_and_each_gets_its_own_replies(
    kernel: Conversation, second: Conversation
) -> None:
    kernel.run("shared = 'from the first'")
    exchange = second.run("shared")
    assert exchange.result == "'from the first'"
    assert exchange.reply["status"] == "ok"
    kernel.listen_until(lambda: "idle" in kernel.exchange(exchange.request).states, "seen by the first too")
    seen = kernel.exchange(exchange.request)
    assert seen.result == "'from the first'"
    assert seen.replies == []


def test_cells_of_two_clients_run_one_after_the_other(kernel: Conversation, second: Conversation) -> None:
    kernel.run("order = []")
    ours = [kernel.client.execute(f"order.append(('a', {i}))") for i in range(5)]
    theirs = [second.client.execute(f"order.append(('b', {i}))") for i in range(5)]
    kernel.finish(*ours)
    second.finish(*theirs)
    assert kernel.run("[n for who, n in order if who == 'a']").result == "[0, 1, 2, 3, 4]"
    assert kernel.run("[n for who, n in order if who == 'b']").result == "[0, 1, 2, 3, 4]"


def test_a_question_goes_to_the_client_whose_cell_asks(kernel: Conversation, second: Conversation) -> None:
    request = second.client.execute("input('Who? ')", allow_stdin=True)
    assert second.asked(request)["prompt"] == "Who? "
    second.answer("the second")
    (exchange,) = second.finish(request)
    assert exchange.result == "'the second'"
    kernel.run("0")
    assert not [one for one in kernel.heard if one.channel == "stdin" and one.parent == request]


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_kernel_serves_every_transport(open_kernel: Callable[..., Opened], transport: str) -> None:
    manager, kernel = open_kernel(transport=transport)
    assert manager.transport == transport
    exchange = kernel.run("print('Ada')\n6 * 7")
    assert exchange.text() == "Ada\n"
    assert exchange.result == "42"
    if INTERRUPTS:
        request = kernel.start("import time\nprint('started')\ntime.sleep(60)")
        manager.interrupt_kernel()
        (interrupted,) = kernel.finish(request)
        assert interrupted.reply["ename"] == INTERRUPT
    kernel.client.hb_channel.unpause()
    assert manager.is_alive()


def test_the_heartbeat_continues_while_a_cell_computes(shared_kernel: Opened) -> None:
    _, kernel = shared_kernel
    request = kernel.start("print('started')\nwhile True: pass")
    heart = kernel.client.hb_channel
    heart.unpause()
    kernel.listen_until(heart.is_beating, "a heartbeat")
    heart.pause()
    end(shared_kernel, request)
