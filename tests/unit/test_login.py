"""A login that a server or a pooler refuses is final or worth waiting for, by its SQLSTATE."""

from __future__ import annotations

import time
from typing import Any

import psycopg2
import pytest

from etl.errors import DatabaseUnavailable, EtlError, LoginRefused
from etl.postgres import login
from etl.postgres.libpq import libpq_failure
from etl.postgres.login import UNCLEAR_SECONDS, Login

PARAMETERS = {"user": "me", "dbname": "mine"}


class Server:
    """A driver whose server refuses every login."""

    def __init__(self, text: str, sqlstate: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self._text = f'connection to server at "h" (10.0.0.1), port 1 failed: X:  {text}\n'
        monkeypatch.setattr(login, "login_sqlstate", lambda *_: sqlstate)
        self._login = Login(1)

    def connect(self, **_: Any) -> Any:
        """Stand in for the dialect."""
        raise psycopg2.OperationalError(self._text)

    def refusal(self) -> EtlError:
        """How the login fails."""
        with pytest.raises(EtlError) as caught:
            self._login.connect(self, None, [], PARAMETERS)
        return caught.value


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("28P01", LoginRefused), ("28000", LoginRefused), ("3D000", LoginRefused),
        ("42501", LoginRefused), ("22023", LoginRefused), ("0A000", LoginRefused),
        ("58P01", LoginRefused), ("57P03", DatabaseUnavailable), ("53300", DatabaseUnavailable),
        ("08006", DatabaseUnavailable), ("XX000", DatabaseUnavailable),
        ("58030", DatabaseUnavailable), (None, DatabaseUnavailable),
    ],
)  # fmt: skip
def test_the_sqlstate_decides_and_not_the_text(
    sqlstate: str | None, kind: type[EtlError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is in a language that nobody here understands."""
    assert isinstance(Server("qapla'", sqlstate, monkeypatch).refusal(), kind)


def test_a_text_that_may_quote_a_value_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the name of the parameter is, where the text has one."""
    text = 'invalid value for parameter "work_mem": "secret"'
    shown = str(Server(text, "22023", monkeypatch).refusal())
    assert "secret" not in shown
    assert 'parameter "work_mem", SQLSTATE 22023' in shown


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SASL authentication failed", LoginRefused),
        ("no such user: me", LoginRefused),
        ("no such database: mine", LoginRefused),
        ("unsupported startup parameter: options", LoginRefused),
        ("server login failed: FATAL password authentication failed for user", LoginRefused),
        ("bouncer config error", LoginRefused),
        ("query_wait_timeout", DatabaseUnavailable),
        ("pgbouncer cannot connect to server", DatabaseUnavailable),
        ("server login has been retrying, connect failed", DatabaseUnavailable),
        ("no more connections allowed (max_client_conn)", DatabaseUnavailable),
        ("the database system is starting up", DatabaseUnavailable),
    ],
)
def test_pgbouncer_is_understood_by_its_words(
    text: str, kind: type[EtlError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has one SQLSTATE for everything, and one language."""
    assert isinstance(Server(text, "08P01", monkeypatch).refusal(), kind)


def test_what_a_pooler_passes_on_in_another_language_is_tried_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be a server that starts, or a wrong password: the SQLSTATE is lost."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    server = Server("Passwort-Authentifizierung fehlgeschlagen", "08P01", monkeypatch)
    assert isinstance(server.refusal(), DatabaseUnavailable)
    now[0] += UNCLEAR_SECONDS - 1
    assert isinstance(server.refusal(), DatabaseUnavailable)
    now[0] += 2
    assert isinstance(server.refusal(), LoginRefused)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('database "nothing" does not exist', LoginRefused),
        ("the database system is starting up", DatabaseUnavailable),
    ],
)
def test_a_pooler_that_lets_the_second_login_wait_is_judged_by_the_first(
    text: str, kind: type[EtlError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a server has refused it, PgBouncer does so for its server_login_retry."""
    assert isinstance(Server(text, "", monkeypatch).refusal(), kind)


def test_a_login_that_is_only_refused_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one has succeeded."""
    refusal = Server('database "nothing" does not exist', None, monkeypatch).refusal()
    assert isinstance(refusal, DatabaseUnavailable)


def test_a_wait_for_a_pooler_leads_to_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler whose own login fails, or whose auth_query is wrong, says little to its clients."""
    text = "server login has been failing, try again later (server_login_retry)"
    assert "its log says why" in str(Server(text, "08P01", monkeypatch).refusal())


def test_what_a_server_writes_in_another_encoding_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be unreadable; where it was, and the SQLSTATE, are not."""
    shown = str(Server("\ufffd\ufffdchou\ufffde", "28P01", monkeypatch).refusal())
    assert "\ufffd" not in shown
    assert 'server at "h" (10.0.0.1), port 1 failed (SQLSTATE 28P01)' in shown


def test_another_method_of_authentication_is_thought_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has one SQLSTATE for a role without LOGIN and a password that LDAP refuses."""
    shown = str(Server("LDAP", "28000", monkeypatch).refusal())
    assert "ldap, pam and radius, check the password" in shown


def test_gssapi_without_a_ticket_is_final() -> None:
    """Nobody runs kinit while a job waits."""
    text = "GSSAPI encryption required but no credential cache"
    assert isinstance(libpq_failure(text, has_connected=False), LoginRefused)
