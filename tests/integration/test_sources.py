"""Columns from any place of an event, from the message and from the run, as far as the table."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from etl.crypto.keyring import Keyring
from etl.mask import unmask
from tests.conftest import Job

CONFIG = """
event: {unknown_fields: reject}
table:
  name: orders
  columns:
    - {name: message_id, metadata: message_id, type: text}
    - {name: order_id, field: order.id, type: bigint}
    - {name: first_sku, field: 'order.items[0].sku', type: text, default: none}
    - {name: masked_email, field: [customer.email, customer_email], type: text, mask: true}
    - {name: dotted, field: '"a.b"', type: number, required: false, nullable: true}
    - {name: trace, message_attribute: trace, type: text, required: false, nullable: true}
    - {name: attempt, message_attribute: attempt, type: integer, default: 1}
    - {name: sender, attribute: SenderId, type: text, mask: true}
    - {name: region, constant: eu, type: text}
    - {name: run_id, metadata: run_id, type: text}
    - {name: loaded_at, metadata: loaded_at, type: timestamp}
    - {name: sent_at, attribute: SentTimestamp, type: timestamp}
    - {name: sent_on, attribute: SentTimestamp, type: date}
"""
EMAIL = "jo@example.com"


def body(number: object, **more: object) -> str:
    """The body of an order."""
    return json.dumps({"order": {"id": number, "items": [{"sku": "A-1"}]}, **more})


def send(job: Job, body: str, **attributes: str) -> str:
    """Send one message with attributes; numbers are sent as numbers."""
    sent = job.client.send_message(
        QueueUrl=job.queue_url,
        MessageBody=body,
        MessageAttributes={
            name: {"DataType": "Number" if text.isdigit() else "String", "StringValue": text}
            for name, text in attributes.items()
        },
    )
    return str(sent["MessageId"])


@pytest.fixture(params=["multi", "copy"])
def orders(job: Job, tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    """A job that loads orders."""
    path = tmp_path / "orders.yaml"
    path.write_text(f"{CONFIG}load: {{method: {request.param}}}\n")
    job.environment["ETL_CONFIG"] = str(path)
    job.arguments = (*job.arguments, "--config", str(path))
    return job


@pytest.mark.parametrize("transport", ["curl", "boto3"])
def test_each_source_reaches_its_column(orders: Job, keyring: Keyring, transport: str) -> None:
    """Paths, other names, defaults, attributes, constants, and what the run knows."""
    first = send(orders, body(2**53 + 1, customer={"email": EMAIL}, **{"a.b": 0.1}), trace="t-1")
    second = send(orders, json.dumps({"order": {"id": 2}, "customer_email": EMAIL}), attempt="3")
    summary = orders.run(ETL_QUEUE__TRANSPORT=transport)
    assert (summary["loaded"], summary["quarantined"]) == (2, 0)
    rows = orders.rows(
        "select message_id, order_id, first_sku, dotted, trace, attempt, region, run_id, "
        "masked_email, sender, sent_at::date = sent_on, loaded_at >= sent_at from orders"
    )
    shared = ("eu", summary["run_id"], *rows[0][8:10], True, True)
    assert set(rows) == {
        (first, 2**53 + 1, "A-1", 0.1, "t-1", 1, *shared),
        (second, 2, "none", None, None, 3, *shared),
    }
    assert unmask(rows[0][8], keyring, "customer.email") == EMAIL
    assert unmask(rows[0][9], keyring, "attribute SenderId")


def test_attributes_are_quarantined_with_the_body_and_replayed(orders: Job) -> None:
    """They would be lost with the message, which leaves the queue."""
    send(orders, body("x", customer={"email": EMAIL}), trace="secret-trace", attempt="7")
    orders.run()
    assert orders.rows("select reasons from etl.quarantine") == [
        ([{"column": "order.id", "check": "type"}],)
    ]
    config = ("--config", orders.environment["ETL_CONFIG"])
    reason = ("--reason", "test")
    shown = orders.command("quarantine", "show", *config, *reason, "--json", "1")
    assert json.loads(shown.stdout)["attributes"]["message attribute trace"] == "secret-trace"
    assert "secret-trace" in orders.command("quarantine", "show", *config, *reason, "1").stdout
    text = Path(config[1]).read_text()
    Path(config[1]).write_text(text.replace("order.id, type: bigint", "order.id, type: text"))
    orders.rows("select 1")
    with orders.engine.begin() as connection:
        connection.exec_driver_sql("alter table orders alter order_id type text")
    done = orders.command("quarantine", "replay", *config, "--all", "--json")
    assert json.loads(done.stdout)["loaded"] == 1, done.stderr
    ((trace, attempt, run_id, sender),) = orders.rows(
        "select trace, attempt, run_id, sender from orders"
    )
    assert (trace, attempt) == ("secret-trace", 7)
    assert str(uuid.UUID(run_id)) == json.loads(done.stdout)["run_id"]
    assert sender.startswith("k1.")


def test_what_no_column_reads_is_named_by_its_path(orders: Job) -> None:
    """Within an object, too."""
    send(orders, body(1, customer={"email": EMAIL, "age": 3}))
    orders.run()
    assert orders.rows("select reasons from etl.quarantine") == [
        ([{"column": "message", "check": "unknown field"}],)
    ]
    for number in range(5):
        send(orders, body(number, customer={"email": EMAIL, "age": 3}))
    orders.run(ETL_EVENT__UNKNOWN_FIELDS="ignore")
    ((fields,),) = orders.rows(
        "select unknown_fields from etl.runs order by started_at desc limit 1"
    )
    assert [found["name"] for found in fields] == ["customer.age"]
    assert orders.rows("select count(*) from orders") == [(5,)]


def test_a_dry_run_shows_them(orders: Job) -> None:
    """The run's id is one that no run has."""
    send(orders, body(1, customer={"email": EMAIL}), trace="t-9")
    done = orders.command("run", *orders.arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["would_load"] == 1
    assert EMAIL not in done.stdout + done.stderr
