"""What IPython's shell offers in a cell besides Python: magics, hooks, events, and names that libraries look for."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kernels import KERNEL
from tests.support.waiting import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.conversation import Conversation, Exchange
    from tests.support.kernels import Opened

#: Cells, and a pattern that is in what each of them shows: text, results, payloads.
MAGICS = [
    ("%%writefile program.py\nimport sys\nprint(__name__, sys.argv, __file__)\nmade = 3", "Writing program.py"),
    ("%run program.py one two\nmade", r"__main__ \['program.py', 'one', 'two'\] .*program.py\n\|3"),
    ("made = 4\n%run -i program.py\ndel __file__\nmade", r"\|3"),
    ("%load program.py", r"'source': 'set_next_input', 'text': '# %load program.py\\nimport sys"),
    ("%edit program.py", r"'source': 'edit_magic'"),
    ("%less program.py", r"'source': 'page'"),
    ("%pycat program.py", r"'source': 'page'"),
    ("%psearch js*", "'source': 'page'|json"),
    ("def f(a):\n    'says'\n    return a\n%psource f", "return a"),
    ("%pdoc f", "says"),
    ("%pdef f", r"f\(a\)"),
    ("f??", "return a"),
    ("%who function", r"^f\t"),
    ("%whos int", r"made\s+int\s+3"),
    ("%%capture kept\nprint('out'); import sys; print('err', file=sys.stderr); display(1)", r"^$"),
    ("kept.stdout, kept.stderr, len(kept.outputs)", r"\('out\\n', 'err\\n', 1\)"),
    ("%time 1 + 1", r"Wall time: .*\n\|2"),
    ("%%time\npass", "Wall time"),
    ("%timeit -n 1 -r 1 pass", "1 loop each"),
    ("%prun -l 1 sum([1])", "function calls"),
    ("%%bash\necho out\necho err >&2", r"out\n(.*\n)*.*err|err\n(.*\n)*.*out"),
    ("%%bash --out kept --no-raise-error\necho out; exit 3", r"^$"),
    ("kept", r"out\\n"),
    ("x = 8\n!echo $x {x + 1} $$HOME; exit 3", f"8 9 {re.escape(os.environ['HOME'])}"),
    ("_exit_code", r"\|3"),
    ("!!echo listed", r"\['listed'\]"),
    ("lines = !echo one; echo two\nlines.n, lines.s", "one two"),
    ("%env GIVEN=value", "GIVEN=value"),
    ("!echo $GIVEN", "value"),
    ("%cd -q /\nimport os\nos.getcwd(), _dh[-1]", r"'/'"),
    ("%cd -q -\nos.path.exists('program.py')", "True"),
    ("%store x", "Stored 'x'"),
    ("del x\n%store -r x\nx", r"\|8"),
    ("%alias greet echo hello %s\n%greet you", "hello you"),
    ("%macro twice 1\ntype(twice).__name__", "Macro"),
    ("'remembered'", "remembered"),
    ("%recall", r"'text': \"'remembered'\"|remembered"),
    ("%rerun", "=== Output: ==="),
    ("%precision 2\n1.23456", r"1\.23$"),
    ("%precision", "'%r'"),
    ("%config InteractiveShell.ast_node_interactivity = 'all'", r"^$"),
    ("1\n2", r"\|1\|2"),
    ("%config InteractiveShell.ast_node_interactivity = 'last_expr'", r"^$"),
    ("%xmode Minimal\n1/0", r"ZeroDivisionError: division by zero$"),
    ("%xmode Context", "Context"),
    ("%autocall 1", "Smart"),
    ("len [1]", r"\|1$"),
    ("%autocall 0", "Off"),
    ("%lsmagic", r"%autoreload|%autosave"),
    ("%quickref", "'source': 'page'"),
    ("%%javascript\n1", "application/javascript"),
    ("%%html\n<b>1</b>", "text/html"),
    ("%%latex\n$1$", "text/latex"),
    ("%%markdown\n*1*", "text/markdown"),
    ("%%svg\n<svg/>", "image/svg"),
    ("%pip --version", r"pip \d"),
    ("%matplotlib --list", "'agg'.*'inline'"),
    ("%matplotlib agg\nimport matplotlib\nmatplotlib.get_backend()", "agg"),
    ("%matplotlib inline\nmatplotlib.get_backend()", "inline"),
    ("%pylab --no-import-all inline\nplt.__name__", "matplotlib.pyplot"),
    ("%load_ext storemagic", "already loaded"),
    ("%gui asyncio", r"^$"),
    (
        "%autosave 60",
        r"Autosaving every 60 seconds\n.*'application/javascript': 'IPython.notebook.set_autosave_interval\(60000\)'",
    ),
    ("%autosave 0", r"Autosave disabled"),
    ("%autosave x", r"UsageError: %autosave requires an integer, got 'x'"),
    ("%no_such_magic", "not found"),
    ("%%no_such_magic\n1", "not found"),
]
EVENTS = """
told = []
def before(info): told.append(("before", info.raw_cell, info.store_history, info.silent, info.cell_id))
def after(result): told.append(("after", result.info.cell_id, result.success, result.result,
                                type(result.error_in_exec).__name__, type(result.error_before_exec).__name__))
def around(): told.append("around")
ip = get_ipython()
"""


def shown(exchange: Exchange) -> str:
    """Return all that a cell has shown as one text, with payloads."""
    parts = [exchange.text(), exchange.text("stderr")]
    parts += [f"|{content['data'].get('text/plain', '')}" for content in exchange.of("execute_result")]
    parts += [str(content["data"]) for content in exchange.of("display_data")]
    parts += [content["traceback"][-1] for content in exchange.of("error")]
    parts += [str(payload) for payload in exchange.reply.get("payload", [])]
    return re.sub(r"(\x1b|\\x1b)\[[0-9;]*m", "", "".join(parts))


def execute(kernel: Conversation, code: str, metadata: dict[str, Any]) -> Exchange:
    """Execute a cell that comes with metadata, as from a notebook."""
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message = kernel.client.session.msg("execute_request", content, metadata=metadata)
    kernel.client.shell_channel.send(message)
    (exchange,) = kernel.finish(message["header"]["msg_id"])
    return exchange


def test_magics_do_what_they_do_in_ipython(kernel: Conversation, tmp_path: Path) -> None:
    kernel.run(f"%cd -q {tmp_path}")
    wrong = {}
    for code, pattern in MAGICS:
        text = shown(kernel.run(code))
        if not re.search(pattern, text):
            wrong[code] = text
    assert wrong == {}


def test_autoreload_takes_changed_modules(kernel: Conversation, tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    module.write_text("def answer(): return 'before'\n")
    kernel.run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n%load_ext autoreload\n%autoreload 2\nimport changing"
    )
    module.write_text("def answer(): return 'afterwards'\n")
    assert kernel.run("changing.answer()").result == "'afterwards'"
    kernel.run("%autoreload 0")


def test_the_namespace_is_that_of_a_notebook(kernel: Conversation) -> None:
    kernel.run("%cd -q ~")
    kernel.run("'one'")
    kernel.run("'two'")
    assert kernel.run("_, __, _i, _ii, In[-3], Out[len(In) - 2], str(_dh[-1]) == __import__('os').getcwd()").result == (
        "('two', 'one', \"'two'\", \"'one'\", \"'one'\", 'two', True)"
    )
    found = kernel.run(
        "import sys\nprint(__name__, '__file__' in globals(), sys.modules['__main__'].__dict__ is globals(),"
        " hasattr(sys, 'ps1'), sys.path.index('') > 0, sys.displayhook is get_ipython().displayhook)"
    )
    # A file of the notebook's directory does not take the place of a module of the standard library.
    assert found.text() == "__main__ False True True True True\n"


def test_events_tell_of_each_cell(kernel: Conversation) -> None:
    kernel.run(EVENTS)
    names = {"pre_run_cell": "before", "post_run_cell": "after", "pre_execute": "around", "post_execute": "around"}
    kernel.run("\n".join(f"ip.events.register({name!r}, {function})" for name, function in names.items()))
    for code, end in (
        ("5", (True, 5, "NoneType", "NoneType")),
        ("1/0", (False, None, "ZeroDivisionError", "NoneType")),
        ("(", (False, None, "NoneType", "SyntaxError")),
        ("import asyncio\nawait asyncio.sleep(0, 6)", (True, 6, "NoneType", "NoneType")),
    ):
        kernel.run("told.clear()", silent=True)
        execute(kernel, code, {"cellId": "an-id"})
        reply = kernel.run("", user_expressions={"told": "told"}, silent=True).reply
        # Around it are the functions behind a silent cell, of which nothing else is told.
        expected = ["around", ("before", code, True, False, "an-id"), "around", ("after", "an-id", *end)]
        assert eval(reply["user_expressions"]["told"]["data"]["text/plain"])[1:-1] == expected, code
    kernel.run("\n".join(f"ip.events.unregister({name!r}, {function})" for name, function in names.items()))
    kernel.run("def fails(): raise ValueError('in a hook')\nip.events.register('post_execute', fails)")
    exchange = kernel.run("print('runs')\nip.events.unregister('post_execute', fails)")
    assert exchange.reply["status"] == "ok"


def test_code_sees_the_request_of_its_cell(kernel: Conversation) -> None:
    kernel.run("import datetime\nip = get_ipython()\nmeta = []\ndef told(info): meta.append(info.cell_meta)")
    kernel.run("ip.events.register('pre_run_cell', told)")
    metadata = {"cellId": "an-id", "tags": ["one"], "deep": {"a": [1, None, 2.5, True]}}
    code = "print(ip.get_parent()['metadata'] == meta[-1] and meta[-1])\nip.get_parent()['content']['code']"
    exchange = execute(kernel, code, metadata)
    assert (exchange.text(), exchange.result) == (f"{metadata}\n", repr(code))
    kernel.run("ip.events.unregister('pre_run_cell', told)")
    assert kernel.run(
        "header = ip.get_parent()['header']\nheader['msg_type'], isinstance(header['date'], datetime.datetime)"
    ).result == ("('execute_request', True)")


@pytest.mark.capsule_only
def test_a_cell_runs_without_metadata_that_are_too_large(kernel: Conversation) -> None:
    for large in ("x" * 100_000, 1 << 70):
        exchange = execute(kernel, "get_ipython().get_parent()['metadata']", {"cellId": "an-id", "large": large})
        assert exchange.result == "{'cellId': 'an-id'}"


def test_hooks_of_the_notebook_take_part(kernel: Conversation) -> None:
    kernel.run("ip = get_ipython()\ndef cleanup(lines): return [line.replace('FORTY', '40') for line in lines]")
    kernel.run("ip.input_transformers_cleanup.append(cleanup)")
    assert kernel.run("FORTY + 2").result == "42"
    kernel.run("ip.input_transformers_cleanup.remove(cleanup)")
    kernel.run(
        "import ast\nclass Doubling(ast.NodeTransformer):\n"
        "    def visit_Constant(self, node):\n"
        "        return ast.Constant(node.value * 2) if type(node.value) is int else node\n"
        "doubling = Doubling(); ip.ast_transformers.append(doubling)"
    )
    assert kernel.run("21").result == "42"
    kernel.run("ip.ast_transformers.remove(doubling)")
    kernel.run(
        "def handle(shell, kind, error, traceback, tb_offset=None): print('handled', kind.__name__)\n"
        "ip.set_custom_exc((ZeroDivisionError,), handle)"
    )
    exchange = kernel.run("1/0")
    assert (exchange.text(), exchange.of("error")) == ("handled ZeroDivisionError\n", [])
    assert (exchange.reply["ename"], exchange.reply["evalue"]) == ("ZeroDivisionError", "division by zero")
    kernel.run("ip.set_custom_exc((), None)")
    assert kernel.run(
        "import sys\nold, sys.displayhook = sys.displayhook, lambda value: print('mine', value)\n5"
    ).text() == ("mine 5\n")
    assert kernel.run("sys.displayhook = old\n6").result == "6"
    kernel.run(
        "from IPython.core.magic import register_line_magic, register_cell_magic\n"
        "@register_line_magic\ndef shout(line): return line.upper()\n"
        "@register_cell_magic\ndef count(line, cell): return len(cell)"
    )
    assert kernel.run("%shout it").result == "'IT'"
    assert kernel.run("%%count\nabc").result == "4"
    assert kernel.run("result = ip.run_cell('11 + 1')\nresult.success, result.result").of("execute_result")[-1][
        "data"
    ] == {"text/plain": "(True, 12)"}


def test_objects_say_how_they_are_shown(kernel: Conversation) -> None:
    kernel.run(
        "formatters = get_ipython().display_formatter.formatters\n"
        "class Bold: pass\nformatters['text/html'].for_type(Bold, lambda bold: '<b>bold</b>')\n"
        "class Bundle:\n"
        "    def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "        return {'text/plain': 'bundle', 'application/x+json': {'a': 1}}, {'application/x+json': {'b': 2}}\n"
        "class Itself:\n"
        "    def _ipython_display_(self): print('shows itself')\n"
        "class Broken:\n"
        "    def __repr__(self): raise ValueError('bad repr')\n"
    )
    assert kernel.run("Bold()").of("execute_result")[0]["data"]["text/html"] == "<b>bold</b>"
    bundle = kernel.run("Bundle()").of("execute_result")[0]
    assert bundle["data"] == {"text/plain": "bundle", "application/x+json": {"a": 1}}
    assert bundle["metadata"] == {"application/x+json": {"b": 2}}
    assert kernel.run("Itself()").text() == "shows itself\n"
    exchange = kernel.run("Broken()")
    assert (exchange.of("error")[0]["evalue"], exchange.reply["status"]) == ("bad repr", "error")


def test_warnings_and_logs_name_the_cell(kernel: Conversation) -> None:
    text = kernel.run("import warnings\nwarnings.warn('take care')").text("stderr")
    assert re.fullmatch(r"/\S+_\d+/\w+\.py:2: UserWarning: take care\n  warnings.warn\('take care'\)\n", text)
    assert re.search(r"\.py:1: SyntaxWarning: invalid escape sequence", kernel.run("'\\d'").text("stderr"))
    assert kernel.run("import logging\nlogging.getLogger('mine').warning('careful')").text("stderr") in (
        "careful\n",
        "WARNING:mine:careful\n",
    )


@pytest.mark.capsule_only
def test_warnings_about_source_are_shown_once(kernel: Conversation) -> None:
    assert (
        kernel.run("'\\s'").text("stderr").count("invalid escape sequence") == 2
    )  # IPython's, and Python's with its line


@pytest.mark.capsule_only
def test_a_group_of_exceptions_is_an_error_at_the_client(kernel: Conversation) -> None:
    (error,) = kernel.run("raise ExceptionGroup('several', [ValueError(1), TypeError('t')])").of("error")
    assert error["ename"] == "ExceptionGroup"
    assert "ValueError: 1" in "\n".join(error["traceback"])
    assert "interactiveshell.py" not in "\n".join(error["traceback"])


def test_libraries_know_the_code_of_a_cell_by_the_name_of_its_folder(kernel: Conversation) -> None:
    kernel.run("import executing, inspect, os, tempfile\nfrom joblib.func_inspect import get_func_name")
    kernel.run("def f(): return 1\nfile = inspect.getfile(f)")
    # As numba looks at it, line_profiler, joblib and executing.
    for expression, expected in (
        ("os.path.basename(os.path.dirname(file)).startswith('ipykernel_')", "True"),
        ("file.startswith(os.path.join(tempfile.gettempdir(), 'ipykernel_'))", "True"),
        ("'ipykernel' in get_func_name(f)[0][-1].split('-')", "True"),
        ("executing.executing.is_ipython_cell_code(compile('1', file, 'exec'))", "True"),
        ("inspect.getsource(f).splitlines()[0]", "'def f(): return 1'"),
    ):
        assert kernel.run(expression).result == expected, expression


def test_coroutines_tasks_and_loops(kernel: Conversation) -> None:
    kernel.run("import asyncio\nasync def five(): return 5")
    assert kernel.run("await asyncio.gather(five(), five())").result == "[5, 5]"
    assert "cannot be called from a running event loop" in kernel.run("asyncio.run(five())").reply["evalue"]
    assert kernel.run("asyncio.get_event_loop().is_running()").result == "True"
    kernel.run("%autoawait off")
    assert kernel.run("await five()").reply["ename"] == "SyntaxError"
    kernel.run("%autoawait on")
    kernel.run("import nest_asyncio2 as nest_asyncio; nest_asyncio.apply()")
    assert kernel.run("asyncio.run(five()), asyncio.get_event_loop().run_until_complete(five())").result == "(5, 5)"
    assert kernel.run("await five()").result == "5"


@pytest.mark.capsule_only
def test_errors_in_background_code_are_shown_below_the_cell_they_come_from(kernel: Conversation) -> None:
    kernel.run("import asyncio, gc\nasync def fails(): raise ValueError('in a task')")
    for code, error in (
        ("asyncio.get_running_loop().call_soon(lambda: 1/0);", "ZeroDivisionError"),
        ("asyncio.create_task(fails());", "ValueError: in a task"),
    ):
        request = str(kernel.client.execute(code))
        kernel.finish(request)
        following = str(kernel.client.execute("await asyncio.sleep(0)\ngc.collect();"))
        kernel.listen_until(
            lambda: error in kernel.exchange(request).text("stderr") + kernel.exchange(following).text("stderr"),  # noqa: B023
            error,
        )


def test_the_garbage_collector_finds_what_refers_to_an_object(kernel: Conversation) -> None:
    kernel.run("import gc\nheld = [object()]")
    assert (
        kernel.run("gc.isenabled(), any(one is globals() for one in gc.get_referrers(held))").result == "(True, True)"
    )


def test_signal_handlers_of_the_notebook_run_between_cells(kernel: Conversation, tmp_path: Path) -> None:
    kernel.run(
        "import os, pathlib, signal\n"
        f"def handler(number, frame): pathlib.Path({str(tmp_path)!r}, str(number)).touch()\n"
        "signal.signal(signal.SIGALRM, handler); signal.signal(signal.SIGUSR1, handler)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)\nos.kill(os.getpid(), signal.SIGUSR1)"
    )
    poll_until(lambda: (tmp_path / "14").exists() and (tmp_path / "10").exists(), "both signals are handled")
    assert kernel.run("signal.getsignal(signal.SIGALRM) is handler").result == "True"
    kernel.run("signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.signal(signal.SIGUSR1, signal.SIG_DFL)")


def test_processes_and_pools_run_from_a_cell(kernel: Conversation) -> None:
    kernel.run("import multiprocessing, os\ndef square(x): print(f'squares {x}', flush=True); return x * x")
    exchange = kernel.run("with multiprocessing.get_context('fork').Pool(1) as pool: print(pool.map(square, [2, 3]))")
    assert exchange.text() == "squares 2\nsquares 3\n[4, 9]\n"
    exchange = kernel.run("with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(abs, [-4]))")
    assert exchange.text() == "[4]\n"
    exchange = kernel.run(
        "from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor\n"
        "fork = multiprocessing.get_context('fork')\n"
        "with ProcessPoolExecutor(1, mp_context=fork) as pool: print(*pool.map(square, [5]))\n"
        "with ThreadPoolExecutor(1) as pool: print(*pool.map(square, [6]))"
    )
    assert exchange.text() == "squares 5\n25\nsquares 6\n36\n"
    exchange = kernel.run(
        "child = os.fork()\nif not child:\n    print('from the child', flush=True)\n    os._exit(0)\n"
        "os.waitpid(child, 0)[1]"
    )
    assert (exchange.text(), exchange.result) == ("from the child\n", "0")


def test_libraries_recognise_a_notebook(kernel: Conversation) -> None:
    for expression in (
        "type(get_ipython()).__name__ == 'ZMQInteractiveShell'",
        "'IPKernelApp' in get_ipython().config",
        "__import__('IPython').Application.instance().kernel.shell is get_ipython()",
        "get_ipython().kernel.shell is get_ipython()",
        "get_ipython().kernel.comm_manager is __import__('comm').get_comm_manager()",
        "get_ipython().get_parent()['header']['msg_type'] == 'execute_request'",
        "get_ipython().kernel.execution_count == get_ipython().execution_count",
        "__import__('ipykernel').get_connection_file().endswith('.json')",
        "__import__('ipykernel').connect.get_connection_file() == get_ipython().config.IPKernelApp.connection_file",
        "__import__('ipykernel.kernelapp').kernelapp.IPKernelApp.instance().kernel is get_ipython().kernel",
        "isinstance(get_ipython(), __import__('ipykernel.zmqshell').zmqshell.ZMQInteractiveShell)",
        "'ipykernel' in __import__('sys').modules",
        "str(type(get_ipython())) == \"<class 'ipykernel.zmqshell.ZMQInteractiveShell'>\"",
        "str(type(__import__('sys').stdout)) == \"<class 'ipykernel.iostream.OutStream'>\"",
        "isinstance(__import__('sys').stderr, __import__('ipykernel').iostream.OutStream)",
        "isinstance(get_ipython().display_pub, __import__('ipykernel').zmqshell.ZMQDisplayPublisher)",
        "isinstance(get_ipython().displayhook, __import__('ipykernel').displayhook.ZMQShellDisplayHook)",
        "(__import__('sys').stdout.name, __import__('sys').stderr.encoding) == ('stdout', 'UTF-8')",
        "__import__('ipykernel.kernelapp').kernelapp.IPKernelApp.instance().abs_connection_file.endswith('.json')",
        "__import__('os').path.isabs(__import__('ipykernel.kernelapp').kernelapp.IPKernelApp.instance().connection_dir)",
        "get_ipython().autoindent is False",
        "__import__('tqdm.autonotebook').autonotebook.tqdm.__module__ == 'tqdm.notebook'",
    ):
        exchange = kernel.run(f"import warnings; warnings.simplefilter('ignore')\n{expression}")
        assert exchange.reply["status"] == "ok", (expression, exchange.reply)
        assert exchange.result == "True", expression
    exchange = kernel.run(
        "from ipykernel.comm import Comm\none = Comm(target_name='t', data={'a': 1})\none.send({'b': 2})\none.close()"
    )
    assert exchange.kinds[1:] == ["comm_open", "comm_msg", "comm_close"]
    # What ipykernel sets up when it is imported does not part objects from their client.
    exchange = kernel.run("import comm, ipykernel.ipkernel\ncomm.create_comm(target_name='t').close()")
    assert exchange.kinds[1:] == ["comm_open", "comm_close"]


#: What is sent in a cell, and what the client gets.
SENT: list[tuple[str, dict[str, Any]]] = [
    ("stream", {"name": "stdout", "text": "written"}),
    ("stream", {"name": "stderr", "text": "written"}),
    ("display_data", {"data": {"text/plain": "shown"}, "metadata": {}, "transient": {"display_id": "d"}}),
    ("update_display_data", {"data": {"text/plain": "anew"}, "metadata": {}, "transient": {"display_id": "d"}}),
    ("clear_output", {"wait": True}),
    ("execute_result", {"data": {"text/plain": "5"}, "metadata": {}, "execution_count": 5}),
    ("error", {"ename": "Name", "evalue": "value", "traceback": ["lines"]}),
]


def test_messages_that_a_cell_sends_are_shown_below_it(kernel: Conversation) -> None:
    kernel.run("kernel = get_ipython().kernel")
    for kind, content in SENT:
        exchange = kernel.run(f"kernel.send_response(kernel.iopub_socket, {kind!r}, {content!r});")
        assert (exchange.kinds[1:], exchange.of(kind)) == ([kind], [content])
        exchange = kernel.run(
            f"kernel.session.send(kernel.iopub_socket, kernel.session.msg({kind!r}, {content!r},"
            " parent=kernel.get_parent()));"
        )
        assert (exchange.kinds[1:], exchange.of(kind)) == ([kind], [content])
    exchange = kernel.run(
        "kernel.session.send(kernel.iopub_socket, 'comm_msg', {'comm_id': 'c', 'data': {'a': 1}},"
        " buffers=[b'b'], parent=kernel.get_parent());"
    )
    (told,) = [one for one in exchange.published if one.kind == "comm_msg"]
    assert (told.content["comm_id"], told.content["data"]) == ("c", {"a": 1})
    assert [bytes(each) for each in told.message["buffers"]] == [b"b"]


def test_a_thread_sends_to_the_cell_that_it_names(kernel: Conversation) -> None:
    kernel.run("kernel = get_ipython().kernel\nfirst = kernel.get_parent()")
    content = {"name": "stdout", "text": "to the first"}
    first = kernel.heard[-1].parent
    exchange = kernel.run(f"kernel.session.send(kernel.iopub_socket, 'stream', {content!r}, parent=first);")
    kernel.listen_until(lambda: kernel.exchange(first).text() == "to the first", "the first cell has it")
    assert exchange.text() == ""


@pytest.mark.capsule_only
def test_messages_and_attributes_that_cells_cannot_have_are_errors_with_a_reason(kernel: Conversation) -> None:
    kernel.run("kernel = get_ipython().kernel")
    for code, name, text in (
        ("kernel.session.send(None, 'shutdown_reply', {})", "ValueError", "cannot send a message of the type"),
        ("kernel.send_response(None, 'stream', {'name': 'out', 'text': ''})", "ValueError", "unknown stream 'out'"),
        ("kernel.shell_handlers['execute_request']", "AttributeError", "another process handles requests"),
        ("kernel._parent_ident", "AttributeError", "another process handles requests"),
        ("kernel.nothing", "AttributeError", "has no attribute 'nothing'"),
    ):
        reply = kernel.run(code).reply
        assert reply["ename"] == name, code
        assert text in reply["evalue"], code


def test_libraries_find_the_attributes_of_the_kernel(kernel: Conversation) -> None:
    kernel.run("import asyncio, sys\nip = get_ipython(); kernel = ip.kernel")
    for expression in (
        "kernel.io_loop.asyncio_loop is asyncio.get_event_loop()",
        "hasattr(kernel, 'eventloop')",
        "kernel.set_parent([], kernel.get_parent()) is None",
        "'Python' in kernel.banner",
        "kernel.language_info['name'] == 'python' and kernel.implementation and kernel.implementation_version",
        "kernel.ident and kernel.session.session and kernel.session.username",
        "kernel.profile_dir is ip.profile_dir and 'IPKernelApp' in kernel.config",
        "hasattr(kernel, 'shell_stream') and hasattr(kernel, 'stdin_socket') and hasattr(kernel, 'iopub_thread')",
        "any('version_info' in match for match in kernel.do_complete('sys.version_in', 14)['matches'])",
        "kernel.do_inspect('sys.exc_info', 8)['found']",
        "kernel.do_history('tail', False, True, n=1)['history'][-1][2].startswith('bool(kernel')",
        "kernel.do_is_complete('for i in x:') == {'status': 'incomplete', 'indent': '    '}",
        "(await kernel.do_execute('made = 6 * 7', True, user_expressions={'m': 'made'}))['status'] == 'ok'",
        "made == 42",
        "(await kernel.do_execute('(', True))['ename'] == 'SyntaxError'",
        "__import__('ipykernel.eventloops').eventloops.enable_gui('asyncio') is None",
    ):
        exchange = kernel.run(f"bool({expression})")
        assert exchange.of("execute_result"), (expression, exchange.reply)
        assert exchange.result == "True", expression


def test_colours_of_click_are_shown(kernel: Conversation) -> None:
    assert kernel.run("import click; click.secho('red', fg='red')").text() == "\x1b[31mred\x1b[0m\n"


@pytest.mark.capsule_only
def test_what_only_the_kernels_own_process_could_do_is_refused_with_a_reason(kernel: Conversation) -> None:
    (error,) = kernel.run("import ipykernel; ipykernel.get_connection_info()").of("error")
    assert "jupyter console --existing" in error["evalue"]
    for magic in ("%connect_info", "%qtconsole"):
        assert "--existing /" in kernel.run(magic).text()


def test_functions_for_the_end_run_when_a_client_shuts_the_kernel_down(
    open_kernel: Callable[..., Opened], tmp_path: Path
) -> None:
    manager, kernel = open_kernel()
    kernel.run(f"import atexit, pathlib\natexit.register(pathlib.Path({str(tmp_path / 'ended')!r}).touch)")
    kernel.client.shutdown()
    poll_until(lambda: not manager.is_alive(), "the kernel has ended")
    assert (tmp_path / "ended").exists()


def test_cells_redefine_builtins_for_themselves(kernel: Conversation) -> None:
    kernel.run("def input(prompt): return prompt + 'answered'\nreal = print\ndef print(*args): real('mine:', *args)")
    assert kernel.run("print(input('it is '))").text() == "mine: it is answered\n"
    kernel.run("del input, print")
    assert kernel.run("print(input.__name__ != 'f')").text() == "True\n"


def test_the_inline_backend_shows_figures_in_the_format_that_is_set(kernel: Conversation) -> None:
    kernel.run("%matplotlib inline\n%config InlineBackend.figure_format = 'svg'\nimport matplotlib.pyplot as plt")
    (shown,) = kernel.run("plt.plot([1, 2]); plt.show()").of("display_data")
    assert "image/svg+xml" in shown["data"]
    kernel.run("%config InlineBackend.figure_format = 'png'")
    (shown,) = kernel.run("plt.plot([1, 2]); plt.show()").of("display_data")
    assert "image/png" in shown["data"]


def test_a_cell_shuts_the_kernel_down_in_order_and_it_restarts(open_kernel: Callable[..., Opened]) -> None:
    manager, kernel = open_kernel()
    exchange = kernel.run(
        "import atexit\natexit.register(print, 'the end')\nprint('bye')\nget_ipython().kernel.do_shutdown(True)\n1 + 1"
    )
    assert (exchange.reply["status"], exchange.result) == ("ok", "2")
    poll_until(lambda: not manager.is_alive(), "the kernel has ended")
    if KERNEL == "capsule":
        # What functions for the end print is not lost.
        kernel.listen_until(lambda: kernel.exchange(exchange.request).text() == "bye\nthe end\n", "its last text")
