"""The front's sockets: nothing that arrives is overlooked, and what is published keeps its order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import zmq
import zmq.asyncio
from jupyter_client.session import Session

from capsule_kernel.jupyter.sockets import BATCH, IOPub, Router
from tests.support.waiting import DEADLINE

pytestmark = pytest.mark.asyncio


class Wires:
    """Sockets of both ends."""

    def __init__(self) -> None:
        self.ours: zmq.Context[Any] = zmq.Context()
        self.theirs = zmq.asyncio.Context()

    def bound(self, kind: int) -> tuple[zmq.Socket[bytes], str]:
        socket = self.ours.socket(kind)
        socket.bind("tcp://127.0.0.1:*")
        return socket, socket.last_endpoint.decode()

    def connected(self, kind: int, address: str) -> zmq.asyncio.Socket:
        socket = self.theirs.socket(kind)
        socket.connect(address)
        return socket


@pytest_asyncio.fixture
async def wires() -> AsyncIterator[Wires]:
    wires = Wires()
    yield wires
    wires.theirs.destroy(linger=0)
    wires.ours.destroy(linger=0)


async def test_a_flood_of_requests_is_answered_one_by_one(wires: Wires) -> None:
    socket, address = wires.bound(zmq.ROUTER)
    router = Router(socket)
    router.on_recv(lambda frames: router.send_multipart([frame.bytes for frame in frames]))
    client = wires.connected(zmq.DEALER, address)
    count = 10 * BATCH
    for number in range(count):
        await client.send(b"%d" % number)
    answers = [await asyncio.wait_for(client.recv(), DEADLINE) for _ in range(count)]
    assert answers == [b"%d" % number for number in range(count)]
    router.close(0)


async def test_a_request_that_arrives_while_another_is_served_is_not_overlooked(wires: Wires) -> None:
    socket, address = wires.bound(zmq.ROUTER)
    router = Router(socket)
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    other = wires.ours.socket(zmq.DEALER)
    other.connect(address)

    def serve(frames: list[zmq.Frame]) -> None:
        seen.put_nowait(frames[-1].bytes)
        if frames[-1].bytes == b"first":
            other.send(b"second")
            # Sending notices that something has come, and the descriptor does not signal it any more.
            for _ in range(200):
                router.send_multipart([frames[0].bytes, b"x" * 1000])

    router.on_recv(serve)
    other.send(b"first")
    assert [await asyncio.wait_for(seen.get(), DEADLINE) for _ in range(2)] == [b"first", b"second"]
    router.close(0)


async def test_held_messages_leave_in_order_when_the_loop_continues(wires: Wires) -> None:
    socket, address = wires.bound(zmq.XPUB)
    socket.setsockopt(zmq.XPUB_MANUAL, 1)
    session = Session(key=b"")
    iopub = IOPub(socket, session)
    client = wires.connected(zmq.SUB, address)
    client.subscribe(b"")
    welcome = await asyncio.wait_for(client.recv_multipart(), DEADLINE)
    assert b"iopub_welcome" in b"".join(welcome)
    iopub.cork()
    for kind in ("one", "two"):
        iopub.send(kind, {}, {})
    held = asyncio.ensure_future(client.recv_multipart())
    await asyncio.sleep(0)
    iopub.send("three", {}, {})
    got = [await asyncio.wait_for(held, DEADLINE)]
    got += [await asyncio.wait_for(client.recv_multipart(), DEADLINE) for _ in range(2)]
    assert [topic for topic, *_ in got] == [b"one", b"two", b"three"]
    iopub.close(0)
