"""Remembers looks at the queue that were given up, because each look costs a receive."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable

from etl.config import Settings
from etl.errors import EtlError, LastReceives, UsageError
from etl.postgres.engine import transaction
from etl.postgres.findings import Findings
from etl.postgres.queries import queries
from etl.postgres.watchdog import limited_engine
from etl.runs import Counts, Run, Totals
from etl.sqs.consumer import Consumer

log = logging.getLogger(__name__)

# In etl.runs, of a look that was refused.
COMMAND = "dry run"


def check_earlier(settings: Settings, is_stopped: Callable[[], bool]) -> None:
    """Refuse to look again after a look that was refused, until a run has begun.

    :raises UsageError: the last that this job did was a look that was given up
    """
    if settings.database.url is None:
        return
    refused_at = None
    try:
        with (
            limited_engine(settings.database, is_stopped) as engine,
            transaction(engine) as connection,
        ):
            refused_at = connection.execute(
                queries()["refused_look"], {"job": settings.job_name}
            ).scalar()
    except EtlError as error:
        # Usually there are no tables yet, or the database does not answer, which was logged before.
        log.debug("cannot tell whether the last look was refused: %s", error)
    if refused_at is not None:
        raise UsageError(
            f"the last look, on {refused_at:%Y-%m-%d at %H:%M} UTC, was given up because its "
            "messages have few receives left, and no run has begun since; run the job before you "
            "look again; to look all the same, add --use-last-receives"
        )


def note_refused(
    settings: Settings, consumer: Consumer, released: Findings, refusal: LastReceives
) -> None:
    """Remember that a look was given up, so that it is not repeated before a run."""
    if settings.database.url is None:
        return
    look = Run(str(uuid.uuid4()), settings.config_hash, COMMAND)
    counts = Counts(received=consumer.received, released=consumer.released)
    try:
        with limited_engine(settings.database) as engine:
            look.start(engine, settings)
            totals = Totals(counts, released_findings=released)
            look.finish(engine, totals, refusal.stop_reason, str(refusal), refusal.exit_code)
    except EtlError as error:
        log.warning("the database does not know that this look was refused: %s", error)
