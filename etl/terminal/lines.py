"""Lines for a person or a program: text that no terminal obeys, and JSON.

Text may have come in a message or from the database. A control character in it could clear the
screen or type a command, and a direction mark could show it in another order. Here every such
character is written as its escape, whether the output is a terminal, a pipe or a file. JSON holds
the exact text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from etl.errors import OutputLost
from etl.logs import discard_output, to_json, visible


def line(text: str) -> None:
    """Write one line to standard output."""
    click.echo(visible(text))


def say(text: str) -> None:
    """Write one line to standard error."""
    click.echo(visible(text), err=True)


def json_line(document: Any) -> None:
    """Write a document to standard output as one line of JSON in ASCII."""
    click.echo(to_json(document))


def block(text: str, *, err: bool = False) -> None:
    """Write text of several lines, which ends with a line end."""
    click.echo(visible(text, keep="\n"), nl=False, err=err)


@contextmanager
def output_may_be_lost(what: str) -> Iterator[None]:
    """Print what tells how some work ended, and whose loss does not change how it ended.

    :param what: what the block prints, for the line on standard error that says it is lost
    """
    try:
        yield
        sys.stdout.flush()
    except OutputLost as error:
        discard_output()
        say(f"{error}; {what} is lost, and the work is done")
