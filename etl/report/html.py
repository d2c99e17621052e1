"""The duplicate report as one self-contained HTML page, which loads nothing and sends nothing.

What the page looks like is in ``templates/report.html``; this module says what is on it, in words.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from etl.crypto.tokens import TOKEN
from etl.frames import time_text
from etl.report import charts
from etl.report.build import Report, Section
from etl.report.charts import Chart
from etl.report.jinja import fill_template, read_verbatim
from etl.text import counted
from etl.version import __version__

# The sections shown as tables, in this order; the figures at the top and the charts show the rest.
TABLES = (
    "shared_values",
    "users_with_many",
    "groups",
    "ties",
    "exact_rows",
    "repeats",
    "columns",
)
TOKEN_CHARACTERS = 14  # enough to tell the tokens of a page apart at a glance
MAX_RANKED = 10


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    numeric: bool
    sort_key: Any = None  # None for a null, which is sorted to the end
    short: str = ""  # shown until a click unfolds the text


@dataclass(frozen=True)
class PageTable:
    """A frame, ready for ``templates/table.html``."""

    caption: str
    headings: list[Cell]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class PageSection:
    """A section of the report with its table and its query."""

    name: str
    title: str
    about: str
    table: PageTable
    query: str


@dataclass(frozen=True)
class Plot:
    """A chart with its title, and the numbers that it shows as a table."""

    title: str
    about: str
    chart: Chart
    table: PageTable


def write_page(report: Report, file: Path) -> None:
    """Write the page to a file."""
    file.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """Make the page of a report."""
    style = read_verbatim("report.css")
    script = read_verbatim("report.js")
    return fill_template(
        "report.html",
        style=style,
        style_hash=_sha256(style),
        script=script,
        script_hash=_sha256(script),
        title=f"Duplicates in {report.table}",
        subtitle=f"{report.time:%Y-%m-%d %H:%M:%S} UTC{_span(report)}",
        figures=_figures(report),
        notes=report.notes,
        plots=list(_plots(report)),
        sections=[_page_section(report.sections[name]) for name in TABLES],
        facts={**report.facts(), "made by": f"etl {__version__}"},
    )


def _span(report: Report) -> str:
    if report.first is None or report.last is None:
        return ""
    return f"; rows from {_text(report.first)} to {_text(report.last)}"


def _figures(report: Report) -> dict[str, str]:
    columns = report.sections["columns"].frame
    groups = report.sections["all_groups"].frame.iloc[0]
    figures = {
        "rows": report.rows,
        "users": report.users,
        "surplus rows": report.surplus_rows,
        "shared values": columns["shared_values"].sum(),
        "linked groups": groups["groups"],
        "linked users": groups["users"],
    }
    return {name: f"{number:,}" for name, number in figures.items()}


def _plots(report: Report) -> Iterator[Plot]:
    distribution = report.sections["distribution"]
    series = {
        str(column): list(zip(points["users"], points["values"], strict=True))
        for column, points in distribution.frame.groupby("column", sort=False)
    }
    chart = charts.dots(series, "users", "values", distribution.title)
    yield _plot(distribution, chart, distribution.about)

    groups = report.sections["groups"]
    largest = groups.frame.head(MAX_RANKED)
    pairs = zip(largest["group"], largest["users"], strict=True)
    sizes = {f"group {group}": int(users) for group, users in pairs}
    chart = charts.ranking(sizes, "users", groups.title)
    yield _plot(groups, chart, "The largest groups by number of users.")

    days = report.sections["over_time"]
    if len(days.frame):
        counts = zip(days.frame["day"].dt.date, days.frame["surplus_rows"], strict=True)
        surplus = {day: int(rows) for day, rows in counts}
        chart = charts.days(surplus, "surplus rows", days.title)
        yield _plot(days, chart, "Rows of each UTC day that repeat another row in every column.")


def _plot(section: Section, chart: Chart, about: str) -> Plot:
    return Plot(section.title, about, chart, _page_table(section.frame))


def _page_section(section: Section) -> PageSection:
    table = _page_table(section.frame)
    return PageSection(section.name, section.title, section.about, table, section.query)


def _page_table(frame: pd.DataFrame) -> PageTable:
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    return PageTable(
        caption=counted(len(frame), "row"),
        headings=[Cell(str(name), n) for name, n in zip(frame.columns, numeric, strict=True)],
        rows=[
            list(map(_cell, values, numeric)) for values in frame.itertuples(index=False, name=None)
        ],
    )


def _cell(value: Any, numeric: bool) -> Cell:
    if pd.isna(value):
        return Cell("", numeric)
    if isinstance(value, str) and re.match(TOKEN, value):
        return Cell(value, numeric, value, f"{value[:TOKEN_CHARACTERS]}…")
    return Cell(_text(value), numeric, value)


def _text(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return time_text(value, " UTC")
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return value if isinstance(value, str) else f"{value:,}"


def _sha256(text: str) -> str:
    """The hash of a text as a Content-Security-Policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
