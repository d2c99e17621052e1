"""Options and arguments that several commands share, and the settings they read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl.text import unquoted

if TYPE_CHECKING:
    import sqlalchemy as sa

    from etl.config import Settings
    from etl.crypto.keyring import Keyring

MAX_LOOK = 100  # messages

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_VALUE_HELP = """
    Without VALUE the command asks for it and does not show it; with - it reads the value from
    standard input, as UTF-8 or as UTF-16 with a byte order mark. A value given as an argument is
    visible in the shell's history and in process lists.
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


def sample(text: str) -> Decorator:
    """The option --sample, with its help."""
    return click.option(
        "--sample",
        "sample_path",
        type=click.Path(exists=True, allow_dash=True, path_type=Path),
        metavar="FILE",
        help=text,
    )


def messages_to_look_at(default: int, text: str = "Look at N messages") -> Decorator:
    """The option --messages of the commands that look at the queue."""
    return click.option(
        "--messages",
        "max_messages",
        type=click.IntRange(1, MAX_LOOK),
        metavar="N",
        default=default,
        show_default=True,
        help=f"{text}, at most {MAX_LOOK}.",
    )


# As etl.operations.sample.FORMATS, which help cannot import.
sample_format = click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "body", "lines", "array", "aws"]),
    default="auto",
    show_default=True,
    help="What a file of --sample holds: one message body, a body in each line, a JSON array of "
    "bodies, or what `aws sqs receive-message` prints. It is recognised, except that an array or "
    "several lines may also be one body.",
)
table = click.option(
    "--table",
    "table_name",
    metavar="NAME",
    help="Work on this table, given as NAME or SCHEMA.NAME; needed if the job has several.",
)
all_jobs = click.option("--all-jobs", is_flag=True, help="Include the other jobs of this database.")
json_lines = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
wide = click.option(
    "--wide",
    is_flag=True,
    help="Print every column in full, however narrow the terminal is. A pipe or a file always gets "
    "everything.",
)


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
    from etl.postgres.variables import with_tokens

    # A file of variables may have left quotes and a line end in ETL_CONFIG.
    path = Path(unquoted(str(config_path)))
    settings = load(path, os.environ, overrides)
    logs.start(settings.log.level, settings.log.format)
    return with_tokens(settings, os.environ)


def load_one_table(
    config_path: Path, name: str | None, overrides: dict[str, Any] | None = None
) -> Settings:
    """Read the settings as :func:`load_settings` does, with one table of the job.

    :param name: what --table says
    :raises SettingsError: as there, or the job has no table of this name
    :raises UsageError: the job has several tables, and none is named
    """
    settings = load_settings(config_path, overrides)
    from etl.config import one_table

    return one_table(settings, name)


def open_with_keys(
    settings: Settings, connections: int = 1, *, record: bool = False
) -> tuple[sa.Engine, Keyring]:
    """Open the database and load the keyring, for a command that needs both.

    :param connections: how many the engine keeps open
    :param record: record first uses, for a command that stores what a key made
    :raises SettingsError: DATABASE_URL is missing or is not a Postgres URL
    :raises KeyringError: the keyring cannot be used
    :raises EtlError: keyring or configuration do not fit the database, see
        :func:`etl.postgres.first_use.check`
    """
    from etl.crypto.keyring import load_keyring
    from etl.errors import DatabaseRefused, DatabaseUnavailable
    from etl.postgres import first_use
    from etl.postgres.engine import open_engine, transaction
    from etl.postgres.tables import check_own_tables

    engine = open_engine(settings.database, connections)
    keyring = load_keyring(os.environ)
    try:
        if record:
            with transaction(engine) as connection:
                check_own_tables(connection)
                first_use.record(connection, settings, keyring)
        else:
            first_use.check(engine, settings, keyring)
    except (DatabaseUnavailable, DatabaseRefused) as error:
        raise type(error)(
            f"nothing is shown or changed, because the keyring cannot be compared: {error}"
        ) from None
    return engine, keyring


def value_and_column(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument VALUE, with a paragraph of help, and two options about it."""
    command.__doc__ = f"{command.__doc__ or ''}{_VALUE_HELP}"
    column = click.option(
        "--column", required=True, help="Masked column, or the event field that it comes from."
    )
    quoted = click.option(
        "--quoted",
        is_flag=True,
        help="VALUE is a JSON string in quotes, and is taken exactly. For a value with a line "
        "break, or with spaces or quotes around it.",
    )
    return click.argument("value", required=False)(column(quoted(command)))
