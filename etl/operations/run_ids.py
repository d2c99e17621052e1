"""Finds the run that a person means by its id, or by the beginning of its id."""

from __future__ import annotations

import contextlib
import re
import uuid

import sqlalchemy as sa

from etl.errors import UsageError
from etl.postgres.tables import query_frame
from etl.text import counted

RUN_ID_DIGITS = 32  # of a UUID, in hexadecimal
MAX_RUNS_SHOWN = 5

_BEGINNING = re.compile(r"[0-9a-f-]*[0-9a-f][0-9a-f-]*")


def read_run_id(text: str) -> str:
    """Read the id of a run in any notation of a UUID, or the beginning of one.

    :returns: a whole id as the database writes it; a beginning in lower case
    :raises UsageError: it can be neither
    """
    given = text.strip().lower()
    with contextlib.suppress(ValueError):
        return str(uuid.UUID(given))
    if _BEGINNING.fullmatch(given) and len(given.replace("-", "")) < RUN_ID_DIGITS:
        return given
    raise UsageError(f"{text!r} cannot be the beginning of a run's id; see: etl history")


def find_run(
    engine: sa.Engine, beginning: str, job: str | None = None, *, of_entries: bool = False
) -> str:
    """Return the id of the one run whose id begins so.

    Where several do, those of the job come before those of other jobs. A whole id is returned as
    it is, whether the run exists or not.

    :param beginning: as of :func:`read_run_id`
    :param of_entries: look in the quarantine too, which needs a right on it
    :raises UsageError: no run can have such an id, none has, or several have, which are listed
    :raises DatabaseUnavailable: an outage
    """
    run_id = read_run_id(beginning)
    digits = run_id.replace("-", "")
    if len(digits) == RUN_ID_DIGITS:
        return run_id
    query = "runs_of_entries_beginning" if of_entries else "runs_beginning"
    found = query_frame(engine, query, {"digits": digits})
    own = found[found["job"] == job]
    if not own.empty:
        found = own
    run_ids = list(dict.fromkeys(map(str, found["run_id"])))
    if len(run_ids) == 1:
        return run_ids[0]
    if not run_ids:
        raise UsageError(f"no run has an id that begins with {beginning!r}; see: etl history")
    shown = ", ".join(
        f"{row.run_id} ({row.job}, {row.at:%Y-%m-%d %H:%M})"
        for row in found.head(MAX_RUNS_SHOWN).itertuples()
    )
    rest = ", ..." if len(run_ids) > MAX_RUNS_SHOWN else ""
    raise UsageError(
        f"{counted(len(run_ids), 'run')} have an id that begins with {beginning!r}; give more of "
        f"it: {shown}{rest}"
    )
