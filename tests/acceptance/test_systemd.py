"""deploy/systemd: a real systemd runs the service on the embedded queue and database."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.acceptance.job_processes import (
    expected_users,
    held_sessions,
    ledger_locked,
    logins,
    make_tables,
    numbers,
    until,
    users,
)
from tests.acceptance.private_systemd import (
    Systemd,
    private_systemd,
    skip_unless_possible,
)
from tests.conftest import KEYRING, ROOT, Job

UNITS = {path.name: path.read_text() for path in sorted((ROOT / "deploy/systemd").iterdir())}
# There is no journal; and a test does not wait ten minutes for a second try.
TEST = "[Service]\nStandardOutput=append:/run/log.txt\nStandardError=inherit\nRestartSec=0\n"

pytestmark = pytest.mark.long

Start = Callable[..., AbstractContextManager[Systemd]]


def test_the_units_are_valid(tmp_path: Path) -> None:
    """``systemd-analyze verify`` finds nothing; it wants the program to be there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name, text in UNITS.items():
        (tmp_path / name).write_text(text.replace("/opt/etl/bin/", f"{sys.prefix}/bin/"))
    command = ["systemd-analyze", "verify", "--recursive-errors=no", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def start(job: Job, tmp_path: Path) -> Start:
    """A function that starts systemd with the files that the service's comment lists."""
    skip_unless_possible()
    make_tables(job)
    url = make_url(job.environment["DATABASE_URL"])
    service = {"host": url.host, "port": url.port, "dbname": url.database, "user": url.username}
    known = [f"{name}={value}" for name, value in service.items()]

    @contextmanager
    def start_with(**variables: str) -> Iterator[Systemd]:
        names = [name for name in job.environment if name.startswith(("AWS_", "ETL_QUEUE"))]
        values = {name: job.environment[name] for name in names}
        values |= {"ETL_RUN__IDLE_SECONDS": "1", **variables}
        files = {
            "environment": "".join(f"{name}={value}\n" for name, value in values.items()),
            "config.yaml": (ROOT / "config.yaml").read_text(),
            "keyring.json": KEYRING.dump(),
            "pg_service.conf": "\n".join(["[etl]", *known, f"password={url.password or 'x'}", ""]),
        }
        with private_systemd(tmp_path, {**UNITS, "etl.service.d/test.conf": TEST}, files) as it:
            it.inside("chmod", "644", "/etc/etl/config.yaml")
            yield it

    return start_with


def ended(systemd: Systemd) -> tuple[str, str, str]:
    """How the service ended: the result, the exit code, and how often it was started again."""
    names = ("Result", "ExecMainStatus", "NRestarts")
    result, code, restarts = (systemd.show("etl.service", name) for name in names)
    return result, code, restarts


def test_a_run_loads_the_queue_and_shows_no_secret(job: Job, start: Start) -> None:
    """The keyring and the password are credentials, and the user exists for the run only."""
    job.send(*logins(30))
    with start() as systemd:
        systemd.systemctl("start", "etl.service", code=None)
        log = systemd.inside("cat", "/run/log.txt")
        assert ended(systemd) == ("success", "0", "0"), log
        shown = log + systemd.systemctl("show", "etl.service")
    assert (users(job), job.left()) == (expected_users(30), 0)
    assert KEYRING.dump()[20:60] not in shown


@pytest.mark.parametrize(
    ("variables", "bodies", "code"),
    [({"ETL_BATCH__ROWS": "0"}, [], "2"), ({"ETL_QUARANTINE__MIN_MESSAGES": "1"}, ["[]"] * 5, "3")],
)
def test_2_and_3_are_not_tried_again(
    job: Job, start: Start, variables: dict[str, str], bodies: list[str], code: str
) -> None:
    """They need a person: another try would only use up receives."""
    job.send(*bodies)
    with start(**variables) as systemd:
        systemd.systemctl("start", "etl.service", code=1)
        assert ended(systemd) == ("exit-code", code, "0")
        assert systemd.show("etl.service", "ActiveState") == "failed"


def test_1_is_tried_again_twice(start: Start) -> None:
    """SQS does not answer, and the next try may find that it does."""
    away = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "ETL_QUEUE__RETRY_SECONDS": "1"}
    with start(**away) as systemd:
        systemd.systemctl("start", "etl.service", code=1)
        until(lambda: systemd.show("etl.service", "ActiveState") == "failed")
        log = systemd.inside("cat", "/run/log.txt")
        assert (log.count("error:"), *ended(systemd)[1:]) == (3, "1", "3"), log


def test_a_stop_finishes_the_batch_and_a_second_start_does_nothing(job: Job, start: Start) -> None:
    """The batch waits for a lock at the stop; what was gathered behind it is released."""
    job.send(*logins(60))
    with start(ETL_BATCH__ROWS="30", ETL_RUN__IDLE_SECONDS="600") as systemd:
        with ledger_locked(job) as release:
            systemd.systemctl("start", "--no-block", "etl.service")
            until(lambda: held_sessions(job) and numbers(job) == (0, 60))
            systemd.systemctl("start", "--no-block", "etl.service")
            systemd.systemctl("stop", "--no-block", "etl.service")
            until(lambda: "SIGTERM: finishing" in systemd.inside("cat", "/run/log.txt"))
            release()
        until(lambda: systemd.show("etl.service", "ActiveState") == "inactive")
        assert ended(systemd)[:2] == ("success", "0")
    assert job.rows("select count(*), sum(loaded) from etl.runs") == [(1, 30)]
    assert numbers(job) == (30, 0)
