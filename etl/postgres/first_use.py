"""What the database remembers of the first use of each key and of each masked column.

A keyring or a configuration that does not fit it is refused before anything is received, stored or
shown. Commands that only look compare; those that store what a key made also record first uses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from etl.config import Column, Settings, Table
from etl.crypto import seal
from etl.crypto.keyring import Keyring
from etl.errors import (
    DatabaseUnavailable,
    EtlError,
    KeyringError,
    LoginRefused,
    SettingsError,
)
from etl.postgres import contexts, evidence, first_uses, key_checks, once_masked
from etl.postgres.engine import transaction
from etl.postgres.evidence import Evidence
from etl.postgres.first_uses import Memory
from etl.postgres.queries import queries
from etl.postgres.watchdog import limited_engine

log = logging.getLogger(__name__)


def check(engine: sa.Engine, settings: Settings, keyring: Keyring) -> None:
    """Check that keyring and configuration are those of the first use. Records nothing.

    :raises KeyringError: a key id has another key than at its first use
    :raises SettingsError: a masked column has another context or canonical form, or is not masked
    :raises DatabaseRefused: the role may not read what the database remembers
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        memories = first_uses.read(connection, settings, keyring)
    _check(memories, keyring)


def check_recordable(engine: sa.Engine, settings: Settings, keyring: Keyring) -> None:
    """Check that the role may record what is left to record. Records nothing.

    :raises DatabaseRefused: it may not
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        if not _is_all_known(first_uses.read_known(connection, settings), keyring):
            first_uses.check_rights(connection, "writable", "write")


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
            memories = first_uses.read(connection, settings, keyring)
    except EtlError as error:
        log.warning("keys and contexts were not compared with the database: %s", error)
        return not isinstance(error, LoginRefused | DatabaseUnavailable)
    _check(memories, keyring)
    return True


def record(connection: sa.Connection, settings: Settings, keyring: Keyring) -> None:
    """Check as :func:`check` does, and record the first uses in the caller's transaction.

    :raises EtlError: as :func:`check`, or the role may not record; nothing is recorded
    """
    known = first_uses.read_known(connection, settings)
    if _is_all_known(known, keyring):
        _check(known, keyring)
        return
    # What another transaction records meanwhile must fit, too.
    connection.execute(queries()["lock_first_use"])
    memories = first_uses.read(connection, settings, keyring)
    _check(memories, keyring)
    first_uses.check_rights(connection, "writable", "write")
    for memory in memories:
        _record(connection, memory, keyring)


def _record(connection: sa.Connection, memory: Memory, keyring: Keyring) -> None:
    settings = memory.settings
    _warn_of_replaced(memory, keyring)
    _warn_of_second_table(memory)
    # A masked column that is not known may be a known one under a new name.
    is_new = not memory.keys or contexts.missing(settings.table, memory.columns)
    if is_new and not memory.evidence.is_readable:
        _warn_of_untested(connection, settings)
    key_ids = key_checks.missing(settings, keyring, memory.keys)
    key_checks.add(connection, settings, keyring, key_ids)
    columns = contexts.missing(settings.table, memory.columns)
    contexts.add(connection, settings, columns, keyring)


def _is_all_known(memories: Sequence[Memory], keyring: Keyring) -> bool:
    """Whether nothing is left to record for this job and its tables."""
    return not any(
        key_checks.missing(memory.settings, keyring, memory.keys)
        or contexts.missing(memory.settings.table, memory.columns)
        for memory in memories
    )


def _check(memories: Sequence[Memory], keyring: Keyring) -> None:
    # What the job has masked in one of its tables, no other may store as it comes.
    masked = [
        (first.column_name, first.context, first.fields)
        for memory in memories
        for first in memory.columns
        if first.job == memory.settings.job_name
    ]
    for memory in memories:
        table = memory.settings.table
        key_checks.check(keyring, memory.keys)
        contexts.check(table, memory.columns)
        once_masked.check_plain(memory.settings, masked)
        contexts.check_one_way_key(table, memory.columns, keyring)
        _check_evidence(memory, keyring)


def _check_evidence(memory: Memory, keyring: Keyring) -> None:
    """Check that keys and contexts that are not recorded open what is stored."""
    table = memory.settings.table
    opening = evidence.opening_contexts(memory.evidence, keyring, table)
    proven = {first.key_id for first in memory.keys}
    proven |= {key_id for (_, key_id), context in opening.items() if context is not None}
    proven |= _keys_that_open_bodies(memory.evidence, keyring)
    for key_id in keyring.key_ids:
        if key_id in memory.evidence.key_ids - proven:
            raise KeyringError(
                f"key {key_id!r} of this keyring opens nothing of what is stored under its id in "
                f"{table.full_name!r} and the quarantine; restore the copy of the keyring that was "
                "used before, and never make a new one (if the fields of all masked columns were "
                "renamed, give the columns their old 'context' instead)"
            )
    for column in contexts.missing(table, memory.columns):
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


def _check_no_recoverable(column: Column, memory: Memory, table: Table) -> None:
    if any(name == column.name for name, _ in memory.evidence.tokens):
        raise SettingsError(
            f"column {column.name!r} of {table.full_name!r} holds tokens of 'mask: true', and is "
            f"now masked with {column.mask_kind!r}; give the new tokens a column of their own"
        )


def _keys_that_open_bodies(found: Evidence, keyring: Keyring) -> set[str]:
    entries = [entry for same_key in found.bodies.values() for entry in same_key]
    owners = [key_id for key_id, same_key in found.bodies.items() for _ in same_key]
    bodies = seal.unseal_each(
        [body for _, body in entries], [message_id for message_id, _ in entries], keyring
    )
    return {key_id for key_id, body in zip(owners, bodies, strict=True) if body is not None}


def _warn_of_replaced(memory: Memory, keyring: Keyring) -> None:
    used = sorted({first.key_id for first in memory.keys})
    if used and not set(used) & set(keyring.key_ids):
        log.warning(
            "this keyring has none of the keys that were used for table %r before (%s), so equal "
            "values get other tokens from now on; if it replaces a lost keyring, restore its copy",
            memory.settings.table.full_name,
            ", ".join(used),
        )


def _warn_of_second_table(memory: Memory) -> None:
    job, table = memory.settings.job_name, memory.settings.table.full_name
    targets = {first.target for first in memory.keys if first.job == job}
    # A job with routes loads into several from the beginning.
    if targets and targets.isdisjoint(t.full_name for t in memory.settings.tables_of_job):
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
