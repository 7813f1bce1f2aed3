"""When a checkpoint counts: all of its data is on the disk first, and then its manifest appears."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from capsule_worker.checkpoints.storage.pack_format import StorageError, pack_path
from capsule_worker.checkpoints.storage.pack_writer import write_all
from capsule_worker.checkpoints.writing.job import CheckpointJob
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.fsync import fsync_path


def draft_of(directory: Path, manifest: mf.Manifest) -> Path:
    """Return the file that holds a manifest until all of its checkpoint is on disk.

    Args:
        directory: the session's.
        manifest: the manifest.
    """
    return directory / mf.INCOMING / f"{manifest.number:08d}-{manifest.id}{mf.DRAFT_SUFFIX}"


def publish(draft: Path, counts: Callable[[], None] = lambda: None) -> None:
    """Make a checkpoint count: its manifest appears whole or not at all, and only after all its data.

    Args:
        draft: its manifest.
        counts: called when others can see the manifest; from then on its data is needed, whatever happens next.

    Raises:
        StorageError: the disk is full, or cannot be written.
    """
    try:
        fsync_path(draft)
        draft.rename(draft.with_suffix(mf.MANIFEST_SUFFIX))
        counts()
        fsync_path(draft.parent)
    except FileNotFoundError as error:
        if draft.with_name(draft.name + mf.DAMAGED_SUFFIX).exists():
            raise StorageError(f"{draft}: a front has taken its writer for dead") from error
        counts()  # a front has taken its writer for dead, and has done it
    except OSError as error:
        raise StorageError(f"{draft}: {error.strerror}") from error


@contextlib.contextmanager
def lease_packs(job: CheckpointJob) -> Iterator[None]:
    """Keep other processes from removing the packs that the writers of a job need.

    Args:
        job: the job.

    Raises:
        StorageError: the lease cannot be written.
    """
    needed = {pack_name(job.head)}
    for one in [*job.kept, *job.before.values()]:
        needed |= {one.group.record.pack, *one.group.packs}
    path = draft_of(job.directory, job.head).with_suffix(mf.CLAIM_SUFFIX)
    try:
        # Seen only when it is locked. The lock is held by copies of this process, too.
        draft = path.with_name(path.name + mf.DAMAGED_SUFFIX)  # so far it says nothing
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        write_all(fd, "\n".join(sorted(needed)).encode())
        draft.rename(path)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    yield
    path.unlink(missing_ok=True)
    os.close(fd)


def finish_staged(job: CheckpointJob) -> None:
    """Write to the disk what a writer has staged before it ended, and publish the checkpoint.

    Args:
        job: the job of the writer.

    Raises:
        StorageError: the disk is full, or cannot be written.
    """
    pack = pack_path(job.directory, pack_name(job.head))
    try:
        with contextlib.suppress(FileNotFoundError):  # there was nothing new
            fsync_path(pack)
        fsync_path(pack.parent)
    except OSError as error:
        raise StorageError(f"{pack}: {error.strerror}") from error
    publish(draft_of(job.directory, job.head))


def pack_name(head: mf.Manifest) -> str:
    """Return the name of the pack of a checkpoint."""
    return f"{head.number:08d}-{head.id[-8:]}"
