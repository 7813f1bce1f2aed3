"""Runs tests against several kernels, and writes what became of them into docs/compatibility.md.

``python -m tests.clients.compatibility KERNEL...`` in the repository's folder, with the kernels installed, each under
the name by which Jupyter lists it. Kernels that are not named keep what the table says of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "compatibility.md"
BEGIN, END = "<!-- table -->\n", "<!-- /table -->\n"
#: The columns, by the names under which Jupyter lists the kernels.
KERNELS = {"capsule": "Capsule", "python3": "ipykernel", "xpython": "xeus-python", "async": "async-kernel"}
#: Seconds for one test, and for one wait in it: other kernels can hang where they lack something.
TIMEOUT, DEADLINE = 40, 6

#: What people look for, and the tests that show it.
FEATURES: dict[str, dict[str, list[str]]] = {
    "Cells": {
        "every request is answered once, between `busy` and `idle`": [
            "test_messages::test_every_request_is_answered_once_between_busy_and_idle"
        ],
        "silent cells, `store_history`, user expressions": [
            "test_messages::test_a_silent_execution_shows_no_input_and_no_result_and_does_not_count",
            "test_messages::test_without_store_history_nothing_is_counted_and_nothing_remembered",
            "test_messages::test_user_expressions_come_with_the_reply_each_with_its_own_status",
        ],
        "errors abort what is queued, unless it shall go on": [
            "test_messages::test_without_stop_on_error_the_cells_queued_behind_an_error_run",
            "test_interrupts::test_an_interrupted_cell_aborts_those_queued_behind_it",
        ],
        "other requests are answered while a cell runs": [
            "test_side_by_side::test_a_request_is_answered_while_a_cell_sleeps",
            "test_side_by_side::test_a_request_is_answered_in_bounded_time_while_a_cell_computes",
        ],
        "interrupts, also of questions and of child processes": [
            "test_interrupts::test_an_interrupt_ends_the_cell_and_keeps_the_namespace",
            "test_interrupts::test_an_interrupt_ends_a_question_to_the_user",
            "test_interrupts::test_the_child_of_an_interrupted_cell_ends_with_it",
        ],
        "`input()` and `getpass()`": [
            "test_stdin::test_an_answer_reaches_the_cell_that_asked",
            "test_stdin::test_a_password_is_asked_for_as_one",
        ],
        "the death of the process fails its cell only": [
            "test_processes::test_the_death_of_a_worker_fails_its_cell_only_and_names_the_signal"
        ],
        "subshells": [
            "test_subshells::test_subshells_are_created_listed_and_deleted",
            "test_subshells::test_a_subshell_answers_while_the_main_shell_runs_a_cell",
        ],
    },
    "Output": {
        "200,000 prints, and 50 MB in 1 KB writes, whole and in order": [
            "test_load::test_much_output_arrives_whole_and_in_order"
        ],
        "lines of threads, whole": ["test_load::test_the_lines_of_each_thread_arrive_whole_and_in_order"],
        "output of C code and of child processes": [
            "test_outputs::test_what_is_written_below_python_arrives_as_output_of_its_cell",
            "test_outputs::test_what_is_written_below_python_comes_before_the_cell_is_idle",
            "test_outputs::test_a_flood_from_a_child_process_arrives_whole_and_in_order",
        ],
        "text shows while its cell runs": [
            "test_outputs::test_the_first_line_of_a_slow_cell_shows_while_the_cell_runs"
        ],
        "output of threads and tasks goes to the cell that started them": [
            "test_outputs::test_output_of_a_thread_belongs_to_the_cell_that_started_it",
            "test_outputs::test_output_of_a_background_task_belongs_to_the_cell_that_started_it",
        ],
        "displays, updates, `clear_output`": [
            "test_outputs::test_an_update_names_the_display_that_it_changes",
            "test_outputs::test_clearing_says_whether_to_wait_for_the_next_output",
        ],
        "formatters, `_repr_mimebundle_`, `_ipython_display_`": ["test_shell::test_objects_say_how_they_are_shown"],
        "warnings and logs": ["test_shell::test_warnings_and_logs_name_the_cell"],
        "exception groups are errors at the client": [
            "test_shell::test_a_group_of_exceptions_is_an_error_at_the_client"
        ],
    },
    "Widgets": {
        "comms both ways, with buffers": [
            "test_comms::test_what_a_client_says_is_answered_with_its_buffers",
            "test_comms::test_what_a_cell_opens_is_told_and_listed",
        ],
        "ipywidgets: sliders, `interact`, the Output widget, tqdm": [
            "test_comms::test_a_slider_is_moved_and_who_observes_it_is_told",
            "test_comms::test_an_output_widget_captures_what_belongs_to_its_cell",
            "test_comms::test_interact_runs_its_function_with_each_value",
            "test_comms::test_a_progress_bar_of_tqdm_is_a_widget",
        ],
        "comms are heard while a cell runs (subshells)": ["test_subshells::test_a_comm_is_heard_while_a_cell_runs"],
        "anywidget, with custom messages and bytes": [
            "test_displays::test_objects_and_their_counterparts_hand_each_other_bytes"
        ],
        "a slider moved by the mouse in JupyterLab": [
            "test_lab::test_a_slider_moved_by_the_mouse_changes_what_is_shown"
        ],
        "anywidget, ipympl and plotly drawn in JupyterLab": [
            "test_lab::test_what_libraries_draw_by_scripts_of_their_own_is_drawn"
        ],
    },
    "Debugging": {
        "breakpoints, stepping, variables, `copyToGlobals`": [
            "test_debugger::test_a_cell_stops_at_a_breakpoint_shows_its_variables_and_is_stepped_through",
            "test_debugger::test_a_function_of_an_earlier_cell_is_stepped_into",
        ],
        "variables while nothing runs, as they show themselves": [
            "test_debugger::test_variables_are_shown_while_nothing_runs",
            "test_debugger::test_a_variable_of_a_stopped_frame_is_shown_as_it_shows_itself",
        ],
        "conditions; exceptions of one's own code": ["test_debugger::test_a_condition_and_an_exception_stop_a_cell"],
        "an interrupt ends a cell that has stopped": ["test_debugger::test_an_interrupt_ends_a_cell_that_has_stopped"],
        "`breakpoint()`, `pdb`, `%debug`, `%pdb`": ["test_stdin::test_pdb_asks_below_the_cell"],
        "JupyterLab's debugger": ["test_lab::test_the_debugger_stops_at_a_breakpoint_and_shows_a_variable"],
    },
    "Help": {
        "completion of attributes, keys, files, modules, magics": [
            "test_questions::test_completion_knows_attributes_keys_files_modules_and_magics"
        ],
        "types and signatures of completions": [
            "test_questions::test_completion_tells_types_signatures_and_positions_in_code_points"
        ],
        "inspection, documentation and source": [
            "test_questions::test_inspection_shows_documentation_or_source_of_objects_and_magics"
        ],
        "history by range, tail and pattern": [
            "test_questions::test_history_is_found_by_range_from_the_tail_and_by_pattern"
        ],
        "completion and tooltip in JupyterLab": [
            "test_lab::test_the_tab_key_completes_a_name",
            "test_lab::test_a_tooltip_tells_what_a_function_takes",
        ],
        "`usage_request`": ["test_messages::test_usage_is_that_of_all_processes"],
    },
    "IPython": {
        "magics": ["test_shell::test_magics_do_what_they_do_in_ipython"],
        "`%autoreload`": ["test_shell::test_autoreload_takes_changed_modules"],
        "configuration, startup files, extensions": [
            "test_configuration::test_configuration_startup_files_and_extensions_count"
        ],
        "events, hooks, transformers": [
            "test_shell::test_events_tell_of_each_cell",
            "test_shell::test_hooks_of_the_notebook_take_part",
        ],
        "top-level `await`, tasks, `asyncio.run`": ["test_shell::test_coroutines_tasks_and_loops"],
        "`multiprocessing`, pools": ["test_shell::test_processes_and_pools_run_from_a_cell"],
        "signal handlers between cells": ["test_shell::test_signal_handlers_of_the_notebook_live_between_cells"],
        "`%gui tk`, windows that live between cells": ["test_windows::test_windows_live_between_cells"],
    },
    "Connections": {
        "tcp and ipc": ["test_side_by_side::test_a_kernel_serves_every_transport"],
        "CurveZMQ": ["test_connections::test_who_has_no_key_hears_nothing"],
        "provisioners": ["test_connections::test_a_provisioner_starts_interrupts_restarts_and_kills"],
        "several clients": [
            "test_side_by_side::test_two_clients_share_a_namespace_and_each_gets_its_own_replies",
            "test_side_by_side::test_a_question_goes_to_the_client_whose_cell_asks",
        ],
        "the kernel gateway": ["test_servers::test_a_kernel_behind_the_kernel_gateway"],
        "ends with the process that started it": [
            "test_connections::test_a_kernel_ends_when_the_process_that_started_it_is_gone"
        ],
        "shutdown leaves no process": ["test_processes::test_shutdown_answers_and_leaves_no_process"],
    },
    "Clients": {
        "jupyter console": [
            "test_console::test_an_expression_shows_its_value_and_the_next_prompt_counts_on",
            "test_console::test_control_c_ends_the_cell_and_keeps_the_namespace",
        ],
        "nbclient": [
            "test_nbclient::test_every_kind_of_output_lands_in_its_cell",
            "test_nbclient::test_the_tools_of_a_data_notebook_work",
        ],
        "papermill": ["test_papermill::test_parameters_reach_the_notebook_and_its_outputs_are_kept"],
        "JupyterLab": [
            "test_lab::test_run_all_shows_every_kind_of_output",
            "test_lab::test_a_notebook_of_a_hundred_outputs_shows_them_all",
        ],
    },
    "Durability": {
        "variables survive the process": ["test_comms::test_what_a_callback_has_changed_survives"],
        "widgets survive it": ["test_comms::test_widgets_live_on_in_a_standby"],
        "breakpoints survive it": ["test_debugger::test_breakpoints_outlive_the_process"],
        "lines of the history survive it": [
            "test_questions::test_kernels_share_a_history_and_find_what_earlier_ones_did"
        ],
    },
}


def main(kernels: list[str]) -> None:
    """Run the tests against some kernels, and write the page."""
    found = {kernel: run(kernel) for kernel in kernels}
    seen = read() | found
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}{table(seen)}{END}{after}", encoding="utf-8")


def run(kernel: str) -> dict[str, str]:
    """Return for each feature whether a kernel has it, by its tests."""
    # In the order of the files: they share kernels.
    tests = sorted({test for area in FEATURES.values() for several in area.values() for test in several}, key=place)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", f"--timeout={TIMEOUT}", f"--junitxml={report}"),
                *(str(HERE / test.replace("::", ".py::")) for test in tests),
            ],
            env={
                **os.environ,
                "CAPSULE_TEST_KERNEL": kernel,
                "CAPSULE_TEST_ALL": "1",
                "CAPSULE_TEST_DEADLINE": str(DEADLINE),
            },
            check=False,
        )
        failed, passed = set(), set()
        for case in ET.parse(report).iter("testcase"):  # our own
            name = f"{case.get('classname', '').split('.')[-1]}::{str(case.get('name')).split('[')[0]}"
            (failed if len(case) else passed).add(name)
    has = {}
    for area in FEATURES.values():
        for feature, several in area.items():
            has[feature] = "yes" if all(test in passed and test not in failed for test in several) else "no"
    return has


def place(test: str) -> tuple[str, int]:
    """Return where a test is: its module, and how far into it."""
    module, function = test.split("::")
    return module, (HERE / f"{module}.py").read_text(encoding="utf-8").index(f"def {function}(")


def read() -> dict[str, dict[str, str]]:
    """Return what the page says of each kernel."""
    found: dict[str, dict[str, str]] = {kernel: {} for kernel in KERNELS}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(KERNELS) + 2 and cells[1] in ("yes", "no", "?"):
            for kernel, cell in zip(KERNELS, cells[1:], strict=False):
                found[kernel][cells[0]] = cell
    return found


def table(seen: dict[str, dict[str, str]]) -> str:
    """Return the table of all features."""
    lines = []
    for area, features in FEATURES.items():
        lines += [
            f"\n## {area}\n",
            f"| | {' | '.join(KERNELS.values())} | shown by |",
            "| --- " * (len(KERNELS) + 2) + "|",
        ]
        for feature, tests in features.items():
            has = " | ".join(seen[kernel].get(feature, "?") for kernel in KERNELS)
            lines.append(f"| {feature} | {has} | {', '.join(f'`{test}`' for test in tests)} |")
    return "\n".join([*lines, ""])


def missing() -> set[str]:
    """Return the tests that are named here and are not there."""
    absent = set()
    for area in FEATURES.values():
        for test in (test for several in area.values() for test in several):
            module, function = test.split("::")
            text = (HERE / f"{module}.py").read_text(encoding="utf-8")
            if not re.search(rf"^def {function}\(", text, re.MULTILINE):
                absent.add(test)
    return absent


if __name__ == "__main__":
    main(sys.argv[1:])
