"""The tests keep their own rules: helpers are in tests/support, and only one module polls."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.support import ROOT

TESTS = ROOT / "tests"
MODULES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("*.py"))
#: Where code of cells and of other processes is, which may take time.
ELSEWHERE = ("support/waiting.py", "support/programs/", "support/kinds/")


@functools.cache
def _parse(module: Path) -> ast.Module:
    return ast.parse((TESTS / module).read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", sorted({module.parts[0] for module in MODULES if len(module.parts) > 1}))
def test_nothing_is_imported_from_a_module_of_tests(folder: str) -> None:
    for module in MODULES:
        if module.parts[0] != folder:
            continue
        for node in ast.walk(_parse(module)):
            name = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not name.startswith("tests.") or name.startswith("tests.support"), f"{module}: {name}"
            if isinstance(node, ast.ImportFrom) and node.level:
                assert str(module).startswith("support/"), f"{module} imports its neighbours"


def test_nothing_sleeps_to_wait() -> None:
    for module in MODULES:
        if str(module).startswith(ELSEWHERE):
            continue
        for node in ast.walk(_parse(module)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}:
                # asyncio.sleep(0) lets other tasks run.
                assert [ast.unparse(each) for each in node.args] == ["0"], f"{module}:{node.lineno} sleeps"
