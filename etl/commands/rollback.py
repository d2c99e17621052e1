"""``rollback``: take the rows of a run out of its tables again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options
from etl.terminal import lines
from etl.text import counted

if TYPE_CHECKING:
    from etl.operations.rollback import Rollback


@click.command(
    epilog="""\b
Examples:
  etl history
  etl rollback 3d7c --reason "prices of the wrong day"
  etl rollback 3d7c --free-ledger --yes --reason "sent again, corrected"
  etl rollback 3d7c --table orders --reason "prices of the wrong day"
"""
)
@options.config
@click.argument("run_id", metavar="RUN")
@options.reason()
@click.option(
    "--free-ledger",
    is_flag=True,
    help="Forget that the messages were handled, so that they are loaded when they come again "
    "under the same ids, or the same ledger.key. Without it they are not.",
)
@click.option(
    "--with-replaced",
    is_flag=True,
    help="Delete rows that replaced others, too. The former values are gone.",
)
@click.option(
    "--table",
    "table_name",
    metavar="NAME",
    help="Take rows out of this table only, of a job with several.  [default: all of them]",
)
@click.option("--yes", is_flag=True, help="Do not ask before the rows are deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON line.")
def rollback(
    config_path: Path,
    run_id: str,
    reason: str,
    free_ledger: bool,
    with_replaced: bool,
    table_name: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete the rows that a run loaded; RUN is the beginning of its id.

    Each table needs a column with 'metadata: run_id', and had it during the run. All changes are
    made in one transaction together with a row in etl.unmask_audit. What cannot be brought back:
    rows that the run replaced, and messages, which the queue has deleted. Quarantined messages
    stay in the quarantine.
    """
    settings = options.load_settings(config_path)
    from etl.operations.rollback import plan_rollback, roll_back

    chosen = settings if table_name is None else settings.of_table(table_name)
    is_whole = len(settings.tables) == len(chosen.tables)
    engine, keyring = options.open_with_keys(settings)
    plan = plan_rollback(
        chosen, engine, run_id, with_replaced=with_replaced, frees=free_ledger, is_whole=is_whole
    )
    _say_what_is_gone(plan, is_keyed=any(t.on_conflict != "error" for t in chosen.tables))
    if not yes:
        question = f"Delete {plan.rows_text}, loaded by run {plan.run_id}?"
        click.confirm(question, abort=True, err=True)
    done = roll_back(chosen, engine, keyring, plan, reason, frees=free_ledger)
    with lines.output_may_be_lost("the count of what was deleted"):
        if as_json:
            lines.json_line(done.as_dict())
        else:
            lines.line(f"deleted {done.rows_text}, loaded by run {done.run_id}")
    if free_ledger:
        lines.say(
            f"removed {counted(done.freed, 'id')} from the ledger, so the run can be loaded again"
        )
    else:
        lines.say("the ledger still knows their messages, so they are not loaded again")


def _say_what_is_gone(plan: Rollback, *, is_keyed: bool) -> None:
    if plan.missing:
        lines.say(
            f"not there any more: {counted(plan.missing, 'other row')} of this run, replaced by "
            "later events, or deleted, or the table had no column for the run's id"
        )
    if plan.updated:
        lines.say(
            f"the values replaced by {counted(plan.updated, 'row')} of it cannot be brought back"
        )
    if is_keyed and plan.rows:
        lines.say("events that were skipped because of these rows cannot be brought back")
