"""Reads checkpoints: lists, contents, differences, and what a restore brings. No rendering."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.diff import difference
from capsule_durable.checkpoints.models import Entry
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol import messages as m

#: Checkpoints that are listed if the caller does not say how many.
DEFAULT_LIMIT = 50


def listed(entry: Entry) -> m.Checkpoint:
    """Return a checkpoint as lists have it.

    Args:
        entry: the row of the catalogue.
    """
    return m.Checkpoint(**entry.model_dump(), starred=entry.name is not None)


def reference(checkpoint: Entry | mf.Manifest) -> m.CheckpointRef:
    """Return a checkpoint in short.

    Args:
        checkpoint: the checkpoint.
    """
    return m.CheckpointRef(
        id=checkpoint.id,
        number=checkpoint.number,
        name=checkpoint.name,
        session=checkpoint.session,
        execution_count=checkpoint.execution_count,
        time=checkpoint.time,
        size=checkpoint.size,
        bytes_written=checkpoint.bytes_written,
    )


def checkpoint_list(
    catalogue: Catalogue, query: str = "", session: str | None = None, limit: int = DEFAULT_LIMIT
) -> m.CheckpointList:
    """Return checkpoints, newest first.

    Args:
        catalogue: all checkpoints.
        query: words that must occur in the name, description, tags or id.
        session: id of the only session to list; None for all.
        limit: how many are listed at most.

    Raises:
        StoreError: the catalogue cannot be used.
    """
    entries = catalogue.checkpoints(query, session)
    return m.CheckpointList(
        query=query, session=session, checkpoints=[listed(entry) for entry in entries[:limit]], total=len(entries)
    )


def contents(manifest: mf.Manifest) -> m.CheckpointContents:
    """Return the variables in a checkpoint.

    Args:
        manifest: the checkpoint.
    """
    variables = [
        m.Variable(
            name=variable.name,
            type=variable.type,
            size=variable.size,
            cell=_cell(variable, manifest.session),
            saved=variable.reason is None,
            reason=variable.reason,
        )
        for variable in manifest.variables
    ]
    return m.CheckpointContents(checkpoint=reference(manifest), variables=variables)


def comparison(catalogue: Catalogue, before: Entry, after: Entry) -> m.CheckpointDiff:
    """Return the variables that differ between two checkpoints.

    Args:
        catalogue: has the manifests of the checkpoints.
        before: the earlier checkpoint.
        after: the later checkpoint.

    Raises:
        StoreError: a checkpoint is damaged, or the catalogue cannot be used.
    """
    changes = difference(catalogue.manifest(before.id), catalogue.manifest(after.id))
    return m.CheckpointDiff(before=reference(before), after=reference(after), changes=changes)


def restore_report(
    manifest: mf.Manifest,
    session: str,
    names: Collection[str] | None = None,
    source: m.RestoreSource = "checkpoint",
    changed: Sequence[str] = (),
    undone: Sequence[m.CellRef] = (),
    redo: m.CheckpointRef | None = None,
) -> m.Restored:
    """Return the report on the restore of a checkpoint, as far as the checkpoint determines it.

    Args:
        manifest: the checkpoint.
        session: id of the session that restores it.
        names: the variables to restore; None for all.
        source: what has the variables.
        changed: names of the variables that differ from the state before.
        undone: the cells that are undone.
        redo: the checkpoint that has the state before.
    """
    wanted = [variable for variable in manifest.variables if names is None or variable.name in names]
    missing = [variable for variable in wanted if variable.reason is not None and source == "checkpoint"]
    cells = {variable.name: _cell(variable, manifest.session) for variable in missing}
    not_restored = {variable.name: variable.reason or "" for variable in missing}
    return m.Restored(
        session=session,
        checkpoint=reference(manifest),
        source=source,
        restored=[variable.name for variable in wanted if variable.name not in not_restored],
        not_restored=not_restored,
        cells={name: cell for name, cell in cells.items() if cell is not None},
        changed=list(changed),
        undone=list(undone),
        redo=redo,
    )


def _cell(variable: mf.Variable, session: str) -> m.CellRef | None:
    cell = variable.cell
    return m.CellRef(number=cell.number, line=cell.line, session=session) if cell is not None else None
