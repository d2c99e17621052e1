"""A condition is one expression, or refused."""

from __future__ import annotations

import pytest

from etl.errors import SettingsError
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
    "exists (select 1)": "query",
    "a in (TABLE b)": "query",
    "a in (values (1))": "query",
    "": "empty",
    " \n": "empty",
    "a\0": "NUL",
    "'" * 9999: "quote",
}


@pytest.mark.parametrize("condition", GOOD, ids=range(len(GOOD)))
def test_an_expression_is_taken(condition: str) -> None:
    """Whatever stands in its quotes."""
    check_condition(condition)


@pytest.mark.parametrize(("condition", "word"), BAD.items(), ids=range(len(BAD)))
def test_whatever_could_be_more_is_refused(condition: str, word: str) -> None:
    """With a word about why, and without the condition."""
    with pytest.raises(SettingsError, match=word) as caught:
        check_condition(condition)
    assert not condition.strip() or condition not in str(caught.value)
