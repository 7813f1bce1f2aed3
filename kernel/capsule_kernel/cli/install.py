"""``capsule install`` and ``capsule uninstall``: register the kernel with Jupyter, and remove it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from capsule_kernel.console.terminal import WrongUsage, confirm

if TYPE_CHECKING:
    from capsule_kernel.cli.kernelspec import Kernelspec

# Each command imports what it needs.


def add_to(app: typer.Typer) -> None:
    """Add the commands.

    Args:
        app: where to add them.
    """
    app.command(epilog="For example: capsule install --name project --python .venv/bin/python")(install)
    app.command(epilog="For example: capsule uninstall project --yes")(uninstall)


def install(
    user: Annotated[bool, typer.Option("--user", help="For this user, in every Jupyter (default).")] = False,
    sys_prefix: Annotated[bool, typer.Option("--sys-prefix", help="For the Jupyter of this environment.")] = False,
    prefix: Annotated[Path | None, typer.Option(help="In PREFIX/share/jupyter/kernels.")] = None,
    name: Annotated[str, typer.Option(help="Name of the kernel for jupyter --kernel.")] = "capsule",
    display_name: Annotated[str | None, typer.Option(help="Name of the kernel that people see.")] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="Python in which cells run; it needs capsule-worker.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Isolation of the process in which cells run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another kernel of the same name.")] = False,
) -> None:
    """Register the kernel with Jupyter, under a name and for a Python of your choice."""
    from capsule_durable.workers import interpreter
    from capsule_kernel.cli import kernelspec

    if user + sys_prefix + (prefix is not None) > 1:
        raise WrongUsage("Pass only one of --user, --sys-prefix and --prefix.")
    name = kernelspec.check_name(name)
    if profile is not None:
        _check_profile(profile)
    if display_name is not None and not display_name.strip():
        raise WrongUsage("--display-name is empty.")
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
        print(f"Note: the Jupyter of this environment uses {seen} for {name}, not this one.")


def uninstall(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: capsule.")] = None,
    name: Annotated[str | None, typer.Option(help="Same as NAME.")] = None,
    prefix: Annotated[Path | None, typer.Option(help="Only in PREFIX/share/jupyter/kernels.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove the kernelspecs of Capsule that Jupyter finds. Kernelspecs of other kernels stay."""
    from capsule_kernel.cli import kernelspec

    wanted = [*(names or []), *([name] if name is not None else [])] or [kernelspec.NAME]
    wanted = list(dict.fromkeys(map(kernelspec.check_name, wanted)))
    ours = kernelspec.find(kernelspec.search_path(prefix))
    for each in wanted:
        _check_removable(each, ours, prefix)
    chosen = [spec for spec in ours if spec.name in wanted]
    if not yes and not confirm("Remove?", [str(spec.directory) for spec in chosen]):
        print("Nothing was removed.")
        raise typer.Exit(1)
    for spec in chosen:
        kernelspec.remove(spec)
        print(f"Removed {spec.directory}")


def _check_profile(profile: str) -> None:
    from capsule_durable.config.settings import Settings

    known = get_args(Settings.model_fields["profile"].annotation)
    if profile not in known:
        raise WrongUsage(f'No profile named "{profile}" (choose from {", ".join(known)}).')


def _check_removable(name: str, ours: list[Kernelspec], prefix: Path | None) -> None:
    from capsule_kernel.cli import kernelspec

    names = {spec.name for spec in ours}
    if name in names:
        return
    if prefix is None and (foreign := kernelspec.seen_by_jupyter(name)):
        raise kernelspec.KernelspecError(
            f"{foreign} is not a kernelspec of Capsule. To remove it: jupyter kernelspec uninstall {name}"
        )
    choice = f" (choose from {', '.join(sorted(names))})" if names else ""
    raise kernelspec.KernelspecError(f'Capsule has no kernelspec named "{name}"{choice}.')
