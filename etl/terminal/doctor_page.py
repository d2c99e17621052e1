"""The results of ``etl doctor``: lines that fit a terminal, and a document for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, get_args

from rich.text import Text

from etl import text
from etl.doctor.result import Result, Status
from etl.terminal import output
from etl.terminal.wrapping import limited_width, wrapped
from etl.version import __version__

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "unknown": "magenta"}
_STATUS = 9  # characters
_CHECK = 28
_NARROW = 70  # below it, what was found has lines of its own


def show(result: Result) -> None:
    """Print a result; the word of its status is coloured at a terminal."""
    out = output.console()
    width = limited_width() if out.is_terminal else out.width
    for number, line in enumerate(page(result, width)):
        text = Text(line)
        if not number:
            text.stylize(STYLES[result.status], 0, len(result.status))
        out.print(text, soft_wrap=True)


def page(result: Result, width: int = 80) -> Iterator[str]:
    """The lines of a result.

    :param width: of the lines, in cells of a terminal, as long as no single word is longer
    """
    below = " " * _STATUS
    head = f"{result.status:<{_STATUS}}{result.check:<{_CHECK}}"
    if width < _NARROW:
        yield head.rstrip()
        yield from wrapped(result.found, width, below, below)
    else:
        yield from wrapped(result.found, width, head, " " * len(head))
    if result.advice:
        yield from wrapped(result.advice, width, below, below)


def show_summary(results: Sequence[Result], skipped: Sequence[str]) -> None:
    """Print how many checks ended how, and what was left out."""
    counts = counted(results)
    listed = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    out = output.console()
    out.print(Text(f"{text.counted(len(results), 'check')}: {listed}"), soft_wrap=True)
    if skipped:
        for line in wrapped(f"left out: {', '.join(skipped)}", limited_width(), "", "  "):
            out.print(Text(line), soft_wrap=True)


def counted(results: Sequence[Result]) -> dict[str, int]:
    """How many results have each status."""
    counts = Counter(result.status for result in results)
    return {status: counts[status] for status in get_args(Status)}


def exit_code(results: Sequence[Result]) -> int:
    """1 if a check has failed, or else 0: what is unknown may be in order."""
    return int(any(result.status == "fail" for result in results))


def as_json(results: Sequence[Result], skipped: Sequence[str]) -> dict[str, Any]:
    """The document that ``doctor --json`` prints."""
    return {
        "version": __version__,
        "checks": [asdict(result) for result in results],
        "summary": counted(results),
        "skipped": list(skipped),
        "exit_code": exit_code(results),
    }
