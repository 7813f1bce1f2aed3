"""What libraries show and update: the same messages as from ipykernel, and restored variables."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import kernels
from tests.support.comms import comms_of, model_of, over, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.conversation import Conversation, Exchange

ANYWIDGET = """
import anywidget, traitlets
class Counter(anywidget.AnyWidget):
    _esm = "export default {render({model, el}) { el.innerText = model.get('value') }}"
    value = traitlets.Int(3).tag(sync=True)
    raw = traitlets.Bytes(b'abc').tag(sync=True, from_json=lambda value, widget: bytes(value))
def heard(widget, content, buffers):
    print('heard', content)
    widget.send({'echo': content}, buffers=[bytes(each)[::-1] for each in buffers])
counter = Counter()
counter.on_msg(heard)
counter.observe(lambda change: print('now', change['new']), 'value')
counter
"""
IPYMPL = """
%matplotlib widget
import matplotlib.pyplot as plt
fig, ax = plt.subplots(figsize=(2, 2))
line, = ax.plot([1, 4, 9])
plt.show()
"""
BOKEH = """
from bokeh.io import output_notebook, push_notebook, show
from bokeh.plotting import figure
output_notebook()
plot = figure(height=100, width=100)
glyphs = plot.line([1, 2, 3], [1, 4, 9])
handle = show(plot, notebook_handle=True)
"""
PLOTLY = """
import plotly.graph_objects as go
import plotly.io as pio
pio.renderers.default = 'plotly_mimetype'
squares = go.Figure(go.Scatter(y=[1, 4, 9]))
squares.show()
squares
"""
#: By library: cells, one after the other.
CELLS = {
    "anywidget": (ANYWIDGET, "counter.value = 4; counter.raw = b'defg'"),
    "ipympl": (IPYMPL, "line.set_ydata([9, 4, 1]); fig.canvas.draw()"),
    "bokeh": (BOKEH, "glyphs.data_source.data['y'] = [9, 4, 1]; push_notebook(handle=handle)"),
    "plotly": (
        PLOTLY,
        "widget = go.FigureWidget(squares)\nwidget",
        "widget.data[0].y = [9, 4, 1]; widget.layout.title = 't'",
    ),
}

#: What is another one each time.
_ID = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}|0x[0-9a-f]+)(?![0-9a-f])")


class Names:
    """Calls what has an id by the order in which it was met."""

    def __init__(self) -> None:
        self._met: dict[str, str] = {}

    def of(self, content: Any) -> str:
        """Return a content as text without ids: the beginning, and a hash of all."""
        text = _ID.sub(self._number, json.dumps(content, sort_keys=True))
        return f"{text[:300]} {hashlib.sha256(text.encode()).hexdigest()}"

    def _number(self, found: re.Match[str]) -> str:
        return self._met.setdefault(found[0], f"#{len(self._met)}")


def told(exchange: Exchange, names: Names) -> list[tuple[Any, ...]]:
    """Return what was published about a request, in a form that is the same for each kernel."""
    return [
        (
            one.kind,
            names.of(one.content),
            names.of(one.message["metadata"]),
            [bytes(each) for each in one.message["buffers"]],
        )
        for one in exchange.published
        if one.kind not in {"status", "stream"}
    ]


def speak(kernel: Conversation, library: str, cells: list[Exchange]) -> list[Exchange]:
    """Say what clients say to what is shown, and return what is answered."""
    if library == "anywidget":
        model = model_of(cells[0])
        changed = {"method": "update", "state": {"value": 7}, "buffer_paths": [["raw"]]}
        custom = {"method": "custom", "content": {"x": [1, None]}}
        requests = [
            say(kernel, "comm_msg", [b"xyz"], comm_id=model, data=changed),
            say(kernel, "comm_msg", [b"abc", b"\x00" * 1000 + b"\x01"], comm_id=model, data=custom),
        ]
    elif library == "ipympl":
        model = model_of(cells[0])
        kinds: list[dict[str, Any]] = [{"type": "send_image_mode"}, {"type": "refresh"}, {"type": "draw"}]
        custom = [{"method": "custom", "content": content} for content in kinds]
        requests = [say(kernel, "comm_msg", comm_id=model, data=data) for data in custom]
    elif library == "plotly":
        restyled = {"style_data": {"y": [[1, 2, 3]]}, "style_traces": [0], "trace_edit_id": 1, "source_view_id": "v"}
        data = {"method": "update", "state": {"_js2py_restyle": restyled}, "buffer_paths": []}
        requests = [say(kernel, "comm_msg", comm_id=model_of(cells[1]), data=data)]
    else:
        requests = []
    return [over(kernel, request) for request in requests]


@dataclass(frozen=True)
class Shown:
    """What a kernel has published about everything, and the conversation with it."""

    kernel: Conversation
    cells: dict[str, list[Exchange]]
    answers: dict[str, list[Exchange]]

    def told(self, library: str) -> list[tuple[Any, ...]]:
        """Return it as it is the same for each kernel."""
        names = Names()
        exchanges = self.cells[library] + self.answers[library]
        return [(told(each, names), each.text(), each.text("stderr")) for each in exchanges]


@pytest.fixture(scope="module")
def both(home: Path) -> Iterator[tuple[Shown, Shown]]:
    """Return what the kernel under test and ipykernel show; they do it at the same time."""
    assert home.is_dir()
    opened = [kernels.open_kernel(), kernels.open_kernel(name="python3")]
    talks = [kernel for _, kernel in opened]
    sent = [{name: [kernel.client.execute(cell) for cell in CELLS[name]] for name in CELLS} for kernel in talks]
    shown = []
    for kernel, requests in zip(talks, sent, strict=True):
        cells = {name: list(kernel.finish(*each, deadline=60)) for name, each in requests.items()}
        shown.append(Shown(kernel, cells, {name: speak(kernel, name, cells[name]) for name in CELLS}))
    yield shown[0], shown[1]
    for one in opened:
        kernels.close_kernel(one)


@pytest.mark.parametrize("library", CELLS)
def test_a_library_shows_what_it_shows_in_ipykernel(both: tuple[Shown, Shown], library: str) -> None:
    ours, theirs = both
    assert [cell.reply["status"] for cell in ours.cells[library]] == ["ok"] * len(CELLS[library])
    for index, (mine, other) in enumerate(zip(ours.told(library), theirs.told(library), strict=True)):
        assert mine == other, index


def test_objects_and_their_counterparts_hand_each_other_bytes(both: tuple[Shown, Shown]) -> None:
    ours, _ = both
    state, echo = ours.answers["anywidget"]
    assert state.text() == "now 7\n"
    (answer,) = comms_of(echo)
    assert [bytes(each) for each in answer.message["buffers"]] == [b"cba", b"\x01" + b"\x00" * 1000]
    assert [one for exchange in ours.answers["ipympl"] for one in comms_of(exchange) if one.message["buffers"]]
    assert len(comms_of(ours.cells["bokeh"][1])) == 3


@pytest.mark.capsule_only
def test_what_was_shown_is_restored_or_reported_as_lost(both: tuple[Shown, Shown]) -> None:
    kernel = both[0].kernel
    kernel.run("import jinja2, socket\ntemplate = jinja2.Template('Hello {{ name }}')\nopen_one = socket.socket()")
    saved = kernel.run("%capsule checkpoint now")
    assert saved.text("stderr") == ""
    table = saved.of("display_data")[-1]["data"]["text/plain"]
    unsaved = {line.split()[0] for line in table.splitlines() if "not saved" in line and not line.startswith("_")}
    assert unsaved == {"counter", "open_one"}
    died = kernel.run("import os; os._exit(3)").reply["evalue"]
    assert "counter (a comm, whose other end is at the client)" in died
    after = kernel.run("template.render(name='Ada'), heard.__name__, list(line.get_ydata())")
    assert after.result == "('Hello Ada', 'heard', [9, 4, 1])"
    redrawn = kernel.run("fig.canvas.draw(); plt.show()")
    assert "display_data" in redrawn.kinds
    # What a library keeps for itself is for the notebook to say again.
    shown = kernel.run("output_notebook(); show(plot)\nsquares.show()\nwidget.data[0].y = [1]\nwidget")
    kinds = {kind for content in shown.of("display_data") for kind in content["data"]}
    assert kinds >= {"application/vnd.bokehjs_exec.v0+json", "application/vnd.plotly.v1+json"}
    assert "application/vnd.jupyter.widget-view+json" in shown.of("execute_result")[0]["data"]
    assert not any("not restored" in one.text("stderr") for one in (after, redrawn, shown))


def test_long_integers_in_json_are_numbers(kernel: Conversation) -> None:
    exchange = kernel.run("from IPython.display import display\ndisplay({'application/json': {'n': 10**30}}, raw=True)")
    (shown,) = exchange.of("display_data")
    assert shown["data"]["application/json"] == {"n": 10**30}
