"""What is said when keys of a table are recorded, and might not be what was meant."""

from __future__ import annotations

import logging
from collections.abc import Collection

import sqlalchemy as sa

from etl.config import Settings
from etl.postgres.queries import queries

log = logging.getLogger(__name__)


def warn_of_replaced(settings: Settings, used: set[str], key_ids: Collection[str]) -> None:
    """Warn if the keys that were used for the table before are all gone.

    :param key_ids: of the keyring
    """
    if used and used.isdisjoint(key_ids):
        log.warning(
            "this keyring has none of the keys that were used for table %r before (%s), so equal "
            "values get other tokens from now on; if it replaces a lost keyring, restore its copy",
            settings.table.full_name,
            ", ".join(sorted(used)),
        )


def warn_of_second_table(settings: Settings, targets: set[str]) -> None:
    """Warn if the tables that the job has loaded into are all others."""
    job, table = settings.job_name, settings.table.full_name
    # A job with routes loads into several from the beginning.
    if targets and targets.isdisjoint(t.full_name for t in settings.tables_of_job):
        log.warning(
            "job %r has loaded into %s before, and begins to load into %r; events with equal ids, "
            "or an equal ledger.key, count as one event in both; if this is not the same job, stop "
            "it and set 'job.name' to a name of its own",
            job,
            ", ".join(map(repr, sorted(targets))),
            table,
        )


def warn_of_untested(connection: sa.Connection, settings: Settings) -> None:
    """Warn if there are tokens that this role may not read."""
    if connection.execute(queries()["has_history"]).scalar_one():
        log.warning(
            "the keys and contexts are recorded without a test on stored tokens, because this role "
            "may not read table %r; make sure that the keyring opens them: etl unmask",
            settings.table.full_name,
        )
