"""The duplicate report as one self-contained HTML page, which loads nothing and sends nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any
from xml.etree.ElementTree import Element

import pandas as pd

from etl.crypto.tokens import TOKEN
from etl.report import charts
from etl.report.build import Report, Section
from etl.report.markup import document, node
from etl.version import __version__

# What is shown as a table; the first figures and the charts show the rest.
TABLES = (
    "shared_values", "users_with_many", "groups", "ties", "exact_rows", "repeats", "columns",
)  # fmt: skip
SHOWN_CHARACTERS = 14  # of a token: enough to tell a page's tokens apart by eye
RANKED = 10


def render(report: Report) -> str:
    """The whole page."""
    title = f"Duplicates in {report.table}"
    return document(node("html", {"lang": "en"}, _head(title), _body(report, title)))


def _head(title: str) -> Element:
    style, script = _resource("report.css"), _resource("report.js")
    # Nothing but these two texts, told by their hashes: a value that got into the markup after all
    # would neither run nor load anything.
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return node(
        "head",
        None,
        node("meta", {"charset": "utf-8"}),
        node("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        node("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        node("title", None, title),
        node("style", None, style),
    )


def _body(report: Report, title: str) -> Element:
    return node(
        "body",
        None,
        node(
            "header",
            None,
            node("h1", None, title),
            node("p", {"class": "soft"}, f"{report.time:%Y-%m-%d %H:%M:%S} UTC{_span(report)}"),
        ),
        node("main", None, *_main(report)),
        _footer(report),
        node("script", None, _resource("report.js")),
    )


def _main(report: Report) -> Iterator[Element]:
    yield node("dl", {"class": "figures"}, *_figures(report))
    yield node("ul", None, *(node("li", None, note) for note in report.notes))
    yield node("div", {"class": "plots"}, *_plots(report))
    for name in TABLES:
        yield from _section(report.sections[name])


def _span(report: Report) -> str:
    if report.first is None or report.last is None:
        return ""
    return f"; rows of {_word(report.first)} to {_word(report.last)}"


def _figures(report: Report) -> Iterator[Element]:
    columns = report.sections["columns"].frame
    groups = report.sections["all_groups"].frame.iloc[0]
    figures = {
        "rows": report.rows,
        "users": report.users,
        "surplus rows": report.surplus_rows,
        "values that users share": columns["shared_values"].sum(),
        "linked groups": groups["groups"],
        "users in them": groups["users"],
    }
    for name, number in figures.items():
        yield node("div", None, node("dt", None, name), node("dd", None, f"{number:,}"))


def _plots(report: Report) -> Iterator[Element]:
    spread = report.sections["distribution"]
    series = {
        str(column): list(zip(own["users"], own["values"], strict=True))
        for column, own in spread.frame.groupby("column", sort=False)
    }
    yield _figure(spread, charts.dots(series, "users", "values", spread.title))
    groups = report.sections["groups"]
    largest = groups.frame.head(RANKED)
    sizes = {f"group {g}": int(u) for g, u in zip(largest["group"], largest["users"], strict=True)}
    yield _figure(groups, charts.ranking(sizes, "users", groups.title), "The largest, by users.")
    days = report.sections["over_time"]
    if len(days.frame):
        counted = zip(days.frame["day"].dt.date, days.frame["surplus_rows"], strict=True)
        values = {day: int(surplus) for day, surplus in counted}
        about = "Rows of each UTC day that repeat another one in every column."
        yield _figure(days, charts.days(values, "surplus rows", days.title), about)


def _figure(section: Section, drawn: Element, about: str | None = None) -> Element:
    words = node("figcaption", None, node("b", None, section.title), about or section.about)
    return node("figure", None, words, drawn, _folded("The same as a table", _table(section.frame)))


def _section(section: Section) -> Iterator[Element]:
    yield node("h2", {"id": section.name}, section.title)
    yield node("p", {"class": "soft"}, section.about)
    yield _table(section.frame)
    yield _folded("The query", node("pre", None, section.query))


def _folded(summary: str, inner: Element) -> Element:
    return node("details", {"class": "closed"}, node("summary", None, summary), inner)


def _table(frame: pd.DataFrame) -> Element:
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    heads = [
        node("th", {"scope": "col", **_aligned(number)},
             node("button", {"type": "button"}, str(name)))
        for name, number in zip(frame.columns, numeric, strict=True)
    ]  # fmt: skip
    rows = [
        node("tr", None, *map(_cell, row, numeric))
        for row in frame.itertuples(index=False, name=None)
    ]
    table = node(
        "table",
        None,
        node("caption", None, f"{len(frame):,} rows" if len(frame) != 1 else "1 row"),
        node("thead", None, node("tr", None, *heads)),
        node("tbody", None, *rows),
    )
    return node("div", {"class": "scroll"}, table)


def _aligned(number: bool) -> dict[str, str]:
    return {"class": "number"} if number else {}


def _cell(value: Any, number: bool) -> Element:
    if pd.isna(value):
        return node("td", _aligned(number))
    attributes = {"data-sort": value, **_aligned(number)}
    if isinstance(value, str) and re.match(TOKEN, value):
        return node("td", attributes, _token(value))
    return node("td", attributes, _word(value))


def _token(token: str) -> Element:
    short = node("summary", {"title": token}, node("code", None, f"{token[:SHOWN_CHARACTERS]}…"))
    return node("details", {"class": "token"}, short, node("code", None, token))


def _word(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        # What the server has without a zone are days.
        return value.strftime("%Y-%m-%d" if value.tzinfo is None else "%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return value if isinstance(value, str) else f"{value:,}"


def _footer(report: Report) -> Element:
    rows = [
        node("tr", None, node("th", {"scope": "row"}, name), node("td", None, value))
        for name, value in {**report.facts(), "made by": f"etl {__version__}"}.items()
    ]
    return node("footer", None, node("table", None, node("tbody", None, *rows)))


def _resource(name: str) -> str:
    return resources.files("etl.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
