"""The command ``capsule``: its options, its groups of commands, and its exit status.

Exit status: 0 done, 1 a problem, 2 wrong usage, 130 interrupted (Ctrl-C or SIGTERM).
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from capsule_durable.errors import CapsuleError
from capsule_kernel import __version__
from capsule_kernel.cli import checkpoints, config, inputs, install, run, sessions
from capsule_kernel.console.json_output import AsJson, print_json
from capsule_kernel.console.terminal import WrongUsage, plain, print_table

# Each command imports what it needs: `capsule --version` does not wait for Jupyter.

#: Exit status of a command that Ctrl-C or SIGTERM has ended: 128 and the number of SIGINT, as in shells.
INTERRUPTED = 130


class _Group(TyperGroup):
    """The group of commands. An interruption has its own exit status in every version of Typer."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="capsule",
    cls=_Group,
    help="Capsule, a durable Jupyter kernel for Python.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments; by default those of this process.
    """
    try:
        with _terminable():
            app(args=argv, prog_name="capsule")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except CapsuleError as error:
        from capsule_kernel.cli.kernelspec import InvalidName

        print(f"capsule: {error}", file=sys.stderr)
        return 2 if isinstance(error, (WrongUsage, InvalidName)) else 1
    except Exception as error:
        print(
            f"capsule: Internal error ({type(error).__name__}: {error}). "
            "Please report it with the output of capsule doctor --json.",
            file=sys.stderr,
        )
        return 1
    return 0


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM interrupt the command like Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"capsule {__version__}")
        raise typer.Exit


@app.callback()
def _capsule(
    ctx: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", help="Directory of data. Default: CAPSULE_HOME, or the setting `home`."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """Capsule, a durable Jupyter kernel for Python."""
    if home is not None:
        ctx.with_resource(config.use_home(home))


@app.command(epilog="For example: capsule doctor; capsule doctor --json")
def doctor(as_json: AsJson = False) -> None:
    """Check this installation; also run 1+1 in every Capsule kernel that Jupyter finds."""
    from capsule_kernel.cli.doctor import examine

    findings = list(examine())
    ok = all(finding.status != "problem" for finding in findings)
    if as_json:
        print_json({"ok": ok, "findings": [finding.to_dict() for finding in findings]}, "doctor")
    else:
        colours = {"ok": "green", "warning": "yellow", "problem": "red"}
        print_table(
            ["check", "status", "found", "fix"],
            [[f.check, f"[{colours[f.status]}]{f.status}[/]", plain(f.detail), plain(f.fix)] for f in findings],
        )
    if not ok:
        raise typer.Exit(1)


for group in (install, config, checkpoints, inputs, run, sessions):
    group.add_to(app)
