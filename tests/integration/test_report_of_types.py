"""The duplicate report reads columns of every type."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from etl import extract, load, mask, validate
from etl.analysis.at_once import AtOnce
from etl.analysis.reader import CannotCount
from etl.analysis.source import Source
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.operations.lookup import find_rows
from etl.postgres.creation import create_tables
from etl.postgres.engine import transaction
from etl.report.build import Choice, build_report
from etl.report.html import render
from etl.terminal.cells import full
from etl.validate import frame_schema
from tests.unit.builders import message

UUID = "abababab-0000-4000-8000-000000000000"
# The settings of a column, the JSON text of a value, and how the report shows it.
COLUMNS: list[tuple[dict[str, Any], str, Any]] = [
    ({"type": "smallint"}, "7", 7),
    ({"type": "decimal", "precision": 9, "scale": 2}, "1.5", "1.50"),
    ({"type": "time"}, '"12:00:00.5"', "12:00:00.500000"),
    ({"type": "uuid"}, f'"{UUID.upper()}"', UUID),
    ({"type": "bytes"}, '"AP+n"', r"\x00ffa7"),
    ({"type": "json"}, '{"é": [1, null, true]}', '{"é": [1, null, true]}'),
    ({"type": "ip"}, '"2001:DB8::1"', "2001:db8::1"),
    ({"type": "text", "array": True}, '["a", "é"]', '["a", "é"]'),
    ({"type": "decimal", "array": True}, "[0.10]", '["0.1"]'),
    ({"type": "date", "array": True}, '["2024-02-29"]', '["2024-02-29"]'),
    ({"type": "integer", "array": True, "null_elements": True}, "[1, null]", "[1, null]"),
]


# The positions of those that a search for rows shows as the report does.
TEXTS = (1, 2, 3, 4, 5, 6)
HASHED = ("smallint", "time", "uuid", "bytes", "ip")
# Their values have hashes that Postgres can send.
COUNTED_HERE = [column for column in COLUMNS if column[0]["type"] in HASHED and len(column[0]) == 1]


@pytest.mark.parametrize("columns", [COLUMNS, COUNTED_HERE], ids=["by Postgres", "here"])
def test_a_report_shows_values_of_every_type(
    columns: list[tuple[dict[str, Any], str, Any]],
    engine: sa.Engine,
    keyring: Keyring,
    settings: Callable[..., Settings],
) -> None:
    """Wherever they are counted, and in a period of a time without zone."""
    configured: list[dict[str, Any]] = [
        {"name": "who", "field": "who", "type": "text"},
        {"name": "at", "field": "at", "type": "datetime"},
        {"name": "masked_id", "field": "id", "type": "text", "mask": True},
    ]
    configured += [{"name": f"c{i}", "field": f"f{i}", **c} for i, (c, _, _) in enumerate(columns)]
    # It differs in events that the producer sent twice, which are duplicates all the same.
    configured.append({"name": "id_of_message", "metadata": "message_id", "type": "text"})
    job = settings(table__columns=configured)
    fields = "".join(f', "f{i}": {text}' for i, (_, text, _) in enumerate(columns))
    bodies = [
        f'{{"who": "a", "id": "b", "at": "2024-02-{day}T12:00:00"{fields}}}' for day in (28, 28, 29)
    ]
    create_tables(engine, job.table)
    fill(engine, job, keyring, bodies)
    source = Source(engine, job).between(until="2024-02-29")
    assert source.bounds["until"].tzinfo is None
    with source.snapshot() as snapshot:
        counts_here = True
        try:
            AtOnce(snapshot, "c0")
        except CannotCount:
            counts_here = False
    assert counts_here == (columns is COUNTED_HERE)
    report = build_report(source, Choice(by="c0"))
    (shown,) = report.sections["exact_rows"].frame.itertuples(index=False, name=None)
    expected = [value for _, _, value in columns]
    assert list(shown[:2]) == ["a", dt.datetime.fromisoformat("2024-02-28T12:00:00")]
    assert list(shown[3:]) == [*expected, 2]
    assert expected[1] in render(report)
    tokens = {"k1": str(shown[2])}
    found = find_rows(engine, job.table, job.table.columns[2], tokens, 9).iloc[0].to_dict()
    assert [str(found[f"c{i}"]) for i in TEXTS if f"c{i}" in found] == [
        expected[i] for i in TEXTS if i < len(columns)
    ]
    assert full(found["at"]) == "2024-02-28 12:00:00"


def fill(engine: sa.Engine, job: Settings, keyring: Keyring, bodies: list[str]) -> None:
    """Load events."""
    raw, _ = extract.read([message(b, i) for i, b in enumerate(bodies)], list(job.event_fields))
    valid, rejects = validate.split(raw, frame_schema(job.table.columns), job.table.columns)
    assert rejects.empty
    masked = mask.columns(valid, keyring, mask.masking_plan(job.table))
    with transaction(engine) as connection:
        load.stage(connection, masked, job.table, job.load, 0)
        load.merge(connection, valid["message_id"].tolist(), job.table, len(bodies), 0)
