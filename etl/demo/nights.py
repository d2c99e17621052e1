"""A week of made-up nights for the notebooks; each night is one run, and some have faults.

The events of a night are sent to an SQS whose clock is set back by the right number of days, and
the real job drains them. So rows and quarantined messages have the date of that night, although the
runs all start today, one after another.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping

import sqlalchemy as sa

from etl.embedded.sqs import EmbeddedSqs
from etl.errors import EmbeddedError

# All events are sent before the job starts, so the first empty receive means an empty queue.
IDLE_SECONDS = 1

# What the producers send in one night: for each producer the options of ``send``.
Night = tuple[str, ...]

_DAYS_BEFORE_TODAY = sa.text(
    "select count(distinct create_date) from user_logins "
    "where create_date < cast(now() at time zone 'UTC' as date)"
)

WEEK: tuple[Night, ...] = (
    ("--sample 1500 --seed 11",),
    ("--sample 1700 --seed 12 --bad-share 0.03",),
    # A new release of the app writes its version in a wrong form, and is fixed step by step.
    (
        "--sample 1500 --seed 13",
        "--sample 400 --seed 23 --bad-share 0.9 --bad-kind 'app_version: version'",
    ),
    (
        "--sample 1600 --seed 14",
        "--sample 200 --seed 24 --bad-share 0.9 --bad-kind 'app_version: version'",
    ),
    # A few people use many accounts.
    ("--sample 1700 --seed 15 --bad-share 0.01", "--sample 90 --seed 25 --bad-share 0 --rings"),
    # A producer sends some of its events twice.
    ("--sample 1600 --seed 16", "--sample 300 --seed 16"),
    (
        "--sample 1700 --seed 17",
        "--sample 150 --seed 27 --bad-share 0.8 --bad-kind 'device_id: missing'",
    ),
)


def call(environment: Mapping[str, str], *arguments: str) -> str:
    """Run one of our commands as a user would; return what it printed on standard output.

    :raises EmbeddedError: it ended with an exit code other than 0
    """
    completed = subprocess.run(
        [sys.executable, "-m", "etl", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if completed.returncode:
        raise EmbeddedError(
            f"'etl {' '.join(arguments)}' ended with exit code {completed.returncode}: "
            "its own error message is above"
        )
    return completed.stdout


def load(environment: Mapping[str, str], nights: tuple[Night, ...]) -> None:
    """Send and load the nights, so that the last one has yesterday's date.

    :param environment: the variables that name the database and the keyring
    :raises EmbeddedError: the SQS did not start, or a command failed
    """
    for days_behind, night in zip(range(len(nights), 0, -1), nights, strict=True):
        with EmbeddedSqs(days_behind=days_behind) as sqs:
            variables = {
                **environment,
                **sqs.environment,
                "ETL_QUEUE__URL": sqs.create_queue("nights"),
                "ETL_QUEUE__WAIT_SECONDS": "1",
            }
            for options in night:
                call(variables, "send", *shlex.split(options))
            call(variables, "run", "--idle-seconds", str(IDLE_SECONDS), "--json")


def missing(engine: sa.Engine) -> tuple[Night, ...]:
    """Return the nights that the database lacks: all, or the rest after an interrupted load."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("user_logins"):
            return WEEK
        return WEEK[connection.execute(_DAYS_BEFORE_TODAY).scalar_one() :]
