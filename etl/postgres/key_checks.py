"""Check values: they recognise a key by its id's first use, and say nothing about the key.

A token names its key by the id only. So another key under the same id would go unnoticed: a load
would give equal values other tokens, and searches would miss the rows from before.
"""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import KeyringError
from etl.postgres.queries import queries

_PURPOSE = "key check"
_HEX_DIGITS = 32  # 128 bits, so that no two keys share a check value


@dataclass(frozen=True)
class KeyCheck:
    """The first use of a key by a job for a table."""

    job: str
    target: str  # schema.table
    key_id: str
    check_value: str
    first_used_at: dt.datetime


def check_value(keyring: Keyring, key_id: str) -> str:
    """Make the check value of a key: HMAC-SHA-256 (RFC 2104), cut to 128 bits, in hex.

    Its key is derived from the key itself, for this purpose only.
    """
    digest = hmac.digest(keyring.derive(_PURPOSE, key_id), key_id.encode(), "sha256")
    return digest.hex()[:_HEX_DIGITS]


def read(connection: sa.Connection, settings: Settings) -> list[KeyCheck]:
    """Read the check values that concern a job: those of its name, and those of its table."""
    parameters = {"job": settings.job_name, "target": settings.table.full_name}
    rows = connection.execute(queries()["key_checks"], parameters).mappings()
    return [KeyCheck(**row) for row in rows]


def read_all(connection: sa.Connection) -> list[KeyCheck]:
    """Read the check values of all jobs."""
    rows = connection.execute(queries()["all_key_checks"]).mappings()
    return [KeyCheck(**row) for row in rows]


def check(keyring: Keyring, known: Sequence[KeyCheck]) -> None:
    """Check that each key is the one that was first used under its id.

    :raises KeyringError: names the key id, and when and by which job it was first used
    """
    for first in known:
        if first.key_id not in keyring.key_ids:
            continue
        if hmac.compare_digest(first.check_value, check_value(keyring, first.key_id)):
            continue
        when = f"{first.first_used_at.astimezone(dt.UTC):%Y-%m-%d at %H:%M} UTC"
        raise KeyringError(
            f"key {first.key_id!r} of this keyring is not the key that job {first.job!r} first "
            f"used under this id, on {when} for table {first.target!r}; restore the copy of that "
            "keyring; never make a new one, because no other key opens what is stored"
        )


def missing(settings: Settings, keyring: Keyring, known: Sequence[KeyCheck]) -> list[str]:
    """List the ids of the keys that this job has not used for this table before."""
    here = settings.job_name, settings.table.full_name
    used = {first.key_id for first in known if (first.job, first.target) == here}
    return [key_id for key_id in keyring.key_ids if key_id not in used]


def add(
    connection: sa.Connection, settings: Settings, keyring: Keyring, key_ids: Sequence[str]
) -> None:
    """Record the first use of keys."""
    for key_id in key_ids:
        connection.execute(
            queries()["add_key_check"],
            {
                "job": settings.job_name,
                "target": settings.table.full_name,
                "key_id": key_id,
                "check_value": check_value(keyring, key_id),
            },
        )
