"""Large bodies in S3: from the pointer to the table, and to the quarantine and back."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etl import dry_run, job
from etl.postgres.event_counts import EventCounts
from etl.runs import Counts, Summary
from tests.conftest import KEYRING
from tests.integration.test_events import entries, event, left, replayed
from tests.integration.test_jobs import MakeJob, OneJob, make_job  # noqa: F401  (a fixture)
from tests.s3_server import BUCKET, S3Server, error, pointer, serve_s3
from tests.unit.builders import some_long

S3 = {"queue": {"payloads": "s3", "payload_buckets": [BUCKET]}}
DENIED = error(403, "AccessDenied")
SLOW_DOWN = error(503, "SlowDown")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server; botocore waits no time between its own attempts."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    with serve_s3() as server:
        yield server


@pytest.fixture
def logins(make_job: MakeJob, s3: S3Server) -> OneJob:  # noqa: F811
    """A job whose table has an id and a masked address, and whose environment leads to S3."""
    made = make_job("user_logins")
    made.environment["AWS_ENDPOINT_URL_S3"] = s3.url
    return made


def put(logins: OneJob, s3: S3Server, key: str, *events: Any) -> None:
    """Store a body and send a pointer to it."""
    (body,) = events if len(events) == 1 else (list(events),)
    logins.send_text(s3.put(key, json.dumps(body)))


def run(logins: OneJob, **more: Any) -> Summary:
    """Drain the queue, whatever the exit code."""
    tree = {**S3, **more, "queue": {**S3["queue"], **more.get("queue", {})}}
    return job.run(logins.changed(tree), {**logins.environment, "ETL_KEYRING": KEYRING.dump()})


@pytest.mark.parametrize("method", some_long(["multi", "copy"]))
def test_large_bodies_are_loaded_beside_others(logins: OneJob, s3: S3Server, method: str) -> None:
    """The objects stay where they are."""
    for number in range(1, 12):
        put(logins, s3, f"k{number}", event(number, more="ä" * 500_000))
    logins.send(event(12))
    summary = run(logins, load={"method": method})
    assert (summary.counts, summary.exit_code) == (Counts(received=12, loaded=12), 0)
    assert (logins.ids(), left(logins)) == ([*range(1, 13)], 0)
    assert {verb for verb, _, _ in s3.asked} == {"GET"}


@pytest.mark.long
def test_a_batch_is_cut_where_its_bodies_reach_its_bytes(logins: OneJob, s3: S3Server) -> None:
    """All of them in one transaction would all be in memory."""
    for number in range(1, 7):
        put(logins, s3, f"k{number}", event(number, more="a" * 1024))
    summary = run(logins, batch={"bytes": 2048})
    assert (summary.counts.loaded, summary.batches) == (6, 3)
    assert left(logins) == 0


def test_what_cannot_be_had_is_quarantined_and_loaded_by_a_replay(
    logins: OneJob, s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The pointer is kept; nothing that is printed quotes it."""
    caplog.set_level(logging.DEBUG, "etl")
    for body in (pointer("anna-bell"), pointer("anna-bell", "other"), pointer("anna/../bell")):
        logins.send_text(body)
    put(logins, s3, "large", event(1, more="a" * 2000))
    put(logins, s3, "good", event(2))
    summary = run(logins, queue={"payload_max_bytes": 1024})
    assert summary.counts == Counts(received=5, loaded=1, quarantined=4)
    assert summary.reasons == {
        "message: S3 bucket": 1, "message: S3 object": 1, "message: S3 object size": 1,
        "message: S3 pointer": 1,
    }  # fmt: skip
    assert "anna" not in caplog.text + str(summary)
    s3.put("anna-bell", json.dumps(event(3)))
    logins.changed(S3)
    assert replayed(logins)["loaded"] == 2
    assert logins.ids() == [1, 2, 3]


def test_the_quarantine_keeps_the_body_itself(logins: OneJob, s3: S3Server) -> None:
    """A replay needs no object, which may have expired by then."""
    put(logins, s3, "k", event(1, more="a" * 100_000))
    summary = run(logins, event={"unknown_fields": "reject"})
    assert summary.reasons == {"message: unknown field": 1}
    del s3.objects[BUCKET, "k"]
    s3.asked.clear()
    logins.changed(S3)
    assert replayed(logins)["loaded"] == 1
    assert (logins.ids(), s3.keys()) == ([1], [])


@pytest.mark.long
def test_without_the_setting_a_pointer_is_quarantined_and_a_replay_with_it_loads_it(
    logins: OneJob, s3: S3Server
) -> None:
    """The check says what it is, and S3 is not asked."""
    put(logins, s3, "k", event(1))
    assert logins.run().reasons == {"message: S3 pointer": 1}
    assert s3.asked == []
    logins.changed(S3)
    assert replayed(logins)["loaded"] == 1
    assert [closed for _, closed in entries(logins)] == ["replayed"]


def test_a_missing_right_stops_the_run_and_loses_nothing(logins: OneJob, s3: S3Server) -> None:
    """All messages are given back, and the next run loads them."""
    for number in range(1, 21):
        put(logins, s3, f"k{number}", event(number))
    s3.always[""] = DENIED
    summary = run(logins)
    assert (summary.exit_code, summary.stop_reason) == (1, "S3 refused")
    assert "allow s3:GetObject" in (summary.problem or "")
    assert repr(BUCKET) in (summary.problem or "")
    assert summary.counts == Counts(received=20, released=20)
    s3.always.clear()
    assert run(logins).counts == Counts(received=20, loaded=20)


def test_a_fault_in_the_middle_gives_back_what_is_not_loaded(logins: OneJob, s3: S3Server) -> None:
    """What is loaded is acknowledged, and nothing else is."""
    for number in range(1, 21):
        put(logins, s3, f"k{number}", event(number, more="a" * 1024))

    def last(handler: Any, content: bytes) -> None:
        s3.always[""] = DENIED
        DENIED(handler, content)

    s3.always["k20"] = last
    summary = run(logins, batch={"bytes": 2048})
    assert summary.exit_code == 1
    assert summary.counts.loaded == len(logins.ids())
    assert left(logins) == summary.counts.released == 20 - len(logins.ids())
    s3.always.clear()
    run(logins)
    assert logins.ids() == [*range(1, 21)]


@pytest.mark.long
def test_messages_stay_hidden_while_s3_is_away(logins: OneJob, s3: S3Server) -> None:
    """For longer than the visibility timeout; each message is received once."""
    logins.client.set_queue_attributes(
        QueueUrl=logins.queue_url, Attributes={"VisibilityTimeout": "2"}
    )
    put(logins, s3, "k", event(1))
    began = time.monotonic()

    def away(handler: Any, content: bytes) -> None:
        if time.monotonic() > began + 4:
            s3.always.clear()
        SLOW_DOWN(handler, content)

    s3.always["k"] = away
    assert run(logins).counts == Counts(received=1, loaded=1)


def test_an_outage_that_lasts_gives_the_messages_back(logins: OneJob, s3: S3Server) -> None:
    """As an outage of SQS does."""
    put(logins, s3, "k", event(1))
    s3.always["k"] = SLOW_DOWN
    summary = run(logins, queue={"retry_seconds": 0.1})
    assert (summary.exit_code, summary.stop_reason) == (1, "S3 unavailable")
    assert summary.counts == Counts(received=1, released=1)
    assert left(logins) == 1


def test_a_bucket_that_does_not_exist_is_found_before_a_receive(
    logins: OneJob, s3: S3Server
) -> None:
    """Each receive counts towards the dead-letter queue."""
    put(logins, s3, "k", event(1))
    s3.buckets.clear()
    done = logins.command("run", ETL_QUEUE__PAYLOADS="s3", ETL_QUEUE__PAYLOAD_BUCKETS=f"[{BUCKET}]")
    assert (done.code, "there is no such bucket" in done.err) == (2, True)
    s3.buckets.add(BUCKET)
    (received,) = logins.client.receive_message(
        QueueUrl=logins.queue_url, AttributeNames=["ApproximateReceiveCount"]
    )["Messages"]
    assert received["Attributes"]["ApproximateReceiveCount"] == "1"


def test_equal_bodies_of_two_objects_are_one_event(logins: OneJob, s3: S3Server) -> None:
    """If the ledger goes by the body: it is that of the object, not the pointer."""
    put(logins, s3, "k1", event(1))
    put(logins, s3, "k2", event(1))
    put(logins, s3, "k3", event(2))
    summary = run(logins, ledger={"key": "body"})
    assert summary.counts == Counts(received=3, loaded=2, already_handled=1)


def test_a_body_in_s3_may_be_wrapped_and_hold_many_events(logins: OneJob, s3: S3Server) -> None:
    """It goes through what every body goes through; a bad one of its events is kept alone."""
    events = [event(number) for number in range(1, 30)]
    put(logins, s3, "k", {"detail-type": "x", "detail": {"all": [*events, event("x")]}})
    logins.send_text(pointer("gone"))
    summary = run(
        logins,
        queue={"envelope": "eventbridge"},
        event={"split": {"path": "all"}},
        batch={"rows": 10},
    )
    assert summary.counts == Counts(received=2, loaded=1, quarantined=1)
    assert summary.events == EventCounts(loaded=29, quarantined=2)
    assert logins.ids() == [*range(1, 30)]


def test_looks_say_what_they_see_and_change_nothing(
    logins: OneJob, s3: S3Server, tmp_path: Path
) -> None:
    """``run --dry-run`` reads the objects; ``peek`` and ``check-config`` do not."""
    put(logins, s3, "k", event(1))
    looked = dry_run.dry_run(
        logins.changed(S3), {**logins.environment, "ETL_KEYRING": KEYRING.dump()}
    )
    assert looked.summary.would == Counts(received=1, loaded=1)
    assert len(looked.masked) == 1
    s3.asked.clear()
    assert "pointers to S3: 1" in logins.command("peek").out
    sample = tmp_path / "sample.jsonl"
    bodies = [pointer("k"), json.dumps(event(1)), pointer("k", "other")]
    sample.write_text("\n".join(bodies))
    done = logins.command("check-config", "--sample", str(sample), "--json")
    (found,) = done.lines
    assert (found["pointers"], found["would_load"], found["would_quarantine"]) == (1, 1, 1)
    assert found["reasons"] == {"message: S3 bucket": 1}
    page = logins.command("check-config", "--sample", str(sample))
    assert "1 pointer to S3, not followed" in page.out
    assert (left(logins), s3.asked) == (1, [])


@pytest.mark.parametrize(
    ("may_list", "status", "words"),
    [(True, "ok", "s3:GetObject and s3:ListBucket are allowed"),
     pytest.param(
         False, "unknown", "allow s3:ListBucket on the bucket, and ask again",
         marks=pytest.mark.long,
     )],
)  # fmt: skip
def test_the_doctor_says_what_can_be_known_of_the_right(
    logins: OneJob, s3: S3Server, may_list: bool, status: str, words: str
) -> None:
    """S3 tells a missing object from a missing right only to those who may list."""
    s3.may_list = may_list
    logins.changed(S3)
    results = [
        r for r in json.loads(logins.command("doctor", "--json").out)["checks"]
        if r["check"] == "rights.payloads"
    ]  # fmt: skip
    assert [r["status"] for r in results] == [status]
    assert words in str(results[0])
    assert {verb for verb, _, _ in s3.asked} == {"GET"}


@pytest.mark.long
def test_several_workers_read_bodies(logins: OneJob, s3: S3Server) -> None:
    """Each opens S3 itself, with the environment that the job was given."""
    for number in range(1, 31):
        put(logins, s3, f"k{number}", event(number))
    summary = run(logins, run={"workers": 2})
    assert (summary.counts.loaded, logins.ids()) == (30, [*range(1, 31)])
    assert s3.signers == {logins.environment["AWS_ACCESS_KEY_ID"]}
