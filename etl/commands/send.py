"""``send``: put messages on the queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from etl.commands import options
from etl.demo.samples import BAD
from etl.errors import EtlError


@click.command(
    epilog="""\b
Examples:
  python -m etl send events.jsonl
  python -m etl send --sample 10000 --seed 7
"""
)
@options.config
@click.argument("file", type=click.File(encoding="utf-8"), required=False)
@click.option("--sample", type=click.IntRange(min=1), help="Send so many made-up login events.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the made-up events.")
@click.option(
    "--bad-share",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="Share of made-up events that break a check.",
)
@click.option(
    "--bad-kind",
    type=click.Choice(list(BAD)),
    metavar="CHECK",
    help="The check that they break, as 'column: check'; without it all kinds come in turn.",
)
@click.option("--rings", is_flag=True, help="Of accounts that share a few devices and addresses.")
def send(
    config_path: Path,
    file: Any,
    sample: int | None,
    seed: int,
    bad_share: float,
    bad_kind: str | None,
    rings: bool,
) -> None:
    """Send messages to the queue: a FILE with one body a line, or a sample.

    Blank lines are skipped.
    """
    if (file is None) == (sample is None):
        raise click.UsageError("give either FILE or --sample N")
    settings = options.load_settings(config_path)
    from etl.demo import samples
    from etl.sqs.client import open_queue
    from etl.sqs.send import send_bodies
    from etl.terminal import output

    if sample is not None:
        kinds = (bad_kind,) if bad_kind else tuple(BAD)
        bodies: Iterator[str] = samples.bodies(
            sample, seed, bad_share=bad_share, bad_kinds=kinds, rings=rings
        )
    else:
        bodies = (line for raw in file if (line := raw.rstrip("\n")).strip())
    queue = open_queue(settings.queue)
    sent, refused = send_bodies(
        queue, output.track(bodies, "sending", sample), settings.queue.receivers
    )
    click.echo(f"sent {sent:,} messages", err=True)
    if refused:
        first = ", ".join(map(str, refused[:10]))
        raise EtlError(f"SQS did not take {len(refused)} messages: number {first}")
