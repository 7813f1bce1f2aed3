"""Examines an installation: what is there, what is wrong, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from jupyter_core.paths import jupyter_runtime_dir

from capsule_durable.config.sources import DEFAULT, ConfigurationError, load, read
from capsule_durable.sandbox import policy
from capsule_durable.sandbox.setup import detect
from capsule_durable.workers import interpreter
from capsule_kernel import __version__
from capsule_kernel.cli import kernelspec
from capsule_kernel.cli.kernelspec import Kernelspec

#: How long a kernel may take to start, and again to answer, in seconds.
TIMEOUT = 60.0

_COMPANIONS = ("ipykernel", "jupyter-client", "pyzmq", "resonate-sdk")


@dataclass(frozen=True)
class Finding:
    """What one check has found, and what mends it if it is not well."""

    check: str
    status: Literal["ok", "warning", "problem"]
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it as plain data."""
        return asdict(self)


def examine(timeout: float = TIMEOUT, start: Callable[[str, float], str] | None = None) -> Iterator[Finding]:
    """Yield what every check finds, as soon as it is known.

    Args:
        timeout: how long each kernel may take to start, and again to answer, in seconds.
        start: runs ``1+1`` in the kernel of a name and returns the answer; by default it really does.
    """
    yield versions()
    yield configuration()
    yield from isolation()
    yield runtime_directory(Path(jupyter_runtime_dir()))
    specs = kernelspec.find(kernelspec.search_path())
    if not specs:
        yield Finding("kernelspecs", "problem", "Jupyter finds no kernelspec of Capsule", "capsule install --user")
    for spec in specs:
        seen = kernelspec.seen_by_jupyter(spec.name)
        if seen != spec.directory:
            yield hidden(spec, seen)
            continue
        finding = environment(spec)
        yield finding
        if finding.status == "ok":
            yield round_trip(spec, timeout, start or run_kernel)


def versions() -> Finding:
    """Compare the versions of the two distributions, and name those of what they stand on."""
    found = {name: _version(name) for name in ("capsule-kernel", "capsule-worker", *_COMPANIONS)}
    detail = f"Python {platform.python_version()}, " + ", ".join(f"{n} {v or 'missing'}" for n, v in found.items())
    wrong = [name for name, version in found.items() if version is None]
    if found["capsule-worker"] != __version__ or wrong:
        # The front reads the protocol from the worker's distribution in its own environment.
        mend = f"{shlex.quote(sys.executable)} -m pip install capsule-kernel=={__version__}"
        return Finding("versions", "problem", detail, mend)
    return Finding("versions", "ok", detail)


def configuration() -> Finding:
    """Read the configuration as a kernel started here would."""
    found = read(os.environ, {}, Path.cwd())
    if found.problem:
        said = "\n".join([found.problem, *found.warnings])
        return Finding("configuration", "problem", said, "correct that value; capsule config shows all")
    if found.warnings:
        return Finding("configuration", "warning", "\n".join(found.warnings), "correct the name, or remove the setting")
    changed = [f"{name} ({origin})" for name, origin in found.origins.items() if origin != DEFAULT]
    return Finding("configuration", "ok", ", ".join(changed) or "all defaults")


def isolation() -> Iterator[Finding]:
    """Find out which layers of the isolation that is asked for hold here."""
    found = read(os.environ, {}, Path.cwd())
    if found.problem:
        return  # said already
    settings = found.settings
    where = policy.sandbox_paths(
        Path(jupyter_runtime_dir()) / "kernel.json",
        Path(settings.home),
        None,
        os.environ,
        Path.cwd(),
        settings.rules,
        settings.profile,
        settings.python,
    )
    plan = detect(settings.profile, where)
    if plan.confinement is None:
        yield Finding("isolation", "ok", plan.summary())
        return
    for layer in (*plan.layers, *_given_up(plan, settings.python)):
        check, detail = f"isolation: {layer.name}", f"profile {plan.profile}: {layer.why or 'active'}"
        # In this one nothing runs without all of them.
        missing: Literal["problem", "warning"] = "problem" if plan.profile == "restricted" else "warning"
        yield Finding(check, "ok" if layer.is_active else missing, detail, layer.fix)


def _given_up(plan: policy.Sandbox, python: str) -> list[policy.Layer]:
    """Find out what a warden can give up, in a process that ends at once."""
    assert plan.confinement is not None
    command = [*plan.prefix, python, "-m", "capsule_worker.isolation.self_sandboxing", plan.confinement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().rpartition("\n")[2]
        return [policy.Layer("system calls", said)]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return [policy.reported_layer(each["layer"], each["why"]) for each in told]


def runtime_directory(directory: Path) -> Finding:
    """Find out whether Jupyter can write its connection files."""
    # Jupyter makes it when it is missing: then what counts is the directory that it will be made in.
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding(
            "runtime directory",
            "problem",
            f"{directory} cannot be written: {error.strerror}",
            "give yourself the right to write there, or set JUPYTER_RUNTIME_DIR to a directory of yours",
        )
    return Finding("runtime directory", "ok", str(directory))


def hidden(spec: Kernelspec, seen: Path | None) -> Finding:
    """Tell of a kernelspec that another one of the same name hides."""
    return Finding(
        f"kernelspec {spec.name}",
        "warning",
        f"{spec.directory} is hidden by {seen}",
        f"capsule uninstall {spec.name}, then install the one that you want",
    )


def environment(spec: Kernelspec) -> Finding:
    """Find out whether both interpreters of a kernelspec are there, and cells can run in the one that is for them."""
    check = f"kernelspec {spec.name}"
    try:
        interpreter.locate(spec.front)
    except interpreter.InterpreterUnusable as error:
        return Finding(
            check,
            "problem",
            f"{spec.directory}: the front's interpreter: {error.problem}",
            _reinstall(spec, spec.python),
        )
    try:
        python = spec.python or _configured_python(spec)
    except ConfigurationError as error:
        return Finding(check, "problem", str(error), "correct that value; capsule config shows all")
    try:
        found = interpreter.check(python)
    except interpreter.InterpreterUnusable as error:
        return Finding(check, "problem", f"{spec.directory}: {error.problem}", error.mend or _reinstall(spec, "PATH"))
    return Finding(check, "ok", f"{spec.directory}: cells run in {found.path} (Python {found.version})")


def round_trip(spec: Kernelspec, timeout: float, start: Callable[[str, float], str]) -> Finding:
    """Start the kernel and have it calculate."""
    check = f"kernel {spec.name}"
    began = time.monotonic()
    try:
        answer = start(spec.name, timeout)
    except Exception as error:
        return Finding(check, "problem", f"does not run: {error}", f"jupyter console --kernel {spec.name} shows more")
    if answer != "2":
        return Finding(check, "problem", f"1+1 gave {answer!r}")
    return Finding(check, "ok", f"started, 1+1 = 2, ended in {time.monotonic() - began:.1f} s")


def run_kernel(name: str, timeout: float) -> str:
    """Start a kernel as Jupyter does, return what ``1+1`` gives in it, and end it.

    Args:
        name: of the kernelspec.
        timeout: how long it may take to start, and again to answer, in seconds.

    Raises:
        RuntimeError: it did not start or answer; the message ends with what it wrote last.
    """
    with tempfile.TemporaryFile() as log:
        try:
            return _calculate(name, timeout, log)
        except Exception as error:
            log.seek(0)
            written = log.read().decode(errors="replace").strip().splitlines()
            reason = str(error) or type(error).__name__
            raise RuntimeError(f"{reason} ({written[-1]})" if written else reason) from error


def _calculate(name: str, timeout: float, log: IO[bytes]) -> str:
    from jupyter_client.blocking.client import BlockingKernelClient
    from jupyter_client.manager import KernelManager

    results: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "execute_result":
            results.append(content["data"]["text/plain"])
        elif message["msg_type"] == "error":
            results.append(f"{content['ename']}: {content['evalue']}")

    manager = KernelManager(kernel_name=name)
    manager.start_kernel(stdout=log, stderr=log)
    try:
        client = manager.client()
        assert isinstance(client, BlockingKernelClient)
        client.start_channels()
        try:
            client.wait_for_ready(timeout=timeout)
            client.execute_interactive("1+1", store_history=False, timeout=timeout, output_hook=collect)
        finally:
            client.stop_channels()
    finally:
        # In order first, so that the front ends its workers; by force when it does not.
        manager.shutdown_kernel()
    return "\n".join(results)


def _reinstall(spec: Kernelspec, python: str | None) -> str:
    command = ["capsule", "install", "--name", spec.name]
    kernels = spec.directory.parent
    if kernels != kernelspec.kernels_directory() and kernels.parts[-3:] == ("share", "jupyter", "kernels"):
        command += ["--prefix", str(kernels.parents[2])]
    if python is not None:
        command += ["--python", python]
    return shlex.join(command)


def _configured_python(spec: Kernelspec) -> str:
    settings, origins = load(os.environ, {}, Path.cwd())
    # The default is the front's own, which need not be the interpreter of this command.
    return spec.front if origins["python"] == DEFAULT else settings.python


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
