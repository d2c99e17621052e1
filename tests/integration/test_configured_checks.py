"""Checks of the configuration in whole runs: rejects, warnings, stops, and replays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Job

TAKES_ALL = {"ETL_QUARANTINE__MAX_FRACTION": "1"}
COLUMNS = [
    {"name": "start", "field": "start", "type": "date", "min": "2026-01-01"},
    {"name": "end_of_it", "field": "end", "type": "date", "nullable": True},
    {"name": "code", "field": "code", "type": "text", "matches": "[A-Z]+", "unique": True,
     "in": ["A", "B", "C"], "warn": ["in"]},
    {"name": "masked_user", "field": "user", "type": "text", "mask": True, "min_length": 3},
]  # fmt: skip
CHECKS = [
    {"name": "order", "expression": "start <= end_of_it"},
    {"name": "short", "expression": "end_of_it - start < 9", "severity": "warn"},
]
GOOD = {"start": "2026-01-01", "end": "2026-01-02", "code": "A", "user": "canary"}


def body(**changes: Any) -> str:
    """A good event, with changes."""
    return json.dumps({**GOOD, **changes})


def configure(job: Job, **checks: Any) -> None:
    """Give the job a table with checks."""
    job.environment |= {
        "ETL_TABLE__NAME": "periods",
        "ETL_TABLE__COLUMNS": json.dumps(COLUMNS),
        **{f"ETL_TABLE__{name.upper()}": json.dumps(value) for name, value in checks.items()},
    }


@pytest.mark.parametrize("method", ["multi", "copy"])
def test_rows_are_rejected_counted_and_replayed(job: Job, method: str) -> None:
    """The reasons and the notes are the names of the checks."""
    configure(job, checks=CHECKS)
    job.send(
        body(),
        body(code="X", end="2026-02-01"),
        body(code="B", start="2025-12-31"),
        body(code="C", start="2026-01-03"),
        body(code="D", user="ab"),
        body(code="A"),
        body(code="b"),
        body(code="Y", end=None),
    )
    summary = job.run(ETL_LOAD__METHOD=method, **TAKES_ALL)
    assert (summary["loaded"], summary["quarantined"]) == (3, 5)
    assert summary["reasons"] == {
        "code: matches": 1, "code: unique": 1, "start: min": 1, "table: order": 1,
        "user: min_length": 1,
    }  # fmt: skip
    assert summary["notes"] == {"code: in": 4, "table: short": 1}
    (notes,) = job.rows("select notes from etl.runs")[0]
    assert notes == [
        {"column": "code", "note": "in", "messages": 4},
        {"column": "table", "note": "short", "messages": 1},
    ]
    page = job.command("history", summary["run_id"])
    assert "          4  code: in" in page.stdout.splitlines()
    listed = job.command("quarantine", "list", "--check", "table: order")
    assert (listed.returncode, "order" in listed.stdout) == (0, True), listed.stderr
    # Without the check between the columns, one more row is loaded; a second A is none.
    configure(job, checks=[])
    replayed = job.command("quarantine", "replay", "--check", "order", "--json")
    assert json.loads(replayed.stdout)["loaded"] == 1, replayed.stderr
    dump = job.rows("select reasons, row_to_json(r) from etl.quarantine, etl.runs as r")
    assert "canary" not in str(dump)


def test_a_dry_run_shows_the_notes(job: Job) -> None:
    """And loads nothing."""
    configure(job, checks=CHECKS)
    job.send(body(code="X"), body(code="b"))
    summary = job.run("--dry-run")
    assert summary["notes"] == {"code: in": 2}
    assert summary["reasons"] == {"code: matches": 1}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_batch_check_stops_the_run_and_releases_the_batch(job: Job, workers: str) -> None:
    """Nothing is loaded or quarantined, and the next run has everything again."""
    share = {"column": "end_of_it", "max": 0.5}
    nulls = {"name": "few nulls", "null_share": share, "min_messages": 3}
    configure(job, batch_checks=[nulls])
    job.send(*(body(code=code, end=None) for code in ("A", "B", "C", "D")))
    summary = job.run("--workers", workers, "--max-messages", "4", code=3)
    assert (summary["loaded"], summary["quarantined"]) == (0, 0)
    assert summary["released"] == summary["received"]
    assert (summary["stop_reason"], job.left()) == ("batch check", 4)
    assert "'few nulls'; this batch was released" in summary["problem"]
    ((checks,),) = job.rows("select failed_checks from etl.runs")
    assert (checks[0]["column"], checks[0]["check"]) == ("batch", "few nulls")
    assert checks[0]["messages"] == checks[0]["released"]
    if workers == "2":
        return  # several workers hide for a while what they release, from one another
    configure(job, batch_checks=[{**nulls, "severity": "warn"}])
    summary = job.run()
    assert summary["loaded"] == 4
    assert set(summary["notes"]) == {"code: in", "batch: few nulls"}


PYTHON = """
import pandera.pandas as pa

def checks():
    return pa.DataFrameSchema(
        checks=[pa.Check(lambda frame: frame["masked_user"] != "canary", name="no canary")]
    )

def raises():
    def look(users):
        raise ValueError(f"saw {users.tolist()}")
    return pa.DataFrameSchema({"masked_user": pa.Column(checks=[pa.Check(look, name="look")])})
"""


def test_checks_in_python_see_plain_values_and_show_none(job: Job, tmp_path: Path) -> None:
    """What they refuse is quarantined; what they raise stops the run, and loses nothing."""
    (tmp_path / "period_checks.py").write_text(PYTHON)
    configure(job, python_checks="period_checks:checks")
    job.environment |= {"ETL_TABLE__PYTHON_CHECKS": "period_checks:checks"}
    job.environment |= {"PYTHONPATH": str(tmp_path)}
    job.send(body(), body(code="B", user="other"))
    summary = job.run(**TAKES_ALL)
    assert (summary["loaded"], summary["reasons"]) == (1, {"table: no canary": 1})
    job.send(body(code="C"))
    broken = job.command(
        "run", "--json", ETL_TABLE__PYTHON_CHECKS="period_checks:raises", ETL_LOG__LEVEL="debug"
    )
    assert broken.returncode == 1
    assert "the check 'look' of 'masked_user' raised ValueError" in broken.stderr
    assert "canary" not in broken.stderr + broken.stdout
    assert job.left() == 1


def test_a_check_that_cannot_be_made_ends_a_run_before_it_receives(job: Job) -> None:
    """So do doctor and check-config, with the same sentence."""
    configure(job, checks=[{"name": "order", "expression": "start <= edn"}])
    job.send(body())
    for command in (["run"], ["doctor", "--offline"], ["init"]):
        done = job.command(*command)
        assert done.returncode in (1, 2)
        assert "at character 10: 'edn' is not a column" in done.stderr + done.stdout
    assert job.left() == 1
