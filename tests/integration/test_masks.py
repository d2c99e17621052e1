"""The kinds of masks on a real table: loaded, found, forgotten, rotated, replayed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import KeyringError, SettingsError, UsageError
from etl.mask import unmask
from etl.operations.forget import Search, find_value, forget_value
from etl.operations.key_list import key_list, key_places
from etl.operations.lookup import find_rows, tokens_of
from etl.operations.rekey import rekey_database
from etl.operations.replay import replay
from etl.postgres import first_use
from etl.schema import masked_column
from tests.conftest import KEYRING, Job
from tests.integration.test_quarantine import ALL, QuarantineDatabase

EMAIL, CARD = "anna@example.com", 4111111111111234
NULLABLE = {"nullable": True, "required": False}
COLUMNS: list[dict[str, Any]] = [
    {"name": "user_id", "field": "user_id", "type": "text"},
    {"name": "card", "field": "card", "type": "bigint", "mask": True, **NULLABLE},
    {"name": "shown", "field": "card", "type": "bigint", "mask": "partial", "keep_last": 4}
    | NULLABLE,
    {"name": "email", "field": "c.email", "type": "text", "mask": "hmac", **NULLABLE},
    {"name": "domain", "field": "c.email", "type": "text", "mask": "partial", "keep_domain": True}
    | NULLABLE,
    {"name": "whole", "field": "$", "type": "json"},
]
VARIABLES = {
    "ETL_TABLE__COLUMNS": yaml.safe_dump(COLUMNS),
    "ETL_TABLE__TOKEN_CHECK": "true",
    "ETL_EVENT__DROP": "[secret, c.phones]",
}
ROTATED = KEYRING.with_new("k2")
# As a program that sorts the members of JSON leaves it.
REVERSED = Keyring("k2", {key_id: ROTATED.key(key_id) for key_id in ("k2", "k1")})


def body(user: str, **changes: Any) -> str:
    """An event with personal fields of all kinds."""
    customer = {"email": EMAIL, "name": "A", "phones": [1]}
    event = {"user_id": user, "card": CARD, "c": customer, "secret": {"a": 1}, **changes}
    return json.dumps(event)


@pytest.fixture
def masks(
    engine: sa.Engine, environment: dict[str, str], settings: Callable[..., Settings]
) -> QuarantineDatabase:
    """A database with two rows of one person and one of another, loaded by a replay."""
    environment |= VARIABLES
    database = QuarantineDatabase(engine, KEYRING, settings())
    database.add(body("a"), body("b"), body("c", card=None, c={"email": "b@example.org"}))
    assert replay(database.settings, engine, KEYRING, ALL).counts.loaded == 3
    return database


def search(database: QuarantineDatabase, value: str, name: str) -> Search:
    """Make a search for a value."""
    column = masked_column(database.settings.table, name)
    return Search(database.engine, database.settings, database.keyring, column, value)


def test_each_kind_stores_what_it_says(masks: QuarantineDatabase) -> None:
    """Nothing hidden is in the column with the whole event; the CHECK lets both tokens through."""
    rows = masks.rows("select * from user_logins order by user_id")
    (_, card, shown, email, domain, whole), (_, *same), other = rows
    assert unmask(card, KEYRING, "card") == str(CARD)
    assert [card, shown, email, domain] == same[:4]
    assert (shown, domain, email[:3]) == ("****1234", "****@example.com", "k1:")
    assert whole == {"user_id": "a", "c": {"name": "A"}}
    assert other[1:] == (None, None, other[3], "****@example.org", {"user_id": "c", "c": {}})
    assert other[3] != email
    refused = "insert into user_logins (user_id, email) values ('x', 'anna@example.com')"
    with pytest.raises(sa.exc.IntegrityError, match="not a token"):
        masks.do(refused)


def test_a_number_and_a_one_way_value_are_found_and_forgotten(masks: QuarantineDatabase) -> None:
    """In rows and in quarantine; with --null, what is shown of the value goes too."""
    table = masks.settings.table
    for name, value in (("card", str(CARD)), ("email", EMAIL)):
        column = masked_column(table, name)
        found = find_rows(masks.engine, table, column, tokens_of(value, column, KEYRING), 10)
        assert sorted(found["user_id"]) == ["a", "b"]
    (entry,) = masks.add(body("d", card="x", c={"email": "y"}, other=CARD))[:1]
    assert entry
    assert find_value(search(masks, str(CARD), "card")).rows == 2
    assert len(find_value(search(masks, f" {CARD} ", "card")).entries) == 1
    assert forget_value(search(masks, EMAIL, "email"), "null", "4711").rows == 2
    left = "select user_id, card is null, shown, email is null, domain from user_logins order by 1"
    assert masks.rows(left)[:2] == [(u, False, "****1234", True, None) for u in ("a", "b")]
    assert forget_value(search(masks, str(CARD), "card"), "delete", "4711").rows == 2
    assert masks.users() == ["c"]
    with pytest.raises(UsageError, match="fails the check 'type'"):
        find_value(search(masks, "4111-1111", "card"))


def test_a_value_is_forgotten_in_every_column_that_is_made_of_it(
    engine: sa.Engine, environment: dict[str, str], settings: Callable[..., Settings], job: Job
) -> None:
    """With --null, no other token, network or part of it stays; also of a message attribute."""
    ip: dict[str, Any] = {"type": "ip", **NULLABLE}
    columns = [
        COLUMNS[0],
        {"name": "a", "field": "ip", "mask": True, **ip},
        {"name": "b", "field": "ip", "mask": True, "context": "other", **ip},
        {"name": "c", "field": "ip", "mask": "hmac", **ip},
        {"name": "d", "field": "ip", "network": 24, **ip},
        {"name": "e", "message_attribute": "p", "type": "text", "mask": True, **NULLABLE},
        {"name": "f", "message_attribute": "p", "type": "text", "mask": "partial", "keep_last": 4}
        | NULLABLE,
    ]
    environment["ETL_TABLE__COLUMNS"] = yaml.safe_dump(columns)
    database = QuarantineDatabase(engine, KEYRING, settings())
    phone = {"p": {"DataType": "String", "StringValue": "+49 170 1234567"}}
    body_ = json.dumps({"user_id": "u", "ip": "192.0.2.7"})
    job.client.send_message(QueueUrl=job.queue_url, MessageBody=body_, MessageAttributes=phone)
    assert job.run()["loaded"] == 1
    stored = database.rows("select host(d), f from user_logins")
    assert stored == [("192.0.2.0", "****4567")]
    assert forget_value(search(database, "192.0.2.7", "a"), "null", "4711").rows == 1
    left = database.rows("select a, b, c, d, e is null, f from user_logins")
    assert left == [(None, None, None, None, False, "****4567")]
    assert forget_value(search(database, "+49 170 1234567", "e"), "null", "4711").rows == 1
    assert database.rows("select e, f from user_logins") == [(None, None)]


def test_a_rekey_leaves_one_way_tokens_under_their_key(masks: QuarantineDatabase, job: Job) -> None:
    """The outcome names the column, the list of keys says that the key must stay."""
    one_way = masks.rows("select email from user_logins order by user_id")
    outcome = rekey_database(masks.settings, masks.engine, ROTATED)
    assert (outcome.rows, outcome.exit_code, outcome.one_way) == (2, 0, ["email"])
    assert masks.rows("select email from user_logins order by user_id") == one_way
    listed = key_list(ROTATED, key_places(masks.engine, masks.settings, ROTATED))
    by_key = {row["key_id"]: row for row in listed.to_dict(orient="records")}
    assert by_key["k1"]["status"] == "older key, of one-way tokens: keep it"
    assert by_key["k1"]["user_logins.email"] == 3
    assert by_key["k2"]["user_logins.card"] == 2
    done = job.command("rekey", ETL_KEYRING=ROTATED.dump())
    assert (done.returncode, "email" in done.stderr) == (0, True), done.stderr
    masks.add(body("d"), keyring=ROTATED)
    assert replay(masks.settings, masks.engine, ROTATED, ALL).counts.loaded == 1
    assert masks.rows("select email from user_logins where user_id = 'd'") == one_way[:1]


def test_another_key_of_one_way_tokens_is_refused_before_anything(
    masks: QuarantineDatabase, job: Job
) -> None:
    """A keyring without the key, and one in another order, which its member puts right."""
    masks.do("insert into etl.key_checks select job, target, 'k0', 'x' from etl.key_checks limit 1")
    with pytest.raises(KeyringError, match='write "hmac": "k1" in the keyring'):
        first_use.check(masks.engine, masks.settings, REVERSED)
    lost = Keyring("k2", {"k2": ROTATED.key("k2")})
    with pytest.raises(KeyringError, match="restore the copy of the keyring that has key 'k1'"):
        first_use.check(masks.engine, masks.settings, lost)
    done = job.command("run", "--idle-seconds", "1", ETL_KEYRING=REVERSED.dump())
    assert (done.returncode, '"hmac": "k1"' in done.stderr) == (2, True), done.stderr
    named = Keyring("k2", {key: ROTATED.key(key) for key in ("k2", "k1")}, "k1")
    first_use.check(masks.engine, masks.settings, named)


@pytest.mark.parametrize("kind", [True, "partial", False])
def test_another_kind_of_mask_is_refused_before_anything(
    masks: QuarantineDatabase, settings: Callable[..., Settings], kind: Any
) -> None:
    """As another context is."""
    columns = list(masks.settings.table.columns)
    part = {"keep_domain": True} if kind == "partial" else {}
    columns[3] = columns[3].model_copy(update={"mask": kind, **part})
    table = masks.settings.table.model_copy(update={"columns": tuple(columns)})
    changed = masks.settings.model_copy(update={"table": table})
    with pytest.raises(SettingsError, match="column 'email' was masked"):
        first_use.check(masks.engine, changed, KEYRING)


@pytest.mark.parametrize(
    ("without", "changes", "drop"),
    [
        ("card", {"name": "plain", "field": "card", "type": "text"}, []),
        ("card", {}, []),  # from the column with the whole event
        ("email", {"name": "plain", "field": "c", "type": "json"}, []),
        ("card", {}, ["card"]),
        ("card", {"name": "whole", "field": "user_id"}, []),
    ],
)
def test_what_was_masked_is_not_stored_as_it_comes_once_its_column_is_gone(
    masks: QuarantineDatabase, without: str, changes: dict[str, Any], drop: list[str]
) -> None:
    """A line that is lost, or has another name, does not let the value through."""
    field = next(column["field"] for column in COLUMNS if column["name"] == without)
    kept = [column for column in COLUMNS if column["field"] != field]
    kept[-1] = {**kept[-1], **changes}
    table = {**masks.settings.table.model_dump(by_alias=True), "columns": kept}
    event = {"drop": ["secret", "c.phones", *drop]}
    wanted = masks.settings.model_dump(by_alias=True) | {"table": table, "event": event}
    changed = Settings.model_validate(wanted)
    if drop or changes.get("field") == "user_id":
        first_use.check(masks.engine, changed, KEYRING)
        return
    with pytest.raises(SettingsError, match=f"'{field}' was masked in column"):
        first_use.check(masks.engine, changed, KEYRING)


PLAIN_SECRET = {"name": "plain", "field": "secret.a", "type": "integer", **NULLABLE}


def with_settings(
    database: QuarantineDatabase, columns: list[dict[str, Any]], drop: list[str]
) -> Settings:
    """The database's settings with these columns and dropped fields."""
    table = {**database.settings.table.model_dump(by_alias=True), "columns": columns}
    wanted = database.settings.model_dump(by_alias=True)
    return Settings.model_validate(wanted | {"table": table, "event": {"drop": drop}})


@pytest.mark.parametrize(
    ("columns", "drop", "reader"),
    [
        ([*COLUMNS[:-1], PLAIN_SECRET], ["c.phones"], "plain"),
        (COLUMNS, ["c.phones"], "whole"),
        ([*COLUMNS[:-1], {**PLAIN_SECRET, "field": "secret", "type": "json"}], [], "plain"),
        ([*COLUMNS[:-1], PLAIN_SECRET | {"mask": "hmac"}], ["c.phones"], ""),
        (COLUMNS[:-1], [], ""),
        (COLUMNS, ["c.phones", "secret", "new"], ""),
    ],
)
def test_what_was_dropped_is_not_stored_once_its_line_is_gone(
    masks: QuarantineDatabase, columns: list[dict[str, Any]], drop: list[str], reader: str
) -> None:
    """Unless it is masked, no column reads it, or its row is deleted."""
    changed = with_settings(masks, columns, drop)
    if not reader:
        first_use.check(masks.engine, changed, KEYRING)
        return
    words = f"'secret' was listed in 'event.drop', and column '{reader}' would store it"
    with pytest.raises(SettingsError, match=words):
        first_use.check(masks.engine, changed, KEYRING)
    masks.do("delete from etl.dropped_fields where field = 'secret'")
    first_use.check(masks.engine, changed, KEYRING)


def test_a_database_of_an_earlier_version_knows_no_dropped_fields(
    masks: QuarantineDatabase, job: Job
) -> None:
    """What it knows of keys and columns is checked all the same; the owner's run adds the table."""
    masks.do("drop table etl.dropped_fields")
    first_use.check(masks.engine, with_settings(masks, COLUMNS, ["c.phones"]), KEYRING)
    with pytest.raises(SettingsError, match="was masked in column"):
        first_use.check(masks.engine, with_settings(masks, [COLUMNS[-1]], []), KEYRING)
    masks.do("grant insert on etl.masked_columns to public")
    assert job.run()["received"] == 0
    granted = "select has_table_privilege('public', 'etl.dropped_fields', 'select, insert')"
    assert masks.rows(granted) == [(True,)]
    recorded = "select array_agg(field order by field) from etl.dropped_fields"
    assert masks.rows(recorded) == [(["c.phones", "secret"],)]


NETWORK = {"name": "net", "field": "ip", "type": "ip", "network": 24, **NULLABLE}
WHOLE = {"name": "whole", "field": "$", "type": "json"}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([NETWORK], [{**NETWORK, "network": None}], "stored the network only, and now does not"),
        ([NETWORK], [{**NETWORK, "name": "ip", "network": None}], "and column 'ip' would store it"),
        ([NETWORK], [NETWORK, WHOLE], "and column 'whole' would store it"),
        ([{**NETWORK, "network": 28}], [WHOLE], "and column 'whole' would store it"),
        ([NETWORK], [{**NETWORK, "network": None, "mask": True}], "stored the network only"),
        ([{**NETWORK, "network": 28}], [{**NETWORK, "network": 30}], ""),
        ([NETWORK, {**NETWORK, "name": "ip", "network": 31}], [NETWORK], ""),
        # Where another column has the address, the network keeps nothing back.
        ([{**NETWORK, "network": 28}, WHOLE], [{**NETWORK, "network": None}], ""),
    ],
)
def test_an_address_is_not_stored_once_its_network_is_gone(
    engine: sa.Engine,
    environment: dict[str, str],
    settings: Callable[..., Settings],
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    words: str,
) -> None:
    """Not in its own column, and not in another one, unless its row is deleted."""
    environment["ETL_TABLE__COLUMNS"] = yaml.safe_dump([COLUMNS[0], *before])
    database = QuarantineDatabase(engine, KEYRING, settings())
    with engine.begin() as connection:
        first_use.record(connection, database.settings, KEYRING)
    changed = with_settings(database, [COLUMNS[0], *after], [])
    if words:
        with pytest.raises(SettingsError, match=words):
            first_use.check(engine, changed, KEYRING)
        database.do("delete from etl.masked_columns where column_name = 'net'")
    first_use.check(engine, changed, KEYRING)


def test_a_column_of_recoverable_tokens_does_not_become_one_way_unnoticed(
    masks: QuarantineDatabase,
) -> None:
    """Also where the database does not know how it was masked, as in one of an earlier version."""
    masks.do("update user_logins set email = card")
    masks.do("delete from etl.masked_columns")
    with pytest.raises(SettingsError, match="holds tokens of 'mask: true'"):
        first_use.check(masks.engine, masks.settings, KEYRING)


def test_a_database_of_an_earlier_version_knows_recoverable_masks_only(
    masks: QuarantineDatabase,
) -> None:
    """Its table lacks the two columns, until init adds them."""
    masks.do("alter table etl.masked_columns drop column kind, drop column key_id")
    with pytest.raises(SettingsError, match="was masked with 'siv', and now with 'partial'"):
        first_use.check(masks.engine, masks.settings, KEYRING)


def test_nothing_recovers_a_one_way_value(masks: QuarantineDatabase, job: Job) -> None:
    """The command says so, for a token and for the column; the others are recovered."""
    ((token,),) = masks.rows("select email from user_logins where user_id = 'a'")
    why = ("--reason", "4711")
    for arguments, words in (
        ((token, *why), "is a one-way token"),
        ((token, "--column", "email", *why), "has one-way tokens"),
        (("--where", "true", "--column", "c.email", *why), "has one-way tokens"),
    ):
        done = job.command("unmask", *arguments)
        assert (done.returncode != 0, done.stdout) == (True, ""), done.stderr
        assert words in done.stderr
    done = job.command("unmask", "--where", "user_id = 'a'", "--json", *why)
    row = json.loads(done.stdout)
    assert (row["card"], row["email"], row["shown"]) == (str(CARD), token, "****1234")


def test_recovered_rows_have_json_bytes_and_lists_as_text(job: Job) -> None:
    """A JSON column with every digit, and a field that is stored twice under a name of its own."""
    columns = [
        {"name": "email", "field": "email", "type": "text", "mask": "partial", "keep_domain": True},
        {"name": "masked_email", "field": "email", "type": "text", "mask": True},
        {"name": "whole", "field": "whole", "type": "json"},
        {"name": "raw", "field": "raw", "type": "bytes"},
        {"name": "raws", "field": "raws", "type": "bytes", "array": True},
        {"name": "tags", "field": "tags", "type": "text", "array": True},
    ]
    tail = '"raw": "3q0=", "raws": ["3q0="], "tags": ["a", "b\'c"]}'
    job.send(f'{{"email": "{EMAIL}", "whole": {{"n": 1.10}}, {tail}')
    job.environment["ETL_TABLE__COLUMNS"] = yaml.safe_dump(columns)
    job.run()
    done = job.command("unmask", "--where", "true", "--reason", "4711")
    head, row = csv.reader(io.StringIO(done.stdout))
    assert head == ["email", "masked_email (plain)", "whole", "raw", "raws", "tags"]
    bytes_, list_ = ["\\xdead", '{"\\\\xdead"}'], '["a", "b\'c"]'
    assert row == ["****@example.com", EMAIL, '{"n": 1.10}', *bytes_, list_]
    done = job.command("unmask", "--where", "true", "--json", "--reason", "4711")
    shown = json.loads(done.stdout)
    assert (shown["whole"], shown["raw"]) == ('{"n": 1.10}', "\\xdead")
    assert shown["tags"] == ["a", "b'c"]


@pytest.mark.parametrize("field", ["secret", "c.email", "c", "$"])
def test_a_replay_stores_nothing_that_was_hidden_before(
    masks: QuarantineDatabase, settings: Callable[..., Settings], field: str
) -> None:
    """With a configuration that would have it in plain."""
    masks.add(body("d"))
    plain = [COLUMNS[0], {"name": "whole", "field": field, "type": "json"}]
    table = {**masks.settings.table.model_dump(by_alias=True), "columns": plain}
    wanted = masks.settings.model_dump(by_alias=True) | {"table": table, "event": {"drop": []}}
    with pytest.raises(UsageError, match="of 1 entry was masked"):
        replay(Settings.model_validate(wanted), masks.engine, KEYRING, ALL)
    assert len(masks.users()) == 3


def test_a_run_and_its_dry_run_show_no_plain_value(masks: QuarantineDatabase, job: Job) -> None:
    """The dry run prints tokens and parts."""
    job.send(body("d"), body("e", card="x"))
    dry = job.command("run", "--dry-run", "--idle-seconds", "1")
    assert dry.returncode == 0, dry.stderr
    for plain in (EMAIL, str(CARD), "secret"):
        assert plain not in dry.stdout + dry.stderr
    assert "****1234" in dry.stdout
    summary = job.run(ETL_QUARANTINE__MAX_FRACTION="1")
    assert (summary["loaded"], summary["quarantined"]) == (1, 1)


def put_plain_rows(database: QuarantineDatabase) -> None:
    """Put rows into the table as they were loaded before the field was masked."""
    for user, whole in (
        ("before", {"user_id": "before", "c": {"email": EMAIL}}),
        ("key", {"contacts": [{EMAIL: 1}]}),
        ("text", {"note": f"write to {EMAIL}, soon"}),
        ("other", {"note": f"x{EMAIL}", "c": {"email": "b@example.org"}}),
    ):
        values = f"'{user}', '{json.dumps(whole)}'"
        database.do(f"insert into user_logins (user_id, whole) values ({values})")


def test_a_value_within_json_is_found_and_deleted(masks: QuarantineDatabase, job: Job) -> None:
    """In a row from before its field was masked, under another name, as a key and in a text."""
    put_plain_rows(masks)
    # One row has its token, too.
    masks.do(f"""update user_logins set whole = '["{EMAIL}"]' where user_id = 'a'""")
    statements: list[str] = []

    def remember(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        statements.append(f"{statement} {parameters}")

    sa.event.listen(masks.engine, "before_cursor_execute", remember)
    found = find_value(search(masks, EMAIL, "email"))
    assert (found.rows, found.within) == (2, 3)
    done = forget_value(search(masks, EMAIL, "email"), "delete", "4711")
    assert (done.rows, done.within) == (2, 3)
    sa.event.remove(masks.engine, "before_cursor_execute", remember)
    assert statements
    assert not [statement for statement in statements if EMAIL in statement]
    assert sorted(masks.users()) == ["c", "other"]
    assert find_value(search(masks, EMAIL, "email")).within == 0
    assert masks.rows("select count, scope from etl.unmask_audit") == [
        (5, "5 rows of public.user_logins deleted, 0 in quarantine")
    ]
    put_plain_rows(masks)
    asked = job.command("forget", EMAIL, "--column", "email")
    assert asked.stdout.splitlines()[1] == "found 3 other rows with it within JSON or a list"
    assert "within columns 'whole'" in asked.stderr
    asked = job.command("forget", EMAIL, "--column", "email", "--yes")
    assert asked.stdout.splitlines()[1] == "deleted 3 other rows that had it within JSON or a list"


def test_a_column_without_null_keeps_the_value_within_it(masks: QuarantineDatabase) -> None:
    """The refusal changes nothing, also in the quarantine."""
    put_plain_rows(masks)
    masks.add(body("d", card="x"))
    with pytest.raises(UsageError, match=r"'whole' of public\.user_logins has the value within"):
        forget_value(search(masks, EMAIL, "email"), "null", "4711")
    found = find_value(search(masks, EMAIL, "email"))
    assert (found.rows, found.within, len(found.entries)) == (2, 3, 1)


def test_a_value_within_lists_and_partitions_is_set_to_null(
    engine: sa.Engine, environment: dict[str, str], settings: Callable[..., Settings]
) -> None:
    """Only the columns that have it, also beside a token; a number that no column takes, too."""
    columns = [
        COLUMNS[0],
        {"name": "email", "field": "email", "type": "text", "mask": True, "max_length": 99}
        | NULLABLE,
        {"name": "tags", "field": "tags", "type": "text", "array": True, **NULLABLE},
        {"name": "rest", "field": "rest", "type": "json", **NULLABLE},
        {"name": "day", "field": "day", "type": "date"},
    ]
    environment |= {
        "ETL_TABLE__COLUMNS": yaml.safe_dump(columns),
        "ETL_TABLE__PARTITION_BY": "{range: day, every: month}",
    }
    database = QuarantineDatabase(engine, KEYRING, settings())
    days = ["2026-10-01", "2026-11-01"]
    for number, day in enumerate(days):
        tags = ["a, b", EMAIL if number else "x"]
        event = {"user_id": str(number), "day": day, "tags": tags, "rest": {"e": EMAIL}}
        database.add(json.dumps({**event, "email": EMAIL if number else None}))
    assert replay(database.settings, engine, KEYRING, ALL).counts.loaded == 2
    found = forget_value(search(database, EMAIL, "email"), "null", "4711")
    assert (found.rows, found.within) == (1, 1)
    left = database.rows("select email, tags, rest from user_logins order by user_id")
    assert left == [(None, ["a, b", "x"], None), (None, None, None)]
    long = f"{'a' * 99}@example.com"
    with pytest.raises(UsageError, match="so no row can contain it; it is in none of 0"):
        find_value(search(database, long, "email"))
    event = {"user_id": "2", "day": days[0], "tags": [long], "rest": None, "email": None}
    database.add(json.dumps(event))
    assert replay(database.settings, engine, KEYRING, ALL).counts.loaded == 1
    assert find_value(search(database, long, "email")).within == 1
