"""Log lines on standard error, as text or JSON; text made visible; errors without values.

And the standard streams themselves, which may be closed, full, or pipes that nobody reads.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import select
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any

from etl.errors import OutputLost

# Letters and marks that take no space, beside those that Python calls not printable: the combining
# grapheme joiner, fillers of Hangul, vowels of Khmer, and selectors of variants.
_UNSEEN = {
    *map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164)),
    *map(chr, (0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))),
}


_WAYS_OUT = {
    errno.EMFILE: "too many open files: raise the limit of this process (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.ENOMEM: "not enough memory: raise the limit (ulimit -v, or the container's)",
    errno.EAGAIN: "no further process or thread: raise the limits (ulimit -u and -v, or the "
    "container's)",
}


def visible(text: str, keep: str = "") -> str:
    r"""Write each character that cannot be seen, or that moves others, as an escape such as \x1b.

    These are control, format and private characters, spaces other than the usual one, and lone
    surrogates.

    :param keep: characters to leave as they are, such as a line end
    """
    if text.isprintable() and (text.isascii() or _UNSEEN.isdisjoint(text)):
        return text
    return "".join(
        character
        if character in keep or (character.isprintable() and character not in _UNSEEN)
        else character.encode("unicode_escape").decode()
        for character in text
    )


def to_json(document: Any) -> str:
    """Write a document as one line of printable ASCII; what JSON cannot hold becomes text."""
    # Of the control characters, DEL is the only one that JSON may hold as it is.
    return json.dumps(document, default=str).replace("\x7f", "\\u007f")


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return to_json(
            {
                "time": f"{second}.{int(record.msecs):03d}Z",
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
                **getattr(record, "members", {}),  # of the metrics
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
    text = _TextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    text.converter = time.gmtime
    handler.setFormatter(_JsonFormatter() if form == "json" else text)
    package_log = logging.getLogger("etl")
    package_log.handlers[:] = [handler]
    package_log.setLevel(level.upper())
    package_log.propagate = False


class _Output(io.FileIO):
    """Standard output. Its failures can be told from those of any other file or socket."""

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # a terminal that another program set to not wait
            return written
        except OSError as error:
            raise OutputLost(
                f"cannot write to standard output: {error.strerror}",
                is_unread=isinstance(error, BrokenPipeError),
            ) from None


class _Errors(io.FileIO):
    """Standard error. What cannot be written to it is lost, and nothing else happens."""

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


def open_standard_streams() -> None:
    """Let the standard streams be written to, whatever state this process got them in.

    A full disk or a reader that has gone never raises an error on standard error; on standard
    output it raises :class:`etl.errors.OutputLost`. A character that the encoding lacks is written
    as an escape. Call this before anything opens a file: where a stream was closed, the next file
    or connection would get its number, and with it the log lines.
    """
    # Standard output is opened for reading: whoever closed it is told that nothing was printed.
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    # Not those that a program has put in the place of its own.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Errors(2, "w", closefd=False), sys.stderr)


def _text(file: io.FileIO, like: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=getattr(like, "encoding", None),
        errors="backslashreplace",
        # Also with PYTHONUNBUFFERED, which Python writes through without a line buffer.
        line_buffering=getattr(like, "line_buffering", True) or like.write_through,
    )


def discard_output() -> None:
    """Throw away what standard output has not taken, and all that follows.

    Otherwise Python would try again as it exits, and change the exit code.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


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


def lack(error: Exception) -> str | None:
    """Say what a process was refused by its limits; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    elif isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        number = errno.EAGAIN
    return _WAYS_OUT.get(number or 0)


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
