"""Nothing that came in a message or from the database acts on a terminal."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from etl import cli, logs
from etl.cli import main
from etl.crypto.keyring import Keyring
from etl.logs import to_json, visible
from etl.mask import tokens
from etl.report.jinja import fill_template
from etl.terminal import output
from etl.workers import interpreter
from tests import fork_server
from tests.conftest import ROOT, Job
from tests.integration.pseudo_terminal import at_terminal
from tests.integration.test_cli import commands

# Clears the screen, sets the title, types a command; moves and reverses text; hides in text.
HOSTILE = (
    "a\x1b[2J\x1b]0;t\x07\x9b31m\x7f\r\x08\n\tb\u202ec\u2066d\u200f\u061c\u200b\ufeff\u2028\u2029"
    "\xad\U000e0041\ue000\u3164\ufe0f[bold red]:x:[/]z"
)
WHY = ("--reason", f"ticket {HOSTILE}")
# ESC c resets a terminal. Without a bracket, which a path of an event has another meaning for.
NAME = "t\u202e\x1bcx"


def acting(text: str) -> set[str]:
    """The characters of an output that a terminal obeys, or that nobody sees."""
    lines = text.replace("\r\n", "\n").replace("\n", "")
    return {
        character
        for character in lines
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        or character in "\u3164\ufe0f"
    }


COLUMNS = [
    {"name": f"u{NAME}", "field": f"u{NAME}", "type": "text"},
    {"name": f"ip{NAME}", "field": "ip", "type": "ip", "mask": True},
    {"name": f"d{NAME}", "field": f"d{NAME}", "type": "text", "mask": True},
    {"name": f"l{NAME}", "field": "l", "type": "text", "max_length": 100},
    {"name": f"c{NAME}", "attribute": "SentTimestamp", "type": "timestamp"},
]
IP = "198.51.100.7"


def hostile_event(**changes: Any) -> str:
    """An event with hostile text in every field, and in a name."""
    fields = {f"u{NAME}": HOSTILE, "ip": IP, f"d{NAME}": HOSTILE, "l": HOSTILE, HOSTILE: HOSTILE}
    return json.dumps({**fields, **changes})


@pytest.fixture
def hostile(job: Job, tmp_path: Path) -> Job:
    """A job whose table, columns, rows, rejects, audit and keys are as hostile as they can be."""
    job.environment |= {
        "ETL_TABLE__NAME": json.dumps(NAME),
        "ETL_TABLE__COLUMNS": json.dumps(COLUMNS),
        "ETL_TABLE__INDEXES": "[]",
        "ETL_QUARANTINE__MAX_FRACTION": "1",
        "TERM": "dumb",
        "HOME": str(tmp_path),
    }
    assert job.command("init").returncode == 0
    with job.engine.begin() as connection:
        refuse = f'"no{NAME}" check ("l{NAME}" <> \'refused\')'
        connection.exec_driver_sql(f'alter table public."{NAME}" add constraint {refuse}')
    job.send(*[hostile_event()] * 3, hostile_event(l="refused"), "{" + json.dumps(HOSTILE))
    job.send(hostile_event(**{f"u{NAME}": None}), hostile_event(**{f"u{NAME}": "other"}))
    job.run()
    job.send(*[hostile_event()] * 3)
    with job.engine.begin() as connection:
        connection.execute(sa.text(HOSTILE_RUN), {"hostile": HOSTILE, "job": f"public.{NAME}"})
    return job


HOSTILE_RUN = """
insert into etl.runs (run_id, job, command, version, config_hash, host, stop_reason, problem,
                      finished_at, failed_checks, unknown_fields)
values ('00000000-0000-4000-8000-000000000000', :job, :hostile, :hostile, '', :hostile, :hostile,
        :hostile, now(), json_build_array(json_build_object(
            'column', cast(:hostile as text), 'check', cast(:hostile as text), 'messages', 1,
            'released', 0
        )), json_build_array(json_build_object('name', cast(:hostile as text), 'messages', 1)))
"""


def calls(job: Job, keyring: Keyring, folder: Path) -> dict[str, tuple[str, ...]]:
    """One call of every command that prints what came in a message or from the database."""
    device = str(tokens([HOSTILE], keyring, f"d{NAME}")[0])
    value = ("-", "--quoted", "--column", f"d{NAME}")
    return {
        "run --dry-run": ("--max-messages", "1"),
        "peek": (),
        "peek --json": (),
        "draft --all-names": ("--output", str(folder / f"draft{NAME}")),
        "run": ("--idle-seconds", "1"),
        "history": (),
        "history 00000000-0000": (),
        "history --json": ("00000000-0000",),
        "report duplicates": (),
        "rows": value,
        "rows --json": value,
        "token": value,
        "unmask": (device, *WHY),
        "unmask --json": (device, *WHY),
        "unmask --where": ("true", *WHY),
        "unmask --json --where": ("true", *WHY),
        "unmask --column": (HOSTILE, device, *WHY),
        "audit": (),
        "audit --json": (),
        "keys list": (),
        "keys list --json": (),
        "quarantine list": (),
        "quarantine list --entries": (),
        "quarantine list --json": (),
        "quarantine show": ("2", *WHY),
        "quarantine show --json": ("2", *WHY),
        "quarantine show 9": WHY,
        "quarantine export": (str(folder / f"x{NAME}"),),
        "quarantine import": (str(folder / f"x{NAME}"),),
        "quarantine replay": ("--all",),
        "quarantine discard": ("1", *WHY),
        "quarantine list --closed": ("--entries",),
        "forget": value,
        "forget --yes": (*value, *WHY),
        "rekey": (),
        "rollback": ("00000000-0000", *WHY),
        "init": (),
        "send": (str(folder / f"none{NAME}"),),
        "config show": (),
        "check-config": ("--sample", "-"),
        "check-config --json": ("--sample", "-"),
        "doctor": (),
        "keys new": (),
        "keys rotate": (),
        "report notebook": (str(folder / f"none{NAME}.ipynb"),),
    }


# Prints nothing but what it made up itself.
APART = {"demo"}


@dataclass
class Printed:
    """What a command printed, and its exit code."""

    code: int
    text: str


def on_a_terminal(job: Job, arguments: list[str], piped: bytes) -> Printed:
    """Run a command whose output and errors go to a terminal."""
    return Printed(*at_terminal(arguments, job.environment, piped=piped))


def through_a_pipe(job: Job, arguments: list[str], piped: bytes) -> Printed:
    """Run a command in this process, with its output and errors in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["etl", *arguments])
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(threading, "excepthook", threading.excepthook)
        patch.setattr(interpreter, "tune_interpreter", lambda: None)
        with CliRunner().isolation(input=piped, env=job.environment) as streams:
            with pytest.raises(SystemExit) as ended:
                cli.start()
            printed = b"".join(stream.getvalue() for stream in streams[:2])
    return Printed(ended.value.code or 0, printed.decode())  # type: ignore[arg-type]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "run", [pytest.param(on_a_terminal, marks=pytest.mark.long), through_a_pipe]
)
def test_no_command_prints_what_a_terminal_obeys(
    hostile: Job, keyring: Keyring, tmp_path: Path, run: Callable[..., Printed]
) -> None:
    """Whatever is in the messages, in the names of the table and its columns, and in arguments."""
    failing = {"unmask --column": 2, "quarantine show 9": 2, "send": 2, "report notebook": 2}
    failing |= {"check-config": 1, "check-config --json": 1, "rollback": 2}
    shown = 0
    for call, arguments in calls(hostile, keyring, tmp_path).items():
        printed = run(hostile, [*call.split(), *arguments], json.dumps(HOSTILE).encode())
        assert printed.code == failing.get(call, 0), f"{call}: {printed.text}"
        assert acting(printed.text) == set(), call
        shown += "\\u202e" in printed.text
    assert shown > 15


def test_every_command_is_tried() -> None:
    """A new command is added to the calls, or to those that print nothing from outside."""
    leaves = {
        " ".join(path) for path in commands(main) if not isinstance(_command(path), click.Group)
    }
    tried = set(calls(None, Keyring.new(), Path()))  # type: ignore[arg-type]
    untried = {
        name for name in leaves if not any(f"{call} ".startswith(f"{name} ") for call in tried)
    }
    assert untried == APART


def _command(path: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


# The only places that write to standard output or standard error.
WRITERS = {"logs.py", "terminal/lines.py", "terminal/output.py", "terminal/progress.py"}
WRITERS |= {"workers/process.py"}  # the places of an error, without its message
WRITERS |= {"__main__.py"}  # a library is missing; nothing else can be imported


def test_all_output_goes_through_one_place() -> None:
    """Nothing else prints, so nothing else can forget to escape."""
    found = set()
    for path in (ROOT / "etl").rglob("*.py"):
        name = str(path.relative_to(ROOT / "etl"))
        if name.startswith("embedded/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                text = ast.unparse(node.func)
                if re.fullmatch(r"print|click\.\w*echo\w*|sys\.std\w+\.\w*write\w*", text):
                    found.add(name)
    assert found <= WRITERS
    assert "terminal/lines.py" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ö 漢 🚀", "plain ö 漢 🚀"),
        ("\x1b[31m\x07\x00\x7f", "\\x1b[31m\\x07\\x00\\x7f"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x85\x9b\xa0\xad", "\\x85\\x9b\\xa0\\xad"),
        ("\u202e\u2066\u2069\u200e\u061c", "\\u202e\\u2066\\u2069\\u200e\\u061c"),
        ("\u200b\u200d\u2060\ufeff\u00ad", "\\u200b\\u200d\\u2060\\ufeff\\xad"),
        ("\u2028\u2029\ud800\udfff\ue000", "\\u2028\\u2029\\ud800\\udfff\\ue000"),
        ("\U000e0001\U000e0100\ufe0f\u3164\u034f", "\\U000e0001\\U000e0100\\ufe0f\\u3164\\u034f"),
    ],
)
def test_what_cannot_be_seen_is_an_escape(text: str, expected: str) -> None:
    """Everything else is as it is."""
    assert visible(text) == expected


@pytest.mark.long
def test_no_character_is_forgotten() -> None:
    """None of Unicode's characters that act or hide is left."""
    every = "".join(map(chr, range(0x110000)))
    assert acting(visible(every)) == set()
    assert acting(to_json({every: every})) == set()
    # In this order no two surrogates make a pair.
    assert json.loads(to_json(every[::-1])) == every[::-1]


def test_rich_obeys_nothing_in_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither markup nor emoji names nor a backslash at the end."""
    value = "[bold]x[/] :x: [link=a]\\"
    output.frame(pd.DataFrame({value: [value, HOSTILE]}), value)
    output.console().print(f"x{HOSTILE[:20]}")
    printed = capsys.readouterr().out
    assert printed.count("[bold]x[/] :x: [link=a]\\") == 3
    assert acting(printed) == set()


def test_a_narrow_terminal_gets_lines_in_place_of_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 17 columns in 80 characters, each would be two characters wide; no token is broken."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    token = str(tokens(["x"], Keyring.new("k1"), "ip")[0])
    wide = pd.DataFrame({f"column_{n}{NAME}": [token, HOSTILE, None] for n in range(17)})
    output.frame(wide, f"rows{NAME}")
    printed = capsys.readouterr().out
    assert printed.count(token) == 17
    assert acting(printed) == set()
    assert max(map(len, printed.splitlines())) <= 80
    output.frame(wide.iloc[:, :3], "few")
    output.frame(wide[:0], "none")
    printed = capsys.readouterr().out
    assert printed.count(token) == 3
    assert "(none)" in printed


def test_a_log_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """As text and as JSON."""
    for form in ("text", "json"):
        logs.start("info", form)
        logs.logging.getLogger("etl.test").warning("name %s", HOSTILE)
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert acting(printed) == set()
    assert json.loads(printed)["message"] == f"name {HOSTILE}"


def test_a_page_shows_direction_marks_as_escapes() -> None:
    """A value cannot reorder the page around it."""
    page = fill_template(
        "notebook.html", title=HOSTILE, body=HOSTILE, finished_at="2026-01-01 00:00:00"
    )
    assert acting(page) <= {"\t"}
    assert "\\u202e" in page


@pytest.mark.parametrize("command", ["token", "rows", "forget", "unmask"])
@pytest.mark.parametrize("arguments", [["can", "canary", "b"], ["-5canary"], ["--593canary"]])
def test_wrong_usage_repeats_no_value(command: str, arguments: list[str]) -> None:
    """What is too much on the command line may be a part of the value."""
    if command == "unmask" and len(arguments) > 1:
        return  # takes any number of tokens
    done = fork_server.run([command, *arguments, "--column", "ip"], {"PATH": os.environ["PATH"]})
    assert done.returncode == 2
    assert "canary" not in done.stderr
    assert "on standard input" in done.stderr


def test_a_terminal_that_does_not_speak_utf_8_gets_escapes(hostile: Job, keyring: Keyring) -> None:
    """And no error, from lines or from tables."""
    device = str(tokens(["漢"], keyring, f"d{NAME}")[0])
    done = hostile.command("unmask", device, "--reason", "漢", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout) == (0, "\\u6f22\n")
    done = hostile.command("audit", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert "\\u6f22" in done.stdout
