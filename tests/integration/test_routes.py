"""Several tables from one queue, from the messages to the rows and back."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from etl import config, dry_run, job
from etl.errors import SettingsError, UsageError
from etl.operations.entries import Selection
from etl.operations.replay import replay
from etl.postgres import first_use
from etl.postgres.event_counts import EventCounts
from etl.runs import Counts, Summary
from tests.conftest import KEYRING
from tests.integration.test_jobs import MakeJob, OneJob, make_job  # noqa: F401  (a fixture)
from tests.unit.builders import some_long

ORDERS: dict[str, Any] = {
    "events": ["order_placed", "order_paid"],
    "name": "orders",
    "columns": [
        {"name": "id", "field": "id", "type": "integer"},
        {"name": "masked_email", "field": "email", "type": "text", "mask": True},
    ],
}
CLICKS: dict[str, Any] = {
    "events": ["page_viewed"],
    "name": "clicks",
    "columns": [
        {"name": "id", "field": "id", "type": "integer"},
        {"name": "page", "field": "page", "type": "text", "max_length": 20},
        {"name": "event", "field": "$", "type": "json"},
    ],
}
EMAIL = "anna@example.com"


def order(number: Any, **more: Any) -> dict[str, Any]:
    """An order."""
    return {"event_type": "order_placed", "id": number, "email": EMAIL, **more}


def click(number: Any, **more: Any) -> dict[str, Any]:
    """A click."""
    return {"event_type": "page_viewed", "id": number, "page": "/", **more}


def routes(*tables: dict[str, Any]) -> dict[str, Any]:
    """The section of these tables."""
    return {"by": "event_type", "tables": list(tables)}


@pytest.fixture
def shop(make_job: MakeJob) -> OneJob:  # noqa: F811
    """A job with a table of orders and one of clicks."""
    made = make_job("user_logins")
    del made.tree["table"]
    made.tree |= {"job": {"name": "shop"}, "routes": routes(ORDERS, CLICKS)}
    made.changed({})
    return made


def ids(shop: OneJob, table: str) -> list[int]:
    """The ids in a table."""
    return [number for (number,) in shop.rows(f"select id from {table} order by 1")]


def entries(shop: OneJob) -> list[tuple[list[dict[str, str]], str | None]]:
    """The entries of the quarantine, in order: their reasons, and how they were closed."""
    return shop.rows("select reasons, closed_as from etl.quarantine order by quarantine_id")


def change(shop: OneJob, statement: str) -> None:
    """Change the database, as its owner may."""
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def stopped(shop: OneJob, **sections: dict[str, Any]) -> Summary:
    """Drain the queue; returns the summary of a run that was stopped."""
    settings = shop.changed(sections)
    summary = job.run(settings, {**shop.environment, "ETL_KEYRING": KEYRING.dump()})
    assert summary.exit_code
    return summary


def replayed(shop: OneJob) -> Counts:
    """Replay all entries; returns the counts."""
    return replay(
        config.load(shop.path, shop.environment), shop.engine, KEYRING, Selection()
    ).counts


def left(shop: OneJob) -> int:
    """The messages that are still in the queue."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = shop.client.get_queue_attributes(QueueUrl=shop.queue_url, AttributeNames=names)
    return sum(map(int, answer["Attributes"].values()))


@pytest.mark.parametrize("method", some_long(["multi", "copy"]))
def test_each_event_goes_to_its_table(shop: OneJob, method: str) -> None:
    """The sums are of the job as a whole, and each table has the masks of its own columns."""
    shop.send(order(1), click(2), order(3, event_type="order_paid"), click(4))
    summary = shop.run(load={"method": method})
    assert summary.counts == Counts(received=4, loaded=4)
    assert (ids(shop, "orders"), ids(shop, "clicks")) == ([1, 3], [2, 4])
    ((tokens,),) = shop.rows("select count(distinct masked_email) from orders")
    assert tokens == 1
    assert left(shop) == 0
    assert shop.rows("select job, loaded from etl.runs") == [("shop", 4)]


@pytest.mark.parametrize("method", some_long(["multi", "copy"]))
def test_events_of_one_message_go_to_several_tables(shop: OneJob, method: str) -> None:
    """The message is loaded and acknowledged once; what no route takes has an entry of its own."""
    body = [order(1), click(2), {"event_type": "ping"}, click(3)]
    shop.send_text(json.dumps(body))
    summary = shop.run(event={"split": "array"}, load={"method": method})
    assert summary.counts == Counts(received=1, loaded=1)
    assert summary.events == EventCounts(loaded=3, quarantined=1)
    assert (ids(shop, "orders"), ids(shop, "clicks"), left(shop)) == ([1], [2, 3], 0)
    assert entries(shop) == [([{"column": "event_type", "check": "route"}], None)]


@pytest.mark.parametrize(
    "value", [{"event_type": "ping"}, {}, {"event_type": None}, {"event_type": ["order_placed"]}]
)
def test_what_no_route_takes_is_quarantined(shop: OneJob, value: dict[str, Any]) -> None:
    """Another value, none, null, and a value that is none are all the same."""
    shop.send({**value, "id": 1, "email": EMAIL}, click(2))
    assert shop.run().counts == Counts(received=2, loaded=1, quarantined=1)
    assert entries(shop) == [([{"column": "event_type", "check": "route"}], None)]
    assert (ids(shop, "orders"), ids(shop, "clicks")) == ([], [2])


def test_numbers_and_booleans_are_routed_by_their_text(shop: OneJob) -> None:
    """A number with a fraction has no route, whatever text is listed."""
    tables = routes({**ORDERS, "events": ["1", "true"]}, {**CLICKS, "events": ["2", "1.5"]})
    shop.send(order(1, event_type=1), order(2, event_type=True), click(3, event_type=2))
    shop.send(order(4, event_type="1"), click(5, event_type=1.5))
    assert shop.run(routes=tables).counts == Counts(received=5, loaded=4, quarantined=1)
    assert (ids(shop, "orders"), ids(shop, "clicks")) == ([1, 2, 4], [3])


def test_a_replay_loads_what_a_new_route_takes(shop: OneJob) -> None:
    """The stored message is routed again, and one that has no route yet stays."""
    shop.send(click(1, event_type="page_left"), click(2, event_type="ping"))
    assert shop.run().counts == Counts(received=2, quarantined=2)
    shop.tree["routes"] = routes(ORDERS, {**CLICKS, "events": ["page_viewed", "page_left"]})
    shop.changed({})
    assert replayed(shop) == Counts(received=2, loaded=1, quarantined=1)
    assert ids(shop, "clicks") == [1]
    assert sorted(str(closed) for _, closed in entries(shop)) == ["None", "replayed"]
    assert replayed(shop) == Counts(received=1, quarantined=1)


def test_each_event_is_judged_by_its_own_table(shop: OneJob) -> None:
    """A field of one table is unknown in the other, and so are its checks."""
    shop.send(click(1, email=EMAIL), click(2, page="/" * 30), order("x", page="/"), order(4))
    plain = {**CLICKS, "columns": CLICKS["columns"][:2]}
    summary = shop.run(routes=routes(ORDERS, plain), event={"unknown_fields": "reject"})
    assert summary.counts == Counts(received=4, loaded=1, quarantined=3)
    assert summary.reasons == {"message: unknown field": 2, "page: length": 1}
    assert (ids(shop, "orders"), ids(shop, "clicks")) == ([4], [])


def test_a_refused_row_of_one_table_does_not_stop_the_other(shop: OneJob) -> None:
    """The database refuses it alone, and the rest of the batch is committed."""
    shop.run()
    change(shop, "alter table orders add check (id <> 2)")
    shop.send(order(1), order(2), click(3), order(4))
    assert shop.run().counts == Counts(received=4, loaded=3, quarantined=1)
    assert (ids(shop, "orders"), ids(shop, "clicks")) == ([1, 4], [3])


def test_a_table_that_takes_no_row_stops_the_run_and_is_named(shop: OneJob) -> None:
    """Its events stay in the queue; those of the other table need not wait for it."""
    shop.run()
    change(shop, "alter table orders add check (id < 0)")
    shop.send(*map(click, range(3)), *map(order, range(20)))
    summary = stopped(shop)
    assert summary.exit_code == 1
    assert "no row can be stored in table 'public.orders'" in str(summary.problem)
    assert summary.counts.quarantined == 0
    assert len(ids(shop, "clicks")) + left(shop) == 23


def test_rows_of_the_other_table_say_nothing_of_a_table_that_refuses_all(shop: OneJob) -> None:
    """A few refused rows at the end of a run stop it, although the run has loaded clicks."""
    shop.run()
    change(
        shop, "create function no() returns trigger as 'begin return null; end' language plpgsql"
    )
    change(shop, "create trigger no before insert on orders for each row execute function no()")
    shop.send(*map(click, range(3)), order(8), order(9))
    summary = stopped(shop)
    assert summary.exit_code == 1
    assert summary.counts == Counts(received=5, loaded=3, released=2)
    assert "table 'public.orders'" in str(summary.problem)
    assert left(shop) == 2


@pytest.mark.parametrize("key", some_long(["field:id", "body"]))
def test_a_business_id_is_of_one_table(shop: OneJob, key: str) -> None:
    """Order 7 and click 7 are two events, and each of them counts once."""
    shop.send(order(7), click(7), order(7), click(7))
    assert shop.run(ledger={"key": key}).counts == Counts(received=4, loaded=2, already_handled=2)
    shop.send(order(7), click(7), click(8))
    assert shop.run(ledger={"key": key}).counts == Counts(received=3, loaded=1, already_handled=2)
    assert (ids(shop, "orders"), ids(shop, "clicks")) == ([7], [7, 8])


def test_a_json_column_holds_nothing_that_another_table_masks(shop: OneJob) -> None:
    """The whole event is stored without the e-mail address, and so is no row of the database."""
    shop.send(click(1, email=EMAIL), order(2))
    shop.run()
    assert shop.rows("select event ->> 'email', event ->> 'page' from clicks") == [(None, "/")]


def test_what_one_table_has_masked_no_other_stores_later(shop: OneJob) -> None:
    """A column that lost its mask is refused before anything is received."""
    shop.send(order(1))
    shop.run()
    plain = {"name": "email", "field": "email", "type": "text"}
    orders = {**ORDERS, "columns": ORDERS["columns"][:1]}
    clicks = {**CLICKS, "columns": [*CLICKS["columns"][:2], plain]}
    settings = shop.changed({"routes": routes(orders, clicks)})
    change(shop, "alter table clicks add email text")
    shop.send(click(2, email=EMAIL))
    with pytest.raises(SettingsError) as caught:
        job.run(settings, {**shop.environment, "ETL_KEYRING": KEYRING.dump()})
    assert "'public.clicks': 'email' was masked in column 'masked_email'" in str(caught.value)
    assert EMAIL not in str(caught.value)
    assert left(shop) == 1


def test_a_replay_stores_nothing_plain_that_any_table_masked(shop: OneJob) -> None:
    """The entry of an event without a route may hold the fields of each table."""
    shop.send(order(1, event_type="ping"))
    shop.run()
    change(shop, "alter table clicks add email text")
    plain = {"name": "email", "field": "email", "type": "text"}
    clicks = {**CLICKS, "events": ["ping"], "columns": [*CLICKS["columns"][:2], plain]}
    shop.changed({"routes": routes({**ORDERS, "columns": ORDERS["columns"][:1]}, clicks)})
    with pytest.raises(UsageError, match=r"the field 'email' of 1 entry was masked or dropped"):
        replayed(shop)


def test_what_was_dropped_no_table_stores_later(shop: OneJob) -> None:
    """The dropped fields are those of the job, and the table that would store one is named."""
    event = {"event": {"drop": ["secret", "owner.name"]}}
    orders_only = routes(ORDERS)
    shop.send(order(1))
    shop.run(routes=orders_only, **event)
    known = "select array_agg(field order by field) from etl.dropped_fields where job = 'shop'"
    assert shop.rows(known) == [(["owner.name", "secret"],)]
    changed = shop.changed({"routes": routes(ORDERS, CLICKS), "event": {"drop": ["owner.name"]}})
    with pytest.raises(SettingsError) as caught:
        first_use.check(shop.engine, changed, KEYRING)
    assert "'public.clicks': 'secret' was listed in 'event.drop', and column 'event' would" in str(
        caught.value
    )


def test_a_network_is_remembered_unless_another_table_has_the_address(shop: OneJob) -> None:
    """Where a table stores the address as it comes, the network keeps nothing back."""
    network = {"name": "net", "field": "ip", "type": "ip", "network": 24}
    visits = {**CLICKS, "columns": [CLICKS["columns"][0], network]}
    plain = {"name": "ip", "field": "ip", "type": "ip"}
    orders = {**ORDERS, "columns": [*ORDERS["columns"], plain]}
    remembered = "select column_name from etl.masked_columns where kind = 'network'"
    shop.send(click(1, ip="192.0.2.7"))
    shop.run(routes=routes(orders, visits))
    assert shop.rows(remembered) == []
    shop.send(click(2, ip="192.0.2.7"))
    shop.run(routes=routes(ORDERS, visits))
    assert shop.rows(remembered) == [("net",)]
    change(shop, "drop table orders")
    changed = shop.changed({"routes": routes(orders, visits)})
    with pytest.raises(SettingsError, match=r"'public\.orders': 'ip' was stored as a net"):
        first_use.check(shop.engine, changed, KEYRING)


def test_first_uses_are_recorded_for_each_table(shop: OneJob) -> None:
    """A context that changes in one of them is refused, and its table is named."""
    clicks = {
        **CLICKS,
        "columns": [
            *CLICKS["columns"][:2],
            {"name": "masked_visitor", "field": "visitor", "type": "text", "mask": True},
        ],
    }
    shop.send(order(1), click(2, visitor="v"))
    shop.run(routes=routes(ORDERS, clicks))
    assert shop.rows("select target, column_name from etl.masked_columns order by 1") == [
        ("public.clicks", "masked_visitor"),
        ("public.orders", "masked_email"),
    ]
    changed = {**ORDERS["columns"][1], "context": "other"}
    orders = {**ORDERS, "columns": [ORDERS["columns"][0], changed]}
    with pytest.raises(SettingsError, match=r"'public\.orders': column 'masked_email' had the con"):
        first_use.check(shop.engine, shop.changed({"routes": routes(orders, clicks)}), KEYRING)


def test_equal_values_of_one_context_have_equal_tokens_in_all_tables(shop: OneJob) -> None:
    """A visitor's e-mail address is found in both tables by one token."""
    masked = {"name": "masked_email", "field": "email", "type": "text", "mask": True}
    clicks = {**CLICKS, "columns": [*CLICKS["columns"][:2], masked]}
    shop.send(order(1), click(2, email=EMAIL))
    shop.run(routes=routes(ORDERS, clicks))
    assert len(shop.rows("select 1 from orders join clicks using (masked_email)")) == 1


def test_a_check_of_a_batch_counts_the_events_of_its_table(shop: OneJob) -> None:
    """Orders that are missing stop the run, and neither clicks nor their number matter."""
    check = {"name": "no mail", "null_share": {"column": "masked_email", "max": 0.5}}
    nullable = {**ORDERS["columns"][1], "nullable": True}
    orders = {**ORDERS, "columns": [ORDERS["columns"][0], nullable]}
    orders["batch_checks"] = [{**check, "min_messages": 3}]
    shop.send(*map(click, range(9)), order(1, email=None), order(2, email=None))
    assert shop.run(routes=routes(orders, CLICKS)).counts.loaded == 11
    shop.send(*(order(number, email=None) for number in range(3)))
    summary = stopped(shop, routes=routes(orders, CLICKS))
    assert summary.exit_code == 3
    assert "fails 'batch_checks': 'no mail' of 'public.orders'" in str(summary.problem)


def test_a_check_in_python_that_raises_is_named_with_its_table(
    shop: OneJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the batch is loaded, to that table or another one."""
    code = """
        import pandera.pandas as pa

        def checks():
            look = pa.Check(lambda frame: frame["nowhere"], name="look")
            return pa.DataFrameSchema(checks=[look])
    """
    (tmp_path / "checks_of_orders.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(tmp_path)
    shop.send(order(1), click(2))
    orders = {**ORDERS, "python_checks": "checks_of_orders:checks"}
    summary = stopped(shop, routes=routes(orders, CLICKS))
    assert str(summary.problem).startswith("public.orders: python_checks: the check 'look'")
    assert (ids(shop, "orders"), ids(shop, "clicks"), left(shop)) == ([], [], 2)


def test_a_dry_run_shows_the_rows_of_each_table(shop: OneJob) -> None:
    """With what no route takes counted, as a run would."""
    shop.send(order(1), click(2), {"event_type": "ping"})
    environment = {**shop.environment, "ETL_KEYRING": KEYRING.dump()}
    look = dry_run.dry_run(shop.changed({}), environment)
    assert look.summary.would == Counts(received=3, loaded=2, quarantined=1)
    shown = {table: rows["id"].tolist() for table, rows in look.by_table.items()}
    assert shown == {"public.orders": [1], "public.clicks": [2]}
    assert look.summary.reasons == {"event_type: route": 1}


@pytest.mark.long
def test_an_upsert_and_an_append_share_a_transaction(shop: OneJob) -> None:
    """Each table has its own way to resolve conflicts."""
    sent = {"name": "sent_at", "attribute": "SentTimestamp", "type": "timestamp", "nullable": True}
    orders = {**ORDERS, "columns": [*ORDERS["columns"], sent]}
    orders |= {"on_conflict": "update", "key": ["id"], "primary_key": ["id"]}
    shop.send(order(1), click(1))
    shop.run(routes=routes(orders, CLICKS))
    shop.send(order(1, email="b@example.com"), click(1))
    counts = shop.run(routes=routes(orders, CLICKS)).counts
    assert (counts.loaded, counts.updated) == (2, 1)
    assert (ids(shop, "orders"), ids(shop, "clicks")) == ([1], [1, 1])


@pytest.mark.long
def test_two_workers_load_each_event_once(shop: OneJob) -> None:
    """Workers get the settings of the whole job."""
    shop.send(*map(order, range(30)), *map(click, range(30)))
    counts = shop.run(run={"workers": 2, "idle_seconds": 0.2}).counts
    assert counts == Counts(received=60, loaded=60)
    assert ids(shop, "orders") == ids(shop, "clicks") == [*range(30)]


def test_a_new_key_is_recorded_for_each_table(
    shop: OneJob, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a first use in both tables, and the second one is not taken for another job's."""
    shop.run()
    shop.run(KEYRING.with_new("k2"))
    assert shop.rows("select target, key_id from etl.key_checks order by 1, 2") == [
        (table, key_id) for table in ("public.clicks", "public.orders") for key_id in ("k1", "k2")
    ]
    assert "begins to load into" not in caplog.text
