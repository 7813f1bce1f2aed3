"""Context variables outlive a cell, as in a program that is run in one piece: libraries keep their settings in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.conversation import Conversation


def test_what_a_cell_sets_in_its_context_holds_for_the_next(kernel: Conversation) -> None:
    kernel.run("from contextvars import ContextVar\nvariable = ContextVar('variable', default='nothing')")
    kernel.run("token = variable.set('set')")
    kernel.run("import asyncio\nawait asyncio.sleep(0)\nawaited = variable.get()")
    assert kernel.run("awaited, variable.get()").result == "('set', 'set')"
    kernel.run("variable.reset(token)")
    assert kernel.run("variable.get()").result == "'nothing'"


@pytest.mark.capsule_only
def test_what_a_cell_sets_that_awaits_holds_as_well(kernel: Conversation) -> None:
    kernel.run("import asyncio\nfrom contextvars import ContextVar\nvariable = ContextVar('variable')")
    kernel.run("await asyncio.sleep(0)\nvariable.set('set')\nawait asyncio.sleep(0)")
    assert kernel.run("variable.get()").result == "'set'"


def test_settings_of_libraries_hold_for_the_next_cell(kernel: Conversation) -> None:
    kernel.run(
        "import decimal, numpy as np\ndecimal.setcontext(decimal.Context(prec=5))\n"
        "np.seterr(divide='raise'); np.set_printoptions(precision=2)"
    )
    assert kernel.run("decimal.Decimal(1) / 3").result == "Decimal('0.33333')"
    assert kernel.run("np.array([0.123456])").result == "array([0.12])"
    assert kernel.run("np.array([1.0]) / 0").reply["ename"] == "FloatingPointError"


def test_what_the_client_brings_about_sees_what_cells_have_set(kernel: Conversation) -> None:
    cell = kernel.run(
        "import comm\nfrom contextvars import ContextVar\nvariable = ContextVar('variable', default='nothing')\n"
        "variable.set('set')\nchannel = comm.create_comm(target_name='context')\n"
        "channel.on_msg(lambda message: print(variable.get()))"
    )
    (opened,) = cell.of("comm_open")
    message = kernel.client.session.msg("comm_msg", {"comm_id": opened["comm_id"], "data": {}})
    kernel.client.shell_channel.send(message)
    request = message["header"]["msg_id"]
    kernel.listen_until(lambda: "idle" in kernel.exchange(request).states, "the message was taken")
    assert kernel.exchange(request).text() == "set\n"
