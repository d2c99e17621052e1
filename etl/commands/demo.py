"""``demo``: the whole job on embedded services."""

from __future__ import annotations

import click


@click.command(
    epilog="""\b
Examples:
  python -m etl demo
  python -m etl demo --serve
  python -m etl demo --serve --week
"""
)
@click.option("--messages", type=click.IntRange(min=100), default=10_000, show_default=True,
              help="Send so many sample events.")  # fmt: skip
@click.option("--serve", is_flag=True, help="Leave the services running, until Ctrl-C.")
@click.option("--week", is_flag=True, help="Load a week of nights before it, some with faults.")
@click.option(
    "--notebook", is_flag=True, help="Open Jupyter on the embedded database, week and all."
)
def demo(messages: int, serve: bool, week: bool, notebook: bool) -> None:
    """Show the whole job on an embedded Postgres and an embedded SQS.

    Needs the development requirements. The data is made up and stays in .embedded/.
    """
    from etl.demo.show import show_demo as show

    show(messages, serve=serve, notebook=notebook, week=week)
