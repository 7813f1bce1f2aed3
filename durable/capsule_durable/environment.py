"""Which variables of its environment a front hands on to the code of notebooks. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

#: Variables of Jupyter's and of ours that are keys; in no profile they are the business of a cell.
SECRETS = frozenset({"JPY_API_TOKEN", "JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "CAPSULE_TOKEN"})

#: What programs need to find their way, by names and patterns. Keys do not belong here: who wants a cell to have one
#: says so (``pass_environment``).
USUAL = (
    # The person, the place, the language.
    *("HOME", "HOSTNAME", "LOGNAME", "PWD", "SHELL", "USER"),
    *("LANG", "LANGUAGE", "LC_*", "TZ"),
    *("PATH", "TEMP", "TMP", "TMPDIR", "XDG_*"),
    # Terminals, editors and displays.
    *("COLORTERM", "COLUMNS", "EDITOR", "FORCE_COLOR", "LINES", "NO_COLOR", "PAGER", "TERM", "VISUAL"),
    *("DISPLAY", "QT_*", "WAYLAND_DISPLAY", "XAUTHORITY"),
    # Python, its environments and installers.
    *("CONDA_*", "MAMBA_*", "PIP_*", "PYENV_*", "PYTHON*", "UV_*", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*"),
    # Jupyter, IPython and this kernel.
    *("CAPSULE_*", "IPYTHON*", "JPY_*", "JUPYTER_*", "PYDEVD_*"),
    # Libraries that calculate, their threads and devices, and where they keep things.
    *("BLIS_*", "GOTO_*", "KMP_*", "MKL_*", "NUMBA_*", "NUMEXPR_*", "OMP_*", "OPENBLAS_*", "VECLIB_*"),
    *("CUDA_*", "GPU_*", "HIP_*", "NCCL_*", "NVIDIA_*", "ROCM_*", "ROCR_*", "ZE_*"),
    *("JAX_*", "KERAS_*", "PYTORCH_*", "TF_*", "TORCH*", "TRITON_*", "XLA_*"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "NLTK_DATA", "SCIKIT_LEARN_DATA", "TRANSFORMERS_*"),
    *("ARROW_*", "GDAL_*", "MPL*", "POLARS_*", "PROJ_*", "R_HOME"),
    # Clusters.
    *("HADOOP_HOME", "JAVA_HOME", "OMPI_*", "PBS_*", "PMI_*", "RAY_*", "SLURM_*", "SPARK_*"),
    # The way to the network.
    *("ALL_PROXY", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"),
    *("all_proxy", "ftp_proxy", "https_proxy", "http_proxy", "no_proxy"),
    *("CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_*"),
)
#: What a name has that is one of a key, though it is like the usual ones.
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "CREDENTIAL")


def split(environ: Mapping[str, str], wanted: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables that are handed on, and the names of those that are not, in order.

    Args:
        environ: the front's environment.
        wanted: names and patterns (``AWS_*``) to hand on beside the usual ones.
    """
    passed = {name: value for name, value in environ.items() if name not in SECRETS and _is_passed(name, wanted)}
    return passed, sorted(environ.keys() - passed.keys())


def _is_passed(name: str, wanted: Collection[str]) -> bool:
    if any(fnmatchcase(name, pattern) for pattern in wanted):
        return True
    if any(word in name.upper() for word in _SECRET_WORDS):
        return False
    return any(fnmatchcase(name, pattern) for pattern in USUAL)
