"""Values and tokens that a person gives: as an argument, on standard input, or at a prompt."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

import click

from etl.operations.spellings import innermost, stripped
from etl.terminal import lines
from etl.text import decoded


def read_value(given: str | None, *, quoted: bool = False) -> str:
    """Take one value from the argument, from standard input for ``-``, or ask on the terminal.

    Line ends around the value, and lines in which nothing can be seen, are removed.

    :param quoted: the value is given as a JSON string, which can hold any text
    :raises click.UsageError: there is no value, there are several lines, or this is not text
    """
    if given is None and sys.stdin.isatty():
        text = str(click.prompt("value", hide_input=True, err=True))
    elif given is None or given == "-":
        text = decode(sys.stdin.buffer.read(), "standard input")
    else:
        text = given
    if quoted:
        return _json_text(text.strip("\r\n"))
    where = "on standard input" if given in (None, "-") else "in the argument"
    # An editor, or an old DOS program, leaves such a line at the end.
    shown = [line for line in re.split("[\r\n]", text) if stripped(line)]
    if not shown:
        raise click.UsageError(f"no value {where}; for spaces or an empty text use --quoted")
    if len(shown) > 1:
        raise click.UsageError(
            f"several lines {where}; give one value, or, if the line breaks are part of it, a JSON "
            "string with --quoted"
        )
    _check_text(shown[0])
    return shown[0]


def say_spellings(count: int) -> None:
    """Say on standard error that a search was for more than the value as given."""
    if count > 1:
        lines.say(
            f"searched for {count} spellings of the value: as given, without spaces, quotes or "
            "invisible characters around it, and in both Unicode forms"
        )


def read_tokens(given: Sequence[str]) -> list[str]:
    """Take tokens from the arguments, or from the lines of standard input.

    No token has a space, a quote or a separator of CSV, so these are removed around each one, and
    a line may have several.

    :raises click.UsageError: there is no token, or standard input is not text
    """
    if given:
        return [innermost(token) for token in given]
    if sys.stdin.isatty():
        raise click.UsageError("give TOKENs, or send them on standard input, one per line")
    lines = decode(sys.stdin.buffer.read(), "standard input").splitlines()
    parts = (part for line in lines for part in re.split(r"[\s,;|]+", line))
    tokens = [token for part in parts if (token := innermost(part))]
    if not tokens:
        raise click.UsageError("no token on standard input")
    return tokens


def decode(data: bytes, source: str) -> str:
    """Decode text in UTF-8, or in UTF-16 with a mark at its start, as Windows writes it.

    :raises click.UsageError: it is in another encoding; *source* names it in the message
    """
    text = decoded(data)
    if text is None and data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise click.UsageError(f"{source} is a workbook; save the sheet as CSV in UTF-8")
    if text is None:
        raise click.UsageError(f"{source} is not text in UTF-8; save it as UTF-8")
    return text


def _json_text(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, str):
        raise click.UsageError('with --quoted the value must be a JSON string, such as "a \\"b\\""')
    return value


def _check_text(text: str) -> None:
    # Python reads a byte of the command line that is not UTF-8 as a lone surrogate.
    if text.encode(errors="replace").decode() != text:
        raise click.UsageError("the value is not text in UTF-8")
