"""Several tables from one queue: what the configuration says, and what it refuses."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from etl import config
from etl.checks.configured import check_table
from etl.config import Settings
from etl.errors import SettingsError
from etl.postgres.columns import column_problems
from etl.schema import target_table

ORDERS = """\
    - events: [order_placed, order_paid]
      schema: shop
      name: orders
      columns:
        - {name: order_id, field: order_id, type: text, max_length: 36}
        - {name: masked_email, field: email, type: text, mask: true}
"""
CLICKS = """\
    - events: [page_viewed]
      name: clicks
      columns:
        - {name: page, field: page, type: text, max_length: 200}
"""
HEAD = "job: {name: shop}\nroutes:\n  by: event_type\n  tables:\n"


def load(tmp_path: Path, text: str = HEAD + ORDERS + CLICKS, **environment: str) -> Settings:
    """Load a configuration with routes."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return config.load(path, environment)


def problem(tmp_path: Path, text: str, **environment: str) -> str:
    """Load a configuration that is refused, and return why."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    return str(caught.value).replace(f"{tmp_path}/", "")


def clicks(column: str, **changes: Any) -> str:
    """Both tables, with one more column of the second one."""
    return HEAD + ORDERS + CLICKS + f"        - {column}\n"


def test_each_table_has_settings_of_its_own_with_all_else_of_the_job(tmp_path: Path) -> None:
    """What works on one table gets one, under the name of the job."""
    settings = load(tmp_path)
    each = settings.of_each_table()
    assert [one.table.full_name for one in each] == ["shop.orders", "public.clicks"]
    assert [one.job_name for one in each] == ["shop", "shop"]
    assert [one.tables for one in each] == [(one.table,) for one in each]
    assert {one.config_hash for one in each} == {settings.config_hash}
    assert [one.target for one in (settings, *each)] == ["shop"] * 3


def test_a_job_with_routes_has_no_one_table(tmp_path: Path) -> None:
    """Code that knows one table only must not take the first silently."""
    settings = load(tmp_path)
    with pytest.raises(RuntimeError, match="of_each_table"):
        _ = settings.table
    assert [table.name for table in settings.tables] == ["orders", "clicks"]


def test_settings_with_routes_go_to_another_process(tmp_path: Path) -> None:
    """Workers get them pickled."""
    settings = load(tmp_path)
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_a_job_with_one_table_is_its_own_settings_of_each_table() -> None:
    """There is nothing to choose, and the default configuration has no routes."""
    settings = config.load(Path(__file__).parents[2] / "config.yaml", {})
    assert settings.of_each_table() == (settings,)
    assert settings.of_table("user_logins") is settings
    assert settings.tables == (settings.table,)
    assert settings.target == settings.job_name == "public.user_logins"


@pytest.mark.parametrize("name", ["shop.orders", "orders"])
def test_a_table_is_found_by_its_full_name_or_its_bare_one(tmp_path: Path, name: str) -> None:
    """Commands take either."""
    assert load(tmp_path).of_table(name).table.full_name == "shop.orders"


def test_a_table_that_is_not_there_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """The message names the tables, or the one that was meant."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path).of_table("x")
    assert str(caught.value) == (
        "'x' is not a table of job 'shop'; its tables: 'shop.orders', 'public.clicks'"
    )
    with pytest.raises(SettingsError, match=r"did you mean 'public\.clicks'"):
        load(tmp_path).of_table("public.click")


def test_a_bare_name_of_two_tables_is_refused(tmp_path: Path) -> None:
    """Which one is meant must be said."""
    settings = load(tmp_path, HEAD + ORDERS + CLICKS.replace("clicks", "orders"))
    with pytest.raises(SettingsError, match=r"name one of them: 'shop\.orders', 'public\.orders'"):
        settings.of_table("orders")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEAD + ORDERS + CLICKS + "table: {columns: [{name: a, field: a, type: date}]}\n",
            (
                "section 'table': cannot be given with 'routes'; a job has one table, or routes "
                "to several (config.yaml line 15)"
            ),
        ),
        ("queue: {url: q}\n", "section 'table' is missing, and so is 'routes'"),
        (
            HEAD.replace("job: {name: shop}", "") + ORDERS,
            (
                "'job.name' is missing; a job with 'routes' has several tables, so it needs a name "
                "of its own"
            ),
        ),
        (
            HEAD + ORDERS + CLICKS.replace("page_viewed", "order_paid"),
            (
                "setting 'routes.tables': event 'order_paid' is listed twice, for 'shop.orders' "
                "and 'public.clicks'"
            ),
        ),
        (
            HEAD + CLICKS + CLICKS.replace("page_viewed", "page_left"),
            "table 'public.clicks' is listed twice; list all of its 'events' in one place",
        ),
        (
            HEAD.rstrip() + " []\n",
            "setting 'routes.tables': needs at least one table (config.yaml line 4)",
        ),
        (
            HEAD + CLICKS.replace("[page_viewed]", "[]"),
            "routes.tables[0] ('clicks'): 'events': needs at least one value (config.yaml line 5)",
        ),
        (
            HEAD + ORDERS + CLICKS.replace("      name: clicks\n", ""),
            "routes.tables[1]: 'name' is missing (config.yaml line 11)",
        ),
        (
            HEAD + ORDERS + CLICKS.replace("name: clicks", "name: clicks\n      keys: [page]"),
            (
                "routes.tables[1] ('clicks'): unknown key 'keys'; did you mean 'key'? "
                "(config.yaml line 13)"
            ),
        ),
        (
            HEAD + ORDERS + CLICKS.replace("name: clicks", "name: clicks\n      key: [page]"),
            (
                "routes.tables[1] ('clicks'): 'key' is for 'on_conflict: skip' or 'update'; set "
                "that too (config.yaml line 11)"
            ),
        ),
        (
            clicks("{name: x, field: x, type: texxt}"),
            (
                "routes.tables[1] ('clicks'): column 'x': unknown type 'texxt'; did you mean "
                "'text'? (config.yaml line 15)"
            ),
        ),
        (
            clicks("{name: x, field: x, type: text, max_length: 0}"),
            (
                "routes.tables[1] ('clicks'): column 'x': 'max_length' must be a whole number "
                "from 1 to 10,485,760, not 0 (config.yaml line 15)"
            ),
        ),
        (
            HEAD.replace("event_type", "a..b") + CLICKS,
            "setting 'routes.by': is not a path: write",
        ),
        (HEAD.replace("event_type", "$") + CLICKS, "must name a field, not the whole event"),
        (
            HEAD + ORDERS + CLICKS.replace("name: clicks", "name: clicks\n      indexes: [[x]]"),
            "routes.tables ('public.clicks').indexes: 'x' is not a column of the table",
        ),
        (HEAD + ORDERS + "report: {entity: page}\n", "report.entity is 'page', which is not"),
        (
            HEAD + ORDERS + CLICKS + "report: {entity: pages}\n",
            "report.entity is 'pages', which is not a column of any table",
        ),
        (
            HEAD + ORDERS + CLICKS.replace("[page_viewed]", "[page_viewed, null]"),
            (
                "routes.tables[1] ('clicks'): 'events[1]' must be text of at most 256 characters; "
                "put a word in quotes that is meant as text (config.yaml line 11)"
            ),
        ),
        (
            HEAD + ORDERS + CLICKS.replace("[page_viewed]", "[page_viewed, page_viewed]"),
            "event 'page_viewed' is listed twice, for 'public.clicks' (config.yaml line 4)",
        ),
        (
            HEAD + ORDERS + "    - {events: [a], name: clicks, columns: []}\n",
            "routes.tables[1] ('clicks'): 'columns': a table needs at least one column",
        ),
        (
            HEAD + ORDERS + CLICKS + "      partition_by: {range: page, every: mont}\n",
            "('clicks'): unknown partition_by.every 'mont'; did you mean 'month'?",
        ),
        (
            HEAD + ORDERS + CLICKS + "      partition_by: page\n",
            "('clicks'): 'partition_by' must hold keys such as range, every",
        ),
        (
            HEAD + ORDERS + CLICKS + "      checks: [{name: a, expresion: page = page}]\n",
            "('clicks'): unknown key 'checks[0].expresion'; did you mean 'expression'?",
        ),
        (
            HEAD + ORDERS + CLICKS + "      checks: [{name: a}]\n",
            "routes.tables[1] ('clicks'): 'checks[0].expression' is missing",
        ),
    ],
)
def test_a_mistake_in_routes_is_named_with_its_place(
    tmp_path: Path, text: str, expected: str
) -> None:
    """Each sentence says which table and which line it is about."""
    assert expected in problem(tmp_path, text)


def test_a_variable_for_the_one_table_is_refused_with_its_name(tmp_path: Path) -> None:
    """It may come from the deployment of another job, so it is named and not ignored."""
    assert problem(tmp_path, HEAD + ORDERS, ETL_TABLE__NAME="logins") == (
        "section 'table': cannot be given with 'routes'; a job has one table, or routes to several "
        "(ETL_TABLE__NAME)"
    )


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            "checks: [{name: a, expression: pages == page}]",
            "routes.tables.checks: check 'a': its expression at character 1: 'pages'",
        ),
        (
            "batch_checks: [{name: a, null_share: {column: pages, max: 0.5}}]",
            "routes.tables.batch_checks: check 'a': 'pages' is not a column of the table",
        ),
        ("python_checks: 'absent:schema'", "python_checks: cannot import 'absent'"),
    ],
)
def test_a_check_that_cannot_be_made_is_named_with_its_table(
    tmp_path: Path, wrong: str, expected: str
) -> None:
    """The names of checks are those of one table, and two tables may have the same."""
    settings = load(tmp_path, HEAD + ORDERS + CLICKS + f"      {wrong}\n")
    with pytest.raises(SettingsError) as caught:
        check_table(settings.tables[1])
    assert str(caught.value).startswith(f"'public.clicks': {expected}")


def test_a_text_about_a_setting_says_where_the_settings_of_the_table_are(tmp_path: Path) -> None:
    """A job with routes has no section 'table' to correct."""
    orders = load(tmp_path).tables[0]
    (absent, *_) = column_problems({}, target_table(orders), orders)
    assert absent.endswith("or remove it from 'routes.tables.columns'")
    one = config.load(Path(__file__).parents[2] / "config.yaml", {}).table
    (absent, *_) = column_problems({}, target_table(one), one)
    assert absent.endswith("or remove it from 'table.columns'")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (
            "{name: mail, field: email, type: text}",
            (
                "'email' is masked in column 'masked_email' of 'shop.orders', and column 'mail' "
                "would store it as it came (config.yaml line 10, config.yaml line 15)"
            ),
        ),
        (
            "{name: part, field: email.domain, type: text}",
            "column 'part' would store a part of it as it came",
        ),
        (
            "{name: mail, field: [mail, email], type: text, mask: true}",
            "'email' is read by two columns under different lists of names",
        ),
    ],
)
def test_what_one_table_masks_no_other_stores(tmp_path: Path, column: str, expected: str) -> None:
    """A masked value must not be in plain text in the next table."""
    assert expected in problem(tmp_path, clicks(column))


def test_a_masked_attribute_is_not_stored_by_another_table(tmp_path: Path) -> None:
    """Attributes are kept like fields."""
    masked = "        - {name: masked_sender, attribute: SenderId, type: text, mask: true}\n"
    plain = "{name: sender, attribute: SenderId, type: text}"
    text = HEAD + ORDERS + masked + CLICKS + f"        - {plain}\n"
    assert (
        "attribute 'SenderId' is masked in column 'masked_sender' of 'shop.orders', and column "
        "'sender' would store it as it came"
    ) in problem(tmp_path, text)


@pytest.mark.parametrize(
    ("one", "other", "is_refused"),
    [
        (
            "type: text, mask: partial, keep_last: 4",
            "type: text, mask: partial, keep_last: 2",
            True,
        ),
        (
            "type: text, mask: partial, keep_last: 4",
            "type: text, mask: partial, keep_last: 4",
            False,
        ),
        ("type: text, mask: partial, keep_last: 4", "type: text, mask: true", False),
        ("type: ip, network: 24", "type: text, mask: partial, keep_last: 2", True),
        ("type: ip, network: 24", "type: ip, network: 16", False),
    ],
)
def test_two_tables_show_no_different_parts_of_one_field(
    tmp_path: Path, one: str, other: str, is_refused: bool
) -> None:
    """Together they would show more than each table alone; in either order."""
    for first, second in ((one, other), (other, one)):
        column = f"        - {{name: part, field: phone, {first}}}\n"
        text = HEAD + ORDERS + column + CLICKS + column.replace(first, second)
        if not is_refused:
            load(tmp_path, text)
            continue
        assert (
            "columns 'part' of 'shop.orders' and 'part' of 'public.clicks' show different parts of "
            "'phone', and so more than each of them alone"
        ) in problem(tmp_path, text)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (
            "{name: mail, field: email, type: text, mask: true, clean: [lower]}",
            (
                "masked columns 'masked_email' of 'shop.orders' and 'mail' of 'public.clicks' "
                "share the context 'email' and differ in 'clean', so equal values would not have "
                "equal tokens; give both the same, or give one of them a context of its own, such "
                "as 'context: mail'"
            ),
        ),
        (
            "{name: email, field: email, type: text, mask: true, null_values: [none]}",
            "differ in 'null_values', so equal",
        ),
        (
            "{name: email, field: email, type: text, mask: true, clean: [lower]}",
            "such as 'context: email_2'",
        ),
        ("{name: mail, field: email, type: text, mask: true}", ""),
        ("{name: mail, field: email, type: text, mask: hmac, clean: [lower]}", ""),
        ("{name: mail, field: email, type: text, mask: true, clean: [lower], context: m}", ""),
    ],
)
def test_columns_of_two_tables_that_share_a_context_give_equal_tokens(
    tmp_path: Path, column: str, expected: str
) -> None:
    """What is done to a text before it is masked must be the same in both tables."""
    if expected:
        assert expected in problem(tmp_path, clicks(column))
    else:
        load(tmp_path, clicks(column))


def test_what_is_dropped_is_dropped_for_every_table(tmp_path: Path) -> None:
    """The second table is checked like the first."""
    assert "'page' is listed in 'event.drop', and column 'page' would store it" in problem(
        tmp_path, HEAD + ORDERS + CLICKS + "event: {drop: [page]}\n"
    )


def test_a_json_column_is_stored_without_what_another_table_masks(tmp_path: Path) -> None:
    """What is around a masked field may be read, the field itself is taken out."""
    settings = load(tmp_path, clicks("{name: event, field: $, type: json}"))
    assert settings.of_table("clicks").hidden_within == {"$": (("email",),)}
    assert settings.of_table("orders").hidden_within == {}


def test_entries_of_the_quarantine_name_what_any_table_masks(tmp_path: Path) -> None:
    """An entry of an event that no route took may hold the fields of each table."""
    settings = load(tmp_path)
    masked = [one.masked_fields for one in (settings, *settings.of_each_table())]
    assert masked == [frozenset({"email"})] * 3


def test_the_ledger_key_gets_the_first_name_of_its_field_in_any_table(tmp_path: Path) -> None:
    """As with one table, so that each name reads the same value."""
    two_names = ORDERS.replace("field: order_id", "field: [order_id, orderId]")
    text = HEAD + CLICKS + two_names + "ledger: {key: field:orderId}\n"
    assert load(tmp_path, text).ledger.key == "field:order_id"


def test_report_settings_are_for_the_tables_that_have_the_column(tmp_path: Path) -> None:
    """The others have their defaults."""
    settings = load(tmp_path, HEAD + ORDERS + CLICKS + "report: {entity: page}\n")
    assert [one.report.entity for one in settings.of_each_table()] == [None, "page"]


def test_routes_come_from_a_variable(tmp_path: Path) -> None:
    """A container has no file, and values that look like numbers stay text."""
    tables = "[{events: [1, true], name: clicks, columns: [{name: a, field: a, type: integer}]}]"
    settings = load(
        tmp_path, "job: {name: shop}\n", ETL_ROUTES__BY="detail.kind", ETL_ROUTES__TABLES=tables
    )
    assert settings.routes is not None
    assert settings.routes.by == "detail.kind"
    assert settings.routes.tables[0].events == ("1", "true")
