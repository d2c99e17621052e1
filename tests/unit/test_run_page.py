"""One run on one page: its state, why it stopped, and what to do next."""

from __future__ import annotations

import ast
import datetime as dt
import re
from typing import Any

import click
import pytest
from rich.cells import cell_len

from etl import errors
from etl.analysis.history import FINISHED, KILLED, RUNNING, RunRecord
from etl.cli import main
from etl.logs import visible
from etl.terminal.next_steps import ENDINGS, next_steps, words
from etl.terminal.run_page import duration, page, state_text
from etl.workers.results import DIED
from tests.unit.builders import ROOT

BEGIN = dt.datetime(2026, 11, 28, 2, 0, tzinfo=dt.UTC)
RUN_ID = "3d7c2f5e-8f9a-4b6e-9a54-2d5a0c1b7e11"


def record(**changes: Any) -> RunRecord:
    """A run that has finished well, with changes."""
    values: dict[str, Any] = {
        "run_id": RUN_ID,
        "job": "public.user_logins",
        "command": "run",
        "state": FINISHED,
        "started_at": BEGIN,
        "finished_at": BEGIN + dt.timedelta(seconds=861),
        "seen_at": BEGIN,
        "seconds_since_seen": 5.0,
        "seconds": 861.0,
        "received": 10,
        "loaded": 10,
        "already_handled": 0,
        "quarantined": 0,
        "released": 0,
        "updated": 0,
        "skipped": 0,
        "batches": 1,
        "stop_reason": "idle",
        "exit_code": 0,
        "problem": None,
        "failed_checks": [],
        "unknown_fields": [],
        "notes": [],
        "version": "1.0",
        "config_hash": "0",
        "host": "worker-1",
        "quarantine": {},
    }
    return RunRecord(**{**values, **changes})


def commands(run: RunRecord) -> list[str]:
    """What the page says to run next."""
    return [step.command for step in next_steps(run) if step.command]


def unfinished(state: str, **changes: Any) -> RunRecord:
    """A run without an end."""
    return record(state=state, finished_at=None, stop_reason=None, exit_code=None, **changes)


def requested_reasons() -> set[str]:
    """The literal stop reasons that the program gives."""
    found: set[str] = set()
    for path in (ROOT / "etl").rglob("*.py"):
        found |= set(re.findall(r"\.request\(\s*\"([^\"]+)\"", path.read_text()))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                names = {getattr(t, "attr", getattr(t, "id", "")) for t in node.targets}
                if "stop_reason" in names:
                    found.add(str(node.value.value))
    return found


def error_classes(of: type[errors.EtlError]) -> set[type[errors.EtlError]]:
    """A class of errors and all below it."""
    return {of}.union(*(error_classes(each) for each in of.__subclasses__()))


def test_every_stop_reason_has_its_words() -> None:
    """Those of the errors, and those that the code asks for by name."""
    reasons = requested_reasons() | {each.stop_reason for each in error_classes(errors.EtlError)}
    reasons |= {DIED, "max_seconds", "SIGINT", "replayed"}
    reasons -= {"one batch"}  # of a dry run, which has no row in etl.runs
    assert {"quarantine budget", "max_messages", "parent process ended"} <= reasons
    assert reasons - ENDINGS.keys() == set()


@pytest.mark.parametrize("stop_reason", sorted(ENDINGS))
def test_a_run_that_failed_says_what_to_do(stop_reason: str) -> None:
    """Whatever stopped it, there is a command to copy."""
    assert commands(record(stop_reason=stop_reason, exit_code=1))


def test_a_stop_reason_of_a_later_version_is_shown_as_it_is() -> None:
    """The page does not fail."""
    run = record(stop_reason="moon", exit_code=1)
    assert words(run) == "moon"
    assert commands(run) == ["etl run"]


@pytest.mark.parametrize("stop_reason", ["idle", "replayed"])
def test_a_run_that_ended_well_needs_nothing(stop_reason: str) -> None:
    """Nothing is left to do."""
    assert next_steps(record(stop_reason=stop_reason)) == []


def every_step() -> list[str]:
    """Every command that any page shows."""
    checks = [{"column": "ip", "check": "missing", "messages": 1, "released": 0}]
    runs = [
        record(
            stop_reason=reason, exit_code=1, quarantined=1, quarantine=None, failed_checks=checks
        )
        for reason in ENDINGS
    ]
    runs += [unfinished(state) for state in (RUNNING, KILLED)]
    runs += [unfinished(KILLED, command="replay"), record(command="replay", quarantined=1)]
    return sorted({command for run in runs for command in commands(run)})


@pytest.mark.parametrize("line", every_step())
def test_every_command_that_a_page_shows_exists(line: str) -> None:
    """It is parsed as the shell would pass it."""
    program, *arguments = line.split()
    assert program == "etl"
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments.pop(0))
        assert found is not None
        command = found
    command.make_context("etl", arguments)


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (record(), "finished"),
        (unfinished(RUNNING), "running (seen 5 s ago)"),
        (
            unfinished(KILLED, seconds_since_seen=7260.0),
            "killed? (last seen 2026-11-28 02:00:00 UTC, 2 h 1 min ago)",
        ),
        (
            unfinished(KILLED, seen_at=None, seconds_since_seen=None),
            "killed? (no sign of life: of an earlier version)",
        ),
    ],
)
def test_the_state_says_when_the_run_was_last_seen(run: RunRecord, text: str) -> None:
    """A run that is running and one that was killed look different."""
    assert state_text(run) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min"), (2e5, "2 d 7 h")],
)
def test_a_duration_has_two_units(seconds: float, text: str) -> None:
    """The largest two."""
    assert duration(seconds) == text


def test_a_killed_run_says_that_its_messages_come_back() -> None:
    """And what it had quarantined before."""
    run = unfinished(KILLED, quarantined=2, quarantine={"open": 2})
    text = "\n".join(page(run))
    assert "its messages come back after the queue's visibility timeout" in text
    assert f"etl quarantine list --run {RUN_ID}" in text
    assert "finished" not in text


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"stop_reason": "replayed"}, []),
        ({"stop_reason": "replayed", "quarantined": 1}, ["etl quarantine list"]),
        ({"stop_reason": "database unavailable", "exit_code": 1}, ["etl quarantine list"]),
        ({"state": KILLED, "finished_at": None}, ["etl quarantine list"]),
    ],
)
def test_a_replay_has_steps_of_its_own(changes: dict[str, Any], shown: list[str]) -> None:
    """Its messages are in the quarantine, and no run would load them."""
    assert commands(record(command="replay", **changes)) == shown


def test_entries_that_were_replayed_are_nothing_to_do() -> None:
    """Only open ones are."""
    assert commands(record(quarantined=2, quarantine={"replayed": 2})) == []
    assert commands(record(quarantined=2, quarantine={"replayed": 1, "open": 1})) != []
    assert commands(record(quarantined=2, quarantine=None)) != []


FULL = record(
    stop_reason="quarantine budget",
    exit_code=3,
    received=1_234_567,
    loaded=1_000_000,
    already_handled=34_567,
    quarantined=100_000,
    released=100_000,
    batches=124,
    job="a_schema_with_a_long_name.a_table_with_a_name_that_is_also_long",
    problem="52 of 100 messages failed a check, more than quarantine.max_fraction (0.1) allows; "
    "this batch was released; most frequent: ip: missing (52); 20 of them are kept, see: etl "
    "quarantine list --samples --entries",
    failed_checks=[
        {"column": "ip", "check": "missing", "messages": 200_000, "released": 100_000},
        {"column": "message", "check": "JSON", "messages": 1, "released": 0},
    ],
    notes=[{"column": "locale", "note": "in", "messages": 12}],
    unknown_fields=[
        {"name": "ip_address", "messages": 200_000},
        {"name": None, "messages": 3},
    ],
    quarantine={"open": 99_999, "replayed": 1, "sample": 20},
)


PAGE = """
run 3d7c2f5e-8f9a-4b6e-9a54-2d5a0c1b7e11
  job       a_schema_with_a_long_name.a_table_with_a_name_that_is_also_long
  command   run, version 1.0, on worker-1
  started   2026-11-28 02:00:00 UTC
  state     finished
  finished  2026-11-28 02:14:21 UTC, after 14 min 21 s
  stopped   quarantine budget: too many messages failed a check; the last batch
            was released (exit code 3)
  problem   52 of 100 messages failed a check, more than quarantine.max_fraction
            (0.1) allows; this batch was released; most frequent: ip: missing
            (52); 20 of them are kept, see: etl quarantine list --samples
            --entries

    received           1,234,567   in 124 batches
  = loaded             1,000,000
  + already handled       34,567
  + quarantined          100,000
  + released             100,000

failed checks
    200,000  ip: missing (100,000 of them released)
          1  message: JSON

changed or warned of, and not rejected
         12  locale: in

fields that no column reads
    200,000  ip_address
          3  (rare names, and names that may be personal: not kept)

what it put into the quarantine
     99,999  open
          1  replayed
         20  sample

next
  * has a producer renamed a field? unknown fields are listed above; see
    docs/operations.md
  * see which checks failed:
      etl quarantine list --samples
  * or in full:
      etl quarantine list --samples --entries
  * correct config.yaml or the producer, then start again:
      etl run
  * see what failed a check:
      etl quarantine list --run 3d7c2f5e-8f9a-4b6e-9a54-2d5a0c1b7e11
  * once the cause is corrected, load it:
      etl quarantine replay --run 3d7c2f5e-8f9a-4b6e-9a54-2d5a0c1b7e11
"""


def test_a_page_shows_the_run_whole() -> None:
    """The facts, the balance, checks, unknown fields, the quarantine, and the next steps."""
    assert "\n".join(page(FULL)) == PAGE.strip()


@pytest.mark.parametrize("width", [80, 100])
def test_a_page_fits_the_terminal(width: int) -> None:
    """No line is longer."""
    assert max(map(len, page(FULL, width))) <= width


@pytest.mark.parametrize("text", ["漢字漢字 " * 30, "a\x1b[31mb " * 30])
def test_a_page_counts_wide_characters_and_escapes_as_the_terminal_does(text: str) -> None:
    lines = list(page(record(job=text, problem=text), 80))
    assert max(cell_len(visible(line)) for line in lines) <= 80


def test_counts_that_do_not_add_up_are_shown_so() -> None:
    """The sign of the balance says it."""
    assert any(line.startswith(" != loaded") for line in page(record(received=11)))
