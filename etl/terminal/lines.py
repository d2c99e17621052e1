"""Lines for a person or a program: text that no terminal obeys, and JSON.

Text may have come in a message or from the database. A control character in it could clear the
screen or type a command, and a direction mark could show it in another order. Here every such
character is written as its escape, whether the output is a terminal, a pipe or a file. JSON holds
the exact text.
"""

from __future__ import annotations

from typing import Any

import click

from etl.logs import to_json, visible


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
