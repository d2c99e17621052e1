"""A week of made-up nights for the notebooks: each a run of its own, some with faults.

The events of a night are sent to an SQS whose clock is as many days behind, and are drained by the
real job; so rows and quarantined messages have the day of their sending. The runs themselves start
one after the other, now.
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

# All is sent before the job starts, so the queue is empty when it first seems so.
IDLE_SECONDS = 1


# What the producers send in a night: the options of ``send``, for each of them.
Night = tuple[str, ...]

_DAYS_BEFORE_TODAY = sa.text(
    "select count(distinct create_date) from user_logins "
    "where create_date < cast(now() at time zone 'UTC' as date)"
)

WEEK: tuple[Night, ...] = (
    ("--sample 1500 --seed 11",),
    ("--sample 1700 --seed 12 --bad-share 0.03",),
    # A release of the app writes its version in a way of its own, and is mended step by step.
    (
        "--sample 1500 --seed 13",
        "--sample 400 --seed 23 --bad-share 0.9 --bad-kind 'app_version: version'",
    ),
    (
        "--sample 1600 --seed 14",
        "--sample 200 --seed 24 --bad-share 0.9 --bad-kind 'app_version: version'",
    ),
    # A few hands work many accounts.
    ("--sample 1700 --seed 15 --bad-share 0.01", "--sample 90 --seed 25 --bad-share 0 --rings"),
    # A producer sends part of its events twice.
    ("--sample 1600 --seed 16", "--sample 300 --seed 16"),
    (
        "--sample 1700 --seed 17",
        "--sample 150 --seed 27 --bad-share 0.8 --bad-kind 'device_id: missing'",
    ),
)


def call(environment: Mapping[str, str], *arguments: str) -> str:
    """Run one of our commands as a user would; returns what it printed on standard output.

    :raises EmbeddedError: it ended with another exit code than 0
    """
    done = subprocess.run(
        [sys.executable, "-m", "etl", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EmbeddedError(f"'python -m etl {' '.join(arguments)}' ended with {done.returncode}")
    return done.stdout


def load(environment: Mapping[str, str], nights: tuple[Night, ...]) -> None:
    """Send and load the nights, the last of them as yesterday's.

    :param environment: where the database and the keyring are
    :raises EmbeddedError: a service did not start, or a command failed
    """
    for days_behind, night in zip(range(len(nights), 0, -1), nights, strict=True):
        with EmbeddedSqs(days_behind=days_behind) as sqs:
            there = {
                **environment,
                **sqs.environment,
                "ETL_QUEUE__URL": sqs.create_queue("nights"),
                "ETL_QUEUE__WAIT_SECONDS": "1",
            }
            for options in night:
                call(there, "send", *shlex.split(options))
            call(there, "run", "--idle-seconds", str(IDLE_SECONDS), "--json")


def missing(engine: sa.Engine) -> tuple[Night, ...]:
    """The nights that a database lacks: all of them, or those left when loading was broken off."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("user_logins"):
            return WEEK
        return WEEK[connection.execute(_DAYS_BEFORE_TODAY).scalar_one() :]
