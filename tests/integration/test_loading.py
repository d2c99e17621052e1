"""Staging, ledger, target, quarantine and runs on a real Postgres."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from etl import ledger, load, quarantine
from etl.analysis.history import recent_runs
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.crypto.seal import unseal_each
from etl.errors import (
    DatabaseRefused,
    DatabaseUnavailable,
    LoginRefused,
    QuarantineBudget,
    TableError,
)
from etl.operations import entries
from etl.operations.entries import Selection
from etl.postgres import insertion
from etl.postgres.creation import create_tables
from etl.postgres.engine import open_engine, transaction
from etl.postgres.insertion import PIECE_ROWS
from etl.postgres.sqlstate import RowRefused, translate
from etl.postgres.target import check_tables
from etl.runs import Counts, Run, Totals
from tests.unit.builders import message

RUN = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
MANY = 1_000


def masked(count: int, **changes: Any) -> pd.DataFrame:
    """Make rows as they come out of masking."""
    frame = pd.DataFrame(
        {
            "message_id": [f"m{i}" for i in range(count)],
            "user_id": [f"user {i}" for i in range(count)],
            "device_type": "android",
            "masked_ip": "k1.AAAA",
            "masked_device_id": "k1.BBBB",
            "locale": None,
            "app_version": pd.array([2_003_000] * count, dtype="Int32"),
            "create_date": dt.date(2024, 2, 29),
        }
    )
    for name, values in changes.items():
        frame[name] = values
    return frame.astype(dict.fromkeys(frame.columns.difference(["app_version"]), object))


@pytest.fixture
def ready(settings: Callable[..., Settings], engine: sa.Engine) -> Settings:
    """Settings for a database that has the tables."""
    made = settings()
    create_tables(engine, made.table)
    return made


def load_all(
    engine: sa.Engine, settings: Settings, frame: pd.DataFrame, most: int = MANY
) -> pd.DataFrame:
    """Stage and merge a frame; return the refused rows."""
    with transaction(engine) as connection:
        refused = load.stage(connection, frame, settings.table, settings.load, most)
        gone = set(refused["message_id"])
        ids = [i for i in frame["message_id"] if i not in gone]
        broken = load.merge(connection, ids, settings.table, len(ids), most)
    return pd.concat([refused, broken])


def rows(engine: sa.Engine, statement: str) -> list[Any]:
    """Query the database."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


METHODS = pytest.mark.parametrize("method", ["multi", "copy"])


@METHODS
def test_rows_arrive_as_they_are(
    method: str, settings: Callable[..., Settings], ready: Settings, engine: sa.Engine
) -> None:
    """Both methods store every awkward text exactly as it is."""
    awkward = [
        "plain", "", " ", "NA", "null", "\\N", "\\", "a\\tb", "tab\tnew\nline\rreturn", '"quoted"',
        "it's", "a,b;c", "%s %(x)s :name", "é 漢 🎈", "\u2028", "x" * 128,
    ]  # fmt: skip
    frame = masked(len(awkward), user_id=awkward, locale=[None, "NA"] * 8)
    refused = load_all(engine, settings(load__method=method), frame)
    assert refused.empty
    got = rows(engine, "select user_id, locale, app_version, create_date from user_logins")
    day = dt.date(2024, 2, 29)
    assert got == [
        (text, locale, 2_003_000, day)
        for text, locale in zip(awkward, [None, "NA"] * 8, strict=True)
    ]


@METHODS
def test_names_are_names_and_no_sql(
    method: str, settings: Callable[..., Settings], engine: sa.Engine
) -> None:
    """Names with percent signs, quotes and spaces work in every statement."""
    columns = [
        {"name": name, "field": f"f{i}", "type": "text"}
        for i, name in enumerate(["100 %", '%s "q"', "%(x)s", "a b; drop table x"])
    ]
    odd = settings(load__method=method, table__columns=columns, table__name="odd % %s")
    create_tables(engine, odd.table)
    frame = pd.DataFrame({"message_id": ["m0"], **{c["name"]: ["5 %"] for c in columns}})
    assert load_all(engine, odd, frame).empty
    assert rows(engine, 'select * from "odd % %s"') == [("5 %",) * 4]


COLUMN_VALUES = [
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
    | st.sampled_from(["'", "\\", "%s", "$$", "--", ":a", "\n", "é", "\U0001f600"]),
    st.integers(-(2**63), 2**63 - 1),
    st.dates(),
    st.datetimes(timezones=st.just(dt.UTC)),
    st.booleans(),
    st.floats(allow_nan=False),
]


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_values_are_written_as_the_driver_writes_them(conforming: str, engine: sa.Engine) -> None:
    """Whether or not a backslash means anything to the server."""

    @settings_of_hypothesis(max_examples=300, deadline=None)
    @given(st.sampled_from(COLUMN_VALUES).flatmap(lambda v: st.lists(v | st.none(), max_size=4)))
    def check(values: list[Any]) -> None:
        written = [text.lstrip(" ") for text in insertion._literals(cursor, values, "%s")]
        by_driver = [cursor.mogrify("%s", (value,)).decode() for value in values]
        # It writes a blank before a minus.
        assert written == [text.lstrip(" ") for text in by_driver]

    with engine.connect() as connection:
        connection.exec_driver_sql(f"set standard_conforming_strings = {conforming}")
        cursor: Any = connection.connection.cursor()
        check()
        connection.rollback()


@METHODS
def test_a_batch_of_many_pieces_arrives_whole(
    method: str, settings: Callable[..., Settings], ready: Settings, engine: sa.Engine
) -> None:
    """It has more rows than a statement or a piece, and texts longer than one read."""
    count = PIECE_ROWS * 2 + 1
    frame = masked(count, user_id=[f"{i:0128d}" for i in range(count)])
    assert load_all(engine, settings(load__method=method), frame).empty
    assert rows(engine, "select count(distinct user_id), max(user_id) from user_logins") == [
        (count, f"{count - 1:0128d}")
    ]


@METHODS
def test_a_null_integer_arrives_as_null(
    method: str, settings: Callable[..., Settings], ready: Settings, engine: sa.Engine
) -> None:
    """A null does not turn the integers of its column into floats."""
    frame = masked(2, app_version=pd.array([None, 7], dtype="Int32"))
    load_all(engine, settings(load__method=method), frame)
    assert rows(engine, "select app_version from user_logins") == [(None,), (7,)]


@METHODS
def test_rows_that_only_the_database_refuses_are_found(
    method: str, settings: Callable[..., Settings], ready: Settings, engine: sa.Engine
) -> None:
    """Staging refuses a text that is too long, the target a broken constraint."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("alter table user_logins add constraint no_7 check (user_id <> 'user 7')")
        )
    users = [f"user {i}" for i in range(40)]
    users[3] = users[39] = "x" * 129
    refused = load_all(engine, settings(load__method=method), masked(40, user_id=users))
    assert refused.to_numpy().tolist() == [
        ["m3", "row", "SQLSTATE 22001"],
        ["m39", "row", "SQLSTATE 22001"],
        ["m7", "row", "SQLSTATE 23514 constraint 'no_7' table 'user_logins'"],
    ]
    assert rows(engine, "select count(*) from user_logins") == [(37,)]


def test_too_many_refused_rows_stop_the_search(ready: Settings, engine: sa.Engine) -> None:
    """A table that refuses everything must not cost two statements for each row."""
    with engine.begin() as connection:
        connection.execute(sa.text("alter table user_logins add check (user_id = '')"))
    with pytest.raises(QuarantineBudget, match=r"more than 5 rows.*23514"):
        load_all(engine, ready, masked(100), most=5)
    assert rows(engine, "select count(*) from user_logins") == [(0,)]


def test_a_deferred_constraint_is_checked_in_time(ready: Settings, engine: sa.Engine) -> None:
    """The pipeline makes the constraint immediate, so the row at fault is found."""
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "alter table user_logins add constraint once unique (user_id) "
                "deferrable initially deferred"
            )
        )
    frame = masked(3, user_id=["a", "b", "a"])
    with transaction(engine) as connection:
        connection.exec_driver_sql("set constraints all immediate")
        load.stage(connection, frame, ready.table, ready.load, MANY)
        broken = load.merge(connection, ["m0", "m1", "m2"], ready.table, 3, MANY)
    assert broken["message_id"].tolist() == ["m2"]


def test_only_the_wanted_rows_are_merged(ready: Settings, engine: sa.Engine) -> None:
    """Messages that the ledger knows are not loaded."""
    with transaction(engine) as connection:
        load.stage(connection, masked(5), ready.table, ready.load, MANY)
        load.merge(connection, ["m1", "m4"], ready.table, 5, MANY)
    got = rows(engine, "select user_id from user_logins order by 1")
    assert got == [("user 1",), ("user 4",)]


def test_the_ledger_claims_an_id_once(ready: Settings, engine: sa.Engine) -> None:
    """A second run claims only the new ids."""
    with transaction(engine) as connection:
        assert ledger.claim(connection, ["b", "a"], RUN, 1) == {"a", "b"}
    with transaction(engine) as connection:
        assert ledger.claim(connection, ["a", "c"], OTHER, 1) == {"c"}


def test_a_claim_that_rolled_back_never_was(ready: Settings, engine: sa.Engine) -> None:
    """A rollback of the rows also rolls back the ledger."""
    with pytest.raises(DatabaseRefused), transaction(engine) as connection:
        ledger.claim(connection, ["a"], RUN, 1)
        connection.execute(sa.text("select * from nowhere"))
    with transaction(engine) as connection:
        assert ledger.claim(connection, ["a"], RUN, 1) == {"a"}


def test_a_batch_that_was_committed_before_is_recognised(
    ready: Settings, engine: sa.Engine
) -> None:
    """After a lost reply to COMMIT, the same batch of the same run claims its ids again."""
    with transaction(engine) as connection:
        ledger.claim(connection, ["a", "b"], RUN, 1)
    with pytest.raises(ledger.CommittedBeforeError), transaction(engine) as connection:
        ledger.claim(connection, ["a", "b"], RUN, 1)


def test_ids_of_an_earlier_batch_of_the_run_are_just_handled(
    ready: Settings, engine: sa.Engine
) -> None:
    """A redelivery within one run is not taken for an unclear commit."""
    with transaction(engine) as connection:
        ledger.claim(connection, ["a", "b"], RUN, 1)
    with transaction(engine) as connection:
        assert ledger.claim(connection, ["a", "b"], RUN, 2) == set()


def test_two_claims_in_opposite_orders_do_not_lock_each_other_out(
    ready: Settings, engine: sa.Engine
) -> None:
    """Ids are claimed in sorted order; otherwise two claims deadlock within a few rounds."""
    ids = [f"{i:05d}" for i in range(3_000)]
    claimed: list[set[str]] = []
    both_connected = threading.Barrier(2)
    errors: list[BaseException] = []

    def work(order: list[str], run_id: str) -> None:
        try:
            with transaction(engine) as connection:
                both_connected.wait()
                claimed.append(ledger.claim(connection, order, run_id, 1))
        except BaseException as error:  # noqa: BLE001  (shown by the test)
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(ids, RUN)),
        threading.Thread(target=work, args=(ids[::-1], OTHER)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(map(len, claimed)) == [0, 3_000]


def test_a_reject_is_stored_once_with_all_its_reasons(
    ready: Settings, engine: sa.Engine, keyring: Keyring
) -> None:
    """Its body opens with the key and the message id, and is unreadable without them."""
    body = '{"ip": "198.51.100.77"}'
    rejects = pd.DataFrame(
        [("m1", "ip", "IP address"), ("m2", "message", "JSON"), ("m1", "locale", "length")],
        columns=["message_id", "column", "check"],
    )
    messages = {f"m{i}": message(body, i) for i in (1, 2)}
    with transaction(engine) as connection:
        assert quarantine.store(connection, rejects, messages, keyring, RUN, ready) == 2
    got = rows(engine, "select message_id, reasons, body from etl.quarantine order by 1")
    assert [(row[0], row[1]) for row in got] == [
        ("m1", [{"column": "ip", "check": "IP address"}, {"column": "locale", "check": "length"}]),
        ("m2", [{"column": "message", "check": "JSON"}]),
    ]
    sealed = [bytes(row[2]) for row in got]
    assert b"198.51" not in sealed[0] + sealed[1]
    assert sealed[0] != sealed[1]
    assert [str(text) for text in unseal_each(sealed, ["m1", "m2"], keyring)] == [body, body]


def test_reasons_are_counted_by_message(
    ready: Settings, engine: sa.Engine, keyring: Keyring
) -> None:
    """``quarantine list`` shows these counts."""
    rejects = pd.DataFrame(
        [("m1", "ip", "IP address"), ("m2", "ip", "IP address"), ("m2", "locale", "length")],
        columns=["message_id", "column", "check"],
    )
    messages = {f"m{i}": message("{}", i) for i in (1, 2)}
    with transaction(engine) as connection:
        quarantine.store(connection, rejects, messages, keyring, RUN, ready)
    counted = entries.count_by_reason(engine, Selection())[["column", "check", "messages"]]
    assert counted.to_numpy().tolist() == [["ip", "IP address", 2], ["locale", "length", 1]]
    assert entries.count_by_reason(engine, Selection(run_id=OTHER)).empty


def test_a_run_has_one_row_that_ends_with_its_counts(ready: Settings, engine: sa.Engine) -> None:
    """The numbers are absolute, so a repeated update counts nothing twice."""
    run = Run(RUN, "hash")
    run.start(engine, ready)
    totals = Totals(Counts(5, 1, 1, 2, 1), batches=1)
    run.finish(engine, totals, "idle")
    run.finish(engine, totals, "idle")
    history = recent_runs(engine, 10)
    got = history[["received", "loaded", "already_handled", "quarantined", "released"]]
    assert got.to_numpy().tolist() == [[5, 1, 1, 2, 1]]
    assert history["stop_reason"].tolist() == ["idle"]
    assert history["finished_at"].notna().all()


def test_creating_tables_twice_changes_nothing(ready: Settings, engine: sa.Engine) -> None:
    """Every run creates the tables, and a second time changes nothing."""
    load_all(engine, ready, masked(1))
    create_tables(engine, ready.table)
    assert rows(engine, "select count(*) from user_logins") == [(1,)]


def test_two_first_runs_may_create_the_tables_at_once(
    settings: Callable[..., Settings], engine: sa.Engine
) -> None:
    """``create schema if not exists`` alone fails when two runs do it at the same time."""
    table, errors = settings().table, []

    def work() -> None:
        try:
            create_tables(engine, table)
        except BaseException as error:  # noqa: BLE001  (shown by the test)
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_the_default_table_is_the_one_promised(ready: Settings, engine: sa.Engine) -> None:
    """Its columns have the configured names, types and order."""
    got = rows(
        engine,
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = 'user_logins'::regclass and attnum > 0 order by attnum",
    )
    assert got == [
        ("user_id", "character varying(128)"),
        ("device_type", "character varying(32)"),
        ("masked_ip", "character varying(256)"),
        ("masked_device_id", "character varying(256)"),
        ("locale", "character varying(32)"),
        ("app_version", "integer"),
        ("create_date", "date"),
    ]


@pytest.mark.parametrize(
    ("ddl", "words"),
    [
        ("drop table user_logins", "is missing.*init"),
        ("alter table user_logins drop column locale", "no column 'locale'"),
        ("alter table user_logins alter app_version type text", "'app_version'.*TEXT.*INTEGER"),
        ("alter table user_logins alter user_id type varchar(64)", "'user_id'.*64.*128"),
        ("alter table user_logins alter create_date type timestamptz", "'create_date'"),
        ("drop table etl.ledger", "'etl.ledger' is missing.*init"),
    ],
)
def test_a_table_that_cannot_take_the_rows_is_refused_by_name(
    ddl: str, words: str, ready: Settings, engine: sa.Engine
) -> None:
    """The check comes before anything is received."""
    with engine.begin() as connection:
        connection.execute(sa.text(ddl))
    with pytest.raises(TableError, match=words):
        check_tables(engine, ready.table)


@pytest.mark.parametrize(
    "ddl",
    [
        "alter table user_logins alter user_id type text",
        "alter table user_logins alter app_version type bigint",
        "alter table user_logins add column loaded_at timestamptz default now()",
    ],
)
def test_a_wider_table_is_taken_as_it_is(ddl: str, ready: Settings, engine: sa.Engine) -> None:
    """An existing table belongs to the user, so nothing in it is altered."""
    with engine.begin() as connection:
        connection.execute(sa.text(ddl))
    check_tables(engine, ready.table)
    assert load_all(engine, ready, masked(3)).empty


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("select pg_terminate_backend(pg_backend_pid())", DatabaseUnavailable),
        ("set statement_timeout = 20; select pg_sleep(5)", DatabaseUnavailable),
        ("set default_transaction_read_only = on; commit; create table t ()", DatabaseUnavailable),
        ("do $$ begin raise exception using errcode = '53100'; end $$", DatabaseUnavailable),
        ("do $$ begin raise exception using errcode = '25P03'; end $$", DatabaseUnavailable),
        ("do $$ begin raise exception using errcode = '25P04'; end $$", DatabaseUnavailable),
        ("do $$ begin raise exception using errcode = '55P03'; end $$", DatabaseUnavailable),
        ("do $$ begin raise exception using errcode = '57P05'; end $$", DatabaseUnavailable),
        ("do $$ begin raise exception using errcode = '40P01'; end $$", DatabaseUnavailable),
        ("do $$ begin raise exception using errcode = '23505'; end $$", RowRefused),
        ("do $$ begin raise exception using errcode = '54000'; end $$", RowRefused),
        ("select * from nowhere", DatabaseRefused),
        ("set role postgres", DatabaseRefused),
    ],
)
def test_a_database_error_is_told_by_its_sqlstate(
    statement: str, kind: type[Exception], engine: sa.Engine
) -> None:
    """The SQLSTATE tells a row at fault from an outage and from a refusal of the job."""
    with pytest.raises(kind), transaction(engine) as connection:
        connection.exec_driver_sql(statement)


def test_an_error_that_pandas_has_wrapped_is_told_by_its_sqlstate(engine: sa.Engine) -> None:
    """It is found however deep psycopg2's error is in the chain of causes."""
    frame = pd.DataFrame({"a": ["too long"]})
    with engine.connect() as connection:
        connection.execute(sa.text("create table narrow (a varchar(1))"))
        with pytest.raises((pd.errors.DatabaseError, sa.exc.SQLAlchemyError)) as caught:
            frame.to_sql("narrow", connection, if_exists="append", index=False)
    refused = translate(caught.value)
    assert isinstance(refused, RowRefused)
    assert refused.check == "SQLSTATE 22001"


def test_no_database_error_quotes_a_value(ready: Settings, engine: sa.Engine) -> None:
    """DETAIL lines, messages and parameters all carry values, and none of them leaves."""
    statements = [
        "insert into user_logins (app_version) values ('canary-value')",
        "insert into user_logins (user_id) select 'canary-value' || repeat('x', 200)",
        "insert into etl.ledger values ('canary-value', null, 1)",
        "select 'canary-value'::int",
        "do $$ begin raise undefined_column using message = 'canary-value'; end $$",
        "do $$ begin raise insufficient_privilege using message = 'canary-value'; end $$",
    ]
    for statement in statements:
        with pytest.raises(Exception) as caught, transaction(engine) as connection:
            connection.exec_driver_sql(statement)
        error: BaseException | None = caught.value
        assert "canary" not in str(error) + repr(error)
        assert error is not None
        assert error.__cause__ is None
        assert error.__suppress_context__


def test_a_database_that_is_away_is_an_outage(settings: Callable[..., Settings]) -> None:
    """A port without a listener is an outage."""
    from pydantic import SecretStr

    made = settings()
    database = made.database.model_copy(
        update={"url": SecretStr("postgresql://etl:x@127.0.0.1:1/etl")}
    )
    engine = open_engine(database)
    with pytest.raises(DatabaseUnavailable, match="refused"), transaction(engine):
        pass


def test_a_wrong_password_is_a_refusal_and_not_waited_out(
    settings: Callable[..., Settings], database_url: str
) -> None:
    """It would still be wrong in five minutes, so it is not retried."""
    from pydantic import SecretStr

    wrong = sa.make_url(database_url).set(password="wrong").render_as_string(hide_password=False)
    database = settings().database.model_copy(update={"url": SecretStr(wrong)})
    with (
        pytest.raises(LoginRefused, match="DATABASE_URL"),
        transaction(open_engine(database)),
    ):
        pass
