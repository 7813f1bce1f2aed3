"""A person at JupyterLab, in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
import pytest
from playwright.sync_api import expect

from tests.support.kernels import INTERRUPT
from tests.support.lab import SLOW
from tests.support.waiting import poll_until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator

    from tests.support.lab import Lab

#: Whether an element is on the screen.
IN_VIEW = """element => {
    const box = element.getBoundingClientRect();
    return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === element;
}"""
PLOT = "import matplotlib.pyplot as plt\nplt.figure(figsize=(4, 2))\nplt.plot([1, 4, 9])\nplt.title('squares');"

ANYWIDGET = """
import anywidget, traitlets
class Counter(anywidget.AnyWidget):
    _esm = '''
    function render({model, el}) {
        const button = document.createElement("button");
        button.className = "counter";
        const show = () => { button.innerText = `count is ${model.get("value")}`; };
        button.onclick = () => {
            model.set("value", model.get("value") + 1);
            model.save_changes();
            model.send({kind: "bytes"}, undefined, [new Uint8Array([1, 2, 3]).buffer]);
        };
        model.on("change:value", show);
        show();
        el.appendChild(button);
    }
    export default {render};
    '''
    value = traitlets.Int(3).tag(sync=True)
import ipywidgets
out = ipywidgets.Output()
@out.capture()
def heard(widget, content, buffers):
    print('heard', len(buffers[0]), content['kind'])
counter = Counter()
counter.on_msg(heard)
ipywidgets.VBox([counter, out])
"""
IPYMPL = """
%matplotlib widget
import matplotlib.pyplot as plt
fig = plt.figure(figsize=(4, 2))
plt.plot([1, 4, 9])
plt.show()
"""
#: Counts the pixels of a canvas that have the colour of matplotlib's first line.
BLUE = """
canvas => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
        count += data[i] == 31 && data[i + 1] == 119 && data[i + 2] == 180 && data[i + 3] == 255;
    return count;
}
"""
PLOTLY = "import plotly.graph_objects as go\nsquares = go.Figure(go.Scatter(y=[1, 4, 9]))\nsquares"


def _is_drawn(image: Locator) -> bool:
    """Return whether an image exists, is complete and is larger than a dot."""
    expect(image).to_be_visible(timeout=SLOW)
    return bool(image.evaluate("async image => { await image.decode(); return image.naturalWidth > 8 }"))


def test_the_launcher_starts_the_kernel_by_a_click_on_its_card(lab: Lab) -> None:
    lab.open_launcher()
    card = lab.page.locator(f'.jp-LauncherCard[data-category="Notebook"][title="{lab.display_name}"]')
    assert _is_drawn(card.locator("img"))
    card.click()
    expect(lab.shown(".jp-Toolbar-kernelName")).to_contain_text(lab.display_name, timeout=SLOW)
    lab.wait_for_idle()
    lab.cell(0).locator(".cm-content").click()
    lab.page.keyboard.type("6 * 7")
    lab.page.keyboard.press("Shift+Enter")
    lab.expect_output(0, "42")
    lab.expect_count(0, "1")


def test_run_all_shows_every_kind_of_output(lab: Lab) -> None:
    lab.open_notebook(
        "tour.ipynb",
        "print('Hello from the worker')\nawait __import__('asyncio').sleep(0, 'awaited')",
        "import pandas as pd\npd.DataFrame({'planet': ['Venus', 'Mars'], 'moons': [0, 2]})",
        PLOT,
        "from tqdm import tqdm\nfor _ in tqdm(range(50), desc='steps', ascii=True): pass",
        "1 / 0",
    )
    lab.run_all()
    lab.expect_output(4, "ZeroDivisionError: division by zero")
    lab.expect_output(0, "Hello from the worker")
    lab.expect_output(0, "'awaited'")
    expect(lab.cell(1).locator("table")).to_contain_text("Venus")
    assert _is_drawn(lab.cell(2).locator(".jp-OutputArea-output img"))
    lab.expect_output(3, "50/50")
    assert lab.cell(3).locator(".jp-OutputArea-output").inner_text().count("steps") == 1


def test_a_question_is_answered_in_its_box(lab: Lab) -> None:
    lab.open_notebook("question.ipynb", "name = input('Who? ')", "print('Hello', name)")
    lab.run_all()
    box = lab.cell(0).locator(".jp-Stdin-input")
    expect(box).to_be_visible(timeout=SLOW)
    box.fill("Ada")
    box.press("Enter")
    lab.expect_output(1, "Hello Ada")
    lab.expect_output(0, "Who? ")


def test_the_stop_button_and_the_menu_interrupt_a_cell(lab: Lab) -> None:
    lab.open_notebook(
        "interrupts.ipynb",
        "import time\nkept = 'kept'\nprint('first is under way')\ntime.sleep(600)",
        "print('second is under way')\nwhile True: pass",
        "kept",
    )
    lab.run_cell(0)
    lab.expect_output(0, "first is under way")
    lab.press("notebook:interrupt-kernel")
    lab.expect_output(0, INTERRUPT)
    lab.run_cell(1)
    lab.expect_output(1, "second is under way")
    lab.expect_count(1, "*")
    lab.choose("Kernel", "kernelmenu:interrupt")
    lab.expect_output(1, INTERRUPT)
    lab.run_cell(2)
    lab.expect_output(2, "'kept'")
    lab.wait_for_idle()


def test_a_restart_gives_a_clean_namespace(lab: Lab) -> None:
    lab.open_notebook("restart.ipynb", "x = 'before'\nx", "print(x)")
    lab.run_cell(0)
    lab.expect_output(0, "'before'")
    lab.restart()
    lab.run_cell(1)
    lab.expect_output(1, "NameError: name 'x' is not defined")
    lab.expect_count(1, "1")


def test_a_reloaded_page_finds_its_kernel_and_the_variables(lab: Lab) -> None:
    lab.open_notebook("reload.ipynb", "x = 'still here'", "x")
    lab.run_cell(0)
    lab.expect_count(0, "1")
    lab.page.keyboard.press("Control+s")
    lab.page.reload()
    lab.wait_for_idle()
    lab.run_cell(1)
    lab.expect_output(1, "'still here'")
    lab.expect_count(1, "2")


def test_the_tab_key_completes_a_name(lab: Lab) -> None:
    lab.open_notebook("complete.ipynb", "a_very_long_name = 6 * 7", "")
    lab.run_cell(0)
    lab.expect_count(0, "1")
    lab.complete(1, "a_very")
    expect(lab.cell(1).locator(".cm-content")).to_have_text("a_very_long_name", timeout=SLOW)
    lab.page.keyboard.press("Shift+Enter")
    lab.expect_output(1, "42")


@pytest.mark.capsule_only
def test_a_killed_worker_is_an_error_of_its_cell_and_no_dialog(lab: Lab) -> None:
    lab.open_notebook(
        "killed.ipynb",
        "import os\nprint('last words')\nos.kill(os.getpid(), 9)",
        "6 * 7",
    )
    lab.run_cell(0)
    lab.expect_output(0, "WorkerDied")
    lab.expect_output(0, "SIGKILL")
    lab.expect_output(0, "last words")
    lab.run_cell(1)
    lab.expect_output(1, "42")
    lab.wait_for_idle()
    expect(lab.page.locator(".jp-Dialog")).to_have_count(0)


def test_a_slider_moved_by_the_mouse_changes_what_is_shown(lab: Lab) -> None:
    lab.open_notebook(
        "widgets.ipynb",
        "import ipywidgets as widgets\nslider = widgets.IntSlider(0, max=100)\nlabel = widgets.Label('not moved')\n"
        "out = widgets.Output()\n"
        "@out.capture()\ndef moved(change):\n    label.value = f'moved to {change[\"new\"]}'\n    print('captured')\n"
        "slider.observe(moved, 'value')\nwidgets.VBox([slider, label, out])",
        "slider.value",
    )
    lab.run_cell(0)
    handle = lab.cell(0).locator(".noUi-handle")
    expect(handle).to_be_visible(timeout=SLOW)
    box = handle.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lab.page.mouse.move(x, y)
    lab.page.mouse.down()
    lab.page.mouse.move(x + 60, y, steps=5)
    lab.page.mouse.up()
    lab.expect_output(0, "moved to ")
    lab.expect_output(0, "captured")
    lab.wait_for_idle()
    lab.run_cell(1)
    value = lab.cell(0).locator(".widget-readout").inner_text()
    assert int(value) > 0
    lab.expect_output(1, value)


@pytest.mark.capsule_only
def test_a_lost_widget_is_reported(lab: Lab) -> None:
    lab.open_notebook(
        "gone.ipynb",
        "import ipywidgets as widgets, socket\nkept_open = socket.socket()\nwidgets.IntSlider(0, max=100)",
        "import os; os.kill(os.getpid(), 9)",
        "6 * 7",
    )
    lab.run_cell(0)
    expect(lab.cell(0).locator(".noUi-handle")).to_be_visible(timeout=SLOW)
    lab.run_cell(1)
    lab.expect_output(1, "WorkerDied")
    lab.run_cell(2)
    lab.expect_output(2, "ended with the process")
    lab.expect_output(2, "42")
    expect(lab.cell(0).locator(".noUi-handle")).to_have_count(0, timeout=SLOW)


def test_the_debugger_stops_at_a_breakpoint_and_shows_a_variable(lab: Lab) -> None:
    lab.open_notebook("debug.ipynb", "def add(a, b):\n    total = a + b\n    return total\n\nadd(40, 2)")
    button = lab.shown(".jp-DebuggerBugButton").get_by_role("button").or_(lab.shown("jp-button.jp-DebuggerBugButton"))
    expect(button.first).to_have_accessible_name("Enable Debugger", timeout=SLOW)
    button.first.click()
    # The margin for breakpoints comes when the debugger is on.
    margin = lab.cell(0).locator(".cm-breakpoint-gutter").first
    expect(margin).to_be_attached(timeout=SLOW)
    line = lab.cell(0).locator(".cm-lineNumbers .cm-gutterElement", has_text="2").first.bounding_box()
    place = margin.bounding_box()
    assert line is not None
    assert place is not None
    lab.page.mouse.click(place["x"] + place["width"] / 2, line["y"] + line["height"] / 2)
    expect(lab.page.locator(".jp-DebuggerBreakpoint")).to_have_count(1, timeout=SLOW)
    lab.run_cell(0)
    panel = lab.page.locator(".jp-DebuggerVariables")
    expect(panel).to_contain_text("40", timeout=SLOW)
    expect(lab.page.locator(".jp-DebuggerCallstack")).to_contain_text("add", timeout=SLOW)
    lab.page.locator('[data-command="debugger:next"]').first.click()
    expect(panel).to_contain_text("total", timeout=SLOW)
    lab.page.locator('[data-command="debugger:continue"]').first.click()
    lab.expect_output(0, "42")
    lab.leave()  # its panels stay open


def test_what_libraries_draw_by_scripts_of_their_own_is_drawn(lab: Lab) -> None:
    """None of it asks a network: the libraries bring what they draw with."""
    lab.open_notebook(
        "drawn.ipynb", ANYWIDGET, IPYMPL, PLOTLY, "widget = go.FigureWidget(squares)\nwidget", "counter.value"
    )
    lab.run_all()
    counter = lab.cell(0).locator(".counter")
    expect(counter).to_have_text("count is 3", timeout=SLOW)
    counter.click()
    expect(counter).to_have_text("count is 4", timeout=SLOW)
    lab.expect_output(0, "heard 3 bytes")
    canvas = lab.cell(1).locator("canvas").first
    poll_until(lambda: canvas.is_visible() and canvas.evaluate(BLUE), "a blue line in the figure")
    for index in (2, 3):
        expect(lab.cell(index).locator(".js-plotly-plot path.js-line").first).to_be_visible(timeout=SLOW)
    lab.wait_for_idle()
    lab.run_cell(4)
    lab.expect_output(4, "4")


def test_a_tooltip_tells_what_a_function_takes(lab: Lab) -> None:
    lab.open_notebook("tooltip.ipynb", "def brew(tea, minutes=4):\n    '''Make a cup.'''", "brew(")
    lab.run_cell(0)
    lab.expect_count(0, "1")
    lab.cell(1).locator(".cm-content").click()
    lab.page.keyboard.press("End")
    tooltip = lab.page.locator(".jp-Tooltip")

    lab.summon("Shift+Tab", tooltip)
    expect(tooltip).to_contain_text("brew(tea, minutes=4)")
    expect(tooltip).to_contain_text("Make a cup.")


def test_a_notebook_of_a_hundred_outputs_shows_them_all(lab: Lab) -> None:
    cell = "from IPython.display import HTML\nprint('text', {0})\nHTML('<b>bold {0}</b>')"
    lab.open_notebook("hundred.ipynb", *(cell.format(n) for n in range(100)))
    lab.run_all()
    expect(lab.page.get_by_text("bold 99", exact=True)).to_be_attached(timeout=SLOW)
    # JupyterLab draws what is in view.
    lab.cell(0).hover()
    lab.page.mouse.wheel(0, -100_000)
    for n in (0, 50, 99):
        bold = lab.page.get_by_text(f"bold {n}", exact=True)

        def look(bold: Locator = bold) -> bool:
            if bold.count() and bold.evaluate(IN_VIEW):
                return True
            lab.page.mouse.wheel(0, 300)
            return False

        poll_until(look, f"output {n}", 60)
    lab.page.keyboard.press("Control+s")
    path = lab.server.work / "hundred.ipynb"
    poll_until(lambda: _outputs(path) == [kind for n in range(100) for kind in ("stream", "execute_result")], "saved")


def _outputs(path: Path) -> list[str]:
    """Return the kinds of the outputs in a notebook's file; none while it is being written."""
    try:
        cells = nbformat.read(path, as_version=4).cells
    except nbformat.reader.NotJSONError:
        return []
    return [output.output_type for cell in cells for output in cell.get("outputs", ())]
