"""Which variables cells get."""

from __future__ import annotations

import pytest

from capsule_durable.environment import SECRETS, split
from capsule_durable.settings import Settings


@pytest.mark.parametrize("name", ["PATH", "HOME", "LC_ALL", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "https_proxy"])
def test_what_programs_need_is_handed_on(name: str) -> None:
    assert split({name: "x"}, ()) == ({name: "x"}, [])


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "DATABASE_URL",
        "HF_TOKEN",
        "JUPYTER_TOKEN",
        "PIP_PASSWORD",
        "UV_TOKEN",
    ],
)
def test_keys_are_not(name: str) -> None:
    assert split({name: "x"}, ()) == ({}, [name])


def test_who_wants_cells_to_have_a_variable_says_so() -> None:
    environ = {"OPENAI_API_KEY": "a", "AWS_PROFILE": "b", "AWS_SECRET": "c", "DATABASE_URL": "d", "PATH": "e"}
    passed, withheld = split(environ, ("OPENAI_API_KEY", "AWS_*"))
    assert withheld == ["DATABASE_URL"]
    assert passed.keys() == environ.keys() - {"DATABASE_URL"}


def test_the_keys_to_the_kernel_are_never_handed_on() -> None:
    environ = dict.fromkeys(SECRETS, "x")
    assert split(environ, ("*",)) == ({}, sorted(SECRETS))


def test_names_are_listed_in_a_variable_as_a_text() -> None:
    assert Settings.model_validate({"pass_environment": "A, B* C"}).pass_environment == ("A", "B*", "C")
    assert Settings.model_validate({"pass_environment": ["A", "B*"]}).pass_environment == ("A", "B*")
