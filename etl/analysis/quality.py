"""How the job's runs went and which checks their messages failed, as tidy frames for notebooks.

Postgres does the counting and sends only the result. Runs are numbered from 1, starting with the
oldest of those asked for. A share, from 0 to 1, is of the messages that a run loaded or
quarantined; redeliveries do not count. A message that failed several checks counts for each of
them.

The functions that take a source raise what :meth:`etl.analysis.source.Source.reading` raises.
"""

from __future__ import annotations

import pandas as pd

from etl.analysis.source import Source

MAX_RUNS = 30
CHECK = ["column", "check"]


def runs(source: Source, *, max_runs: int = MAX_RUNS) -> pd.DataFrame:
    """List the newest runs, the oldest of them first.

    Columns: ``run``, ``run_id``, ``started_at`` (UTC, to the second), ``seconds`` (null without an
    end), ``received``, ``loaded``, ``already_handled``, ``quarantined`` and ``released``
    (deliveries), ``quarantined_share`` (null for a run without messages), ``adds_up``,
    ``stop_reason``.
    """
    return _ask(source, "quality_runs", max_runs)


def checks(source: Source, *, max_runs: int = MAX_RUNS) -> pd.DataFrame:
    """List the checks that messages of the newest runs failed, those with the most messages first.

    Columns: ``column``, ``check``, ``messages``, ``runs`` (how many runs had such messages),
    ``latest_run_at`` (UTC, when the latest of these runs started).
    """
    return _ask(source, "quality_checks", max_runs)


def checks_by_run(source: Source, *, max_runs: int = MAX_RUNS) -> pd.DataFrame:
    """Count the messages that failed each check in each of the newest runs.

    Columns: ``run``, ``column``, ``check``, ``messages``, ``share`` (null for a run without
    messages). There is a row for each run and each check failed in any of the runs, even if the
    count is 0.
    """
    return _ask(source, "quality_checks_by_run", max_runs)


def _ask(source: Source, query: str, max_runs: int) -> pd.DataFrame:
    return source.ask(query, max_runs=max_runs, job=source.settings.job_name)


def surges(
    by_run: pd.DataFrame, *, times_usual: float = 3.0, min_messages: int = 10
) -> pd.DataFrame:
    """Find the runs in which a check failed much more often than usual.

    Columns in: those of :func:`checks_by_run`. Columns out: the same, ``usual_share`` (the median
    over the runs) and ``times`` (share divided by usual share; infinite if that is 0). Keeps rows
    with at least *min_messages* messages and more than *times_usual* times the usual share, ordered
    by ``run``, then by ``messages`` from most to fewest.
    """
    usual = by_run.groupby(CHECK)["share"].transform("median")
    compared = by_run.assign(usual_share=usual, times=by_run["share"] / usual)
    is_surge = (by_run["messages"] >= min_messages) & (by_run["share"] > times_usual * usual)
    return (
        compared[is_surge]
        .sort_values(["run", "messages"], ascending=[True, False], kind="stable")
        .reset_index(drop=True)
    )
