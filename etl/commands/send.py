"""``send``: send messages to the queue."""

from __future__ import annotations

import os
import re
import signal
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import click

from etl.commands import options
from etl.demo.samples import BAD, BAD_SHARE
from etl.errors import EtlError, UsageError
from etl.terminal import lines
from etl.text import counted, decoded

MAX_NUMBERS = 10  # of refused messages, in the error

# API_SendMessage: letters, digits and punctuation of ASCII.
_GROUP = re.compile(r"[!-~]{1,128}")


def _check_group(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    if name is not None and not _GROUP.fullmatch(name):
        raise click.BadParameter("must be 1 to 128 letters, digits or punctuation marks of ASCII")
    return name


def _bodies(file: BinaryIO) -> Iterator[str]:
    """Read bodies, one in each line, from UTF-8, or from UTF-16 with a mark, as Windows writes it.

    :raises UsageError: names the line that is in another encoding
    """
    first = file.readline()
    encoded: Iterator[bytes] = chain([first.removeprefix(BOM_UTF8)], file)
    if first.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        text = decoded(first + file.read())
        encoded = iter([b"\xff"] if text is None else text.encode().splitlines(keepends=True))
    for number, line in enumerate(encoded, 1):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = None
        if text is None:
            raise UsageError(
                f"line {number} of the file is not text in UTF-8; earlier lines may have been sent"
            )
        # A line of an old program ends with a carriage return.
        yield from (body for body in text.rstrip("\r\n").split("\r") if body.strip())


@click.command(
    epilog="""\b
Examples:
  etl send events.jsonl
  etl send --sample 10000 --seed 7
  etl send orders.jsonl --group orders
"""
)
@options.config
@click.argument("file", type=click.File("rb"), required=False)
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Send N made-up login events."
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    default=1,
    show_default=True,
    help="Make up the events from this seed; the same seed makes the same events.",
)
@click.option(
    "--bad-share",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    default=BAD_SHARE,
    show_default=True,
    help="Make this share of the made-up events fail a check.",
)
@click.option(
    "--bad-kind",
    type=click.Choice(list(BAD)),
    metavar="CHECK",
    help="Fail only this check, such as 'ip: IP address'; give an unknown CHECK to see the list.  "
    "[default: all of them in turn]",
)
@click.option(
    "--rings",
    is_flag=True,
    help="Make up only events from groups of accounts that share devices and addresses.",
)
@click.option(
    "--group",
    metavar="NAME",
    callback=_check_group,
    help="FIFO queue: send all messages in this group, in order. Without it each message has a "
    "group of its own, so that they are loaded fast and in any order.",
)
def send(
    config_path: Path,
    file: Any,
    sample: int | None,
    seed: int,
    bad_share: float,
    bad_kind: str | None,
    rings: bool,
    group: str | None,
) -> None:
    """Send messages to the queue, from a file or made up.

    FILE has one message body per line; blank lines are skipped. A FILE of - is standard input.
    """
    if (file is None) == (sample is None):
        raise click.UsageError("give either FILE or --sample N")
    settings = options.load_settings(config_path)
    from etl.demo import samples
    from etl.sqs.client import open_queue
    from etl.sqs.send import SENDERS, send_bodies
    from etl.terminal import output

    if sample is not None:
        kinds = (bad_kind,) if bad_kind else tuple(BAD)
        bodies: Iterator[str] = samples.bodies(
            sample, seed, bad_share=bad_share, bad_kinds=kinds, rings=rings
        )
    else:
        bodies = _bodies(file)
    queue = open_queue(settings.queue, os.environ)
    try:
        sent, refused = send_bodies(
            queue,
            output.track(bodies, "sending", sample),
            SENDERS,
            settings.queue.retry_seconds,
            group,
        )
    except KeyboardInterrupt:
        lines.say("Ctrl-C: ending at once; some of the messages may have been sent")
        # Threads whose call has no answer yet would keep the process for most of a minute.
        os._exit(128 + signal.SIGINT)
    lines.say(f"sent {counted(sent, 'message')}")
    if refused:
        numbers = ", ".join(map(str, refused[:MAX_NUMBERS]))
        rest = ", ..." if len(refused) > MAX_NUMBERS else ""
        raise EtlError(
            f"SQS refused {counted(len(refused), 'message')}: number {numbers}{rest} (the first is "
            "1)"
        )
