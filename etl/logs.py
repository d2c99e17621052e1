"""Log lines on standard error, as text or JSON; and tracebacks that show no value."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from types import TracebackType


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return json.dumps(
            {
                "time": f"{second}.{int(record.msecs):03d}Z",
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
        )


class _StderrHandler(logging.Handler):
    """Looks up sys.stderr for each line, so that a live progress display can replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


def start(level: str, form: str) -> None:
    """Send the log of this package to standard error.

    Only of this package: at low levels botocore and SQLAlchemy log whole requests and statements.

    :param level: minimum level, such as ``info``
    :param form: ``text`` or ``json``
    """
    handler = _StderrHandler()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    text.converter = time.gmtime
    handler.setFormatter(_JsonFormatter() if form == "json" else text)
    package_log = logging.getLogger("etl")
    package_log.handlers[:] = [handler]
    package_log.setLevel(level.upper())
    package_log.propagate = False


def hide_values_in_tracebacks() -> None:
    """Print an unexpected error as its type and where it was raised, without its message.

    Libraries' messages quote the values that they fail on. The places are enough to fix a bug.
    """

    def show(
        _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        sys.stderr.write(places(error))

    sys.excepthook = show
    threading.excepthook = lambda a: show(a.exc_type, a.exc_value or a.exc_type(), None)


def places(error: BaseException) -> str:
    """The stack of an error and of its causes, innermost last, without messages or source."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None:
        lines.append(
            f"unexpected {type(current).__qualname__} (message withheld, because it may quote data)"
        )
        frames = traceback.extract_tb(current.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        context = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or context
    return "\n".join(lines) + "\n"
