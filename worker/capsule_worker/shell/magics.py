"""Magics that notebooks expect beyond IPython's own."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from IPython.core import page
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magics.code import MacroToEdit
from IPython.display import Javascript, display

from capsule_worker.process.subshells import THREAD_PREFIX
from capsule_worker.shell.ipython_config import IPKernelApp
from capsule_worker.shell.ipython_private import find_edit_target


@magics_class
class NotebookMagics(Magics):
    """``%clear``, ``%less``, ``%more``, ``%man``, ``%edit``, ``%autosave``, ``%connect_info``, ``%subshell``, ..."""

    def _shell(self) -> InteractiveShell:
        assert self.shell is not None
        return self.shell

    def _zmq_shell(self) -> Any:
        return self._shell()

    @line_magic
    def clear(self, _line: str) -> None:
        """Clear the cell's output."""
        self._shell().display_pub.clear_output()

    @line_magic
    def less(self, line: str) -> None:
        """Show a file in the pager: ``%less FILE``. Python files are shown in colour."""
        self._page_file(line)

    def _page_file(self, line: str) -> None:
        if not line.strip():
            raise UsageError("%less: pass a file name, for example %less notes.txt")
        path = Path(line.strip()).expanduser()
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"%less: cannot read {path}: {error.strerror}") from error
        page.page(self._shell().pycolorize(text) if path.suffix == ".py" else text)

    @line_magic
    def more(self, line: str) -> None:
        """Show a file in the pager, as ``%less`` does."""
        self._page_file(line)

    @line_magic
    def man(self, line: str) -> None:
        """Show a manual page in the pager: ``%man COMMAND``."""
        found = subprocess.run(  # noqa: S603  # the user's own command, with the user's rights
            ["man", *line.split()],  # noqa: S607  # looked up as in a terminal
            capture_output=True,
            text=True,
            env={"MANPAGER": "cat", "PATH": "/usr/local/bin:/usr/bin:/bin"},
            check=False,
        )
        page.page(found.stdout if found.returncode == 0 else found.stderr)

    @line_magic
    def edit(self, line: str) -> None:
        """Open a file in the client's editor: ``%edit FILE``, or ``%edit NAME`` for the file that defines an object.

        The edited code does not run by itself. Clients without an editor do nothing.
        """
        shell = self._shell()
        options, target = self.parse_options(line, "prn:")
        try:
            filename, number, _ = find_edit_target(shell, target, options)
        except MacroToEdit:
            raise UsageError("%edit: a macro has no file; print(NAME) shows its code") from None
        assert shell.payload_manager is not None
        payload = {"source": "edit_magic", "filename": str(Path(filename).resolve()), "line_number": number}
        shell.payload_manager.write_payload(payload)

    @line_magic
    def connect_info(self, _line: str) -> None:
        """Print how other clients connect to this kernel."""
        file = IPKernelApp.instance().connection_file
        try:
            print(Path(file).read_text(encoding="utf-8"))
            print("\nA client on another machine needs this in a file. In a terminal of this machine:")
        except OSError:
            print("Cells cannot read the connection file, which holds the key to their kernel. In a terminal:")
        print(f"    $> jupyter console --existing {file}")

    @line_magic
    def qtconsole(self, _line: str) -> None:
        """Print how a console connects to this kernel."""
        file = IPKernelApp.instance().connection_file
        print(f"Cells cannot connect to their own kernel. In a terminal:\n    $> jupyter qtconsole --existing {file}")

    @line_magic
    def autosave(self, line: str) -> None:
        """Save a classic notebook at an interval: ``%autosave SECONDS``; 0 turns that off.

        JupyterLab and other clients have a setting of their own.
        """
        try:
            seconds = int(line)
        except ValueError:
            raise UsageError(f"%autosave requires an integer, got {line!r}") from None
        script = Javascript(f"IPython.notebook.set_autosave_interval({1000 * seconds})")
        display(script, include=["application/javascript"])
        print(f"Autosaving every {seconds} seconds" if seconds else "Autosave disabled")

    @line_magic
    def subshell(self, _line: str) -> None:
        """Print in which subshell this cell runs, and the ids of all subshells: ``%subshell``."""
        thread = threading.current_thread()
        main = thread is threading.main_thread()
        print(f"subshell id: {None if main else thread.name.removeprefix(THREAD_PREFIX)}")
        print(f"thread id: {thread.ident}")
        print(f"main thread id: {threading.main_thread().ident}")
        print(f"pid: {os.getpid()}")
        print(f"thread count: {threading.active_count()}")
        from capsule_worker.protocol.messages import ListSubshellsRequest

        answer = self._zmq_shell().requests.ask(ListSubshellsRequest()).answer
        print(f"subshell list: {answer.ids}")
