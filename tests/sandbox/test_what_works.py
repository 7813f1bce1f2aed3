"""Ordinary notebook code works in each sandbox; a refused operation is explained by its error."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.kernels import KILL, NO_STANDBY, Kernel
from tests.support.sandboxes import Setup, sandboxed_kernel, users

#: Code that works, everywhere.
WORKS = {
    "files": "open('result.txt', 'w').write('done')\nassert open('result.txt').read() == 'done'",
    "temporary files": "import tempfile\nwith tempfile.NamedTemporaryFile() as file: file.write(b'x')",
    "IPython": "%timeit -n1 -r1 1\n%who\n!echo shell\nassert get_ipython().getoutput('echo there') == ['there']",
    "bash": "%%bash\nset -e\ncd /tmp && touch a-file && rm a-file",
    "numpy": "import numpy as np\nassert np.linalg.inv(np.eye(300)).sum() == 300",
    "pandas": "import pandas\npandas.DataFrame({'a': [1, 2]}).to_csv('frame.csv')\npandas.read_csv('frame.csv')",
    "matplotlib": "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('plot.png')\nplt.close()",
    "joblib": "from joblib import Parallel, delayed\nassert Parallel(2)(delayed(abs)(n) for n in (-1, -2)) == [1, 2]",
    "scikit-learn": "from sklearn.linear_model import LinearRegression\nLinearRegression().fit([[1], [2]], [1, 2])",
    "sqlite": (
        "import sqlite3\nwith sqlite3.connect('data.db') as db:\n"
        "    db.execute('PRAGMA journal_mode = WAL')\n    db.execute('CREATE TABLE IF NOT EXISTS t (a)')\n"
        "db.close()"
    ),
    "processes": "import subprocess\nassert 'work' in subprocess.run(['pwd'], capture_output=True, text=True).stdout",
    "processes of asyncio": (
        "import asyncio\nprocess = await asyncio.create_subprocess_exec('true')\nassert await process.wait() == 0"
    ),
    "git": (
        "import subprocess\nfor words in ('init -q repository', '-C repository -c user.name=a -c user.email=a@b.c"
        " commit -q --allow-empty -m first', '-C repository log'):\n"
        "    subprocess.run(['git', *words.split()], check=True)"
    ),
    "pools": (
        "import multiprocessing as mp\n"
        "for way in ('fork', 'spawn', 'forkserver'):\n"
        "    with mp.get_context(way).Pool(2) as pool: assert pool.map(abs, [-1]) == [1]"
    ),
    "a manager": (
        "from multiprocessing import Manager\nwith Manager() as manager:\n    shared = manager.dict(a=1)\n"
        "    assert shared['a'] == 1"
    ),
    "futures": (
        "from concurrent.futures import ProcessPoolExecutor\nwith ProcessPoolExecutor(2) as pool:\n"
        "    assert list(pool.map(abs, [-1, -2])) == [1, 2]"
    ),
    "shared memory": (
        "from multiprocessing import shared_memory\nblock = shared_memory.SharedMemory(create=True, size=64)\n"
        "block.close(); block.unlink()"
    ),
    "a server of its own": (
        "import http.server, threading, urllib.request\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "with urllib.request.urlopen(f'http://127.0.0.1:{server.server_port}/') as page: assert page.status == 200\n"
        "server.shutdown(); server.server_close()"
    ),
    "sockets in the file system": (
        "import os, socket\nserver = socket.socket(socket.AF_UNIX)\nserver.bind('a.sock')\nserver.listen()\n"
        "client = socket.socket(socket.AF_UNIX)\nclient.connect('a.sock')\nclient.close(); server.close()\n"
        "os.unlink('a.sock')"
    ),
    "signals": (
        "import os, signal\ngot = []\nsignal.signal(signal.SIGUSR1, lambda *_: got.append(1))\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\nassert got == [1]"
    ),
    "one's own limits": (
        "import os, resource\nresource.getrlimit(resource.RLIMIT_NOFILE)\nresource.prlimit(0, resource.RLIMIT_CORE)"
    ),
    "installation to a directory": (
        "%pip install -q --no-index --no-deps --target lib tiny-1-py3-none-any.whl\n"
        "import sys\nsys.path.insert(0, 'lib')\nimport tiny\nassert tiny.answer == 42\nsys.path.remove('lib')"
    ),
}
SETUPS = [Setup("notebook"), Setup("notebook", without="namespaces"), Setup("restricted")]


@pytest.fixture(scope="module", params=[(setup, user) for user in users() for setup in SETUPS], ids=str)
def sandboxed(request: pytest.FixtureRequest) -> Iterator[tuple[Setup, str, Kernel, Mapping[str, object]]]:
    setup, user = request.param
    with sandboxed_kernel(setup, user) as (one, known):
        with zipfile.ZipFile(Path(str(known["work"])) / "tiny-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny.py", "answer = 42\n")
            wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
            wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr("tiny-1.dist-info/RECORD", "")
        yield setup, user, one, known


def test_variables_survive(sandboxed: tuple[Setup, str, Kernel, object]) -> None:
    one = sandboxed[2]
    one.ok(f"survivor = [1, 2]\n{NO_STANDBY}")
    one.ok("%capsule checkpoint now")
    assert "variables are restored" in one.died(KILL)
    assert one.text("print(survivor)") == "[1, 2]\n"
    one.ok("survivor.append(3)")
    one.ok("%capsule undo")
    assert one.text("print(survivor)") == "[1, 2]\n"


@pytest.mark.parametrize("what", WORKS)
def test_ordinary_code_works(sandboxed: tuple[Setup, str, Kernel, object], what: str) -> None:
    sandboxed[2].ok(WORKS[what])


#: Starts a kernel, and runs a cell there.
NESTED = """
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name={name!r})
reply = client.execute_interactive('assert 6 * 7 == 42', timeout=60)['content']
client.stop_channels(); manager.shutdown_kernel()
print(reply['status'], reply.get('evalue', ''))
"""


@pytest.mark.parametrize("name", ["python3", "capsule"])
def test_a_cell_starts_a_kernel_of_its_own(sandboxed: tuple[Setup, str, Kernel, object], name: str) -> None:
    setup, _, one, _ = sandboxed
    done = one.run(NESTED.format(name=name))
    if setup.profile == "restricted" and name == "capsule":
        # It asks for what it cannot have in there, though it is in there.
        assert "the profile restricted does not work here" in done.text()
    else:
        assert done.text().startswith("ok")


def test_a_cell_is_interrupted_with_its_processes(sandboxed: tuple[Setup, str, Kernel, object]) -> None:
    one = sandboxed[2]
    request = one.begin("import subprocess\nprint('begun', flush=True)\nsubprocess.run(['sleep', '60'])")
    one.talk.send_control("interrupt_request")
    (done,) = one.talk.finish(request)
    assert done.reply["ename"] == "KeyboardInterrupt"
    assert one.text("print(subprocess.run(['true']).returncode)") == "0\n"


def test_a_package_is_installed_where_that_is_allowed(
    sandboxed: tuple[Setup, str, Kernel, object],
) -> None:
    setup, user, one, _ = sandboxed
    done = one.run("%pip install -q --no-index --no-deps --force-reinstall tiny-1-py3-none-any.whl")
    if user == "root" and setup.profile == "notebook":
        one.ok("import importlib, tiny\nassert importlib.reload(tiny).answer == 42")
        one.ok("%pip uninstall -q --yes tiny")
    else:
        # The environment is not theirs to write.
        text = done.text() + done.text("stderr")
        assert "Read-only file system" in text or "Permission denied" in text or "user" in text


def test_written_files_are_visible_outside(sandboxed: tuple[Setup, str, Kernel, Mapping[str, object]]) -> None:
    _, _, one, known = sandboxed
    one.ok("open('kept.txt', 'w').write('kept')")
    assert (Path(str(known["work"])) / "kept.txt").read_text() == "kept"


def test_a_refused_operation_is_explained(sandboxed: tuple[Setup, str, Kernel, Mapping[str, object]]) -> None:
    setup, _, one, known = sandboxed
    written = one.run(f"open({known['person']!r} + '/new', 'w')")
    said = "\n".join(written.reply.get("traceback", []))
    if setup.profile == "restricted":
        assert "The setting writable_paths adds others" in said
        said = "\n".join(one.run("import socket\nsocket.create_connection(('192.0.2.1', 80), 2)").reply["traceback"])
        assert "in the profile restricted cells have no network" in said
    elif setup.without == "namespaces":
        assert f"nothing new can be made directly in {known['person']}" in said
        assert "install bubblewrap" in said
    else:
        assert written.reply["status"] == "ok"


def test_rules_hide_more_paths_and_allow_others() -> None:
    for profile in ("notebook", "restricted"):
        for user in users():
            with sandboxed_kernel(
                Setup(profile), user, hidden_paths="~/.ssh:~/own", writable_paths="~/more", readable_paths="~/own/open"
            ) as (one, known):
                person = Path(str(known["person"]))
                one.ok("import os")
                assert one.run("open(os.path.expanduser('~/.ssh/id_test'))").reply["ename"] == "FileNotFoundError"
                assert one.text("print(os.listdir(os.path.expanduser('~/own')))") == "['open']\n"
                assert one.text("print(open(os.path.expanduser('~/own/open/text')).read())") == "read\n"
                assert one.run("open(os.path.expanduser('~/own/open/text'), 'w')").reply["status"] == "error"
                one.ok("open(os.path.expanduser('~/more/text'), 'w').write('written')")
                assert (person / "more/text").read_text() == "written"
