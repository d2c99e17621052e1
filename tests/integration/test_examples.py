"""Each example of docs/examples, from SQS to Postgres by both methods, stores what it says."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from etl import mask
from etl.config import Column, Table, load
from tests.conftest import KEYRING, Job
from tests.unit.builders import ROOT, some_long

FOLDER = ROOT / "docs" / "examples"
EXAMPLES = [
    "orders",
    *sorted(p.name for p in FOLDER.iterdir() if p.is_dir() and p.name != "orders"),
]
CASES = [(example, method) for example in EXAMPLES for method in ("copy", "multi")]
# Of deliveries. How many were updated or skipped depends on where a batch ends.
_COUNTS = ("received", "loaded", "already_handled", "quarantined")
# What differs from run to run.
_MADE = {"run_id", "message_id", "SentTimestamp"}


@pytest.mark.parametrize("case", some_long(CASES), ids=" by ".join)
def test_an_example_stores_what_it_says(job: Job, case: tuple[str, str]) -> None:
    """And quarantines what it says, with these reasons; nothing is left in the queue."""
    example, method = case
    folder = FOLDER / example
    tables = load(folder / "config.yaml", {}).tables
    if (folder / "table.sql").exists():
        with job.engine.begin() as connection:
            connection.exec_driver_sql((folder / "table.sql").read_text())
    for body in (folder / "messages.jsonl").read_text().splitlines():
        send_in_a_later_millisecond(job, body)
    summary = job.run("--config", str(folder / "config.yaml"), ETL_LOAD__METHOD=method)
    rows = {table.name: rows_of(job, table) for table in tables}
    reasons = job.rows("select reasons from etl.quarantine")
    found = {
        # Of one table, its rows.
        "rows": rows if len(tables) > 1 else rows[tables[0].name],
        "quarantined": sorted(
            sorted(f"{error['column']}: {error['check']}" for error in errors)
            for (errors,) in reasons
        ),
        "counts": {name: summary[name] for name in _COUNTS},
    }
    expected = json.loads((folder / "expected.json").read_text())
    for listed in expected["rows"].values() if len(tables) > 1 else [expected["rows"]]:
        listed.sort(key=json.dumps)
    assert found == expected
    assert job.left() == 0


def rows_of(job: Job, table: Table) -> list[dict[str, Any]]:
    """The rows of a table, as the expectation has them, in the order of their JSON."""
    names = ", ".join(f'cast("{c.name}" as text)' for c in table.columns)
    stored = job.rows(f"select {names} from {table.name}")
    rows = [
        {c.name: readable(c, text) for c, text in zip(table.columns, row, strict=True)}
        for row in stored
    ]
    return sorted(rows, key=json.dumps)


def readable(column: Column, text: str | None) -> Any:
    """What the expectation holds: the text in the table, or of a token its value or its kind."""
    if text is None:
        return None
    if column.mask is True:
        return {"token of": mask.unmask(text, KEYRING, column.masking_context)}
    if column.mask == "hmac":
        assert re.fullmatch(r"k1:[\w-]{43}", text)
        return {"token": "hmac"}
    if {column.metadata, column.attribute} & _MADE:
        return {"made": column.metadata or column.attribute}
    return text


def send_in_a_later_millisecond(job: Job, body: str) -> None:
    """Send a message so that it was sent later than the one before."""
    job.send(body)
    began = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= began:
        pass


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_has_only_made_up_addresses(example: str) -> None:
    """Those of RFC 5737, RFC 3849 and RFC 2606, and of a private network."""
    text = (FOLDER / example / "messages.jsonl").read_text()
    addresses = re.findall(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])", text)
    assert all(re.match(r"192\.0\.2\.|198\.51\.100\.|203\.0\.113\.|10\.", a) for a in addresses)
    assert set(re.findall(r"@([\w.-]+)", text.lower())) <= {"example.com", "example.org"}
