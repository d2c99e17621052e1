"""A masking bulk loader from Amazon SQS to Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.version import __version__

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from etl.analysis.source import Source

__all__ = ["__version__", "connect", "duplicates", "quality"]


def connect(config: str | Path | None = None, table: str | None = None) -> Source:
    """Open the target table for analysis: ``etl.duplicates`` takes what this returns.

    :param config: the settings; by default the file that ``ETL_CONFIG`` names, or else the nearest
        ``config.yaml`` in the working directory and the folders above it
    :param table: which one, if the job has several: ``name`` or ``schema.name``
    :raises SettingsError: a setting or ``DATABASE_URL`` is missing or wrong, or there is no such
        table
    :raises UsageError: the job has several tables, and none is named
    """
    # Here and not above: ``import etl`` alone stays light.
    from etl.analysis.opening import open_source

    return open_source(config, table=table)


def __getattr__(name: str) -> ModuleType:
    """Import ``etl.duplicates`` and ``etl.quality`` when they are first used."""
    from importlib import import_module

    if name in ("duplicates", "quality"):
        return import_module(f"etl.analysis.{name}")
    raise AttributeError(f"module 'etl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
