"""How the runs went, and which checks their messages broke: tidy frames for notebooks and reports.

Postgres counts; only the result travels. Runs are numbered from 1, the oldest of those asked for.
Shares are of a run's messages, loaded or quarantined, from 0 to 1; redeliveries do not count. A
message that broke several checks counts for each of them.

The functions that ask raise as :meth:`etl.analysis.source.Source.reading` does.
"""

from __future__ import annotations

import pandas as pd

from etl.analysis.source import Source

MAX_RUNS = 30
CHECK = ["column", "check"]


def runs(source: Source, *, most: int = MAX_RUNS) -> pd.DataFrame:
    """The newest runs, the oldest of them first.

    Columns: ``run``, ``run_id``, ``started_at`` (UTC, to the second), ``seconds`` (null without an
    end), ``received``, ``loaded``, ``already_handled``, ``quarantined`` and ``released``
    (deliveries), ``quarantined_share`` (null for a run without messages), ``adds_up``,
    ``stop_reason``.
    """
    return source.ask("quality_runs", most=most)


def checks(source: Source, *, most: int = MAX_RUNS) -> pd.DataFrame:
    """The checks that messages of the newest runs broke, those that fail most first.

    Columns: ``column``, ``check``, ``messages``, ``runs`` (in how many of them),
    ``latest_run_at`` (UTC, the start of the latest of them).
    """
    return source.ask("quality_checks", most=most)


def checks_by_run(source: Source, *, most: int = MAX_RUNS) -> pd.DataFrame:
    """How often each check was broken in each of the newest runs.

    Columns: ``run``, ``column``, ``check``, ``messages``, ``share`` (null for a run without
    messages). A row for each run and each check that any of them broke, zeros too.
    """
    return source.ask("quality_checks_by_run", most=most)


def surges(
    by_run: pd.DataFrame, *, times_usual: float = 3.0, least_messages: int = 10
) -> pd.DataFrame:
    """Find the runs in which a check was broken much more often than it usually is.

    Columns in: those of :func:`checks_by_run`. Columns out: the same, ``usual_share`` (the median
    over the runs) and ``times`` (share by usual share; infinite if that is 0). The rows of at least
    so many messages and above so many times the usual, in the order of ``run``, the worst first.
    """
    usual = by_run.groupby(CHECK)["share"].transform("median")
    all_rows = by_run.assign(usual_share=usual, times=by_run["share"] / usual)
    high = (by_run["messages"] >= least_messages) & (by_run["share"] > times_usual * usual)
    return (
        all_rows[high]
        .sort_values(["run", "messages"], ascending=[True, False], kind="stable")
        .reset_index(drop=True)
    )
