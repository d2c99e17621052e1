"""Any column of any type and source holds what docs/columns.md says, or its event is refused."""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as example_settings

from etl import config
from etl.batch import prepare, store
from etl.checks.configured import check_table
from etl.config import Settings
from etl.parts import BatchId
from etl.postgres.creation import create_tables
from etl.postgres.engine import transaction
from etl.sqs.attributes import wanted_attributes
from etl.sqs.message import body_md5, read_message
from etl.validate import frame_schema
from tests.conftest import KEYRING, Job
from tests.integration import column_model as model
from tests.integration.column_examples import Column, Example, example_of, examples

KEY_ID = "k1"
KEY = KEYRING.key(KEY_ID)
SENT_MS = 1_700_000_000_123
OF_SQS = {"SentTimestamp": str(SENT_MS), "SenderId": "AIDAexample:Jo"}
RUN_ID = str(uuid.uuid4())
METHODS = ("multi", "copy")
Rows = dict[str | None, tuple[Any, ...]]  # of the table, by message id
Reasons = dict[str, set[tuple[str, str]]]


def write_config(columns: list[Column], path: Path, name: str = "examples") -> Path:
    """Write a configuration with these columns, and one for the message's id."""
    message_id = {"name": "message_id", "metadata": "message_id", "type": "text"}
    table = {"name": name, "columns": [message_id, *columns]}
    path.write_text(json.dumps({"table": table}, ensure_ascii=False), encoding="utf-8")
    return path


def messages_of(example: Example, run_id: str) -> list[model.Sent]:
    """What is sent, as the model takes it."""
    return [
        model.Sent(event, attributes, OF_SQS, f"m{number}", run_id)
        for number, (event, attributes) in enumerate(
            zip(example.events, example.attributes, strict=True)
        )
    ]


def load(
    engine: sa.Engine, settings: Settings, sent: list[model.Sent], method: str
) -> tuple[set[str], Reasons]:
    """Load one batch as the pipeline does; return the ids of the rows, and why others have none."""
    table = settings.table
    wanted = wanted_attributes([table])
    entries = [
        {
            "MessageId": message.message_id,
            "ReceiptHandle": "handle",
            "Body": message.event,
            "MD5OfBody": body_md5(message.event),
            "Attributes": message.of_sqs,
            "MessageAttributes": message.attributes,
        }
        for message in sent
    ]
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table if exists examples")
    create_tables(engine, table)
    messages = [read_message(entry, wanted) for entry in entries]
    schema = frame_schema(table.columns, table)
    batch = prepare(messages, settings, schema, KEYRING, RUN_ID)
    chosen = settings.model_copy(
        update={"load": settings.load.model_copy(update={"method": method})}
    )
    with transaction(engine) as connection:
        stored = store(connection, batch, chosen, BatchId(RUN_ID, 1), len(sent), set)
    reasons: Reasons = {}
    for reject in stored.rejects.itertuples():
        reasons.setdefault(str(reject.message_id), set()).add(
            (str(reject.column), str(reject.check))
        )
    return set(stored.loaded), reasons


def rows(url: str, columns: list[Column], table: str = "examples") -> Rows:
    """The rows of the table, by message id; what psycopg2 does not know is read as text."""
    as_text = [
        column["type"] in ("ip", "uuid", "json") and "mask" not in column for column in columns
    ]
    names = [
        f"{column['name']}::text{'[]' if column.get('array') else ''}"
        if is_text
        else column["name"]
        for column, is_text in zip(columns, as_text, strict=True)
    ]
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("set timezone to 'UTC'")
            cursor.execute(f"select message_id, {', '.join(names)} from {table}")
            return {row[0]: row[1:] for row in cursor.fetchall()}
    finally:
        connection.close()


def problems(
    columns: list[Column],
    sent: list[model.Sent],
    stored: Rows,
    reasons: Mapping[str, set[tuple[str, str]]],
) -> list[str]:
    """Where the table and the quarantine are not what the page says."""
    found = []
    for message, outcome in zip(sent, model.expected(columns, sent), strict=True):
        row, refused = stored.get(message.message_id), reasons.get(message.message_id, set())
        if refused != outcome.reasons or (row is None) != bool(outcome.reasons):
            found.append(f"{message}: expected {outcome}, found {row}, refused by {refused}")
            continue
        for column, value in zip(columns, row or (), strict=row is not None):
            wanted = outcome.values[column["name"]]
            if not is_stored(column, wanted, value):
                found.append(f"{column}: {message}: expected {wanted!r}, found {value!r}")
    return found


def is_stored(column: Column, plain: Any, value: Any) -> bool:
    """Whether a value of the table is what is stored of a plain value."""
    if column.get("metadata") == "loaded_at":
        return isinstance(value, dt.date)
    if plain is None or value is None:
        return plain is value
    if mask := column.get("mask"):
        return is_masked(column, mask, model.masked_text(plain), value)
    if column["type"] == "json":
        document = json.loads(value, parse_int=Decimal, parse_float=Decimal)
        return bool(comparable(document) == comparable(plain))
    if column["type"] == "bytes":
        values = value if column.get("array") else [value]
        read = [None if item is None else bytes(item) for item in values]
        value = read if column.get("array") else read[0]
    if column["type"] == "ip" and not ({"max_length", "canonical"} & {*column}):
        plain, value = [
            [item and ipaddress.ip_interface(item) for item in values]
            if isinstance(values, list)
            else ipaddress.ip_interface(values)
            for values in (plain, value)
        ]
    return bool(comparable(value) == comparable(plain))


def is_masked(column: Column, mask: bool | str, plain: str, value: str) -> bool:
    """Whether a value of the table is the mask of a plain text."""
    if mask == "partial":
        return value == model.shown(column, plain)
    if mask == "hmac":
        return value == model.one_way_token(column, plain, KEY_ID, KEY)
    return model.opened(column, value, KEY_ID, KEY) == plain


def comparable(value: Any) -> Any:
    """The value, so that only the same value of the same type is equal to it."""
    if isinstance(value, dict):
        return {name: comparable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return type(value), value


def check_one_batch(example: Example, method: str, engine: sa.Engine, url: str, path: Path) -> None:
    """Load an example's messages, and compare the rows and the refusals with the model."""
    settings = config.load(write_config(example.columns, path / "config.yaml"), {})
    check_table(settings.table)
    sent = messages_of(example, RUN_ID)
    loaded, reasons = load(engine, settings, sent, method)
    stored = rows(url, example.columns)
    assert set(stored) == loaded
    found = problems(example.columns, sent, stored, reasons)
    assert not found, f"{example.columns}\n" + "\n".join(found[:5])


def options(count: int) -> example_settings:
    """The same examples every time."""
    return example_settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("count", [6, pytest.param(300, marks=pytest.mark.long)])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_stored_is_what_the_page_says(
    method: str, count: int, engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    """Any types, sources, settings and values; or the event is refused for the page's reasons."""

    @given(examples())
    @options(count)
    def check(example: Example) -> None:
        check_one_batch(example, method, engine, database_url, tmp_path)

    check()


def varied_example(random: Random) -> Example:
    """Several columns and many messages, of which a third at least is loaded, and some are not."""
    while True:
        seeds = [random.getrandbits(64) for _ in range(64)]
        made = example_of(seeds[:4], seeds[4:], only_events=True)
        # SQS gives messages in any order, and the first of equal ones would be another.
        columns = [
            {key: value for key, value in column.items() if key not in ("unique", "warn")}
            for column in made.columns
        ]
        example = replace(made, columns=columns)
        outcomes = model.expected(columns, messages_of(example, RUN_ID))
        if 15 < sum(not outcome.reasons for outcome in outcomes) < 55:
            return example


LONG_RUNS = itertools.product((9, 27, 31, 37, 52, 55), METHODS)


@pytest.mark.parametrize(
    ("seed", "method"),
    [(16, "copy"), *(pytest.param(*run, marks=pytest.mark.long) for run in LONG_RUNS)],
)
def test_a_run_stores_what_the_page_says(
    seed: int, method: str, job: Job, database_url: str, tmp_path: Path
) -> None:
    """From the queue to the table, and to the quarantine."""
    example = varied_example(Random(seed))
    columns = example.columns
    path = write_config(columns, tmp_path / "config.yaml")
    ids = [
        job.client.send_message(
            QueueUrl=job.queue_url, MessageBody=event, MessageAttributes=attributes
        )["MessageId"]
        for event, attributes in zip(example.events, example.attributes, strict=True)
    ]
    more = {"ETL_QUARANTINE__MAX_FRACTION": "1", "ETL_LOAD__METHOD": method}
    summary = job.run("--config", str(path), **more)
    sent = [
        model.Sent(event, attributes, OF_SQS, message_id, summary["run_id"])
        for message_id, event, attributes in zip(
            ids, example.events, example.attributes, strict=True
        )
    ]
    reasons = {
        message_id: {(reason["column"], reason["check"]) for reason in found}
        for message_id, found in job.rows("select message_id, reasons from etl.quarantine")
    }
    stored = rows(database_url, columns)
    assert (summary["loaded"], summary["quarantined"]) == (len(stored), len(reasons))
    found = problems(columns, sent, stored, reasons)
    assert not found, f"{columns}\n" + "\n".join(found[:5])
