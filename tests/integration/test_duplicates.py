"""The duplicate report's answers, against pandas on random tables."""

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
from etl.analysis.source import Source, open_source
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import SettingsError, TableError
from etl.postgres.queries import quote_name
from etl.postgres.tables import create_indexes, create_tables, target_table
from tests.conftest import ROOT
from tests.integration import duplicates_by_pandas as slowly
from tests.integration.duplicates_by_pandas import rows_of

# Names that would break out of quotes, pass for parameters or places, or collide with our own.
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
    """Write a configuration whose names are hostile, with a timestamp."""
    names = HOSTILE
    text = {"max_length": 128, "type": "text", "nullable": True}
    columns = [
        {"name": names["user"], "field": "a", **text},
        *({"name": n, "field": f"m{n}", "mask": True, **text} for n in names["masked"]),
        {"name": names["other"], "field": "c", **text},
        {"name": names["time"], "field": "d", "type": "timestamp", "nullable": True},
    ]
    table = {"schema": names["schema"], "name": names["table"], "columns": columns}
    file = folder / "hostile.yaml"
    file.write_text(yaml.safe_dump({"table": table}), encoding="utf-8")
    return file


@pytest.fixture(scope="module", params=["default", "hostile"])
def source(
    request: pytest.FixtureRequest,
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Source]:
    """A table to ask about: the default one, and one with hostile names and a timestamp."""
    file = ROOT / "config.yaml"
    if request.param == "hostile":
        file = hostile_config(tmp_path_factory.mktemp("config"))
    url = postgres.new_database()
    made = open_source(file, {"DATABASE_URL": url})
    create(made)
    yield made
    made.engine.dispose()
    postgres.drop_database(url)


def create(source: Source) -> None:
    """Make the tables."""
    table = source.settings.table
    with source.engine.begin() as connection:
        if table.schema_name != "public":
            connection.execute(sa.schema.CreateSchema(table.schema_name))
    create_tables(source.engine, table)


def fill(source: Source, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Put rows into the emptied table; returns it as a frame of objects."""
    table = target_table(source.settings.table)
    with source.engine.begin() as connection:
        connection.execute(sa.delete(table))
        if rows:
            connection.execute(sa.insert(table), rows)
    return pd.DataFrame(rows, columns=list(source.columns), dtype=object)


def names(source: Source) -> tuple[str, list[str], str]:
    """The columns of the user, of the tokens and of the time."""
    assert source.time is not None
    return source.entity.name, source.masked, source.time.name


def token(number: int, key_id: str = "k1") -> str:
    """Make something of the shape of a token."""
    return f"{key_id}.{number:043d}"


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    """One of these or null; few, so that most repeat."""
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


@examples(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_every_answer_is_that_of_pandas(source: Source, data: st.DataObject) -> None:
    """On tables full of duplicates, nulls and ties."""
    table = fill(source, data.draw(tables(source)))
    least = data.draw(st.integers(2, 4))
    user, masked, time = names(source)
    with source.snapshot() as still:
        assert rows_of(duplicates.headline(still)) == slowly.headline(table, user, time)
        assert _copies(duplicates.exact_rows(still)) == slowly.exact_rows(table)
        for name in masked:
            shared = duplicates.shared_values(still, name, min_users=least)
            assert rows_of(shared.drop(columns="column")) == slowly.shared_values(
                table, user, name, time, least
            )
            many = duplicates.users_with_many(still, name, min_values=least)
            assert rows_of(many.drop(columns="column")) == slowly.users_with_many(
                table, user, name, time, least
            )
            spread = duplicates.distribution(still, name)
            assert rows_of(spread.drop(columns="column")) == slowly.distribution(table, user, name)


def _copies(frame: pd.DataFrame) -> Counter[Any]:
    assert frame.iloc[:, -1].is_monotonic_decreasing
    return Counter({row[:-1]: row[-1] for row in rows_of(frame)})


@examples(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_repeats_are_those_of_a_walk_through_time(source: Source, data: st.DataObject) -> None:
    """A pause of exactly the limit still belongs to the repeat."""
    table = fill(source, data.draw(tables(source)))
    seconds = data.draw(st.sampled_from([0, 1, 60, 86_400]))
    user, masked, time = names(source)
    found = duplicates.repeats(source, within_seconds=seconds)
    assert list(found.columns[1:-4]) == masked
    assert Counter(rows_of(found)) == slowly.repeats(table, user, masked, time, seconds)


def test_a_pause_of_the_limit_is_still_within_it(source: Source) -> None:
    """A longer one begins another repeat, and a row alone is none."""
    user, masked, time = names(source)
    unit = 86_400 if source.columns[time].type == "date" else 60
    rows = [
        {user: "a", masked[0]: token(1), time: DAY + dt.timedelta(seconds=s)}
        for s in (0, unit, unit, 4 * unit, 6 * unit, 7 * unit)
    ]
    fill(source, rows)
    found = duplicates.repeats(source, within_seconds=unit)
    assert found["rows"].tolist() == [3, 2]
    assert found["seconds"].tolist() == [unit, unit]


@examples(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_groups_are_those_of_merging_sets(source: Source, data: st.DataObject) -> None:
    """Their users, their order, what ties them and why."""
    table = fill(source, data.draw(tables(source)))
    most = data.draw(st.sampled_from([None, 2, 3, 5]))
    user, masked, _ = names(source)
    found = duplicates.linked(source, exclude_shared=most, max_ties=100, max_users=100)
    expected = slowly.groups(table, user, masked, most)
    assert found.groups["users"].tolist() == [len(group) for group in expected]
    members = found.edges.groupby("group")["user"].agg(set) if len(found.edges) else pd.Series([])
    assert members.tolist() == expected
    assert found.groups["why"].tolist() == slowly.why(table, user, masked, most)


def test_connect_is_one_line(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a folder below the one that holds config.yaml."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setenv("DATABASE_URL", source.engine.url.render_as_string(hide_password=False))
    made = etl.connect()
    assert made.name == "public.user_logins"


def test_a_missing_table_is_told_by_its_name(database_url: str) -> None:
    """With the command that makes it."""
    empty = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    with pytest.raises(TableError, match=r"'public.user_logins' is missing; .*init"):
        duplicates.headline(empty)


def test_a_column_that_is_not_there_is_told_with_those_that_are(source: Source) -> None:
    """Before anything is asked."""
    with pytest.raises(SettingsError, match="'shoe size' is no column to go by; there are"):
        duplicates.shared_values(source, "shoe size")


def test_init_makes_the_indexes_of_the_settings_once(source: Source) -> None:
    """On hostile names too; a second time changes nothing."""
    user, masked, _ = names(source)
    wanted = {(name, user) for name in masked}
    table = source.settings.table.model_copy(update={"indexes": tuple(wanted)})
    for _ in range(2):
        create_indexes(source.engine, table)
    made = sa.inspect(source.engine).get_indexes(table.name, schema=table.schema_name)
    assert {tuple(index["column_names"]) for index in made} == wanted
    assert len(made) == len(wanted)


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
    """No shared value, no group; of equal rows all but one are surplus."""
    small = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    create(small)
    fill(small, rows)
    with small.snapshot() as still:
        head = duplicates.headline(still).iloc[0]
        assert (head["rows"], head["users"]) == (len(rows), min(len(rows), 1))
        assert head["surplus_rows"] == max(len(rows) - 1, 0)
        copies = [5] if len(rows) == 5 else []
        assert duplicates.exact_rows(still)["copies"].tolist() == copies
        assert duplicates.repeats(still)["rows"].tolist() == copies
        assert duplicates.shared_values(still).empty
        assert duplicates.users_with_many(still).empty
        assert duplicates.linked(still).total.to_numpy().tolist() == [[0, 0, 0]]
    small.engine.dispose()


def test_tokens_under_two_keys_are_told_and_not_joined(database_url: str) -> None:
    """One value has another token under each key: its users seem to share nothing."""
    made = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    create(made)
    fill(made, [{"user_id": "a", "masked_ip": token(1)},
                {"user_id": "b", "masked_ip": token(1, "k2")}])  # fmt: skip
    assert duplicates.shared_values(made).empty
    keys = duplicates.token_keys(made)
    assert rows_of(keys) == [("masked_ip", "k1", 1), ("masked_ip", "k2", 1)]
    made.engine.dispose()


def test_what_is_no_token_in_a_masked_column_is_not_shown(database_url: str) -> None:
    """It may be a plain value; it is counted all the same."""
    made = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    loose = made.settings.table.model_copy(update={"token_check": False})
    create_tables(made.engine, loose)
    plain = {"masked_ip": "10.1.2.3", "masked_device_id": "593-47-5928"}
    with made.engine.begin() as connection:
        rows = [{"user_id": user, **plain} for user in "aab"]
        connection.execute(sa.insert(target_table(loose)), rows)
    linked = duplicates.linked(made)
    frames = [
        duplicates.shared_values(made), duplicates.exact_rows(made), duplicates.token_keys(made),
        linked.groups, linked.ties, linked.edges,
    ]  # fmt: skip
    shown = " ".join(frame.to_csv() for frame in frames)
    assert not any(value in shown for value in plain.values())
    assert frames[0]["users"].tolist() == [2, 2]
    made.engine.dispose()


def test_a_role_that_may_read_the_table_alone_may_ask(
    postgres: EmbeddedPostgres, source: Source
) -> None:
    """No temporary table, nothing of schema etl: how many redeliveries there were is not told."""
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
    own = sa.make_url(url)
    return {"username": own.username, "password": own.password}
