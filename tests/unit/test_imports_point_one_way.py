"""Imports point one way: capsule_kernel -> capsule_durable -> capsule_worker.protocol, and from level to level in each.

Constants that are defined twice for this reason agree.
"""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import capsule
import capsule_durable
import capsule_durable.storage
import capsule_kernel
import capsule_worker
from capsule_durable.workers import channels, launcher
from capsule_worker.isolation import error_hints
from capsule_worker.process import orphan_cleanup
from capsule_worker.protocol import output_buffer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

OURS = {"capsule", "capsule_durable", "capsule_kernel", "capsule_worker"}

#: Which of our modules those below the first may import; a name stands for itself and all that is below it.
ALLOWED = {
    capsule_kernel: {"capsule_kernel", "capsule_durable", "capsule_worker.protocol"},
    capsule_durable: {"capsule_durable", "capsule_worker.protocol"},
    capsule_durable.storage: {
        "capsule_durable.storage",
        "capsule_durable.errors",
        "capsule_durable.ids",
        "capsule_durable.config.paths",
        "capsule_worker.protocol",
    },
    capsule_worker: {"capsule_worker", "capsule"},
    capsule_worker.protocol: {"capsule_worker.protocol"},
    capsule: {"capsule", "capsule_worker"},
}


class Level(NamedTuple):
    """Packages and modules that may import what is on the levels below theirs.

    Args:
        names: what is on the level; a name includes what is below it, unless that has a level of its own.
        independent: whether they may not import each other either.
    """

    names: frozenset[str]
    independent: bool = False


def level(package: str, *names: str, independent: bool = False) -> Level:
    """Return the level of modules and packages in a package, or of the package itself where none is named."""
    return Level(frozenset(f"{package}.{name}" for name in names) or frozenset({package}), independent)


#: The levels of the front and of the worker, from the top down. Each may import everything below it.
FRONT = (
    level("capsule_kernel", "__main__"),
    level("capsule_kernel", "app", "cli"),
    level("capsule_kernel", "jupyter", "web"),
    level("capsule_kernel", "console"),
    level("capsule_durable", "workflows"),
    level("capsule_durable", "execution"),
    # Cells request the same reads as the command line, so the handlers of their requests are above these.
    level("capsule_durable", "queries"),
    level("capsule_durable", "workers"),
    level("capsule_durable", "runlog"),
    level("capsule_durable", "checkpoints", "history"),
    level("capsule_durable", "messaging", "engines", "sandbox", "objects", independent=True),
    level("capsule_durable", "telemetry", "config", "storage"),
    level("capsule_durable", "ids", "errors"),
    level("capsule_worker.protocol"),
)
WORKER = (
    level("capsule"),
    level("capsule_worker", "__main__", "message_loop", "cell_task", "takeover", "subshell_jobs"),
    level("capsule_worker", "shell", "frontend", "ipykernel_compat"),
    level("capsule_worker", "checkpoints"),
    level("capsule_worker", "process", "output", "isolation"),
    level("capsule_worker.protocol"),
)
#: What the protocol may import besides the standard library.
PROTOCOL_IMPORTS = {"capsule_worker", "msgpack", "pydantic", "pydantic_core", "zstandard"}


class Import(NamedTuple):
    """An import statement.

    Args:
        name: full name of what is imported; of ``from a import b`` that is ``a.b``.
        at_start: whether it runs when the module is imported: not in a function, not for type checkers only.
    """

    name: str
    at_start: bool


def imports(source: str, package: str) -> set[Import]:
    """Return everything that a module imports, wherever in it, relative names resolved.

    Args:
        source: text of the module.
        package: the package that the module is in.
    """
    found = set()

    def visit(node: ast.AST, at_start: bool) -> None:
        match node:
            case ast.Import():
                found.update(Import(alias.name, at_start) for alias in node.names)
            case ast.ImportFrom():
                parts = package.split(".")
                base = parts[: len(parts) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                found.update(Import(f"{module}.{alias.name}", at_start) for alias in node.names)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                found.add(Import(name, at_start))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                at_start = False
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for child in node.body:
                    visit(child, False)
                for child in node.orelse:
                    visit(child, at_start)
                return
            case _:
                pass
        for child in ast.iter_child_nodes(node):
            visit(child, at_start)

    visit(ast.parse(source), True)
    return found


def imported(source: str, package: str) -> set[str]:
    """Return the full names that a module imports, wherever in it; see ``imports``."""
    return {each.name for each in imports(source, package)}


class Tree:
    """The modules of one or more packages, and what they import of each other.

    Args:
        sources: the text of each module by its full name; that of a package is its ``__init__``.
        packages: names in ``sources`` that are packages.
    """

    def __init__(self, sources: Mapping[str, str], packages: set[str]) -> None:
        self.packages = packages
        #: Packages that contain packages.
        self._nesting = {name.rpartition(".")[0] for name in packages}
        self.imports = {
            name: imports(source, name if name in packages else name.rpartition(".")[0])
            for name, source in sources.items()
        }

    @classmethod
    def read(cls, *packages: ModuleType) -> Tree:
        """Return the tree of packages as they are on disk."""
        sources, folders = {}, set()
        for package in packages:
            for path, inside in modules(package):
                is_package = path.name == "__init__.py"
                name = inside if is_package else f"{inside}.{path.stem}"
                sources[name] = path.read_text(encoding="utf-8")
                if is_package:
                    folders.add(name)
        return cls(sources, folders)

    def module_of(self, name: str) -> str | None:
        """Return the module in the tree that an imported name is, or is in; None if it is in no module of the tree."""
        if name in self.imports:
            return name
        above = name.rpartition(".")[0]
        return above if above in self.imports else None

    def edges(self, at_start: bool) -> set[tuple[str, str]]:
        """Return pairs of a module and one that it imports.

        Args:
            at_start: only imports that run when the module is imported.
        """
        return {
            (module, target)
            for module, found in self.imports.items()
            for each in found
            if (each.at_start or not at_start) and (target := self.module_of(each.name)) not in (None, module)
        }

    def folder_of(self, module: str) -> str:
        """Return the package that a module is in. A module that is next to packages counts for itself."""
        folder = module if module in self.packages else module.rpartition(".")[0]
        return module if folder in self._nesting else folder


def level_of(module: str, levels: Sequence[Level]) -> tuple[int, str] | None:
    """Return the number of a module's level, counted from the top, and the name of that level that it is or is in."""
    named = {name: number for number, each in enumerate(levels) for name in each.names}
    while module:
        if module in named:
            return named[module], module
        module = module.rpartition(".")[0]
    return None


def upward(tree: Tree, levels: Sequence[Level]) -> list[str]:
    """Return the imports that point up, or between packages of a level that are independent of each other.

    Modules that no level names are left out.
    """
    wrong = []
    for module, target in sorted(tree.edges(at_start=False)):
        here, there = level_of(module, levels), level_of(target, levels)
        if here is None or there is None or here[1] == there[1]:
            continue
        if there[0] < here[0] or (there[0] == here[0] and levels[here[0]].independent):
            wrong.append(f"{module} imports {target}")
    return wrong


def circle(edges: set[tuple[str, str]]) -> list[str]:
    """Return the nodes of one circle, the first of them again at the end; an empty list if there is none."""
    graph: dict[str, set[str]] = {}
    for one, other in edges:
        if one != other:
            graph.setdefault(one, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def package_circle(tree: Tree) -> list[str]:
    """Return the packages of one circle of imports between packages; see ``circle``."""
    edges = {(tree.folder_of(one), tree.folder_of(other)) for one, other in tree.edges(at_start=True)}
    return circle(edges)


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


TREES = pytest.mark.parametrize(
    ("packages", "levels"),
    [((capsule_kernel, capsule_durable), FRONT), ((capsule_worker, capsule), WORKER)],
    ids=["front", "worker"],
)


@TREES
def test_no_import_points_up(packages: tuple[ModuleType, ...], levels: Sequence[Level]) -> None:
    tree = Tree.read(*packages)
    assert len(tree.imports) > 50
    assert upward(tree, levels) == []


@TREES
def test_every_module_has_a_level(packages: tuple[ModuleType, ...], levels: Sequence[Level]) -> None:
    tree = Tree.read(*packages)
    roots = {package.__name__ for package in packages}
    assert [module for module in tree.imports if level_of(module, levels) is None and module not in roots] == []


@TREES
def test_no_imports_go_round_in_a_circle(packages: tuple[ModuleType, ...], levels: Sequence[Level]) -> None:
    tree = Tree.read(*packages)
    assert circle(tree.edges(at_start=True)) == []
    assert package_circle(tree) == []


def test_the_protocol_needs_few_libraries() -> None:
    tree = Tree.read(capsule_worker.protocol)
    names = {each.name.partition(".")[0] for found in tree.imports.values() for each in found}
    assert names - sys.stdlib_module_names <= PROTOCOL_IMPORTS


def made_up(**sources: str) -> Tree:
    """Return a tree of modules of capsule_durable, by names with ``__`` for the dot; each folder is a package."""
    named = {f"capsule_durable.{name.replace('__', '.')}": source for name, source in sources.items()}
    folders = {name.rpartition(".")[0] for name in named}
    return Tree(dict.fromkeys(folders, "") | named, folders)


@pytest.mark.parametrize(
    ("module", "source", "is_allowed"),
    [
        ("workers__process", "from capsule_durable.history import cells", True),
        ("workers__process", "from capsule_durable.errors import CapsuleError", True),
        ("workers__process", "from capsule_durable.workers.channels import Channels", True),
        ("history__cells", "from capsule_durable.workers import process", False),
        ("history__cells", "def f():\n    import capsule_durable.workers.process", False),
        ("history__cells", "if TYPE_CHECKING:\n    from ..workers import process", False),
        ("workflows__steps", "from capsule_durable.execution import runs", True),
        ("execution__runs", "from capsule_durable.workflows import steps", False),
        ("queries__runs", "from capsule_durable.workflows import steps", False),
        ("execution__runs", "from capsule_durable.queries import runs", True),
        ("messaging__session", "from capsule_durable.engines.base import Engine", False),
        ("engines__base", "from capsule_durable.sandbox import policy", False),
        ("engines__base", "from capsule_durable.engines.embedded import wire", True),
        ("engines__embedded__wire", "from capsule_durable.storage import sqlite", True),
        ("checkpoints__service", "from capsule_durable.history import cells", True),
        ("storage__sqlite", "from capsule_durable import ids", True),
        ("ids", "from capsule_durable.storage.sqlite import Database", False),
        ("not_moved_yet", "from capsule_durable.workflows import steps", True),
    ],
)
def test_an_import_that_points_up_is_seen(module: str, source: str, is_allowed: bool) -> None:
    others = (
        "workers__process workers__channels history__cells workflows__steps execution__runs queries__runs"
        " engines__base engines__embedded__wire sandbox__policy storage__sqlite ids errors"
    )
    tree = made_up(**dict.fromkeys(others.split(), "") | {module: source})
    assert (upward(tree, FRONT) == []) is is_allowed


@pytest.mark.parametrize(
    ("source", "is_circle"),
    [
        ("from capsule_durable.storage.b import f", True),
        ("from . import b", True),
        ("def f():\n    from . import b", False),
        ("if TYPE_CHECKING:\n    from . import b", False),
        ("if sys.version_info > (3, 12):\n    from . import b", True),
        ("from . import c", False),
    ],
)
def test_a_circle_of_modules_is_seen(source: str, is_circle: bool) -> None:
    tree = made_up(storage__a=source, storage__b="import capsule_durable.storage.a", storage__c="")
    assert bool(circle(tree.edges(at_start=True))) is is_circle


def test_a_circle_of_packages_is_seen_where_there_is_none_of_modules() -> None:
    tree = made_up(
        config__a="import capsule_durable.storage.a",
        storage__b="import capsule_durable.config.b",
        storage__a="",
        config__b="",
    )
    assert circle(tree.edges(at_start=True)) == []
    assert set(package_circle(tree)) == {"capsule_durable.config", "capsule_durable.storage"}


def test_a_module_next_to_packages_is_in_no_circle_of_packages() -> None:
    tree = made_up(ids="", storage__a="from capsule_durable import ids", app="import capsule_durable.storage.a")
    assert package_circle(tree) == []


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
        ("from ..other import a", {"here.other.a"}),
        ("importlib.import_module('capsule_kernel')", {"capsule_kernel"}),
    ],
)
def test_every_way_to_import_is_seen(source: str, names: set[str]) -> None:
    assert imported(source, "here.below") == names


def test_the_cookie_that_the_front_sets_is_the_one_that_the_reaper_looks_for() -> None:
    assert launcher.PROCESS_TAG == orphan_cleanup.PROCESS_TAG


def test_the_memory_that_the_front_makes_has_the_size_that_the_worker_maps() -> None:
    assert channels.JOURNAL_SIZE == output_buffer.SIZE


def test_a_variable_that_both_ends_know_has_one_name() -> None:
    assert (launcher.HIDDEN_ENVIRONMENT, launcher.PROFILE) == (error_hints.HIDDEN_ENVIRONMENT, error_hints.PROFILE)
