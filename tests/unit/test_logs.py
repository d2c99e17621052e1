"""Log lines, and tracebacks without values."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from etl import logs
from tests.unit.builders import ROOT


@pytest.fixture(autouse=True)
def _restore_the_package_log() -> Iterator[None]:
    package_log = logging.getLogger("etl")
    handlers = package_log.handlers[:]
    level = package_log.level
    propagate = package_log.propagate
    yield
    package_log.handlers[:] = handlers
    package_log.setLevel(level)
    package_log.propagate = propagate


def test_a_text_line_has_time_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    """The time is in UTC, and the line goes to standard error."""
    logs.start("info", "text")
    logging.getLogger("etl.part").info("%d messages", 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("Z INFO    3 messages\n")


def test_a_json_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """A message with a line break stays on one line."""
    logs.start("info", "json")
    logging.getLogger("etl.part").warning("line\nbreak")
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"], line["message"]) == (
        "warning",
        "etl.part",
        "line\nbreak",
    )


def test_debug_does_not_enable_the_logs_of_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    """Botocore and SQLAlchemy log whole requests and statements."""
    logs.start("debug", "text")
    logging.getLogger("botocore.endpoint").debug("a body")
    logging.getLogger("sqlalchemy.engine").info("a statement")
    assert capsys.readouterr().err == ""


def test_a_traceback_shows_types_and_places_but_no_message() -> None:
    """Libraries' messages quote the values that they fail on."""
    try:
        try:
            int("canary-value")
        except ValueError as error:
            raise RuntimeError("canary-value") from error
    except RuntimeError as error:
        shown = logs.places(error)
    assert "RuntimeError" in shown
    assert "ValueError" in shown
    assert "test_logs.py" in shown
    assert "canary" not in shown


def test_a_crash_leaves_no_dump_of_the_memory() -> None:
    """It would hold plain values and keys."""
    code = (
        "import resource, sys; from etl import cli\n"
        "sys.argv = ['etl', '--version']\n"
        "try: cli.start()\n"
        "except SystemExit: print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "(0, 0)"
