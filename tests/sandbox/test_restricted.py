"""The profile ``restricted``: no network, nothing written but in the working directory; or it is refused."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.kernels import KILL, Kernel, kernel

from .test_escapes import ATTEMPTS

#: Code that prints ``ESCAPED`` where it succeeds; ``{port}`` is a server's of the host, ``{abstract}`` the abstract
#: name of another one, ``{marker}`` a file in the host's temporary directory.
MORE = {
    "a server of the host": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)\nprint('ESCAPED')",
    "a server by an abstract name": (
        "import socket\nsock = socket.socket(socket.AF_UNIX)\nsock.connect('\\0' + {abstract!r})\nprint('ESCAPED')"
    ),
    "the network": "import socket\nsocket.create_connection(('192.0.2.1', 80), 2)\nprint('ESCAPED')",
    "a datagram": (
        "import socket\nsock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "print('ESCAPED' if sock.sendto(b'x', ('192.0.2.1', 53)) else '')"
    ),
    "interfaces": "import socket\nprint('ESCAPED' if len(socket.if_nameindex()) > 1 else '')",
    "a file in the home": "import os\nopen(os.path.expanduser('~/planted'), 'w')\nprint('ESCAPED')",
    "a file of the environment": "import sys\nopen(sys.prefix + '/planted', 'w')\nprint('ESCAPED')",
    "a file of the system": "open('/etc/planted', 'w')\nprint('ESCAPED')",
    "rights of a file": "import os\nos.chmod('/etc/hostname', 0o777)\nprint('ESCAPED')",
    "temporary files of others": "import os\nprint('ESCAPED' if {marker!r} in os.listdir('/tmp') else '')",
}
#: Code that works.
WORKS = {
    "files": "open('result.txt', 'w').write('done')\nprint(open('result.txt').read())",
    "temporary files": "import tempfile\nwith tempfile.NamedTemporaryFile() as file: file.write(b'x')",
    "pandas": "import pandas\npandas.DataFrame({'a': [1, 2]}).to_csv('frame.csv')",
    "matplotlib": "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('plot.png')\nplt.close()",
    "sqlite": "import sqlite3\nsqlite3.connect('data.db').execute('CREATE TABLE t (a)')",
    "processes": "import subprocess\nprint(subprocess.run(['ls'], capture_output=True, text=True, check=True).stdout)",
    "pools": (
        "import multiprocessing as mp\n"
        "for way in ('fork', 'spawn', 'forkserver'):\n"
        "    with mp.get_context(way).Pool(2) as pool: assert pool.map(abs, [-1]) == [1]"
    ),
    "shared memory": (
        "from multiprocessing import shared_memory\nblock = shared_memory.SharedMemory(create=True, size=64)\n"
        "block.close(); block.unlink()"
    ),
    "a server of its own": (
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(server.getsockname())\nclient.close(); server.close()"
    ),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    if shutil.which("bwrap") is None:
        if os.environ.get("CI"):
            pytest.fail("bubblewrap is not installed")
        pytest.skip("bubblewrap is not installed")
    marker = Path("/tmp") / f"capsule-test-{os.getpid()}"
    marker.touch()
    name = f"capsule-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        home = tmp_path_factory.mktemp("home")
        other = home / "checkpoints" / "another"
        other.mkdir(parents=True)
        (other / "data").write_text("secret")
        places: dict[str, object] = {"home": str(home), "other": str(other / "data"), "shm": "/dev/shm/none"}
        yield places | {"port": server.getsockname()[1], "abstract": name, "marker": marker.name}
    marker.unlink()


@pytest.fixture(scope="module")
def one(known: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    directory = tmp_path_factory.mktemp("work")
    with kernel(Path(str(known["home"])), profile="restricted", directory=directory) as opened:
        known |= {"connection": opened.connection_file, "front": opened.front, "work": str(directory)}
        known["kernels"] = str(Path(sys.prefix) / "share")
        yield opened


@pytest.mark.parametrize("attempt", [*ATTEMPTS, *MORE])
def test_an_attempt_fails(one: Kernel, known: dict[str, object], attempt: str) -> None:
    done = one.run((ATTEMPTS | MORE)[attempt].format(**known))
    assert "ESCAPED" not in done.text()
    assert one.text("print('goes on')") == "goes on\n"


@pytest.mark.parametrize("what", WORKS)
def test_what_notebooks_do_works(one: Kernel, what: str) -> None:
    one.ok(WORKS[what])


def test_what_is_written_is_there(one: Kernel, known: dict[str, object]) -> None:
    one.ok(f"import os\nos.chdir({known['work']!r})")
    one.ok("open('kept.txt', 'w').write('kept')")
    assert (Path(str(known["work"])) / "kept.txt").read_text() == "kept"


def test_beside_the_working_directory_nothing_is_written(one: Kernel, known: dict[str, object]) -> None:
    beside = Path(str(known["work"])).parent / "planted"
    one.run(f"open({str(beside)!r}, 'w').write('x')")
    assert not beside.exists()


def test_variables_survive(one: Kernel) -> None:
    one.ok("survivor = [1, 2]")
    one.ok("%capsule checkpoint now")
    assert "variables are back" in one.died(KILL)
    assert one.text("print(survivor)") == "[1, 2]\n"


def test_where_it_cannot_be_held_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with contextlib.closing(Kernel(tmp_path / "home", profile="restricted")) as one:
        done = one.run("print('runs')")
        assert done.text() == ""
        assert done.reply["ename"] == "WorkerUnavailable"
        assert "namespaces are missing: there is no bubblewrap" in done.reply["evalue"]
        assert "install bubblewrap" in done.reply["evalue"]
