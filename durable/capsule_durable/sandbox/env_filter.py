"""Select the environment variables that cells get. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

#: Variables of Jupyter and Capsule that contain keys. Cells get them in no profile.
SECRETS = frozenset({"JPY_API_TOKEN", "JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "CAPSULE_TOKEN"})

#: Variables that programs need, by name or by the beginning of the name (``*`` stands for the rest). This list has no
#: keys, and no sockets that give access to keys: a user adds those with the setting ``pass_environment``.
DEFAULT_NAMES = (
    # User, directories, language.
    *("HOME", "HOSTNAME", "LOGNAME", "OLDPWD", "PWD", "SHELL", "SHLVL", "USER"),
    *("LANG", "LANGUAGE", "LC_*", "TZ"),
    *("MANPATH", "PATH", "SCRATCH", "TEMP", "TMP", "TMPDIR", "XDG_*"),
    # Terminals, editors and displays.
    *("CLICOLOR", "CLICOLOR_FORCE", "COLORFGBG", "COLORTERM", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "RICH_*"),
    *("EDITOR", "GIT_EDITOR", "GIT_PAGER", "PAGER", "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TQDM_*", "VISUAL"),
    *("DISPLAY", "QT_*", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "WAYLAND_DISPLAY", "XAUTHORITY"),
    # Automation and debugging.
    *("CI", "DEBUG", "GITHUB_ACTIONS", "GITLAB_CI"),
    # Python, its environments and installers.
    *("CONDA_*", "MAMBA_*", "PIP_*", "PYENV_*", "PYTHON*", "UV_*", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*"),
    # Compilers and other languages.
    *("CC", "CFLAGS", "CMAKE_*", "CPPFLAGS", "CXX", "CXXFLAGS", "FC", "LDFLAGS", "MAKEFLAGS"),
    *("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "PKG_CONFIG_PATH"),
    *("LMOD_*", "LOADEDMODULES", "MODULEPATH", "MODULESHOME", "_LMFILES_"),
    *("CARGO_HOME", "GOPATH", "GOROOT", "JULIA_*", "NODE_PATH", "NVM_DIR", "R_HOME", "R_LIBS*", "RUSTUP_HOME"),
    *("GIT_AUTHOR_*", "GIT_COMMITTER_*"),
    # Jupyter, IPython, this kernel, and services that host notebooks.
    *("CAPSULE_*", "IPYTHON*", "JPY_*", "JUPYTER_*", "JUPYTERHUB_*", "NB_*", "PYDEVD_*"),
    *("COLAB_*", "DATABRICKS_RUNTIME_VERSION", "VSCODE_CWD", "VSCODE_INJECTION", "VSCODE_PID"),
    *("KAGGLE_CONTAINER_NAME", "KAGGLE_DOCKER_IMAGE", "KAGGLE_KERNEL_*", "KAGGLE_URL_BASE"),
    # Numerical libraries: threads, devices, directories.
    *("BLIS_*", "GOTO_*", "KMP_*", "MKL_*", "NUMBA_*", "NUMEXPR_*", "OMP_*", "OPENBLAS_*", "VECLIB_*"),
    *("CUDA_*", "GPU_*", "HIP_*", "NCCL_*", "NVIDIA_*", "ROCM_*", "ROCR_*", "ZE_*"),
    *("JAX_*", "KERAS_*", "PYTORCH_*", "TF_*", "TORCH*", "TRITON_*", "XLA_*"),
    *("HF_DATASETS_*", "HF_ENDPOINT", "HF_HOME", "HF_HUB_*", "NLTK_DATA", "SCIKIT_LEARN_DATA", "TRANSFORMERS_*"),
    "TOKENIZERS_PARALLELISM",
    *("ARROW_*", "GDAL_*", "MPL*", "POLARS_*", "PROJ_*"),
    *("BOKEH_*", "PANEL_*", "PLOTLY_*"),
    # Clusters and clouds: names and regions.
    *("DASK_*", "HADOOP_CONF_DIR", "HADOOP_HOME", "HIVE_CONF_DIR", "JAVA_HOME", "YARN_CONF_DIR"),
    *("OMPI_*", "PBS_*", "PMI_*", "PYSPARK_*", "RAY_*", "SLURM_*", "SPARK_*"),
    *("AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_REGION", "CLOUDSDK_CORE_PROJECT", "GOOGLE_CLOUD_PROJECT"),
    *("MLFLOW_EXPERIMENT_*", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"),
    *("WANDB_CACHE_DIR", "WANDB_DIR", "WANDB_ENTITY", "WANDB_MODE", "WANDB_NAME", "WANDB_PROJECT", "WANDB_SILENT"),
    # Network proxies and certificates.
    *("ALL_PROXY", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"),
    *("all_proxy", "ftp_proxy", "https_proxy", "http_proxy", "no_proxy"),
    *("CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_*"),
)
#: Parts of names of variables with keys, and the end of such names. They are hidden although a pattern above matches.
_IN_KEYS = (
    *("TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY", "JWT"),
    *("API_KEY", "ACCESS_KEY", "PRIVATE_KEY", "SESSION_KEY", "CONNECTION_STRING"),
)
_END_OF_KEYS = "_KEY"
#: Compiling the patterns would take 15 ms before the first worker starts.
_NAMES = frozenset(DEFAULT_NAMES)
_BEGINNINGS = tuple(pattern[:-1] for pattern in DEFAULT_NAMES if pattern.endswith("*"))


def split(environ: Mapping[str, str], wanted: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables that cells get, and the sorted names of those that they do not get.

    Args:
        environ: the front's environment.
        wanted: names and patterns (``AWS_*``) that cells get besides the usual ones.
    """
    passed = {name: value for name, value in environ.items() if name not in SECRETS and _is_passed(name, wanted)}
    return passed, sorted(environ.keys() - passed.keys())


def _is_passed(name: str, wanted: Collection[str]) -> bool:
    # A name in the list is accepted even if it looks like the name of a key.
    if name in _NAMES or any(fnmatchcase(name, pattern) for pattern in wanted):
        return True
    upper = name.upper()
    if upper.endswith(_END_OF_KEYS) or any(part in upper for part in _IN_KEYS):
        return False
    return name.startswith(_BEGINNINGS)
