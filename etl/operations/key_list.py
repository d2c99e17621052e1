"""Lists the keys of the keyring and of the database, and how much needs each of them.

Jobs that share a database often share a keyring. So a key counts as used wherever a job has stored
something under it: in its quarantine, and in every column that it has masked, now or earlier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl.analysis.key_usage import quarantine_usage, usage_of
from etl.config import Settings, quoted_if_needed
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused
from etl.postgres import key_checks
from etl.postgres.engine import transaction
from etl.postgres.key_checks import KeyCheck, check_value
from etl.postgres.tables import check_target_exists, query_frame
from etl.schema import masked_columns

UNKNOWN = "unknown"
QUARANTINE = "etl.quarantine"

_FORBIDDEN = "this role may not read it"
_WHY_UNKNOWN = {
    "missing": "it does not exist; if it was renamed, run 'etl init' with the new name in the "
    "configuration; once nothing of it is left, delete its row from etl.job_columns",
    "forbidden": _FORBIDDEN,
    "filtered": "row-level security hides rows from this role",
}

_Key = tuple[str | None, bool]  # a key id, and whether it is another key than the keyring's
Counts = Mapping[str | None, int]  # values by key id; None: values that are not tokens


@dataclass(frozen=True)
class Place:
    """A column, or a job's part of the quarantine, and what is stored there under each key."""

    name: str
    jobs: tuple[str, ...]  # whose it is
    column: str  # empty for the quarantine
    is_own: bool  # rekey with this configuration reaches it
    counts: Counts | None  # None: unknown
    problem: str = ""  # why it is unknown
    # Key ids of the keyring under which this place has another key.
    foreign: frozenset[str] = frozenset()
    # How many of the counted values are one-way tokens, by key id.
    one_way: Mapping[str | None, int] = field(default_factory=dict)

    def older(self, primary: str) -> int | None:
        """Count the values that a rekey would change; None if that is unknown."""
        if self.counts is None:
            return None
        others = {primary, None, *self.foreign}
        return sum(
            n - self.one_way.get(key_id, 0)
            for key_id, n in self.counts.items()
            if key_id not in others
        )


def key_list(keyring: Keyring, places: Iterable[Place]) -> pd.DataFrame:
    """List the keys of the keyring and of the database: ``key_id``, ``status``, then each place.

    The quarantine is one place, whichever jobs have entries. A place that cannot be read has
    "unknown" in place of its numbers.
    """
    usage: dict[str, Counter[_Key] | None] = {}
    one_way: set[str | None] = set()
    for place in places:
        one_way |= {key for key, count in place.one_way.items() if count} - place.foreign
        if place.counts is None:
            usage[place.name] = None
            continue
        here = {(key, key in place.foreign): count for key, count in place.counts.items()}
        usage[place.name] = Counter(here) + (usage.get(place.name) or Counter())
    used = {key for counts in usage.values() for key in counts or {}}
    unknown = {key_id for key_id, _ in used if key_id and key_id not in keyring.key_ids}
    foreign = [(key_id, True) for key_id in keyring.key_ids if (key_id, True) in used]
    status: dict[_Key, str] = {
        **{(key_id, False): "older key" for key_id in keyring.key_ids},
        (keyring.primary, False): "primary",
        **dict.fromkeys(foreign, "another key of this id, not in the keyring"),
        **{(key_id, False): "not in the keyring" for key_id in sorted(unknown)},
        **({(None, False): "not a token"} if (None, False) in used else {}),
    }
    for key_id in one_way & {*keyring.key_ids}:
        status[key_id, False] += ", of one-way tokens: keep it"
    counts = {
        name: [UNKNOWN if numbers is None else numbers[key] for key in status]
        for name, numbers in usage.items()
    }
    ids = [key_id for key_id, _ in status]
    return pd.DataFrame({"key_id": ids, "status": list(status.values()), **counts})


def key_places(engine: sa.Engine, settings: Settings, keyring: Keyring) -> list[Place]:
    """Count what all jobs of the database have stored under each key, this job's columns first.

    Reads every table with masked columns once.

    :raises TableError: the job's tables do not exist, or its target does not
    :raises DatabaseRefused: a privilege for the target is missing
    :raises DatabaseUnavailable: an outage
    """
    registered = query_frame(engine, "masked_places")
    with transaction(engine) as connection:
        for table in settings.tables:
            check_target_exists(connection, table)
        checks = key_checks.read_all(connection)
    is_own = pd.Series(False, index=registered.index)
    places: list[Place] = []
    names = Counter(table.name for table in settings.tables)
    for table in settings.tables:
        masked = [column.name for column in masked_columns(table)]
        is_here = (
            (registered["schema"] == table.schema_name)
            & (registered["table"] == table.name)
            & registered["column"].isin(masked)
        )
        is_own |= is_here
        # Counted whether it is registered or not, and whatever its state: it must be readable.
        filtered = {*registered["column"][is_here & (registered["state"] == "filtered")]}
        own = [(column, "filtered" if column in filtered else "readable") for column in masked]
        jobs = dict.fromkeys(masked, (settings.job_name,))
        shown = (table.name,) if names[table.name] == 1 else (table.schema_name, table.name)
        places += _of_table(engine, (table.schema_name, table.name), own, jobs, shown)
    others: Iterable[Any] = registered[~is_own].itertuples(index=False)
    for (schema, name), rows in groupby(others, lambda row: (row.schema, row.table)):
        of_table = list(rows)
        states = [(str(row.column), str(row.state)) for row in of_table]
        jobs = {str(row.column): tuple(row.jobs) for row in of_table}
        places += _of_table(engine, (str(schema), str(name)), states, jobs)
    places += _of_quarantine(engine, settings.job_name)
    return [
        place if place.is_own else replace(place, foreign=_foreign_keys(place, keyring, checks))
        for place in places
    ]


def _foreign_keys(place: Place, keyring: Keyring, checks: list[KeyCheck]) -> frozenset[str]:
    """The key ids of the keyring that were first used there, or by its jobs, with another key.

    A key counts as the same one if that is unknown, or if one of several uses was with it.
    """
    known: dict[str, set[str]] = {}
    for first in checks:
        if first.job in place.jobs or place.name == f"{first.target}.{place.column}":
            known.setdefault(first.key_id, set()).add(first.check_value)
    return frozenset(
        key_id
        for key_id in keyring.key_ids
        if key_id in known and check_value(keyring, key_id) not in known[key_id]
    )


def _of_table(
    engine: sa.Engine,
    schema_and_name: tuple[str, str],
    states: list[tuple[str, str]],
    jobs: Mapping[str, tuple[str, ...]],
    shown: tuple[str, ...] = (),
) -> Iterator[Place]:
    """Count what is in the columns of a table.

    :param shown: the name of a table of this job, as the places are to have it
    """
    is_own = bool(shown)
    counts: dict[str, dict[str | None, int]] = {
        column: {} for column, state in states if state == "readable"
    }
    one_way: dict[str, dict[str | None, int]] = {}
    problem = ""
    try:
        usage = usage_of(engine, *schema_and_name, list(counts))
    except DatabaseRefused:
        # A view or a foreign table may be refused in spite of the rights on itself.
        if is_own:
            raise
        problem = _FORBIDDEN
    else:
        for column, key_id, count, one_way_count in usage.itertuples(index=False):
            counts[column][_none_for_null(key_id)] = count
            one_way.setdefault(column, {})[_none_for_null(key_id)] = one_way_count
    for column, state in states:
        yield Place(
            name=".".join([*map(quoted_if_needed, shown or schema_and_name), column]),
            jobs=jobs[column],
            column=column,
            is_own=is_own,
            counts=None if problem else counts.get(column),
            problem=problem or _WHY_UNKNOWN.get(state, ""),
            one_way=one_way.get(column, {}),
        )


def _of_quarantine(engine: sa.Engine, own_job: str) -> Iterator[Place]:
    counts: dict[str, dict[str | None, int]] = {own_job: {}}
    for job, key_id, count in quarantine_usage(engine).itertuples(index=False):
        counts.setdefault(job, {})[_none_for_null(key_id)] = count
    for job, by_key in counts.items():
        yield Place(QUARANTINE, (job,), "", job == own_job, by_key)


def _none_for_null(key_id: Any) -> str | None:
    return None if pd.isna(key_id) else str(key_id)
