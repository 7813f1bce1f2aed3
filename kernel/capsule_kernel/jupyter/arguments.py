"""The options that the kernel is started with: its own, IPython's, and those of ipykernel's specs. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

#: Options of IPython's, and what they stand for. Those that have a second word may also stand alone.
_OF_IPYTHON = {
    "--profile-dir": ("ProfileDir.location",),
    "--ipython-dir": ("BaseIPythonApplication.ipython_dir",),
    "--config": ("BaseIPythonApplication.extra_config_file",),
    "--autocall": ("InteractiveShell.autocall",),
    "--cache-size": ("InteractiveShell.cache_size",),
    "--colors": ("InteractiveShell.colors",),
    "--theme": ("InteractiveShell.colors",),
    "--logfile": ("InteractiveShell.logfile",),
    "--logappend": ("InteractiveShell.logappend",),
    "-c": ("InteractiveShellApp.code_to_run",),
    "--code": ("InteractiveShellApp.code_to_run",),
    "-m": ("InteractiveShellApp.module_to_run",),
    "--ext": ("InteractiveShellApp.extra_extensions",),
    "--gui": ("InteractiveShellApp.gui",),
    "--matplotlib": ("InteractiveShellApp.matplotlib", "auto"),
    "--pylab": ("InteractiveShellApp.pylab", "auto"),
}
#: Flags of IPython's, each of which has its opposite (``--no-pdb``).
_FLAGS = {
    "autoindent": "InteractiveShell.autoindent",
    "automagic": "InteractiveShell.automagic",
    "color-info": "InteractiveShell.color_info",
    "ignore-cwd": "InteractiveShellApp.ignore_cwd",
    "pdb": "InteractiveShell.pdb",
    "pprint": "PlainTextFormatter.pprint",
}
#: What a connection file has, by the options that say it.
_OF_CONNECTIONS = {
    **{name: f"{name.removeprefix('--')}_port" for name in ("--hb", "--shell", "--iopub", "--stdin", "--control")},
    "--ip": "ip",
    "--transport": "transport",
}
_SIGNED = "messages are signed with the key in the connection file, always"
_OUTPUT = "what cells write goes to clients, and nowhere else"
_ASYNCIO = "cells await on asyncio"
_OURS = "this kernel has its own"
_PARENT = "the kernel ends with the process that started it, where JPY_PARENT_PID is set"
#: Options of ipykernel's that have no meaning here, and what stands in their place.
_INSTEAD = {
    **dict.fromkeys(("--secure", "--no-secure"), _SIGNED),
    **dict.fromkeys(("--no-stdout", "--no-stderr"), _OUTPUT),
    "--trio-loop": _ASYNCIO,
    "--nosep": "prompts are the client's",
    "--init": "`ipython profile create` does that",
}
_INSTEAD_WITH_VALUE = dict.fromkeys(("--ident", "--user", "--keyfile"), _SIGNED) | {"--parent": _PARENT}
#: The same for traits of ipykernel's application.
_INSTEAD_OF_TRAITS = {
    **dict.fromkeys(("no_stdout", "no_stderr", "quiet", "capture_fd_output"), _OUTPUT),
    **dict.fromkeys(("kernel_class", "outstream_class", "displayhook_class"), _OURS),
    **dict.fromkeys(("parent_handle", "interrupt"), _PARENT),
    "trio_loop": _ASYNCIO,
}
#: A trait of a class, for example ``--HistoryManager.hist_file=:memory:``.
_TRAIT = re.compile(r"--([A-Z]\w*)\.(\w+)(?:=(.*))?", re.DOTALL)
_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "ERROR"}


class Arguments:
    """What was asked for.

    Args:
        connection_file: its path or name; None for one that is to be made.
        connection: what it shall have in it, if it does not say so itself.
        python: the interpreter of the environment in which cells run.
        profiles: profiles of isolation, or of IPython's.
        log_level: what the kernel logs, in a word.
        ipython: options for IPython, in its long form.
        unused: what is said of those that have no meaning here.
    """

    def __init__(
        self,
        connection_file: str | None = None,
        connection: dict[str, str | int] | None = None,
        python: str | None = None,
        profiles: list[str] | None = None,
        log_level: str | None = None,
        ipython: list[str] | None = None,
        unused: list[str] | None = None,
    ) -> None:
        self.connection_file = connection_file
        self.connection = connection or {}
        self.python = python
        self.profiles = profiles or []
        self.log_level = log_level
        self.ipython = ipython or []
        self.unused = unused or []


def parse(argv: Sequence[str] | None) -> Arguments:
    """Return the parsed arguments of the command.

    Args:
        argv: the arguments without the program's name; None for those of this process.

    Raises:
        SystemExit: they make no sense, which argparse has said.
    """
    match sys.argv[1:] if argv is None else argv:
        case ["-f", path]:  # so the kernel is started as a rule, and argparse takes 10 ms of that
            return Arguments(path)
    parser = _parser()
    given, rest = parser.parse_known_args(argv)
    said = vars(given)
    options = Arguments(
        connection_file=given.connection_file,
        connection={_OF_CONNECTIONS[name]: value for name, value in said.items() if name in _OF_CONNECTIONS},
        python=given.python,
        profiles=given.profile or [],
        log_level=_level(parser, given.log_level),
        ipython=[f"--{trait}={value}" for trait, value in given.ipython or ()],
        unused=[f"{name} is not used: {why}" for name, why in given.unused or ()],
    )
    wrong = []
    words = iter(rest)
    for word in words:
        trait = _TRAIT.fullmatch(word)
        if trait is not None:
            value = trait[3] if trait[3] is not None else next(words, "")
            _take_trait(parser, options, trait[1], trait[2], value)
        elif word.startswith("-"):
            wrong.append(word)
        # `jupyter run` gives us its script.
    if wrong:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    return options


def _take_trait(parser: argparse.ArgumentParser, options: Arguments, owner: str, name: str, value: str) -> None:
    if owner == "Session":
        # The value is not said: it may be a key.
        options.unused.append(f"--{owner}.{name} is not used: {_SIGNED}")
    elif name == "log_level":
        options.log_level = _level(parser, value)
    elif owner != "IPKernelApp":
        options.ipython.append(f"--{owner}.{name}={value}")
    elif name == "connection_file":
        options.connection_file = value
    elif name in _OF_CONNECTIONS.values():
        options.connection[name] = _number(parser, value) if name.endswith("_port") else value
    elif name in _INSTEAD_OF_TRAITS:
        options.unused.append(f"--{owner}.{name} is not used: {_INSTEAD_OF_TRAITS[name]}")
    else:
        options.ipython.append(f"--{owner}.{name}={value}")


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m capsule_kernel",
        description="The Capsule kernel for Jupyter. Options of IPython's are taken, too.",
        allow_abbrev=False,
    )
    file = "where the ports and the key are, or are to be written; without it, a file in Jupyter's runtime directory"
    parser.add_argument("-f", "--f", "--connection-file", dest="connection_file", help=file)
    parser.add_argument("--python", help="interpreter of the environment in which cells run")
    parser.add_argument("--profile", action="append", help="isolation of the worker; or a profile of IPython's")
    parser.add_argument("--log-level", help="what the kernel logs: DEBUG, INFO, WARNING or ERROR")
    parser.add_argument("--debug", action="store_const", dest="log_level", const="DEBUG", help="log everything")
    parser.add_argument("--quiet", action="store_const", dest="log_level", const="ERROR", help="log errors only")
    for name, field in _OF_CONNECTIONS.items():
        kind = int if field.endswith("_port") else str
        parser.add_argument(name, dest=name, type=kind, default=argparse.SUPPRESS, help=f"{field} of a new file")
    for name, (trait, *alone) in _OF_IPYTHON.items():
        known: dict[str, Any] = {"nargs": "?", "const": (trait, *alone)} if alone else {}
        parser.add_argument(name, action="append", dest="ipython", type=partial(_pair, trait), help=trait, **known)
    for name, trait in _FLAGS.items():
        for option, value in ((f"--{name}", True), (f"--no-{name}", False)):
            parser.add_argument(
                option, action="append_const", dest="ipython", const=(trait, value), help=f"{trait}={value}"
            )
    for name, why in _INSTEAD.items():
        parser.add_argument(name, action="append_const", dest="unused", const=(name, why), help=argparse.SUPPRESS)
    for name, why in _INSTEAD_WITH_VALUE.items():
        parser.add_argument(
            name, action="append", dest="unused", type=partial(_without_value, name, why), help=argparse.SUPPRESS
        )
    return parser


def _pair(trait: str, value: str) -> tuple[str, str]:
    return trait, value


def _without_value(name: str, why: str, _: str) -> tuple[str, str]:
    return name, why


def _level(parser: argparse.ArgumentParser, word: str | None) -> str | None:
    if word is None:
        return None
    level = _LEVELS.get(int(word)) if word.isdigit() else {"CRITICAL": "ERROR"}.get(word.upper(), word.upper())
    if level not in _LEVELS.values():
        parser.error(f"{word!r} is not a logging level (choose from DEBUG, INFO, WARNING, ERROR)")
    return level


def _number(parser: argparse.ArgumentParser, value: str) -> Any:
    try:
        return int(value)
    except ValueError:
        parser.error(f"{value!r} is not a port")
