"""Sentences with a number and a noun are right for one thing, too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from etl.text import counted, in_words
from tests.unit.builders import ROOT

# A number that is written into a sentence, and a plural of what the program counts.
_NOUNS = (
    "rows messages events columns entries values ids fields deliveries bodies tokens workers "
    "tasks runs batches names receives times checks shapes cells nights days jobs tables files"
).replace(" ", "|")
_PLURAL = re.compile(rf" (?:(?!of |in |and )[a-z]+ )?({_NOUNS})\b")
_OF_A_LOG = re.compile(rf"(?<!of )%d (?:[a-z]+ )?({_NOUNS})\b")
# What is no number of things, or never one.
FINE = {
    "rows as logins", "variable names", "str(path) has no rows", "str(home) contains other files",
    "column.name holds tokens", "table.full_name holds tokens", "rate messages",
    "_insert_target(table.name, names) values", "whose messages", "in_flight messages", "days days",
}  # fmt: skip


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bodies"), (1, "1 body"), (2, "2 bodies"), (2000, "2,000 bodies")]
)
def test_a_noun_follows_its_number(number: int, text: str) -> None:
    """One thing, or any other number of things."""
    assert counted(number, "body", "bodies") == text
    assert counted(number, "row") == text.replace("bodies", "rows").replace("body", "row")


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The numbers of a module that a plural follows: the line, the number and its noun."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            before = ""
            for part, after in zip(node.values, [*node.values[1:], None], strict=True):
                if isinstance(part, ast.Constant):
                    before = str(part.value)
                elif isinstance(after, ast.Constant) and isinstance(part, ast.FormattedValue):
                    found = _PLURAL.match(str(after.value))
                    value = ast.unparse(part.value)
                    # "1 of 1 messages" names a whole; a constant is known when it is written.
                    if found and not before.endswith("of ") and not value.isupper():
                        yield node.lineno, value + found[0]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno, found[0]) for found in _OF_A_LOG.finditer(node.value))


def test_no_sentence_has_a_plural_after_a_number_that_may_be_one() -> None:
    """``counted`` writes both; what it has not written is here."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / "etl").rglob("*.py"))
        for line, text in sentences(ast.parse(path.read_text()))
        if text not in FINE
    ]
    assert wrong == []


def test_such_a_sentence_is_found() -> None:
    """In a text, and in a line of the log."""
    source = """f'deleted {n:,} rows'; f'{n} quarantined bodies'; log.info('%d ids', n)"""
    fine = """f'{n} of {n} rows'; f'{MAX} rows'; f'{counted(n, "row")}'; f'{n} is a row'"""
    assert [text for _, text in sentences(ast.parse(source))] == [
        "n rows", "n quarantined bodies", "%d ids",
    ]  # fmt: skip
    assert [*sentences(ast.parse(fine))] == []


def test_a_list_is_read_as_a_sentence() -> None:
    """With a comma before all but the last."""
    assert [in_words("abc"[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
