"""The queries about duplicates give the same answers as pandas on random tables."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import etl
from etl.analysis import duplicates
from etl.analysis.opening import open_source
from etl.analysis.source import Source
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import TableError, UsageError
from etl.postgres.creation import create_indexes, create_tables
from etl.postgres.queries import quote_name
from etl.schema import target_table
from tests.conftest import ROOT
from tests.integration import duplicates_by_pandas
from tests.integration.duplicates_by_pandas import rows_of

# Names that would break out of quotes, look like parameters or places, or collide with our own.
HOSTILE = {
    "schema": 'ет"l :y %',
    "table": 'a"; drop table x; --',
    "user": "%(x)s",
    "masked": ["value", ":x"],
    "other": "{logins} \\:z ' 用户",
    "time": "copies",
}
DAY = dt.datetime(2026, 3, 29, tzinfo=dt.UTC)  # clocks change in Europe
SLOW = [HealthCheck.too_slow]


def hostile_config(folder: Path) -> Path:
    """Write a configuration with hostile names and a timestamp column."""
    text = {"max_length": 128, "type": "text", "nullable": True}
    columns = [
        {"name": HOSTILE["user"], "field": "a", **text},
        *({"name": name, "field": f"m{name}", "mask": True, **text} for name in HOSTILE["masked"]),
        {"name": HOSTILE["other"], "field": "c", **text},
        {"name": HOSTILE["time"], "field": "d", "type": "timestamp", "nullable": True},
    ]
    table = {"schema": HOSTILE["schema"], "name": HOSTILE["table"], "columns": columns}
    file = folder / "hostile.yaml"
    file.write_text(yaml.safe_dump({"table": table}), encoding="utf-8")
    return file


@pytest.fixture(scope="module", params=["default", "hostile"])
def source(
    request: pytest.FixtureRequest,
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Source]:
    """The default table, and a table with hostile names and a timestamp column."""
    file = ROOT / "config.yaml"
    if request.param == "hostile":
        file = hostile_config(tmp_path_factory.mktemp("config"))
    url = postgres.new_database()
    opened = open_source(file, {"DATABASE_URL": url})
    create(opened)
    yield opened
    opened.engine.dispose()
    postgres.drop_database(url)


def create(source: Source) -> None:
    """Create the schema and the tables of a source."""
    table = source.settings.table
    with source.engine.begin() as connection:
        if table.schema_name != "public":
            connection.execute(sa.schema.CreateSchema(table.schema_name))
    create_tables(source.engine, table)


def fill(source: Source, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Replace the rows of the table; return them as a frame of objects."""
    table = target_table(source.settings.table)
    with source.engine.begin() as connection:
        connection.execute(sa.delete(table))
        if rows:
            connection.execute(sa.insert(table), rows)
    return pd.DataFrame(rows, columns=list(source.columns), dtype=object)


def names(source: Source) -> tuple[str, list[str], str]:
    """The names of the user column, the masked columns and the time column."""
    assert source.time is not None
    return source.entity.name, source.masked, source.time.name


def token(number: int, key_id: str = "k1") -> str:
    """Make a text with the shape of a token."""
    return f"{key_id}.{number:043d}"


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    """Draw one of these values or null; there are few, so most rows repeat a value."""
    return st.sampled_from([None, *values])


def tables(source: Source) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Draw the rows of a table."""
    user, masked, time = names(source)
    seconds = [0, 1, 59, 60, 61, 120, 86_399, 86_400, 200_000]
    moments = [DAY + dt.timedelta(seconds=s) for s in seconds]
    if source.columns[time].type == "date":
        moments = [moment.date() for moment in moments]
    drawn: dict[str, st.SearchStrategy[Any]] = {}
    for name, column in source.columns.items():
        if name == user:
            drawn[name] = one_of(*"abcdefgh", "Ä", "é", "Z", "%s")
        elif name in masked:
            drawn[name] = one_of(*(token(i) for i in range(6)), token(0, "k2"), token(1, "k2"))
        elif name == time:
            drawn[name] = one_of(*moments)
        elif column.type == "version":
            drawn[name] = one_of(1, 2)
        else:
            drawn[name] = one_of("x", "y")
    return st.lists(st.fixed_dictionaries(drawn), max_size=40)


@examples(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_every_answer_is_that_of_pandas(source: Source, data: st.DataObject) -> None:
    """The drawn tables are full of duplicates, nulls and rows of equal rank."""
    table = fill(source, data.draw(tables(source)))
    at_least = data.draw(st.integers(2, 4))
    user, masked, time = names(source)
    with source.snapshot() as snapshot:
        headline = duplicates.headline(snapshot)
        assert rows_of(headline) == duplicates_by_pandas.headline(table, user, time)
        exact_rows = duplicates.exact_rows(snapshot)
        assert _copies(exact_rows) == duplicates_by_pandas.exact_rows(table)
        for name in masked:
            shared = duplicates.shared_values(snapshot, name, min_users=at_least)
            assert rows_of(shared.drop(columns="column")) == duplicates_by_pandas.shared_values(
                table, user, name, time, at_least
            )
            many = duplicates.users_with_many(snapshot, name, min_values=at_least)
            assert rows_of(many.drop(columns="column")) == duplicates_by_pandas.users_with_many(
                table, user, name, time, at_least
            )
            users = duplicates.distribution(snapshot, name)
            assert rows_of(users.drop(columns="column")) == duplicates_by_pandas.distribution(
                table, user, name
            )


def _copies(frame: pd.DataFrame) -> Counter[Any]:
    assert frame.iloc[:, -1].is_monotonic_decreasing
    return Counter({row[:-1]: row[-1] for row in rows_of(frame)})


@examples(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_repeats_are_those_of_a_walk_through_time(source: Source, data: st.DataObject) -> None:
    """Pandas walks through the rows of a user one by one; Postgres finds the same repeats."""
    table = fill(source, data.draw(tables(source)))
    seconds = data.draw(st.sampled_from([0, 1, 60, 86_400]))
    user, masked, time = names(source)
    repeats = duplicates.repeats(source, within_seconds=seconds)
    assert list(repeats.columns[1:-4]) == masked
    expected = duplicates_by_pandas.repeats(table, user, masked, time, seconds)
    assert Counter(rows_of(repeats)) == expected


def test_a_pause_of_the_limit_is_still_within_it(source: Source) -> None:
    """A longer pause starts another repeat, and a single row is not a repeat."""
    user, masked, time = names(source)
    unit = 86_400 if source.columns[time].type == "date" else 60
    rows = [
        {user: "a", masked[0]: token(1), time: DAY + dt.timedelta(seconds=s)}
        for s in (0, unit, unit, 4 * unit, 6 * unit, 7 * unit)
    ]
    fill(source, rows)
    repeats = duplicates.repeats(source, within_seconds=unit)
    assert repeats["rows"].tolist() == [3, 2]
    assert repeats["seconds"].tolist() == [unit, unit]


@examples(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_groups_are_those_of_merging_sets(source: Source, data: st.DataObject) -> None:
    """The groups agree in their sizes, their order, their users and the values that link them."""
    table = fill(source, data.draw(tables(source)))
    limit = data.draw(st.sampled_from([None, 2, 3, 5]))
    user, masked, _ = names(source)
    linked = duplicates.linked(source, exclude_shared=limit, max_ties=100, max_users=100)
    expected = duplicates_by_pandas.groups(table, user, masked, limit)
    assert linked.groups["users"].tolist() == [len(group) for group in expected]
    edges = linked.edges
    members = edges.groupby("group")["user"].agg(set) if len(edges) else pd.Series([])
    assert members.tolist() == expected
    reasons = duplicates_by_pandas.why(table, user, masked, limit)
    assert linked.groups["why"].tolist() == reasons


def test_connect_finds_the_configuration_in_a_folder_above(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A notebook opens the table with one line, from its own folder."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setenv("DATABASE_URL", source.engine.url.render_as_string(hide_password=False))
    opened = etl.connect()
    assert opened.name == "public.user_logins"


def test_the_error_about_a_missing_table_names_it_and_the_way_out(database_url: str) -> None:
    empty = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    with pytest.raises(TableError, match=r"'public.user_logins' is missing; create it .* init"):
        duplicates.headline(empty)


def test_the_error_about_a_missing_column_names_those_that_exist(source: Source) -> None:
    with pytest.raises(UsageError, match="'shoe size' is not a column to compare; choose one of"):
        duplicates.shared_values(source, "shoe size")


def test_init_makes_the_indexes_of_the_settings_once(source: Source) -> None:
    """It works with hostile names too, and a second call changes nothing."""
    user, masked, _ = names(source)
    wanted = {(name, user) for name in masked}
    table = source.settings.table.model_copy(update={"indexes": tuple(wanted)})
    for _ in range(2):
        create_indexes(source.engine, table)
    indexes = sa.inspect(source.engine).get_indexes(table.name, schema=table.schema_name)
    assert {tuple(index["column_names"]) for index in indexes} == wanted
    assert len(indexes) == len(wanted)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"user_id": "a", "masked_ip": token(1), "create_date": "2026-01-01"}],
        [{"user_id": "a", "masked_ip": token(1), "create_date": "2026-01-01"}] * 5,
    ],
    ids=["empty", "one row", "all rows equal"],
)
def test_small_tables_have_small_answers(rows: list[dict[str, Any]], database_url: str) -> None:
    """There is no shared value and no group, and all but one of equal rows are surplus."""
    small = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    create(small)
    fill(small, rows)
    with small.snapshot() as snapshot:
        headline = duplicates.headline(snapshot).iloc[0]
        assert (headline["rows"], headline["users"]) == (len(rows), min(len(rows), 1))
        assert headline["surplus_rows"] == max(len(rows) - 1, 0)
        copies = [5] if len(rows) == 5 else []
        assert duplicates.exact_rows(snapshot)["copies"].tolist() == copies
        assert duplicates.repeats(snapshot)["rows"].tolist() == copies
        assert duplicates.shared_values(snapshot).empty
        assert duplicates.users_with_many(snapshot).empty
        assert duplicates.linked(snapshot).total.to_numpy().tolist() == [[0, 0, 0]]
    small.engine.dispose()


def test_tokens_under_two_keys_are_counted_and_not_matched(database_url: str) -> None:
    """A value has a different token under each key, so its users seem to share nothing."""
    opened = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    create(opened)
    rows = [
        {"user_id": "a", "masked_ip": token(1)},
        {"user_id": "b", "masked_ip": token(1, "k2")},
    ]
    fill(opened, rows)
    assert duplicates.shared_values(opened).empty
    keys = duplicates.token_keys(opened)
    assert rows_of(keys) == [("masked_ip", "k1", 1), ("masked_ip", "k2", 1)]
    opened.engine.dispose()


def test_a_plain_value_in_a_masked_column_is_counted_and_not_shown(database_url: str) -> None:
    opened = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    unchecked = opened.settings.table.model_copy(update={"token_check": False})
    create_tables(opened.engine, unchecked)
    plain = {"masked_ip": "10.1.2.3", "masked_device_id": "593-47-5928"}
    with opened.engine.begin() as connection:
        rows = [{"user_id": user, **plain} for user in "aab"]
        connection.execute(sa.insert(target_table(unchecked)), rows)
    linked = duplicates.linked(opened)
    shared = duplicates.shared_values(opened)
    frames = [
        shared,
        duplicates.exact_rows(opened),
        duplicates.token_keys(opened),
        linked.groups,
        linked.ties,
        linked.edges,
    ]
    text = " ".join(frame.to_csv() for frame in frames)
    assert not any(value in text for value in plain.values())
    assert shared["users"].tolist() == [2, 2]
    opened.engine.dispose()


def test_the_right_to_read_the_table_is_enough(postgres: EmbeddedPostgres, source: Source) -> None:
    """The queries need no temporary table; only the deliveries, in schema etl, stay unknown."""
    superuser = sa.create_engine(
        source.engine.url.set(**_login(postgres.superuser_url)), isolation_level="AUTOCOMMIT"
    )
    table = source.settings.table
    schema, name = quote_name(table.schema_name), quote_name(table.schema_name, table.name)
    with superuser.connect() as connection:
        try:
            for statement in (
                "create role reader login password 'reader'",
                f'revoke temp on database "{source.engine.url.database}" from public',
                f"grant usage on schema {schema} to reader",
                f"grant select on {name} to reader",
            ):
                connection.execute(sa.text(statement))
            url = source.engine.url.set(username="reader", password="reader")
            reader = dataclasses.replace(source, engine=sa.create_engine(url))
            assert duplicates.deliveries(reader).empty
            assert not duplicates.column_totals(reader).empty
            assert len(duplicates.linked(reader).total) == 1
            reader.engine.dispose()
        finally:
            connection.execute(sa.text("drop owned by reader"))
            connection.execute(sa.text("drop role reader"))
    superuser.dispose()


def _login(url: str) -> dict[str, Any]:
    parsed = sa.make_url(url)
    return {"username": parsed.username, "password": parsed.password}
