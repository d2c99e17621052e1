"""One quarantined message in the plain, with an audit row first."""

from __future__ import annotations

import sqlalchemy as sa

from etl.config import Table
from etl.crypto.keyring import Keyring
from etl.errors import SettingsError, UnmaskError
from etl.operations import audit, entries
from etl.operations.entries import QuarantineEntry, Selection
from etl.postgres.engine import transaction


def open_entry(
    engine: sa.Engine, keyring: Keyring, table: Table, quarantine_id: int, reason: str
) -> tuple[QuarantineEntry, str]:
    """The entry, and the body as it was received.

    :raises SettingsError: there is none of this id, or its body is gone
    :raises UnmaskError: the keyring cannot open it
    :raises EtlError: the audit row could not be written
    """
    with transaction(engine) as connection:
        found = entries.read(connection, [quarantine_id])
    if not found:
        tombstones = entries.listed(engine, Selection((quarantine_id,)), 1, closed=True)
        gone = "; its body is gone" if len(tombstones) else ""
        fate = tombstones["closed_as"].iloc[0] if len(tombstones) else "not there"
        raise SettingsError(f"entry {quarantine_id} is {fate}{gone}")
    fields = [column.source for column in table.columns if column.mask]
    entry = audit.AuditEntry("quarantine show", reason, f"entry {quarantine_id}", fields, 1)
    audit.write(engine, entry, [found[0].message_id], keyring)
    ((_, body),) = entries.opened(found, keyring)
    if body is None:
        raise UnmaskError(
            f"entry {quarantine_id} was not sealed by this keyring for this message, or was changed"
        )
    return found[0], body
