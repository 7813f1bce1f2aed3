"""The tool that shows sizes and retired words, and the list of the words."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path):
    """Return a program of the repository as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


structure = load(ROOT / "tools" / "structure.py")
WORDS = structure.load_words(structure.WORDS.read_text(encoding="utf-8"))


def measured(source: str, file: str = "kernel/capsule_kernel/cli/main.py"):
    return structure.measure({file: source})


def lines(count: int, first: str = "") -> str:
    return first + "x = 1\n" * (count - first.count("\n"))


def test_a_file_over_the_limit_is_named_with_its_lines() -> None:
    assert measured(lines(500)).files == []
    (place,) = measured(lines(501)).files
    assert (place.file, place.size) == ("kernel/capsule_kernel/cli/main.py", 501)


def test_a_function_over_the_limit_is_named_wherever_it_is() -> None:
    body = "        x = 1\n"
    source = "class A:\n    def short(self):\n" + body * 79 + "    async def long(self):\n" + body * 80
    assert [(each.name, each.line, each.size) for each in measured(source).functions] == [("long", 82, 81)]


def test_methods_are_those_of_the_class_itself_with_its_properties() -> None:
    methods = "".join(f"    def m{number}(self): ...\n" for number in range(25))
    attribute = "    @property\n    def p(self): ...\n    @p.setter\n    def p(self, value): ...\n"
    assert measured("class A(B):\n" + methods).classes == []
    (size,) = measured("class A(B):\n" + methods + attribute).classes
    assert (size.methods, size.attributes) == (26, 0)


def test_attributes_are_what_is_assigned_to_self() -> None:
    source = (
        "class A:\n"
        "    in_class = 1\n"
        "    def __init__(self, other):\n"
        "        self.a, (self.b, *self.c) = self.d = other\n"
        "        self.e: int = 1\n"
        "        self.a += self.read\n"
        "        other.f = 1\n"
        "        self.a.g = 1\n"
        "        with other as self.h:\n"
        "            pass\n"
    )
    (node,) = structure.ast.parse(source).body
    assert structure.class_size("a.py", node).attributes == 6


def test_folders_with_too_many_or_too_few_modules_are_named() -> None:
    counts = {
        "kernel/capsule_kernel/cli": 13,
        "kernel/capsule_kernel/web": 3,
        "kernel/capsule_kernel/console": 4,
        "worker/capsule_worker/checkpoints/adapters": 20,
        "worker/capsule": 20,
        "durable/capsule_durable": 30,
    }
    files = {f"{folder}/m{number}.py": "" for folder, count in counts.items() for number in range(count)}
    files |= {f"{folder}/__init__.py": "" for folder in counts}
    found = structure.measure(files)
    assert [(each.name, each.size) for each in found.folders] == [("cli", 13), ("web", 3)]
    assert [(each.name, each.size) for each in found.roots] == [("capsule_durable", 30), ("capsule", 20)]


def test_docstrings_are_counted_of_public_definitions() -> None:
    source = (
        "def f(a):\n    '''Do f.\n\n    Args:\n        a: seconds.\n    '''\n"
        "def g(a, *b):\n    '''Do g.'''\n    def inner(): ...\n"
        "def _private(a): ...\n"
        "class A:\n"
        "    def m(self): ...\n"
        "    def __eq__(self, other): ...\n"
        "class _B:\n    def m(self, a): ...\n"
        "if 1:\n    def h(): ...\n"
    )
    found = measured(source)
    assert (found.docstrings.having, found.docstrings.total) == (2, 5)
    assert (found.args_sections.having, found.args_sections.total) == (1, 2)
    assert (found.args_sections_of_two.having, found.args_sections_of_two.total) == (0, 1)


def test_what_is_to_be_removed_is_found() -> None:
    source = (
        "class Host: ...\n"
        "class Hosts: ...\n"
        "getattr(self, f'_do_{name}')\n"
        "getattr(self, f'do_{name}')\n"
        "getattr(self, name)\n"
        "os.kill(pid, 0)\n"
        "os.kill(pid, signal.SIGKILL)\n"
        "Path(f'/proc/{pid}').exists()\n"
        "Path(f'/proc/{pid}/stat').read_text()\n"
        "Path('/proc/self').exists()\n"
        "def alive(pid): ...\n"
        "files.alive(1)\n"
    )
    found = measured(source)
    assert [each.line for each in found.host_or_listener] == [1]
    assert [each.line for each in found.selected_by_name] == [3]
    assert sorted(each.line for each in found.pid_only) == [6, 8, 11, 12]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.word)
def test_a_retired_word_is_found_in_its_examples_only(word) -> None:
    assert word.matches
    assert [text for text in word.matches if not list(word.find(text))] == []
    assert [text for text in word.fine if list(word.find(text))] == []


def test_words_are_found_in_texts_and_not_in_code() -> None:
    words = structure.load_words("[[retired]]\nword = 'old word'\nuse = 'new'\npattern = '\\bold word\\b'\n")
    source = (
        "'''The old\nword.'''\n"  # 1
        "old_word = 'word old'  # old\n"  # 3
        "# word, and old word\n"  # 4
        "key = 'old word'\n"  # 5: too short
        "text = 'a long old word'\n"  # 6
        "text = f'{text} is an old word'\n"  # 7
        "text = ('a long old'\n    ' word')\n"  # 8
        "option(help='Old word.')\n"  # 10
        "def f():\n    'Old word.'\n"  # 11
    )
    assert [each.line for each in structure.find_words({"a.py": source}, words)] == [1, 3, 4, 6, 7, 8, 10, 12]
    assert [each.line for each in structure.find_words({"a.md": "One.\n\nAn old\nword.\n"}, words)] == [3]


def test_a_word_in_an_allowed_context_is_not_found() -> None:
    (word,) = structure.load_words(
        "[[retired]]\nword = 'hold'\nuse = 'be active'\npattern = '\\bhold\\b'\nallowed = ['\\bhold a lock\\b']\n"
    )
    assert [match.start() for match in word.find("hold a\nlock; they hold")] == [18]


def test_the_list_for_codespell_is_current() -> None:
    listed = (ROOT / "tools" / "codespell.txt").read_text(encoding="utf-8")
    assert listed == structure.codespell_list(WORDS), "run: python tools/structure.py --codespell > tools/codespell.txt"


@pytest.mark.process
def test_it_reads_the_repository_and_fails_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "tools/structure.py", "README.md", "tools/structure.py"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Lines with retired words: " in done.stdout
    assert done.stderr == ""
