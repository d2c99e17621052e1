"""``config``: the default configuration file."""

from __future__ import annotations

from importlib import resources

import click

from etl.commands.groups import Group
from etl.terminal import lines


@click.group(cls=Group)
def config() -> None:
    """Show the default configuration."""


@config.command(
    epilog="""\b
Examples:
  etl config show
  etl config show > config.yaml
"""
)
def show() -> None:
    """Print the default config.yaml, with a comment on every key."""
    default = resources.files("etl").joinpath("default_config.yaml")
    lines.block(default.read_text(encoding="utf-8"))
