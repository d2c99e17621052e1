"""The frames about quality agree with a count in pandas."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from etl.analysis import quality
from etl.analysis.source import Source
from etl.config import Settings
from etl.embedded.postgres import EmbeddedPostgres
from etl.postgres import roles
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url

CHECKS = [("ip", "type"), ("ip", "missing"), ("message", "JSON"), ("locale", "length")]
JOB = "public.user_logins"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def source(engine: sa.Engine, settings: Callable[..., Settings]) -> Source:
    """A source in a database with empty tables."""
    create_tables(engine, settings().table)
    return Source(engine, settings())


def add_run(engine: sa.Engine, number: int, loaded: int, reasons: list[Any], **more: Any) -> str:
    """Insert a run and its rejects, each with its failed checks; return the run's id."""
    run = {
        "run_id": f"00000000-0000-4000-8000-{number:012d}",
        "started_at": START + timedelta(days=number),
        "finished_at": START + timedelta(days=number, seconds=number + 1),
        "received": loaded + len(reasons),
        "loaded": loaded,
        "quarantined": len(reasons),
        "version": "1",
        "config_hash": "x",
        "host": "h",
        "command": "run",
        "job": JOB,
        **more,
    }
    rejects = [
        {
            "message_id": f"{number} {nth}",
            "run_id": run["run_id"],
            "job": run["job"],
            "reasons": json.dumps([{"column": column, "check": check} for column, check in broken]),
        }
        for nth, broken in enumerate(reasons)
    ]
    names = ", ".join(run)
    values = ", ".join(f":{name}" for name in run)
    with engine.begin() as connection:
        connection.execute(sa.text(f"insert into etl.runs ({names}) values ({values})"), run)
        if rejects:
            connection.execute(
                sa.text(
                    "insert into etl.quarantine "
                    "(job, masked_fields, message_id, run_id, reasons, body) "
                    "values (:job, '{}', :message_id, :run_id, cast(:reasons as jsonb), '')"
                ),
                rejects,
            )
    return str(run["run_id"])


def random_reasons(draw: random.Random) -> list[Any]:
    """Draw the failed checks of a run's rejects; some failed two."""
    return [draw.sample(CHECKS, draw.choice([1, 1, 2])) for _ in range(draw.randrange(12))]


def test_the_frames_agree_with_an_independent_count(engine: sa.Engine, source: Source) -> None:
    """The frames cover the newest five of seven runs."""
    draw = random.Random(5)
    rejects = {number: random_reasons(draw) for number in range(7)}
    loaded = {number: draw.randrange(1, 50) for number in range(7)}
    for number in (3, 0, 6, 1, 5, 2, 4):
        add_run(engine, number, loaded[number], rejects[number])
    newest = range(2, 7)

    runs = quality.runs(source, max_runs=5)
    assert runs["run"].tolist() == [1, 2, 3, 4, 5]
    assert runs["loaded"].tolist() == [loaded[n] for n in newest]
    assert runs["seconds"].tolist() == [n + 1 for n in newest]
    shares = [len(rejects[n]) / (len(rejects[n]) + loaded[n]) for n in newest]
    assert runs["quarantined_share"].tolist() == pytest.approx(shares)
    assert runs["adds_up"].all()

    facts = pd.DataFrame(
        [(n - 1, *check) for n in newest for reasons in rejects[n] for check in reasons],
        columns=["run", "column", "check"],
    )
    expected = facts.groupby(["column", "check"])["run"].agg(["size", "nunique"])
    checks = quality.checks(source, max_runs=5).set_index(["column", "check"])
    assert checks["messages"].to_dict() == expected["size"].to_dict()
    assert checks["runs"].to_dict() == expected["nunique"].to_dict()
    assert checks["messages"].is_monotonic_decreasing

    by_run = quality.checks_by_run(source, max_runs=5)
    counts = facts.groupby(["run", "column", "check"]).size()
    assert len(by_run) == 5 * len(expected)
    for row in by_run.itertuples():
        messages = counts.get((row.run, row.column, row.check), 0)
        assert row.messages == messages
        n = row.run + 1
        assert row.share == pytest.approx(messages / (len(rejects[n]) + loaded[n]))


def test_empty_tables_give_empty_frames_of_the_same_columns(
    engine: sa.Engine, source: Source
) -> None:
    """Their dtypes are the same too, so no caller has to treat them apart."""
    functions = (quality.runs, quality.checks, quality.checks_by_run)
    empty = [function(source) for function in functions]
    assert [len(frame) for frame in empty] == [0, 0, 0]
    assert quality.surges(empty[2]).empty
    add_run(engine, 1, 5, [[("ip", "type")]])
    full = [function(source) for function in functions]
    assert [list(frame) for frame in empty] == [list(frame) for frame in full]
    assert [list(frame.dtypes) for frame in empty] == [list(frame.dtypes) for frame in full]


def test_a_run_without_messages_or_end_has_nulls_instead(engine: sa.Engine, source: Source) -> None:
    """A killed run has no end, and a share of no messages is not a division by zero."""
    add_run(engine, 1, 0, [], finished_at=None)
    add_run(engine, 2, 3, [[("ip", "type")]])
    runs = quality.runs(source)
    assert runs["seconds"].isna().tolist() == [True, False]
    assert runs["quarantined_share"].isna().tolist() == [True, False]
    assert quality.checks_by_run(source)["share"].isna().tolist() == [True, False]


def test_replays_are_left_out(engine: sa.Engine, source: Source) -> None:
    """They say nothing about what the producers send."""
    add_run(engine, 1, 3, [[("ip", "type")]])
    add_run(engine, 2, 1, [], command="replay")
    assert quality.runs(source)["loaded"].tolist() == [3]
    assert quality.checks_by_run(source)["run"].tolist() == [1]


def test_the_analyst_may_read_them(
    engine: sa.Engine,
    source: Source,
    postgres: EmbeddedPostgres,
    database_url: str,
    settings: Callable[..., Settings],
) -> None:
    """The connection has the rights of the role etl_analyst only."""
    add_run(engine, 1, 3, [[("ip", "type")]])
    superuser = sa.make_url(postgres.superuser_url)
    url = driver_url(database_url).set(username="postgres", password=superuser.password)
    as_superuser = sa.create_engine(url)
    roles.create(as_superuser, settings().table)
    as_superuser.dispose()
    analyst = sa.create_engine(url, connect_args={"options": "-c role=etl_analyst"})
    as_analyst = Source(analyst, settings())
    assert len(quality.runs(as_analyst)) == 1
    assert len(quality.checks(as_analyst)) == 1
    assert len(quality.checks_by_run(as_analyst)) == 1
    analyst.dispose()


def test_a_surge_is_far_above_the_median_and_has_enough_messages() -> None:
    """A few messages are not a surge, however rare the check."""
    by_run = pd.DataFrame(
        [
            (run, "ip", check, messages, messages / 1_000)
            for check, counts in {
                "steady": [20, 22, 21, 19, 20],
                "surge": [5, 5, 90, 5, 5],
                "new": [0, 0, 0, 0, 40],
                "rare": [0, 9, 0, 0, 0],
            }.items()
            for run, messages in enumerate(counts, 1)
        ],
        columns=["run", "column", "check", "messages", "share"],
    )
    found = quality.surges(by_run)
    assert found[["run", "check", "messages"]].to_numpy().tolist() == [
        [3, "surge", 90],
        [5, "new", 40],
    ]
    assert found["usual_share"].tolist() == [0.005, 0]
    assert found["times"].tolist() == [18, float("inf")]
