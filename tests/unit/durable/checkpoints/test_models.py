"""References of users to sessions."""

from __future__ import annotations

import pytest

from capsule_durable.checkpoints.models import SessionRow, UnknownSession, resolve_session


def session(name: str, notebook: str | None = None, checkpoints: int = 1) -> SessionRow:
    return SessionRow(
        id=name,
        kernel=f"kernel-{name}",
        notebook=notebook,
        process="place.1.2.token",
        started=0.0,
        ended=None,
        head=None,
        checkpoints=checkpoints,
    )


SESSIONS = [
    session("abcd3", "work/a.ipynb", checkpoints=0),
    session("abcd2", "work/a.ipynb"),
    session("efgh1", "other/a.ipynb"),
    session("efgh0"),
]


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("abcd2", "abcd2"),
        (" efgh1 ", "efgh1"),
        ("work/a.ipynb", "abcd2"),
        ("a.ipynb", "abcd2"),
        ("other/a.ipynb", "efgh1"),
        ("kernel-efgh0", "efgh0"),
    ],
)
def test_a_reference_is_the_id_or_the_notebook_of_a_session(reference: str, found: str) -> None:
    assert resolve_session(reference, SESSIONS).id == found


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("abcd", "begins the ids of 2 sessions"),
        ("abc", "there is no session 'abc'"),
        ("b.ipynb", "no session"),
        (".ipynb", "no session"),
        ("", "name a session"),
    ],
)
def test_an_unknown_or_ambiguous_reference_is_refused(reference: str, message: str) -> None:
    with pytest.raises(UnknownSession, match=message):
        resolve_session(reference, SESSIONS)
