"""Values are looked up under every key, and the keys that stored tokens need are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from etl.analysis.key_usage import key_usage, quarantine_usage
from etl.config import Column, Settings, Table
from etl.crypto.keyring import Keyring
from etl.crypto.seal import seal
from etl.errors import UsageError
from etl.mask import tokens, unmask
from etl.operations.lookup import find_rows, tokens_of
from etl.postgres.creation import create_tables
from tests.unit.builders import columns

OLD = Keyring.new("old")
RING = OLD.with_new("new")
IP, DEVICE = columns("ip", "device_id")


@pytest.fixture
def table(settings: Callable[..., Settings], engine: sa.Engine) -> Iterator[Table]:
    """The default table, empty, and the job's own tables."""
    default = settings().table
    create_tables(engine, default)
    return default


def put(engine: sa.Engine, *rows: tuple[str | None, str | None]) -> None:
    """Insert rows of masked_ip and masked_device_id."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("insert into user_logins (masked_ip, masked_device_id) values (:ip, :device)"),
            [{"ip": ip, "device": device} for ip, device in rows],
        )


def ip_token(value: str, keyring: Keyring) -> str:
    """The token of an address under the primary key."""
    return str(tokens([value], keyring, "ip")[0])


def test_tokens_of_gives_the_token_of_every_key_the_primary_first() -> None:
    """Each of the tokens unmasks to the value."""
    found = tokens_of("198.51.100.7", IP, RING)
    assert list(found) == ["new", "old"]
    assert found == {"new": ip_token("198.51.100.7", RING), "old": ip_token("198.51.100.7", OLD)}
    assert {unmask(token, RING, "ip") for token in found.values()} == {"198.51.100.7"}


def test_tokens_of_uses_the_canonical_form_as_the_loader_does() -> None:
    """Every spelling of an address has the same tokens; text is not changed."""
    expected = tokens_of("2001:db8::1", IP, RING)
    assert tokens_of("2001:DB8:0::0:1", IP, RING) == expected
    assert tokens_of("::ffff:1.2.3.4", IP, RING) == tokens_of("1.2.3.4", IP, RING)
    assert tokens_of("A", DEVICE, RING) != tokens_of("a", DEVICE, RING)


def test_tokens_of_keeps_the_spelling_in_a_column_that_is_not_canonical() -> None:
    """The setting ``canonical`` of the column applies here too."""
    column = IP.model_copy(update={"canonical": False})
    assert tokens_of("::FF", column, OLD) == {"old": ip_token("::FF", OLD)}


@pytest.mark.parametrize(
    ("value", "check", "column"),
    [
        ("canary", "IP address", IP),
        ("can\0ary", "NUL character", DEVICE),
        ("canary \ud800", "lone surrogate", DEVICE),
        ("canary" * 100, "length", DEVICE),
    ],
)
def test_tokens_of_refuses_what_the_loader_rejects(value: str, check: str, column: Column) -> None:
    """The error names the check and does not repeat the value."""
    with pytest.raises(UsageError, match=f"check '{check}'") as caught:
        tokens_of(value, column, RING)
    assert "canary" not in str(caught.value)


def test_rows_finds_a_value_under_every_key(engine: sa.Engine, table: Table) -> None:
    """It returns the rows of the old and the new key, and no row of another value."""
    put(
        engine,
        *[(ip_token(ip, ring), None) for ip in ("1.1.1.1", "2.2.2.2") for ring in (OLD, RING)],
    )
    by_key = tokens_of("1.1.1.1", IP, RING)
    found = find_rows(engine, table, IP, by_key, 10)
    assert sorted(found["masked_ip"]) == sorted(by_key.values())
    assert list(found) == [column.name for column in table.columns]
    assert len(find_rows(engine, table, IP, by_key, 1)) == 1


def test_key_usage_counts_the_rows_of_each_key(engine: sa.Engine, table: Table) -> None:
    """The count is by column; nulls are left out, and plain values are counted but not shown."""
    old, new = ip_token("1.1.1.1", OLD), ip_token("1.1.1.1", RING)
    one_way = new.replace(".", ":")
    put(engine, (old, None), (old, old), (new, "593-47-5928"), (None, "::1"), (one_way, None))
    used = key_usage(engine, table)
    assert used.astype(object).where(used.notna(), None).to_numpy().tolist() == [
        ["masked_device_id", "old", 1, 0],
        ["masked_device_id", None, 2, 0],
        ["masked_ip", "new", 2, 1],
        ["masked_ip", "old", 2, 0],
    ]


def test_key_usage_of_an_empty_table_has_its_columns(engine: sa.Engine, table: Table) -> None:
    """It has no rows, and neither has the usage of a table without masked columns."""
    plain = table.model_copy(update={"columns": columns("user_id")})
    for empty in (table, plain):
        used = key_usage(engine, empty)
        assert (list(used), len(used)) == (["column", "key_id", "rows", "one_way"], 0)


def test_quarantine_usage_counts_the_bodies_of_each_key(engine: sa.Engine, table: Table) -> None:
    """Bytes that are not a sealed body count without a key id."""
    bodies = [
        *seal(["a"] * 2, ["m"] * 2, OLD),
        *seal(["a"], ["m"], RING),
        b"",
        b"\x01\0x",
        b"\x01\xffx",
    ]
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into etl.quarantine "
                "(job, masked_fields, message_id, run_id, reasons, body) "
                "values ('a job', '{}', 'm', gen_random_uuid(), '[]', :body)"
            ),
            [{"body": body} for body in bodies],
        )
    used = quarantine_usage(engine)
    found = used.astype(object).where(used.notna(), None).to_numpy().tolist()
    assert found == [["a job", "new", 1], ["a job", "old", 2], ["a job", None, 3]]
