"""IPython's shell for cells: what it displays, its results and its errors go to the output writer."""

from __future__ import annotations

import os
from typing import Any

from IPython.core import page, payloadpage
from IPython.core.autocall import ZMQExitAutocall
from IPython.core.compilerop import CachingCompiler
from traitlets import Any as AnyTrait
from traitlets import CBool, Instance, Type, default

from capsule_worker.output.displays import ZMQDisplayPublisher, ZMQShellDisplayHook
from capsule_worker.output.output_writer import OutputWriter
from capsule_worker.process import execution_context
from capsule_worker.shell import ipython_private
from capsule_worker.shell.capsule_magics import CapsuleMagics
from capsule_worker.shell.cell_filenames import CellFiles
from capsule_worker.shell.gui_loops import GuiEventLoop
from capsule_worker.shell.history import HistoryManager
from capsule_worker.shell.magics import NotebookMagics
from capsule_worker.shell.tracebacks import ErrorShell

#: More lines than a session has.
_UNLIMITED_LINES = 1 << 30


class CellCompiler(CachingCompiler):
    """Gives the code of a cell the name of a file that exists only once a debugger asks for it.

    IPython would parse and colour the tracebacks of a name that it can look up a second time, at 3 ms each.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.files = CellFiles()

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:  # noqa: ARG002  # IPython's
        """Return the file name of a cell.

        Args:
            raw_code: its source.
            transformed_code: its Python.
            number: its number.
        """
        return self.files.name(raw_code)


class ZMQInteractiveShell(ErrorShell):
    """The shell in which cells run.

    Libraries (rich among them) recognise a notebook by the name and module of this class, so it keeps ipykernel's;
    ``ipykernel_compat`` makes it importable from there.
    """

    __module__ = "ipykernel.zmqshell"

    output_writer: OutputWriter = AnyTrait()  # type: ignore[assignment]  # a trait stands for its value
    history_manager: HistoryManager
    #: What the magic ``%capsule`` works with.
    checkpointer: Any = AnyTrait()
    requests: Any = AnyTrait()
    #: Checkpoints need to know whether a debugger can change variables outside the code of cells.
    client_debugger: Any = AnyTrait()
    #: What libraries take for the kernel, which is another process.
    kernel: Any = AnyTrait()
    #: IPython's configuration, startup files and extensions; None where those do not count.
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
        self._gui_event_loop = GuiEventLoop()
        #: Names the files of cells.
        self.cell_files: CellFiles = self.compile.files  # type: ignore[attr-defined]  # it is a CellCompiler
        #: Whether startup files and extensions have run.
        self.has_started = self.application is None

    def run_startup(self) -> None:
        """Run the startup files and extensions that the configuration names, once, before the first code."""
        if not self.has_started:
            self.has_started = True
            self.application.run_startup()

    def init_user_ns(self) -> None:
        """Add the path of the notebook, if the server passes it."""
        super().init_user_ns()
        session = os.environ.get("JPY_SESSION_NAME")
        if session:
            self.user_ns["__session__"] = session

    def init_virtualenv(self) -> None:
        """Do nothing: the environment that is active where Jupyter was started is not the one that cells run in."""

    def init_environment(self) -> None:
        """Have child processes print in colour, and use no pager."""
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

    def init_history(self) -> None:
        """Keep history in memory until ``HistoryFlush`` writes it: a commit during a cell would delay that."""
        self.history_manager = HistoryManager(shell=self, parent=self)
        self.configurables.append(self.history_manager)  # type: ignore[arg-type]  # as the base class does
        self.history_manager.db_cache_size = _UNLIMITED_LINES

    @property
    def parent_header(self) -> dict[str, Any]:
        """The request that the calling code belongs to."""
        parent: dict[str, Any] = self.kernel.get_parent()
        return parent

    def get_parent(self) -> dict[str, Any]:
        """Return the request that the calling code belongs to, for ``set_parent`` in another thread or task."""
        return self.parent_header

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Show the output of the calling thread or task below the cell of a request.

        Args:
            parent: the request. Other threads stay with the cells that started them.
        """
        self.set_thread_parent(parent)

    def set_thread_parent(self, parent: dict[str, Any]) -> Any:
        """Do as ``set_parent``; return a token for ``reset_thread_parent``.

        Args:
            parent: the request.
        """
        return execution_context.follow(self.kernel.execution_of(parent))

    def reset_thread_parent(self, token: Any) -> None:
        """Undo ``set_thread_parent``.

        Args:
            token: what it returned.
        """
        execution_context.unfollow(token)

    def enable_gui(self, gui: str | None = None) -> None:
        """Process the events of a toolkit's windows from now on.

        Args:
            gui: the toolkit, as in ``%gui``; None for no toolkit.

        Raises:
            UsageError: the toolkit is unknown, or no display was found.
        """
        self._gui_event_loop.enable(gui)
        self.active_eventloop = gui

    def ask_exit(self) -> None:
        """Ask the client to leave (``exit``, ``quit``)."""
        self._write_payload({"source": "ask_exit", "keepkernel": bool(self.keepkernel_on_exit)})

    def set_next_input(self, text: str, replace: bool = False) -> None:
        """Ask the client to put text into the next cell.

        Args:
            text: the text.
            replace: whether to put it in place of this cell instead.
        """
        self._write_payload({"source": "set_next_input", "text": text, "replace": replace})

    def remember_display(self, data: dict[str, Any]) -> None:
        """Keep a display with the outputs of its cell.

        Args:
            data: the representations by MIME type.
        """
        ipython_private.remember_display(self, data)

    def _write_payload(self, payload: dict[str, Any]) -> None:
        assert self.payload_manager is not None
        self.payload_manager.write_payload(payload)

    def pop_payload(self) -> list[Any]:
        """Return what the cell left for the client besides its output, and clear it."""
        assert self.payload_manager is not None
        payload: list[Any] = self.payload_manager.read_payload()
        self.payload_manager.clear_payload()
        return payload
