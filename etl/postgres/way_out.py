"""The way out of a statement that the database refuses for want of a right, a schema or a table.

The server says so in its own language, and names the object at best. What the statement was about
to do is known here, and what is missing for it is in the catalogue, which every role may read.
"""

from __future__ import annotations

import json
import re
from typing import Any

import sqlalchemy as sa

from etl.errors import ConfigurationError, DatabaseRefused, EtlError
from etl.postgres.queries import queries, quote_name
from etl.postgres.sqlstate import NO_COLUMN, NO_PRIVILEGE, NO_SCHEMA, NO_TABLE, sqlstate_of

_READ_ONLY = "25006"

# What a statement does with which tables. Ours write a schema before each name.
_NAME = r'((?:"(?:[^"]|"")+"|\w+)\.(?:"(?:[^"]|"")+"|\w+))'
_COLUMNS = re.compile(rf"\binsert\s+into\s+{_NAME}\s*\(([^()]*)\)", re.IGNORECASE)
_CREATED = re.compile(
    rf"\bcreate\s+(?:schema|table)\s+(?:if\s+not\s+exists\s+)?({_NAME[1:-1]}|\w+)", re.IGNORECASE
)
_PART = re.compile(r'"((?:[^"]|"")+)"|(\w+)')
_USES = {
    "insert": re.compile(rf"\binsert\s+into\s+{_NAME}", re.IGNORECASE),
    "update": re.compile(rf"\bupdate\s+{_NAME}", re.IGNORECASE),
    "delete": re.compile(rf"\bdelete\s+from\s+{_NAME}", re.IGNORECASE),
    "select": re.compile(rf"(?<!\bdelete\s)\b(?:from|join)\s+{_NAME}", re.IGNORECASE),
}


def way_out(engine: sa.Engine, error: BaseException, translated: EtlError) -> EtlError:
    """Return an error that says what to run or to change.

    :param error: what a statement on this engine has raised; its transaction is over
    :param translated: what is returned if there is no more to say
    """
    sqlstate = sqlstate_of(error)
    ask = {
        NO_PRIVILEGE: _missing_rights,
        NO_SCHEMA: _missing_objects,
        NO_TABLE: _missing_objects,
        NO_COLUMN: _missing_column,
        _READ_ONLY: _read_only,
    }.get(sqlstate or "")
    if ask is None:
        return translated
    statement = str(getattr(error, "statement", None) or "")
    try:
        with engine.connect() as connection:
            found = ask(connection, statement, sqlstate or "")
            if found is None and sqlstate == NO_PRIVILEGE:
                found = _some_right(connection, translated)
    except (sa.exc.SQLAlchemyError, EtlError):
        return translated
    return found or translated


def _missing_rights(connection: sa.Connection, statement: str, sqlstate: str) -> EtlError | None:
    role = _role(connection)
    to_role = f"to {_quoted(role)}"
    if closed := _closed_to_creation(connection, statement):
        return DatabaseRefused(
            f"role {role!r} may not create anything in {closed} (SQLSTATE {sqlstate}); as its "
            f"owner, run: grant create on {closed} {to_role}; or let the owner run: etl init"
        )
    found = _used(connection, statement)
    closed_schemas = {row.schema for row in found if row.may_use_schema is False}
    if closed_schemas:
        schema = min(closed_schemas)
        return DatabaseRefused(
            f"role {role!r} may not use schema {schema!r} (SQLSTATE {sqlstate}); as its owner, "
            f"run: grant usage on schema {_quoted(schema)} {to_role}"
        )
    missing: dict[tuple[str, str], list[str]] = {}
    for row in found:
        if row.exists and not row.may:
            missing.setdefault((row.schema, row.name), []).append(row.privilege)
    said = [
        f"role {role!r} may not {' or '.join(rights)} in table '{'.'.join(name)}' (SQLSTATE "
        f"{sqlstate}); as its owner, run: grant {', '.join(rights)} on {_written(*name)} "
        f"{to_role}"
        for name, rights in missing.items()
    ]
    return DatabaseRefused("; ".join(said)) if said else None


def _closed_to_creation(connection: sa.Connection, statement: str) -> str | None:
    """The database or the schema in which a statement creates something and the role may not."""
    schemas = [_parts(found)[0] for found in _CREATED.findall(statement)]
    if not schemas:
        return None
    for kind, name in connection.execute(queries()["closed_to_creation"], {"schema": schemas[0]}):
        return f"{kind} {_quoted(name)}"
    return None


def _some_right(connection: sa.Connection, translated: EtlError) -> EtlError:
    return DatabaseRefused(
        f"{translated}; role {_role(connection)!r} lacks this right: let the owner grant it, or "
        "run the command as the owner"
    )


def _missing_objects(connection: sa.Connection, statement: str, sqlstate: str) -> EtlError | None:
    for row in _used(connection, statement):
        if row.may_use_schema is None:
            first = (
                "" if row.schema == "etl" else f"create schema {_quoted(row.schema)}, and then: "
            )
            return DatabaseRefused(
                f"schema {row.schema!r} is missing (SQLSTATE {sqlstate}); run: {first}etl init"
            )
        if not row.exists:
            return DatabaseRefused(
                f"table '{row.schema}.{row.name}' is missing (SQLSTATE {sqlstate}); create it "
                "with: etl init"
            )
    return None


def _missing_column(connection: sa.Connection, statement: str, sqlstate: str) -> EtlError | None:
    match = _COLUMNS.search(statement)
    if match is None:
        return None
    schema, name = _parts(match[1])
    needed = json.dumps(_parts(match[2]))
    parameters = {"schema": schema, "name": name, "columns": needed}
    missing = connection.execute(queries()["missing_columns"], parameters).scalars().all()
    if not missing:
        return None
    columns = ", ".join(map(repr, missing))
    what = f"table '{schema}.{name}' has no column {columns} (SQLSTATE {sqlstate}); "
    if schema == "etl":
        return DatabaseRefused(f"{what}update it with: etl init")
    added = ", ".join(f"add column {_written(column)} ..." for column in missing)
    return DatabaseRefused(
        f"{what}run: alter table {_written(schema, name)} {added}, or correct the table's 'columns'"
    )


def _read_only(connection: sa.Connection, _: str, sqlstate: str) -> EtlError | None:
    """Say so if the user asked for it; an administrator's guard, or a replica, may end instead."""
    source = connection.execute(queries()["read_only_source"]).scalar()
    if source != "client":
        return None
    return ConfigurationError(
        "nothing can be written, because PGOPTIONS, or ?options= in DATABASE_URL, sets "
        f"default_transaction_read_only (SQLSTATE {sqlstate}); take it out for a command that "
        "writes"
    )


def _used(connection: sa.Connection, statement: str) -> list[Any]:
    """The tables of a statement, what it needs of each, and whether the role has it."""
    needed = [
        {"schema": schema, "name": name, "privilege": privilege}
        for privilege, pattern in _USES.items()
        for schema, name in dict.fromkeys(
            tuple(_parts(found)) for found in pattern.findall(statement)
        )
    ]
    return list(connection.execute(queries()["used_tables"], {"needed": json.dumps(needed)}))


def _role(connection: sa.Connection) -> str:
    return str(connection.exec_driver_sql("select current_user").scalar_one())


def _parts(text: str) -> list[str]:
    """The names in a text, without their quotes."""
    return [quoted.replace('""', '"') or bare for quoted, bare in _PART.findall(text)]


def _written(*names: str) -> str:
    """A name for a person to type; those of the job's own tables need no quotes."""
    return ".".join(names) if names[0] == "etl" else _quoted(*names)


def _quoted(*names: str) -> str:
    return quote_name(*names, for_driver=True)
