"""The environment variables that cells get."""

from __future__ import annotations

import pytest

from capsule_durable.config.settings import Settings
from capsule_durable.sandbox.env_filter import SECRETS, split


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LC_ALL", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "https_proxy"),
        *("JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_USER", "NB_USER", "VSCODE_PID", "COLAB_GPU", "COLAB_RELEASE_TAG"),
        *("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_URL_BASE", "DATABRICKS_RUNTIME_VERSION", "AWS_PROFILE", "AWS_REGION"),
        *("DASK_SCHEDULER_ADDRESS", "BOKEH_RESOURCES", "PYSPARK_PYTHON", "HADOOP_CONF_DIR", "MLFLOW_TRACKING_URI"),
        *("WANDB_MODE", "HF_ENDPOINT", "CC", "LIBRARY_PATH", "LOADEDMODULES", "R_LIBS_USER", "JULIA_DEPOT_PATH"),
        *("DEBUG", "CI", "TQDM_DISABLE", "GOOGLE_CLOUD_PROJECT"),
        # It is in the list, so it does not matter that its name looks like that of a key.
        "TOKENIZERS_PARALLELISM",
    ],
)
def test_cells_get_the_variables_that_programs_need(name: str) -> None:
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
        *("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_CRYPT_KEY", "COLAB_JUPYTER_TOKEN", "KAGGLE_KEY", "NB_PASSWORD"),
        *("KAGGLE_USER_SECRETS_TOKEN", "BOKEH_SECRET_KEY", "PLOTLY_API_KEY", "WANDB_API_KEY", "AWS_ACCESS_KEY_ID"),
        *("AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "DASK_TLS_KEY", "R_LIBS_PASSPHRASE", "NB_JWT"),
        # By these sockets keys can be had, and windows opened.
        *("SSH_AUTH_SOCK", "VSCODE_GIT_IPC_HANDLE", "VSCODE_IPC_HOOK_CLI", "GIT_ASKPASS"),
    ],
)
def test_cells_do_not_get_keys(name: str) -> None:
    assert split({name: "x"}, ()) == ({}, [name])


def test_a_setting_adds_variables() -> None:
    environ = {"OPENAI_API_KEY": "a", "AWS_PROFILE": "b", "AWS_SECRET": "c", "DATABASE_URL": "d", "PATH": "e"}
    passed, withheld = split(environ, ("OPENAI_API_KEY", "AWS_*"))
    assert withheld == ["DATABASE_URL"]
    assert passed.keys() == environ.keys() - {"DATABASE_URL"}


def test_cells_never_get_the_keys_of_jupyter_and_capsule() -> None:
    environ = dict.fromkeys(SECRETS, "x")
    assert split(environ, ("*",)) == ({}, sorted(SECRETS))


def test_names_in_an_environment_variable_are_split() -> None:
    assert Settings.model_validate({"pass_environment": "A, B* C"}).pass_environment == ("A", "B*", "C")
    assert Settings.model_validate({"pass_environment": ["A", "B*"]}).pass_environment == ("A", "B*")
