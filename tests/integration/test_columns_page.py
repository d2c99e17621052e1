"""Every example of docs/columns.md does what the page says, in a real table, by both methods."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from etl import config, load, mask
from etl.batch import prepare
from etl.checks.configured import check_columns
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.postgres.creation import create_tables
from etl.postgres.engine import transaction
from etl.validate import frame_schema
from tests.unit.builders import ROOT, message

PAGE = ROOT / "docs" / "columns.md"
_BLOCK = re.compile(r"```yaml\n(?P<column>\{name: [^`]*\})\n```\n\n(?P<table>(?:\|.*\n)+)")
_ROW = re.compile(r"\| `(?P<event>.*)` \| (?P<outcome>.*?) \|")
_REFUSED, _TOKEN = "refused: ", "a token of "
MANY = 1_000


class Example(NamedTuple):
    """An event, and what the page says becomes of it."""

    event: str
    outcome: str


def blocks() -> Iterator[tuple[str, list[Example]]]:
    """The columns of the page, each with its examples."""
    for block in _BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        rows = [_ROW.fullmatch(line) for line in block["table"].splitlines()[2:]]
        assert all(rows), block["table"]
        yield block["column"], [Example(r["event"], r["outcome"]) for r in rows if r]


BLOCKS = list(blocks())


def settings_of(column: str, tmp_path: Path) -> Settings:
    """The settings of a table with this column."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "table:\n  name: examples\n  columns:\n"
        f"  - {column}\n  - {{name: message_id, metadata: message_id, type: text}}\n"
    )
    return config.load(path, {})


@pytest.mark.parametrize("method", ["multi", "copy"])
def test_each_example_is_stored_or_refused_as_the_page_says(
    engine: sa.Engine, keyring: Keyring, tmp_path: Path, method: str
) -> None:
    """What is stored is read back as Postgres writes it."""
    assert len(BLOCKS) > 20
    problems: list[str] = []
    for column, examples in BLOCKS:
        found = outcomes(engine, keyring, settings_of(column, tmp_path), examples, method)
        problems += [
            f"{column}: {example.event}: the page says {example.outcome}, found {outcome}"
            for example, outcome in zip(examples, found, strict=True)
            if example.outcome != outcome
        ]
    assert not problems, "\n".join(problems)


def outcomes(
    engine: sa.Engine,
    keyring: Keyring,
    settings: Settings,
    examples: list[Example],
    method: str,
) -> list[str]:
    """What becomes of each event, in the words of the page."""
    table, name = settings.table, settings.table.columns[0].name
    check_columns(table.columns)
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table if exists examples")
    create_tables(engine, table)
    messages = [message(example.event, number) for number, example in enumerate(examples)]
    batch = prepare(messages, settings, frame_schema(table.columns), keyring, "run")
    load_settings = settings.load.model_copy(update={"method": method})
    with transaction(engine) as connection:
        refused = load.stage(connection, batch.masked, table, load_settings, MANY)
        assert refused.empty
        ids = batch.masked["message_id"].tolist()
        assert load.merge(connection, ids, table, len(ids), MANY).empty
        rows = connection.execute(
            sa.text(f'select message_id, cast("{name}" as text) from examples')
        )
        stored = {str(row[0]): row[1] for row in rows}
    reasons: dict[str, list[str]] = {}
    for row in batch.rejects.itertuples():
        reasons.setdefault(str(row.message_id), []).append(f"`{row.check}`")
    context = table.columns[0].masking_context
    found = []
    for sent in messages:
        if sent.message_id in reasons:
            found.append(_REFUSED + ", ".join(reasons[sent.message_id]))
            continue
        text = stored[sent.message_id]
        if text is None:
            found.append("null")
        elif table.columns[0].mask is True:
            found.append(f"{_TOKEN}`{mask.unmask(text, keyring, context)}`")
        else:
            found.append(f"`{text}`")
    return found


def test_the_page_has_an_example_of_each_type() -> None:
    """And its events are JSON."""
    types = {re.findall(r"type: (\w+)", column)[0] for column, _ in BLOCKS}
    known = set(config.Column.model_json_schema()["properties"]["type"]["enum"])
    assert types == known
    for _, examples in BLOCKS:
        for example in examples:
            json.loads(example.event)
