"""A condition is one expression, or it is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import UsageError
from etl.operations.condition import check_condition

GOOD = [
    "user_id = 'u1'",
    "true",
    "(a or b) and not (c)",
    "user_id = 'it''s; -- /* ( $ '",
    '"odd ; name" is null',
    "create_date >= date '2024-01-01' and locale in ('DE', 'FR')",
    "masked_ip like 'k1.%'",
    "a <> '' and b = ''''",
    "selected = 1",
    "'" + "''" * 5000 + "' = user_id",
    "a = 'he said \"; drop' and b = 1",
    "\"it's ; a name\" = ''",
    "a = '\"' and b = '\"' and \"c ) ' (\" is null",
    "a = '''; --' and b = ''';'",
    '"a"";""b" is null',
    "a = 'two\nlines;\n'",
]
BAD = {
    "true; delete from user_logins": "semicolon",
    "true) or (true": "parentheses",
    "(true": "parentheses",
    ")(": "parentheses",
    "true -- ": "comment",
    "true /* ": "comment",
    "user_id = 'a": "quote",
    "user_id = 'a''": "quote",
    '"a': "quote",
    "user_id = E'\\' or true; --'": "quote",
    "user_id = E'\\101'": "backslash",
    "user_id = $$a$$": "dollar",
    "exists (select 1)": "contains a subquery",
    "a in (TABLE b)": "contains a subquery",
    "a in (values (1))": "contains a subquery",
    "": "empty",
    " \n": "empty",
    "a\0": "NUL",
    "'" * 9999: "quote",
    "a = ''; drop table b": "semicolon",
    "a = ''''; drop table b": "semicolon",
    "a = 'x'''; drop table b; --''": "semicolon",
    "a = '\"'; drop table b; --''": "semicolon",
    "\"'\" = ''; drop table b; --''": "semicolon",
    "a = '\"' or true; --\"": "quote",
    "\"it's\" = 'a'';": "quote",
    "a = 'x'select'x'": "contains a subquery",
    "a = '''": "quote",
    '"a""': "quote",
}


@pytest.mark.parametrize("condition", GOOD, ids=range(len(GOOD)))
def test_an_expression_is_taken(condition: str) -> None:
    """A single expression passes, whatever is in its quotes."""
    check_condition(condition)


@pytest.mark.parametrize(("condition", "word"), BAD.items(), ids=range(len(BAD)))
def test_whatever_could_be_more_is_refused(condition: str, word: str) -> None:
    """The error has a word about the reason, and does not repeat the condition."""
    with pytest.raises(UsageError, match=word) as caught:
        check_condition(condition)
    assert not condition.strip() or condition not in str(caught.value)


QUOTES = 100_000


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        ("'" * QUOTES + " = a", None),
        ("'" * (QUOTES + 1) + " = a", "quote"),
        ('"' * QUOTES + " = a", None),
        ("\"'\"'\"'" * QUOTES + " = a", None),
        ("'" + '"' * QUOTES, "quote"),
        ("'a' = 'a' and " * QUOTES + "b", None),
        ("'a''" * QUOTES + "'", "quote"),
    ],
    ids=range(7),
)
def test_a_hundred_thousand_quotes_are_looked_through_at_once(
    condition: str, word: str | None
) -> None:
    """A pattern that backtracks over the quotes would not end within the tests' time limit."""
    if word is None:
        check_condition(condition)
    else:
        with pytest.raises(UsageError, match=word):
            check_condition(condition)


def outside_by_hand(condition: str) -> str | None:
    """The SQL outside its quotes, read character by character; None if a quote is open."""
    outside = []
    position = 0
    quote = ""
    while position < len(condition):
        character = condition[position]
        if not quote and character in "'\"":
            quote = character
            outside.append(" ")
        elif not quote:
            outside.append(character)
        elif condition[position : position + 2] == quote * 2:
            position += 1
        elif character == quote:
            quote = ""
        position += 1
    return None if quote else "".join(outside)


@settings(deadline=None, database=None, derandomize=True, max_examples=500)
@given(st.text("'\";a ", max_size=14))
def test_quotes_are_read_as_sql_reads_them(condition: str) -> None:
    """A reader that goes character by character comes to the same verdict."""
    outside = outside_by_hand(condition)
    if not condition.strip():
        word = "empty"
    elif outside is None:
        word = "an unclosed quote"
    elif ";" in outside:
        word = "a semicolon"
    else:
        check_condition(condition)
        return
    with pytest.raises(UsageError, match=re.escape(word)):
        check_condition(condition)
