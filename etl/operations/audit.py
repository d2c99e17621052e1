"""The audit, ``etl.unmask_audit``: who saw or removed plain values, when and why.

The audit row is committed before the first value is shown. If it cannot be, nothing is shown.
"""

from __future__ import annotations

import hmac
import json
import os
import pwd
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa

from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused, EtlError
from etl.postgres.engine import transaction
from etl.postgres.queries import queries
from etl.postgres.tables import query_frame

_PURPOSE = "audit"


@dataclass(frozen=True)
class AuditEntry:
    """An action on plain values that is about to happen; it holds none of them."""

    action: str  # the command
    reason: str  # as the user gave it
    scope: str  # which tokens, rows or entries
    columns: Sequence[str]  # fields of the event
    count: int  # of tokens, rows or bodies


def write(engine: sa.Engine, entry: AuditEntry, subjects: Iterable[str], keyring: Keyring) -> None:
    """Commit an audit row; only after that may the values be shown.

    :param subjects: the tokens, or the ids of sealed bodies, for their HMAC
    :raises EtlError: the row was not written, or may not have been; nothing may be shown
    """
    try:
        with transaction(engine) as connection:
            add(connection, entry, subjects, keyring)
    except EtlError as error:
        kind = DatabaseRefused if isinstance(error, DatabaseRefused) else type(error)
        raise kind(f"nothing is shown, because the audit row cannot be written: {error}") from None


def add(
    connection: sa.Connection, entry: AuditEntry, subjects: Iterable[str], keyring: Keyring
) -> None:
    """Add an audit row in the caller's transaction."""
    connection.execute(
        queries()["add_audit"],
        {
            "os_user": _os_user(),
            "host": socket.gethostname(),
            "action": entry.action,
            "reason": entry.reason,
            "scope": entry.scope,
            "columns": list(entry.columns),
            "count": entry.count,
            "key_id": keyring.primary,
            "fingerprint": subjects_hmac(subjects, keyring),
        },
    )


def subjects_hmac(subjects: Iterable[str], keyring: Keyring) -> str:
    """HMAC-SHA-256 (RFC 2104), in hex, of the distinct subjects in order, as a JSON array.

    The key is derived from the primary key. So the holder of the keyring can tell whether a row is
    about given tokens, and nobody without it can test tokens against a row.
    """
    distinct = json.dumps(sorted(set(subjects)))
    return hmac.digest(keyring.derive(_PURPOSE), distinct.encode(), "sha256").hex()


def newest_rows(engine: sa.Engine, limit: int) -> pd.DataFrame:
    """Return the newest audit rows, newest first, with the columns of ``etl.unmask_audit``."""
    return query_frame(engine, "list_audit", {"limit": limit})


def _os_user() -> str:
    # Not getpass, which trusts the environment.
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
