"""What the database remembers of the first use of keys, masked columns and dropped fields.

A keyring or a configuration that does not fit it is refused before anything is received, stored or
shown. Commands that only look compare; those that store what a key made also record first uses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from etl.config import Column, Settings, Table
from etl.crypto import seal
from etl.crypto.keyring import Keyring
from etl.errors import (
    DatabaseRefused,
    DatabaseUnavailable,
    EtlError,
    KeyringError,
    LoginRefused,
    SettingsError,
)
from etl.postgres import contexts, evidence, key_checks, once_masked
from etl.postgres.contexts import FirstLoad
from etl.postgres.engine import transaction
from etl.postgres.evidence import Evidence
from etl.postgres.first_use_warnings import (
    warn_of_replaced,
    warn_of_second_table,
    warn_of_untested,
)
from etl.postgres.key_checks import KeyCheck
from etl.postgres.queries import queries, quote_name
from etl.postgres.watchdog import limited_engine

log = logging.getLogger(__name__)

_TABLES = {"key_checks", "masked_columns"}


@dataclass(frozen=True)
class _Memory:
    """What the database knows of a table, and samples of what is stored for what it does not."""

    settings: Settings  # of this table
    keys: Sequence[KeyCheck] = ()
    columns: Sequence[FirstLoad] = ()
    dropped: Sequence[str] = ()
    evidence: Evidence = field(default_factory=Evidence)


def check(engine: sa.Engine, settings: Settings, keyring: Keyring) -> None:
    """Check that keyring and configuration are those of the first use. Records nothing.

    :raises KeyringError: a key id has another key than at its first use
    :raises SettingsError: a masked column has another context or canonical form, or is not masked;
        or what was masked or dropped would be stored as it comes
    :raises DatabaseRefused: the role may not read what the database remembers
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        memories = _read(connection, settings, keyring)
    _check(memories, keyring)


def check_recordable(engine: sa.Engine, settings: Settings, keyring: Keyring) -> None:
    """Check that the role may record what is left to record. Records nothing.

    :raises DatabaseRefused: it may not
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        if not _is_all_known(_read_known(connection, settings), keyring):
            _check_rights(connection, "writable", "write")


def check_if_reachable(
    settings: Settings, keyring: Keyring, is_stopped: Callable[[], bool] = lambda: False
) -> bool:
    """Check as :func:`check` does, for a command that needs no database.

    :param is_stopped: ends the wait for a database that does not answer, or for a lock
    :returns: whether the database took the login
    :raises KeyringError, SettingsError: as :func:`check`
    """
    if settings.database.url is None:
        return False
    try:
        with (
            limited_engine(settings.database, is_stopped) as engine,
            transaction(engine) as connection,
        ):
            memories = _read(connection, settings, keyring)
    except EtlError as error:
        log.warning("keys and contexts were not compared with the database: %s", error)
        return not isinstance(error, LoginRefused | DatabaseUnavailable)
    _check(memories, keyring)
    return True


def record(connection: sa.Connection, settings: Settings, keyring: Keyring) -> None:
    """Check as :func:`check` does, and record the first uses in the caller's transaction.

    :raises EtlError: as :func:`check`, or the role may not record; nothing is recorded
    """
    known = _read_known(connection, settings)
    if _is_all_known(known, keyring):
        _check(known, keyring)
        return
    # What another transaction records meanwhile must fit, too.
    connection.execute(queries()["lock_first_use"])
    memories = _read(connection, settings, keyring)
    _check(memories, keyring)
    _check_rights(connection, "writable", "write")
    for memory in memories:
        _record(connection, memory, keyring)
    fields = {"job": settings.job_name, "fields": list(settings.event.drop)}
    connection.execute(queries()["add_dropped_fields"], fields)


def _record(connection: sa.Connection, memory: _Memory, keyring: Keyring) -> None:
    settings = memory.settings
    warn_of_replaced(settings, {first.key_id for first in memory.keys}, keyring.key_ids)
    targets = {first.target for first in memory.keys if first.job == settings.job_name}
    warn_of_second_table(settings, targets)
    # A masked column that is not known may be a known one under a new name.
    columns = contexts.missing(settings, memory.columns)
    is_new = not memory.keys or any(column.mask for column in columns)
    if is_new and not memory.evidence.is_readable:
        warn_of_untested(connection, settings)
    key_ids = key_checks.missing(settings, keyring, memory.keys)
    key_checks.add(connection, settings, keyring, key_ids)
    contexts.add(connection, settings, columns, keyring)


def _is_all_known(memories: Sequence[_Memory], keyring: Keyring) -> bool:
    """Whether nothing is left to record for this job and its tables."""
    return not any(
        key_checks.missing(memory.settings, keyring, memory.keys)
        or contexts.missing(memory.settings, memory.columns)
        or set(memory.settings.event.drop).difference(memory.dropped)
        for memory in memories
    )


def _read(connection: sa.Connection, settings: Settings, keyring: Keyring) -> list[_Memory]:
    """Read what is known and, if that is not all, what else keys and contexts can be tested on."""
    memories = _read_known(connection, settings)
    headers = {key_id: seal.header(key_id) for key_id in keyring.key_ids}
    for number, memory in enumerate(memories):
        known = {first.key_id for first in memory.keys}
        one = memory.settings
        if not known.issuperset(keyring.key_ids) or contexts.missing(one, memory.columns):
            found = evidence.gather(connection, one, headers)
            memories[number] = replace(memory, evidence=found)
    return memories


def _read_known(connection: sa.Connection, settings: Settings) -> list[_Memory]:
    """Read what is known: for each table of the job, in the order of the settings."""
    each = settings.of_each_table()
    # A database of an earlier version has no such tables, and so remembers nothing.
    existing = _check_rights(connection, "readable", "read")
    if not existing.issuperset(_TABLES):
        return [_Memory(one) for one in each]
    dropped: Sequence[str] = ()
    if "dropped_fields" in existing:
        job = {"job": settings.job_name}
        dropped = connection.execute(queries()["dropped_fields"], job).scalars().all()
    return [
        _Memory(
            one, key_checks.read(connection, one), contexts.read(connection, one.table), dropped
        )
        for one in each
    ]


def _check_rights(connection: sa.Connection, right: str, verb: str) -> set[str]:
    """Check a right of the session's role on the tables; returns those that exist."""
    rows = connection.execute(queries()["first_use_rights"]).mappings().all()
    refused = sorted(str(row["name"]) for row in rows if not row[right])
    if refused:
        role = connection.exec_driver_sql("select current_user").scalar_one()
        raise DatabaseRefused(
            f"role {role!r} may not {verb} etl.{refused[0]} (SQLSTATE 42501); for a role of this "
            "program run 'etl init --roles' again as the owner, else: grant select, insert on "
            "etl.key_checks, etl.masked_columns, etl.dropped_fields to "
            f"{quote_name(str(role), for_driver=True)}"
        )
    return {str(row["name"]) for row in rows}


def _check(memories: Sequence[_Memory], keyring: Keyring) -> None:
    # What the job has masked in one of its tables, no other may store as it comes.
    masked = [
        (first.column_name, first.context, first.fields, first.kind)
        for memory in memories
        for first in memory.columns
        if first.job == memory.settings.job_name
    ]
    for memory in memories:
        table = memory.settings.table
        key_checks.check(keyring, memory.keys)
        contexts.check(table, memory.columns)
        once_masked.check_plain(memory.settings, masked)
        once_masked.check_dropped(memory.settings, memory.dropped)
        contexts.check_one_way_key(table, memory.columns, keyring)
        _check_evidence(memory, keyring)


def _check_evidence(memory: _Memory, keyring: Keyring) -> None:
    """Check that keys and contexts that are not recorded open what is stored."""
    table = memory.settings.table
    opening = evidence.opening_contexts(memory.evidence, keyring, table)
    proven = {first.key_id for first in memory.keys}
    proven |= {key_id for (_, key_id), context in opening.items() if context is not None}
    proven |= seal.keys_that_open(memory.evidence.bodies, keyring)
    for key_id in keyring.key_ids:
        if key_id in memory.evidence.key_ids - proven:
            raise KeyringError(
                f"key {key_id!r} of this keyring opens nothing of what is stored under its id in "
                f"{table.full_name!r} and the quarantine; restore the copy of the keyring that was "
                "used before, and never make a new one (if the fields of all masked columns were "
                "renamed, give the columns their old 'context' instead)"
            )
    for column in contexts.missing(memory.settings, memory.columns):
        if not column.is_recoverable:
            _check_no_recoverable(column, memory, table)
            continue
        found = [
            context
            for (name, key_id), context in opening.items()
            if name == column.name and key_id in proven
        ]
        if found and column.masking_context not in found:
            raise contexts.unlike_stored_tokens(column, table, next(filter(None, found), None))


def _check_no_recoverable(column: Column, memory: _Memory, table: Table) -> None:
    if any(name == column.name for name, _ in memory.evidence.tokens):
        raise SettingsError(
            f"column {column.name!r} of {table.full_name!r} holds tokens of 'mask: true', and is "
            f"now masked with {column.mask_kind!r}; give the new tokens a column of their own"
        )
