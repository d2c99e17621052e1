"""Stored tokens and bodies, on which keys and contexts are tested that the database does not know.

A database of an earlier version has tokens and no check values. The first keyring that comes would
be recorded, whatever is in it. So some of what is stored must open first.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from etl.config import Column, Settings, Table
from etl.crypto import siv
from etl.crypto.keyring import Keyring
from etl.crypto.tokens import MIN_SEALED_CHARACTERS, associated_data
from etl.postgres.queries import filled, queries, quote_name
from etl.schema import masked_columns

# A scan of a whole table would keep a run from starting. In 200,000 rows without a token of two of
# three keys, this took 0.5 s.
MAX_ROWS = 100_000
MAX_ENTRIES = 1_000
# One that opens proves the key. Several are tried, since one may have been changed.
EACH = 20

Token = tuple[str, str]  # the column's name and the key id


@dataclass(frozen=True)
class Evidence:
    """Tokens by column and key id, bodies by key id, and whether the role may read the tokens."""

    tokens: Mapping[Token, Sequence[str]] = field(default_factory=dict)
    bodies: Mapping[str, Sequence[tuple[str, bytes]]] = field(default_factory=dict)
    is_readable: bool = True

    @property
    def key_ids(self) -> set[str]:
        """The ids of the keys that made them."""
        return {key_id for _, key_id in self.tokens} | set(self.bodies)


def gather(connection: sa.Connection, settings: Settings, headers: Mapping[str, bytes]) -> Evidence:
    """Read some of the job's tokens and bodies of some keys, as far as the session's role may.

    :param headers: by key id, what a body begins with that the key sealed
    """
    table = settings.table
    # Of all kinds: a column that is now one-way or partial must not hold recoverable tokens.
    masked = [column.name for column in table.columns if column.mask]
    readable = _readable_columns(connection, table.schema_name, table.name)
    names = [name for name in masked if name in readable]
    bodies: dict[str, list[tuple[str, bytes]]] = {}
    in_quarantine = _readable_columns(connection, "etl", "quarantine")
    if "body" in in_quarantine:
        # In an earlier version an entry does not say whose it is.
        of_job = "job = :job" if "job" in in_quarantine else "cast(:job as text) is not null"
        statement = sa.text(filled("stored_bodies", {"of_job": of_job}))
        parameters = {
            "job": settings.job_name,
            "key_ids": list(headers),
            "headers": list(headers.values()),
            "entries": MAX_ENTRIES,
            "each": EACH,
        }
        for row in connection.execute(statement, parameters):
            bodies.setdefault(row.key_id, []).append((row.message_id, bytes(row.body)))
    tokens = _tokens(connection, table, names, headers) if names else {}
    return Evidence(tokens, bodies, len(names) == len(masked))


def _readable_columns(connection: sa.Connection, schema: str, name: str) -> set[str]:
    parameters = {"schema": schema, "name": name}
    return set(connection.execute(queries()["readable_columns"], parameters).scalars())


def _tokens(
    connection: sa.Connection, table: Table, names: Sequence[str], key_ids: Collection[str]
) -> dict[Token, list[str]]:
    columns = ", ".join(
        f"cast({quote_name(name)} as text) as v{number}" for number, name in enumerate(names)
    )
    # A pattern in place of the length would take as long as all the rest together.
    of_each_column = " union all ".join(
        f"""
        select :name{number} as name, key_id, token
        from unnest(cast(:key_ids as text[])) as keys (key_id)
        cross join lateral (
            select v{number} as token from oldest
            where starts_with(v{number}, key_id || '.')
              and length(v{number}) > length(key_id) + :sealed
            limit :each
        ) as found
        """  # noqa: S608
        for number in range(len(names))
    )
    statement = f"""
        with oldest as materialized (
            select {columns} from {quote_name(table.schema_name, table.name)} limit :rows
        )
        {of_each_column}
        """  # noqa: S608
    parameters = {
        "key_ids": list(key_ids),
        "rows": MAX_ROWS,
        "each": EACH,
        "sealed": MIN_SEALED_CHARACTERS,
        **{f"name{number}": name for number, name in enumerate(names)},
    }
    found: dict[Token, list[str]] = {}
    for name, key_id, token in connection.execute(sa.text(statement), parameters):
        found.setdefault((name, key_id), []).append(token)
    return found


def opening_contexts(evidence: Evidence, keyring: Keyring, table: Table) -> dict[Token, str | None]:
    """Find the context under which a key opens the tokens of a column; None if there is none.

    The column's own context is tried first, then the other names that may have been its context.
    """
    contexts = {column.name: _contexts(column, table) for column in table.columns if column.mask}
    return {
        (name, key_id): next(
            (context for context in contexts[name] if _opens(keyring, key_id, tokens, context)),
            None,
        )
        for (name, key_id), tokens in evidence.tokens.items()
    }


def _contexts(column: Column, table: Table) -> Iterable[str]:
    others = [
        name for other in masked_columns(table) for name in (other.masking_context, *other.fields)
    ]
    guesses = (column.name, column.name.removeprefix("masked_"))
    return dict.fromkeys([column.masking_context, *column.fields, *guesses, *others])


def _opens(keyring: Keyring, key_id: str, tokens: Iterable[str], context: str) -> bool:
    sealed = []
    for token in tokens:
        encoded = token.partition(".")[2]
        with contextlib.suppress(ValueError):
            sealed.append(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    opened = siv.open_each(keyring.key(key_id), sealed, [associated_data(key_id, context)])
    return any(value is not None for value in opened)
