"""A masking bulk loader from Amazon SQS to Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from etl.source import Source

__version__ = "0.1.0"


def connect(config: str | Path | None = None) -> Source:
    """Open the target table for analysis: ``etl.duplicates`` takes what this returns.

    :param config: the settings; by default the file that ``ETL_CONFIG`` names, or else the nearest
        ``config.yaml`` in the working directory and the folders above it
    :raises SettingsError: a setting or ``DATABASE_URL`` is missing or wrong
    """
    # Here and not above: ``import etl`` alone stays light.
    import etl.duplicates  # noqa: F401  (so that it is there without an import of the caller's own)
    from etl.source import open_source

    return open_source(config)
