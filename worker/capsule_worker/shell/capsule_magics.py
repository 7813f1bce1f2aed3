"""``%capsule``: what a person does with checkpoints from within a notebook. The command line has the same words."""

from __future__ import annotations

import argparse
import shlex
from typing import Any, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import display

from capsule_worker.checkpoints.storage.pack_format import StorageError
from capsule_worker.process.kernel_requests import RequestRefused
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.messages import CommandReplyMessage


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message.removeprefix('argument ')}\n{self.format_usage()}".rstrip())

    def exit(self, _status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(message or "")


def _parser() -> _Parser:
    parser = _Parser(prog="%capsule", add_help=False)
    words = parser.add_subparsers(dest="word", parser_class=_Parser, metavar="WORD")
    words.add_parser("status", add_help=False, help="what is saved, and where")
    save = words.add_parser("checkpoint", add_help=False, help="save the variables under a name")
    save.add_argument("name")
    save.add_argument("-m", "--message", default="", help="a description")
    save.add_argument("--tag", action="append", default=[], help="a word to find it by; may be given again")
    listing = words.add_parser("checkpoints", add_help=False, help="list checkpoints, or those that match words")
    listing.add_argument("query", nargs="*")
    restore = words.add_parser("restore", add_help=False, help="bring back a checkpoint, or some variables of it")
    restore.add_argument("checkpoint")
    restore.add_argument("variables", nargs="*")
    restore.add_argument("--clear", action="store_true", help="remove all other variables")
    undo = words.add_parser("undo", add_help=False, help="go back to the variables before the last N cells")
    undo.add_argument("cells", nargs="?", type=int, default=1)
    diff = words.add_parser("diff", add_help=False, help="compare two checkpoints")
    diff.add_argument("before")
    diff.add_argument("after", nargs="?", default=None)
    forget = words.add_parser("forget", add_help=False, help="remove checkpoints")
    forget.add_argument("checkpoints", nargs="+")
    resume = words.add_parser("resume", add_help=False, help="go on with the variables of an earlier session")
    resume.add_argument("session", nargs="?", default=None)
    return parser


HELP = """%capsule status                         what is saved, and where
%capsule checkpoint NAME [-m TEXT] [--tag T]  save the variables under a name
%capsule checkpoints [WORD...]          list checkpoints, or those that match
%capsule restore NAME|ID [VARIABLE...]  bring back a checkpoint, or some variables of it (--clear: and nothing else)
%capsule undo [N]                       go back to the variables before the last N cells
%capsule diff A [B]                     compare two checkpoints (B: the variables as they are now)
%capsule forget NAME|ID...              remove checkpoints
%capsule resume [SESSION]               go on with the variables of this notebook's last session, or of another one

%%capsule retry=N [delay=SECONDS]       as a cell's first line: if its process dies or its code raises, try again"""


@magics_class
class CapsuleMagics(Magics):
    """``%capsule WORD ...``."""

    @no_var_expand
    @line_cell_magic
    def capsule(self, line: str, cell: str | None = None) -> None:
        """Save, list, compare and bring back the notebook's variables. ``%capsule`` alone lists the words."""
        if cell is not None:
            # One that makes sense is the front's.
            raise UsageError("%%capsule stands for how often a cell is tried again: %%capsule retry=3 [delay=0.5]")
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"%capsule: {error}") from error
        if not words or words[0] in ("help", "-h", "--help"):
            print(HELP)
            return
        arguments = vars(_parser().parse_args(words))
        word = arguments.pop("word")
        act = getattr(self, f"_{word}", None)
        try:
            if act is not None:
                act(**arguments)
            else:
                _show(self._ask(word, **arguments))
        except (RequestRefused, StorageError) as error:
            raise UsageError(f"%capsule {word}: {error}") from error

    def _ask(self, word: str, **arguments: Any) -> CommandReplyMessage:
        shell: Any = self.shell
        reply: CommandReplyMessage = shell.commands.ask(word, **arguments)
        return reply

    def _checkpoint(self, name: str, message: str, tag: list[str]) -> None:
        if not name.strip():
            raise UsageError("%capsule checkpoint: say a name, for example: %capsule checkpoint before-join")
        shell: Any = self.shell
        self._ask("ready")
        notes = _Note()
        try:
            saved = shell.checkpointer.save_now(name, message, tag, notes.tell)
        except BaseException:
            notes.done("not saved")
            raise
        notes.done("saved")
        _show(self._ask("saved", checkpoint=saved.id))

    def _status(self) -> None:
        shell: Any = self.shell
        _show(self._ask("status", **shell.checkpointer.status()))

    def _diff(self, before: str, after: str | None) -> None:
        if after is None:
            shell: Any = self.shell
            shell.checkpointer.catch_up()
        _show(self._ask("diff", before=before, after=after))

    def _restore(self, checkpoint: str, variables: list[str], clear: bool) -> None:
        self._bring_back(self._ask("restore", checkpoint=checkpoint, variables=variables), variables or None, clear)

    def _undo(self, cells: int) -> None:
        if cells < 1:
            raise UsageError("%capsule undo: how many cells? 1 or more")
        shell: Any = self.shell
        shell.checkpointer.catch_up()
        reply = self._ask("undo", cells=cells, head=shell.checkpointer.changes.head)
        if reply.manifest is None:
            _show(reply)  # a copy of this process takes over when the cell has ended
        else:
            self._bring_back(reply, None, clear=True, lazily=True)

    def _resume(self, session: str | None) -> None:
        self._bring_back(self._ask("resume", session=session), None, clear=False, lazily=True)

    def _bring_back(
        self, reply: CommandReplyMessage, variables: list[str] | None, clear: bool, *, lazily: bool = False
    ) -> None:
        shell: Any = self.shell
        assert reply.manifest is not None
        _show(reply)
        manifest = mf.load(reply.manifest)
        restored, failed, notes = shell.checkpointer.restore(manifest, variables, clear=clear, lazily=lazily)
        reply = self._ask(
            "restored",
            checkpoint=manifest.id,
            restored=restored,
            failed=failed,
            notes=notes,
            whole=variables is None,
        )
        _show(reply)


class _Note:
    """A line that says how far something has come, and that goes away."""

    def __init__(self) -> None:
        self._handle: Any = None

    def tell(self, text: str) -> None:
        data = {"text/plain": text}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def done(self, text: str) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": text}, raw=True)


def _show(reply: CommandReplyMessage) -> None:
    if reply.data:
        display(reply.data, raw=True)
