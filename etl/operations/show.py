"""Opens one quarantined message as it was received, after writing an audit row."""

from __future__ import annotations

import sqlalchemy as sa

from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import UnmaskError, UsageError
from etl.operations import audit
from etl.operations.entries import (
    QuarantineEntry,
    Selection,
    check_job,
    list_entries,
    read_open,
    unseal_entries,
)
from etl.postgres.engine import transaction
from etl.sqs.attributes import Attributes, without_attributes


def open_entry(
    engine: sa.Engine, keyring: Keyring, settings: Settings, quarantine_id: int, reason: str
) -> tuple[QuarantineEntry, str, Attributes]:
    """Return the entry, and its body and attributes as they were received.

    :raises UsageError: no entry has this id, it belongs to another job, or its body is gone
    :raises UnmaskError: the keyring cannot open it
    :raises EtlError: the audit row could not be written
    """
    check_job(engine, Selection((quarantine_id,), job=settings.job_name))
    with transaction(engine) as connection:
        entries = read_open(connection, [quarantine_id])
    if not entries:
        raise UsageError(_why_not_open(engine, quarantine_id))
    masked = (table.masked_fields for table in settings.tables)
    fields = sorted({*entries[0].masked_fields}.union(*masked))
    audited = audit.AuditEntry("quarantine show", reason, f"entry {quarantine_id}", fields, 1)
    audit.write(engine, audited, [entries[0].message_id], keyring)
    ((entry, body),) = unseal_entries(entries, keyring)
    if body is None:
        raise UnmaskError(
            f"entry {quarantine_id} was not sealed by this keyring for this message, or was changed"
        )
    return entry, *without_attributes(body)


def _why_not_open(engine: sa.Engine, quarantine_id: int) -> str:
    tombstones = list_entries(engine, Selection((quarantine_id,)), 1, closed=True)
    if tombstones.empty:
        return f"entry {quarantine_id} does not exist; see: etl quarantine list --entries"
    return f"entry {quarantine_id} is {tombstones['closed_as'].iloc[0]}; its body is gone"
