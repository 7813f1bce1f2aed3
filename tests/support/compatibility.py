"""Runs tests against several kernels, and writes their results into docs/compatibility/ipykernel.md.

``python -m tests.support.compatibility KERNEL...`` in the repository's folder, with the kernels installed, each under
the name by which Jupyter lists it. Kernels that are not named keep what the table says of them.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.support import ROOT

PAGE = ROOT / "docs" / "compatibility" / "ipykernel.md"
BEGIN, END = "<!-- table -->\n", "<!-- /table -->\n"
#: The columns, by the names under which Jupyter lists the kernels.
KERNELS = {"capsule": "Capsule", "python3": "ipykernel", "xpython": "xeus-python", "async": "async-kernel"}
#: Seconds for one test, and for one wait in it: other kernels can hang where they lack something.
TIMEOUT, DEADLINE = 120, 10
#: Seconds for all tests of one module.
MODULE_TIMEOUT = 1800
#: What can be said of a kernel.
ANSWERS = ("yes", "no", "?", "n/a")

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
        "errors have the name of their class, in the reply and on IOPub": [
            "test_messages::test_an_error_is_published_and_replied_with_the_same_fields"
        ],
        "errors abort queued cells, unless `stop_on_error` is false": [
            "test_messages::test_without_stop_on_error_the_cells_queued_behind_an_error_run",
            "test_interrupts::test_an_interrupted_cell_aborts_those_queued_behind_it",
        ],
        "other requests are answered while a cell runs": [
            "test_side_by_side::test_a_request_is_answered_while_a_cell_sleeps",
            "test_side_by_side::test_a_request_is_answered_in_bounded_time_while_a_cell_computes",
        ],
        "interrupts, including those of `input()` and child processes": [
            "test_interrupts::test_an_interrupt_ends_the_cell_and_keeps_the_namespace",
            "test_interrupts::test_an_interrupt_ends_a_question_to_the_user",
            "test_interrupts::test_the_child_of_an_interrupted_cell_ends_with_it",
        ],
        "`input()` and `getpass()`": [
            "test_stdin::test_an_answer_reaches_the_cell_that_asked",
            "test_stdin::test_a_password_is_asked_for_as_one",
        ],
        "input replies without a parent header, as jupyter_client sends them": [
            "test_stdin::test_an_answer_that_names_no_question_is_accepted"
        ],
        "an interrupt is a `KeyboardInterrupt`, which code can catch": [
            "test_interrupts::test_code_may_catch_the_interrupt_and_continue"
        ],
        "kernel info on the control channel, even while a cell runs": [
            "test_messages::test_kernel_info_is_answered_on_the_control_channel_too",
            "test_side_by_side::test_the_control_channel_answers_while_a_cell_runs",
        ],
        "heartbeats while a cell computes": ["test_side_by_side::test_the_heartbeat_continues_while_a_cell_computes"],
        "payloads: pages and the next cell": ["test_messages::test_the_page_and_the_next_cell_travel_as_payloads"],
        "`iopub_welcome`, even during heavy output": [
            "test_messages::test_the_welcome_is_the_first_message_of_a_client_that_comes_while_much_is_printed"
        ],
        "`exit` and `quit` ask the client": ["test_processes::test_quit_in_a_cell_asks_the_client_to_end_the_kernel"],
        "`do_shutdown` in a cell ends the kernel cleanly, with `atexit`": [
            "test_shell::test_a_cell_shuts_the_kernel_down_in_order_and_it_restarts"
        ],
        "context variables, and library settings stored in them, last until the next cell": [
            "test_context::test_what_a_cell_sets_in_its_context_holds_for_the_next",
            "test_context::test_settings_of_libraries_hold_for_the_next_cell",
        ],
        "the same for cells that await": ["test_context::test_what_a_cell_sets_that_awaits_holds_as_well"],
        "a crash of the process fails only its cell": [
            "test_processes::test_a_crash_of_the_worker_fails_only_its_cell_and_names_the_signal"
        ],
        "subshells": [
            "test_subshells::test_subshells_are_created_listed_and_deleted",
            "test_subshells::test_a_subshell_answers_while_the_main_shell_runs_a_cell",
        ],
        "several shells ask for input at the same time": ["test_subshells::test_two_shells_ask_at_the_same_time"],
        "each cell has its own number, even in parallel": ["test_subshells::test_each_cell_has_a_number_of_its_own"],
    },
    "Output": {
        "200,000 prints and 50 MB in 1 KB writes, complete and in order": [
            "test_load::test_much_output_arrives_whole_and_in_order"
        ],
        "unbroken lines from threads": ["test_load::test_the_lines_of_each_thread_arrive_whole_and_in_order"],
        "output of C code and of child processes": [
            "test_outputs::test_output_of_c_code_arrives_as_output_of_its_cell",
            "test_outputs::test_output_of_c_code_arrives_before_the_cell_is_idle",
            "test_outputs::test_a_flood_from_a_child_process_arrives_whole_and_in_order",
        ],
        "text appears while its cell runs": [
            "test_outputs::test_the_first_line_of_a_slow_cell_shows_while_the_cell_runs"
        ],
        "streams that are flushed alternately keep their order": [
            "test_outputs::test_streams_flushed_in_turn_keep_their_order"
        ],
        "stderr of C code and child processes is shown as stderr": [
            "test_outputs::test_stderr_of_c_code_keeps_its_name"
        ],
        "threads write and display, even when no cell runs": [
            "test_outputs::test_a_thread_continues_to_write_when_no_cell_runs",
            "test_outputs::test_a_thread_displays_for_the_cell_that_started_it",
        ],
        "output of threads and tasks goes to the cell that started them": [
            "test_outputs::test_output_of_a_thread_belongs_to_the_cell_that_started_it",
            "test_outputs::test_output_of_a_background_task_belongs_to_the_cell_that_started_it",
        ],
        "threads can choose their cell (`set_parent`, `set_thread_parent`)": [
            "test_outputs::test_a_thread_may_say_which_cell_its_output_belongs_to"
        ],
        "displays and their updates": ["test_outputs::test_an_update_names_the_display_that_it_changes"],
        "`clear_output`": ["test_outputs::test_clearing_says_whether_to_wait_for_the_next_output"],
        "messages that code sends (`kernel.session.send`)": [
            "test_outputs::test_code_may_send_messages_of_its_own_making"
        ],
        "anywidget, ipympl, bokeh and plotly display the same as in ipykernel": [
            "test_displays::test_a_library_shows_what_it_shows_in_ipykernel"
        ],
        "formatters, `_repr_mimebundle_`, `_ipython_display_`": ["test_shell::test_objects_say_how_they_are_shown"],
        "warnings and logs": ["test_shell::test_warnings_and_logs_name_the_cell"],
        "exception groups are errors at the client": [
            "test_shell::test_a_group_of_exceptions_is_an_error_at_the_client"
        ],
        "errors in tasks and in callbacks of the loop": [
            "test_shell::test_errors_in_background_code_are_shown_below_the_cell_they_come_from"
        ],
    },
    "Widgets": {
        "comms in both directions, with buffers": [
            "test_comms::test_a_message_of_the_client_is_answered_with_its_buffers",
            "test_comms::test_a_comm_that_a_cell_opens_is_reported_and_listed",
        ],
        "ipywidgets: sliders, `interact`, the Output widget, tqdm": [
            "test_comms::test_a_slider_that_is_moved_calls_its_observers",
            "test_comms::test_an_output_widget_captures_the_output_of_its_cell",
            "test_comms::test_interact_runs_its_function_with_each_value",
            "test_comms::test_a_progress_bar_of_tqdm_is_a_widget",
        ],
        "a comm to an unknown target is closed": ["test_comms::test_a_comm_of_an_unknown_target_is_closed"],
        "comm messages are handled while a cell awaits": [
            "test_comms::test_a_cell_that_awaits_gets_messages_of_the_client"
        ],
        "comm messages do not disturb a running cell": ["test_comms::test_a_cell_that_runs_is_not_disturbed"],
        "comm messages are handled while a cell runs (subshells)": [
            "test_subshells::test_comm_messages_arrive_while_a_cell_runs"
        ],
        "errors in callbacks are shown": ["test_comms::test_an_error_in_a_callback_is_shown_with_its_message"],
        "callbacks can be interrupted": ["test_comms::test_a_callback_is_interrupted"],
        "callbacks see context variables set by cells": [
            "test_context::test_what_the_client_brings_about_sees_what_cells_have_set"
        ],
        "anywidget, with custom messages and bytes": [
            "test_displays::test_objects_and_their_counterparts_hand_each_other_bytes"
        ],
        "a slider moved with the mouse in JupyterLab": [
            "browser/test_jupyterlab::test_a_slider_moved_by_the_mouse_changes_what_is_shown"
        ],
        "anywidget, ipympl and plotly in JupyterLab": [
            "browser/test_jupyterlab::test_what_libraries_draw_by_scripts_of_their_own_is_drawn"
        ],
    },
    "Debugging": {
        "breakpoints, stepping, variables, `copyToGlobals`": [
            "test_debugger::test_a_cell_stops_at_a_breakpoint_shows_its_variables_and_is_stepped_through",
            "test_debugger::test_a_function_of_an_earlier_cell_is_stepped_into",
        ],
        "variables while nothing runs, in their rich form": [
            "test_debugger::test_variables_are_shown_while_nothing_runs",
            "test_debugger::test_a_variable_of_a_stopped_frame_is_shown_as_it_shows_itself",
        ],
        "conditional breakpoints; stopping at exceptions in user code": [
            "test_debugger::test_a_condition_and_an_exception_stop_a_cell"
        ],
        "debugging can be stopped and restarted": ["test_debugger::test_debugging_ends_and_begins_again"],
        "an interrupt ends a stopped cell": ["test_debugger::test_an_interrupt_ends_a_cell_that_has_stopped"],
        "`breakpoint()`, `pdb`, `%debug`, `%pdb`": ["test_stdin::test_pdb_asks_below_the_cell"],
        "an interrupt ends a cell that is in `pdb`": [
            "test_interrupts::test_an_interrupt_ends_a_cell_that_is_in_the_debugger"
        ],
        "JupyterLab's debugger": [
            "browser/test_jupyterlab::test_the_debugger_stops_at_a_breakpoint_and_shows_a_variable"
        ],
    },
    "Help": {
        "completion of attributes, keys, files, modules, magics": [
            "test_questions::test_completion_knows_attributes_keys_files_modules_and_magics"
        ],
        "types and signatures of completions": [
            "test_questions::test_completion_tells_types_signatures_and_positions_in_code_points"
        ],
        "custom completers and configuration of completion": [
            "test_questions::test_completion_obeys_its_configuration_and_the_notebooks_own_completers"
        ],
        "completion knows what a running cell has created": [
            "test_questions::test_what_a_running_cell_has_made_is_known_while_it_runs"
        ],
        "`is_complete`": ["test_messages::test_is_complete_tells_whether_a_console_should_ask_for_more"],
        "inspection, documentation and source": [
            "test_questions::test_inspection_shows_documentation_or_source_of_objects_and_magics"
        ],
        "history by range, tail and pattern": [
            "test_questions::test_history_is_found_by_range_from_the_tail_and_by_pattern"
        ],
        "completion and tooltip in JupyterLab": [
            "browser/test_jupyterlab::test_the_tab_key_completes_a_name",
            "browser/test_jupyterlab::test_a_tooltip_tells_what_a_function_takes",
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
        "the namespace of a notebook (`_`, `In`, `Out`, `__name__`, `sys.path`)": [
            "test_shell::test_the_namespace_is_that_of_a_notebook"
        ],
        "libraries find the parts of ipykernel that they look for": ["test_shell::test_libraries_recognise_a_notebook"],
        "`multiprocessing`, pools": ["test_shell::test_processes_and_pools_run_from_a_cell"],
        "signal handlers between cells": ["test_shell::test_signal_handlers_of_the_notebook_run_between_cells"],
        "`%gui tk`, with windows that respond between cells": ["test_windows::test_windows_live_between_cells"],
    },
    "Connections": {
        "tcp and ipc": ["test_side_by_side::test_a_kernel_serves_every_transport"],
        "CurveZMQ": ["test_connections::test_a_client_without_the_key_receives_nothing"],
        "provisioners": ["test_connections::test_a_provisioner_starts_interrupts_restarts_and_kills"],
        "several clients": [
            "test_side_by_side::test_two_clients_share_a_namespace_and_each_gets_its_own_replies",
            "test_side_by_side::test_a_question_goes_to_the_client_whose_cell_asks",
        ],
        "culling of idle kernels, but not of busy ones": [
            "test_servers::test_a_server_ends_idle_kernels_and_no_busy_ones"
        ],
        "the kernel gateway": ["test_servers::test_a_kernel_behind_the_kernel_gateway"],
        "the kernel ends with the process that started it": [
            "test_connections::test_a_kernel_ends_when_the_process_that_started_it_is_gone"
        ],
        "a restart gives a clean namespace and leaves no process": [
            "test_processes::test_a_restart_gives_a_clean_namespace_and_leaves_no_process_of_before"
        ],
        "a shutdown leaves no process": ["test_processes::test_shutdown_answers_and_leaves_no_process"],
        "killing the kernel leaves no process": [
            "test_processes::test_a_kill_of_the_kernel_leaves_no_process",
        ],
        "the option `--HistoryManager.hist_file`": [
            "test_starting::test_history_stays_in_memory_where_the_client_wants_it"
        ],
        "the options `--profile-dir` and `--ProfileDir.location`": [
            "test_configuration::test_a_profile_is_taken_from_the_given_directory"
        ],
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
        "nbclient's timeouts": ["test_nbclient::test_a_cell_over_its_time_is_interrupted_and_the_next_one_runs"],
        "`jupyter execute`": ["test_nbclient::test_the_command_line_runs_a_notebook_in_place"],
        "`jupyter run`": ["test_starting::test_jupyter_run_runs_a_script"],
        "papermill": ["test_papermill::test_parameters_reach_the_notebook_and_its_outputs_are_kept"],
        "JupyterLab": [
            "browser/test_jupyterlab::test_run_all_shows_every_kind_of_output",
            "browser/test_jupyterlab::test_a_notebook_of_a_hundred_outputs_shows_them_all",
        ],
        "JupyterLab: `input()` below the cell": ["browser/test_jupyterlab::test_a_question_is_answered_in_its_box"],
        "JupyterLab: interrupts": ["browser/test_jupyterlab::test_the_stop_button_and_the_menu_interrupt_a_cell"],
        "JupyterLab: restarts": ["browser/test_jupyterlab::test_a_restart_gives_a_clean_namespace"],
        "JupyterLab: reloading the page": [
            "browser/test_jupyterlab::test_a_reloaded_page_finds_its_kernel_and_the_variables"
        ],
    },
    "Environments": {
        "cells in another environment, with Python 3.10 to 3.13": [
            "integration/test_environments::test_a_notebook_runs_in_an_environment_of_its_own"
        ],
        "in a read-only environment, as an ordinary user": [
            "integration/test_environments::test_an_ordinary_user_runs_cells_in_an_environment_that_cannot_be_written"
        ],
        "an unsuitable environment is reported, with the fix": [
            "integration/test_environments::test_an_unusable_environment_is_reported_with_the_fix"
        ],
    },
    "Durability": {
        "variables survive a crash of the process": ["test_comms::test_changes_by_a_callback_survive_a_crash"],
        "widgets survive it": ["test_comms::test_widgets_work_in_a_standby"],
        "lost widgets are reported": [
            "test_comms::test_widgets_that_are_lost_say_so",
            "browser/test_jupyterlab::test_a_lost_widget_is_reported",
        ],
        "generators, locks and open files survive it": [
            "test_standby::test_variables_that_cannot_be_saved_are_restored_by_a_standby"
        ],
        "`undo`, including objects that cannot be saved": [
            "test_standby::test_undo_restores_variables_that_cannot_be_saved"
        ],
        "breakpoints survive it": ["test_debugger::test_breakpoints_survive_a_new_worker"],
        "lines of IPython's history survive it": [
            "test_questions::test_kernels_share_a_history_and_find_what_earlier_ones_did"
        ],
    },
}


def main(kernels: list[str]) -> None:
    """Run the tests against some kernels, and write the page."""
    for kernel in kernels:
        with tempfile.TemporaryDirectory() as folder:
            for module in modules():
                run(kernel, module, Path(folder))
            write(kernel, judged(kernel, outcomes(Path(folder))))


def modules() -> list[str]:
    """Return the modules of all tests, as they are named here."""
    return sorted({test.split("::")[0] for test in tests()})


def tests() -> list[str]:
    """Return all tests that are named here."""
    return [test for area in FEATURES.values() for several in area.values() for test in several]


def run(kernel: str, module: str, folder: Path) -> None:
    """Run the tests of one module against a kernel; leave their report in a folder.

    A module that hangs in spite of all leaves none, so nothing is said of its tests.
    """
    if not belongs(kernel, module):
        return
    # In the order of the file: they share a kernel.
    several = sorted({test for test in tests() if test.startswith(f"{module}::")}, key=line)
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", f"--timeout={TIMEOUT}"),
                f"--junitxml={folder / module.replace('/', '.')}.xml",
                *(f"{path(module)}::{test.split('::')[1]}" for test in several),
            ],
            env={
                "CAPSULE_TEST_DEADLINE": str(DEADLINE),
                **os.environ,
                "CAPSULE_TEST_KERNEL": kernel,
                "CAPSULE_TEST_ALL": "1",
            },
            check=False,
            timeout=MODULE_TIMEOUT,
        )


def belongs(kernel: str, module: str) -> bool:
    """Tell whether tests can be run against a kernel: those of other folders are about Capsule's own parts."""
    return kernel == "capsule" or "/" not in module or module.startswith("browser/")


def outcomes(folder: Path) -> dict[str, str]:
    """Return for each test of all reports in a folder "passed", "failed" or "skipped"."""
    found: dict[str, str] = {}
    for report in sorted(folder.glob("*.xml")):
        for case in ET.parse(report).iter("testcase"):  # our own
            name = f"{str(case.get('classname')).split('.')[-1]}::{str(case.get('name')).split('[')[0]}"
            outcome = "passed" if not len(case) else "skipped" if case.find("skipped") is not None else "failed"
            # The worst of all parameters.
            found[name] = max(found.get(name, outcome), outcome, key=["passed", "skipped", "failed"].index)
    return found


def judged(kernel: str, results: dict[str, str]) -> dict[str, str]:
    """Return for each feature whether a kernel has it, by the outcomes of its tests; "?" where one was not seen."""
    has = {}
    for area in FEATURES.values():
        for feature, several in area.items():
            seen = {results.get(test.split("/")[-1], "skipped") for test in several}
            if not all(belongs(kernel, test.split("::")[0]) for test in several):
                has[feature] = "n/a"
            elif "failed" in seen:
                has[feature] = "no"
            else:
                has[feature] = "?" if "skipped" in seen else "yes"
    return has


def write(kernel: str, found: dict[str, str]) -> None:
    """Write what was found about a kernel into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    seen = read() | {kernel: found}
    PAGE.write_text(f"{before}{BEGIN}{table(seen)}{END}{after}", encoding="utf-8")


def path(module: str) -> Path:
    """Return the file of a module of tests."""
    return ROOT / "tests" / ("" if "/" in module else "clients") / f"{module}.py"


def line(test: str) -> int:
    """Return how far into its module a test is, and -1 if it does not exist."""
    module, function = test.split("::")
    found = re.search(rf"^(?:async )?def {function}\(", path(module).read_text(encoding="utf-8"), re.MULTILINE)
    return found.start() if found else -1


def read() -> dict[str, dict[str, str]]:
    """Return what the page says of each kernel."""
    found: dict[str, dict[str, str]] = {kernel: {} for kernel in KERNELS}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(KERNELS) + 2 and cells[1] in ANSWERS:
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


def reasons(kernel: str) -> dict[str, str]:
    """Return why a kernel lacks features, by what the page says below a heading with the kernel's name."""
    found, here = {}, False
    for text in PAGE.read_text(encoding="utf-8").split(END)[1].splitlines():
        if text.startswith("#"):
            here = KERNELS[kernel] in text and " and " not in text
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if here and len(cells) == 2 and cells[0] not in ("line", "---"):
            found.update(dict.fromkeys(cells[0].split(" \N{MIDDLE DOT} "), cells[1]))
    return found


def missing() -> set[str]:
    """Return the tests that are named here but do not exist."""
    return {test for test in tests() if not path(test.split("::")[0]).is_file() or line(test) < 0}


if __name__ == "__main__":
    main(sys.argv[1:])
