"""Import: from the files that workers write into the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule_durable.checkpoints.catalogue import Catalogue
from capsule_durable.checkpoints.models import UnknownSession
from capsule_durable.storage.process_identity import this_process
from capsule_worker.protocol import manifest as mf
from capsule_worker.protocol.manifest import Manifest
from tests.support.catalogues import (
    checkpoint,
    incoming_of,
    publish,
    save,
)


def test_manifests_are_imported_in_order_and_their_files_removed(catalogue: Catalogue, session: str) -> None:
    manifests = [checkpoint(session, number) for number in (3, 1, 2)]
    for manifest in manifests:
        publish(catalogue.sessions.directory(session), manifest)
    assert [one.number for one in catalogue.incoming.import_session(session)] == [1, 2, 3]
    assert incoming_of(catalogue, session) == []
    assert catalogue.incoming.import_session(session) == []
    assert catalogue.manifest(manifests[0].id) == manifests[0]
    (entry, *_) = catalogue.checkpoints()
    assert (entry.number, entry.head, entry.variables, entry.unsaved, entry.notebook) == (3, True, 2, 1, "a.ipynb")
    assert [one.head for one in catalogue.checkpoints()] == [True, False, False]
    assert catalogue.head(session) == catalogue.newest(session) == entry


def test_a_crash_between_row_and_file_does_no_harm(catalogue: Catalogue, session: str) -> None:
    first = save(catalogue, session, 1)
    second = save(catalogue, session, 2)
    catalogue.set_head(session, first)
    path = publish(catalogue.sessions.directory(session), checkpoint(session, 2))
    assert catalogue.incoming.import_session(session) == []
    assert not path.exists()
    assert [entry.id for entry in catalogue.checkpoints()] == [second, first]
    assert catalogue.head(session) == catalogue.find(first)


def test_a_crash_before_the_row_leaves_the_file_for_the_next_process(tmp_path: Path) -> None:
    class Crash(BaseException):
        pass

    with Catalogue(tmp_path) as catalogue:
        session = catalogue.sessions.begin("k", None, this_process()).id
        path = publish(catalogue.sessions.directory(session), checkpoint(session, 1))
        with pytest.raises(Crash), catalogue._database.writing() as connection:
            connection.execute("UPDATE sessions SET head = 'nonsense'")
            raise Crash
        assert path.exists()
    with Catalogue(tmp_path) as catalogue:
        assert catalogue.head(session) is None
        assert [one.number for one in catalogue.incoming.import_session(session)] == [1]


def test_a_checkpoint_that_another_process_imported_and_dropped_is_not_imported_again(
    catalogue: Catalogue, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = checkpoint(session, 1)
    path = publish(catalogue.sessions.directory(session), manifest)
    load = mf.load

    def load_slowly(data: bytes) -> Manifest:
        path.unlink()
        return load(data)

    monkeypatch.setattr(mf, "load", load_slowly)
    assert catalogue.incoming.import_session(session) == []
    assert catalogue.checkpoints() == []


def test_unreadable_manifests_are_set_aside_and_the_others_imported(
    catalogue: Catalogue, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = catalogue.sessions.directory(session)
    torn = publish(directory, checkpoint(session, 1))
    torn.write_bytes(torn.read_bytes()[:-20])
    strange = publish(directory, checkpoint("another", 2))
    publish(directory, checkpoint(session, 3))
    for number in (2, 4):
        (directory / mf.INCOMING / f"{number:08d}-x.draft").write_bytes(b"half")
    assert [one.number for one in catalogue.incoming.import_session(session)] == [3]
    assert incoming_of(catalogue, session) == sorted(
        [f"{torn.name}.damaged", f"{strange.name}.damaged", "00000002-x.draft.damaged", "00000004-x.draft"]
    )
    assert all(name in caplog.text for name in (torn.name, strange.name, "00000002-x.draft"))


def test_importing_an_unknown_session_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownSession, match="nowhere"):
        catalogue.incoming.import_session("nowhere")
