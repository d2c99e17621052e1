"""The duplicate report as files: a page to read; CSV, Parquet, a workbook for further work.

Each carries the query, the time, the number of rows and the key ids. Parquet and workbooks need
libraries that the job itself does without: ``requirements-report.txt``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from etl.errors import SettingsError
from etl.report.build import Report, Section
from etl.report.html import render

ABOUT = "report.json"
MAX_SHEET_ROWS = 1_048_575  # that a worksheet has beside its head
# A spreadsheet takes what begins so for a formula, and formulas can call programs and send data.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def html(report: Report, file: Path) -> None:
    """Write the page of :mod:`etl.report.html`."""
    file.write_text(render(report), encoding="utf-8")


def csv(report: Report, folder: Path) -> None:
    """Write a file for each table, and :data:`ABOUT`, into a folder, which is made if absent.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for section in report.sections.values():
        frame = section.frame.rename(columns=_harmless).map(_harmless)
        frame.to_csv(folder / f"{section.name}.csv", index=False)
    about = {**report.facts(), "notes": report.notes, "tables": _tables(report)}
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (folder / ABOUT).write_text(f"{text}\n", encoding="utf-8")


def parquet(report: Report, folder: Path) -> None:
    """Write a file for each table into a folder; what :func:`csv` puts beside it is its metadata.

    :raises SettingsError: pyarrow is not installed
    """
    arrow: Any = _optional("pyarrow", "--parquet")
    files: Any = import_module("pyarrow.parquet")
    folder.mkdir(parents=True, exist_ok=True)
    for section in report.sections.values():
        table = arrow.Table.from_pandas(section.frame, preserve_index=False)
        about = json.dumps({**report.facts(), **_table(section)})
        own = {**(table.schema.metadata or {}), b"etl": about.encode()}
        files.write_table(table.replace_schema_metadata(own), folder / f"{section.name}.parquet")


def workbook(report: Report, file: Path) -> None:
    """Write a workbook with a sheet for each table, after one about the report.

    :raises SettingsError: XlsxWriter is not installed, or a table is too long for a sheet
    """
    _optional("xlsxwriter", "--xlsx")
    plain = {"strings_to_formulas": False, "strings_to_urls": False}
    facts = {**report.facts(), **dict.fromkeys(report.notes, "")}
    sheets = {
        "report": pd.DataFrame(facts.items(), columns=["fact", "value"]),
        "tables": pd.DataFrame(_tables(report).values()),
        **{section.name: section.frame for section in report.sections.values()},
    }
    for name, frame in sheets.items():
        if len(frame) > MAX_SHEET_ROWS:
            raise SettingsError(f"{name!r} has too many rows for a sheet; lower --top")
    with pd.ExcelWriter(file, engine="xlsxwriter", engine_kwargs={"options": plain}) as writer:
        for name, frame in sheets.items():
            _without_zones(frame).to_excel(writer, sheet_name=name, index=False)


def _tables(report: Report) -> dict[str, dict[str, Any]]:
    return {name: _table(section) for name, section in report.sections.items()}


def _table(section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "title": section.title,
        "about": section.about,
        "table rows": len(section.frame),
        "query": section.query,
    }


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _without_zones(frame: pd.DataFrame) -> pd.DataFrame:
    # A worksheet knows no time zones; all times here are UTC.
    zoned = frame.select_dtypes("datetimetz")
    return frame.assign(**{str(n): zoned[n].dt.tz_localize(None) for n in zoned})


def _optional(module: str, option: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise SettingsError(
            f"{option} needs {module}, which the job does without; install it apart from the job: "
            "pip install -r requirements-report.txt"
        ) from None


# By the option of the command: what writes the report there.
WRITERS: dict[str, Callable[[Report, Path], None]] = {
    "html": html,
    "csv": csv,
    "parquet": parquet,
    "xlsx": workbook,
}
