"""What the commands share: the option --config, and the settings that it leads to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from etl.config import Settings


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


def reason(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --reason, for the audit."""
    return click.option(
        "--reason",
        required=True,
        callback=text,
        help="Why, for the audit; put no personal value into it.",
    )(command)


def text(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check that an option's value is a text that can be stored, and not blank."""
    # A lone surrogate stands for a byte of the command line that is no UTF-8.
    if not value.strip() or "\0" in value or value.encode(errors="replace").decode() != value:
        raise click.BadParameter("must be a text that is not blank", param=parameter)
    return value.strip()


def load_settings(config_path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Read the settings and start the log.

    :param overrides: ``{"section.key": value}`` from the command's own options
    :raises SettingsError: something is missing, unknown or out of range
    """
    from etl import config as settings_file
    from etl import logs

    settings = settings_file.load(config_path, os.environ, overrides)
    logs.start(settings.log.level, settings.log.format)
    return settings


def value(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument VALUE and the option --column."""
    column = click.option(
        "--column", required=True, help="Masked column, or the field that it is made from."
    )
    return click.argument("value", required=False)(column(command))


def read_value(given: str | None) -> str:
    """The value: as given, from standard input for -, or asked for on the terminal.

    :raises click.UsageError: there is none
    """
    if given is None and sys.stdin.isatty():
        return str(click.prompt("value", hide_input=True, err=True))
    if given not in (None, "-"):
        return str(given)
    # One newline is echo's; any other belongs to the value.
    read = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    if not read:
        raise click.UsageError("no value on standard input")
    return read.removesuffix("\n")
