"""Imports point one way: capsule_kernel -> capsule_durable -> capsule_worker.protocol.

Constants that are doubled for its sake agree.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import capsule
import capsule_durable
import capsule_durable.storage
import capsule_kernel
import capsule_worker
from capsule_durable.workers import launcher
from capsule_worker.isolation import error_hints
from capsule_worker.process import orphan_cleanup
from capsule_worker.protocol import output_buffer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

OURS = {"capsule", "capsule_durable", "capsule_kernel", "capsule_worker"}

#: What the modules below the first may import of ours; a name stands for itself and all that is below it.
ALLOWED = {
    capsule_kernel: {"capsule_kernel", "capsule_durable", "capsule_worker.protocol"},
    capsule_durable: {"capsule_durable", "capsule_worker.protocol"},
    capsule_durable.storage: {"capsule_durable.storage", "capsule_durable.errors", "capsule_durable.config.paths"},
    capsule_worker: {"capsule_worker", "capsule"},
    capsule_worker.protocol: {"capsule_worker.protocol"},
    capsule: {"capsule", "capsule_worker"},
}


def imported(source: str, package: str) -> set[str]:
    """Return the full names that a module imports, wherever in it, relative ones resolved.

    Args:
        source: text of the module.
        package: the package that the module is in.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                parts = package.split(".")
                base = parts[: len(parts) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                names |= {f"{module}.{alias.name}" for alias in node.names}
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                names.add(name)
            case _:
                pass
    return names


def modules(package: ModuleType) -> Iterator[tuple[Path, str]]:
    """Yield the path of every module of a package, and the package that it is in."""
    root = Path(package.__path__[0])
    for path in sorted(root.rglob("*.py")):
        yield path, ".".join([package.__name__, *path.parent.relative_to(root).parts])


def violations(package: ModuleType) -> list[str]:
    """Return the imports of a package that it may not have."""
    allowed = ALLOWED[package]
    return [
        f"{path.name} imports {name}"
        for path, inside in modules(package)
        for name in sorted(imported(path.read_text(encoding="utf-8"), inside))
        if name.split(".")[0] in OURS and not any(name == each or name.startswith(f"{each}.") for each in allowed)
    ]


@pytest.mark.parametrize("package", ALLOWED, ids=lambda package: package.__name__)
def test_a_package_imports_only_what_is_below_it(package: ModuleType) -> None:
    assert list(modules(package))
    assert violations(package) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import capsule_kernel.app as a, os", {"capsule_kernel.app", "os"}),
        ("from capsule_worker.process import orphan_cleanup as reaper", {"capsule_worker.process.orphan_cleanup"}),
        (
            "def f():\n    from capsule_worker.process.orphan_cleanup import COOKIE",
            {"capsule_worker.process.orphan_cleanup.COOKIE"},
        ),
        ("from . import a", {"here.below.a"}),
        ("from ..beside import a", {"here.beside.a"}),
        ("importlib.import_module('capsule_kernel')", {"capsule_kernel"}),
    ],
)
def test_every_way_to_import_is_seen(source: str, names: set[str]) -> None:
    assert imported(source, "here.below") == names


def test_the_cookie_that_the_front_sets_is_the_one_that_the_reaper_looks_for() -> None:
    assert launcher.COOKIE == orphan_cleanup.COOKIE


def test_the_memory_that_the_front_makes_has_the_size_that_the_worker_maps() -> None:
    assert launcher.JOURNAL_SIZE == output_buffer.SIZE


def test_a_variable_that_both_ends_know_has_one_name() -> None:
    assert (launcher.WITHHELD, launcher.PROFILE) == (error_hints.WITHHELD, error_hints.PROFILE)
