"""The duplicate report beside a plain count, at a million rows and at ten million."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg2
import sqlalchemy as sa

from bench import markdown, paired_runs, processes, services
from bench.services import Options, Services
from etl.analysis import duplicates
from etl.analysis.source import Source
from etl.postgres.engine import open_engine
from etl.postgres.tables import create_indexes

ROWS, QUICK_ROWS = 1_000_000, 5_000
TIMES = 10  # the big table beside the small one
FILL_ROWS = 1_000_000  # rows that one statement adds
TOP = 20

PLAIN, REPORT = "a plain count", "report duplicates"
BARE, INDEXED = "without indexes", "with two indexes"
INDEXES = (("masked_ip", "user_id"), ("masked_device_id", "user_id"))

# Three logins a user; most devices and addresses are of one user, some of a household, and a few of
# a network's thousands, by a power law.
FILL = """
insert into user_logins
select md5('user ' || who)::uuid::text, 'android',
       'k1.' || rtrim(translate(encode(sha256(convert_to('address ' || address, 'UTF8')), 'base64'),
                                '+/', '-_'), '='),
       'k1.' || rtrim(translate(encode(sha256(convert_to('device ' || device, 'UTF8')), 'base64'),
                                '+/', '-_'), '='),
       'DE', 2003000, date '2026-11-01' + (random() * 29)::integer
from (
    select who,
           case when random() < 0.9 then 'of ' || who || ' ' || (random() * 2)::integer
                else 'shared ' || (:households * random() ^ 3)::bigint end as address,
           case when random() < 0.97 then 'of ' || who || ' ' || (random() ^ 3)::integer
                else 'shared ' || (:households * random() ^ 2)::bigint end as device
    from (select (random() * :users)::bigint as who from generate_series(1, :rows)) as users
) as logins
"""
COUNT = """
select count(*), count(distinct user_id), count(distinct masked_ip),
       count(distinct masked_device_id)
from user_logins
"""


@dataclass(frozen=True)
class Filled:
    """A table of so many made-up rows, open for analysis."""

    source: Source
    url: str
    rows: int

    def add(self, rows: int) -> None:
        """Add rows like those that are there."""
        parameters = {"rows": rows, "users": self.rows // 3, "households": self.rows // 30}
        with self.source.engine.begin() as connection:
            connection.execute(sa.text(FILL), parameters)

    def rest(self) -> None:
        """Let the server come to rest, with its statistics made."""
        with closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            connection.cursor().execute("vacuum analyze user_logins")


def measure(options: Options) -> dict[str, Any]:
    """Ask both tables everything, the big one once: its times are long and of one kind."""
    small = options.messages or (QUICK_ROWS if options.quick else ROWS)
    with services.opened(1) as here:
        with _filled(here, small) as table:
            runs = {"small": paired_runs.in_turns(_questions(table), options.runs)}
            load = paired_runs.in_turns(_loading(table, small), options.runs)
            _index(table)
            runs["indexed"] = paired_runs.in_turns(_questions(table), options.runs)
            load |= paired_runs.in_turns(_loading(table, small, INDEXED), options.runs)
        with _filled(here, TIMES * small) as table:
            runs["big"] = paired_runs.in_turns(_questions(table), 1)
    reports = {size: _column(own[REPORT], "wall_seconds") for size, own in runs.items()}
    plain = {size: _column(own[PLAIN], "wall_seconds") for size, own in runs.items()}
    return {
        "rows": small,
        "big_rows": TIMES * small,
        "load_rows": _loaded(small),
        "ratios": {
            "duplicates.report_over_plain": paired_runs.ratio(reports["big"], plain["big"]),
            "duplicates.peak_mb": paired_runs.spread(_column(runs["big"][REPORT], "peak_mb")),
            "duplicates.indexed_load_over_bare": paired_runs.ratio(load[INDEXED], load[BARE]),
        },
        "table": {
            size: {
                name: paired_runs.spread(_column(each, "wall_seconds"))
                for name, each in own.items()
            }
            for size, own in runs.items()
        },
        "load": {name: paired_runs.spread(own) for name, own in load.items()},
        "peaks": {
            size: paired_runs.spread(_column(own[REPORT], "peak_mb")) for size, own in runs.items()
        },
        "runs": {**runs, "load": load},
    }


def _column(measured: list[dict[str, float]], name: str) -> list[float]:
    return [one[name] for one in measured]


@contextmanager
def _filled(here: Services, rows: int) -> Iterator[Filled]:
    with here.database() as url:
        settings = here.settings(url)
        made = Filled(Source(open_engine(settings.database), settings), url, rows)
        began = time.perf_counter()
        try:
            for start in range(0, rows, FILL_ROWS):
                made.add(min(FILL_ROWS, rows - start))
                paired_runs.say(f"table: from row {start:,}, {time.perf_counter() - began:.0f} s")
            made.rest()
            yield made
        finally:
            made.source.engine.dispose()


def _questions(table: Filled) -> dict[str, Callable[[], dict[str, float]]]:
    asked: dict[str, Callable[[], Any]] = {
        PLAIN: partial(_count, table.source),
        "headline": partial(duplicates.headline, table.source),
        "exact_rows": partial(duplicates.exact_rows, table.source, top=TOP),
        "shared_values": partial(duplicates.shared_values, table.source, top=TOP),
        "users_with_many": partial(duplicates.users_with_many, table.source, top=TOP),
        "distribution": partial(duplicates.distribution, table.source),
        "repeats": partial(duplicates.repeats, table.source, top=TOP),
        "linked": partial(duplicates.linked, table.source, top=TOP),
    }
    timed = {name: partial(_timed, ask) for name, ask in asked.items()}
    return {**timed, REPORT: partial(_report, table.url)}


def _count(source: Source) -> None:
    with source.reading() as connection:
        connection.execute(sa.text(COUNT)).all()


def _timed(ask: Callable[[], Any]) -> dict[str, float]:
    return {"wall_seconds": paired_runs.seconds_of(ask)}


def _report(url: str) -> dict[str, float]:
    """The whole command, as a process of its own; its memory is the client's alone."""
    command = processes.python("-m", "etl", "report", "duplicates")
    cost = processes.run(command, {"DATABASE_URL": url}, memory=True)
    assert cost.peak_mb is not None
    return {"wall_seconds": cost.wall_seconds, "peak_mb": cost.peak_mb}


def _index(table: Filled) -> None:
    own = table.source.settings.table.model_copy(update={"indexes": INDEXES})
    create_indexes(table.source.engine, own)
    table.rest()


def _loaded(rows: int) -> int:
    return max(rows // 10, 1)


def _loading(table: Filled, rows: int, name: str = BARE) -> dict[str, Callable[[], float]]:
    # By the server alone, so that nothing but the table and its indexes is measured.
    return {name: partial(paired_runs.seconds_of, partial(table.add, _loaded(rows)))}


def show(part: dict[str, Any]) -> list[str]:
    """The part in Markdown."""
    table, ratios, load = part["table"], part["ratios"], part["load"]
    sizes = {"small": part["rows"], "indexed": part["rows"], "big": part["big_rows"]}
    heads = [f"{rows:,} rows{', indexed' if size == 'indexed' else ''}, s"
             for size, rows in sizes.items()]  # fmt: skip
    lines = [
        [name, *(markdown.shown(table[size][name], 1) for size in sizes)] for name in table["big"]
    ]
    peaks = [f"peak memory of `{REPORT}`, MiB",
             *(markdown.shown(part["peaks"][size], 0) for size in sizes)]  # fmt: skip
    return [
        (
            "A plain count is `select count(*), count(distinct ...)` of the user and both masked "
            "columns. The report is the whole command, the others are "
            "functions of `etl.duplicates`. The big table was asked once."
        ),
        "",
        *markdown.table(["question", *heads], [*lines, peaks]),
        "",
        *markdown.table(
            [f"inserting {part['load_rows']:,} rows", "s"],
            [[name, markdown.shown(load[name], 2)] for name in (BARE, INDEXED)],
        ),
        "",
        *markdown.table(
            ["key", "measured"],
            [
                [f"`{name}`", markdown.shown(ratios[name], 0 if name.endswith("mb") else 2)]
                for name in ratios
            ],
        ),
    ]
