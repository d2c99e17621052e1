"""The duplicate report compared with a plain count, on a million rows and on ten million."""

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
from etl.postgres.creation import create_indexes
from etl.postgres.engine import open_engine

ROWS, QUICK_ROWS = 1_000_000, 5_000
BIG_FACTOR = 10  # the rows of the big table, as a multiple of those of the small one
FILL_ROWS = 1_000_000  # rows that one statement adds
TOP = 20

PLAIN = "a plain count"
REPORT = "report duplicates"
BARE = "without indexes"
INDEXED = "with two indexes"
INDEXES = (("masked_ip", "user_id"), ("masked_device_id", "user_id"))

# Three logins per user. Most devices and addresses belong to one user, some to a household, and a
# few to thousands of users, by a power law.
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
    """A table of made-up rows, open for analysis; *rows* is the planned number."""

    source: Source
    url: str
    rows: int

    def add(self, rows: int) -> None:
        """Add rows drawn like the existing ones."""
        parameters = {"rows": rows, "users": self.rows // 3, "households": self.rows // 30}
        with self.source.engine.begin() as connection:
            connection.execute(sa.text(FILL), parameters)

    def settle(self) -> None:
        """Vacuum the table and collect its statistics, so that the server has no work left."""
        with closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            connection.cursor().execute("vacuum analyze user_logins")


def measure(options: Options) -> dict[str, Any]:
    """Ask all questions of the small table, and of the big one those that are compared."""
    small = options.messages or (QUICK_ROWS if options.quick else ROWS)
    with services.start(1) as running:
        with _filled(running, small) as table:
            runs = {"small": paired_runs.in_turns(_questions(table), options.runs)}
            load = paired_runs.in_turns(_loading(table, small), options.runs)
            _index(table)
            runs["indexed"] = paired_runs.in_turns(_questions(table), options.runs)
            load |= paired_runs.in_turns(_loading(table, small, INDEXED), options.runs)
        with _filled(running, BIG_FACTOR * small) as table:
            compared = {name: _questions(table)[name] for name in (PLAIN, REPORT)}
            runs["big"] = paired_runs.in_turns(compared, options.runs)
    big = runs["big"]
    report_seconds = _column(big[REPORT], "wall_seconds")
    plain_seconds = _column(big[PLAIN], "wall_seconds")
    return {
        "rows": small,
        "big_rows": BIG_FACTOR * small,
        "load_rows": _load_rows(small),
        "ratios": {
            "duplicates.report_over_plain": paired_runs.ratio(report_seconds, plain_seconds),
            "duplicates.peak_mb": paired_runs.spread(_column(big[REPORT], "peak_mb")),
            "duplicates.million_seconds": paired_runs.spread(
                _column(runs["small"][REPORT], "wall_seconds")
            ),
            "duplicates.indexed_load_over_bare": paired_runs.ratio(load[INDEXED], load[BARE]),
        },
        "table": {
            size: {
                name: paired_runs.spread(_column(turns, "wall_seconds"))
                for name, turns in by_question.items()
            }
            for size, by_question in runs.items()
        },
        "load": {name: paired_runs.spread(seconds) for name, seconds in load.items()},
        "peaks": {
            size: paired_runs.spread(_column(by_question[REPORT], "peak_mb"))
            for size, by_question in runs.items()
        },
        "runs": {**runs, "load": load},
    }


def _column(turns: list[dict[str, float]], name: str) -> list[float]:
    return [costs[name] for costs in turns]


@contextmanager
def _filled(running: Services, rows: int) -> Iterator[Filled]:
    with running.database() as url:
        settings = running.settings(url)
        table = Filled(Source(open_engine(settings.database), settings), url, rows)
        began = time.perf_counter()
        try:
            for start in range(0, rows, FILL_ROWS):
                table.add(min(FILL_ROWS, rows - start))
                paired_runs.say(f"table: from row {start:,}, {time.perf_counter() - began:.0f} s")
            table.settle()
            yield table
        finally:
            table.source.engine.dispose()


def _questions(table: Filled) -> dict[str, Callable[[], dict[str, float]]]:
    questions: dict[str, Callable[[], Any]] = {
        PLAIN: partial(_count, table.source),
        "headline": partial(duplicates.headline, table.source),
        "exact_rows": partial(duplicates.exact_rows, table.source, top=TOP),
        "shared_values": partial(duplicates.shared_values, table.source, top=TOP),
        "users_with_many": partial(duplicates.users_with_many, table.source, top=TOP),
        "distribution": partial(duplicates.distribution, table.source),
        "repeats": partial(duplicates.repeats, table.source, top=TOP),
        "linked": partial(duplicates.linked, table.source, top=TOP),
    }
    timed = {name: partial(_timed, ask) for name, ask in questions.items()}
    return {**timed, REPORT: partial(_report, table.url)}


def _count(source: Source) -> None:
    with source.reading() as connection:
        connection.execute(sa.text(COUNT)).all()


def _timed(ask: Callable[[], Any]) -> dict[str, float]:
    return {"wall_seconds": paired_runs.seconds_of(ask)}


def _report(url: str) -> dict[str, float]:
    """Run the whole command as a separate process, so that its memory is the client's alone."""
    command = processes.python("-m", "etl", "report", "duplicates")
    cost = processes.run(command, {"DATABASE_URL": url}, memory=True)
    assert cost.peak_mb is not None
    return {"wall_seconds": cost.wall_seconds, "peak_mb": cost.peak_mb}


def _index(table: Filled) -> None:
    indexed = table.source.settings.table.model_copy(update={"indexes": INDEXES})
    create_indexes(table.source.engine, indexed)
    table.settle()


def _load_rows(rows: int) -> int:
    return max(rows // 10, 1)


def _loading(table: Filled, rows: int, name: str = BARE) -> dict[str, Callable[[], float]]:
    # The server makes the rows, so that only the table and its indexes are measured.
    return {name: partial(paired_runs.seconds_of, partial(table.add, _load_rows(rows)))}


# At ten million rows; the seconds, at a million.
TARGETS = {
    "duplicates.report_over_plain": 3,
    "duplicates.peak_mb": 1000,
    "duplicates.million_seconds": 6,
}

METHOD = """\
A plain count is `select count(*), count(distinct ...)` of the user and both masked columns. The
last question is the whole command; the others are functions of `etl.analysis.duplicates`, which ask
Postgres, and were not asked about the big table."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    ratios = part["ratios"]
    return [
        METHOD,
        "",
        *_question_table(part),
        "",
        *markdown.table(
            [f"inserting {part['load_rows']:,} rows", "s"],
            [[name, markdown.shown(part["load"][name], 2)] for name in (BARE, INDEXED)],
        ),
        "",
        *markdown.table(
            ["key", "measured", "at most"],
            [
                [
                    f"`{name}`",
                    markdown.shown(ratios[name], 0 if name.endswith("mb") else 2),
                    str(TARGETS.get(name, "")),
                ]
                for name in ratios
            ],
        ),
    ]


def _question_table(part: dict[str, Any]) -> list[str]:
    table = part["table"]
    heads = {
        "small": f"{part['rows']:,} rows, s",
        "indexed": f"{part['rows']:,} rows, indexed, s",
        "big": f"{part['big_rows']:,} rows, s",
    }
    lines = [
        [name, *(markdown.shown(table[s][name], 1) if name in table[s] else "" for s in heads)]
        for name in table["small"]
    ]
    peaks = [markdown.shown(part["peaks"][size], 0) for size in heads]
    memory = [f"peak memory of `{REPORT}`, MiB", *peaks]
    return markdown.table(["question", *heads.values()], [*lines, memory])
