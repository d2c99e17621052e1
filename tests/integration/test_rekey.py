"""Rekey brings tokens and bodies under the primary key, on tables of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from etl import mask
from etl.analysis.key_usage import key_usage
from etl.config import Column, Settings
from etl.crypto.keyring import Keyring
from etl.crypto.seal import seal, unseal_each
from etl.errors import DatabaseRefused, DatabaseUnavailable, TableError
from etl.mask import tokens, unmask_tokens
from etl.operations import remask, reseal
from etl.operations.rekey import (
    MAX_BATCHES_AT_ONCE,
    OnProgress,
    RekeyProgress,
    RekeyResult,
    rekey_database,
)
from etl.postgres.creation import create_tables
from etl.postgres.engine import open_engine, transaction
from etl.postgres.queries import quote_name
from etl.schema import target_table

FIRST = Keyring.new("k1")
SECOND = FIRST.with_new("k2")
THIRD = SECOND.with_new("the-third-key")
ALONE = Keyring("k2", {"k2": SECOND.key("k2")})

Make = Callable[..., Settings]


@pytest.fixture
def default_settings(settings: Make, engine: sa.Engine) -> Settings:
    """The default settings, in a database where the tables exist."""
    defaults = settings()
    create_tables(engine, defaults.table)
    return defaults


def rekey(
    settings: Settings, keyring: Keyring, on_progress: OnProgress = lambda _: None
) -> RekeyResult:
    """Rekey on an engine like that of the command."""
    engine = open_engine(settings.database, MAX_BATCHES_AT_ONCE)
    try:
        return rekey_database(settings, engine, keyring, on_progress)
    finally:
        engine.dispose()


def mixed(values: list[Any], context: str, *keyrings: Keyring) -> list[Any]:
    """The tokens of the values, made by each of the keyrings in turn."""
    by_keyring = [tokens(values, keyring, context) for keyring in keyrings]
    return [by_keyring[at % len(keyrings)][at] for at in range(len(values))]


def put(engine: sa.Engine, table: str, **columns: list[Any]) -> None:
    """Insert rows, given by column; entries of the quarantine are those of the default job."""
    if table == "etl.quarantine":
        count = len(columns["message_id"])
        columns |= {"job": ["public.user_logins"] * count, "masked_fields": [[]] * count}
    names = ", ".join(columns)
    parameters = ", ".join(f":{name}" for name in columns)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    with engine.begin() as connection:
        connection.execute(sa.text(f"insert into {table} ({names}) values ({parameters})"), rows)


def column(engine: sa.Engine, name: str, table: str = "user_logins", by: str = "user_id") -> Any:
    """The values of a column, in the order of another one."""
    with engine.connect() as connection:
        found = connection.execute(sa.text(f"select {name} from {table} order by {by}"))
        return np.array([row[0] for row in found], dtype=object)


IPS = [None if at % 7 == 0 else f"10.0.{at % 5}.{at % 50}" for at in range(400)]
DEVICES = [None if at % 11 == 0 else "é" * (at % 40) for at in range(400)]
USERS = [f"{at:05d}" for at in range(400)]


def fill(engine: sa.Engine, *keyrings: Keyring) -> None:
    """Insert 400 rows, whose tokens are made by each of the keyrings in turn."""
    put(
        engine,
        "user_logins",
        user_id=USERS,
        masked_ip=mixed(IPS, "ip", *keyrings),
        masked_device_id=mixed(DEVICES, "device_id", *keyrings[::-1]),
    )


def test_every_row_comes_under_the_primary_key(
    default_settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of three keys get equal tokens for equal values; nulls stay, and no row is missed."""
    monkeypatch.setattr(remask, "BLOCKS", 2)
    fill(engine, FIRST, SECOND, THIRD)
    outcome = rekey(default_settings, THIRD)
    assert column(engine, "masked_ip").tolist() == tokens(IPS, THIRD, "ip").tolist()
    assert (
        column(engine, "masked_device_id").tolist() == tokens(DEVICES, THIRD, "device_id").tolist()
    )
    assert (outcome.exit_code, outcome.unopened, outcome.remaining, outcome.passes) == (0, {}, 0, 1)
    changed = [
        any(value is not None and at % 3 != newest for value, newest in ((ip, 2), (device, 0)))
        for at, (ip, device) in enumerate(zip(IPS, DEVICES, strict=True))
    ]
    assert outcome.rows == sum(changed)


def test_a_second_rekey_has_nothing_to_do(default_settings: Settings, engine: sa.Engine) -> None:
    """It does not write any row."""
    fill(engine, FIRST, SECOND)
    assert rekey(default_settings, SECOND).rows > 0
    before = column(engine, "xmin::text")
    assert rekey(default_settings, SECOND).rows == 0
    assert column(engine, "xmin::text").tolist() == before.tolist()


def test_a_table_that_checks_its_tokens_takes_the_new_ones(
    settings: Make, engine: sa.Engine
) -> None:
    """This is the CHECK of ``table.token_check``."""
    checked = settings(table__token_check=True)
    create_tables(engine, checked.table)
    fill(engine, FIRST)
    assert rekey(checked, THIRD).exit_code == 0
    assert column(engine, "masked_ip").tolist() == tokens(IPS, THIRD, "ip").tolist()


def test_an_empty_table_is_done_at_once(default_settings: Settings) -> None:
    """The outcome says that nothing was changed and nothing is left."""
    outcome = rekey(default_settings, SECOND)
    assert (outcome.exit_code, outcome.rows, outcome.entries) == (0, 0, 0)


def test_bodies_come_under_the_primary_key(
    default_settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text and bytes come back, in small transactions too; tombstones and reasons stay."""
    monkeypatch.setattr(reseal, "MAX_ENTRIES", 3)
    monkeypatch.setattr(reseal, "MAX_BODY_BYTES", 1000)
    bodies: list[str | bytes] = [
        b"\xff" * 900 * (at % 3) if at % 2 else f"é {at}" for at in range(20)
    ]
    ids = [f"m{at}" for at in range(20)]
    sealed = [
        seal([body], [message_id], (FIRST, SECOND)[at % 2])[0]
        for at, (body, message_id) in enumerate(zip(bodies, ids, strict=True))
    ]
    put(
        engine,
        "etl.quarantine",
        message_id=ids,
        run_id=["0" * 32] * 20,
        reasons=[json.dumps([{"column": "ip", "check": str(at)}]) for at in range(20)],
        body=sealed,
    )
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "update etl.quarantine set body = null, closed_as = 'discarded', closed_at = now() "
                "where message_id = 'm4'"
            )
        )
    reasons = column(engine, "reasons", "etl.quarantine", "quarantine_id")
    outcome = rekey(default_settings, SECOND)
    assert (outcome.exit_code, outcome.entries, outcome.passes) == (0, 9, 1)
    left = [at for at in range(20) if at != 4]
    stored = column(engine, "body", "etl.quarantine where body is not null", "quarantine_id")
    assert unseal_each(stored, [ids[at] for at in left], ALONE) == [bodies[at] for at in left]
    assert column(engine, "reasons", "etl.quarantine", "quarantine_id").tolist() == reasons.tolist()


def test_few_large_bodies_are_sealed_at_once(
    default_settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch ends with the entry that reaches the limit of bytes, and has at least one."""
    monkeypatch.setattr(reseal, "MAX_BODY_BYTES", 1000)
    ids = ["a", "b", "c", "d"]
    put(
        engine,
        "etl.quarantine",
        message_id=ids,
        run_id=["0" * 32] * 4,
        reasons=["[]"] * 4,
        body=seal(["x" * 900, "y" * 900, "z" * 5000, ""], ids, FIRST),
    )
    batches: list[int] = []
    after: int | None = 0
    while after is not None:
        with transaction(engine) as connection:
            changed, _, after = reseal.reseal_entries(
                connection, default_settings.job_name, after, SECOND
            )
        batches.append(changed)
    assert batches == [2, 1, 1, 0]


def test_what_no_key_opens_is_left_and_counted(
    default_settings: Settings, engine: sa.Engine
) -> None:
    """It may be garbage, a plain value, or a token of another column or key; the rest is done."""
    ip = "10.0.0.1"
    stranger = tokens([ip], Keyring.new("k9"), "ip")[0]
    changed = tokens([ip], FIRST, "ip")[0][:-2] + "AA"
    elsewhere = tokens([ip], FIRST, "device_id")[0]
    odd = [stranger, changed, elsewhere, ip, "", "k1.", "a\tb\\N\n\r\\", "é\\N", "\\N"]
    good = tokens([ip], FIRST, "ip")[0]
    put(
        engine,
        "user_logins",
        user_id=[f"{at}" for at in range(10)],
        masked_ip=[*odd, good],
        masked_device_id=[elsewhere] * 10,
    )
    put(
        engine,
        "etl.quarantine",
        message_id=["a", "b"],
        run_id=["0" * 32] * 2,
        reasons=["[]"] * 2,
        body=[seal(["canary"], ["another"], FIRST)[0], b"junk"],
    )
    outcome = rekey(default_settings, SECOND)
    assert (outcome.exit_code, outcome.remaining) == (1, 0)
    assert outcome.unopened == {"masked_ip": len(odd), "quarantine": 2}
    assert column(engine, "masked_ip").tolist() == [*odd, tokens([ip], SECOND, "ip")[0]]
    assert set(column(engine, "masked_device_id")) == {tokens([ip], SECOND, "device_id")[0]}
    assert rekey(default_settings, SECOND).rows == 0


def test_a_column_too_narrow_for_the_new_tokens_is_named(
    default_settings: Settings, engine: sa.Engine
) -> None:
    """No row of its batch is changed."""
    narrow = tokens(["10.0.0.1"], FIRST, "ip")[0]
    put(engine, "user_logins", user_id=["1"], masked_ip=[narrow], masked_device_id=[None])
    with engine.begin() as connection:
        connection.execute(
            sa.text(f"alter table user_logins alter masked_ip type varchar({len(narrow)})")
        )
    columns = [
        column.model_copy(update={"max_length": len(narrow)})
        if column.name == "masked_ip"
        else column
        for column in default_settings.table.columns
    ]
    fitting = default_settings.model_copy(
        update={"table": default_settings.table.model_copy(update={"columns": tuple(columns)})}
    )
    with pytest.raises(TableError, match=r"'masked_ip' holds 46 characters.*need 57"):
        rekey(fitting, THIRD)
    assert column(engine, "masked_ip").tolist() == [narrow]
    assert rekey(fitting, SECOND).rows == 1


def test_a_constraint_that_refuses_new_tokens_ends_it_without_their_values(
    default_settings: Settings, engine: sa.Engine
) -> None:
    """The error names the constraint and no token."""
    fill(engine, FIRST)
    with engine.begin() as connection:
        connection.execute(
            sa.text("alter table user_logins add constraint old_only check (masked_ip like 'k1.%')")
        )
    with pytest.raises(DatabaseRefused, match=r"23514.*'old_only'") as caught:
        rekey(default_settings, SECOND)
    assert "k2." not in str(caught.value)


ODD = 'o%d "q" :n {x} \\ é'


def odd_settings(default_settings: Settings, **changes: Any) -> Settings:
    """A table of odd names, whose masked columns share a context; one has no limit."""
    columns = (
        Column(name="id", field="id", type="integer"),
        Column(name=ODD, field="a", type="text", mask=True, context="shared", nullable=True),
        Column(name="B b", field="b", type="ip", mask=True, context="shared", max_length=90),
        Column(name="select", field="c", type="text", mask=True, max_length=300, nullable=True),
    )
    table = {"name": f"T {ODD}", "schema_name": f"S {ODD}", "columns": columns, **changes}
    return default_settings.model_copy(
        update={"table": default_settings.table.model_copy(update=table)}
    )


def test_odd_names_and_shared_contexts_work(default_settings: Settings, engine: sa.Engine) -> None:
    """Schema, table and columns are quoted in every statement."""
    odd = odd_settings(default_settings)
    schema = quote_name(odd.table.schema_name).replace("%", "%%").replace("\\:", ":")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create schema {schema}")
    create_tables(engine, odd.table)
    target = target_table(odd.table)
    values = [["x", "10.0.0.1", None], [None, "10.0.0.1", "y" * 100], ["10.0.0.1", "::1", "z"]]
    contexts = ["shared", "shared", "c"]
    masked = [
        [tokens([value], FIRST, context)[0] for value, context in zip(row, contexts, strict=True)]
        for row in values
    ]
    with engine.begin() as connection:
        connection.execute(
            sa.insert(target),
            [dict(zip(target.c.keys(), [at, *row], strict=True)) for at, row in enumerate(masked)],
        )
    assert rekey(odd, SECOND).rows == 3
    with engine.connect() as connection:
        rows = connection.execute(sa.select(target).order_by(target.c.id)).all()
    stored = [list(row)[1:] for row in rows]
    assert [
        [
            unmask_tokens([token], ALONE, context)[0]
            for token, context in zip(row, contexts, strict=True)
        ]
        for row in stored
    ] == values
    assert stored[2][0] == stored[0][1] == stored[1][1]
    used = key_usage(engine, odd.table)
    assert set(used["key_id"]) == {"k2"}


def test_partitions_are_rekeyed_separately(default_settings: Settings, engine: sa.Engine) -> None:
    """Rows in different partitions of a table may have equal places."""
    with engine.begin() as connection:
        # With public, because the role etl would make its tables in the schema etl.
        connection.exec_driver_sql(
            "alter table user_logins rename to whole;"
            "create table public.user_logins (like whole) partition by list (device_type);"
            "create table public.a partition of user_logins for values in ('a');"
            "create table public.b partition of user_logins for values in ('b')"
            " partition by list (locale);"
            "create table public.b_default partition of b default"
        )
    put(
        engine,
        "user_logins",
        user_id=USERS,
        device_type=["a", "b"] * 200,
        masked_ip=mixed(IPS, "ip", FIRST),
    )
    rekey(default_settings, SECOND)
    assert column(engine, "masked_ip").tolist() == tokens(IPS, SECOND, "ip").tolist()
    assert set(column(engine, "tableoid::regclass::text")) == {"a", "b_default"}


def test_a_view_is_refused(default_settings: Settings, engine: sa.Engine) -> None:
    """The user must name the table behind it."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "alter table user_logins rename to behind;"
            "create view public.user_logins as table behind"
        )
    with pytest.raises(TableError, match="'user_logins' is a view"):
        rekey(default_settings, SECOND)


def test_without_masked_columns_the_quarantine_is_rekeyed(
    default_settings: Settings, engine: sa.Engine
) -> None:
    """Bodies are sealed under the primary key although the table has no tokens."""
    columns = tuple(column for column in default_settings.table.columns if not column.mask)
    plain = default_settings.model_copy(
        update={"table": default_settings.table.model_copy(update={"columns": columns})}
    )
    put(
        engine,
        "etl.quarantine",
        message_id=["a"],
        run_id=["0" * 32],
        reasons=["[]"],
        body=seal(["x"], ["a"], FIRST),
    )
    outcome = rekey(plain, SECOND)
    assert (outcome.rows, outcome.entries, outcome.exit_code) == (0, 1, 0)


def test_a_change_that_comes_in_between_is_not_overwritten(
    default_settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value nulled, a row deleted or a row moved between reading and writing stays so."""
    fill(engine, FIRST)
    real_remask = mask.remask
    statements = [
        "update user_logins set masked_ip = null, masked_device_id = null where user_id < '00100'",
        "delete from user_logins where user_id between '00100' and '00199'",
        "update user_logins set locale = 'XX' where user_id between '00200' and '00299'",
    ]

    def disturbed(*arguments: Any) -> Any:
        # Two batches run at once; each statement disturbs one of them.
        with suppress(IndexError):
            statement = statements.pop()
            with engine.begin() as connection:
                connection.execute(sa.text(statement))
        return real_remask(*arguments)

    monkeypatch.setattr(mask, "remask", disturbed)
    monkeypatch.setattr(remask, "BLOCKS", 4)
    outcome = rekey(default_settings, SECOND)
    assert (outcome.exit_code, statements) == (0, [])
    kept = [at for at in range(400) if not 100 <= at < 200]
    expected = tokens([None if at < 100 else IPS[at] for at in kept], SECOND, "ip")
    assert column(engine, "masked_ip").tolist() == expected.tolist()
    assert column(engine, "locale").tolist() == ["XX" if 200 <= at < 300 else None for at in kept]


def test_another_row_that_has_taken_the_place_is_left_alone(
    default_settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old rows were deleted and vacuumed away between reading and writing."""
    fill(engine, FIRST)
    places = column(engine, "ctid::text", by="ctid").tolist()
    others = [f"192.0.2.{at % 256}" for at in range(400)]
    real_remask = mask.remask

    not_yet = [True]

    def replaced(*arguments: Any) -> Any:
        if not_yet and not_yet.pop():
            autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
            with autocommit.connect() as connection:
                connection.execute(sa.text("delete from user_logins"))
                connection.execute(sa.text("vacuum (truncate off) user_logins"))
            put(engine, "user_logins", user_id=USERS, masked_ip=tokens(others, FIRST, "ip"))
        return real_remask(*arguments)

    monkeypatch.setattr(mask, "remask", replaced)
    rekey(default_settings, SECOND)
    assert set(places) & set(column(engine, "ctid::text", by="ctid"))
    assert column(engine, "masked_ip").tolist() == tokens(others, SECOND, "ip").tolist()
    assert set(column(engine, "masked_device_id")) == {None}


def end_sessions(engine: sa.Engine) -> None:
    """End the sessions of the rekey, as a restart of the server would."""
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name = 'etl'"
            )
        )


def test_sessions_ended_by_the_server_are_tried_again(
    default_settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are ended in the middle of batches, and every row still comes under the new key."""
    fill(engine, FIRST)
    monkeypatch.setattr(remask, "BLOCKS", 4)
    real_remask = mask.remask
    ends = [1, 2, 3]

    def disturbed(*arguments: Any) -> Any:
        if ends:
            ends.pop()
            end_sessions(engine)
        return real_remask(*arguments)

    monkeypatch.setattr(mask, "remask", disturbed)
    assert rekey(default_settings, SECOND).exit_code == 0
    assert column(engine, "masked_ip").tolist() == tokens(IPS, SECOND, "ip").tolist()


def test_an_outage_that_lasts_ends_every_batch(
    settings: Make, default_settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the first batch gives up, the others stop too instead of waiting."""
    fill(engine, FIRST)
    monkeypatch.setattr(remask, "BLOCKS", 1)
    attempts: list[Any] = []
    real_remask = mask.remask

    def disturbed(*arguments: Any) -> Any:
        attempts.append(arguments)
        end_sessions(engine)
        return real_remask(*arguments)

    monkeypatch.setattr(mask, "remask", disturbed)
    with pytest.raises(DatabaseUnavailable):
        rekey(settings(database__retry_seconds=0.5), SECOND)
    # Of a dozen batches of two columns, two run at once, and each is tried for half a second.
    assert 0 < len(attempts) < 20
    assert set(key_usage(engine, default_settings.table)["key_id"]) == {"k1"}


def test_tokens_of_the_old_key_that_keep_coming_are_reported(
    default_settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer with the old keyring outlasts every pass, and the outcome says so."""
    fill(engine, FIRST)
    late = tokens(["10.9.9.9"], FIRST, "ip")[0]

    def write(state: RekeyProgress) -> None:
        if state.done == state.total:
            put(engine, "user_logins", user_id=[f"late {state.number}"], masked_ip=[late])

    outcome = rekey(default_settings, SECOND, write)
    assert (outcome.exit_code, outcome.remaining, outcome.passes) == (1, 1, 5)
    assert rekey(default_settings, SECOND).exit_code == 0
    assert set(key_usage(engine, default_settings.table)["key_id"]) == {"k2"}
