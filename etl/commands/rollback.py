"""``rollback``: take the rows of a run out of the table again."""

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
@click.option("--yes", is_flag=True, help="Do not ask before the rows are deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON line.")
def rollback(
    config_path: Path,
    run_id: str,
    reason: str,
    free_ledger: bool,
    with_replaced: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete the rows that a run loaded; RUN is the beginning of its id.

    The table needs a column with 'metadata: run_id', and had it during the run. All changes are
    made in one transaction together with a row in etl.unmask_audit. What cannot be brought back:
    rows that the run replaced, and messages, which the queue has deleted. Quarantined messages
    stay in the quarantine.
    """
    settings = options.load_settings(config_path)
    from etl.operations.rollback import plan_rollback, roll_back

    engine, keyring = options.open_with_keys(settings)
    plan = plan_rollback(settings, engine, run_id, with_replaced=with_replaced, frees=free_ledger)
    target = f"{settings.table.schema_name}.{settings.table.name}"
    _say_what_is_gone(plan, is_keyed=settings.table.on_conflict != "error")
    if not yes:
        question = f"Delete {counted(plan.rows, 'row')} of {target}, loaded by run {plan.run_id}?"
        click.confirm(question, abort=True, err=True)
    done = roll_back(settings, engine, keyring, plan, reason, frees=free_ledger)
    with lines.output_may_be_lost("the count of what was deleted"):
        if as_json:
            lines.json_line(done.as_dict())
        else:
            lines.line(f"deleted {counted(done.rows, 'row')} of {target}, of run {done.run_id}")
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
        lines.say("nor can events that were skipped because of these rows")
