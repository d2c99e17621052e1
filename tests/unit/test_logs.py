"""Log lines, and tracebacks without values."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from etl import logs


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
