"""What the source of a cell says about the variables that it may change. Pure."""

from __future__ import annotations

import ast
import dis
import types
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

#: Code that uses these may reach every variable without naming it.
REACHES_ALL = frozenset(
    {
        "exec",
        "eval",
        "compile",
        "globals",
        "locals",
        "vars",
        "__import__",
        "import_module",
        "__globals__",
        "f_globals",
        "f_locals",
        "_getframe",
        "_current_frames",
        "currentframe",
        "get_objects",
        "get_referrers",
        "__main__",
        "get_ipython",
        "import *",
        "sys.modules",
        "user_ns",
        "ctypes",
        # A user who debugs may type anything.
        "breakpoint",
        "set_trace",
        "post_mortem",
    }
)
#: These do so only as what they are built in as: ``re.compile`` and ``frame.eval`` do not.
_BUILT_IN = frozenset({"exec", "eval", "compile", "globals", "locals", "vars", "__import__"})
#: Magics that change no variable.
_HARMLESS = frozenset(
    "alias alias_magic bookmark capsule cat cd clear colors conda config connect_info cp dhist dirs doctest_mode env "
    "hist history killbgscripts ldir less lf lk ll load_ext ls lsmagic lx magic man matplotlib mkdir more mv "
    "notebook page pdef pdoc pfile pinfo pinfo2 pip popd precision psearch psource pushd pwd pycat quickref rehashx "
    "reload_ext rm rmdir save sc set_env sx system tb unalias unload_ext uv who who_ls whos writefile file html "
    "javascript js latex markdown svg bash sh script".split()
)
#: Statements that bind nothing, unless the names in them do.
_LOOKING = (ast.Expr, ast.Pass, ast.If, ast.While, ast.For, ast.With, ast.Assert, ast.Raise, ast.Assign, ast.AugAssign)
#: Magics that run the code that they are given, in its place.
_RUNNING = frozenset({"time", "timeit", "prun", "capture", "memit", "mprun", "lprun"})


@dataclass(frozen=True)
class NameUsage:
    """What code may touch.

    Args:
        names: the names that it uses.
        modules: roots of the modules that it imports.
        anything: why it may touch every variable; None if it touches those of ``names`` only.
        binds: whether it binds names, or unbinds them.
    """

    names: frozenset[str]
    modules: frozenset[str] = frozenset()
    anything: str | None = None
    binds: bool = False


@lru_cache(maxsize=512)
def name_usage(source: str) -> NameUsage:
    """Return what a cell may touch.

    Args:
        source: Python, as IPython has transformed the cell.
    """
    # What there is to warn of is said when it is compiled.
    show, warnings.showwarning = warnings.showwarning, lambda *_args, **_keywords: None
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return NameUsage(frozenset(), anything="code that cannot be read")
    finally:
        warnings.showwarning = show
    names: set[str] = set()
    modules: set[str] = set()
    anything = _walk(tree, names, modules)
    return NameUsage(frozenset(names), frozenset(modules), anything, any(map(_binds, ast.walk(tree))))


def _binds(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return not isinstance(node.ctx, ast.Load)
    return isinstance(node, ast.stmt) and not isinstance(node, _LOOKING)


def _walk(tree: ast.AST, names: set[str], modules: set[str]) -> str | None:
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        found = _Magic.of(node)
        if found is not None:
            reason = found.look(names, modules)
            if reason is not None:
                return reason
            continue
        word = ""
        if isinstance(node, ast.Name):
            word = node.id
            names.add(word)
        elif isinstance(node, ast.Attribute):
            word = "" if node.attr in _BUILT_IN else node.attr
            if word == "modules" and isinstance(node.value, ast.Name) and node.value.id == "sys":
                word = "sys.modules"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            word = _imported(node, names, modules)
        else:
            names.update(_bound(node))
        if word in REACHES_ALL:
            return word
        stack.extend(ast.iter_child_nodes(node))
    return None


def _bound(node: ast.AST) -> Iterable[str]:
    """Return the names that a statement or a pattern binds without an expression of their own."""
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return node.names
    # Functions, classes, handlers and patterns have names.
    name = node.rest if isinstance(node, ast.MatchMapping) else getattr(node, "name", None)
    return (name,) if isinstance(name, str) else ()


def _imported(node: ast.Import | ast.ImportFrom, names: set[str], modules: set[str]) -> str:
    if isinstance(node, ast.ImportFrom):
        root = (node.module or "").partition(".")[0]
        modules.add(root)
        names.update(alias.asname or alias.name for alias in node.names)
        if node.names[0].name == "*":
            return "import *"  # which names that binds is unknown
        dangerous = REACHES_ALL.intersection(alias.name for alias in node.names) - _BUILT_IN
        if root == "sys" and any(alias.name == "modules" for alias in node.names):
            return "sys.modules"
        return root if root in REACHES_ALL else next(iter(dangerous), "")
    roots = {alias.name.partition(".")[0] for alias in node.names}
    modules.update(roots)
    names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
    return next(iter(roots & REACHES_ALL), "")


@dataclass(frozen=True)
class _Magic:
    """A call of IPython that stands where a cell has ``%`` or ``!``."""

    name: str
    arguments: list[ast.expr]

    @classmethod
    def of(cls, node: ast.AST) -> _Magic | None:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            return None
        shell = node.func.value
        if not (isinstance(shell, ast.Call) and isinstance(shell.func, ast.Name) and shell.func.id == "get_ipython"):
            return None
        return cls(node.func.attr, node.args)

    def look(self, names: set[str], modules: set[str]) -> str | None:
        """Note what it touches; return why that may be anything."""
        constants = [item.value for item in self.arguments if isinstance(item, ast.Constant)]
        texts = [value for value in constants if isinstance(value, str)]
        if self.name in {"system", "getoutput", "getoutput_split"}:
            names.update(_expanded(texts))
            return None
        if self.name not in {"run_line_magic", "run_cell_magic"} or len(texts) != len(self.arguments) or not texts:
            return f"get_ipython().{self.name}"
        magic, *rest = texts
        names.update(_expanded(rest[:1]))
        if magic in _HARMLESS:
            # Some put what a command prints into variables.
            names.update(word for word in _words("".join(rest[:1])) if word.isidentifier())
            return None
        if magic not in _RUNNING:
            return f"%{magic}"
        if magic == "capture":
            names.update(rest[0].split())
            rest = rest[1:]
        return _look_at_code(rest, magic, names, modules)


def _look_at_code(texts: list[str], magic: str, names: set[str], modules: set[str]) -> str | None:
    for text in texts:
        code = _without_options(text)
        found = name_usage(code)
        names.update(found.names)
        modules.update(found.modules)
        if found.anything is not None:
            return f"%{magic}"
    return None


def _without_options(line: str) -> str:
    words = line.lstrip()
    while words.startswith("-"):
        option, _, words = words.partition(" ")
        # An option of %timeit with a value that stands apart: -n 10.
        if option in {"-n", "-r", "-o", "-p", "-T", "-D", "-l", "-s"} and words[:1].isdigit():
            _, _, words = words.partition(" ")
        words = words.lstrip()
    return words


def _expanded(texts: Iterable[str]) -> Iterator[str]:
    """Yield the names that a command line may take values from: ``$name`` and ``{expression}``."""
    for text in texts:
        if "$" in text or "{" in text:
            yield from (word for word in _words(text) if word.isidentifier())


def _words(text: str) -> list[str]:
    return "".join(char if char.isalnum() or char == "_" else " " for char in text).split()


def names_used(codes: Iterable[types.CodeType]) -> set[str]:
    """Return the names of globals and attributes that code uses.

    Args:
        codes: code objects; those that are nested in them are included.
    """
    found: set[str] = set()
    for code in _with_nested(codes):
        found.update(_names_of(code))
    return found


@lru_cache(maxsize=4096)
def _names_of(code: types.CodeType) -> frozenset[str]:
    names = frozenset(code.co_names)
    if {"sys", "modules"} <= names:
        names |= {"sys.modules"}
    doubtful = names & _BUILT_IN
    if doubtful:
        meant = {step.argval for step in dis.get_instructions(code) if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}}
        names -= doubtful - meant
    return names


def _with_nested(codes: Iterable[types.CodeType]) -> Iterator[types.CodeType]:
    stack = list(codes)
    while stack:
        code = stack.pop()
        yield code
        stack.extend(item for item in code.co_consts if isinstance(item, types.CodeType))
