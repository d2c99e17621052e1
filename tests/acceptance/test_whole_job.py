"""The whole job, from the queue to the table, in a separate process.

This is one file because most of its tests check the same run over a mixed queue.
"""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import json
import random
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa

from etl.demo import samples
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from tests.acceptance.expected_rows import expected_row, opened
from tests.acceptance.job_processes import (
    ended,
    expected_users,
    held_sessions,
    ledger_locked,
    logins,
    make_tables,
    new_job,
    numbers,
    running,
    until,
    users,
    visible,
)
from tests.conftest import Job
from tests.unit.builders import EVENT, event

GOOD = 300
BAD_OF_EACH_KIND = 5
BAD = [kind for kind in samples.BAD for _ in range(BAD_OF_EACH_KIND)]
AWKWARD = [
    {"user_id": "é 漢 🎈", "locale": "NA"},
    {"user_id": "\\N", "locale": None},
    {"user_id": "tab\tnew\nline\rreturn \\ 'it''s' \"%s\" :name", "locale": ""},
    {"user_id": "x" * 128, "locale": "y" * 32},
    {"device_id": ""},
    {"device_id": "d" * 15},
    {"device_id": "d" * 16},
    {"device_id": "ö" * 70},
    {"ip": "2001:0DB8:0:0:0:0:0:1"},
    {"ip": "::ffff:203.0.113.9"},
    {"ip": "0.0.0.0"},
    {"app_version": "0.96"},
    {"app_version": "2.3"},
    {"app_version": "2147.483.647"},
]


@dataclass
class Mixed:
    """A run over a mixed queue, and what was in the queue before."""

    job: Job
    summary: dict[str, Any]
    good: dict[str, tuple[str, int]]  # message id: body, SentTimestamp
    bad: dict[str, tuple[str, int]]
    kinds: dict[str, str]  # message id: its key in samples.BAD


@pytest.fixture(scope="module", params=["multi", "copy"])
def mixed(
    request: pytest.FixtureRequest, sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> Iterator[Mixed]:
    """Run the job with each load method on good, awkward and bad messages in random order."""
    good = [*samples.bodies(GOOD, 11, bad_share=0), *(event(**fields) for fields in AWKWARD)]
    events = itertools.cycle([json.loads(body) for body in good[:GOOD]])
    kinds_and_bodies = [(None, body) for body in good]
    kinds_and_bodies += [(kind, samples.BAD[kind](next(events))) for kind in BAD]
    random.Random(3).shuffle(kinds_and_bodies)
    with new_job(sqs, postgres) as job:
        ids = job.send(*(body for _, body in kinds_and_bodies))
        kinds = {i: kind for i, (kind, _) in zip(ids, kinds_and_bodies, strict=True) if kind}
        sent = read_queue(job)
        summary = job.run(
            ETL_LOAD__METHOD=request.param, ETL_BATCH__ROWS="150", TZ=another_day_zone()
        )
        yield Mixed(
            job,
            summary,
            {i: sent[i] for i in ids if i not in kinds},
            {i: sent[i] for i in kinds},
            kinds,
        )


def read_queue(job: Job) -> dict[str, tuple[str, int]]:
    """Receive every message and release it; returns body and SentTimestamp by message id."""
    contents: dict[str, tuple[str, int]] = {}
    handles = []
    while messages := job.client.receive_message(
        QueueUrl=job.queue_url,
        MaxNumberOfMessages=10,
        MessageSystemAttributeNames=["SentTimestamp"],
    ).get("Messages"):
        for message in messages:
            sent_ms = int(message["Attributes"]["SentTimestamp"])
            contents[message["MessageId"]] = message["Body"], sent_ms
            handles.append(message["ReceiptHandle"])
    for handle in handles:
        job.client.change_message_visibility(
            QueueUrl=job.queue_url, ReceiptHandle=handle, VisibilityTimeout=0
        )
    return contents


def another_day_zone() -> str:
    """A time zone in which today is another date than in UTC."""
    return "EAST-14" if dt.datetime.now(dt.UTC).hour >= 11 else "WEST+12"


def test_every_message_is_loaded_or_quarantined(mixed: Mixed) -> None:
    """The counts match what was sent, and they add up."""
    counts = {name: mixed.summary[name] for name in ("received", "loaded", "quarantined")}
    expected = {"loaded": GOOD + len(AWKWARD), "quarantined": len(BAD)}
    assert counts == {"received": sum(expected.values()), **expected}
    assert (mixed.summary["already_handled"], mixed.summary["released"]) == (0, 0)


def test_every_row_is_the_one_that_the_oracle_computes(mixed: Mixed) -> None:
    """Its tokens come from the library cryptography, and its dates from SentTimestamp."""
    rows = mixed.job.rows(
        "select user_id, device_type, masked_ip, masked_device_id, locale, app_version, "
        "create_date from user_logins"
    )
    keyring = mixed.job.environment["ETL_KEYRING"]
    expected = [expected_row(keyring, json.loads(body), sent) for body, sent in mixed.good.values()]
    assert Counter(rows) == Counter(expected)


def test_each_reject_has_its_own_reason_and_no_other(mixed: Mixed) -> None:
    """A message of another shape lacks every field; each of the others has exactly one fault."""
    rows = mixed.job.rows("select message_id, reasons from etl.quarantine")
    stored = {i: sorted(f"{r['column']}: {r['check']}" for r in reasons) for i, reasons in rows}
    all_missing = sorted(f"{field}: missing" for field in EVENT)
    assert stored == {
        i: all_missing if kind == "user_id: missing" else [kind] for i, kind in mixed.kinds.items()
    }


def test_the_summary_counts_each_reason(mixed: Mixed) -> None:
    """It counts each kind of bad message, and each field missing from one of another shape."""
    expected = Counter(BAD)
    expected.update(
        {f"{field}: missing": BAD_OF_EACH_KIND for field in EVENT if field != "user_id"}
    )
    assert mixed.summary["reasons"] == dict(expected)


def test_each_rejected_body_opens_with_the_key_alone(mixed: Mixed) -> None:
    """HKDF and AES-SIV from the library cryptography decrypt it to what was sent."""
    rows = mixed.job.rows("select message_id, body from etl.quarantine")
    keyring = mixed.job.environment["ETL_KEYRING"]
    bodies = {i: opened(keyring, i, bytes(body)) for i, body in rows}
    assert bodies == {i: body for i, (body, _) in mixed.bad.items()}


def test_the_ledger_holds_every_message(mixed: Mixed) -> None:
    """It has one entry for each message, loaded or quarantined."""
    ledger_ids = sorted(i for (i,) in mixed.job.rows("select message_id from etl.ledger"))
    assert ledger_ids == sorted([*mixed.good, *mixed.bad])


def test_the_queue_is_empty_after_the_run(mixed: Mixed) -> None:
    """No message is visible or in flight."""
    assert numbers(mixed.job) == (0, 0)


def test_the_stored_run_equals_the_summary(mixed: Mixed) -> None:
    """There is one row, which is finished and has the same numbers."""
    counts = ("received", "loaded", "already_handled", "quarantined", "released", "batches")
    columns = ("run_id::text", *counts, "stop_reason")
    rows = mixed.job.rows(
        f"select {', '.join(columns)} from etl.runs where finished_at is not null"
    )
    names = ("run_id", *counts, "stop_reason")
    assert rows == [tuple(mixed.summary[name] for name in names)]


def test_a_dry_run_needs_no_database_and_leaves_every_message(job: Job) -> None:
    """All are visible again at once, and the summary says what a run would do."""
    job.send(*logins(30), "no JSON")
    del job.environment["DATABASE_URL"]
    summary = job.run("--dry-run")
    assert (summary["would_load"], summary["would_quarantine"]) == (30, 1)
    assert (summary["received"], summary["released"], visible(job)) == (31, 31, 31)


def test_a_run_receives_no_more_than_its_maximum(job: Job) -> None:
    """The other messages stay visible."""
    job.send(*logins(60))
    summary = job.run("--max-messages", "37", ETL_BATCH__ROWS="25")
    assert (summary["received"], summary["loaded"]) == (37, 37)
    assert summary["stop_reason"] == "max_messages"
    assert numbers(job) == (23, 0)


def test_sigterm_finishes_the_batch_in_hand_and_releases_the_rest_at_once(job: Job) -> None:
    """A message that was not loaded is visible before its visibility timeout has passed."""
    make_tables(job)
    job.send(*logins(200))
    with ledger_locked(job) as release, running(job, ETL_BATCH__ROWS="50") as process:
        # One batch is in its transaction, and the next one is gathered.
        until(lambda: held_sessions(job) and numbers(job) == (100, 100))
        process.send_signal(signal.SIGTERM)
        release()
        summary = ended(process)
    assert (summary["stop_reason"], summary["loaded"]) == ("SIGTERM", 50)
    assert summary["released"] == 50
    assert numbers(job) == (150, 0)
    assert len(users(job)) == 50


def test_a_mostly_bad_queue_stops_the_run_and_keeps_its_messages(job: Job) -> None:
    """The exit code is 3, nothing of the batch is stored, and all of it is back in the queue."""
    job.send(*logins(40), *("{}" for _ in range(110)))
    summary = job.run(code=3)
    assert summary["released"] == 150
    assert "quarantine.max_fraction" in summary["problem"]
    for table in ("user_logins", "etl.quarantine where not is_sample", "etl.ledger"):
        assert job.rows(f"select count(*) from {table}") == [(0,)]
    assert numbers(job) == (150, 0)


def test_a_right_that_is_missing_is_found_before_anything_is_received(job: Job) -> None:
    """The exit code is 2, and the error has the grant to run."""
    make_tables(job)
    with job.engine.begin() as connection:
        connection.execute(sa.text("revoke insert on user_logins from etl"))
    job.send(*logins(30))
    done = job.command("run", *job.arguments)
    assert done.returncode == 2
    assert 'grant insert on "public"."user_logins" to "etl"' in done.stderr
    assert numbers(job) == (30, 0)


def test_a_database_that_refuses_ends_the_run_and_keeps_the_messages(job: Job) -> None:
    """The exit code is 1, the SQLSTATE is shown, and all messages are visible at once."""
    make_tables(job)
    job.send(*logins(30))
    with ledger_locked(job) as release, running(job) as process:
        until(lambda: held_sessions(job))
        with job.engine.begin() as connection:
            connection.execute(sa.text("revoke insert on user_logins from etl"))
        release()
        summary = ended(process, 1)
    assert summary["stop_reason"] == "database refused"
    assert "42501" in summary["problem"]
    assert "role 'etl'" in summary["problem"]
    assert numbers(job) == (30, 0)


def test_a_row_that_only_the_database_refuses_is_quarantined_alone(job: Job) -> None:
    """The other rows of the batch are loaded."""
    make_tables(job)
    with job.engine.begin() as connection:
        connection.execute(
            sa.text("alter table user_logins add constraint no_13 check (user_id <> 'user 13')")
        )
    ids = job.send(*logins(30))
    summary = job.run()
    assert (summary["loaded"], summary["quarantined"]) == (29, 1)
    expected = expected_users(30)
    expected.remove("user 13")
    assert users(job) == expected
    reason = {"column": "row", "check": "SQLSTATE 23514 constraint 'no_13' table 'user_logins'"}
    stored = job.rows("select message_id, reasons from etl.quarantine")
    assert stored == [(ids[13], [reason])]


WEAK = json.dumps({"primary": "k1", "keys": {"k1": base64.b64encode(bytes(64)).decode()}})
# Changes to the environment (None removes a variable), and what standard error must name.
WRONG: dict[str, tuple[dict[str, str | None], str]] = {
    "no keyring": ({"ETL_KEYRING": None}, "ETL_KEYRING"),
    "weak keyring": ({"ETL_KEYRING": WEAK}, "'k1' is one byte repeated"),
    "no queue": ({"ETL_QUEUE__URL": None}, "ETL_QUEUE__URL"),
    "no database": ({"DATABASE_URL": None}, "DATABASE_URL"),
    "unknown setting": ({"ETL_QUEUE__SPEED": "9"}, "'queue.speed'"),
}


@pytest.fixture(scope="module")
def wrong(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> Iterator[tuple[Job, dict[str, tuple[int, str, str]]]]:
    """Run the job in each wrong environment, all at once, on a queue with one message."""
    with new_job(sqs, postgres) as job:
        job.send(event())
        started = {}
        for name, (changes, _) in WRONG.items():
            environment = {**job.environment, **changes}
            kept = {key: value for key, value in environment.items() if value is not None}
            started[name] = replace(job, environment=kept).start("run", *job.arguments)
        results = {}
        for name, process in started.items():
            with process:
                out, err = process.communicate(timeout=120)
            results[name] = process.returncode, out, err
        yield job, results


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_environment_is_refused_by_name(
    name: str, wrong: tuple[Job, dict[str, tuple[int, str, str]]]
) -> None:
    """The exit code is 2, and standard error has one line and no traceback."""
    code, out, err = wrong[1][name]
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert WRONG[name][1] in err


def test_nothing_is_received_in_a_wrong_environment(
    wrong: tuple[Job, dict[str, tuple[int, str, str]]],
) -> None:
    """The test's own receive of the message is the first one."""
    job = wrong[0]
    answer = job.client.receive_message(
        QueueUrl=job.queue_url, MessageSystemAttributeNames=["ApproximateReceiveCount"]
    )
    counts = [message["Attributes"]["ApproximateReceiveCount"] for message in answer["Messages"]]
    assert counts == ["1"]
