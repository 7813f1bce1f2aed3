"""Which suites run, and what of them is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Suite:
    """The tests of a project of Jupyter's."""

    project: str
    """The distribution, by its name on the package index; its version is the one that is installed."""
    paths: tuple[str, ...] = ("tests",)
    """Where the tests are in its source distribution."""
    kernels: tuple[str, ...] = ("python3",)
    """The names by which the tests start a kernel."""
    in_cell: bool = False
    """Whether pytest itself runs in a cell, for objects that live there and whose tests start no kernel."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of this kernel that the tests need, as environment variables."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Files that are not run, each with the reason."""


_CLOUD = "tests a storage service with its client library; starts no kernel"

SUITES = (
    Suite("jupyter_kernel_test", paths=("test_ipykernel.py",)),
    Suite("ipykernel"),
    Suite("nbclient", settings={"CAPSULE_PASS_ENVIRONMENT": "NBEXECUTE_TEST_PARALLEL_TMPDIR"}),
    Suite(
        "ipywidgets",
        paths=("ipywidgets",),
        in_cell=True,
    ),
    # "echo" is a small kernel of the suite's own; the tests of clients are as good for another one.
    Suite("jupyter_client", kernels=("python3", "echo")),
    Suite(
        "papermill",
        paths=("papermill/tests",),
        left_out={f"papermill/tests/test_{service}.py": _CLOUD for service in ("abs", "adl", "gcs", "hdfs", "s3")},
    ),
)
