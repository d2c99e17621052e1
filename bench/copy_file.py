"""COPY of a prepared file: the fastest way to load rows that are already masked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import psycopg2

from bench import processes
from bench.load_target import Target


def write_csv(bare: pd.DataFrame, folder: Path) -> Path:
    """Write the rows to a CSV file in the folder; return its path."""
    file = folder / "rows.csv"
    bare.to_csv(file, index=False, header=False)
    return file


def find_copy(target: Target, file: Path) -> tuple[str, Callable[[], Any]]:
    """Return the way to copy a prepared file: by psql if it runs here, otherwise by psycopg2."""
    for psql in (str(processes.postgres_program("psql")), "psql"):
        try:
            processes.run([psql, "--version"])
        except (OSError, processes.ProgramFailed):
            continue
        return r"psql \copy", partial(_copy_by_psql, psql, target, file)
    return "psycopg2 copy_expert of a prepared file", partial(_copy_by_psycopg2, target, file)


def _copy_by_psql(psql: str, target: Target, file: Path) -> float:
    """Copy the file; return the seconds that psql reports, which do not include its start."""
    address = urlsplit(target.url)
    copy = rf"\copy {target.name} from '{file}' with (format csv)"
    cost = processes.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", r"\timing on", "-c", copy],
        {
            "PGHOST": address.hostname or "",
            "PGPORT": str(address.port),
            "PGUSER": unquote(address.username or ""),
            "PGPASSWORD": unquote(address.password or ""),
            "PGDATABASE": address.path.lstrip("/"),
            "LC_ALL": "C",
        },
    )
    # "Time: 123.456 ms"; from one second on "(00:01.234)" follows.
    return float(cost.output.split("Time: ")[1].split()[0]) / 1000


def _copy_by_psycopg2(target: Target, file: Path) -> None:
    with (
        closing(psycopg2.connect(target.url)) as connection,
        connection,
        connection.cursor() as cursor,
        file.open() as text,
    ):
        cursor.copy_expert(f"copy {target.name} from stdin with (format csv)", text)
