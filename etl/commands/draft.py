"""``draft``: a configuration and a table for the events of a queue, from a look at a few."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from etl.commands import options
from etl.commands.peek import ON_SIGNAL
from etl.terminal import lines

if TYPE_CHECKING:
    from etl.config import Settings
    from etl.operations.peek import Look
    from etl.sqs.message import Message


@click.command(
    epilog="""\b
Examples:
  ETL_QUEUE__URL=https://sqs.eu-west-1.amazonaws.com/123456789012/orders \\
    etl draft --table orders --output orders
  etl draft --sample event.json --all-names
  etl check-config --config orders/config.yaml --sample sample.json
"""
)
@options.config
@options.sample("Use the messages of this file or folder; the queue is not looked at.")
@options.sample_format
@options.messages_to_look_at(50, "Look at N messages of the queue")
@click.option(
    "--table", metavar="NAME", default="events", show_default=True, help="Name of the table."
)
@click.option(
    "--all-names",
    is_flag=True,
    help="Take every name in the events for that of a field. Without it, names that few "
    "messages have are left out, because a name may be data, as in a map by e-mail address; and "
    "fewer than 5 messages are too few for a draft.",
)
@click.option(
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="this folder",
    help="Write config.yaml and table.sql into this folder.",
)
@click.pass_context
def draft(
    context: click.Context,
    /,
    config_path: Path,
    sample_path: Path | None,
    form: str,
    max_messages: int,
    table: str,
    all_names: bool,
    folder: Path,
) -> None:
    """Write a config.yaml for the events of the queue, and the CREATE TABLE for it.

    A few messages are looked at, and given back at once. From them come the paths of fields,
    the types, what may be null, and which columns look personal; those are masked. No value
    is shown or written. Each look uses one of the receives after which SQS moves a message to
    the dead-letter queue, as etl peek does. Existing files are not replaced.

    The queue and how to reach it come from --config if there is such a file. Needs no
    database and no keyring.
    """
    if _is_missing_by_default(context, config_path):
        config_path = Path(str(resources.files("etl").joinpath("default_config.yaml")))
    settings = options.load_settings(config_path)
    from etl.operations import draft as drafts
    from etl.operations.draft_reading import reading_of
    from etl.operations.draft_text import config_text, table_text
    from etl.operations.private_file import check_new_file, new_file
    from etl.operations.sample import read_sample
    from etl.terminal import draft_page

    files = {name: folder / name for name in ("config.yaml", "table.sql")}
    drafts.check_table_name(table)
    folder.mkdir(parents=True, exist_ok=True)
    for path in files.values():
        check_new_file(path)
    look = None
    if sample_path is None:
        look, messages = _look(settings, max_messages)
    else:
        sample = read_sample(sample_path, settings, form)
        messages = sample.messages
        for text in sample.read_as:
            lines.say(text)
    try:
        result = drafts.draft(messages, table, reading_of(settings), all_names=all_names)
        texts = {"config.yaml": config_text(result), "table.sql": table_text(result)}
        for name, text in texts.items():
            with new_file(files[name]) as file:
                file.write(text.encode())
        for text in draft_page.page(result, files["config.yaml"]):
            lines.line(text)
    finally:
        if look is not None:
            look.check_cost()


def _is_missing_by_default(context: click.Context, config_path: Path) -> bool:
    """Whether nobody named a file, and there is none: a draft is how one may begin."""
    is_default = context.get_parameter_source("config_path") is ParameterSource.DEFAULT
    return is_default and not config_path.exists()


def _look(settings: Settings, max_messages: int) -> tuple[Look, list[Message]]:
    from etl.commands.signals import stop_on_signals
    from etl.errors import UsageError
    from etl.operations.peek import look_at, open_look
    from etl.terminal import peek_page

    with stop_on_signals(ON_SIGNAL) as stop:
        queue, state = open_look(settings, os.environ, stop)
        lines.say(peek_page.warning(state))
        look, messages = look_at(queue, state, max_messages, stop)
    if not messages:
        raise UsageError(f"no draft: {peek_page.nothing(look)}")
    lines.say(peek_page.cost(look))
    return look, messages
