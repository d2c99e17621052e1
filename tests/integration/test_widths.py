"""Every command's tables fit the terminal, and through a pipe they have every value in full."""

from __future__ import annotations

import re
import sys

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from etl import cli
from etl.crypto.keyring import Keyring
from etl.mask import tokens
from etl.workers import interpreter
from tests.conftest import Job
from tests.integration.pseudo_terminal import at_terminal
from tests.unit.builders import EVENT, event, some_long

REASON = ("--reason", "ticket 4711, as agreed with the officer in the meeting of last week")


@pytest.fixture
def filled(job: Job, keyring: Keyring) -> Job:
    """A job with rows that share values, rejects, tombstones, runs and an audit."""
    job.environment |= {"ETL_QUARANTINE__MAX_FRACTION": "1", "TERM": "dumb"}
    job.send(*[event(user_id=f"user {number % 3}") for number in range(8)], event(), event())
    job.send("{", event(ip="x"), event(locale="x" * 99, device_id=""), "[]")
    job.run()
    token = str(tokens([EVENT["ip"]], keyring, "ip")[0])
    for arguments in (
        ("quarantine", "discard", "1", *REASON),
        ("quarantine", "replay", "--all"),
        ("unmask", token, *REASON),
        ("unmask", "--where", f"masked_ip = '{token}'", *REASON),
    ):
        done = job.command(*arguments)
        assert done.returncode == 0, done.stderr
    job.send(event(user_id="last"))
    return job


CALLS = {
    "history": (),
    "history --all-jobs": (),
    "quarantine list": (),
    "quarantine list --entries": (),
    "quarantine list --closed": ("--entries",),
    "audit": (),
    "keys list": (),
    "rows": ("-", "--column", "ip"),
    "report duplicates": (),
    "run --dry-run": ("--max-messages", "1"),
}


def shown(job: Job, arguments: list[str], columns: int | None) -> str:
    """Run a command in this process, at a terminal of this width or through a pipe."""
    terminal = {"COLUMNS": str(columns)} if columns else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["etl", *arguments])
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(interpreter, "tune_interpreter", lambda: None)
        with CliRunner().isolation(EVENT["ip"].encode(), job.environment | terminal) as streams:
            if columns:
                patch.setattr(sys.stdout, "isatty", lambda: True)
            with pytest.raises(SystemExit) as ended:
                cli.start()
            printed = streams[0].getvalue().decode()
    assert not ended.value.code, printed
    return printed


def is_known(word: str, words: set[str]) -> bool:
    """Whether a word of a terminal's table is one of the full table's, or a short form of one."""
    return (
        word in words
        or not word.strip("─")
        or any(w.startswith(word.rstrip("…")) for w in words if len(word) >= 8)
        or bool(re.fullmatch(r"\d\d-\d\d|\d\d:\d\d", word))
        or any(part.startswith(word) or part.endswith(word) for part in words if "_" in part)
    )


@pytest.mark.parametrize("columns", some_long([80, 40, 100, 160]))
def test_every_table_fits_and_breaks_no_word(filled: Job, columns: int) -> None:
    """What is too wide is short, left out, or below its name."""
    for call, more in CALLS.items():
        arguments = [*call.split(), *more]
        full = shown(filled, arguments, None)
        narrow = shown(filled, arguments, columns)
        assert max(map(cell_len, narrow.splitlines())) <= columns, f"{call}\n{narrow}"
        # Times and counts of receives change from one call to the next.
        words = {word for word in full.split() if not word.isdigit()}
        strange = [w for w in narrow.split() if not is_known(w, words) and not w[0].isdigit()]
        assert strange == [], f"{call}\n{narrow}"


def test_through_a_pipe_every_row_is_one_line_with_whole_values(filled: Job) -> None:
    """Whatever COLUMNS says, which some schedulers set."""
    filled.environment["COLUMNS"] = "40"
    printed = shown(filled, ["rows", "-", "--column", "ip"], None)
    rows = [line for line in printed.splitlines() if "k1." in line]
    assert len(rows) == 10
    assert all(len(re.findall(r"k1\.[\w-]{43}(?![\w-])", row)) == 2 for row in rows)
    wide = shown(filled, ["rows", "-", "--column", "ip", "--wide"], 40)
    assert sorted(wide.split()) == sorted(printed.split())


@pytest.mark.long
@pytest.mark.parametrize("columns", [80, 120])
def test_a_real_terminal_is_asked_for_its_width(filled: Job, columns: int) -> None:
    """By a process that has one, and no variable that says it."""
    for call in ("history", "quarantine list --entries", "run --idle-seconds 1"):
        environment = filled.environment | {"TERM": "xterm"}
        code, printed = at_terminal(call.split(), environment, columns=columns)
        assert code == 0
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed)
        lines = [line for line in re.split(r"[\r\n]+", text) if " WARNING " not in line]
        assert max(map(cell_len, lines)) <= columns, text
