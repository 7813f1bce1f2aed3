"""The functions that pickles name are part of the format of checkpoints: the list changes only on purpose."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import xml.dom.minidom
from pathlib import Path

import pytest

from capsule_worker.checkpoints.pickling.class_registry import ClassRegistry
from capsule_worker.checkpoints.pickling.pickler import NamespacePickler
from capsule_worker.checkpoints.pickling.placeholder import Placeholder
from capsule_worker.checkpoints.pickling.reducers import stand_in
from capsule_worker.protocol.manifest import Variable
from tests.support import ROOT
from tests.support.kinds import KINDS, is_installed
from tests.support.programs.pickle_names import names_in

CHECKPOINTS = "capsule_worker.checkpoints."
#: What pickles of the kinds of objects name.
OF_KINDS = {
    "adapters.numpy.make_array_on",
    "adapters.numpy.make_part",
    "adapters.numpy.make_view",
    "adapters.numpy.open_memmap",
    "adapters.pandas.fill_block",
    "adapters.stdlib.closed_file",
    "adapters.stdlib.dead_reference",
    "adapters.stdlib.fill_cell",
    "adapters.stdlib.make_alias",
    "adapters.stdlib.make_cached",
    "adapters.stdlib.make_cell",
    "adapters.stdlib.make_lock",
    "adapters.stdlib.make_new_type",
    "adapters.stdlib.make_scanner",
    "adapters.stdlib.make_type_variable",
    "adapters.stdlib.match_again",
    "adapters.stdlib.open_again",
    "adapters.stdlib.view_of",
    "pickling.reconstruct.fill_class",
    "pickling.reconstruct.fill_container",
    "pickling.reconstruct.fill_exception",
    "pickling.reconstruct.fill_function",
    "pickling.reconstruct.fill_object",
    "pickling.reconstruct.find_anchor",
    "pickling.reconstruct.find_class",
    "pickling.reconstruct.make_class",
    "pickling.reconstruct.make_enum",
    "pickling.reconstruct.make_exception",
    "pickling.reconstruct.make_function",
    "pickling.reconstruct.make_plain_class",
}
#: What pickles of other objects name.
OF_OTHERS = {
    "adapters.bokeh.fill_document",
    "adapters.pandas.same",
    "pickling.reconstruct.find_namespace",
    "pickling.reconstruct.import_with",
    "pickling.reconstruct.make_placeholder",
}


def names(value, namespace=None) -> set[str]:
    """Return the names of the worker's functions in the pickle of a value, and those that come with every pickle."""
    file = io.BytesIO()
    NamespacePickler(file, {} if namespace is None else namespace, ClassRegistry()).dump(({"x": value}, {}))
    return {name.removeprefix(CHECKPOINTS) for name in names_in(file.getvalue()) if name.startswith("capsule_worker")}


@pytest.mark.process
@pytest.mark.timeout(300)
def test_pickles_of_all_kinds_name_what_is_listed(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.support.programs.pickle_names", str(tmp_path / "names.json")]
    process = subprocess.Popen(
        program, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert process.wait(280) == 0
    finally:
        # With all that the cells have started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    names = json.loads((tmp_path / "names.json").read_text(encoding="utf-8"))
    found = {name.removeprefix(CHECKPOINTS): kinds for name, kinds in names.items()}
    assert {name: kinds for name, kinds in found.items() if name not in OF_KINDS | OF_OTHERS} == {}
    if all(map(is_installed, KINDS)) and sys.version_info >= (3, 12):
        assert OF_KINDS - found.keys() == set()


@pytest.mark.parametrize("name", sorted(OF_KINDS | OF_OTHERS))
def test_what_is_listed_exists(name: str) -> None:
    module, _, function = f"{CHECKPOINTS}{name}".rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))


def test_a_placeholder_within_a_value_is_made_again() -> None:
    placeholder = Placeholder(Variable(name="x", type="generator", size=0, digest=b""))
    assert "pickling.reconstruct.make_placeholder" in names([placeholder])


def test_the_namespace_as_a_value_is_found_again() -> None:
    namespace: dict = {}
    assert "pickling.reconstruct.find_namespace" in names(stand_in(namespace, namespace), namespace)


def test_a_module_is_imported_with_those_below_it_that_cells_imported() -> None:
    found = names(xml, {"In": ["", "import xml.dom.minidom"]})
    assert "pickling.reconstruct.import_with" in found


def test_an_index_of_objects_gets_its_own_memory() -> None:
    pandas = pytest.importorskip("pandas", minversion="3")
    assert "adapters.pandas.same" in names(pandas.Index([object(), 1], dtype=object))


def test_the_document_of_bokeh_takes_its_place_again() -> None:
    state = pytest.importorskip("bokeh.io.state")
    assert "adapters.bokeh.fill_document" in names(state.curstate().document)
