"""``etl rollback``: the rows of a run are taken out of the table, with an audit row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Job

COLUMNS: list[dict[str, Any]] = [
    {"name": "order_id", "field": "order_id", "type": "text"},
    {"name": "amount", "field": "amount", "type": "integer"},
    {"name": "sent_at", "attribute": "SentTimestamp", "type": "timestamp"},
]
RUN_ID = {"name": "loaded_by", "metadata": "run_id", "type": "text"}
WHY = ("--reason", "test")


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a configuration of orders and returns its path."""

    def write(*columns: dict[str, Any], **table: Any) -> str:
        path = tmp_path / f"orders-{len(list(tmp_path.iterdir()))}.yaml"
        described = {"name": "orders", "columns": [*COLUMNS, *columns], **table}
        path.write_text(json.dumps({"table": described}))
        return str(path)

    return write


def event(order: str, amount: Any) -> str:
    """The body of an event."""
    return json.dumps({"order_id": order, "amount": amount})


def test_the_rows_of_a_run_are_taken_out(job: Job, configure: Callable[..., str]) -> None:
    """Those of other runs stay, and so do the ledger and the quarantine."""
    path = configure(RUN_ID)
    job.send(event("a", 1))
    job.run("--config", path)
    job.send(event("b", 2), event("c", 3), event("d", "bad"))
    run_id = job.run("--config", path)["run_id"]
    asked = job.command("rollback", run_id[:8], *WHY, "--config", path, piped="n\n")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert f"Delete 2 rows of public.orders, loaded by run {run_id}?" in asked.stderr
    assert job.rows("select count(*) from orders") == [(3,)]
    done = job.command("rollback", run_id[:8], *WHY, "--config", path, piped="y\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"deleted 2 rows of public.orders, loaded by run {run_id}\n"
    assert job.rows("select order_id from orders") == [("a",)]
    assert job.rows("select count(*) from etl.ledger") == [(4,)]
    assert job.rows("select count(*) from etl.quarantine where body is not null") == [(1,)]
    audit = "select action, reason, scope, count from etl.unmask_audit"
    scope = f"2 rows of public.orders deleted, of run {run_id}; ledger kept"
    assert job.rows(audit) == [("rollback", "test", scope, 2)]
    again = job.command("rollback", run_id, *WHY, "--yes", "--json", "--config", path)
    counts = json.loads(again.stdout)
    assert (counts["rows"], counts["missing"], counts["freed"]) == (0, 2, 0)


def test_the_ledger_is_freed_for_what_is_not_in_quarantine(
    job: Job, configure: Callable[..., str]
) -> None:
    """So events that are sent again under the same business id are loaded."""
    path = configure(RUN_ID)
    key: dict[str, Any] = {"ETL_LEDGER__KEY": "field:order_id"}
    job.send(event("a", 1), event("b", "bad"))
    run_id = job.run("--config", path, **key)["run_id"]
    (quarantined,) = job.rows("select message_id from etl.quarantine")
    done = job.command("rollback", run_id, *WHY, "--free-ledger", "--yes", "--config", path, **key)
    assert done.returncode == 0, done.stderr
    assert "removed 2 ids from the ledger" in done.stderr  # the message's, and the event's
    assert job.rows("select message_id from etl.ledger") == [quarantined]
    job.send(event("a", 7))
    assert job.run("--config", path, **key)["loaded"] == 1
    assert job.rows("select amount from orders") == [(7,)]


def test_what_was_skipped_because_of_a_run_is_told(job: Job, configure: Callable[..., str]) -> None:
    """Also of a run that has replaced nothing, in a whole sentence."""
    path = configure(RUN_ID, on_conflict="skip", key=["order_id"])
    job.send(event("a", 1))
    run_id = job.run("--config", path)["run_id"]
    done = job.command("rollback", run_id, *WHY, "--yes", "--config", path)
    assert done.stderr.startswith(
        "events that were skipped because of these rows cannot be brought back\n"
    )


def test_a_run_that_replaced_rows_is_refused(job: Job, configure: Callable[..., str]) -> None:
    """Their former values are gone, so it must be asked for."""
    path = configure(RUN_ID, on_conflict="update", key=["order_id"])
    job.send(event("a", 1))
    job.run("--config", path)
    job.send(event("a", 2), event("b", 3))
    run_id = job.run("--config", path)["run_id"]
    call = ("rollback", run_id, *WHY, "--yes", "--config", path)
    refused = job.command(*call)
    assert refused.returncode == 2
    assert "replaced 1 row, and the former values are gone" in refused.stderr
    assert job.rows("select count(*) from orders") == [(2,)]
    done = job.command(*call, "--with-replaced")
    assert done.returncode == 0, done.stderr
    assert "the values replaced by 1 row of it cannot be brought back" in done.stderr
    assert job.rows("select count(*) from orders") == [(0,)]


def test_what_cannot_be_rolled_back_is_refused(job: Job, configure: Callable[..., str]) -> None:
    """A table without the column, a run of another job, a run that goes on, and no run at all."""
    path, without = configure(RUN_ID), configure(name="plain")
    job.send(event("a", 1))
    run_id = job.run("--config", path)["run_id"]
    job.command("init", "--config", without)

    def refusal(run: str, config: str, *options: str) -> str:
        done = job.command("rollback", run, *WHY, "--yes", "--config", config, *options)
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert "no column of the table says which run loaded a row" in refusal(run_id, without)
    assert "there is no run" in refusal("00000000-0000-4000-8000-000000000000", path)
    with job.engine.begin() as connection:
        connection.exec_driver_sql("update etl.runs set command = 'replay'")
    assert "is a replay" in refusal(run_id, path, "--free-ledger")
    with job.engine.begin() as connection:
        connection.exec_driver_sql("update etl.runs set finished_at = null, seen_at = now()")
    assert "is still running" in refusal(run_id, path)
    with job.engine.begin() as connection:
        connection.exec_driver_sql("update etl.runs set job = 'other'")
    assert "is of job 'other'" in refusal(run_id, path)
    assert job.rows("select count(*) from orders") == [(1,)]
