"""``rekey``: re-encrypt stored tokens and bodies with the primary key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options
from etl.terminal import lines
from etl.text import counted

if TYPE_CHECKING:
    from etl.operations.rekey import RekeyProgress, RekeyResult


@click.command(
    epilog="""\b
Exit codes:
  0  everything of this job is under the primary key
  1  some values are not: no key opens them, or jobs were still writing them
\b
Examples:
  etl keys list
  etl rekey
"""
)
@options.config
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON line.")
@click.pass_context
def rekey(context: click.Context, config_path: Path, as_json: bool) -> None:
    """Re-encrypt the job's tokens and quarantined bodies with the primary key.

    The work is done in many small transactions. The command can be stopped and started again at any
    time, and can run during a load. A value that no key of
    the keyring opens is left unchanged and counted. Other jobs that share the database, and still
    use an older key, are named: run it with the configuration of each.
    """
    settings = options.load_settings(config_path)
    from etl.operations.rekey import MAX_BATCHES_AT_ONCE, rekey_database
    from etl.terminal import progress

    engine, keyring = options.open_with_keys(settings, MAX_BATCHES_AT_ONCE)
    with progress.steps() as show:

        def show_progress(state: RekeyProgress) -> None:
            done = state.tally
            show(
                state.done,
                state.total,
                f"pass {state.number}: {counted(done.rows, 'row')}, "
                f"{counted(done.entries, 'quarantined body', 'quarantined bodies')}",
            )

        outcome = rekey_database(settings, engine, keyring, show_progress)
    with lines.output_may_be_lost("the summary"):
        if as_json:
            lines.json_line(outcome.as_dict())
        else:
            lines.line(_sentence(outcome))
    for problem in _problems(outcome):
        lines.say(f"error: {problem}")
    if outcome.elsewhere:
        lines.say(_elsewhere(outcome))
    if outcome.one_way:
        lines.say(
            "one-way tokens stay as they are, so keep the key that made them (see: etl keys list): "
            f"{', '.join(outcome.one_way)}"
        )
    context.exit(outcome.exit_code)


def _sentence(outcome: RekeyResult) -> str:
    return (
        f"re-encrypted {counted(outcome.rows, 'row')} and "
        f"{counted(outcome.entries, 'quarantined body', 'quarantined bodies')} with key "
        f"{outcome.key_id!r} in {outcome.seconds:.1f} s"
    )


def _elsewhere(outcome: RekeyResult) -> str:
    places = ", ".join(
        f"{place} {'unknown' if count is None else format(count, ',')}"
        for place, count in outcome.elsewhere.items()
    )
    return f"older keys are still in use elsewhere in this database, so keep them: {places}"


def _problems(outcome: RekeyResult) -> list[str]:
    problems = []
    if outcome.unopened:
        places = ", ".join(f"{place} {count:,}" for place, count in outcome.unopened.items())
        problems.append(
            f"left unchanged, because no key in this keyring opens them: {places}; see: etl keys "
            "list"
        )
    if outcome.remaining:
        problems.append(
            f"meanwhile jobs wrote {counted(outcome.remaining, 'value')} of other keys: give every "
            "job the new keyring, restart the jobs, then run rekey again"
        )
    return problems
