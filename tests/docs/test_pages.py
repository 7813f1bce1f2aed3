"""The documents have the promised length, are complete, match the code, and use the words of the glossary."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import capsule
from capsule_durable.telemetry.events import EVENT_TYPES, BaseEvent
from tests.support import ROOT
from tests.support.markdown import PAGES, by_hand

REFERENCE = ROOT / "docs" / "reference"
RETIRED_WORDS = ROOT / "tools" / "retired_words.toml"


def load(path: Path) -> ModuleType:
    """Import a script that is not in a package."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


generate = load(ROOT / "docs" / "generate.py")
structure = load(ROOT / "tools" / "structure.py")
retired_words = structure.load_words(RETIRED_WORDS.read_text(encoding="utf-8"))


def page(name: str) -> str:
    """Return the text of a page of the reference."""
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert 70 <= len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


def test_the_architecture_is_one_page() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 70


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_reference_matches_the_code(name: str) -> None:
    assert page(name) == generate.updated(name), "run make reference"


def test_every_command_and_option_is_in_the_reference() -> None:
    text = page("cli.md")
    for name, command in generate.commands().items():
        section = text.partition(f"### capsule {name}\n")[2].partition("\n### ")[0]
        assert section, name
        for param in command.params:
            if param.param_type_name == "option" and not param.hidden:
                assert all(f"{option}" in section for option in param.opts), (name, param.name)


def test_every_setting_is_in_the_reference() -> None:
    text = page("settings.md")
    for name, field in generate.Settings.model_fields.items():
        assert f"| `{name}` |" in text
        assert field.description


def test_every_magic_is_in_the_reference() -> None:
    text = page("magics.md")
    parser = generate.capsule_magics._parser()
    names = [
        name for action in parser._actions if isinstance(action, argparse._SubParsersAction) for name in action.choices
    ]
    assert names
    for name in names:
        assert f"`%capsule {name}" in text


def test_every_name_for_cells_is_in_the_reference() -> None:
    text = page("python.md")
    assert all(f"## `{name}" in text for name in capsule.__all__)


def test_every_message_is_in_the_reference() -> None:
    text = page("protocol.md")
    union = [*generate._models(generate.messages.ToWorker), *generate._models(generate.messages.FromWorker)]
    assert len(union) > 30
    assert all(f"| `{model.__name__}` |" in text for model in union)


def test_every_event_is_listed_with_its_fields() -> None:
    rows = dict(re.findall(r"^\| `([A-Z]\w+)` \| (.+) \|$", page("events.md"), re.MULTILINE))
    common = {field.name for field in dataclasses.fields(BaseEvent)}
    fields = {kind.__name__: [one.name for one in dataclasses.fields(kind)] for kind in EVENT_TYPES}
    assert {name: re.findall(r"`(\w+)`", text) for name, text in rows.items()} == {
        name: [one for one in names if one not in common] for name, names in fields.items()
    }
    assert set(re.findall(r"^\| `([a-z]\w+)` \|", page("events.md"), re.MULTILINE)) == common


def test_a_page_without_a_generated_part_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "REFERENCE", tmp_path)
    (tmp_path / "cli.md").write_text("# Command line\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cli\.md"):
        generate.updated("cli.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_uses_a_retired_word(path: Path) -> None:
    # What comes from the code is read where it is written.
    text = by_hand(path.read_text(encoding="utf-8"))
    assert not structure.find_words({str(path.relative_to(ROOT)): text}, retired_words)
