"""Write the generated parts of ``docs/reference``: commands, settings, magics, API for cells, protocol messages.

``python docs/generate.py`` writes them. With ``--check`` it writes nothing and fails if a page is out of date.
A generated part is between two comments in its page; the rest of the page is written by hand.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union

import typer

import capsule
from capsule_durable.config.settings import Settings
from capsule_kernel.cli.main import app
from capsule_worker.protocol import messages
from capsule_worker.shell import capsule_magics

REFERENCE = Path(__file__).parent / "reference"
BEGIN, END = "<!-- generated: {} -->\n", "<!-- /generated -->"
#: Defaults that depend on the machine.
COMPUTED = {"home": "`~/.local/share/capsule`", "python": "the interpreter of the kernel"}


def main() -> int:
    """Write or check all pages; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    check = parser.parse_args().check
    stale = [page for page in PAGES if updated(page) != (REFERENCE / page).read_text(encoding="utf-8")]
    for page in stale:
        if check:
            print(f"docs/reference/{page} is out of date: run make reference", file=sys.stderr)
        else:
            (REFERENCE / page).write_text(updated(page), encoding="utf-8")
            print(f"Wrote docs/reference/{page}")
    return 1 if check and stale else 0


def updated(page: str) -> str:
    """Return the text of a page with its generated part made anew.

    Args:
        page: the file name in ``docs/reference``.

    Raises:
        ValueError: the page has no generated part.
    """
    begin = BEGIN.format(page.removesuffix(".md"))
    before, found, rest = (REFERENCE / page).read_text(encoding="utf-8").partition(begin)
    if not found or END not in rest:
        raise ValueError(f"{page}: no part between {begin.strip()} and {END}")
    return f"{before}{begin}\n{PAGES[page]().strip()}\n\n{END}{rest.partition(END)[2]}"


# -- commands ----------------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Return the commands of ``capsule`` by name, in the order of ``capsule --help``."""
    group: Any = typer.main.get_command(app)
    return {name: command for name, command in group.commands.items() if not command.hidden}


def cli() -> str:
    """Return a section for each command, below a heading for each group of commands."""
    panels: dict[str, list[str]] = {}
    for name, command in commands().items():
        panel = command.rich_help_panel
        panels.setdefault(panel if isinstance(panel, str) else "Installation", []).append(_command(name, command))
    return "\n\n".join(f"## {panel}\n\n" + "\n\n".join(sections) for panel, sections in panels.items())


def _command(name: str, command: Any) -> str:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
    usage = " ".join(["capsule", name, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"### capsule {name}", inspect.cleandoc(command.help or ""), f"```\n{usage}\n```"]
    rows = [(f"`{_argument(param)}`", _meaning(param)) for param in arguments]
    rows += [(f"`{_option(param)}`", _meaning(param)) for param in options]
    if rows:
        parts.append(_table(("argument or option", "meaning"), rows))
    if command.epilog:
        # The text is "For example: ", then commands with a semicolon between them.
        examples = command.epilog.partition(": ")[2].split("; ")
        parts.append("For example:\n\n```\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(parts)


def _argument(param: Any) -> str:
    name = (param.metavar or param.name.upper()).strip("[]").removesuffix("]...")
    name = f"{name}..." if param.nargs == -1 else name
    return name if param.required else f"[{name}]"


def _option(param: Any) -> str:
    value = "" if _is_flag(param) else f" {param.metavar or param.name.upper()}"
    return f"{', '.join(param.opts)}{value}"


def _is_flag(param: Any) -> bool:
    return getattr(param, "is_flag", False)


def _meaning(param: Any) -> str:
    text = param.help or ""
    default = param.default.value if isinstance(param.default, Enum) else param.default
    if not _is_flag(param) and default not in (None, "", (), []) and not param.required:
        text += f" Default: `{default}`."
    if getattr(param, "multiple", False) and "repeat" not in text:
        text += " Can be repeated."
    return text.strip()


# -- settings ----------------------------------------------------------------------------------------------------------


def settings() -> str:
    """Return the table of all settings."""
    rows = [
        (f"`{name}`", _values(field.annotation), _default(name, field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table(("setting", "value", "default", "meaning"), rows)


def _values(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_values(each) for each in arguments if each is not type(None))
    if origin is tuple:
        return "list of texts"
    names = {bool: "`true` or `false`", int: "integer", float: "number", str: "text"}
    return names.get(annotation, "size")


def _default(name: str, field: Any) -> str:
    if field.default_factory is not None:
        return COMPUTED[name]
    value = field.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "empty"
    if isinstance(value, int) and value >= 10**9 and value % 10**9 == 0:
        return f"`{value // 10**9}GB`"
    return f"`{int(value)}`" if isinstance(value, float) and value.is_integer() else f"`{value}`"


# -- magics ------------------------------------------------------------------------------------------------------------


def magics() -> str:
    """Return the table of the commands of ``%capsule``."""
    parser = capsule_magics._parser()
    (choices,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    help_of = {action.dest: action.help or "" for action in choices._choices_actions}
    rows = []
    for name, command in choices.choices.items():
        parts = [_magic_argument(action) for action in command._actions]
        rows.append((f"`{' '.join(['%capsule', name, *parts])}`", help_of[name]))
    return _table(("magic", "meaning"), rows)


def _magic_argument(action: argparse.Action) -> str:
    name = (action.metavar if isinstance(action.metavar, str) else action.dest).upper()
    if action.option_strings:
        return f"[{action.option_strings[-1]}]" if action.nargs == 0 else f"[{action.option_strings[0]} {name}]"
    return {"?": f"[{name}]", "*": f"[{name}...]", "+": f"{name}..."}.get(str(action.nargs), name)


# -- API for cells -----------------------------------------------------------------------------------------------------


def python() -> str:
    """Return a section for each public name of the module ``capsule``."""
    parts = []
    for name in sorted(capsule.__all__):
        value = getattr(capsule, name)
        if callable(value):
            signature = (
                f"class {name}" if inspect.isclass(value) else f"{name}{inspect.signature(value, eval_str=True)}"
            )
            parts.append(f"## `{signature}`\n\n{inspect.getdoc(value)}")
        else:
            parts.append(f"## `{name}`\n\nA value of type `{type(value).__name__}`.")
    return "\n\n".join(parts)


# -- protocol ----------------------------------------------------------------------------------------------------------


def protocol() -> str:
    """Return a table of the messages for each direction."""
    parts = [f"The protocol has version {messages.PROTOCOL_VERSION}."]
    for title, union in [("From front to worker", messages.ToWorker), ("From worker to front", messages.FromWorker)]:
        rows = [
            (f"`{model.__name__}`", ", ".join(_fields(model)) or "none", _first_paragraph(model))
            for model in _models(union)
        ]
        parts.append(f"### {title}\n\n" + _table(("message", "fields", "meaning"), rows))
    return "\n\n".join(parts)


def _models(union: Any) -> Iterator[Any]:
    """Yield the models of a union, and of unions in it."""
    for each in typing.get_args(union):
        if inspect.isclass(each):
            yield each
        else:
            yield from _models(each)


def _fields(model: Any) -> list[str]:
    return [f"`{name}`" for name in model.model_fields if name != "type"]


def _first_paragraph(model: Any) -> str:
    return " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split()).replace("``", "`")


# -- Markdown ----------------------------------------------------------------------------------------------------------


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


#: The pages of ``docs/reference`` that have a generated part.
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli,
    "settings.md": settings,
    "magics.md": magics,
    "python.md": python,
    "protocol.md": protocol,
}

if __name__ == "__main__":
    sys.exit(main())
