"""What durable functions may touch."""

from __future__ import annotations

import ast
from pathlib import Path

import capsule_durable.execution.functions


def test_durable_functions_touch_no_event_loop() -> None:
    tree = ast.parse(Path(capsule_durable.execution.functions.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    forbidden = {"asyncio", "socket", "threading", "time", "zmq", "selectors", "subprocess", "os", "io"}
    assert not {name.split(".")[0] for name in imported} & forbidden
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"create_task", "run_until_complete", "get_running_loop", "get_event_loop", "new_event_loop"}
