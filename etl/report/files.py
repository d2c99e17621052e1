"""The duplicate report as files for further work: CSV, Parquet or a workbook.

Each format carries the queries, the time, the number of rows and the key ids. Parquet and workbooks
need libraries that the job runs without: the extra ``report``, in a checkout
``requirements-report.txt``.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from etl.errors import UsageError
from etl.report.build import Report, Section

ABOUT_FILE = "report.json"
MAX_SHEET_ROWS = 1_048_575  # below the header of a worksheet
# A spreadsheet treats a text that starts like this as a formula, and a formula can run programs
# and send data.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(report: Report, folder: Path) -> None:
    """Write a file for each table, and :data:`ABOUT_FILE`; make the folder if it is missing.

    A text that a spreadsheet would treat as a formula gets a leading apostrophe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for section in report.sections.values():
        frame = section.frame.rename(columns=_without_formula).map(_without_formula)
        frame.to_csv(folder / f"{section.name}.csv", index=False)
    about = {**report.facts(), "notes": report.notes, "tables": _tables(report)}
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (folder / ABOUT_FILE).write_text(f"{text}\n", encoding="utf-8")


def write_parquet(report: Report, folder: Path) -> None:
    """Write a file for each table; make the folder if it is missing.

    The metadata of each file says what :data:`ABOUT_FILE` says of it.

    :raises UsageError: pyarrow is not installed
    """
    _check_installed("pyarrow", "--parquet")
    arrow: Any = import_module("pyarrow")
    arrow_parquet: Any = import_module("pyarrow.parquet")
    folder.mkdir(parents=True, exist_ok=True)
    for section in report.sections.values():
        table = arrow.Table.from_pandas(section.frame, preserve_index=False)
        about = json.dumps({**report.facts(), **_table(section)})
        metadata = {**(table.schema.metadata or {}), b"etl": about.encode()}
        arrow_parquet.write_table(
            table.replace_schema_metadata(metadata), folder / f"{section.name}.parquet"
        )


def write_workbook(report: Report, file: Path) -> None:
    """Write a workbook: two sheets about the report, then a sheet for each table.

    :raises UsageError: XlsxWriter is not installed, or a table is too long for a sheet
    """
    _check_installed("xlsxwriter", "--xlsx")
    # In memory, because there may be no folder for temporary files.
    texts_only = {"strings_to_formulas": False, "strings_to_urls": False, "in_memory": True}
    facts = {**report.facts(), **dict.fromkeys(report.notes, "")}
    sheets = {
        "report": pd.DataFrame(facts.items(), columns=["fact", "value"]),
        "tables": pd.DataFrame(_tables(report).values()),
        **{section.name: section.frame for section in report.sections.values()},
    }
    for name, frame in sheets.items():
        if len(frame) > MAX_SHEET_ROWS:
            raise UsageError(f"{name!r} has too many rows for a sheet; lower --top")
    options = {"options": texts_only}
    with pd.ExcelWriter(file, engine="xlsxwriter", engine_kwargs=options) as writer:
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


def _without_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _without_zones(frame: pd.DataFrame) -> pd.DataFrame:
    # A worksheet cannot hold a time zone, and all times here are UTC.
    zoned = frame.select_dtypes("datetimetz")
    return frame.assign(**{str(n): zoned[n].dt.tz_localize(None) for n in zoned})


def _check_installed(module: str, option: str) -> None:
    """Check that the library of an option is there.

    :raises UsageError: it is not
    """
    try:
        import_module(module)
    except ImportError:
        raise UsageError(
            f"{option} needs {module}, which the job does not use; install it in a separate "
            "environment: the extra 'report' (in a checkout: pip install -r "
            "requirements-report.txt)"
        ) from None
