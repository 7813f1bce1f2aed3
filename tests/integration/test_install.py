"""The distributions are built and installed as a user installs them, and the command `capsule` does what it says."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from capsule_kernel import __version__
from capsule_kernel.cli import doctor
from tests.support import ROOT
from tests.support.processes import MARK, Family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The first run on a machine downloads what the kernel depends on.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FILES = ["kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"]


# -- places --------------------------------------------------------------------------------------------------


@dataclass
class Environment:
    """A virtual environment, and what a user with a home of their own runs in it."""

    directory: Path
    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def kernels(self) -> Path:
        return self.directory / "share" / "jupyter" / "kernels"

    @property
    def packages(self) -> Path:
        [directory] = self.directory.glob("lib/python*/site-packages")
        return directory

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in the home, with nothing around it that belongs to this machine."""
        program, *arguments = map(str, command)
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        result = subprocess.run(
            [self.directory / "bin" / program, *arguments],
            cwd=self.home,
            env={
                **kept,
                "HOME": str(self.home),
                "COLUMNS": "200",
                **self.variables,
                **variables,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert "Traceback" not in result.stdout + result.stderr, result.stderr
        return result

    def capsule(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command under test."""
        return self.run("capsule", *arguments, **variables)

    def install(self, *packages: str | Path) -> None:
        """Install packages; by pip where only pip knows the way to a package index."""
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", self.python]
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet"]
        _first_that_works([*uv, *packages], [*pip, *packages])

    def has_written(self) -> list[Path]:
        """Return the kernelspecs that are not those of the distributions."""
        return [path.parent for path in self.home.rglob("kernel.json")]


def _first_that_works(*commands: list[str | Path]) -> None:
    said = []
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        said.append(result.stderr)
    pytest.fail("\n".join(said))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the wheels of both distributions, built from their source distributions where uv can."""
    dist = tmp_path_factory.mktemp("dist")
    for folder in (ROOT, ROOT / "worker"):
        _first_that_works(
            [sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", dist, folder],
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", dist, folder],
        )
    found = sorted(dist.glob("*.whl"))
    assert [path.name.split("-")[0] for path in found] == ["capsule_kernel", "capsule_worker"]
    return found


@pytest.fixture(scope="module")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    """Return a function that makes an empty virtual environment."""

    def make(name: str) -> Environment:
        directory = tmp_path_factory.mktemp(name) / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
        return Environment(directory, tmp_path_factory.mktemp(f"{name}-home"))

    return make


@pytest.fixture(scope="module")
def installed(new_environment: Callable[[str], Environment], wheels: list[Path]) -> Environment:
    """Return an environment with Capsule, and what `jupyter execute` needs."""
    environment = new_environment("installed")
    environment.install(*wheels, "nbclient")
    return environment


@pytest.fixture(scope="module")
def project(new_environment: Callable[[str], Environment], wheels: list[Path]) -> Environment:
    """Return an environment in which cells can run, and no front."""
    environment = new_environment("project")
    environment.install(wheels[1])
    return environment


@pytest.fixture
def user(installed: Environment, tmp_path: Path) -> Iterator[Environment]:
    """Return the installed environment, for a user that is new, and leaves no process behind."""
    family = Family(uuid.uuid4().hex)
    yield Environment(installed.directory, tmp_path, {MARK: family.mark})
    family.wait_until_gone()


def execute(environment: Environment, kernel: str, *cells: str) -> list[str]:
    """Run cells by `jupyter execute` and return what each of them printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, environment.home / "notebook.ipynb")
    result = environment.run("jupyter-execute", f"--kernel_name={kernel}", "--inplace", "notebook.ipynb")
    assert result.returncode == 0, result.stderr
    executed = nbformat.read(environment.home / "notebook.ipynb", as_version=4)
    return ["".join(output.get("text", "") for output in cell["outputs"]) for cell in executed["cells"]]


def kernel_json(directory: Path) -> dict[str, Any]:
    """Return what Jupyter reads in a kernelspec."""
    assert sorted(path.name for path in directory.iterdir()) == FILES
    spec: dict[str, Any] = json.loads((directory / "kernel.json").read_text())
    return spec


# -- installing the distributions ----------------------------------------------------------------------------


def test_installing_the_distributions_is_enough_for_jupyter_to_list_the_kernel(user: Environment) -> None:
    result = user.run("jupyter-kernelspec", "list", "--json")
    directory = Path(json.loads(result.stdout)["kernelspecs"]["capsule"]["resource_dir"])
    assert directory == user.kernels / "capsule"
    assert kernel_json(directory)["display_name"] == "Python 3 (Capsule)"


def test_a_notebook_runs_in_the_kernel_that_was_installed(user: Environment) -> None:
    cells = execute(user, "capsule", "x = 6", "import sys; print(x * 7, sys.prefix)")
    assert cells[1] == f"42 {user.directory}\n"


def test_a_module_next_to_the_notebook_reaches_the_cells_but_not_the_front(user: Environment) -> None:
    (user.home / "zmq.py").write_text("WHO = 'the notebook'\n")
    assert execute(user, "capsule", "import zmq; print(zmq.WHO)") == ["the notebook\n"]


def test_the_version_is_that_of_the_distribution(user: Environment) -> None:
    result = user.capsule("--version")
    assert (result.returncode, result.stdout) == (0, f"capsule {__version__}\n")


# -- capsule install -----------------------------------------------------------------------------------------


def test_install_without_options_is_for_the_user_and_works_from_another_place(user: Environment) -> None:
    result = user.capsule("install", "--name", "Mine", "--display-name", "My own")
    directory = user.home / ".local" / "share" / "jupyter" / "kernels" / "mine"
    assert (result.returncode, result.stdout) == (0, f"Installed My own as mine in {directory}\n")
    spec = kernel_json(directory)
    assert spec["argv"] == [str(user.python), "-E", "-P", "-m", "capsule_kernel", "-f", "{connection_file}"]
    assert spec["display_name"] == "My own"
    assert execute(user, "mine", "print('here')") == ["here\n"]


def test_install_below_a_prefix_says_how_jupyter_finds_it(user: Environment) -> None:
    result = user.capsule("install", "--prefix", "below")
    assert result.returncode == 0
    assert kernel_json(user.home / "below/share/jupyter/kernels/capsule")["argv"][0] == str(user.python)
    assert f"Note: the Jupyter of this environment uses {user.kernels / 'capsule'}" in result.stdout
    result = user.capsule("install", "--prefix", "below", "--name", "other")
    assert f"JUPYTER_PATH={user.home / 'below/share/jupyter'}" in result.stdout


def test_install_for_the_environment_and_uninstall(user: Environment) -> None:
    assert user.capsule("install", "--sys-prefix", "--name", "second").returncode == 0
    assert kernel_json(user.kernels / "second")["display_name"] == "Python 3 (Capsule: second)"
    result = user.capsule("uninstall", "second")
    assert result.returncode == 2
    assert f"Not a terminal: pass --yes to remove {user.kernels / 'second'}." in result.stderr
    assert (user.kernels / "second").exists()
    assert user.capsule("uninstall", "second", "--yes").returncode == 0
    assert not (user.kernels / "second").exists()


def test_uninstall_below_a_prefix_reaches_nothing_else(user: Environment) -> None:
    assert user.capsule("install", "--prefix", "below").returncode == 0
    assert user.capsule("uninstall", "--prefix", "below", "--yes").returncode == 0
    assert user.has_written() == []
    assert (user.kernels / "capsule").exists()


def test_another_kernel_is_neither_replaced_nor_removed(user: Environment) -> None:
    theirs = user.home / ".local/share/jupyter/kernels/theirs"
    theirs.mkdir(parents=True)
    (theirs / "kernel.json").write_text('{"argv": ["ark"], "display_name": "R", "language": "R"}')
    for command in (["install", "--name", "theirs"], ["uninstall", "theirs", "--yes"]):
        result = user.capsule(*command)
        assert result.returncode == 1
        assert f"{theirs} " in result.stderr
        assert "is not a kernelspec of Capsule" in result.stderr
        assert json.loads((theirs / "kernel.json").read_text())["language"] == "R"
    assert user.capsule("install", "--name", "theirs", "--force").returncode == 0
    assert kernel_json(theirs)["language"] == "python"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "--sys-prefix"], "capsule: Pass only one of --user, --sys-prefix and --prefix.\n"),
        (["--profile", "closed"], 'capsule: No profile named "closed" (choose from notebook, restricted, open).\n'),
        (["--display-name", " "], "capsule: --display-name is empty.\n"),
        (["--name", "a/b"], 'capsule: "a/b" cannot be the name of a kernel'),
        (["--nonsense"], "No such option: --nonsense"),
    ],
)
def test_wrong_usage_is_reported_and_writes_nothing(user: Environment, arguments: list[str], said: str) -> None:
    result = user.capsule("install", *arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert user.has_written() == []


def test_a_known_profile_is_passed_on(user: Environment) -> None:
    assert user.capsule("install", "--prefix", ".", "--profile", "open").returncode == 0
    assert kernel_json(user.home / "share/jupyter/kernels/capsule")["argv"][-2:] == ["--profile", "open"]


# -- the Python in which cells run ---------------------------------------------------------------------------


def test_cells_run_in_the_python_that_was_asked_for(user: Environment, project: Environment) -> None:
    result = user.capsule("install", "--name", "project", "--python", project.python)
    assert result.returncode == 0, result.stderr
    assert f"Cells run in {project.python} (Python " in result.stdout
    spec = kernel_json(user.home / ".local/share/jupyter/kernels/project")
    assert spec["argv"][0] == str(user.python)
    assert spec["argv"][-2:] == ["--python", str(project.python)]
    assert execute(user, "project", "import sys; print(sys.prefix)") == [f"{project.directory}\n"]


def script(path: Path, *lines: str) -> Path:
    """Write a program that stands for an interpreter."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def refused(user: Environment, python: str | Path) -> str:
    """Try to install with a Python in which cells cannot run, and return what is said."""
    result = user.capsule("install", "--python", python)
    assert result.returncode == 1
    assert result.stdout == ""
    assert user.has_written() == []
    return result.stderr


def test_a_python_that_is_not_there_is_refused(user: Environment) -> None:
    assert refused(user, "no/python") == f"capsule: {user.home}/no/python does not exist\n"


def test_a_file_that_cannot_be_run_is_refused(user: Environment) -> None:
    (user.home / "python").touch()
    assert refused(user, "./python") == f"capsule: {user.home}/python is not executable\n"


def test_a_directory_is_refused_with_the_python_that_may_be_meant(user: Environment, project: Environment) -> None:
    assert refused(user, project.directory) == (
        f"capsule: {project.directory} is a directory, not a Python interpreter; did you mean {project.python}?\n"
    )


def test_a_program_that_is_not_python_is_refused_with_its_output(user: Environment) -> None:
    ruby = script(user.home / "ruby", "echo 'ruby: invalid option' >&2", "exit 1")
    assert refused(user, ruby) == (
        f"capsule: {ruby} is not a working Python interpreter; it said: ruby: invalid option\n"
    )


def test_a_python_that_is_too_old_is_refused(user: Environment) -> None:
    # The real interpreter, which is made to report an older version: this test needs no Python 3.9.
    old = script(
        user.home / "python3.9",
        "for program; do :; done",
        'older="import sys; sys.version_info = (3, 9, 18); exec(sys.argv[1])"',
        f'exec {shlex.quote(sys.executable)} -c "$older" "$program"',
    )
    assert refused(user, old) == f"capsule: {old} is Python 3.9.18; cells need Python 3.10 or newer\n"


def test_a_python_without_the_worker_is_refused_with_the_command_that_fixes_it(
    user: Environment, new_environment: Callable[[str], Environment]
) -> None:
    bare = new_environment("bare")
    said = refused(user, bare.python)
    assert f"{bare.python} (Python " in said
    assert "has no capsule-worker\nTo fix it:\n" in said
    assert said.endswith(f"\n    uv pip install --python {bare.python} capsule-worker=={__version__}\n")

    (bare.packages / "pip").mkdir()
    (bare.packages / "pip" / "__init__.py").touch()
    assert refused(user, bare.python).endswith(f"\n    {bare.python} -m pip install capsule-worker=={__version__}\n")


def test_a_worker_in_the_working_directory_does_not_count_as_installed(
    user: Environment, new_environment: Callable[[str], Environment]
) -> None:
    bare = new_environment("bare")
    (user.home / "capsule_worker.py").write_text(f"__version__ = '{__version__}'\n")
    assert "has no capsule-worker\n" in refused(user, bare.python)


@pytest.mark.parametrize(
    ("module", "protocol", "said"),
    [
        ("__version__ = '0.0.9'", "", f"has capsule-worker 0.0.9; this is capsule-kernel {__version__}"),
        ("", "", f"has capsule-worker of an unknown version; this is capsule-kernel {__version__}"),
        (f"__version__ = '{__version__}'", "PROTOCOL_VERSION = 0", "speaks protocol 0; this front speaks protocol"),
        (f"__version__ = '{__version__}'", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_worker_that_does_not_match_is_refused_with_the_command_that_fixes_it(
    user: Environment, new_environment: Callable[[str], Environment], module: str, protocol: str, said: str
) -> None:
    other = new_environment("other")
    package = other.packages / "capsule_worker"
    (package / "protocol").mkdir(parents=True)
    (package / "__init__.py").write_text(module)
    (package / "protocol" / "__init__.py").write_text(protocol)
    (package / "message_loop.py").touch()
    error = refused(user, other.python)
    assert said in error
    assert f"--python {other.python} capsule-worker=={__version__}\n" in error


# -- capsule doctor and capsule config -----------------------------------------------------------------------


def findings(result: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str, str]]:
    """Return what the doctor found: for each check its status, what was found, and the fix."""
    report = json.loads(result.stdout)
    found = {each["check"]: (each["status"], each["detail"], each["fix"]) for each in report["findings"]}
    assert report["ok"] is all(status != "problem" for status, _, _ in found.values())
    assert result.returncode == (0 if report["ok"] else 1), result.stderr
    return found


def test_the_doctor_finds_a_new_installation_well(user: Environment) -> None:
    found = findings(user.capsule("doctor", "--json"))
    # Where there is no bubblewrap other layers take the place of namespaces, which is a warning.
    names = ["namespaces", "scopes"] if shutil.which("bwrap") else ["namespaces", "scopes", "files", "capabilities"]
    layers = [f"isolation: {name}" for name in (*names, "system calls")]
    first = ["versions", "configuration", *(layer for layer in layers if layer in found), "runtime directory"]
    assert list(found) == [*first, "kernelspec capsule", "kernel capsule"]
    assert {status for check, (status, _, _) in found.items() if not check.startswith("isolation")} == {"ok"}
    if shutil.which("bwrap"):
        assert {found[layer][0] for layer in layers} == {"ok"}
    else:
        assert found["isolation: namespaces"][0] == "warning"
        assert "install bubblewrap" in found["isolation: namespaces"][2]
    assert f"capsule-worker {__version__}" in found["versions"][1]
    assert found["isolation: scopes"][1] == "profile notebook: active"
    assert "1+1 = 2" in found["kernel capsule"][1]


def test_the_doctor_shows_people_a_table(user: Environment) -> None:
    result = user.capsule("doctor")
    assert result.returncode == 0
    for words in ("fix", "runtime directory", str(user.kernels / "capsule"), "1+1 = 2"):
        assert words in result.stdout


def test_the_doctor_misses_the_kernelspec_and_says_how_to_get_one(
    new_environment: Callable[[str], Environment], wheels: list[Path]
) -> None:
    environment = new_environment("removed")
    environment.install(*wheels)
    assert environment.capsule("uninstall", "--yes").returncode == 0
    found = findings(environment.capsule("doctor", "--json"))
    assert found["kernelspecs"] == ("problem", "Jupyter finds no kernelspec of Capsule", "capsule install --user")
    assert environment.capsule("install", "--user").returncode == 0
    assert findings(environment.capsule("doctor", "--json"))["kernel capsule"][0] == "ok"


def test_the_doctor_finds_an_interpreter_that_is_gone(
    user: Environment, new_environment: Callable[[str], Environment]
) -> None:
    bare = new_environment("bare")
    kernels = user.home / ".local/share/jupyter/kernels"
    assert user.capsule("install", "--name", "gone").returncode == 0
    spec = kernel_json(kernels / "gone")
    (kernels / "bare").mkdir()
    (kernels / "bare" / "kernel.json").write_text(
        json.dumps({**spec, "argv": [*spec["argv"], "--python", str(bare.python)]})
    )
    spec["argv"][0] = "/gone/bin/python"
    (kernels / "gone" / "kernel.json").write_text(json.dumps(spec))

    found = findings(user.capsule("doctor", "--json"))
    status, detail, mend = found["kernelspec gone"]
    assert status == "problem"
    assert "/gone/bin/python does not exist" in detail
    assert mend == "capsule install --name gone"
    status, detail, mend = found["kernelspec bare"]
    assert status == "problem"
    assert "has no capsule-worker" in detail
    assert mend == f"uv pip install --python {bare.python} capsule-worker=={__version__}"
    assert "kernel gone" not in found
    assert found["kernel capsule"][0] == "ok"


def test_the_doctor_tells_why_a_kernel_does_not_start(user: Environment) -> None:
    assert user.capsule("install", "--name", "broken").returncode == 0
    path = user.home / ".local/share/jupyter/kernels/broken/kernel.json"
    spec = json.loads(path.read_text())
    path.write_text(json.dumps({**spec, "argv": [*spec["argv"], "--profile", "closed"]}))
    status, detail, _ = findings(user.capsule("doctor", "--json"))["kernel broken"]
    assert status == "problem"
    assert "does not run" in detail
    assert 'No profile named "closed"' in detail


def test_a_kernel_that_does_not_answer_in_time_is_ended(user: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = user.home / "data" / "kernels" / "mute"
    directory.mkdir(parents=True)
    argv = ["/bin/sh", "-c", "echo I am mute; sleep 1000", "-m", "capsule_kernel"]
    (directory / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Mute", "language": "none"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(user.home / "data"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(user.home / "run"))
    monkeypatch.setenv("IPYTHONDIR", str(user.home / "ipython"))
    monkeypatch.setenv(MARK, user.variables[MARK])
    with pytest.raises(RuntimeError, match=r"Kernel didn't respond in 1 seconds \(I am mute\)"):
        doctor.run_kernel("mute", 1)
    monkeypatch.delenv(MARK)
    assert list((user.home / "run").glob("*.json")) == []


def test_the_doctor_warns_of_a_kernelspec_that_another_one_hides(user: Environment) -> None:
    assert user.capsule("install", "--user").returncode == 0
    result = user.capsule("doctor", "--json")
    report = json.loads(result.stdout)
    warned = [each for each in report["findings"] if each["status"] == "warning"]
    [hidden] = [each for each in warned if not each["check"].startswith("isolation")]
    assert hidden["check"] == "kernelspec capsule"
    assert " is hidden by " in hidden["detail"]
    assert result.returncode == 0


def test_the_doctor_finds_a_runtime_directory_that_cannot_be_written(user: Environment) -> None:
    (user.home / "file").touch()
    found = findings(user.capsule("doctor", "--json", JUPYTER_RUNTIME_DIR=str(user.home / "file" / "run")))
    status, detail, mend = found["runtime directory"]
    assert status == "problem"
    assert detail == f"{user.home}/file/run cannot be written: Not a directory"
    assert "JUPYTER_RUNTIME_DIR" in mend


def test_the_configuration_is_shown_with_where_each_value_comes_from(user: Environment) -> None:
    (user.home / "capsule.toml").write_text("spare_worker = false\ndrain_timeout = 5\n")
    result = user.capsule("config", "--json", CAPSULE_DRAIN_TIMEOUT="7")
    assert result.returncode == 0
    settings = json.loads(result.stdout)["settings"]
    assert settings["spare_worker"] == {"value": False, "origin": str(user.home / "capsule.toml")}
    assert settings["drain_timeout"] == {"value": 7.0, "origin": "CAPSULE_DRAIN_TIMEOUT"}
    assert settings["profile"] == {"value": "notebook", "origin": "default"}
    table = user.capsule("config").stdout
    for words in ("drain_timeout     = 5.0  (", "capsule.toml)", "memory_limit"):
        assert words in table


def test_a_wrong_configuration_is_reported_by_config_and_by_the_doctor(user: Environment) -> None:
    result = user.capsule("config", CAPSULE_DRAIN_TIMEOUT="soon")
    assert result.returncode == 1
    assert '"drain_timeout" in CAPSULE_DRAIN_TIMEOUT' in result.stderr
    found = findings(user.capsule("doctor", "--json", CAPSULE_DRAIN_TIMEOUT="soon"))
    assert found["configuration"][0] == "problem"
    assert '"drain_timeout" in CAPSULE_DRAIN_TIMEOUT' in found["configuration"][1]


def test_an_unknown_setting_is_a_warning_of_the_doctor(user: Environment) -> None:
    (user.home / "capsule.toml").write_text("memry_limit = 1\n")
    warning = f'Unknown setting "memry_limit" in {user.home}/capsule.toml. Did you mean "memory_limit"?'
    found = findings(user.capsule("doctor", "--json"))
    assert found["configuration"][:2] == ("warning", warning)
