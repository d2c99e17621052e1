"""Envelopes and several events in one message, from the queue to the table and back."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from etl import dry_run, job
from etl.postgres.event_counts import EventCounts
from etl.runs import Counts, Summary
from tests.conftest import KEYRING
from tests.integration.test_jobs import MakeJob, OneJob, make_job  # noqa: F401  (a fixture)
from tests.unit.builders import some_long

COLUMNS: list[dict[str, Any]] = [
    {"name": "id", "field": "id", "type": "integer"},
    {"name": "masked_ip", "field": "ip", "type": "ip", "mask": True},
]
IP = "192.0.2.7"
NO_EVENTS = EventCounts()


def event(number: Any, **more: Any) -> dict[str, Any]:
    """A made-up event."""
    return {"id": number, "ip": IP, **more}


def eventbridge(detail: Any, **more: Any) -> str:
    """An event as EventBridge sends it to a queue."""
    around = {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "Login",
        "source": "com.example.auth",
        "account": "123456789012",
        "time": "2024-02-29T12:45:07Z",
        "region": "eu-central-1",
        "resources": [],
    }
    return json.dumps({**around, "detail": detail, **more})


def sns(text: str) -> str:
    """A text as SNS sends it to a queue."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": "arn:aws:sns:eu-central-1:123456789012:logins",
            "Message": text,
            "Timestamp": "2024-02-29T12:45:07.000Z",
        }
    )


def zipped(text: str) -> str:
    """A text as base64 of gzip."""
    return base64.b64encode(gzip.compress(text.encode())).decode()


@pytest.fixture
def logins(make_job: MakeJob) -> OneJob:  # noqa: F811
    """A job whose table has an id and a masked address."""
    return make_job("user_logins")


def sent(logins: OneJob, body: str) -> str:
    """Send a message; returns its id."""
    answer = logins.client.send_message(QueueUrl=logins.queue_url, MessageBody=body)
    return str(answer["MessageId"])


def ledger(logins: OneJob) -> list[str]:
    """The ids in the ledger."""
    return [row for (row,) in logins.rows("select message_id from etl.ledger order by 1")]


def entries(logins: OneJob) -> list[tuple[str, str | None]]:
    """The entries of the quarantine, in order: message id, and how it was closed."""
    return logins.rows("select message_id, closed_as from etl.quarantine order by 1")


def replayed(logins: OneJob) -> dict[str, Any]:
    """Replay everything; returns the summary."""
    (line,) = logins.command("quarantine", "replay", "--all", "--json").lines
    return dict(line)


def left(logins: OneJob) -> int:
    """The messages that are still in the queue."""
    attributes = logins.client.get_queue_attributes(
        QueueUrl=logins.queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    return sum(map(int, attributes.values()))


@pytest.mark.parametrize(
    ("envelope", "body"),
    [
        (["sns", "base64", "gzip", "eventbridge"], sns(zipped(eventbridge(event(1))))),
        pytest.param("eventbridge", eventbridge(event(1)), marks=pytest.mark.long),
        pytest.param({"path": "detail"}, eventbridge(event(1)), marks=pytest.mark.long),
    ],
)
def test_an_event_is_loaded_from_its_envelopes(logins: OneJob, envelope: Any, body: str) -> None:
    """It is one message with one row, so no events are counted."""
    logins.send_text(body)
    summary = logins.run(queue={"envelope": envelope})
    assert (summary.counts, summary.events) == (Counts(received=1, loaded=1), NO_EVENTS)
    assert "events" not in summary.as_dict()
    assert logins.ids() == [1]


@pytest.mark.parametrize("method", some_long(["multi", "copy"]))
def test_each_event_of_a_message_is_a_row_or_an_entry(logins: OneJob, method: str) -> None:
    """Messages and events are counted apart, and each message is deleted once."""
    two = sent(logins, json.dumps([event(1), event(2)]))
    mixed = sent(logins, json.dumps([event("x"), event(4), event(None)]))
    bad = sent(logins, json.dumps([event("y")]))
    empty = sent(logins, "[]")
    broken = sent(logins, json.dumps(event(9)))
    summary = logins.run(event={"split": "array"}, load={"method": method})
    assert summary.counts == Counts(received=5, loaded=2, already_handled=1, quarantined=2)
    assert summary.events == EventCounts(loaded=3, quarantined=4, empty_messages=1)
    assert logins.ids() == [1, 2, 4]
    quarantined = sorted([f"{mixed}#1", f"{mixed}#3", f"{bad}#1", broken])
    assert [message_id for message_id, _ in entries(logins)] == quarantined
    claimed = [f"{two}#1", f"{two}#2", *(f"{mixed}#{n}" for n in (1, 2, 3)), f"{bad}#1"]
    assert ledger(logins) == sorted([*claimed, two, mixed, bad, empty, broken])
    assert left(logins) == 0
    # The row of the run, its page, and the JSON.
    columns = "events_loaded, events_already_handled, events_quarantined, empty_messages"
    assert logins.rows(f"select {columns} from etl.runs") == [(3, 0, 4, 1)]
    assert summary.as_dict()["events"] == {
        "loaded": 3, "already_handled": 0, "quarantined": 4, "empty_messages": 1,
    }  # fmt: skip
    page = logins.command("history", summary.run_id)
    assert "    events                     7   and 1 message without one" in page.out
    (facts,) = logins.command("history", summary.run_id, "--json").lines
    assert (facts["loaded"], facts["events_loaded"]) == (2, 3)


def test_a_batch_has_no_more_events_than_rows(logins: OneJob) -> None:
    """One batch of messages is loaded in several transactions, each of whole messages."""
    for first in (1, 4, 7):
        logins.send_text(json.dumps([event(first + n) for n in range(3)]))
    summary = logins.run(event={"split": "array"}, batch={"rows": 4})
    assert summary.counts == Counts(received=3, loaded=3)
    assert summary.events == EventCounts(loaded=9)
    assert summary.batches == 2
    assert logins.ids() == list(range(1, 10))
    assert left(logins) == 0


@pytest.mark.long
def test_what_is_committed_is_deleted_when_a_later_part_fails(logins: OneJob) -> None:
    """And the rest of the messages is released."""
    for number in range(1, 9):
        logins.send_text(json.dumps([event(number if number < 4 else "x")] * 3))
    settings = logins.changed(
        {
            "event": {"split": "array"},
            "batch": {"rows": 9},
            "quarantine": {"max_fraction": 0.5, "min_messages": 10, "window_messages": 10},
        }
    )
    environment = {**logins.environment, "ETL_KEYRING": KEYRING.dump()}
    summary = job.run(settings, environment)
    assert summary.exit_code == 3
    assert summary.counts == Counts(received=8, loaded=3, released=5)
    assert (logins.ids(), left(logins)) == ([1, 1, 1, 2, 2, 2, 3, 3, 3], 5)


@pytest.mark.long
def test_a_run_of_whole_messages_shows_no_events(logins: OneJob) -> None:
    """Neither in the page of the run nor in the JSON."""
    logins.send(event(1))
    summary = logins.run()
    assert "events" not in logins.command("history", summary.run_id).out
    assert "events_loaded" not in logins.command("history", summary.run_id, "--json").out


def test_a_redelivered_message_is_known_under_any_split(logins: OneJob) -> None:
    """Its own id is in the ledger too, so neither the whole nor other parts of it are new."""
    body = json.dumps([event(1), event(2)])
    message_id = sent(logins, body)
    logins.run()  # as a whole it is no event
    assert entries(logins) == [(message_id, None)]
    again(logins, message_id, body)
    summary = logins.run(event={"split": "array"})
    assert summary.counts == Counts(received=1, already_handled=1)
    assert summary.events == EventCounts(already_handled=2)
    assert logins.ids() == []
    assert replayed(logins)["loaded"] == 1
    again(logins, message_id, body)
    assert logins.run(event={"split": "lines"}).counts == Counts(received=1, already_handled=1)
    assert logins.ids() == [1, 2]


def again(logins: OneJob, message_id: str, body: str) -> None:
    """Give the next message the id of an earlier one, as if that had not been deleted."""
    new = sent(logins, body)
    with logins.engine.begin() as connection:
        connection.exec_driver_sql(
            "update etl.ledger set message_id = replace(message_id, %s, %s)",
            (message_id, new),
        )


@pytest.mark.long
def test_duplicates_within_a_message_are_found_by_their_key(logins: OneJob) -> None:
    """The ledger's key is that of an event; two of one message are two deliveries of it."""
    logins.send_text(json.dumps([event(1), event(1), event(2)]))
    summary = logins.run(event={"split": "array"}, ledger={"key": "field:id"})
    assert summary.counts == Counts(received=1, loaded=1)
    assert summary.events == EventCounts(loaded=2, already_handled=1)
    logins.send_text(json.dumps([event(2)]))
    again_ = logins.run(event={"split": "array"}, ledger={"key": "field:id"})
    assert (again_.counts, again_.events) == (
        Counts(received=1, already_handled=1), EventCounts(already_handled=1),
    )  # fmt: skip


def test_the_entry_of_an_event_is_replayed_alone(logins: OneJob) -> None:
    """It has nothing around it, whatever the envelope and the split are then."""
    message_id = sent(logins, sns(json.dumps([event(1), event("x"), event(3)])))
    both: dict[str, Any] = {"queue": {"envelope": "sns"}, "event": {"split": "array"}}
    logins.run(**both)
    assert entries(logins) == [(f"{message_id}#2", None)]
    as_text = [{**COLUMNS[0], "type": "text"}, COLUMNS[1]]
    for envelope in (both, {"queue": {"envelope": ["sns", "eventbridge"]}}, {}):
        logins.changed(envelope)
        assert replayed(logins)["quarantined"] == 1
    with logins.engine.begin() as connection:
        connection.exec_driver_sql("alter table user_logins alter id type text")
    logins.changed({**both, "table": {"columns": as_text}})
    summary = replayed(logins)
    assert (summary["loaded"], summary["events"]["loaded"]) == (1, 1)
    assert logins.rows("select id from user_logins order by 1") == [("1",), ("3",), ("x",)]
    assert entries(logins) == [(f"{message_id}#2", "replayed")]


def test_the_entry_of_an_event_keeps_what_was_dropped_and_masked_attributes(
    logins: OneJob,
) -> None:
    """A replay under another configuration stores neither as it came."""
    logins.client.send_message(
        QueueUrl=logins.queue_url,
        MessageBody=json.dumps([event("x", ssn="078-05-1120")]),
        MessageAttributes={"phone": {"DataType": "String", "StringValue": "+49 170 1234567"}},
    )
    optional = {"type": "text", "nullable": True, "required": False}
    attribute = {"name": "p", "message_attribute": "phone", **optional}
    tables = [[*COLUMNS, {**attribute, "name": "q", "mask": True}], [*COLUMNS, attribute]]
    tables.append([*COLUMNS, {"name": "ssn", "field": "ssn", **optional}])
    event_ = {"split": "array", "drop": ["ssn"]}
    logins.run(event=event_, table={"columns": tables[0]})
    with logins.engine.begin() as connection:
        connection.exec_driver_sql("alter table user_logins add p text, add ssn text")
    for columns, words in zip(tables[1:], ["message attribute phone", "ssn"], strict=True):
        logins.changed({"event": {"split": "array"}, "table": {"columns": columns}})
        refused = logins.command("quarantine", "replay", "--all")
        how, memory = "masked in column 'q'", "masked_columns where column_name = 'q'"
        if words == "ssn":
            how, memory = "listed in 'event.drop'", "dropped_fields"
        assert f"{words!r} was {how}" in refused.err
        with logins.engine.begin() as connection:  # as if nothing remembered it
            connection.exec_driver_sql(f"delete from etl.{memory}")
        refused = logins.command("quarantine", "replay", "--all")
        assert refused.code == 2, refused.out
        assert f"{words!r} of 1 entry was masked or dropped" in refused.err
    logins.changed({"event": event_, "table": {"columns": tables[0]}})
    assert replayed(logins)["quarantined"] == 1


def test_a_message_that_can_be_split_now_is_replayed_event_by_event(logins: OneJob) -> None:
    """Its good events are loaded, and the others get entries of their own."""
    message_id = sent(logins, json.dumps([event(1), event("x")]))
    nothing = sent(logins, "[]")
    logins.run()
    logins.changed({"event": {"split": "array"}})
    summary = replayed(logins)
    assert {k: summary[k] for k in ("received", "loaded", "already_handled", "quarantined")} == {
        "received": 2, "loaded": 1, "already_handled": 1, "quarantined": 0,
    }  # fmt: skip
    assert summary["events"] == {
        "loaded": 1, "already_handled": 0, "quarantined": 1, "empty_messages": 1,
    }  # fmt: skip
    assert dict(entries(logins)) == {
        message_id: "replayed", f"{message_id}#2": None, nothing: "already handled",
    }  # fmt: skip
    assert logins.ids() == [1]
    assert replayed(logins)["quarantined"] == 1
    assert logins.ids() == [1]


@pytest.mark.long
def test_the_entry_of_an_event_shows_its_own_text(logins: OneJob) -> None:
    """And it can be exported, and imported elsewhere."""
    logins.send_text('[{"id": 1, "ip": "192.0.2.7"},  {"id":2.50, "ip": "192.0.2.7"}]')
    logins.run(event={"split": "array"})
    ((entry,),) = logins.rows("select quarantine_id from etl.quarantine")
    shown = logins.command("quarantine", "show", str(entry), "--reason", "a test")
    assert '{"id":2.50, "ip": "192.0.2.7"}' in shown.out
    found = logins.command("forget", "--column", "masked_ip", "--value", IP, "--dry-run")
    assert found.code in (0, 2)


@pytest.mark.long
def test_a_dry_run_counts_messages_and_events(logins: OneJob) -> None:
    """And shows the rows of all events."""
    logins.send_text(json.dumps([event(1), event(2), event("x")]))
    settings = logins.changed({"event": {"split": "array"}})
    environment = {**logins.environment, "ETL_KEYRING": KEYRING.dump()}
    look = dry_run.dry_run(settings, environment)
    summary: Summary = look.summary
    assert summary.would is not None
    assert (summary.would.loaded, summary.would.quarantined) == (1, 0)
    assert summary.events == EventCounts(loaded=2, quarantined=1)
    assert len(look.masked) == 2
    assert summary.counts == Counts(received=1, released=1)


READINGS = {
    "device": {"id": "pump-7", "ip": IP},
    "readings": [{"id": 1, "value": 0.1}, {"id": 2, "value": 20.5}, {"id": "three"}],
}


def test_readings_keep_the_device_of_their_message(logins: OneJob) -> None:
    """As a message of a gateway has it: one device, and a list of what it measured."""
    columns = [COLUMNS[0], {**COLUMNS[1], "field": "device.ip"}]
    message_id = sent(logins, json.dumps(READINGS))
    split = {"split": {"path": "readings", "keep": ["device"]}}
    summary = logins.run(event=split, table={"columns": columns})
    assert summary.events == EventCounts(loaded=2, quarantined=1)
    assert logins.rows("select count(distinct masked_ip) from user_logins") == [(1,)]
    # In the quarantine, the event has the device too.
    masked = logins.rows("select message_id, masked_fields from etl.quarantine")
    assert masked == [(f"{message_id}#3", ["device.ip"])]
    assert replayed(logins)["quarantined"] == 1


CLOUDTRAIL = {
    "eventVersion": "1.09",
    "userIdentity": {"type": "IAMUser", "userName": "jo", "accountId": "123456789012"},
    "eventTime": "2024-02-29T12:45:07Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "PutObject",
    "sourceIPAddress": IP,
    "requestParameters": {"bucketName": "example-uploads", "key": "a/b.csv"},
}


@pytest.mark.long
def test_the_records_of_an_audit_trail_are_events(logins: OneJob) -> None:
    """Nested fields are read by their paths within each record."""
    columns = [
        {"name": "event", "field": "eventName", "type": "text"},
        {"name": "masked_user", "field": "userIdentity.userName", "type": "text", "mask": True},
        {"name": "masked_ip", "field": "sourceIPAddress", "type": "text", "mask": True},
        {"name": "bucket", "field": "requestParameters.bucketName", "type": "text"},
    ]
    other = {**CLOUDTRAIL, "eventName": "GetObject"}
    logins.send_text(sns(zipped(json.dumps({"Records": [CLOUDTRAIL, other]}))))
    summary = logins.run(
        queue={"envelope": ["sns", "base64", "gzip"]},
        event={"split": {"path": "Records"}},
        table={"columns": columns},
    )
    assert summary.events == EventCounts(loaded=2)
    assert logins.rows("select event, bucket from user_logins order by 1") == [
        ("GetObject", "example-uploads"), ("PutObject", "example-uploads"),
    ]  # fmt: skip


@pytest.mark.long
def test_a_message_is_released_whole_when_the_budget_is_exceeded(logins: OneJob) -> None:
    """The budget counts events; what it stops goes back to the queue as messages."""
    for _ in range(3):
        logins.send_text(json.dumps([event("x")] * 5 + [event(1)]))
    settings = logins.changed(
        {"event": {"split": "array"}, "quarantine": {"max_fraction": 0.5, "min_messages": 10}}
    )
    environment = {**logins.environment, "ETL_KEYRING": KEYRING.dump()}
    summary = job.run(settings, environment)
    assert summary.exit_code == 3
    assert summary.counts == Counts(received=3, released=3)
    assert summary.events == NO_EVENTS
    assert "15 of 18 messages" in str(summary.problem)
    assert left(logins) == 3
    samples = logins.rows("select message_id from etl.quarantine where is_sample")
    assert len(samples) == 15
    assert all("#" in message_id for (message_id,) in samples)


@pytest.mark.long
def test_a_replay_under_another_envelope_stores_nothing_that_was_masked(logins: OneJob) -> None:
    """Without the envelope, its detail is a field that holds all others."""
    logins.send_text(eventbridge(event("x")))
    logins.run(queue={"envelope": "eventbridge"})
    columns = [{"name": "id", "field": "detail.ip", "type": "text"}]
    with logins.engine.begin() as connection:
        connection.exec_driver_sql("alter table user_logins alter id type text")
    logins.changed({"table": {"columns": columns}})
    done = logins.command("quarantine", "replay", "--all")
    assert done.code == 2
    assert "the field 'detail.ip' of 1 entry was masked" in done.err
    assert logins.ids() == []


def test_a_look_shows_the_fields_of_the_events(logins: OneJob) -> None:
    """Taken out of their envelopes, and event by event."""
    logins.send_text(sns(json.dumps([event(1), event(2, note="x")])))
    logins.send_text(sns("[]"))
    logins.send_text(json.dumps([event(3)]))
    logins.changed({"queue": {"envelope": "sns"}, "event": {"split": "array"}})
    (look,) = logins.command("peek", "--json").lines
    assert look["bodies"] == {"JSON objects": 2, "without an event": 1, "no SNS notifications": 1}
    assert [(f["field"], f["events"]) for f in look["fields"]] == [("id", 2), ("ip", 2)]
