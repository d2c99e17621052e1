"""Rows that are skipped or replaced by their key, against a dict in Python."""

from __future__ import annotations

import datetime as dt
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import pytest
import sqlalchemy as sa

from etl import load
from etl.config import Settings
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import SettingsError, TableError
from etl.postgres import roles
from etl.postgres.bisection import Trial
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url, open_engine, transaction
from etl.postgres.target import check_target
from tests.integration.test_roles import as_superuser

METHODS = pytest.mark.parametrize("method", ["multi", "copy"])
COLUMNS: list[dict[str, Any]] = [
    {"name": "order_id", "field": "order_id", "type": "text"},
    {"name": "amount", "field": "amount", "type": "integer"},
    {"name": "sent_at", "attribute": "SentTimestamp", "type": "timestamp", "nullable": True},
]
START = dt.datetime(2024, 2, 29, tzinfo=dt.UTC)
MANY = 1_000

Make = Callable[..., Settings]


@pytest.fixture
def superuser(postgres: EmbeddedPostgres, database_url: str) -> Iterator[sa.Engine]:
    """An engine for the superuser."""
    url = as_superuser(postgres, database_url)
    superuser = sa.create_engine(driver_url(url))
    yield superuser
    superuser.dispose()


class Event(NamedTuple):
    """An event of an order; *sent* in ms after START, None if the queue did not say."""

    message_id: str
    order_id: str
    amount: int
    sent: int | None

    @property
    def rank(self) -> tuple[int, bytes]:
        """The event with the greatest rank of its key is stored."""
        return (-1 if self.sent is None else self.sent, f"({self.order_id},{self.amount},".encode())


def orders(settings: Make, on_conflict: str = "update", **changes: Any) -> Settings:
    """Settings for a table of orders, one row for each order."""
    table = {"name": "orders", "on_conflict": on_conflict, "key": ["order_id"], **changes}
    table.setdefault("columns", COLUMNS)
    return settings(**{f"table__{key}": value for key, value in table.items()})


def moment(sent: int | None) -> dt.datetime | None:
    """The time of an event."""
    return None if sent is None else START + dt.timedelta(milliseconds=sent)


def frame(events: Sequence[Event]) -> pd.DataFrame:
    """The masked frame of some events."""
    return pd.DataFrame(
        {
            "message_id": [event.message_id for event in events],
            "order_id": [event.order_id for event in events],
            "amount": [event.amount for event in events],
            "sent_at": [moment(event.sent) for event in events],
        },
        dtype=object,
    )


def store(
    engine: sa.Engine, settings: Settings, events: Sequence[Event], max_rejects: int = MANY
) -> tuple[Trial, dict[str, str]]:
    """Load events as one batch; return what the database did, and the checks of refused ones."""
    trial = Trial()
    ids = [event.message_id for event in events]
    with transaction(engine) as connection:
        load.stage(connection, frame(events), settings.table, settings.load, max_rejects)
        broken = load.merge(connection, ids, settings.table, len(ids), max_rejects, trial)
    return trial, dict(zip(broken["message_id"], broken["check"], strict=True))


def stored(engine: sa.Engine) -> dict[str, tuple[int, dt.datetime | None]]:
    """The rows by key; fails if there are two of one key."""
    with engine.connect() as connection:
        found = connection.execute(sa.text("select order_id, amount, sent_at from orders")).all()
    rows = {order_id: (amount, sent_at) for order_id, amount, sent_at in found}
    assert len(rows) == len(found)
    return rows


def model(events: Sequence[Event]) -> dict[str, tuple[int, dt.datetime | None]]:
    """What must be stored of these events, however they come: the last of each key."""
    last: dict[str, Event] = {}
    for event in events:
        if event.order_id not in last or event.rank > last[event.order_id].rank:
            last[event.order_id] = event
    return {key: (event.amount, moment(event.sent)) for key, event in last.items()}


def some_events(chance: random.Random, count: int, keys: int) -> list[Event]:
    """Events of few orders and few moments, so that many are in conflict and some are ties."""
    return [
        Event(
            f"m{number}",
            f"o{chance.randrange(keys)}",
            chance.randrange(50),
            chance.choice([None, *range(20)]),
        )
        for number in range(count)
    ]


def in_batches(chance: random.Random, events: Sequence[Event]) -> list[list[Event]]:
    """The events in another order, in batches of any length."""
    left = chance.sample(events, len(events))
    batches = []
    while left:
        length = chance.randrange(1, 40)
        batches.append(left[:length])
        left = left[length:]
    return batches


@METHODS
@pytest.mark.parametrize("seed", range(3))
def test_the_last_one_sent_wins_in_whatever_order_they_come(
    method: str, seed: int, settings: Make, engine: sa.Engine
) -> None:
    """Rows and counts agree with the model, for any order and any division into batches."""
    made = orders(settings).model_copy(update={"load": settings(load__method=method).load})
    create_tables(engine, made.table)
    chance = random.Random(seed)
    events = some_events(chance, 150, 25)
    updated = skipped = 0
    for batch in in_batches(chance, events):
        trial, refused = store(engine, made, batch)
        assert not refused
        updated, skipped = updated + trial.updated, skipped + trial.skipped
    assert stored(engine) == model(events)
    assert len(events) - updated - skipped == len(stored(engine))


def test_workers_with_the_same_keys_agree_with_the_model(settings: Make, engine: sa.Engine) -> None:
    """Four workers, whose batches hold the same keys in other orders, neither deadlock nor err."""
    made = orders(settings)
    create_tables(engine, made.table)
    chance = random.Random(4)
    events = some_events(chance, 600, 15)
    batches = in_batches(chance, events)
    counts: list[Trial] = []
    errors: list[Exception] = []

    def work(share: list[list[Event]]) -> None:
        own = open_engine(made.database)
        try:
            counts.extend(store(own, made, batch)[0] for batch in share)
        except Exception as error:  # noqa: BLE001  (the test looks for any)
            errors.append(error)
        finally:
            own.dispose()

    threads = [threading.Thread(target=work, args=(batches[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert stored(engine) == model(events)
    replaced = sum(trial.updated + trial.skipped for trial in counts)
    assert len(events) - replaced == len(stored(engine))


@METHODS
def test_skip_keeps_the_first(method: str, settings: Make, engine: sa.Engine) -> None:
    """A row that is there stays, and of two events in one batch the first is stored."""
    made = orders(settings, "skip").model_copy(update={"load": settings(load__method=method).load})
    create_tables(engine, made.table)
    store(engine, made, [Event("m0", "a", 1, 5)])
    trial, refused = store(
        engine,
        made,
        [Event("m1", "b", 2, 1), Event("m2", "a", 3, 9), Event("m3", "b", 4, 2)],
    )
    assert not refused
    assert (trial.updated, trial.skipped) == (0, 2)
    assert {key: amount for key, (amount, _) in stored(engine).items()} == {"a": 1, "b": 2}


def test_a_refused_row_blocks_no_other(settings: Make, engine: sa.Engine) -> None:
    """The older event of its key takes the place of a refused one; all other rows are right."""
    made = orders(settings)
    create_tables(engine, made.table)
    with engine.begin() as connection:
        connection.execute(sa.text("alter table orders add check (amount <> 13)"))
    events = [Event(f"m{n}", f"o{n % 20}", n, n) for n in range(60) if n % 20 != 13 or n == 13]
    events.append(Event("bad", "o3", 13, 99))
    trial, refused = store(engine, made, events)
    assert set(refused) == {"m13", "bad"}
    good = [event for event in events if event.message_id not in refused]
    assert stored(engine) == model(good)
    assert len(good) - trial.updated - trial.skipped == len(stored(engine))


def test_a_row_that_a_trigger_leaves_out_is_not_skipped(settings: Make, engine: sa.Engine) -> None:
    """It is refused, since no row of its key is there; and so is an update that is left out."""
    made = orders(settings)
    create_tables(engine, made.table)
    store(engine, made, [Event("m0", "a", 1, 1)])
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create function leave_out() returns trigger language plpgsql as "
            "$$ begin return case when new.amount = 7 then null else new end; end $$; "
            "create trigger leave_out before insert or update on orders "
            "for each row execute function leave_out()"
        )
    events = [Event("m1", "b", 7, 1), Event("m2", "a", 7, 2), Event("m3", "c", 3, 3)]
    trial, refused = store(engine, made, events)
    assert refused == dict.fromkeys(["m1", "m2"], "not stored by the table")
    assert (trial.updated, trial.skipped) == (0, 0)
    assert {key: amount for key, (amount, _) in stored(engine).items()} == {"a": 1, "c": 3}


def test_a_partitioned_table_takes_them_too(settings: Make, engine: sa.Engine) -> None:
    """Rows are replaced in the partition that holds them, and counted."""
    made = orders(settings)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create table orders (order_id text primary key, amount integer, sent_at timestamptz) "
            "partition by hash (order_id);"
            "create table p0 partition of orders for values with (modulus 2, remainder 0);"
            # Its columns come in another order.
            "create table p1 (sent_at timestamptz, amount integer, order_id text not null);"
            "alter table orders attach partition p1 for values with (modulus 2, remainder 1)"
        )
    create_tables(engine, made.table)
    check_target(engine, made.table)
    chance = random.Random(7)
    events = some_events(chance, 100, 20)
    updated = skipped = 0
    for batch in in_batches(chance, events):
        trial, _ = store(engine, made, batch)
        updated, skipped = updated + trial.updated, skipped + trial.skipped
    assert stored(engine) == model(events)
    assert len(events) - updated - skipped == len(stored(engine))


def test_keys_are_compared_as_the_table_does(
    settings: Make, engine: sa.Engine, superuser: sa.Engine
) -> None:
    """Of a citext key, A and a are one, within a batch too."""
    made = orders(settings)
    with superuser.begin() as connection:
        available = "select from pg_available_extensions where name = 'citext'"
        if not connection.exec_driver_sql(available).rowcount:
            pytest.skip("this Postgres has no extension citext")
        connection.exec_driver_sql("create extension citext")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create table orders (order_id citext primary key, amount int8, sent_at timestamptz)"
        )
    create_tables(engine, made.table)
    check_target(engine, made.table)
    trial, refused = store(engine, made, [Event("m0", "A", 1, 1), Event("m1", "a", 2, 2)])
    assert not refused
    assert (trial.updated, trial.skipped) == (0, 1)
    assert [amount for amount, _ in stored(engine).values()] == [2]


def test_odd_names_and_an_enum_as_key(settings: Make, engine: sa.Engine) -> None:
    """Names and types that must be quoted; text becomes a value of the enum."""
    made = orders(settings, name="o:dd %s", key=["order_id"])
    with engine.begin() as connection:
        connection.exec_driver_sql(
            """create type "k:i %%nd" as enum ('b', 'a');"""
            """create table "o:dd %%s" (order_id "k:i %%nd" primary key, amount int8, """
            """sent_at timestamptz)"""
        )
    create_tables(engine, made.table)
    check_target(engine, made.table)
    events = [Event("m0", "a", 1, 1), Event("m1", "b", 2, 2), Event("m2", "a", 3, 3)]
    assert not store(engine, made, events)[1]
    assert not store(engine, made, [Event("m3", "b", 4, 1), Event("m4", "b", 5, 9)])[1]
    with engine.connect() as connection:
        found = connection.execute(sa.text('select order_id, amount from "o\\:dd %s" order by 1'))
        assert [tuple(row) for row in found] == [("b", 5), ("a", 3)]


@pytest.mark.parametrize(
    ("existing", "says"),
    [
        ("order_id text", 'run: create unique index on "public"."orders" ("order_id")'),
        ("order_id text, unique (order_id, amount)", "no unique index of exactly"),
        ("order_id text unique deferrable", "no unique index of exactly"),
        ("order_id text primary key", None),
    ],
)
def test_a_unique_index_of_the_key_must_be_there(
    existing: str, says: str | None, settings: Make, engine: sa.Engine
) -> None:
    """The error says which statement creates it."""
    made = orders(settings)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"create table orders (amount integer, sent_at timestamptz, {existing})"
        )
    create_tables(engine, made.table)
    if says is None:
        check_target(engine, made.table)
        return
    with pytest.raises(TableError, match="unique index") as refused:
        check_target(engine, made.table)
    assert says in str(refused.value)


def test_a_view_is_refused(settings: Make, engine: sa.Engine) -> None:
    """It has no index."""
    made = orders(settings)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create table behind (order_id text primary key, amount integer, sent_at timestamptz);"
            "create view orders as select * from behind"
        )
    create_tables(engine, made.table)
    with pytest.raises(TableError, match="is a view"):
        check_target(engine, made.table)


@pytest.mark.parametrize(
    ("on_conflict", "grant"), [("update", "select, update"), ("skip", "select")]
)
def test_rights_that_are_missing_are_named(
    on_conflict: str, grant: str, settings: Make, engine: sa.Engine, superuser: sa.Engine
) -> None:
    """With the statement to run; after it, a load works."""
    made = orders(settings, on_conflict)
    create_tables(engine, made.table)
    roles.create(superuser, made.table)
    as_role = sa.create_engine(superuser.url.update_query_dict({"options": "-c role=etl_loader"}))
    check_target(as_role, made.table)
    with superuser.begin() as connection:
        connection.exec_driver_sql("revoke select, update on orders from etl_loader")
    with pytest.raises(TableError, match="may not") as refused:
        check_target(as_role, made.table)
    statement = str(refused.value).partition("run: ")[2]
    assert statement == f'grant {grant} on "public"."orders" to "etl_loader"'
    with superuser.begin() as connection:
        connection.exec_driver_sql(statement)
    check_target(as_role, made.table)
    store(as_role, made, [Event("m0", "a", 1, 1), Event("m1", "a", 1, 2)])
    as_role.dispose()
    assert stored(engine)["a"][0] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": []}, "needs 'key'"),
        ({"key": ["order"]}, "'order' is not a column of the table; did you mean 'order_id'?"),
        ({"key": ["order_id", "order_id"]}, "listed twice"),
        ({"columns": COLUMNS[:2]}, "needs a column that says when the row's event was sent"),
        ({"columns": [{**COLUMNS[0], "nullable": True}, *COLUMNS[1:]]}, "cannot be 'nullable'"),
        ({"on_conflict": "error"}, "'key' is for"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, Any], says: str, settings: Make
) -> None:
    """Before anything is received, with a sentence that can be followed."""
    with pytest.raises(SettingsError) as refused:
        orders(settings, **changes)
    assert says in str(refused.value)


def test_policies_that_hide_the_rows_are_named(
    settings: Make, engine: sa.Engine, superuser: sa.Engine
) -> None:
    """With row-level security a load needs to see the rows, and to update them."""
    made = orders(settings)
    create_tables(engine, made.table)
    roles.create(superuser, made.table)
    with superuser.begin() as connection:
        connection.exec_driver_sql(
            "alter table orders enable row level security;"
            "create policy added on orders for insert to etl_loader with check (true)"
        )
    as_role = sa.create_engine(superuser.url.update_query_dict({"options": "-c role=etl_loader"}))
    with pytest.raises(TableError) as refused:
        check_target(as_role, made.table)
    for privilege in ("select", "update"):
        assert (
            f'run: create policy ... on "public"."orders" for {privilege} to "etl_loader"'
        ) in str(refused.value)
    with superuser.begin() as connection:
        connection.exec_driver_sql("create policy all_rows on orders to etl_loader using (true)")
    check_target(as_role, made.table)
    as_role.dispose()
