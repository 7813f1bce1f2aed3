"""Show where the structure of the code and the language of its texts differ from what is aimed at.

It informs and fails nothing: the exit status is 0 whatever it finds. It needs only the standard library.

What is counted, in the product (kernel, durable, worker):

- files over 500 lines, and functions over 80 lines, the docstring included;
- classes over 25 methods (defined in the class itself; properties count) or 20 attributes (``self.x`` assigned in it);
- folders with more than 12 or fewer than 4 modules (``__init__`` does not count; ``adapters``, ``capsule`` and roots
  of packages have no limit);
- public definitions (functions, classes and their methods without a leading underscore) that have a docstring, and
  public functions with arguments whose docstring has ``Args:``;
- what is to be removed: methods selected by name (``getattr(self, f"_..."``), classes Host and Listener, and checks
  of a process by its number only (``os.kill(pid, 0)``, whether ``/proc/PID`` exists, a function ``alive``).

Retired words (``tools/retired_words.toml``) are counted in docstrings, comments, string literals over 12 characters,
``help=`` and ``description=`` of any length (so in ``--help`` of all commands and in the settings), and in Markdown,
everywhere in the repository.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORDS = Path(__file__).with_name("retired_words.toml")
PRODUCT = ("kernel", "durable", "worker")

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
MAX_METHODS, MAX_ATTRIBUTES = 25, 20
MIN_MODULES, MAX_MODULES = 4, 12
#: Names of folders that may have any number of modules, besides the roots of packages.
UNLIMITED_FOLDERS = ("adapters", "capsule")
#: String literals of this length or less are keys and names rather than texts.
SHORT_STRING = 12
#: Arguments whose strings are texts at any length.
TEXT_ARGUMENTS = ("help", "description", "epilog", "short_help")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Place:
    """A place in a file.

    Args:
        file: path from the root of the repository.
        line: counted from 1.
        name: of the definition, file or folder, or the text of an expression.
        size: lines of a function or file, modules of a folder.
    """

    file: str
    line: int
    name: str
    size: int = 0


@dataclass(frozen=True)
class ClassSize:
    """How much a class holds; see the module's docstring for what counts."""

    file: str
    name: str
    methods: int
    attributes: int


@dataclass
class Share:
    """How many of some definitions have what they should."""

    having: int = 0
    total: int = 0

    def count(self, has: bool) -> None:
        """Count one more."""
        self.having += has
        self.total += 1

    @property
    def percent(self) -> float:
        """The share in percent; 100 of nothing."""
        return 100.0 * self.having / self.total if self.total else 100.0


@dataclass
class Structure:
    """What was found in the product."""

    files: list[Place] = field(default_factory=list)
    classes: list[ClassSize] = field(default_factory=list)
    folders: list[Place] = field(default_factory=list)
    roots: list[Place] = field(default_factory=list)
    functions: list[Place] = field(default_factory=list)
    docstrings: Share = field(default_factory=Share)
    args_sections: Share = field(default_factory=Share)
    args_sections_of_two: Share = field(default_factory=Share)
    selected_by_name: list[Place] = field(default_factory=list)
    host_or_listener: list[Place] = field(default_factory=list)
    pid_only: list[Place] = field(default_factory=list)


@dataclass(frozen=True)
class RetiredWord:
    """A word that texts do not use; see ``retired_words.toml``.

    Args:
        word: the word as people know it.
        use: what to write instead.
        pattern: finds it.
        allowed: contexts in which it is good English; a match that overlaps one is not found.
        matches: examples that are found.
        fine: examples that are not.
        codespell: forms that are wrong in every context.
    """

    word: str
    use: str
    pattern: re.Pattern[str]
    allowed: tuple[re.Pattern[str], ...] = ()
    matches: tuple[str, ...] = ()
    fine: tuple[str, ...] = ()
    codespell: tuple[str, ...] = ()

    def find(self, text: str) -> Iterator[re.Match[str]]:
        """Yield the matches in a text that are in no allowed context."""
        for match in self.pattern.finditer(text):
            contexts = (context for each in self.allowed for context in each.finditer(text))
            if not any(context.start() < match.end() and match.start() < context.end() for context in contexts):
                yield match


@dataclass(frozen=True)
class Text:
    """A text that people read.

    Args:
        line: the line on which it starts.
        text: what it says; of comments on consecutive lines it is all of them.
    """

    line: int
    text: str


@dataclass(frozen=True)
class Finding:
    """A retired word in a file."""

    file: str
    line: int
    word: str
    found: str
    use: str


# -- structure -----------------------------------------------------------------------------------------------


def measure(sources: Mapping[str, str]) -> Structure:
    """Return what is found in the product.

    Args:
        sources: texts of the Python files by their paths from the root of the repository.
    """
    found = Structure()
    for file, source in sources.items():
        lines = len(source.splitlines())
        if lines > MAX_FILE_LINES:
            found.files.append(Place(file, 1, PurePosixPath(file).name, lines))
        tree = ast.parse(source)
        _measure_definitions(found, file, tree.body, is_public=True)
        _search(found, file, tree)
    _measure_folders(found, sources)
    found.files.sort(key=lambda place: -place.size)
    found.functions.sort(key=lambda place: -place.size)
    found.classes.sort(key=lambda each: (-each.methods, -each.attributes))
    return found


def _measure_definitions(found: Structure, file: str, body: Iterable[ast.stmt], *, is_public: bool) -> None:
    """Count the definitions of a module or class, those in its classes and functions included."""
    for node in _definitions(body):
        named_public = is_public and not node.name.startswith("_")
        if named_public:
            found.docstrings.count(ast.get_docstring(node) is not None)
        if isinstance(node, ast.ClassDef):
            size = class_size(file, node)
            if size.methods > MAX_METHODS or size.attributes > MAX_ATTRIBUTES:
                found.classes.append(size)
            _measure_definitions(found, file, node.body, is_public=named_public)
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            found.functions.append(Place(file, node.lineno, node.name, lines))
        arguments = _count_arguments(node) if named_public else 0
        for least, share in ((1, found.args_sections), (2, found.args_sections_of_two)):
            if arguments >= least:
                share.count("Args:" in (ast.get_docstring(node) or ""))
        _measure_definitions(found, file, node.body, is_public=False)


def _definitions(body: Iterable[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Yield the definitions in statements, also those under ``if``, ``try`` and ``with``."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef):
            yield node
            continue
        for _, value in ast.iter_fields(node):
            if isinstance(value, list):
                yield from _definitions(child for child in value if isinstance(child, ast.stmt))
                for child in value:
                    if isinstance(child, ast.ExceptHandler | ast.match_case):
                        yield from _definitions(child.body)


def class_size(file: str, node: ast.ClassDef) -> ClassSize:
    """Return how many methods and attributes a class has itself."""
    methods = {each.name for each in _definitions(node.body) if isinstance(each, Function)}
    attributes = {
        each.attr
        for method in _definitions(node.body)
        if isinstance(method, Function)
        for each in ast.walk(method)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }
    return ClassSize(file, node.name, len(methods), len(attributes))


def _count_arguments(node: Function) -> int:
    arguments = node.args
    named = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    return len(named - {"self", "cls"}) + sum(each is not None for each in (arguments.vararg, arguments.kwarg))


def _measure_folders(found: Structure, files: Iterable[str]) -> None:
    modules = Counter(str(PurePosixPath(file).parent) for file in files if PurePosixPath(file).name != "__init__.py")
    for folder, count in sorted(modules.items()):
        path = PurePosixPath(folder)
        place = Place(folder, 1, path.name, count)
        if len(path.parts) == 2:  # noqa: PLR2004  # such as kernel/capsule_kernel
            found.roots.append(place)
        elif not MIN_MODULES <= count <= MAX_MODULES and path.name not in UNLIMITED_FOLDERS:
            found.folders.append(place)


def _search(found: Structure, file: str, tree: ast.Module) -> None:
    """Search for what is to be removed."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name="Host" | "Listener"):
                found.host_or_listener.append(Place(file, node.lineno, node.name))
            case ast.FunctionDef(name="alive") | ast.AsyncFunctionDef(name="alive"):
                found.pid_only.append(Place(file, node.lineno, "def alive"))
            case ast.Call(
                func=ast.Name(id="getattr"), args=[ast.Name(id="self"), ast.JoinedStr(values=[first, *_]), *_]
            ):
                if isinstance(first, ast.Constant) and str(first.value).startswith("_"):
                    found.selected_by_name.append(Place(file, node.lineno, ast.unparse(node)))
            case ast.Call() if _checks_pid(node):
                found.pid_only.append(Place(file, node.lineno, ast.unparse(node)))
            case _:
                pass


def _checks_pid(call: ast.Call) -> bool:
    """Return whether a call finds out by a process's number only whether it is running."""
    match call:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="kill"), args=[_, ast.Constant(value=0)]):
            return True
        case ast.Call(func=ast.Name(id="alive") | ast.Attribute(attr="alive")):
            return True
        case ast.Call(func=ast.Attribute(attr="exists" | "is_dir" | "isdir" | "access" | "pid_exists")):
            return bool(re.search(r"/proc/\{[^}]*\}|pid_exists", ast.unparse(call)))
        case _:
            return False


# -- retired words -------------------------------------------------------------------------------------------


def load_words(toml: str) -> list[RetiredWord]:
    """Return the words of a list.

    Args:
        toml: the text of ``retired_words.toml``.

    Raises:
        TypeError: an entry has an unknown field, or lacks one.
    """
    return [_word(**entry) for entry in tomllib.loads(toml)["retired"]]


def _word(
    word: str,
    use: str,
    pattern: str,
    allowed: Iterable[str] = (),
    matches: Iterable[str] = (),
    fine: Iterable[str] = (),
    codespell: Iterable[str] = (),
) -> RetiredWord:
    compiled = tuple(_compile(each) for each in allowed)
    return RetiredWord(word, use, _compile(pattern), compiled, tuple(matches), tuple(fine), tuple(codespell))


def _compile(pattern: str) -> re.Pattern[str]:
    """Compile a pattern whose spaces stand for any white space, and for what begins a comment's next line."""
    # A lookbehind has a fixed width: its space stays one.
    parts = re.split(r"(\(\?<[!=][^)]*\))", pattern)
    spaced = (part if part.startswith("(?<") else part.replace(" ", r"(?:\s+(?:#:?\s+)?)") for part in parts)
    return re.compile("".join(spaced), re.IGNORECASE | re.MULTILINE)


def python_texts(source: str) -> Iterator[Text]:
    """Yield the docstrings, comments and string literals of a module that people read."""
    yield from _comments(source)
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    always = {id(doc) for node in nodes if (doc := _docstring(node)) is not None}
    always |= {
        id(each.value)
        for node in nodes
        if isinstance(node, ast.Call)
        for each in node.keywords
        if each.arg in TEXT_ARGUMENTS
    }
    parts = {id(value) for node in nodes if isinstance(node, ast.JoinedStr) for value in ast.walk(node)} - {
        id(node) for node in nodes if isinstance(node, ast.JoinedStr)
    }
    for node in nodes:
        text = _literal(node)
        if text is not None and id(node) not in parts and (id(node) in always or len(text) > SHORT_STRING):
            yield Text(getattr(node, "lineno", 1), text)


def _literal(node: ast.AST) -> str | None:
    """Return the text of a string literal, with ``{}`` for each value in it."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=values):
            return "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in values)
        case _:
            return None


def _docstring(node: ast.AST) -> ast.Constant | None:
    match node:
        case (
            ast.Module(body=[ast.Expr(value=ast.Constant(value=str()) as doc), *_])
            | ast.ClassDef(body=[ast.Expr(value=ast.Constant(value=str()) as doc), *_])
            | ast.FunctionDef(body=[ast.Expr(value=ast.Constant(value=str()) as doc), *_])
            | ast.AsyncFunctionDef(body=[ast.Expr(value=ast.Constant(value=str()) as doc), *_])
        ):
            return doc
        case _:
            return None


def _comments(source: str) -> Iterator[Text]:
    """Yield the comments of a module; those on consecutive lines are one text."""
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if block and line != last + 1:
            yield Text(start, "\n".join(block))
            block = []
        if not block:
            start = line
        block.append(token.string)
        last = line
    if block:
        yield Text(start, "\n".join(block))


def markdown_texts(source: str) -> Iterator[Text]:
    """Yield the text of a Markdown file."""
    yield Text(1, source)


def find_words(sources: Mapping[str, str], words: Iterable[RetiredWord]) -> list[Finding]:
    """Return the retired words in files.

    Args:
        sources: texts of ``*.py`` and ``*.md`` files by their paths.
        words: the words to look for.
    """
    words = list(words)
    found = []
    for file, source in sources.items():
        texts = python_texts(source) if file.endswith(".py") else markdown_texts(source)
        for text in texts:
            for word in words:
                for match in word.find(text.text):
                    start = match.start() + len(match[0]) - len(match[0].lstrip())
                    line = text.line + text.text.count("\n", 0, start)
                    found.append(Finding(file, line, word.word, " ".join(match[0].split()), word.use))
    return sorted(found, key=lambda each: (each.file, each.line))


def codespell_list(words: Iterable[RetiredWord]) -> str:
    """Return the words that are wrong in every context as a dictionary of codespell's: ``word->use, use,`` a line."""
    # With a comma at the end codespell suggests and does not replace.
    return "".join(sorted(f"{form}->{word.use},\n" for word in words for form in word.codespell))


# -- files and printing --------------------------------------------------------------------------------------


def read(paths: Iterable[Path]) -> dict[str, str]:
    """Return the texts of Python and Markdown files by their paths from the root of the repository."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in paths
        if path.suffix in {".py", ".md"} and path.is_file() and not path.is_symlink()
    }


def tracked() -> list[Path]:
    """Return the files of the repository, those that were not added yet included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607  # the user's git
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in sorted(filter(None, listed.stdout.split("\0")))]


def is_product(file: str) -> bool:
    """Return whether a path from the root of the repository is a Python file of the product."""
    return file.startswith(tuple(f"{folder}/" for folder in PRODUCT)) and file.endswith(".py")


def print_structure(found: Structure) -> None:
    """Print what was found in the product."""

    def section(title: str, lines: Iterable[str]) -> None:
        rows = list(lines)
        print(f"{title}: {len(rows)}")
        print(*(f"  {row}" for row in rows), sep="\n", end="\n" if rows else "")

    section(f"Files over {MAX_FILE_LINES} lines", (f"{each.size:4} {each.file}" for each in found.files))
    section(
        f"Classes over {MAX_METHODS} methods or {MAX_ATTRIBUTES} attributes",
        (f"{each.methods:3}/{each.attributes:<3} {each.name} ({each.file})" for each in found.classes),
    )
    section(
        f"Folders with more than {MAX_MODULES} or fewer than {MIN_MODULES} modules",
        (f"{each.size:3} {each.file}" for each in found.folders),
    )
    print("Roots of packages, without a limit: " + ", ".join(f"{each.name} {each.size}" for each in found.roots))
    section(
        f"Functions over {MAX_FUNCTION_LINES} lines",
        (f"{each.size:4} {each.name} ({each.file}:{each.line})" for each in found.functions),
    )
    for title, share in (
        ("Public definitions with a docstring", found.docstrings),
        ("Public functions with arguments that have `Args:`", found.args_sections),
        ("... with two or more arguments", found.args_sections_of_two),
    ):
        print(f"{title}: {share.percent:.1f} % ({share.having} of {share.total})")
    for title, places in (
        ("Methods selected by name", found.selected_by_name),
        ("Classes Host or Listener", found.host_or_listener),
        ("Checks of a process by its number only", found.pid_only),
    ):
        section(title, (f"{each.file}:{each.line} {each.name}" for each in places))


def print_words(findings: list[Finding]) -> None:
    """Print how many lines have retired words, by file and by word."""
    by_file = Counter(file for file, _ in {(each.file, each.line) for each in findings})
    by_word = Counter(each.word for each in findings)
    product = sum(count for file, count in by_file.items() if is_product(file))
    print(f"Lines with retired words: {by_file.total()} in {len(by_file)} files ({product} of them in the product)")
    print(*(f"{count:5} {file}" for file, count in by_file.most_common()), sep="\n")
    print("By word: " + ", ".join(f"{word} {count}" for word, count in by_word.most_common()))


def as_json(found: Structure, findings: list[Finding]) -> dict[str, Any]:
    """Return everything that was found as JSON has it."""
    return asdict(found) | {"words": [asdict(each) for each in findings]}


def main() -> None:
    """Read the repository, or the files that are named, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="read only these (default: all of the repository)")
    parser.add_argument("--words", action="store_true", help="list each line with a retired word, and nothing else")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--codespell", action="store_true", help="print the retired words as codespell reads them")
    arguments = parser.parse_args()
    words = load_words(WORDS.read_text(encoding="utf-8"))
    if arguments.codespell:
        sys.stdout.write(codespell_list(words))
        return
    sources = read([path.resolve() for path in arguments.files] or tracked())
    findings = find_words(sources, words)
    if arguments.words and not arguments.json:
        for each in findings:
            print(f"{each.file}:{each.line}: {each.found!r}: write {each.use}")
        return
    found = measure({file: source for file, source in sources.items() if is_product(file)})
    if arguments.json:
        print(json.dumps(as_json(found, findings), indent=2))
        return
    print_structure(found)
    print_words(findings)


if __name__ == "__main__":
    main()
