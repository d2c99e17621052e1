"""Reads what the database remembers of the first use of a job's keys and masked columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from etl.config import Settings
from etl.crypto import seal
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused
from etl.postgres import contexts, evidence, key_checks
from etl.postgres.contexts import FirstLoad
from etl.postgres.evidence import Evidence
from etl.postgres.key_checks import KeyCheck
from etl.postgres.queries import queries, quote_name

_TABLES = {"key_checks", "masked_columns"}


@dataclass(frozen=True)
class Memory:
    """What the database knows of a table, and samples of what is stored for what it does not."""

    settings: Settings  # of this table
    keys: Sequence[KeyCheck] = ()
    columns: Sequence[FirstLoad] = ()
    evidence: Evidence = field(default_factory=Evidence)


def read(connection: sa.Connection, settings: Settings, keyring: Keyring) -> list[Memory]:
    """Read what is known and, if that is not all, what else keys and contexts can be tested on."""
    memories = read_known(connection, settings)
    headers = {key_id: seal.header(key_id) for key_id in keyring.key_ids}
    for number, memory in enumerate(memories):
        known = {first.key_id for first in memory.keys}
        table = memory.settings.table
        if not known.issuperset(keyring.key_ids) or contexts.missing(table, memory.columns):
            found = evidence.gather(connection, memory.settings, headers)
            memories[number] = replace(memory, evidence=found)
    return memories


def read_known(connection: sa.Connection, settings: Settings) -> list[Memory]:
    """Read what is known: for each table of the job, in the order of the settings."""
    each = settings.of_each_table()
    # A database of an earlier version has no such tables, and so remembers nothing.
    if check_rights(connection, "readable", "read") < _TABLES:
        return [Memory(one) for one in each]
    return [
        Memory(one, key_checks.read(connection, one), contexts.read(connection, one.table))
        for one in each
    ]


def check_rights(connection: sa.Connection, right: str, verb: str) -> set[str]:
    """Check a right of the session's role on the two tables; returns those that exist."""
    rows = connection.execute(queries()["first_use_rights"]).mappings().all()
    refused = sorted(str(row["name"]) for row in rows if not row[right])
    if refused:
        role = connection.exec_driver_sql("select current_user").scalar_one()
        raise DatabaseRefused(
            f"role {role!r} may not {verb} etl.{refused[0]} (SQLSTATE 42501); for a role of this "
            "program run 'etl init --roles' again as the owner, else: grant select, insert on "
            f"etl.key_checks, etl.masked_columns to {quote_name(str(role), for_driver=True)}"
        )
    return {str(row["name"]) for row in rows}
