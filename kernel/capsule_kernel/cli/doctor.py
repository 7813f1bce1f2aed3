"""Checks an installation, and names the command that fixes each problem."""

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

#: Seconds that a kernel may take to start, and again to answer.
TIMEOUT = 60.0

_COMPANIONS = ("ipykernel", "jupyter-client", "pyzmq", "resonate-sdk")


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        check: names the check.
        status: the result.
        detail: what was found.
        fix: the command or the change that fixes it; empty if there is nothing to fix, or no known fix.
    """

    check: str
    status: Literal["ok", "warning", "problem"]
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the finding in its JSON form."""
        return asdict(self)


def examine(timeout: float = TIMEOUT, start: Callable[[str, float], str] | None = None) -> Iterator[Finding]:
    """Yield the findings of all checks, each as soon as it is known.

    Args:
        timeout: seconds that each kernel may take to start, and again to answer.
        start: takes the name of a kernelspec and the timeout, runs ``1+1`` in its kernel and returns the answer;
            ``run_kernel`` by default.
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
    """Check that the versions of the two distributions match, and name the versions of their main dependencies."""
    found = {name: _version(name) for name in ("capsule-kernel", "capsule-worker", *_COMPANIONS)}
    detail = f"Python {platform.python_version()}, " + ", ".join(f"{n} {v or 'missing'}" for n, v in found.items())
    wrong = [name for name, version in found.items() if version is None]
    if found["capsule-worker"] != __version__ or wrong:
        # The front reads the protocol from the worker's distribution in its own environment.
        fix = f"{shlex.quote(sys.executable)} -m pip install capsule-kernel=={__version__}"
        return Finding("versions", "problem", detail, fix)
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
    for layer in (*plan.layers, *_self_sandboxing(plan, settings.python)):
        check, detail = f"isolation: {layer.name}", f"profile {plan.profile}: {layer.why or 'active'}"
        # In this one nothing runs without all of them.
        missing: Literal["problem", "warning"] = "problem" if plan.profile == "restricted" else "warning"
        yield Finding(check, "ok" if layer.is_active else missing, detail, layer.fix)


def _self_sandboxing(plan: policy.Sandbox, python: str) -> list[policy.Layer]:
    """Return the layers that a forkserver can apply to itself, tested in a process that ends at once."""
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
    """Check that Jupyter can write its connection files.

    Args:
        directory: where Jupyter writes them.
    """
    # Jupyter creates a missing directory: then its nearest existing parent must be writable.
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding(
            "runtime directory",
            "problem",
            f"{directory} cannot be written: {error.strerror}",
            "make it writable, or set JUPYTER_RUNTIME_DIR to a writable directory",
        )
    return Finding("runtime directory", "ok", str(directory))


def hidden(spec: Kernelspec, seen: Path | None) -> Finding:
    """Report a kernelspec that another one of the same name hides.

    Args:
        spec: the hidden kernelspec.
        seen: the directory of the other one.
    """
    return Finding(
        f"kernelspec {spec.name}",
        "warning",
        f"{spec.directory} is hidden by {seen}",
        f"capsule uninstall {spec.name}, then capsule install again",
    )


def environment(spec: Kernelspec) -> Finding:
    """Check that both interpreters of a kernelspec exist, and that cells can run in the worker's.

    Args:
        spec: the kernelspec.
    """
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
        return Finding(check, "problem", f"{spec.directory}: {error.problem}", error.fix or _reinstall(spec, "PATH"))
    return Finding(check, "ok", f"{spec.directory}: cells run in {found.path} (Python {found.version})")


def round_trip(spec: Kernelspec, timeout: float, start: Callable[[str, float], str]) -> Finding:
    """Start a kernel, and check its answer to ``1+1``.

    Args:
        spec: the kernelspec.
        timeout: seconds that the kernel may take to start, and again to answer.
        start: as in ``examine``.
    """
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
    """Start a kernel like Jupyter, return its answer to ``1+1``, and end it.

    Args:
        name: name of the kernelspec.
        timeout: seconds that the kernel may take to start, and again to answer.

    Raises:
        RuntimeError: it did not start or answer; the message ends with the last line of its log.
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
        # In order first, so that the front ends its workers; by force if it does not end.
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
