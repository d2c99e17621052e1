"""Opens the table that is analysed, for a notebook or a program that names no configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from etl import config
from etl.analysis.source import Source
from etl.postgres.engine import open_engine
from etl.postgres.variables import with_tokens

FILE = "config.yaml"
# Which table of several, for a notebook that `etl report notebook --table` runs.
TABLE_VARIABLE = "ETL_NOTEBOOK_TABLE"


def open_source(
    path: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    table: str | None = None,
) -> Source:
    """Open the target table for analysis; see :func:`etl.connect`."""
    variables = os.environ if environment is None else environment
    settings = config.load(Path(path or variables.get("ETL_CONFIG") or _nearest()), variables)
    settings = config.one_table(
        with_tokens(settings, variables), table or variables.get(TABLE_VARIABLE) or None, "table="
    )
    return Source(open_engine(settings.database), settings)


def _nearest() -> Path:
    # A notebook works in its own folder, below the one with the configuration.
    try:
        here = Path.cwd()
    except FileNotFoundError:  # somebody has deleted it
        return Path(FILE)
    files = (folder / FILE for folder in (here, *here.parents))
    return next((file for file in files if file.is_file()), Path(FILE))
