"""``%capsule``: what a user does with checkpoints in a notebook. The command line has the same commands."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import display
from pydantic import ValidationError

from capsule_worker.checkpoints.storage.pack_format import StorageError
from capsule_worker.process.kernel_requests import RequestRefused
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message.removeprefix('argument ')}\n{self.format_usage()}".rstrip())

    def exit(self, _status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(message or "")


def _parser() -> _Parser:
    parser = _Parser(prog="%capsule", add_help=False)
    commands = parser.add_subparsers(dest="command", parser_class=_Parser, metavar="COMMAND")
    commands.add_parser("status", add_help=False, help="show what is saved, and where")
    save = commands.add_parser("checkpoint", add_help=False, help="save the variables under a name")
    save.add_argument("name")
    save.add_argument("-m", "--message", default="", help="a description")
    save.add_argument("--tag", action="append", default=[], help="a word to find it by; may be repeated")
    listing = commands.add_parser("checkpoints", add_help=False, help="list checkpoints, or those that match words")
    listing.add_argument("query", nargs="*")
    show = commands.add_parser("show", add_help=False, help="list the variables of a checkpoint")
    show.add_argument("checkpoint")
    restore = commands.add_parser("restore", add_help=False, help="restore a checkpoint, or some of its variables")
    restore.add_argument("checkpoint")
    restore.add_argument("variables", nargs="*")
    restore.add_argument("--clear", action="store_true", help="remove all other variables")
    undo = commands.add_parser("undo", add_help=False, help="restore the variables to before the last N cells")
    undo.add_argument("cells", nargs="?", type=int, default=1)
    diff = commands.add_parser("diff", add_help=False, help="compare two checkpoints")
    diff.add_argument("before")
    diff.add_argument("after", nargs="?", default=None)
    delete = commands.add_parser("delete", add_help=False, help="delete checkpoints")
    delete.add_argument("checkpoints", nargs="+")
    resume = commands.add_parser("resume", add_help=False, help="restore the variables of an earlier session")
    resume.add_argument("session", nargs="?", default=None)
    return parser


HELP = """%capsule status                         show what is saved, and where
%capsule checkpoint NAME [-m TEXT] [--tag T]  save the variables under a name
%capsule checkpoints [WORD...]          list checkpoints, or those that match
%capsule show NAME|ID                   list the variables of a checkpoint
%capsule restore NAME|ID [VARIABLE...]  restore a checkpoint, or some of its variables (--clear: remove all others)
%capsule undo [N]                       restore the variables to their state before the last N cells
%capsule diff A [B]                     compare two checkpoints (B: the variables as they are now)
%capsule delete NAME|ID...              delete checkpoints
%capsule resume [SESSION]               restore the variables of this notebook's last session, or of another one

%%capsule retry=N [delay=SECONDS]       as a cell's first line: if its process dies or its code raises, try again"""


@magics_class
class CapsuleMagics(Magics):
    """``%capsule COMMAND ...``."""

    @no_var_expand
    @line_cell_magic
    def capsule(self, line: str, cell: str | None = None) -> None:
        """Save, list, compare and restore the notebook's variables. ``%capsule`` alone lists the commands."""
        if cell is not None:
            # The front handles a cell magic that is valid.
            raise UsageError("%%capsule says how often a cell is tried again: %%capsule retry=3 [delay=0.5]")
        # Text that is not valid Unicode is sent with backslash escapes.
        line = line.encode("utf-8", "backslashreplace").decode()
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"%capsule: {error}") from error
        if not words or words[0] in ("help", "-h", "--help"):
            print(HELP)
            return
        arguments = vars(_parser().parse_args(words))
        command = arguments.pop("command")
        try:
            self._run(command, arguments)
        except ValidationError as error:
            # The protocol refuses texts and lists that are too long.
            problem = error.errors()[0]["msg"]
            raise UsageError(f"%capsule {command}: {problem[:1].lower()}{problem[1:]}") from error
        except (RequestRefused, StorageError) as error:
            raise UsageError(f"%capsule {command}: {error}") from error

    def _run(self, command: str, arguments: dict[str, Any]) -> None:
        match command:
            case "checkpoint":
                self._save(**arguments)
            case "restore":
                request = m.RestoreRequest(**arguments)
                self._restore(request, request.variables or None, clear=request.clear)
            case "resume":
                self._restore(m.ResumeRequest(**arguments), None, clear=False, lazily=True)
            case "undo":
                self._undo(**arguments)
            case _:
                _display(self._requests.ask(self._reading(command, arguments)))

    def _reading(self, command: str, arguments: dict[str, Any]) -> m.KernelRequest:
        """Return the request of a command that changes no variables."""
        match command:
            case "status":
                return m.StatusRequest(worker=self._checkpointer.status())
            case "checkpoints":
                return m.ListCheckpointsRequest(**arguments)
            case "show":
                return m.ShowCheckpointRequest(**arguments)
            case "diff":
                if arguments["after"] is None:
                    self._checkpointer.catch_up()
                return m.DiffCheckpointsRequest(**arguments)
            case _:
                return m.DeleteCheckpointsRequest(**arguments)

    @property
    def _requests(self) -> Any:
        shell: Any = self.shell
        return shell.requests

    @property
    def _checkpointer(self) -> Any:
        shell: Any = self.shell
        return shell.checkpointer

    def _undo(self, cells: int) -> None:
        if cells < 1:
            raise UsageError("%capsule undo: the number of cells must be 1 or more")
        self._checkpointer.catch_up()
        request = m.UndoRequest(cells=cells, head=self._checkpointer.changes.head)
        self._restore(request, None, clear=True, lazily=True)

    def _save(self, name: str, message: str, tag: list[str]) -> None:
        if not name.strip():
            raise UsageError("%capsule checkpoint: pass a name, for example: %capsule checkpoint before-join")
        self._requests.ask(m.CheckpointsReadyRequest())
        progress = _Progress()
        try:
            saved = self._checkpointer.save_now(name, message, tag, progress.update)
        except BaseException as error:
            progress.end("not saved")
            if isinstance(error, StorageError):
                raise UsageError(f'Could not save checkpoint "{name}": {error}.') from error
            raise
        progress.end("saved")
        _display(self._requests.ask(m.ShowCheckpointRequest(checkpoint=saved.id)))

    def _restore(
        self, request: m.KernelRequest, variables: list[str] | None, *, clear: bool, lazily: bool = False
    ) -> None:
        """Restore what the front answers, and report it; the front waits for nothing."""
        reply = self._requests.ask(request)
        plan = reply.answer
        if isinstance(plan, m.RestorePlan):
            manifest = mf.load(plan.manifest)
            restored, failed, notes = self._checkpointer.restore(manifest, variables, clear=clear, lazily=lazily)
            self._requests.tell_restored(manifest.id, restored, failed, whole=variables is None)
            _display(reply)
            unannounced = {name: why for name, why in failed.items() if name not in plan.report.not_restored}
            problems = [*(f"{name}: {why}" for name, why in sorted(unannounced.items())), *notes]
            if problems:
                print(f"capsule: not restored: {'; '.join(problems)}", file=sys.stderr)
        else:
            _display(reply)  # a standby takes over when the cell has ended


class _Progress:
    """A line that shows the progress of a save."""

    def __init__(self) -> None:
        self._handle: Any = None

    def update(self, text: str) -> None:
        data = {"text/plain": text}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def end(self, text: str) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": text}, raw=True)


def _display(reply: m.AnswerMessage) -> None:
    if reply.display:
        display(reply.display, raw=True)
