"""What the two distributions promise about themselves holds together."""

from __future__ import annotations

import json
import re
import struct
import tomllib
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest

import capsule_kernel
import capsule_worker
from capsule_durable.config.settings import Settings
from capsule_durable.sandbox import policy
from capsule_kernel.cli import kernelspec
from tests.support import ROOT

KERNELSPEC = ROOT / "kernelspec"


def project(folder: Path) -> dict[str, Any]:
    """Return the pyproject.toml of a folder."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def test_front_and_worker_are_released_together() -> None:
    front, worker = project(ROOT)["project"], project(ROOT / "worker")["project"]
    assert front["version"] == worker["version"] == capsule_kernel.__version__ == capsule_worker.__version__
    assert f"capsule-worker=={worker['version']}" in front["dependencies"]


def test_the_oldest_python_of_the_worker_is_the_one_that_install_asks_for() -> None:
    from capsule_durable.workers.interpreter import OLDEST

    assert project(ROOT / "worker")["project"]["requires-python"] == f">={OLDEST[0]}.{OLDEST[1]}"


def test_the_oldest_ipython_of_the_worker_is_the_one_that_it_looks_for() -> None:
    from capsule_worker.message_loop import OLDEST_IPYTHON

    oldest = ".".join(map(str, OLDEST_IPYTHON))
    assert f"ipython>={oldest}" in project(ROOT / "worker")["project"]["dependencies"]


def test_installing_the_distribution_brings_the_kernelspec() -> None:
    wheel = project(ROOT)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"] == {"kernelspec": f"share/jupyter/kernels/{kernelspec.NAME}"}


def test_the_command_is_there() -> None:
    assert project(ROOT)["project"]["scripts"] == {"capsule": "capsule_kernel.cli.main:main"}


def test_there_are_words_for_every_profile() -> None:
    assert set(policy.PROFILES) == set(get_args(Settings.model_fields["profile"].annotation))
    for profile in policy.PROFILES:
        assert policy.Sandbox(profile).summary().startswith(f"{profile} (")


def test_what_capsule_install_copies_is_what_the_distribution_brings() -> None:
    copied = {path.name: path.read_bytes() for path in kernelspec.RESOURCES.iterdir()}
    assert copied == {path.name: path.read_bytes() for path in KERNELSPEC.iterdir()}


def test_the_kernelspec_starts_the_front_apart_from_the_working_directory() -> None:
    spec = json.loads((KERNELSPEC / "kernel.json").read_text(encoding="utf-8"))
    assert spec["argv"] == ["python", "-E", "-P", "-m", "capsule_kernel", "-f", "{connection_file}"]
    assert spec["language"] == "python"
    assert spec["interrupt_mode"] == "message"


@pytest.mark.parametrize("size", [32, 64])
def test_a_logo_has_the_size_in_its_name(size: int) -> None:
    data = (KERNELSPEC / f"logo-{size}x{size}.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (size, size)


def test_the_logo_for_all_sizes_is_a_square_svg_that_needs_nothing_else() -> None:
    text = (KERNELSPEC / "logo-svg.svg").read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    assert width == height
    assert not re.search(r"<script|<image|href", text)


def test_both_distributions_carry_the_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("BSD 3-Clause License")
    assert "the Capsule developers" in text
    assert (ROOT / "worker" / "LICENSE").read_text(encoding="utf-8") == text
    for folder in (ROOT, ROOT / "worker"):
        assert project(folder)["project"]["license"] == "BSD-3-Clause"
        assert project(folder)["project"]["license-files"] == ["LICENSE"]


@pytest.mark.parametrize("package", [capsule_kernel, capsule_worker], ids=lambda package: package.__name__)
def test_a_package_is_marked_as_typed(package: Any) -> None:
    assert (Path(package.__path__[0]) / "py.typed").exists()
