"""The end of a run in words: counts that add up, the speed apart from waiting, what to do next."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest

from etl.postgres.event_counts import EventCounts
from etl.runs import Counts, Summary
from etl.sqs.queue import QueueState
from etl.terminal.summary import next_step, print_summary, speed

RUN = "1a2b3c4d-263a-43a7-b91b-7ca1a833afae"
COUNTS = Counts(received=10_110, loaded=9_790, already_handled=110, quarantined=210)
ENDED = Summary(
    run_id=RUN,
    counts=COUNTS,
    reasons={"ip: IP address": 200, "locale: length": 10},
    stop_reason="idle",
    seconds=7.9,
    work_seconds=2.1,
    waiting_seconds=5.2,
    left=QueueState(30, visible=0, in_flight=0),
)


def printed(summary: Summary, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed of a summary."""
    print_summary(summary)
    return capsys.readouterr().out


def test_the_summary_of_a_run_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts in a column, then the speed, what is left, and the failed checks."""
    assert printed(ENDED, capsys).startswith(
        f"run {RUN} stopped: idle, after 7.9 s\n"
        "    received          10,110\n"
        "  = loaded             9,790\n"
        "  + already handled      110\n"
        "  + quarantined          210\n"
        "  + released               0\n"
        "  10,110 messages in 2.1 s of work: 4,814/s; 5.2 s waiting for messages\n"
        "  0.6 s for checks before and after\n"
        "  left in the queue: nothing\n"
    )


def test_the_failed_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """And what to do about them."""
    lines = printed(ENDED, capsys).splitlines()
    assert ["ip:", "IP", "address", "200"] in [line.split() for line in lines]
    assert lines[-1] == "next: look at the rejects: etl quarantine list"


def test_notes_are_listed_apart_from_the_failed_checks(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing has to be done about them."""
    noted = replace(ENDED, counts=Counts(), reasons={}, notes={"locale: in": 12})
    lines = printed(noted, capsys).splitlines()
    assert ["locale:", "in", "12"] in [line.split() for line in lines]
    assert not any("failed" in line or line.startswith("next") for line in lines)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"work_seconds": 0.0}, "10,110 messages in 0.0 s of work; 5.2 s waiting for messages"),
        ({"waiting_seconds": 0.0}, "10,110 messages in 2.1 s of work: 4,814/s"),
        ({"counts": Counts()}, "5.2 s waiting for messages"),
        ({"counts": Counts(), "waiting_seconds": 0.0}, "no messages"),
    ],
)
def test_the_rate_is_that_of_the_work(changes: dict[str, object], expected: str) -> None:
    """Waiting is named, and lowers no rate."""
    assert speed(replace(ENDED, **changes)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"counts": Counts()}, None),
        ({"counts": Counts(), "events": EventCounts(loaded=1, quarantined=1)}, "quarantine list"),
        (
            {"exit_code": 1, "problem": "x"},
            "start again, nothing is lost; see: etl history 1a2b3c4d",
        ),
        ({"exit_code": 3, "problem": "x"}, "quarantine list --samples; see: etl history 1a2b3c4d"),
        ({"exit_code": 1, "problem": "x", "run_id": ""}, "start again, nothing is lost"),
    ],
)
def test_the_next_step_is_one_line(changes: dict[str, object], expected: str | None) -> None:
    """Nothing is said after a run in which all went well."""
    step = next_step(replace(ENDED, **changes))  # type: ignore[arg-type]
    assert (step is None) if expected is None else str(step).endswith(expected)


def test_counts_that_do_not_add_up_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """By how many."""
    assert "not add up: 10 " in printed(
        replace(ENDED, counts=replace(COUNTS, received=10_120)), capsys
    )


@pytest.mark.parametrize("received", [5, 12_345_678_901])
def test_the_counts_are_a_column(received: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Of any size: every number ends at the same place."""
    counts = Counts(received=received, loaded=received)
    lines = printed(replace(ENDED, counts=counts), capsys).splitlines()[1:6]
    assert len({len(line) for line in lines}) == 1


def test_it_fits_a_terminal_of_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a long problem, which is broken between words."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    problem = "the database does not answer (SQLSTATE 57P03): look at its log; " * 5
    text = printed(replace(ENDED, problem=problem, exit_code=1, not_acknowledged=5_000), capsys)
    assert max(map(len, text.splitlines())) <= 80
    words = {*problem.split()}
    assert words <= {*text.split()}


def test_the_json_has_the_seconds_of_work() -> None:
    """With their unit in the name."""
    found = ENDED.as_dict()
    assert (found["seconds"], found["work_seconds"], found["waiting_seconds"]) == (7.9, 2.1, 5.2)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in found)
