"""Which table of a job a command works on."""

from __future__ import annotations

from typing import Any

import pytest

from etl.config import Settings, one_table
from etl.errors import SettingsError, UsageError
from etl.operations.masked_places import masked_places, other_tables, tables_without_tokens


def table(name: str, events: list[str], *columns: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A table with an id and these columns."""
    number = {"name": "id", "field": "id", "type": "text"}
    return {"name": name, "events": events, "columns": [number, *columns], **more}


def masked(name: str, field: str, **more: Any) -> dict[str, Any]:
    """A column of tokens."""
    return {"name": name, "field": field, "type": "text", "mask": True, **more}


def job(*tables: dict[str, Any]) -> Settings:
    """A job with these tables."""
    return Settings.model_validate(
        {"job": {"name": "shop"}, "routes": {"by": "kind", "tables": list(tables)}}
    )


SHOP = job(
    table("orders", ["order"], masked("masked_email", "email"), masked("who", "customer")),
    table("clicks", ["click"], masked("email_token", "email"), masked("who", "visitor")),
    table("clicks", ["old click"], schema="archive"),
    table("visits", ["visit"], masked("shown", "visitor", keep_last=2) | {"mask": "partial"}),
)


def test_a_job_of_one_table_needs_no_name(settings: Any) -> None:
    """Its name does no harm, with the schema or without."""
    whole = settings()
    assert one_table(whole, None) is whole
    for name in ("user_logins", "public.user_logins"):
        assert one_table(whole, name) is whole
    single = job(table("orders", ["order"]))
    assert one_table(single, None).table.name == "orders"


def test_a_job_of_several_tables_needs_a_name() -> None:
    """The error lists them, and says where to give it."""
    with pytest.raises(UsageError) as error:
        one_table(SHOP, None)
    assert str(error.value) == (
        "job 'shop' has several tables; name one of them with --table: public.orders, "
        "public.clicks, archive.clicks, public.visits"
    )


@pytest.mark.parametrize("name", ["orders", "public.orders", "archive.clicks"])
def test_a_table_is_found_by_its_name(name: str) -> None:
    """With its schema, or without if no other schema has it."""
    assert one_table(SHOP, name).table.full_name.endswith(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("clicks", "several tables are named 'clicks'; name one of them: "),
        ("order", "'order' is not a table of job 'shop'; did you mean 'orders'?"),
        ("nothing", "'nothing' is not a table of job 'shop'; its tables: 'public.orders', "),
    ],
)
def test_a_name_that_is_not_of_one_table_is_refused(name: str, why: str) -> None:
    """The error names the one that was meant, or all."""
    with pytest.raises(SettingsError) as error:
        one_table(SHOP, name)
    assert why in str(error.value)


@pytest.mark.parametrize("name", ["email", "masked_email", "email_token"])
def test_a_field_is_found_in_every_table_that_masks_it(name: str) -> None:
    """Whichever name of it is given."""
    found = [(place.table, place.column.name) for place in masked_places(SHOP, name)]
    assert found == [("public.orders", "masked_email"), ("public.clicks", "email_token")]


def test_a_name_of_two_fields_is_refused() -> None:
    """Else the rows of somebody else would be forgotten too."""
    with pytest.raises(UsageError) as error:
        masked_places(SHOP, "who")
    assert str(error.value) == (
        "'who' is made from different fields ('customer' in public.orders, 'visitor' in "
        "public.clicks); name the field, or add --table"
    )
    (place,) = masked_places(SHOP.of_table("orders"), "who")
    assert place.column.source == "customer"


def test_the_tables_that_were_not_searched_are_named() -> None:
    """And those that hold a part of the field, by which no row is found."""
    assert other_tables(SHOP, "email", ["public.orders"]) == ["public.clicks"]
    assert other_tables(SHOP, "email", ["public.orders", "public.clicks"]) == []
    assert tables_without_tokens(SHOP, "visitor") == ["public.visits"]
