"""deploy/cron: the line of the crontab, run by sh with the environment that cron gives it."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.job_processes import expected_users, logins, make_tables, users
from tests.conftest import KEYRING, ROOT, Job

CRONTAB = (ROOT / "deploy/cron/etl").read_text()
FIELDS = 6  # minute, hour, day, month, weekday and user come before the command

pytestmark = pytest.mark.long


def crontab() -> tuple[dict[str, str], str]:
    """The variables and the command of the crontab, as cron reads it."""
    lines = [line for line in CRONTAB.splitlines() if line and not line.startswith("#")]
    *settings, entry = lines
    assert "%" not in entry  # cron makes it a line end
    return dict(line.split("=", 1) for line in settings), entry.split(maxsplit=FIELDS)[FIELDS]


@pytest.fixture
def host(job: Job, tmp_path: Path) -> Iterator[Path]:
    """The folders that the crontab names, below another root."""
    make_tables(job)
    etc, log, program = (tmp_path / name for name in ("etc/etl", "var/log/etl", "opt/etl/bin/etl"))
    for folder in (etc, log, program.parent):
        folder.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m etl "$@"\n')
    program.chmod(0o755)
    shutil.copy(ROOT / "config.yaml", etc)
    (etc / "keyring.json").write_text(KEYRING.dump())
    (etc / "keyring.json").chmod(0o600)
    given = {
        name: value
        for name, value in job.environment.items()
        if name not in ("PATH", "ETL_KEYRING")
    } | {"ETL_KEYRING_FILE": f"{etc}/keyring.json", "ETL_RUN__IDLE_SECONDS": "1"}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in given.items()]
    (etc / "environment").write_text("".join(lines))
    yield tmp_path


def cron(host: Path) -> tuple[int, str, str]:
    """Run the command as cron would; returns the exit code, what cron mails, and the log."""
    settings, command = crontab()
    for folder in ("/etc/etl", "/var/log/etl", "/opt/etl"):
        command = command.replace(folder, f"{host}{folder}")
    environment = {"HOME": "/nonexistent", "LOGNAME": "etl", **settings}
    del environment["MAILTO"]
    done = subprocess.run(
        [settings["SHELL"], "-c", command],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    log = host / "var/log/etl/etl.log"
    return done.returncode, done.stdout, log.read_text() if log.exists() else ""


def test_the_line_loads_the_queue_and_mails_nothing(job: Job, host: Path) -> None:
    """The log is for its user only."""
    job.send(*logins(30))
    code, mail, log = cron(host)
    assert (code, mail) == (0, ""), log
    assert users(job) == expected_users(30)
    assert '"loaded": 30' in log
    assert (host / "var/log/etl/etl.log").stat().st_mode & 0o077 == 0


def test_a_run_that_fails_is_mailed_in_one_line(job: Job, host: Path) -> None:
    """Its reason is in the log."""
    with (host / "etc/etl/environment").open("a") as file:
        file.write("ETL_BATCH__ROWS=0\n")
    _, mail, log = cron(host)
    assert mail == f"etl run ended with exit code 2: see {host}/var/log/etl/etl.log\n"
    assert "ETL_BATCH__ROWS" in log


def test_a_run_that_overlaps_is_left_out(job: Job, host: Path) -> None:
    """The lock is on the folder of the settings; nothing is started and nothing is mailed."""
    job.send(*logins(3))
    folder = os.open(host / "etc/etl", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert cron(host) == (0, "", "")
    finally:
        os.close(folder)
    assert job.left() == 3
    assert job.rows("select count(*) from etl.runs") == [(0,)]
