"""``peek``: show what the messages of the queue look like, without a value of them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from etl.commands import options
from etl.terminal import lines

# What a first signal does, in words for the log.
ON_SIGNAL = "giving the messages back; a second signal leaves them to the visibility timeout"


@click.command(
    epilog="""\b
Examples:
  etl peek
  etl peek --messages 50
  etl peek --json
"""
)
@options.config
@options.messages_to_look_at(10)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def peek(config_path: Path, max_messages: int, as_json: bool) -> None:
    """Show the shapes of a few messages: types, lengths, kinds of characters; no value.

    The messages are given back at once. Each look uses one of the receives after which SQS
    moves a message to the dead-letter queue, so it is refused if the queue's maxReceiveCount
    is 3 or less. Names of fields that the configuration does not read are shown as shapes
    too. Needs no database and no keyring.
    """
    settings = options.load_settings(config_path)
    from etl.commands.signals import stop_on_signals
    from etl.operations.peek import open_look
    from etl.operations.peek import peek as look_at
    from etl.terminal import peek_page

    with stop_on_signals(ON_SIGNAL) as stop:
        queue, state = open_look(settings, os.environ, stop)
        lines.say(peek_page.warning(state))
        look = look_at(queue, state, settings, max_messages, stop)
    with lines.output_may_be_lost("what was seen"):
        if as_json:
            lines.json_line(peek_page.as_json(look))
        else:
            peek_page.show(look)
    look.check_cost()
