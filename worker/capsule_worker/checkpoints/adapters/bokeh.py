"""Adapter for bokeh: the document in which it keeps what is shown, which owns its figures."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from capsule_worker.checkpoints.adapters.base import Adapter


def _reduce_document(document: Any) -> Any:
    state = sys.modules.get("bokeh.io.state")
    if state is None or document is not state.curstate().document:
        return NotImplemented
    return *document.__reduce_ex__(5)[:3], None, None, fill_document


def fill_document(document: Any, attributes: dict[str, Any]) -> None:
    """Set the attributes of a document, and make it the one in which bokeh keeps what is shown.

    Args:
        document: the document, without attributes.
        attributes: values by name.
    """
    vars(document).update(attributes)
    importlib.import_module("bokeh.io.state").curstate().document = document


ADAPTER = Adapter("bokeh", {"bokeh.document.document.Document": _reduce_document}, retains=True)
