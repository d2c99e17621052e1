"""Whether the database keeps what it has committed, as it was written.

A session can only ask for what the server and the tables are made for. Checked before the first
receive, and before the officer's commands that write rows.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa

from etl.errors import TableError
from etl.postgres.queries import queries, quote_name

log = logging.getLogger(__name__)

# Without them a commit is on its way to the disk when it is answered, or a page can be torn.
_NEEDED_FOR_DURABILITY = ("fsync", "full_page_writes")


def check_storage(connection: sa.Connection, schema: str, table: str) -> None:
    """Check the database's encoding and that the tables survive a crash of the server.

    A server that does not wait for its disk is only warned about: rows are lost there when its
    machine crashes, and that may be accepted, as it is for a test.

    :raises TableError: the encoding cannot hold every text, or a crash empties one of the tables
    """
    check_encoding(connection)
    check_crash_leaves_rows(connection, schema, table)
    if off := durability_settings_off(connection):
        log.warning(
            "the database server runs with %s = off: a crash of its machine loses rows whose "
            "messages have already been deleted",
            " and ".join(off),
        )


def check_encoding(connection: sa.Connection) -> None:
    """Check that the database can store every text.

    :raises TableError: its encoding cannot
    """
    encoding = connection.exec_driver_sql("show server_encoding").scalar_one()
    if encoding != "UTF8":
        raise TableError(
            f"the encoding of the database is {encoding}, in which not every text can be stored as "
            "it came; use a database with the encoding UTF8: create database ... encoding 'UTF8' "
            "template template0"
        )


def durability_settings_off(connection: sa.Connection) -> list[str]:
    """The settings without which the server does not wait for its disk, if they are off."""
    shown = {
        name: connection.exec_driver_sql(f"show {name}").scalar_one()
        for name in _NEEDED_FOR_DURABILITY
    }
    return [name for name, value in shown.items() if value == "off"]


def check_crash_leaves_rows(connection: sa.Connection, schema: str, table: str) -> None:
    """Check that neither the table, nor a partition of it, nor one of the job's own is unlogged.

    :raises TableError: one is
    """
    parameters = {"schema": schema, "table": table}
    unlogged = connection.execute(queries()["unlogged_tables"], parameters).all()
    if unlogged:
        raise TableError(
            "; ".join(
                f"table '{of}.{name}' is unlogged: a crash of the server empties it after "
                f"its messages have been deleted; run: alter table "
                f"{quote_name(of, name, for_driver=True)} set logged"
                for of, name in unlogged
            )
        )
