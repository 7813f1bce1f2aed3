"""A worker whose interpreter is held by C code cannot read its own pipes: the front reads them for it."""

from __future__ import annotations

from jupyter_client.manager import start_new_kernel

# PyDLL keeps the interpreter's lock during the call, as a careless extension does.
FLOOD = """
import ctypes
size = 3_000_000
print('python')
ctypes.PyDLL(None).write(1, b'c' * size, size)
"""


def test_c_code_that_holds_the_interpreter_may_print_more_than_a_pipe_holds() -> None:
    manager, client = start_new_kernel(kernel_name="capsule")
    try:
        texts: list[str] = []

        def collect(message: dict) -> None:
            if message["msg_type"] == "stream":
                texts.append(message["content"]["text"])

        reply = client.execute_interactive(FLOOD, timeout=60, output_hook=collect)
        assert reply["content"]["status"] == "ok"
        text = "".join(texts)
        assert "python\n" in text
        assert text.count("c") == 3_000_000
        assert client.execute_interactive("6 * 7", timeout=60)["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
