"""With the login rds-iam, each connection carries a new token of AWS IAM, through TLS only."""

from __future__ import annotations

import datetime as dt
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from etl import config
from etl import job as etl_job
from etl.analysis.opening import open_source
from etl.aws import rds
from etl.errors import TableError
from tests.conftest import ROOT, Job
from tests.integration.rds_front import NOT_GRANTED, NOT_TAKEN, RdsFront
from tests.unit.builders import event

EVENTS = [event(user_id=f"u{number}") for number in range(30)]
OTHER_COMMANDS = (
    "history", "report duplicates", "quarantine list", "keys list", "audit",
    "run --dry-run --idle-seconds 1", "forget 1.2.3.4 --column ip",
)  # fmt: skip
START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC).timestamp()


@pytest.fixture
def front(job: Job, tmp_path: Path) -> Iterator[RdsFront]:
    """A server like RDS in front of the test's database, with the clock of this machine."""
    with RdsFront(job.environment["DATABASE_URL"], tmp_path, job.environment) as made:
        yield made


def check_hidden(text: str, front: RdsFront) -> None:
    """Check that no token is in a text, nor its signature alone."""
    assert front.logins
    for login in front.logins:
        assert login.token.rpartition("=")[2] not in text
    assert "X-Amz-" not in text


@pytest.mark.long
def test_a_run_logs_in_with_tokens_only(job: Job, front: RdsFront) -> None:
    """Two workers load everything; RDS takes each token, and none is seen anywhere else."""
    job.send(*EVENTS)
    options = ("--workers", "2", "--json", "--idle-seconds", "1")
    done = job.command("run", *options, **front.settings, ETL_LOG__LEVEL="debug")
    assert done.returncode == 0, done.stderr
    assert job.rows("select count(*) from user_logins") == [(30,)]
    assert {login.problem for login in front.logins} == {None}
    assert len(front.logins) >= 4  # the run's own, and two of each worker
    assert front.without_tls == 0
    check_hidden(done.stdout + done.stderr, front)
    check_hidden(front.wire.decode("latin-1"), front)


@pytest.mark.parametrize(
    "command",
    [
        "init",
        *(pytest.param(command, marks=pytest.mark.long) for command in OTHER_COMMANDS),
    ],
)
def test_every_command_logs_in_with_a_token(command: str, job: Job, front: RdsFront) -> None:
    """Each way that a command opens the database is among these."""
    assert job.command("init").returncode == 0
    done = job.command(*command.split(), **front.settings, ETL_LOG__LEVEL="debug")
    assert done.returncode == 0, done.stderr
    assert {login.problem for login in front.logins} == {None}
    assert front.without_tls == 0
    check_hidden(done.stdout + done.stderr, front)
    check_hidden(front.wire.decode("latin-1"), front)


def test_a_notebook_logs_in_with_a_token(job: Job, front: RdsFront) -> None:
    """With the credentials of its environment."""
    source = open_source(ROOT / "config.yaml", {**job.environment, **front.settings})
    with pytest.raises(TableError), source.reading() as connection:
        connection.exec_driver_sql("select from user_logins")
    source.engine.dispose()
    assert [login.problem for login in front.logins] == [None]
    check_hidden(repr(source.engine) + str(source.engine.url) + repr(source), front)


class Clock:
    """A clock that goes on by a second whenever somebody looks at it."""

    def __init__(self) -> None:
        self._seconds = itertools.count(START)
        self.ahead = 0.0

    def time(self) -> float:
        """The time in seconds since 1970 UTC."""
        return next(self._seconds) + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the tokens."""
    made = Clock()
    own = SimpleNamespace(time=made.time, strftime=rds.time.strftime, gmtime=rds.time.gmtime)
    monkeypatch.setattr(rds, "time", own)
    return made


def cut_at_commit(front: RdsFront, clock: Clock) -> Callable[[bytes], None]:
    """Make what cuts all connections at the first COMMIT of a batch, and moves the clock."""
    steps = iter(("insert into etl.ledger", "COMMIT"))
    wanted = next(steps)

    def watch(request: bytes) -> None:
        nonlocal wanted
        if wanted and wanted.encode() in request:
            wanted = next(steps, "")
            if not wanted:
                clock.ahead += 3600
                front.proxy.cut()

    return watch


@pytest.mark.parametrize("refusals", [0, 2])
def test_a_connection_cut_in_a_run_is_opened_again_with_a_fresh_token(
    refusals: int, job: Job, tmp_path: Path, clock: Clock
) -> None:
    """An hour later the first token would be refused; a refusal that passes is waited out."""
    job.send(*EVENTS)
    url = job.environment["DATABASE_URL"]
    with RdsFront(url, tmp_path, job.environment, now=clock.time) as front:
        environment = {**job.environment, **front.settings}
        cut = cut_at_commit(front, clock)

        def watch(request: bytes) -> None:
            before = clock.ahead
            cut(request)
            if clock.ahead != before:
                front.refusals = [NOT_TAKEN] * refusals

        front.on_request = watch
        changes = {"run.idle_seconds": 1, "batch.rows": 10, "database.retry_seconds": 60}
        settings = config.load(ROOT / "config.yaml", environment, changes)
        before = dict(os.environ)
        summary = etl_job.run(settings, environment)
    assert dict(os.environ) == before
    assert (summary.exit_code, summary.counts.loaded) == (0, 30)
    assert front.proxy.fired["cut"] >= 1
    assert {login.problem for login in front.logins} == {None}
    dates = [login.date for login in front.logins]
    assert len(set(dates)) == len(dates)
    assert {date[:11] for date in dates} == {"20260301T12", "20260301T13"}


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (NOT_TAKEN, ["SQLSTATE 28000", "rds-db:connect", "arn:aws:rds-db:", "CNAME", "clock"]),
        (NOT_GRANTED, ["SQLSTATE 28P01", 'grant rds_iam to "etl"', "IAM authentication"]),
    ],
)
def test_a_refused_token_says_what_to_do(
    refusal: tuple[str, str], words: list[str], job: Job, front: RdsFront
) -> None:
    """It ends the run at once, after the second login that learns the SQLSTATE."""
    front.refusals = [refusal] * 9
    done = job.command("run", *job.arguments, **front.settings)
    assert done.returncode == 2
    assert [word for word in words if word not in done.stderr.splitlines()[-1]] == []
    assert len(front.logins) == 2
    check_hidden(done.stdout + done.stderr, front)


def test_keys_that_iam_does_not_know_are_refused(job: Job, front: RdsFront) -> None:
    """The signature is another one, and that is all that RDS sees."""
    done = job.command("history", **front.settings, AWS_SECRET_ACCESS_KEY="another")
    assert (done.returncode, {login.problem for login in front.logins}) == (
        2,
        {"it is another token"},
    )


def test_no_token_is_sent_to_another_host(job: Job, tmp_path: Path) -> None:
    """The certificate is verified before, by default."""
    url, keys = job.environment["DATABASE_URL"], job.environment
    with RdsFront(url, tmp_path, keys, certificate_host="events.example.org") as front:
        done = job.command("history", **front.settings)
    assert done.returncode == 2
    assert "the name of the host" in done.stderr
    assert front.logins == []


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_no_token_is_sent_without_tls(mode: str, job: Job, front: RdsFront) -> None:
    """It is refused before it connects."""
    done = job.command("history", **front.settings, PGSSLMODE=mode)
    assert (done.returncode, front.wire) == (2, b"")
    assert f"sslmode={mode} may send its token without TLS" in done.stderr
