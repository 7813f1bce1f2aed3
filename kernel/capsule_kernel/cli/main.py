"""The command ``capsule``: make the kernel known to Jupyter, remove it, examine it, show its configuration.

What it does with checkpoints is in ``checkpoints``.

Exit status: 0 all is well, 1 a problem, 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from capsule_durable.errors import CapsuleError
from capsule_kernel import __version__
from capsule_kernel.cli import checkpoints, inputs, run, sessions
from capsule_kernel.console.terminal import WrongUsage, plain, print_json, print_table

if TYPE_CHECKING:
    from capsule_kernel.cli.kernelspec import Kernelspec

# Every command imports what it needs: `capsule --version` does not wait for Jupyter.

app = typer.Typer(
    name="capsule",
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
        app(args=argv, prog_name="capsule")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except CapsuleError as error:
        from capsule_kernel.cli.kernelspec import InvalidName

        print(f"capsule: {error}", file=sys.stderr)
        return 2 if isinstance(error, (WrongUsage, InvalidName)) else 1
    except Exception as error:
        print(f"capsule: a fault of Capsule's own: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"capsule {__version__}")
        raise typer.Exit


@app.callback()
def _capsule(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """Capsule, a durable Jupyter kernel for Python."""


@app.command()
def install(
    user: Annotated[bool, typer.Option("--user", help="For this user, in every Jupyter (default).")] = False,
    sys_prefix: Annotated[bool, typer.Option("--sys-prefix", help="For the Jupyter of this environment.")] = False,
    prefix: Annotated[Path | None, typer.Option(help="Below PREFIX/share/jupyter/kernels.")] = None,
    name: Annotated[str, typer.Option(help="Name of the kernel, as jupyter --kernel takes it.")] = "capsule",
    display_name: Annotated[str | None, typer.Option(help="Name of the kernel, as people see it.")] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="Python in which cells run; it needs capsule-worker.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Isolation of the process in which cells run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also in place of another kernel of that name.")] = False,
) -> None:
    """Make the kernel known to Jupyter, under a name and for a Python of your choice."""
    from capsule_durable.workers import interpreter
    from capsule_kernel.cli import kernelspec

    if user + sys_prefix + (prefix is not None) > 1:
        raise WrongUsage("give one of --user, --sys-prefix and --prefix")
    name = kernelspec.check_name(name)
    if profile is not None:
        _check_profile(profile)
    if display_name is not None and not display_name.strip():
        raise WrongUsage("--display-name is empty")
    found = interpreter.check(python) if python is not None else None

    spec = kernelspec.contents(name, display_name, found.path if found else None, profile)
    kernels = kernelspec.kernels_directory(sys_prefix=sys_prefix, prefix=prefix)
    directory = kernelspec.write(kernels, name, spec, force=force)
    print(f"Installed {spec['display_name']} as {name} in {directory}")
    if found:
        print(f"Cells run in {found.path} (Python {found.version}).")
    seen = kernelspec.seen_by_jupyter(name)
    if seen is None:
        print(f"Note: the Jupyter of this environment finds it with JUPYTER_PATH={kernels.parent}")
    elif not seen.samefile(directory):
        print(f"Note: the Jupyter of this environment takes {seen} for {name}, not this one.")


@app.command()
def uninstall(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: capsule.")] = None,
    name: Annotated[str | None, typer.Option(help="As NAME.")] = None,
    prefix: Annotated[Path | None, typer.Option(help="Only below PREFIX/share/jupyter/kernels.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove kernelspecs of Capsule, wherever Jupyter finds them. Those of other kernels stay."""
    from capsule_kernel.cli import kernelspec

    wanted = [*(names or []), *([name] if name is not None else [])] or [kernelspec.NAME]
    wanted = list(dict.fromkeys(map(kernelspec.check_name, wanted)))
    ours = kernelspec.find(kernelspec.search_path(prefix))
    for each in wanted:
        _check_removable(each, ours, prefix)
    chosen = [spec for spec in ours if spec.name in wanted]
    if not yes:
        _confirm([str(spec.directory) for spec in chosen])
    for spec in chosen:
        kernelspec.remove(spec)
        print(f"Removed {spec.directory}")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Examine this installation, to the point of running 1+1 in every kernel of Capsule that Jupyter finds."""
    from capsule_kernel.cli.doctor import examine

    findings = list(examine())
    well = all(finding.status != "problem" for finding in findings)
    if as_json:
        print_json({"ok": well, "findings": [finding.to_dict() for finding in findings]})
    else:
        colours = {"ok": "green", "warning": "yellow", "problem": "red"}
        print_table(
            ["check", "status", "found", "what mends it"],
            [[f.check, f"[{colours[f.status]}]{f.status}[/]", plain(f.detail), plain(f.fix)] for f in findings],
        )
    if not well:
        raise typer.Exit(1)


@app.command()
def config(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the settings in force in this directory, and where each value comes from."""
    from capsule_durable.config.settings import Settings
    from capsule_durable.config.sources import load

    settings, origins = load(os.environ, {}, Path.cwd())
    values = settings.model_dump(mode="json")
    if as_json:
        print_json({name: {"value": value, "origin": origins[name]} for name, value in values.items()})
        return
    fields = Settings.model_fields
    print_table(
        ["setting", "value", "from", "meaning"],
        [
            [name, plain(json.dumps(value)), plain(origins[name]), plain(fields[name].description or "")]
            for name, value in values.items()
        ],
    )


checkpoints.add_to(app)
inputs.add_to(app)
run.add_to(app)
sessions.add_to(app)


def _check_profile(profile: str) -> None:
    from capsule_durable.config.settings import Settings

    known = get_args(Settings.model_fields["profile"].annotation)
    if profile not in known:
        raise WrongUsage(f"there is no profile {profile!r}; there is: {', '.join(known)}")


def _check_removable(name: str, ours: list[Kernelspec], prefix: Path | None) -> None:
    from capsule_kernel.cli import kernelspec

    names = {spec.name for spec in ours}
    if name in names:
        return
    if prefix is None and (foreign := kernelspec.seen_by_jupyter(name)):
        raise kernelspec.KernelspecError(
            f"{foreign} is not Capsule's, and stays; jupyter kernelspec uninstall {name} removes it"
        )
    there = f"there is: {', '.join(sorted(names))}" if names else "there is none at all"
    raise kernelspec.KernelspecError(f"Capsule has no kernelspec named {name} here; {there}")


def _confirm(directories: list[str]) -> None:
    if not sys.stdin.isatty():
        raise WrongUsage("nobody is here to be asked; give --yes to remove " + ", ".join(directories))
    for directory in directories:
        print(directory)
    typer.confirm("Remove?", abort=True)
