"""Options and arguments that several commands share, and the settings they read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from etl.config import Settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_VALUE_HELP = """
    Without VALUE the command asks for it and does not show it; with - it reads the value from
    standard input. A value given as an argument is visible in the shell's history and in process
    lists.
"""


def config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --config."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path("config.yaml"),
        show_default=True,
        envvar="ETL_CONFIG",
        show_envvar=True,
        help="Read settings from this file.",
    )(command)


def reason(place: str = "in the audit", default: str | None = None) -> Decorator:
    """The option --reason; without a default it is required.

    :param place: where the reason is stored
    """
    # To click, a default of None is a default, with which the option is never missing.
    presence: dict[str, Any] = (
        {"required": True} if default is None else {"default": default, "show_default": True}
    )
    return click.option(
        "--reason",
        callback=check_text,
        help=f"Store this reason {place}; do not put personal data in it.",
        **presence,
    )


def limit(default: int, text: str) -> Decorator:
    """The option --limit, with its help."""
    return click.option(
        "--limit",
        type=click.IntRange(min=1),
        metavar="N",
        default=default,
        show_default=True,
        help=text,
    )


all_jobs = click.option("--all-jobs", is_flag=True, help="Include the other jobs of this database.")
json_lines = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")


def check_text(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Strip the text of an option; refuse one that is blank or that Postgres cannot store."""
    # Python reads a byte of the command line that is not UTF-8 as a lone surrogate.
    if not value.strip() or "\0" in value or value.encode(errors="replace").decode() != value:
        raise click.BadParameter("must be text, and not blank", param=parameter)
    return value.strip()


def load_settings(config_path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Read the settings and start the log.

    :param overrides: ``{"section.key": value}`` from the options of the command
    :raises SettingsError: the file cannot be read, or settings are missing, unknown or out of range
    """
    from etl import logs
    from etl.config import load

    settings = load(config_path, os.environ, overrides)
    logs.start(settings.log.level, settings.log.format)
    return settings


def value_and_column(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument VALUE, with a paragraph of help, and the option --column."""
    command.__doc__ = f"{command.__doc__ or ''}{_VALUE_HELP}"
    column = click.option(
        "--column", required=True, help="Masked column, or the event field that it comes from."
    )
    return click.argument("value", required=False)(column(command))


def read_value(given: str | None) -> str:
    """Take the value from the argument, from standard input for ``-``, or ask on the terminal.

    :raises click.UsageError: standard input is empty
    """
    if given is None and sys.stdin.isatty():
        return str(click.prompt("value", hide_input=True, err=True))
    if given not in (None, "-"):
        return str(given)
    text_read = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    if not text_read:
        raise click.UsageError("no value on standard input")
    # echo adds one newline; any other newline is part of the value.
    return text_read.removesuffix("\n")
