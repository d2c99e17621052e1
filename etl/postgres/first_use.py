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
from etl.postgres.key_checks import KeyCheck
from etl.postgres.queries import queries, quote_name
from etl.postgres.watchdog import limited_engine

log = logging.getLogger(__name__)

_TABLES = {"key_checks", "masked_columns"}


@dataclass(frozen=True)
class _Memory:
    """What the database knows, and samples of what is stored for what it does not know."""

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
        memory = _read(connection, settings, keyring)
    _check(memory, settings, keyring)


def check_recordable(engine: sa.Engine, settings: Settings, keyring: Keyring) -> None:
    """Check that the role may record what is left to record. Records nothing.

    :raises DatabaseRefused: it may not
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        if not _is_all_known(_read_known(connection, settings), settings, keyring):
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
            memory = _read(connection, settings, keyring)
    except EtlError as error:
        log.warning("keys and contexts were not compared with the database: %s", error)
        return not isinstance(error, LoginRefused | DatabaseUnavailable)
    _check(memory, settings, keyring)
    return True


def record(connection: sa.Connection, settings: Settings, keyring: Keyring) -> None:
    """Check as :func:`check` does, and record the first uses in the caller's transaction.

    :raises EtlError: as :func:`check`, or the role may not record; nothing is recorded
    """
    known = _read_known(connection, settings)
    if _is_all_known(known, settings, keyring):
        _check(known, settings, keyring)
        return
    # What another transaction records meanwhile must fit, too.
    connection.execute(queries()["lock_first_use"])
    memory = _read(connection, settings, keyring)
    _check(memory, settings, keyring)
    _check_rights(connection, "writable", "write")
    _warn_of_replaced(memory, settings, keyring)
    _warn_of_second_table(memory, settings)
    # A masked column that is not known may be a known one under a new name.
    columns = contexts.missing(settings, memory.columns)
    is_new = not memory.keys or any(column.mask for column in columns)
    if is_new and not memory.evidence.is_readable:
        _warn_of_untested(connection, settings)
    key_ids = key_checks.missing(settings, keyring, memory.keys)
    key_checks.add(connection, settings, keyring, key_ids)
    contexts.add(connection, settings, columns, keyring)
    fields = {"job": settings.job_name, "fields": list(settings.event.drop)}
    connection.execute(queries()["add_dropped_fields"], fields)


def _is_all_known(memory: _Memory, settings: Settings, keyring: Keyring) -> bool:
    """Whether nothing is left to record for this job and its table."""
    return not (
        key_checks.missing(settings, keyring, memory.keys)
        or contexts.missing(settings, memory.columns)
        or set(settings.event.drop).difference(memory.dropped)
    )


def _read(connection: sa.Connection, settings: Settings, keyring: Keyring) -> _Memory:
    """Read what is known and, if that is not all, what else keys and contexts can be tested on."""
    memory = _read_known(connection, settings)
    known = {first.key_id for first in memory.keys}
    if known.issuperset(keyring.key_ids) and not contexts.missing(settings, memory.columns):
        return memory
    headers = {key_id: seal.header(key_id) for key_id in keyring.key_ids}
    return replace(memory, evidence=evidence.gather(connection, settings, headers))


def _read_known(connection: sa.Connection, settings: Settings) -> _Memory:
    # A database of an earlier version has no such tables, and so remembers nothing.
    existing = _check_rights(connection, "readable", "read")
    if not existing.issuperset(_TABLES):
        return _Memory()
    dropped: Sequence[str] = ()
    if "dropped_fields" in existing:
        job = {"job": settings.job_name}
        dropped = connection.execute(queries()["dropped_fields"], job).scalars().all()
    keys = key_checks.read(connection, settings)
    return _Memory(keys, contexts.read(connection, settings.table), dropped)


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


def _check(memory: _Memory, settings: Settings, keyring: Keyring) -> None:
    key_checks.check(keyring, memory.keys)
    contexts.check(settings.table, memory.columns)
    own = [c for c in memory.columns if c.job == settings.job_name]
    once_masked.check_plain(settings, [(c.column_name, c.context, c.fields, c.kind) for c in own])
    once_masked.check_dropped(settings, memory.dropped)
    contexts.check_one_way_key(settings.table, memory.columns, keyring)
    _check_evidence(memory, settings, keyring)


def _check_evidence(memory: _Memory, settings: Settings, keyring: Keyring) -> None:
    """Check that keys and contexts that are not recorded open what is stored."""
    table = settings.table
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
    for column in contexts.missing(settings, memory.columns):
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


def _warn_of_replaced(memory: _Memory, settings: Settings, keyring: Keyring) -> None:
    used = sorted({first.key_id for first in memory.keys})
    if used and not set(used) & set(keyring.key_ids):
        log.warning(
            "this keyring has none of the keys that were used for table %r before (%s), so equal "
            "values get other tokens from now on; if it replaces a lost keyring, restore its copy",
            settings.table.full_name,
            ", ".join(used),
        )


def _warn_of_second_table(memory: _Memory, settings: Settings) -> None:
    job, table = settings.job_name, settings.table.full_name
    targets = {first.target for first in memory.keys if first.job == job}
    if targets and table not in targets:
        log.warning(
            "job %r has loaded into %s before, and begins to load into %r; events with equal ids, "
            "or an equal ledger.key, count as one event in both; if this is not the same job, stop "
            "it and set 'job.name' to a name of its own",
            job,
            ", ".join(map(repr, sorted(targets))),
            table,
        )


def _warn_of_untested(connection: sa.Connection, settings: Settings) -> None:
    if connection.execute(queries()["has_history"]).scalar_one():
        log.warning(
            "the keys and contexts are recorded without a test on stored tokens, because this role "
            "may not read table %r; make sure that the keyring opens them: etl unmask",
            settings.table.full_name,
        )
