"""Our models are built without pydantic's plugins, those of cells with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

PROGRAM = """
from capsule_worker.protocol.pydantic_plugins import without_plugins
with without_plugins():
    import capsule_worker.protocol.messages
    import capsule_durable.config.settings
capsule_durable.config.settings.Settings()
import sys
assert "importlib.metadata" not in sys.modules, "importlib.metadata was imported"
from pydantic.plugin import _loader
assert _loader._plugins is None, "all installed distributions were searched"
import pydantic
pydantic.create_model("Model", x=int)
assert _loader._plugins is not None, "a cell's model would have no plugins"
"""


def test_no_plugins_are_searched_until_other_code_builds_a_model() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_variable_of_the_environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from capsule_worker.protocol.pydantic_plugins import without_plugins

    for value in ("logfire-plugin", None):
        if value is None:
            monkeypatch.delenv("PYDANTIC_DISABLE_PLUGINS")
        else:
            monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", value)
        with without_plugins():
            pass
        assert os.environ.get("PYDANTIC_DISABLE_PLUGINS") == value
