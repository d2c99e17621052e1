"""Standard streams that are closed, full, or pipes that nobody reads."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from etl import logs
from etl.errors import OutputLost
from etl.runs import Counts, Summary
from etl.terminal import output, progress
from etl.terminal.summary import print_summary
from etl.workers.snapshot import Snapshot
from tests.integration.waiting import wait_until
from tests.unit.builders import ROOT, some_long

ETL = f"{sys.executable} -W error -m etl"
FULL = "error: cannot write to standard output: No space left on device\n"
CLOSED = "error: cannot write to standard output: Bad file descriptor\n"
NO_FILE = "error: no file '/nope'; name another one with --config, or print the default with: etl config show\n"  # noqa: E501


def shell(command: str, **environment: str) -> tuple[int, str, str]:
    """Run a command line of the program in a shell; return its exit code, output and errors."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "case",
    [
        ("config show > /dev/full", 1, FULL),
        ("config show >&-", 1, CLOSED),
        ("config show | true", 141, ""),
        *some_long([
            ("config show > /dev/full 2> /dev/full", 1, ""),
            ("config show <&- >&- 2>&-", 1, ""),
            ("--help > /dev/full", 1, FULL),
            ("--help | true", 141, ""),
            ("--version >&-", 1, CLOSED),
            ("config show > /dev/null 2>&-", 0, ""),
            ("config show > /dev/null 2> /dev/full", 0, ""),
            ("config show <&- > /dev/null", 0, ""),
            ("run --config /nope", 2, NO_FILE),
            ("run --config /nope >&-", 2, NO_FILE),
            ("run --config /nope 2>&-", 2, ""),
            ("run --config /nope 2> /dev/full", 2, ""),
            ("run --config /nope 2> >(true)", 2, ""),
            ("run --workers nine 2>&-", 2, ""),
            ("nope 2>&- >&- <&-", 2, ""),
        ]),
    ],
)  # fmt: skip
def test_a_stream_that_fails_gives_one_sentence_and_the_right_exit_code(
    case: tuple[str, int, str],
) -> None:
    """Neither a traceback, nor the code 120 of Python's own end."""
    command, code, errors = case
    assert shell(f"{ETL} {command}") == (code, "", errors)


@pytest.mark.parametrize("closed", [(2,), (1,), (0, 1, 2)])
def test_no_connection_gets_the_number_of_a_closed_stream(closed: tuple[int, ...]) -> None:
    """Log lines would be written into it. A child process finds open streams, too."""
    code = (
        "import os, socket, subprocess, sys; from etl import logs; logs.open_standard_streams()\n"
        "numbers = [socket.socket().detach() for _ in range(3)]\n"
        "sys.stderr.write('a log line'); sys.stdin.read()\n"
        "child = 'import os; [os.fstat(number) for number in (0, 1, 2)]'\n"
        "code = subprocess.run([sys.executable, '-c', child]).returncode\n"
        "sys.exit(code or min(numbers) < 3)"
    )
    closing = " ".join(f"{number}>&-" for number in closed)
    assert shell(f'{sys.executable} -c "{code}" < /dev/null {closing}')[0] == 0


def full(kind: Any) -> io.TextIOWrapper:
    """A text stream of a kind of file, whose disk is full."""
    return logs._text(kind("/dev/full", "w"), None)


def test_what_standard_error_does_not_take_is_lost_without_an_error() -> None:
    """A log line is not worth a run."""
    stream = full(logs._Errors)
    for _ in range(3):
        stream.write("x" * 10_000 + "\n")
        stream.flush()
    stream.close()


def test_a_pipe_that_does_not_wait_loses_lines_only_while_it_is_full() -> None:
    """Some programs set their terminal, which is also ours, to not wait."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stream = logs._text(logs._Errors(writer, "w"), None)
    for _ in range(200):
        stream.write("x" * 1000 + "\n")
    os.read(reader, 1 << 20)
    stream.write("the last line\n")
    assert os.read(reader, 1 << 20).endswith(b"the last line\n")
    stream.close()
    os.close(reader)


def test_output_waits_for_a_pipe_that_does_not_wait() -> None:
    """Nothing of a result may be lost."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stream = logs._text(logs._Output(writer, "w"), None)
    read: list[bytes] = []

    def read_all() -> None:
        while data := os.read(reader, 10_000):
            read.append(data)

    thread = threading.Thread(target=read_all)
    thread.start()
    stream.write("x" * 999_999 + "\n")
    stream.close()
    thread.join()
    os.close(reader)
    assert len(b"".join(read)) == 1_000_000


def test_only_standard_output_raises_the_error_of_standard_output() -> None:
    """A broken pipe of a database connection is another matter."""
    stream = full(logs._Output)
    with pytest.raises(OutputLost, match="standard output: No space left on device") as lost:
        print("a line", file=stream, flush=True)
    assert not lost.value.is_unread
    with pytest.raises(OutputLost):
        stream.close()
    stream.buffer.raw.close()


def test_the_live_line_of_a_terminal_that_is_gone_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody closed the window; the run goes on."""

    class Terminal(logs._Errors):
        def isatty(self) -> bool:
            return True

    stream = full(Terminal)
    failed: list[Any] = []
    monkeypatch.setattr("threading.excepthook", failed.append)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.01)
    shown: list[None] = []

    def snapshot() -> Snapshot:
        shown.append(None)
        return Snapshot(received=1, loaded=1)

    queue: Any = SimpleNamespace(state=lambda: SimpleNamespace(visible=1))
    with progress.watch(snapshot, queue):
        assert wait_until(lambda: len(shown) >= 5)
    monkeypatch.undo()
    stream.close()
    assert failed == []


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_character_that_the_output_lacks_is_written_as_an_escape(encoding: str) -> None:
    """In the terminal's own encoding, and never as an error."""
    command = f"{sys.executable} -c \"from etl import logs; logs.open_standard_streams(); print('e\u0301 \u65e5 \u2260')\""  # noqa: E501
    code, out, _ = shell(command, PYTHONIOENCODING=encoding, PYTHONUTF8="0", LC_ALL="C.UTF-8")
    assert code == 0
    assert out.strip() in ("e\u0301 \u65e5 \u2260", "e\\u0301 \\u65e5 \\u2260")


def test_a_table_on_an_output_without_box_characters_is_drawn_in_ascii(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page of escapes such as backslash u2500 cannot be read."""
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    output.frame(pd.DataFrame({"name": ["é"], "rows": [7]}), "a table")
    print_summary(Summary("run", Counts(received=1), stop_reason="idle"))
    stream.flush()
    shown = written.getvalue().decode("ascii")
    assert "--" in shown
    assert "!= this does not add up" in shown
    assert shown.count("\\") == 1
    assert "  \\xe9  " in shown


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_log_line_is_written_at_once(unbuffered: str) -> None:
    """Not only at the end, which a process that is killed does not reach."""
    code = (
        "import logging, os; from etl import logs\n"
        "logs.open_standard_streams(); logs.start('info', 'text')\n"
        "logging.getLogger('etl').info('here'); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stderr.endswith(" here\n")
