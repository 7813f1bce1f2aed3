"""Cells that speak to the front in the worker's place: the front stays, and the next cell works."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.cli import capsule
from tests.support.kernels import Kernel, kernel
from tests.support.processes import outside

MB = 1 << 20
#: The socket of the protocol as ``sock``, those of the copies as ``others``, and what it takes to forge.
HELD = """
import gc, msgpack, os, socket, struct, sys, time
from capsule_worker.protocol import encode, messages as m
sys.stdout.flush()
loop = next(o for o in gc.get_objects() if type(o).__name__ == 'MessageLoop')
sock, running = loop._channel._sock, loop._running_id
others = [socket.socket(fileno=os.dup(int(fd))) for fd in os.listdir('/proc/self/fd')
          if os.path.exists(f'/proc/self/fd/{fd}') and os.readlink(f'/proc/self/fd/{fd}').startswith('socket:')]
others = [one for one in others if one.family == socket.AF_UNIX and one.type == socket.SOCK_SEQPACKET]
def push(data):
    rest = memoryview(data)
    with loop._channel._lock:  # frames of the worker's own threads must not come in between
        while rest:
            try: rest = rest[sock.send(rest):]
            except BlockingIOError: time.sleep(0.001)
def frame(payload): push(struct.pack('>I', len(payload)) + payload)
"""
#: What ends the worker: nothing that it says can be believed any more.
BROKEN = {
    "a length of 4 GB": "push(b'\\xff' * 4)",
    "10 MB of empty maps": "frame(b'\\xdd' + struct.pack('>I', 10_000_000) + b'\\x80' * 10_000_000)",
    "a million maps in lists": "frame(msgpack.packb({'type': 'output', 'x': [[{} for _ in range(1000)]] * 1001}))",
    "maps in maps in maps": "frame(b'\\x81\\xa1a' * 100_000 + b'\\xc0')",
    "a type that is none": "frame(msgpack.packb({'type': '__import__'}))",
    "a field too many": "frame(msgpack.packb({'type': 'heartbeat_reply', 'request_id': '1', 'x': 1}))",
    "a request of no kind": (
        "frame(msgpack.packb({'type': 'request', 'id': '1', 'execution_id': '', 'request': {'kind': '__class__'}}))"
    ),
    "a request with a text too long": (
        "frame(msgpack.packb({'type': 'request', 'id': '1', 'execution_id': '',"
        " 'request': {'kind': 'show_checkpoint', 'checkpoint': 'x' * 4097}}))"
    ),
    "a request with a list too long": (
        "frame(msgpack.packb({'type': 'request', 'id': '1', 'execution_id': '',"
        " 'request': {'kind': 'list_checkpoints', 'query': ['x'] * 1001}}))"
    ),
    "a pickle": "import pickle\nframe(pickle.dumps(print))",
    "noise": "frame(os.urandom(1_000_000))",
    "half a frame": ("push(struct.pack('>I', 1_000_000) + b'x' * 900_000)\nfor _ in range(300): print('x' * 1000)"),
}
#: What changes nothing.
IGNORED = {
    "results of cells that do not run": (
        "for one in ('', 'other', 'exec.1'):\n    push(encode(m.ResultMessage(execution_id=one, status='ok',"
        " execution_count=1, next_execution_count=10 ** 15, execution_time=0)))"
    ),
    "errors of requests that no process sent": (
        "push(encode(m.ErrorMessage(request_id='1', error_type='KeyboardInterrupt', message='x' * 100_000)))"
    ),
    "answers without a pending request": (
        "push(encode(m.RestoreReplyMessage(request_id='7', restored=['a'] * 10_000)))"
    ),
    "being ready, again and again": (
        "for _ in range(100): push(encode(m.ReadyMessage(protocol_version=99, worker_version='', pid=1,"
        " python_version='', ipython_version='', executable='', banner='', startup_time=0)))"
    ),
    "checkpoints that are none": (
        "for number in (-1, 0, 10 ** 18): push(encode(m.CheckpointSavedMessage(checkpoint_id='../..', number=number)))"
    ),
    "requests that no code of a cell makes": (
        "ask = lambda request: push(encode(m.RequestMessage(id='c', execution_id='other', request=request)))\n"
        "for text in ('', '../..', '__class__', 'x' * 4096):\n"
        "    ask(m.RestoreRequest(checkpoint=text, variables=[text]))\n"
        "    ask(m.UndoRequest(cells=10 ** 15, head=text))\n"
        "    ask(m.ResumeRequest(session=text))\n"
        "    ask(m.DeleteCheckpointsRequest(checkpoints=[text] * 1000))\n"
        "    done = m.RestoreFinishedMessage(checkpoint_id=text, restored=[text], failed={text: text}, whole=True)\n"
        "    push(encode(done))"
    ),
    "more requests than may be open": (
        "one = encode(m.RequestMessage(id='c', execution_id=running, request=m.ListCheckpointsRequest()))\n"
        "for _ in range(20): push(one * 100)"
    ),
    "outputs of cells that never were": (
        "for one in ('', 'other'): push(encode(m.OutputMessage(execution_id=one,"
        " output=m.StreamOutput(name='stdout', text='forged'))))"
    ),
    "numbers that JSON does not know": (
        "for value in (float('nan'), float('inf'), 10 ** 18, b'bytes'):\n"
        "    push(encode(m.OutputMessage(execution_id=running,"
        " output=m.DisplayOutput(data={'application/json': {'a': value}}, metadata={'b': value}))))"
    ),
    "a flood": (
        "one = encode(m.OutputMessage(execution_id='other', output=m.StreamOutput(name='stdout', text='x' * 1000)))\n"
        "for _ in range(50): push(one * 100)"
    ),
    "copies that are none": (
        "note = dict(execution_id='', execution_count=1, checkpoint=None, current=True)\n"
        "for one in others:\n    for data in (b'\\xff', msgpack.packb(1), msgpack.packb(note)):\n"
        "        try: one.send(data)\n        except OSError: pass"
    ),
}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("home"), profile="open") as opened:
        opened.ok("kept = [1]")
        opened.ok("kept.append(2)")
        yield opened


@pytest.mark.parametrize("what", BROKEN)
def test_a_protocol_violation_ends_only_the_worker(one: Kernel, what: str) -> None:
    front = psutil.Process(one.front)
    before = front.memory_info().rss
    told = one.died(f"{HELD}\n{BROKEN[what]}\ntime.sleep(60)")
    assert "broke the protocol" in told
    assert "Your variables are restored to their state after In [" in told
    assert front.memory_info().rss < before + 300 * MB
    assert one.text("print(kept)") == "[1, 2]\n"


@pytest.mark.parametrize("what", IGNORED)
def test_an_unexpected_message_changes_nothing(one: Kernel, what: str) -> None:
    front = psutil.Process(one.front)
    before = front.memory_info().rss
    # A real result follows. The worker that forged the count of cells keeps the forged count.
    done = one.run(f"{HELD}\n{IGNORED[what]}\n'the end'")
    assert done.reply["status"] == "ok", (done.reply, done.text("stderr"))
    assert done.result == "'the end'"
    assert front.memory_info().rss < before + 300 * MB
    assert one.text("print(kept)") == "[1, 2]\n"
    for content in done.of("display_data"):
        json.loads(json.dumps(content, allow_nan=False))


@pytest.mark.parametrize("way", ["a copy", "a worker"])
def test_the_front_ends_no_process_that_a_cell_names(tmp_path: Path, way: str) -> None:
    """It is handed descriptors of processes; what is handed in their place is none of its own."""
    sleeper = subprocess.Popen(["sleep", "100"])
    handed = f"[os.pidfd_open({sleeper.pid})]"
    forge = {
        "a copy": (
            "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            f"socket.send_fds(ours, [b'{sleeper.pid}'], {handed})\n"
            "note = dict(execution_id=running, execution_count=9, checkpoint=None, current=True)\n"
            "for one in others: socket.send_fds(one, [msgpack.packb(note)], [theirs.fileno()])\n"
        ),
        "a worker": (
            "import json\nfor one in others:\n"
            f"    socket.send_fds(one, [json.dumps(dict(forkserver={sleeper.pid})).encode()], {handed})\n"
            f"    socket.send_fds(one, [json.dumps(dict(started='x', pid={sleeper.pid})).encode()], {handed})\n"
        ),
    }[way]
    try:
        with kernel(tmp_path / "home", profile="open") as one:
            one.ok("kept = 1")
            one.ok(f"{HELD}\n{forge}")
            one.run("import os\nos.kill(os.getpid(), 9)")
            one.ok("2")
            # An unexpected interrupt may reach the next cell.
            interrupt = one.talk.send_control("interrupt_request")
            one.talk.listen_until(lambda: one.talk.exchange(interrupt).replies, "interrupt_reply")
            one.ok("3")
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_files_that_a_worker_leaves_behind_are_read_as_text(tmp_path: Path) -> None:
    """Its shared memory, and the file for its stack, may hold anything when it dies."""
    spoil = (
        "import os\nfor fd in os.listdir('/proc/self/fd'):\n    try:\n"
        "        if 'capsule-' in os.readlink('/proc/self/fd/' + fd):\n"
        "            os.pwrite(int(fd), os.urandom(4096), 0); os.ftruncate(int(fd), 5000)\n    except OSError: pass\n"
        "os._exit(1)"
    )
    with kernel(tmp_path / "home") as one:
        one.ok("kept = 1")
        assert "variables are restored" in one.died(spoil)
        assert one.text("print(kept)") == "1\n"


def test_files_that_are_planted_for_the_front_are_not_touched(tmp_path: Path) -> None:
    """A session's directory is written by its worker, and so by cells."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "00000001-x.pack").write_text("precious")
    (secret / "key").write_text("the-secret")
    plant = (
        "import os\nfrom pathlib import Path\nhere = Path({session!r})\n"
        "os.mkfifo(here / 'incoming/00000001-pipe.manifest')\n"
        "(here / 'incoming/00000002-link.manifest').symlink_to({secret!r} + '/key')\n"
        "(here / 'incoming/00000003-noise.manifest').write_bytes(os.urandom(1000))\n"
        "(here / 'incoming/00000004-large.manifest').touch()\n"
        "os.truncate(here / 'incoming/00000004-large.manifest', 1 << 40)\n"
        "(here / 'packs').rename(here / 'moved')\n(here / 'packs').symlink_to({secret!r})\n"
    )
    with kernel(tmp_path / "home", checkpoint_count=1) as one:
        one.ok("kept = 1")
        one.ok("%capsule checkpoint first")
        front = psutil.Process(one.front)
        before = front.memory_info().rss
        session = tmp_path / "home" / "sessions" / one.session
        one.ok(plant.format(session=str(session), secret=str(secret)))
        for number in range(3):
            one.run(f"kept = {number}")
            one.run("%capsule checkpoints")
        one.run("%capsule delete first")
        assert "the-secret" not in "".join(one.run(f"%capsule {word}").text() for word in ("status", "checkpoints"))
        assert front.memory_info().rss < before + 300 * MB
        assert one.text("print('continues')") == "continues\n"
    assert (secret / "00000001-x.pack").read_text() == "precious"
    assert (secret / "key").read_text() == "the-secret"


def test_names_and_labels_are_shown_as_text(tmp_path: Path) -> None:
    """What cells choose is shown to people: in tables in a browser, and in terminals, which obey what they read."""
    with kernel(tmp_path / "home") as one:
        one.ok("print('\\x1b]0;title\\x07\\x1b[31mred')  # \x1b]0;title\x07<script>alert(1)</script>")
        one.ok("%capsule checkpoint '<img src=x>' -m '\x1b[2J<script>'")
        shown = one.ok("%capsule checkpoints").of("display_data")
        html = "".join(content["data"].get("text/html", "") for content in shown)
        assert "&lt;img src=x&gt;" in html
        assert "<script" not in html
        assert "<img" not in html
        of = [[word, one.session] for word in ("cells", "log", "trace", "outputs")]
        for words in (["checkpoints"], ["sessions"], *of):
            done = capsule(one.home, *words, NO_COLOR="1", TERM="xterm")
            assert done.status == 0, done.err
            assert "\x1b]" not in done.out
            assert "\x1b[2J" not in done.out
            assert "\x07" not in done.out
        assert "\x1b[31mred" in done.out


def test_a_process_id_inside_the_sandbox_is_found_outside(tmp_path: Path) -> None:
    with kernel(tmp_path / "home") as one:
        inner = int(one.text("import os\nprint(os.getpid())"))
        assert psutil.Process(outside(one.front, inner)).is_running()
