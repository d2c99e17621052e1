"""What a person does with a job that loads several tables: each command says or asks which one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import etl
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.errors import UsageError
from etl.mask import tokens
from etl.postgres.engine import driver_url
from tests.conftest import KEYRING, Job
from tests.integration.test_roles import as_superuser

RUN_ID = {"name": "loaded_by", "metadata": "run_id", "type": "text"}
ORDERS = [
    {"name": "order_id", "field": "id", "type": "text"},
    {"name": "masked_email", "field": "email", "type": "text", "mask": True},
    {"name": "placed_at", "attribute": "SentTimestamp", "type": "timestamp"},
    RUN_ID,
]
CLICKS = [
    {"name": "page", "field": "page", "type": "text", "max_length": 20},
    {"name": "email_token", "field": "email", "type": "text", "mask": True},
    {"name": "masked_ip", "field": "ip", "type": "ip", "mask": True},
    RUN_ID,
]
WHY = ("--reason", "test")
JO, ANNA = "jo@example.com", "anna@example.org"
FORGOTTEN = "1 row of public.orders and 2 rows of public.clicks"


def described(orders: list[Any] = ORDERS, clicks: list[Any] = CLICKS) -> dict[str, Any]:
    """A configuration with two tables."""
    return {
        "job": {"name": "shop"},
        "quarantine": {"max_fraction": 1},
        "routes": {
            "by": "kind",
            "tables": [
                {"events": ["order"], "name": "orders", "columns": orders},
                {"events": ["click"], "name": "clicks", "columns": clicks},
            ],
        },
    }


def order(number: int, email: str = JO) -> str:
    """The body of an order."""
    return json.dumps({"kind": "order", "id": f"o{number}", "email": email})


def click(page: str = "/", email: str = JO, ip: str = "198.51.100.7") -> str:
    """The body of a click."""
    return json.dumps({"kind": "click", "page": page, "email": email, "ip": ip})


@pytest.fixture
def shop(job: Job, tmp_path: Path) -> Job:
    """A job with two tables, which has run once: 2 orders, 3 clicks, 3 quarantined."""
    return begun(job, tmp_path)


@pytest.fixture(scope="module")
def kept(
    postgres: EmbeddedPostgres, sqs: EmbeddedSqs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Job]:
    """The same for all tests that only read."""
    url = postgres.new_database()
    queue = sqs.create_queue("routes-commands", max_receive_count=100)
    environment = {
        **sqs.environment,
        "DATABASE_URL": url,
        "ETL_QUEUE__URL": queue,
        "ETL_QUEUE__WAIT_SECONDS": "1",
        "ETL_KEYRING": KEYRING.dump(),
    }
    engine = sa.create_engine(driver_url(url))
    yield begun(
        Job(environment, queue, sqs.client(), engine), tmp_path_factory.mktemp("routes-commands")
    )
    engine.dispose()
    postgres.drop_database(url)


def begun(job: Job, folder: Path, **tables: list[Any]) -> Job:
    """Configure the job, and run it once."""
    path = folder / "shop.yaml"
    path.write_text(json.dumps(described(**tables)))
    job.environment |= {"ETL_CONFIG": str(path), "TERM": "dumb"}
    job.send(order(1), order(2, ANNA), click(), click("/a", ANNA), click("/b", ANNA))
    job.send(click("/" + "x" * 30), order(3).replace("order", "refund"), '{"id": "no kind"}')
    job.run()
    return job


def done(job: Job, *arguments: str, code: int = 0, piped: str | None = None) -> tuple[str, str]:
    """Run a command; return what it printed, and what it said on standard error."""
    completed = job.command(*arguments, piped=piped)
    assert completed.returncode == code, completed.stdout + completed.stderr
    return completed.stdout, completed.stderr


ON_ONE_TABLE = {
    "token": ("-", "--column", "email"),
    "rows": ("-", "--column", "email"),
    "unmask": ("x", *WHY),
    "report duplicates": (),
}


@pytest.mark.parametrize("command", ON_ONE_TABLE)
def test_a_command_about_one_table_asks_which(kept: Job, command: str) -> None:
    """It names the tables, and does nothing."""
    call = (*command.split(), *ON_ONE_TABLE[command])
    _, said = done(kept, *call, code=2, piped=JO)
    assert (
        "job 'shop' has several tables; name one of them with --table: public.orders, "
        "public.clicks" in said
    )
    _, said = done(kept, *call, "--table", "public.click", code=2, piped=JO)
    assert "'public.click' is not a table of job 'shop'; did you mean 'public.clicks'?" in said


def test_a_value_is_looked_up_in_the_table_that_is_named(kept: Job, keyring: Keyring) -> None:
    """By the field or by the column of that table, and its token is the same in both."""
    token = str(tokens([JO], keyring, "email")[0])
    for table in ("orders", "public.clicks"):
        out, _ = done(kept, "token", "-", "--column", "email", "--table", table, piped=JO)
        assert out == f"{token}\n"
    where = ("--table", "clicks", "--json")
    out, _ = done(kept, "rows", "-", "--column", "email_token", *where, piped=ANNA)
    assert sorted(json.loads(line)["page"] for line in out.splitlines()) == ["/a", "/b"]
    _, said = done(kept, "rows", "-", "--column", "ip", "--table", "orders", code=2, piped=ANNA)
    assert "'ip' is not a masked field; masked are email" in said


def test_values_are_recovered_from_the_table_that_is_named(kept: Job, keyring: Keyring) -> None:
    """The audit says which one."""
    where = ("--where", "page = '/a'", "--table", "clicks", *WHY, "--json")
    out, _ = done(kept, "unmask", *where)
    assert json.loads(out) | {"loaded_by": ""} == {
        "page": "/a",
        "email": ANNA,
        "ip": "198.51.100.7",
        "loaded_by": "",
    }
    assert kept.rows("select scope from etl.unmask_audit order by asked_at desc limit 1") == [
        ("rows of public.clicks",)
    ]
    out, _ = done(
        kept,
        *("unmask", "--table", "orders", *WHY),
        piped=str(tokens([JO], keyring, "email")[0]),
    )
    assert out == f"{JO}\n"


def test_a_report_is_about_the_table_that_is_named(kept: Job) -> None:
    """Its users and its times are those of its own columns."""
    out, _ = done(kept, "report", "duplicates", "--table", "clicks")
    assert "in public.clicks" in out
    assert "email_token" in out
    assert "masked_email" not in out
    out, _ = done(kept, "report", "duplicates", "--table", "orders")
    assert "in public.orders" in out


def test_python_opens_the_table_that_is_named(kept: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the argument, or by the variable that a rendered notebook gets; without, it asks."""
    for name, value in kept.environment.items():
        monkeypatch.setenv(name, value)
    source = etl.connect(table="clicks")
    assert (source.name, len(etl.duplicates.token_keys(source))) == ("public.clicks", 2)
    with pytest.raises(UsageError, match=r"name one of them with table=: public\.orders, "):
        etl.connect()
    monkeypatch.setenv("ETL_NOTEBOOK_TABLE", "orders")
    assert etl.connect().name == "public.orders"


def test_the_configuration_is_tried_on_a_sample_table_by_table(kept: Job, tmp_path: Path) -> None:
    """Each event has its table, or the check that no route takes it."""
    sample = tmp_path / "sample.jsonl"
    sample.write_text("\n".join([order(1), click(), order(2).replace("order", "refund"), "{}"]))
    out, _ = done(kept, "check-config", "--sample", str(sample), "--json", code=1)
    found = json.loads(out)
    outcomes = [(event["table"], event["failed"]) for event in found["outcomes"]]
    unrouted = [{"column": "kind", "check": "route"}]
    assert outcomes == [
        *[("public.orders", []), ("public.clicks", [])],
        *[(None, unrouted), (None, unrouted)],
    ]
    assert found["outcomes"][1]["row"]["masked_ip"] == "(masked)"
    assert {(column["table"], column["column"]) for column in found["columns"]} >= {
        *[("public.orders", "masked_email"), ("public.clicks", "email_token")]
    }
    out, _ = done(kept, "check-config", "--sample", str(sample), code=1)
    assert "2 tables" in out
    assert "public.orders: what would load" in out
    assert "public.clicks: what would load" in out
    assert "2 of 4 events would load; 2 would be quarantined" in out


def test_a_look_counts_the_events_of_each_table(shop: Job) -> None:
    """And those that no route takes; it names no value."""
    shop.send(order(4), click(), click(), '{"kind": "secret"}')
    out, _ = done(shop, "peek")
    assert "events by table: public.clicks: 2; public.orders: 1; no table: 1" in out
    assert "secret" not in out
    shown, _ = done(shop, "peek", "--json")
    assert json.loads(shown)["tables"] == {"public.orders": 1, "public.clicks": 2, "none": 1}


def test_a_dry_run_shows_the_rows_of_each_table(shop: Job) -> None:
    """Masked, and under the names of its own columns."""
    shop.send(order(4), click())
    out, _ = done(shop, "run", "--dry-run", "--max-messages", "2")
    orders, clicks = out.split("public.clicks: first masked rows")
    assert "public.orders: first masked rows" in orders
    assert ("order_id" in orders, "page" in orders) == (True, False)
    assert "page" in clicks
    assert JO not in out


def test_a_value_is_forgotten_in_every_table(shop: Job) -> None:
    """Rows of each table that masks the field go, in one transaction with one audit row."""
    call = ("forget", "-", "--column", "email", "--json")
    out, said = done(shop, *call, piped=ANNA)
    assert json.loads(out) == {"rows": 3, "rows_within": 0, "quarantined": 0, "done": False}
    assert "looked in public.orders, public.clicks and in 3 open quarantined messages" in said
    done(shop, *call, "--yes", piped=ANNA)
    assert shop.rows("select order_id from orders") == [("o1",)]
    assert shop.rows("select page from clicks") == [("/",)]
    assert shop.rows("select scope, columns, count from etl.unmask_audit") == [
        (f"{FORGOTTEN} deleted, 0 in quarantine", ["email"], 3)
    ]
    out, _ = done(shop, *call, "--yes", piped=JO)  # also in the quarantine
    assert json.loads(out) == {"rows": 2, "rows_within": 0, "quarantined": 2, "done": True}


def test_a_value_within_json_is_forgotten_in_every_table(job: Job, tmp_path: Path) -> None:
    """The rows are counted and deleted in each table, and each is named in the audit."""
    whole = {"name": "whole", "field": "$", "type": "json"}
    begun(job, tmp_path, orders=[*ORDERS, whole], clicks=[*CLICKS, whole])
    note = json.dumps({"note": f"write to {ANNA}"})
    with job.engine.begin() as connection:
        for statement in (
            "update orders set whole = cast(:note as json) where order_id = 'o1'",
            "update clicks set whole = cast(:note as json) where page in ('/', '/a')",
        ):
            connection.execute(sa.text(statement), {"note": note})
    call = ("forget", "-", "--column", "email")
    out, said = done(job, *call, piped=ANNA)
    assert out.splitlines()[1] == "found 2 other rows with it within JSON or a list"
    assert (
        "and within columns 'whole' of public.orders, and within columns 'whole' of public.clicks"
        in said
    )
    out, _ = done(job, *call, "--yes", "--json", piped=ANNA)
    assert json.loads(out) == {"rows": 3, "rows_within": 2, "quarantined": 0, "done": True}
    assert [job.rows(f"select count(*) from {table}") for table in ("orders", "clicks")] == [
        [(0,)],
        [(0,)],
    ]
    assert job.rows("select scope, count from etl.unmask_audit") == [
        ("2 rows of public.orders and 3 rows of public.clicks deleted, 0 in quarantine", 5)
    ]


def test_a_value_of_one_table_says_which_others_have_the_field(shop: Job) -> None:
    """So that nobody takes an answer about one table for the whole."""
    call = ("forget", "-", "--column", "email", "--json", "--table", "clicks")
    out, said = done(shop, *call, piped=ANNA)
    assert json.loads(out)["rows"] == 2
    assert (
        "other tables of this job mask 'email' and were not searched; leave --table out to search "
        "them too: public.orders" in said
    )
    out, said = done(shop, "forget", "-", "--column", "ip", "--json", piped="198.51.100.7")
    assert json.loads(out)["rows"] == 3
    assert "looked in public.clicks and in" in said
    assert "other tables" not in said
    _, said = done(shop, "forget", "-", "--column", "emial", code=2, piped=ANNA)
    assert "'emial' is not a masked field of any table; did you mean 'email'?" in said
    _, said = done(shop, *call, "--null", "--yes", code=2, piped=ANNA)
    assert "column 'email_token' of public.clicks is not nullable; leave --null out" in said


def test_a_run_is_taken_out_of_every_table(shop: Job) -> None:
    """In one transaction, with one audit row; the rows of other runs stay."""
    (first,) = shop.rows("select cast(run_id as text) from etl.runs")[0]
    shop.send(order(7), click())
    shop.run()
    out, said = done(shop, "rollback", first, *WHY, piped="y\n")
    counted = "2 rows of public.orders and 3 rows of public.clicks"
    assert f"Delete {counted}, loaded by run {first}?" in said
    assert out == f"deleted {counted}, loaded by run {first}\n"
    assert shop.rows("select order_id from orders") == [("o7",)]
    assert shop.rows("select count(*) from clicks") == [(1,)]
    assert shop.rows("select scope, count from etl.unmask_audit") == [
        (f"{counted} deleted, of run {first}; ledger kept", 5)
    ]


def test_a_run_stays_whole_if_one_table_refuses(shop: Job) -> None:
    """A constraint of one table keeps the rows of the others."""
    (run_id,) = shop.rows("select cast(run_id as text) from etl.runs")[0]
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("alter table orders add primary key (order_id)")
        connection.exec_driver_sql("create table refers (id text references orders)")
        connection.exec_driver_sql("insert into refers values ('o1')")
    _, said = done(shop, "rollback", run_id, *WHY, "--yes", code=1)
    assert "nothing was changed" in said
    assert shop.rows("select count(*) from clicks") == [(3,)]


def test_a_run_is_taken_out_of_one_table(shop: Job) -> None:
    """The ledger cannot be freed then, and a table without the run's id does not hinder it."""
    (run_id,) = shop.rows("select cast(run_id as text) from etl.runs")[0]
    call = ("rollback", run_id, *WHY, "--yes", "--json", "--table", "clicks")
    _, said = done(shop, *call, "--free-ledger", code=2)
    assert "--free-ledger is for all tables of a run" in said
    write(shop, orders=ORDERS[:-1])
    _, said = done(shop, "rollback", run_id, *WHY, "--yes", code=2)
    assert "no column of table public.orders says which run loaded a row" in said
    out, _ = done(shop, *call)
    counts = json.loads(out)
    assert (counts["rows"], counts["missing"]) == (3, None)
    assert shop.rows("select count(*) from orders") == [(2,)]


def write(job: Job, **tables: list[Any]) -> None:
    """Change the configuration of a job."""
    Path(job.environment["ETL_CONFIG"]).write_text(json.dumps(described(**tables)))


def test_init_makes_and_alters_every_table(
    job: Job, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """With its indexes and the rights of the roles; the statements for all tables are shown."""
    job.environment["ETL_CONFIG"] = str(tmp_path / "shop.yaml")
    config = described()
    config["routes"]["tables"][1]["indexes"] = [["masked_ip"]]
    Path(job.environment["ETL_CONFIG"]).write_text(json.dumps(config))
    job.environment["DATABASE_URL"] = as_superuser(postgres, job.environment["DATABASE_URL"])
    _, said = done(job, "init", "--roles")
    assert "ready: public.orders, public.clicks, etl.ledger" in said
    indexed = "select tablename from pg_indexes where schemaname = 'public'"
    assert job.rows(indexed) == [("clicks",)]
    rights = "select has_table_privilege(:role, :name, :right)"
    for table in ("orders", "clicks"):
        for role, right in (("etl_loader", "insert"), ("etl_analyst", "select")):
            assert job.rows(rights, role=role, name=table, right=right) == [(True,)]
    more = {"name": "note", "field": "note", "type": "text", "required": False, "nullable": True}
    write(job, orders=[*ORDERS, more], clicks=[*CLICKS, more])
    out, _ = done(job, "init", "--alter", "--yes")
    assert [line.split(" add")[0] for line in out.splitlines()] == [
        *['alter table "public"."orders"', 'alter table "public"."clicks"']
    ]
    added = "select attrelid::regclass::text from pg_attribute where attname = 'note'"
    assert {("clicks",), ("orders",)} <= set(job.rows(added))


def test_doctor_looks_at_every_table(shop: Job) -> None:
    """A fault of one table does not hide another, and a fact about the job is said once."""
    out, _ = done(shop, "doctor", "--json")
    results = checks(out)
    found = [result["found"] for result in results if result["check"] == "database.target"]
    assert found == [f"public.{table} has the configured columns" for table in ("orders", "clicks")]
    assert [r["check"] for r in results].count("database.own_tables") == 1
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("alter table orders drop column order_id")
        connection.exec_driver_sql("alter table clicks drop column page")
    out, _ = done(shop, "doctor", "--json", code=1)
    failed = " ".join(check["found"] for check in checks(out) if check["status"] == "fail")
    assert "'order_id'" in failed
    assert "'page'" in failed


def checks(out: str) -> list[dict[str, str]]:
    """The checks that ``doctor --json`` prints."""
    found: list[dict[str, str]] = json.loads(out)["checks"]
    return found


def test_rekey_moves_every_table(shop: Job) -> None:
    """And keys list counts each of them before and after."""
    new = KEYRING.with_new("k2")
    shop.environment["ETL_KEYRING"] = new.dump()
    out, _ = done(shop, "keys", "list", "--json")
    old = next(line for line in map(json.loads, out.splitlines()) if line["key_id"] == "k1")
    assert {name: n for name, n in old.items() if "." in name} == {
        "orders.masked_email": 2,
        "clicks.email_token": 3,
        "clicks.masked_ip": 3,
        "etl.quarantine": 3,
    }
    out, _ = done(shop, "rekey", "--json")
    outcome = json.loads(out)
    assert (outcome["rows"], outcome["entries"], outcome["elsewhere"]) == (5, 3, {})
    stored = "select masked_email from orders union select email_token from clicks"
    assert {token[:3] for (token,) in shop.rows(stored)} == {"k2."}


def test_the_quarantine_knows_the_checks_of_every_table(shop: Job) -> None:
    """And that of the route, by which entries are selected and replayed once it is mended."""
    for check in ("id: missing", "ip: IP address", "kind: route", "page: length"):
        _, said = done(shop, "quarantine", "list", "--check", check)
        assert said == "", check
    config = described()
    config["routes"]["tables"][0]["events"].append("refund")
    Path(shop.environment["ETL_CONFIG"]).write_text(json.dumps(config))
    out, _ = done(shop, "quarantine", "replay", "--check", "kind: route", "--json")
    assert (json.loads(out)["loaded"], json.loads(out)["quarantined"]) == (1, 1)
    assert shop.rows("select count(*) from orders where order_id = 'o3'") == [(1,)]
    entry = shop.rows("select max(quarantine_id) from etl.quarantine where body is not null")
    done(shop, "quarantine", "show", str(entry[0][0]), *WHY)
    assert shop.rows("select columns from etl.unmask_audit") == [(["email", "ip"],)]


def test_a_misspelt_check_is_named_before_an_entry_has_failed_it(job: Job, tmp_path: Path) -> None:
    """It would select nothing, and nobody would see why."""
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(described()))
    job.environment |= {"ETL_CONFIG": str(path), "TERM": "dumb"}
    done(job, "init")
    for check, meant in (("kind: rout", "kind: route"), ("S3 pointr", "S3 pointer")):
        _, said = done(job, "quarantine", "list", "--check", check, code=2)
        assert f"did you mean {meant!r}?" in said


def test_history_tells_of_the_job(kept: Job) -> None:
    """A run is one, whatever the number of its tables."""
    out, _ = done(kept, "history", "--json")
    (run,) = map(json.loads, out.splitlines())
    assert (run["received"], run["loaded"], run["quarantined"]) == (8, 5, 3)
