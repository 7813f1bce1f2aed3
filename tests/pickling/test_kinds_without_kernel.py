"""The kinds of objects keep their promises where nothing is saved: their cells run, and notice what is missing."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import PROGRAMS
from tests.support.kinds import KINDS, TABLES, Kind, is_installed
from tests.support.waiting import DEADLINE

PROGRAM = PROGRAMS / "plain_cells.py"
#: A name's first word: of ``some_thing`` what is before the line, of ``SomeThing`` what is before the next capital.
_WORD = re.compile(r"_*([A-Z][a-z0-9]+|[^_]+)")
_NAMESPACES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPREHENSIONS = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def bound_by(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a cell gives values to, imports aside: modules are everybody's."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _NAMESPACES):
            yield node.name
            yield from (name for each in ast.walk(node) if isinstance(each, ast.Global) for name in each.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif not isinstance(node, _COMPREHENSIONS):
            yield from bound_by(node)


def prefixes(kind: Kind) -> set[str]:
    """Return the first words of all names that a kind's cells give values to."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    trees = [compile(cell, kind.name, "exec", flags) for cell in (kind.setup, kind.change, kind.check)]
    names = {name for tree in trees for name in bound_by(tree)}
    return {match[1].lower() for match in map(_WORD.match, names) if match is not None}


def run(cells: list[tuple[str, str]], folder: Path) -> dict[str, str]:
    """Run cells in one fresh namespace in a new process; return the tracebacks of those that failed, by their keys."""
    scratch = folder / "scratch"
    scratch.mkdir()
    request, failures = folder / "request.json", folder / "failures.json"
    request.write_text(json.dumps({"scratch": str(scratch), "cells": cells}), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(request), str(failures)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(DEADLINE)
    finally:
        # With all that the cells have started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    found: dict[str, str] = json.loads(failures.read_text(encoding="utf-8"))
    return found


@functools.cache
def straight(table: str, folder: Path) -> dict[str, str]:
    """Run all setups of a table, then all changes, then all checks of what can be saved."""
    kinds = [kind for kind in TABLES[table] if is_installed(kind)]
    cells = [(f"{kind.name}: setup", kind.setup) for kind in kinds]
    cells += [(f"{kind.name}: change", kind.change) for kind in kinds]
    cells += [(f"{kind.name}: check", kind.check) for kind in kinds if not kind.unsaved]
    return run(cells, folder)


@functools.cache
def unchanged(table: str, folder: Path) -> dict[str, str]:
    """Run all setups of a table, then all checks of what can be saved."""
    kinds = [kind for kind in TABLES[table] if is_installed(kind)]
    cells = [(f"{kind.name}: setup", kind.setup) for kind in kinds]
    cells += [(f"{kind.name}: check", kind.check) for kind in kinds if not kind.unsaved]
    return run(cells, folder)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {f"{table}-{run}": tmp_path_factory.mktemp(f"{table}-{run}") for table in TABLES for run in ("all", "some")}


EACH = pytest.mark.parametrize(
    ("table", "kind"), [pytest.param(table, kind, id=kind.name) for table, kinds in TABLES.items() for kind in kinds]
)


def test_there_are_many_kinds():
    assert len(KINDS) >= 175


def test_no_two_kinds_have_the_same_name():
    assert [name for name, count in Counter(kind.name for kind in KINDS).items() if count > 1] == []


def test_the_names_of_a_kind_begin_with_a_word_of_its_own():
    words = {kind.name: prefixes(kind) for kind in KINDS}
    assert {name: found for name, found in words.items() if len(found) != 1} == {}
    used = Counter(word for found in words.values() for word in found)
    assert {name for name, found in words.items() if any(used[word] > 1 for word in found)} == set()


@EACH
def test_the_cells_of_a_kind_run(table: str, kind: Kind, folders: dict[str, Path]):
    if not is_installed(kind):
        pytest.skip(f"needs {', '.join(kind.needs)}")
    failures = straight(table, folders[f"{table}-all"])
    assert [text for key, text in failures.items() if key.startswith(f"{kind.name}: ")] == []


@EACH
def test_a_kind_notices_that_its_change_is_missing(table: str, kind: Kind, folders: dict[str, Path]):
    if not is_installed(kind):
        pytest.skip(f"needs {', '.join(kind.needs)}")
    if not kind.unsaved:
        assert f"{kind.name}: check" in unchanged(table, folders[f"{table}-some"])
