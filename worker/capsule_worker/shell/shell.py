"""IPython's shell, with its ways out (display, results, tracebacks, pager) leading into the outlet."""

from __future__ import annotations

import builtins
import os
import sys
import threading
import traceback
from typing import Any

from IPython.core import page, payloadpage
from IPython.core.autocall import ZMQExitAutocall
from IPython.core.compilerop import CachingCompiler
from IPython.core.history import HistorySavingThread
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Any as AnyTrait
from traitlets import CBool, Instance, Type, default

from capsule_worker.isolation import resource_limits
from capsule_worker.isolation.error_hints import hints
from capsule_worker.output.displays import ZMQDisplayPublisher, ZMQShellDisplayHook, running
from capsule_worker.output.output_writer import OutputWriter
from capsule_worker.process import execution_context, interrupts
from capsule_worker.protocol.messages import ErrorOutput
from capsule_worker.shell.capsule_magics import CapsuleMagics
from capsule_worker.shell.cell_filenames import CellFiles
from capsule_worker.shell.gui_loops import GuiEventLoop
from capsule_worker.shell.history import IN_MEMORY, HistoryManager
from capsule_worker.shell.magics import NotebookMagics

#: More lines than a session has.
_NEVER_FULL = 1 << 30


class CellCompiler(CachingCompiler):
    """Gives a cell's code the name of a file that is nowhere, until a debugger asks for it.

    (A name that IPython can look up has its tracebacks parsed and coloured a second time, at 3 ms each.)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.files = CellFiles()

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:  # noqa: ARG002  # IPython's
        """Return the file name of a cell."""
        return self.files.name(raw_code)


class ZMQInteractiveShell(InteractiveShell):
    """The shell in which cells run.

    Libraries (rich among them) recognise a notebook by this class's name and module, so they are those that they know;
    in ``lookalikes`` it is found there.
    """

    __module__ = "ipykernel.zmqshell"

    outlet: OutputWriter = AnyTrait()  # type: ignore[assignment]  # a trait stands for its value
    #: What the magic ``%capsule`` works with.
    checkpointer: Any = AnyTrait()
    requests: Any = AnyTrait()
    #: Whether its client can change variables beside cells' code is what checkpoints need to know.
    client_debugger: Any = AnyTrait()
    #: What libraries take for the kernel, which is another process.
    kernel: Any = AnyTrait()
    #: What people have set for IPython; None where that does not count.
    application: Any = AnyTrait()
    displayhook_class = Type(ZMQShellDisplayHook)
    display_pub_class = Type(ZMQDisplayPublisher)
    colors_force = CBool(True)
    autoindent = CBool(False)
    exiter = Instance(ZMQExitAutocall)
    keepkernel_on_exit = None

    @default("exiter")
    def _default_exiter(self) -> ZMQExitAutocall:
        return ZMQExitAutocall(self)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(compiler_class=CellCompiler, **kwargs)
        self._windows = GuiEventLoop()
        #: Names the files that cells are said to be in.
        self.cell_files: CellFiles = self.compile.files  # type: ignore[attr-defined]  # it is a CellCompiler

    def begin(self) -> None:
        """Run what people have set to be run before the first cell; once."""
        if self.application is not None:
            self.application.begin()

    def init_user_ns(self) -> None:
        """Add the notebook's path, where the server tells it."""
        super().init_user_ns()
        session = os.environ.get("JPY_SESSION_NAME")
        if session:
            self.user_ns["__session__"] = session

    def init_virtualenv(self) -> None:
        """Do nothing: the environment that is active where Jupyter was started is not the one that cells run in."""

    def init_environment(self) -> None:
        """Tell child processes that their output is shown in colour, and that nobody turns pages."""
        os.environ.update(
            TERM="xterm-color",
            CLICOLOR="1",
            FORCE_COLOR="1",
            CLICOLOR_FORCE="1",
            PAGER="cat",
            GIT_PAGER="cat",
        )
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    def init_hooks(self) -> None:
        """Show pages in the client's pager."""
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(payloadpage.page), 99)

    def init_magics(self) -> None:
        """Add the magics of notebooks."""
        super().init_magics()
        self.register_magics(NotebookMagics, CapsuleMagics)
        self.magics_manager.register_alias("ed", "edit")

    @property
    def parent_header(self) -> dict[str, Any]:
        """The request that the calling code belongs to."""
        parent: dict[str, Any] = self.kernel.get_parent()
        return parent

    def get_parent(self) -> dict[str, Any]:
        """Return the request that the calling code belongs to, for ``set_parent`` in another thread or task."""
        return self.parent_header

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Have the output of the calling thread or task shown below the cell of a request.

        Other threads stay with the cells that started them.
        """
        self.set_thread_parent(parent)

    def set_thread_parent(self, parent: dict[str, Any]) -> Any:
        """Do as ``set_parent``; return what ``reset_thread_parent`` takes."""
        return execution_context.follow(self.kernel.execution_of(parent))

    def reset_thread_parent(self, token: Any) -> None:
        """Undo ``set_thread_parent``."""
        execution_context.unfollow(token)

    def enable_gui(self, gui: str | None = None) -> None:
        """Take care of a toolkit's windows from now on."""
        self._windows.enable(gui)
        self.active_eventloop = gui

    def ask_exit(self) -> None:
        """Ask the client to leave (``exit``, ``quit``)."""
        self._write_payload({"source": "ask_exit", "keepkernel": bool(self.keepkernel_on_exit)})

    def set_next_input(self, text: str, replace: bool = False) -> None:
        """Ask the client to put ``text`` into the next cell, or in place of this one."""
        self._write_payload({"source": "set_next_input", "text": text, "replace": replace})

    def _write_payload(self, payload: dict[str, Any]) -> None:
        assert self.payload_manager is not None
        self.payload_manager.write_payload(payload)

    def init_history(self) -> None:
        """Keep history in memory until ``save_history``: a commit in mid-cell would delay that cell."""
        self.history_manager = HistoryManager(shell=self, parent=self)
        self.configurables.append(self.history_manager)  # type: ignore[arg-type]  # as the base class does
        self.history_manager.db_cache_size = _NEVER_FULL

    def open_history(self) -> None:
        """Begin a session of the history, unless one is going on."""
        assert isinstance(self.history_manager, HistoryManager)
        self.history_manager.open()

    def save_history(self) -> None:
        """Have the thread write what is not in the history file yet."""
        manager: Any = self.history_manager
        # Each fork ends the thread (IPython 9.9 and later), as copies of this process begin with one.
        restart = getattr(manager, "_restart_thread_if_stopped", None)
        if restart is not None and manager.enabled:
            restart()
        flag = getattr(manager, "save_flag", None)
        if flag is not None:
            flag.set()

    def go_on_at(self, count: int) -> None:
        """Run the next cell as number ``count``; cells of workers that have died leave gaps in ``In``."""
        manager: Any = self.history_manager
        if manager is not None:
            if count < self.execution_count:
                # A cell that is tried again. In the history file its number is taken.
                for number in [known for known in manager.output_hist if known >= count]:
                    del manager.output_hist[number]
                if manager.enabled:
                    manager.writeout_cache()
                    manager.new_session()
            for inputs in (manager.input_hist_parsed, manager.input_hist_raw):
                del inputs[count:]
                inputs.extend([""] * (count - len(inputs)))
        self.execution_count = count

    def renew_history(self) -> None:
        """Go on with the history in a copy of the process: a connection and a thread are not to be shared."""
        manager: Any = self.history_manager
        if manager is None or not manager.enabled or str(manager.hist_file) == IN_MEMORY:
            return
        manager.init_db()
        manager.db_input_cache_lock, manager.db_output_cache_lock = threading.Lock(), threading.Lock()
        if not isinstance(getattr(type(manager), "save_flag", None), property):
            manager.save_flag = threading.Event()
        manager.save_thread = HistorySavingThread(manager)
        # What the original has written since, the copy must not write again.
        (last,) = manager.db.execute(
            "SELECT coalesce(max(line), 0) FROM history WHERE session = ?", (manager.session_number,)
        ).fetchone()
        manager.db_input_cache = [entry for entry in manager.db_input_cache if entry[0] > last]
        manager.save_thread.start()

    def take_payload(self) -> list[Any]:
        """Return what the cell left for the client besides its output, and forget it."""
        assert self.payload_manager is not None
        payload: list[Any] = self.payload_manager.read_payload()
        self.payload_manager.clear_payload()
        return payload

    def forget_errors(self, number: int | None = None, source: str = "") -> None:
        """Begin a cell that has not failed yet, in the calling thread.

        Args:
            number: its number, if it is not the shell's.
            source: its source, then.
        """
        running.number, running.source = number, source
        running.last_error = None
        running.result_failed = running.formatting = False

    @property
    def result_failed(self) -> bool:
        """Whether the value of the cell in this thread could not be shown."""
        return running.result_failed

    def take_error(self, raised: BaseException | None = None) -> ErrorOutput:
        """Return the exception that the cell ended with.

        Args:
            raised: the exception itself; a handler of the user's (``set_custom_exc``) may show none.
        """
        if running.last_error is not None:
            return running.last_error
        if raised is None:
            return ErrorOutput(ename="Error", evalue="no traceback was shown", traceback=[])
        return ErrorOutput(ename=type(raised).__name__, evalue=_text_of(raised), traceback=[])

    def show_usage_error(self, exc: BaseException) -> None:
        """Show the error of a magic that was not used as it should be: in a line, on stderr."""
        super().show_usage_error(exc)
        running.last_error = ErrorOutput(ename=type(exc).__name__, evalue=str(exc), traceback=[f"UsageError: {exc}"])

    def _get_exc_info(self, exc_tuple: Any = None) -> Any:
        """Return what is to be shown, without the frame of ours that raised it for a limit."""
        etype, value, stack = super()._get_exc_info(exc_tuple)
        frame = stack
        while frame is not None and frame.tb_next is not None:
            if frame.tb_next.tb_frame.f_code.co_filename == interrupts.__file__:
                frame.tb_next = None
            frame = frame.tb_next
        return etype, value, stack

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Show the exception that is being handled; a second interrupt must not spoil the report of the first."""
        with self.outlet.gate.ignoring():
            # What the cell has taken is held by its error: a traceback needs more.
            resource_limits.relax()
            value = sys.exc_info()[1]
            if not args and value is not None and _holds_group(value):
                # IPython prints these to stderr, where no client finds an error.
                stack = value.__traceback__
                while stack is not None and not self.compile.format_code_name(stack.tb_frame.f_code.co_filename):
                    stack = stack.tb_next
                lines = traceback.format_exception(type(value), value, stack)
                self._showtraceback(type(value), value, "".join(lines).splitlines())
                return
            super().showtraceback(*args, **kwargs)
            if running.last_error is None and value is not None:
                # It met an error of its own, as where no file can be opened any more, which is on stderr.
                lines = traceback.format_exception_only(value)
                self._showtraceback(type(value), value, "".join(lines).splitlines())

    def _format_exception_for_storage(self, exception: BaseException, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Keep the traceback that was shown; IPython would make it a second time."""
        shown = running.last_error
        if shown is None or shown.ename != type(exception).__name__:
            kept: dict[str, Any] = super()._format_exception_for_storage(exception, *args, **kwargs)
            return kept
        return {"ename": shown.ename, "evalue": shown.evalue, "traceback": list(shown.traceback)}

    def _showtraceback(self, etype: type[BaseException], evalue: Any, stb: list[str] | str) -> None:
        lines = [stb] if isinstance(stb, str) else [str(line) for line in stb]
        lines += hints(evalue)
        running.last_error = ErrorOutput(ename=etype.__name__, evalue=_text_of(evalue), traceback=lines)
        running.result_failed |= running.formatting
        self.outlet.publish(running.last_error)


def _text_of(error: object) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"<exception str() failed: {type(failure).__name__}>"


def _holds_group(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, is a group (Python 3.11)."""
    group = getattr(builtins, "BaseExceptionGroup", ())
    while error is not None:
        if isinstance(error, group):
            return True
        error = error.__cause__ or error.__context__
    return False
