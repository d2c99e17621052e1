"""Finds the run that a person means by its id, or by the beginning of its id."""

from __future__ import annotations

import string

import sqlalchemy as sa

from etl.errors import UsageError
from etl.postgres.tables import query_frame

RUN_ID_DIGITS = 32  # of a UUID, in hexadecimal
MAX_RUNS_SHOWN = 5


def find_run(
    engine: sa.Engine, beginning: str, job: str | None = None, *, of_entries: bool = False
) -> str:
    """Return the id of the one run whose id begins so.

    Where several do, those of the job come before those of other jobs. A whole id is returned as
    it is, whether the run exists or not.

    :param beginning: hexadecimal digits, and dashes anywhere
    :param of_entries: look in the quarantine too, which needs a right on it
    :raises UsageError: no run has such an id, or several have, which are listed
    :raises DatabaseUnavailable: an outage
    """
    digits = beginning.replace("-", "").lower()
    if not set(digits) <= set(string.hexdigits):
        raise UsageError(f"{beginning!r} cannot be the beginning of a run's id; see: etl history")
    if len(digits) == RUN_ID_DIGITS:
        return beginning
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
        f"{len(run_ids)} runs have an id that begins with {beginning!r}; give more of it: "
        f"{shown}{rest}"
    )
