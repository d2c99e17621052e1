"""What a target needs so that its rows can be found and replaced by ``table.key``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa

from etl.config import Table
from etl.errors import TableError
from etl.postgres.columns import quoted, table_text
from etl.postgres.engine import transaction
from etl.postgres.queries import queries, quote_name

_TABLE_KINDS = ("r", "p")  # ordinary and partitioned


def problems_of_replacing(connection: sa.Connection, table: Table, kind: str) -> Iterator[str]:
    """Why conflicts cannot be found or resolved in the target, if that is configured.

    :param kind: of the target, as in ``pg_class.relkind``
    """
    if table.on_conflict == "error":
        return
    target = quoted(table.schema_name, table.name)
    names: dict[str, Any] = {"schema": table.schema_name, "name": table.name}
    if kind not in _TABLE_KINDS:
        yield (
            f"{table_text(table)} is a view or a foreign table, and '{table.section}.on_conflict' "
            f"needs a unique index; name the table behind it in '{table.section}.name'"
        )
        return
    keys = connection.execute(queries()["unique_keys"], names).scalars()
    if not any(set(columns) == set(table.key) for columns in keys):
        columns = ", ".join(map(quoted, table.key))
        yield (
            f"{table_text(table)} has no unique index of exactly the columns in "
            f"'{table.section}.key' (without a condition, and not deferrable); run: create "
            f"unique index on {target} ({columns})"
        )
    needed = [{"privilege": right, "name": name} for right, name in needed_rights(table)]
    lacking: dict[str, list[str]] = {}
    role = connection.execute(sa.text("select current_user")).scalar_one()
    for what, privilege in connection.execute(
        queries()["rights_to_replace"], {**names, "needed": json.dumps(needed)}
    ):
        lacking.setdefault(what, []).append(privilege)
    if rights := lacking.get("right"):
        yield (
            f"role {role!r} may not {' or '.join(rights)} in {table_text(table)}, which "
            f"'on_conflict: {table.on_conflict}' needs; run: grant {', '.join(rights)} on {target} "
            f"to {quoted(role)}"
        )
    for privilege in lacking.get("policy", ()):
        yield (
            f"{table_text(table)} has row-level security, and no policy lets role {role!r} "
            f"{privilege}, which 'on_conflict: {table.on_conflict}' needs; run: create policy ... "
            f"on {target} for {privilege} to {quoted(role)} using (...)"
        )


def check_tokens_of_key(
    engine: sa.Engine, table: Table, primary: str, key_ids: Collection[str]
) -> None:
    """Check that the rows of a masked key can be found: all tokens are of the primary key.

    Under another key the same value is another token. A new row would be added, and rekey would
    then find two rows of one key.

    :param primary: id of the key that makes tokens
    :param key_ids: of all keys of the keyring
    :raises TableError: a column of ``table.key`` holds tokens of another key
    :raises DatabaseUnavailable: an outage
    """
    masked = [
        column.name
        for column in table.columns
        if column.is_recoverable and column.name in table.key
    ]
    if not masked:
        return
    target = quote_name(table.schema_name, table.name)
    with transaction(engine) as connection:
        used = connection.execute(queries()["keys_used_in"], {"target": table.full_name}).scalars()
        # Nearly always there is one key, and then no row is read.
        if {*used, *key_ids} == {primary}:
            return
        for name in masked:
            others = sa.text(
                f"select exists (select from {target} "  # noqa: S608
                f"where not starts_with({quote_name(name)}, :prefix))"
            )
            if connection.execute(others, {"prefix": f"{primary}."}).scalar_one():
                raise TableError(
                    f"column {name!r} of {table_text(table)} is in '{table.section}.key' and holds "
                    f"tokens of another key than {primary!r}, so its rows would not be found; "
                    "before the next run, run: etl rekey"
                )


def needed_rights(table: Table) -> list[tuple[str, str]]:
    """The rights beside INSERT that a load needs, each with a column."""
    if table.on_conflict == "error":
        return []
    if table.on_conflict == "skip":
        return [("select", name) for name in table.key]
    names = [column.name for column in table.columns]
    return [("select", name) for name in names] + [
        ("update", name) for name in names if name not in table.key
    ]
