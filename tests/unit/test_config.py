"""config.yaml and the environment -> settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from etl import config
from etl.errors import SettingsError
from tests.unit.builders import ROOT

COLUMN = "{name: a, field: a, type: text}"


def load(tmp_path: Path, text: str, **environment: str) -> config.Settings:
    """Load settings from a text."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return config.load(path, environment)


def problem(tmp_path: Path, text: str, **environment: str) -> str:
    """What is wrong with a text."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    return str(caught.value)


def table(*columns: str) -> str:
    """Write a table section."""
    return "table: {columns: [" + ", ".join(columns or (COLUMN,)) + "]}\n"


def test_config_yaml_holds_every_key_and_no_other() -> None:
    """The default job shows all there is to set."""
    tree = yaml.safe_load((ROOT / "config.yaml").read_text())
    known = {
        section: set(field.annotation.model_fields)  # type: ignore[union-attr]
        for section, field in config.Settings.model_fields.items()
    }
    known["table"] = known["table"] - {"schema_name"} | {"schema"}
    known["database"] -= {"url"}
    assert {section: set(keys) for section, keys in tree.items()} == known


def test_config_yaml_holds_the_defaults() -> None:
    """Whoever deletes a line changes nothing."""
    written = config.load(ROOT / "config.yaml", {})
    default = config.Settings(table=written.table)
    assert written == default


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """ETL_SECTION__KEY, with the types of YAML."""
    settings = load(tmp_path, table() + "batch: {rows: 5}", ETL_BATCH__ROWS="7")
    assert settings.batch.rows == 7


def test_the_command_line_overrides_the_environment() -> None:
    """None means that the option was not given."""
    settings = config.load(
        ROOT / "config.yaml",
        {"ETL_RUN__IDLE_SECONDS": "5", "ETL_RUN__MAX_MESSAGES": "6"},
        {"run.idle_seconds": 2.5, "run.max_messages": None},
    )
    assert (settings.run.idle_seconds, settings.run.max_messages) == (2.5, 6)


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        (table() + "queue: {ulr: x}", {}, ["'queue.ulr'", "did you mean 'url'"]),
        (table() + "qeue: {url: x}", {}, ["'qeue'", "did you mean 'queue'"]),
        (table("{name: a, field: a, type: text, maks: true}"), {}, ["maks", "'mask'"]),
        (table(), {"ETL_QUEUE__ULR": "x"}, ["queue.ulr"]),
        (table(), {"ETL_QEUE__URL": "x"}, ["ETL_QEUE__URL", "'queue'"]),
        (table(), {"ETL_QUEUE_URL": "x"}, ["ETL_QUEUE_URL", "two underscores"]),
        (table() + "batch: {rows: 0}", {}, ["batch.rows", "greater than"]),
        (table() + "batch: {rows: many}", {}, ["batch.rows", "integer"]),
        (table() + "load: {method: row}", {}, ["load.method", "'multi' or 'copy'"]),
        ("queue: {url: x}", {}, ["'table' is missing"]),
        ("table: {columns: []}", {}, ["at least one column"]),
        (table(COLUMN, COLUMN), {}, ["'a' stands twice"]),
        (table(COLUMN, "{name: b, field: a, type: text}"), {}, ["'a' is read by two"]),
        (table("{name: message_id, field: a, type: text}"), {}, ["'message_id'"]),
        (table("{name: a, field: message_id, type: text}"), {}, ["'message_id'"]),
        (table("{name: b, field: a, type: text}", "{name: a, field: c, type: text}"), {},
         ["name of another column's field"]),
        (table("{name: a, type: text}"), {}, ["either 'field' or 'attribute'"]),
        (table("{name: a, field: a, type: integer, mask: true}"), {}, ["can be masked"]),
        (table("{name: a, field: a, type: text, required: false}"), {}, ["must be nullable"]),
        (table("{name: a, attribute: SentTimestamp, type: text}"), {}, ["'date' or 'timestamp'"]),
        (table() + "run: {workers: 20}", {}, ["400,000", "120,000"]),
        ("- a\n- b", {}, ["must hold sections"]),
        ("table: {columns: [", {}, ["not YAML at line"]),
        ("queue: 7\n" + table(), {"ETL_QUEUE__URL": "x"}, ["'queue' must be a section"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_the_way_out(
    tmp_path: Path, text: str, environment: dict[str, str], words: list[str]
) -> None:
    """Whoever reads the error knows which line to change."""
    message = problem(tmp_path, text, **environment)
    for word in words:
        assert word in message


def test_several_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """One start, all problems."""
    message = problem(tmp_path, table() + "batch: {rows: 0}\nload: {methd: copy}")
    assert "batch.rows" in message
    assert "load.methd" in message


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("database: {url: postgresql://u:hunter2@h/d}\n" + table(), {}),
        ("hunter2: 1\nhunter2\n", {}),
        (table() + "batch: {rows: hunter2}", {}),
    ],
)
def test_an_error_never_repeats_a_value(
    tmp_path: Path, text: str, environment: dict[str, str]
) -> None:
    """A secret in the wrong place stays out of the log."""
    assert "hunter2" not in problem(tmp_path, text, **environment)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """And so is the option."""
    with pytest.raises(SettingsError, match=r"nowhere\.yaml.*--config"):
        config.load(tmp_path / "nowhere.yaml", {})


def test_the_database_url_never_shows(tmp_path: Path) -> None:
    """Neither in a repr nor in a dump nor in the fingerprint."""
    settings = load(tmp_path, table(), DATABASE_URL="postgresql://u:hunter2@h/d")
    other = load(tmp_path, table(), DATABASE_URL="postgresql://u:other@h/d")
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.fingerprint == other.fingerprint


def test_the_fingerprint_changes_with_a_setting(tmp_path: Path) -> None:
    """It tells which configuration a run had."""
    one, other = load(tmp_path, table()), load(tmp_path, table(), ETL_BATCH__ROWS="9")
    assert one.fingerprint != other.fingerprint


def test_settings_are_frozen(tmp_path: Path) -> None:
    """Nobody changes them half-way."""
    settings: Any = load(tmp_path, table())
    with pytest.raises(ValueError, match="frozen"):
        settings.batch.rows = 3
