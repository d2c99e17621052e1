"""``config`` and ``check-config``: the default configuration file, and what yours would do."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from etl.commands import options
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


@click.command(
    name="check-config",
    epilog="""\b
Examples:
  etl check-config
  etl check-config --sample events.jsonl
  aws sqs receive-message --queue-url "$ETL_QUEUE__URL" \\
    --attribute-names All --message-attribute-names All > sample.json
  etl check-config --config orders.yaml --sample sample.json
  etl check-config --sample - < event.json
""",
)
@options.config
@options.sample("Try the configuration on the messages of this file or folder.")
@options.sample_format
@options.limit(10, "Show N events that would load, and N that would not.")
@options.wide
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line, with every event.")
@click.pass_context
def check_config(
    context: click.Context,
    /,
    config_path: Path,
    sample_path: Path | None,
    form: str,
    limit: int,
    wide: bool,
    as_json: bool,
) -> None:
    """Check a configuration file, and what a run would do with sample messages.

    Each message goes through the stages of a run: it is read, checked and masked. Values of
    masked columns are not shown. What only the database can refuse is not tried. Needs no
    queue, no database and no keyring. The exit code is 1 if an event would not be loaded.
    """
    settings = options.load_settings(config_path)
    from etl.checks.configured import check_table
    from etl.terminal import check_page

    for table in settings.tables:
        check_table(table)
    if sample_path is None and not as_json:
        lines.line(check_page.headline(str(config_path), settings))
        return
    from etl.operations.check_sample import Trial, try_sample
    from etl.operations.sample import attributes_it_lacks, read_sample

    trial = Trial(0)
    if sample_path is not None:
        sample = read_sample(sample_path, settings, form)
        for text in [*sample.read_as, *attributes_it_lacks(sample, settings)]:
            lines.say(text)
        trial = try_sample(settings, sample)
    if as_json:
        lines.json_line(check_page.as_json(settings, trial))
    else:
        lines.line(check_page.headline(str(config_path), settings))
        check_page.show(settings, trial, limit, wide=wide)
    context.exit(0 if trial.loaded == len(trial.events) else 1)
