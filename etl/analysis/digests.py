"""The rows of a table as numbers, read once: what the duplicate report counts in memory.

The server sends a 64-bit hash of each compared value, seeded with a random number of this report,
and the place of each row. So no value leaves the server before the report knows which ones it
shows, and no file is written. Values have equal hashes if Postgres compares them as equal. That two
of ten million values have the same hash by chance has a probability of 3 in a million; nobody who
does not know the seed can choose such values.
"""

from __future__ import annotations

import io
import secrets
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl.analysis.reader import TIME_TYPES, CannotCount, Reader, TimeType
from etl.analysis.source import Source
from etl.analysis.tally import Numbers
from etl.postgres.queries import filled, quote_name

CHUNK_BYTES = 1 << 20
_UNDEFINED_FUNCTION = "42883"  # SQLSTATE: Postgres is older than 14


@dataclass
class Digests:
    """The rows of a table, each at the same position of all arrays."""

    time_type: TimeType
    values: dict[str, Numbers]  # the hashes of the user and of each compared column; null is 0
    rows: Numbers  # the hash of all compared columns
    times: Numbers
    places: Numbers  # the index in *parts*, the block and the line in it: 15, 32 and 16 bits
    parts: list[int]  # the OIDs of the tables that hold the rows
    keys: pd.DataFrame  # column, place, state (NULL, PLAIN, or of a key) and rows


def read_digests(source: Source, compared: list[str], key_ids: dict[str, str]) -> Digests:
    """Read the rows of a source.

    :param compared: the columns with the values to compare
    :param key_ids: SQL of the key id of a token, by the column whose keys to count
    :raises CannotCount: the source is a view, this role may not read all columns, one has a type
        that ``etl init`` does not make, a time is not in Python's calendar, or memory would be more
        than ``report.memory_mb``. In the last two cases the source's connection is closed.
    """
    time_type, oids = _types(source)
    names = list(dict.fromkeys([source.entity.name, *compared]))
    seed = secrets.randbits(63)
    fields = [_hash(name, oids[name], seed) for name in names]
    fields.append(_hash_of_row({name: oids[name] for name in source.compared}, seed))
    fields.append(f"coalesce({source.fragments()['time']}, '{time_type.null}')")
    fields += ["tableoid", "ctid"]
    fields += [_key_state(name, key_id, seed) for name, key_id in key_ids.items()]
    reader = Reader(
        len(names) + 1, time_type, list(key_ids), source.settings.report.memory_mb << 20
    )
    _copy(source, filled("digests", {**source.fragments(), "fields": ", ".join(fields)}), reader)
    *values, rows, times, places = (reader.column(i) for i in range(len(names) + 3))
    keys = pd.concat([_NO_KEYS, *reader.keys])
    keys = keys.groupby(["column", "state"], as_index=False).agg({"place": "first", "rows": "sum"})
    by_name = dict(zip(names, values, strict=True))
    return Digests(time_type, by_name, rows, times, places, list(reader.parts), keys)


def _types(source: Source) -> tuple[TimeType, dict[str, int]]:
    """Return the type of the time, and the OIDs of the types by column."""
    table = source.settings.table
    names = {"schema": table.schema_name, "name": table.name}
    with source.reading() as connection:
        try:
            with connection.begin_nested():
                answer = connection.execute(sa.text(filled("countable", source.fragments())), names)
                described: Any = answer.cursor.description if answer.cursor else None
                _, _, time, *columns = (column.type_code for column in described)
                if not answer.one()[0]:
                    raise CannotCount
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "pgcode", None) == _UNDEFINED_FUNCTION:
                raise CannotCount from None
            raise
    if time not in TIME_TYPES or not set(columns) <= _HASHED.keys():
        raise CannotCount
    return TIME_TYPES[time], dict(zip(source.columns, columns, strict=True))


# What is hashed of a column, by the OID of its type. Postgres folds an integer of 64 bits, and so a
# time, into 32 bits before it hashes it: 1 and 4294967296 would be equal. Of many other types, such
# as NUMERIC with its NaN, different values have equal hashes too.
_HASHED = {
    16: "{}",  # bool
    17: "{}",  # bytea
    20: "int8send({})",
    21: "{}",  # int2
    23: "{}",  # int4
    25: "{}",  # text
    701: "{}",  # float8
    869: "{}",  # inet
    1043: "{}",  # varchar
    1082: "{}",  # date
    1083: "time_send({})",
    1114: "timestamp_send({})",
    1184: "timestamptz_send({})",
    2950: "{}",  # uuid
}
_TEXTS = (25, 1043)


def _hash(name: str, oid: int, seed: int) -> str:
    column = quote_name(name)
    if oid in _TEXTS:  # takes half the time
        return f"coalesce(hashtextextended({column}, {seed}), 0)"
    return f"case when {column} is null then 0 else {_hash_of_row({name: oid}, seed)} end"


def _hash_of_row(oids: dict[str, int], seed: int) -> str:
    hashed = ", ".join(_HASHED[oid].format(quote_name(name)) for name, oid in oids.items())
    return f"hash_record_extended(row({hashed}), {seed})"


NULL, PLAIN = 0, 1  # states of a value; any other state is that of a token, by its key


def _key_state(name: str, key_id: str, seed: int) -> str:
    return (
        f"case when {quote_name(name)} is null then {NULL} "
        f"else coalesce(hashtextextended({key_id}, {seed}) | 2, {PLAIN}) end"
    )


_NO_KEYS = pd.DataFrame({"column": [], "state": [], "place": [], "rows": []}).astype(
    {"column": "str", "state": "int64", "place": "int64", "rows": "int64"}
)


def _copy(source: Source, text: str, reader: Reader) -> None:
    with source.reading() as connection:
        compiled = str(sa.text(text).compile(dialect=connection.dialect))
        driver: Any = connection.connection.dbapi_connection
        try:
            with driver.cursor() as cursor, io.BufferedWriter(reader, CHUNK_BYTES) as file:
                statement = cursor.mogrify(compiled, source.bounds).decode()
                cursor.copy_expert(f"copy ({statement}) to stdout (format binary)", file)
        except BaseException:
            # Otherwise a rollback would first receive the remaining rows.
            connection.invalidate()
            raise
    reader.check_end()
