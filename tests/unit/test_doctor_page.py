"""The lines and the document of ``etl doctor``."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from etl.doctor.result import Result
from etl.terminal import doctor_page
from etl.terminal.wrapping import wrapped

OK = Result("database.tls", "ok", "TLSv1.3, sslmode=verify-full")
WARN = Result("database.version", "warn", "Postgres 9.6, which is not tested", "update the server")
FAIL = Result("queue.dead_letter_retention", "fail", "found " * 30, "grant select on it " * 20)
UNKNOWN = Result("database.clock", "unknown", "漢字\x1b[2J " * 20)


def test_a_good_check_is_one_line() -> None:
    """With its status, its name and what was found."""
    assert list(doctor_page.page(OK)) == [
        "ok       database.tls                TLSv1.3, sslmode=verify-full"
    ]


def test_the_advice_is_below_and_indented() -> None:
    """To be told apart from the next check."""
    assert list(doctor_page.page(WARN)) == [
        "warn     database.version            Postgres 9.6, which is not tested",
        "         update the server",
    ]


@pytest.mark.parametrize("result", [OK, WARN, FAIL, UNKNOWN], ids=lambda result: result.check)
@pytest.mark.parametrize("width", [40, 80, 100])
def test_every_line_fits(result: Result, width: int) -> None:
    """Also where a character takes two cells or is written as an escape."""
    lines = list(doctor_page.page(result, width))
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)


def test_nothing_is_broken_through_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """A command in the advice can be copied from a log, and `grep` finds a finding whole."""
    doctor_page.show(FAIL)
    found, advice = capsys.readouterr().out.splitlines()
    assert found.split() == ["fail", FAIL.check, *FAIL.found.split()]
    assert advice.split() == FAIL.advice.split()


def test_a_text_is_broken_at_its_blanks_only() -> None:
    """No word of it is lost."""
    lines = wrapped("one two three four", 10, "> ", "  ")
    assert lines == ["> one two", "  three", "  four"]


@pytest.mark.parametrize(
    ("results", "code"),
    [([], 0), ([OK], 0), ([OK, WARN, UNKNOWN], 0), ([OK, FAIL], 1)],
)
def test_only_a_failed_check_changes_the_exit_code(results: list[Result], code: int) -> None:
    """A warning and what is unknown do not."""
    assert doctor_page.exit_code(results) == code


def test_the_document_has_each_check_and_their_numbers() -> None:
    """And what was left out."""
    document = doctor_page.as_json([OK, WARN, FAIL, OK], ["AWS"])
    assert document["summary"] == {"ok": 2, "warn": 1, "fail": 1, "unknown": 0}
    assert document["checks"][1] == {
        "check": "database.version",
        "status": "warn",
        "found": "Postgres 9.6, which is not tested",
        "advice": "update the server",
    }
    assert (document["skipped"], document["exit_code"]) == (["AWS"], 1)


def test_the_summary_names_the_statuses_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """And what was left out, below."""
    doctor_page.show_summary([OK, WARN, OK], ["AWS", "the queue"])
    assert capsys.readouterr().out == "3 checks: 2 ok, 1 warn\nleft out: AWS, the queue\n"
