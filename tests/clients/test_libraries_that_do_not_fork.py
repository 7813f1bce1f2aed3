"""What a copy of the worker cannot pickle is pickled in the worker: locks that threads hold, pools, GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.kernels import Opened

pytestmark = pytest.mark.capsule_only

LIBRARY = """
import os, threading

_born = os.getpid()

class Refusing:
    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        if os.getpid() != _born:
            raise RuntimeError('cannot be initialised again in a forked process')
        return self.__dict__

class Hanging(Refusing):
    def __getstate__(self):
        if os.getpid() != _born:
            threading.Event().wait()
        return self.__dict__

class Crashing(Refusing):
    def __getstate__(self):
        if os.getpid() != _born:
            os.abort()
        return self.__dict__
"""


@pytest.mark.parametrize("kind", ["Refusing", "Hanging", "Crashing"])
def test_they_come_back(open_kernel: Callable[..., Opened], tmp_path: Path, kind: str) -> None:
    (tmp_path / "gpulike.py").write_text(LIBRARY)
    _, kernel = open_kernel()
    kernel.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import gpulike")
    kernel.run(f"one = two = gpulike.{kind}([1]); other = gpulike.{kind}(7)")
    # The first checkpoint shows what a copy cannot do, the one after it has all.
    kernel.run("%capsule checkpoint first")
    kernel.run("one.value.append(2)")
    kernel.run("%capsule checkpoint second")
    died = kernel.run("import os; os.kill(os.getpid(), 9)")
    assert died.reply["ename"] == "WorkerDied"
    # The library has been imported anew: its process is this one.
    assert kernel.run("one is two, one.value, other.value").result == "(True, [1, 2], 7)"


def test_a_frame_of_polars_comes_back_after_its_pool_was_used(open_kernel: Callable[..., Opened]) -> None:
    _, kernel = open_kernel()
    kernel.run("import polars as pl; frame = pl.DataFrame({'a': range(100_000)}); total = frame.lazy().sum().collect()")
    kernel.run("frame = frame.with_columns(b=pl.col('a') * 2)")
    kernel.run("%capsule checkpoint here")
    kernel.run("import os; os.kill(os.getpid(), 9)")
    assert kernel.run("frame.shape, frame['b'].sum(), total['a'][0]").result == "((100000, 2), 9999900000, 4999950000)"
