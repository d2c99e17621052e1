"""Seals the quarantined bodies of other keys under the primary key, some entries at a time."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from etl.crypto import seal
from etl.crypto.keyring import Keyring
from etl.postgres.insertion import copy_rows
from etl.postgres.queries import queries

# Limits of one transaction, which locks its entries while it lasts. Bodies are a few MiB at most,
# and each is in memory several times.
MAX_ENTRIES = 500
MAX_BODY_BYTES = 8 * 1024 * 1024

_BATCH = sa.table("etl_reseal")


def reseal_entries(
    connection: sa.Connection, job: str, after: int, keyring: Keyring
) -> tuple[int, int, int | None]:
    """Bring the job's next bodies under the primary key, in the caller's transaction.

    :param after: id of the last entry that was visited before, 0 for the first call
    :returns: the number of entries changed, the number that no key opens, and the id of the last
        entry visited, which is None if there was none
    """
    parameters = {
        "job": job,
        "header": seal.header(keyring.primary),
        "after": after,
        "entries": MAX_ENTRIES,
        "bytes": MAX_BODY_BYTES,
    }
    entries = connection.execute(queries()["quarantine_of_other_keys"], parameters).all()
    if not entries:
        return 0, 0, None
    bodies = seal.unseal_each(
        [entry.body for entry in entries], [entry.message_id for entry in entries], keyring
    )
    opened = [
        (entry.quarantine_id, entry.message_id, body)
        for entry, body in zip(entries, bodies, strict=True)
        if body is not None
    ]
    ids, message_ids, plain = zip(*opened, strict=True) if opened else ((), (), ())
    _replace_bodies(connection, ids, seal.seal(plain, message_ids, keyring))
    return len(opened), len(entries) - len(opened), entries[-1].quarantine_id


def _replace_bodies(connection: sa.Connection, ids: Sequence[int], sealed: Sequence[bytes]) -> None:
    connection.exec_driver_sql(
        f"create temporary table {_BATCH.name} (quarantine_id bigint, body bytea) on commit drop"
    )
    if sealed:
        # The text form of bytea in COPY: see "bytea Hex Format" in PostgreSQL's documentation.
        bodies = [f"\\x{body.hex()}" for body in sealed]
        copy_rows(_BATCH, connection, ["quarantine_id", "body"], zip(ids, bodies, strict=True))
    connection.execute(queries()["put_sealed_bodies"])


def count_bodies_of_other_keys(connection: sa.Connection, job: str, keyring: Keyring) -> int:
    """Count the job's bodies that are not sealed under the primary key."""
    parameters = {"job": job, "header": seal.header(keyring.primary)}
    return int(connection.execute(queries()["count_bodies_of_other_keys"], parameters).scalar_one())
