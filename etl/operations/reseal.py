"""The quarantine's bodies of other keys, sealed under the primary one, some entries at a time."""

from __future__ import annotations

import sqlalchemy as sa

from etl.crypto import seal
from etl.crypto.keyring import Keyring
from etl.postgres.copy import copy_rows
from etl.postgres.queries import queries

# In one transaction, locked for its length. The bytes are of bodies, which are a few MiB long at
# most, and in memory several times over.
ENTRIES, ENTRY_BYTES = 500, 8 * 1024 * 1024

_BATCH = sa.table("etl_reseal")


def reseal_entries(
    connection: sa.Connection, after: int, keyring: Keyring
) -> tuple[int, int, int | None]:
    """Bring the next bodies under the primary key, in the caller's transaction.

    :param after: the last entry that was looked at before, 0 to begin with
    :returns: entries changed, entries that no key opens, and the last entry looked at: None if
        there was none
    """
    wanted = {
        "header": seal.header(keyring.primary),
        "after": after,
        "entries": ENTRIES,
        "bytes": ENTRY_BYTES,
    }
    found = connection.execute(queries()["quarantine_of_other_keys"], wanted).all()
    if not found:
        return 0, 0, None
    bodies = seal.unseal_each([e.body for e in found], [e.message_id for e in found], keyring)
    opened = [
        (entry.quarantine_id, entry.message_id, body)
        for entry, body in zip(found, bodies, strict=True)
        if body is not None
    ]
    ids, message_ids, plain = zip(*opened, strict=True) if opened else ((), (), ())
    sealed = seal.seal(plain, message_ids, keyring)
    connection.exec_driver_sql(
        f"create temporary table {_BATCH.name} (quarantine_id bigint, body bytea) on commit drop"
    )
    # As bytea is spelt in COPY's text: see "bytea Hex Format" in PostgreSQL's documentation.
    spelt = [f"\\x{body.hex()}" for body in sealed]
    if spelt:
        copy_rows(_BATCH, connection, ["quarantine_id", "body"], zip(ids, spelt, strict=True))
    connection.execute(queries()["put_sealed_bodies"])
    return len(opened), len(found) - len(opened), found[-1].quarantine_id


def count_others(connection: sa.Connection, keyring: Keyring) -> int:
    """How many bodies are not sealed under the primary key."""
    header = {"header": seal.header(keyring.primary)}
    return int(connection.execute(queries()["count_bodies_of_other_keys"], header).scalar_one())
