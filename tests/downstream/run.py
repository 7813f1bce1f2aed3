"""Run the suites of Jupyter's own projects against this kernel: ``make downstream``.

The suites come from the package index, at the versions installed in this program's environment, and are not changed: a
copy of this kernel's kernelspec in a folder named ``python3``, first on ``JUPYTER_PATH``, is what they start. What is
expected not to pass is in ``expected.toml``; anything else that fails is an error, and so is a listed test that passes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ipykernel.kernelspec import get_kernel_dict

from capsule_kernel.cli import kernelspec
from tests.support import ROOT
from tests.support.downstream import table, verdicts
from tests.support.downstream.suites import SUITES, Suite
from tests.support.homes import jupyter_directories

HERE = Path(__file__).parent
DOCUMENT = ROOT / "docs" / "compatibility" / "downstream.md"
#: Seconds for one test, and for one suite.
TEST_DEADLINE, SUITE_DEADLINE = 30, 900
#: What a suite runs against. The second and the third tell what its tests are about.
CAPSULE, IPYKERNEL, NOTHING = "capsule", "ipykernel", "nothing"


def main() -> int:
    """Run the suites; return 1 if anything was not as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="SUITE", choices=[suite.project for suite in SUITES])
    parser.add_argument("--out", type=Path, default=Path("out/downstream"), help="where reports and logs go")
    parser.add_argument("--ours", action="store_true", help="run against Capsule only; reuse the others' reports")
    parser.add_argument("--again", action="store_true", help="judge the existing reports, and run nothing")
    arguments = parser.parse_args()
    wanted = [suite for suite in SUITES if not arguments.only or suite.project in arguments.only]
    arguments.out.mkdir(parents=True, exist_ok=True)
    groups = verdicts.read_groups(tomllib.loads((HERE / "expected.toml").read_text(encoding="utf-8")))
    judged: dict[str, list[verdicts.Judged]] = {}
    complaints: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cap", ignore_cleanup_errors=True) as directory:
        for suite in wanted:
            # In a cell there is no test without a kernel.
            subjects = (CAPSULE, IPYKERNEL) if suite.in_cell else (CAPSULE, IPYKERNEL, NOTHING)
            if not arguments.again:
                source = download(suite, Path(directory) / "sources")
                for subject in subjects[:1] if arguments.ours else subjects:
                    run(suite, subject, source, Path(directory), arguments.out.absolute())
            runs = {subject: read(suite, subject, arguments.out) for subject in subjects}
            ours = runs[CAPSULE]
            tests = verdicts.judge(suite.project, ours, runs[IPYKERNEL], runs.get(NOTHING, {}), groups)
            judged[suite.project] = tests
            complaints += verdicts.complaints(suite.project, ours, tests, groups)
    versions = {suite.project: version(suite.project) for suite in wanted}
    counts = table.counts(versions, judged)
    print(counts)
    for complaint in complaints:
        print(complaint)
    if os.environ.get("CAPSULE_WRITE_TABLE") and not arguments.only:
        table.write(DOCUMENT, {"table": counts, "reasons": table.reasons(judged)})
    return int(bool(complaints))


def download(suite: Suite, sources: Path) -> Path:
    """Fetch and unpack the source distribution of a suite's project; return its folder."""
    requirement = f"{suite.project}=={version(suite.project)}"
    packed = sources / "packed" / suite.project
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", suite.project]
    subprocess.run([*pip, "--dest", packed, requirement], check=True)
    (archive,) = packed.iterdir()
    with tarfile.open(archive) as tar:
        tar.extractall(sources, filter="data")
    return sources / archive.name.removesuffix(".tar.gz")


def read(suite: Suite, subject: str, out: Path) -> dict[str, verdicts.Outcome]:
    """Return the outcome of each test in the report of a run."""
    report = _report(suite, subject, out)
    if not report.exists():
        sys.exit(f"{suite.project} has written no report: see {report.with_suffix('.log')}")
    return verdicts.read_junit(report.read_text(encoding="utf-8"))


def run(suite: Suite, subject: str, source: Path, directory: Path, out: Path) -> None:
    """Run a suite against a subject, in a home of its own."""
    report = _report(suite, subject, out)
    log = report.with_suffix(".log")
    report.unlink(missing_ok=True)
    print(f"{suite.project} against {subject}: {log}", flush=True)
    command = [sys.executable, *([HERE / "in_cell.py"] if suite.in_cell else ["-m", "pytest"])]
    options = ["-p", "no:cacheprovider", "--color=no", f"--junitxml={report}", f"--timeout={TEST_DEADLINE}"]
    # Without a choice of its own pytest-asyncio warns, and some suites make warnings errors.
    options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    # The other way of pytest-timeout ends all of pytest at the first test that takes too long.
    options += ["--timeout-method=signal", *(f"--ignore={name}" for name in suite.left_out), *suite.paths]
    with (
        tempfile.TemporaryDirectory(prefix="h", dir=directory, ignore_cleanup_errors=True) as home,
        log.open("w", encoding="utf-8") as to,
    ):
        process = subprocess.Popen(
            [*command, *options],
            cwd=source,
            env=environment(Path(home), subject, suite.kernels) | suite.settings,
            stdin=subprocess.DEVNULL,
            stdout=to,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(SUITE_DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment(home: Path, subject: str, kernels: Sequence[str]) -> dict[str, str]:
    """Return an environment in which all that clients and kernels write is in a home of its own.

    Args:
        home: an empty directory.
        subject: the kernel that is started.
        kernels: the names by which it is started.
    """
    others = ("CAPSULE", "IPY", "JPY", "JUPYTER")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    # Suites start Jupyter's commands by their names.
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    for variable, folder in {"HOME": "home", "CAPSULE_HOME": "capsule"}.items():
        (home / folder).mkdir()
        variables[variable] = str(home / folder)
    variables |= jupyter_directories(home)
    spec = get_kernel_dict() if subject == IPYKERNEL else kernelspec.contents()
    if subject == NOTHING:
        spec["argv"] = [sys.executable, "-c", "raise SystemExit('there is no kernel')"]
    for name in kernels:
        directory = home / "share" / "kernels" / name
        directory.mkdir(parents=True)
        (directory / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    variables["JUPYTER_PATH"] = str(home / "share")
    return variables


def _report(suite: Suite, subject: str, out: Path) -> Path:
    return out / f"{suite.project}-{subject}.xml"


if __name__ == "__main__":
    sys.exit(main())
