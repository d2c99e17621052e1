"""The handler for AWS Lambda: called in this process, and in a place as bare as a function."""

from __future__ import annotations

import _multiprocessing
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etl import job as job_of_the_package
from etl.commands.aws_lambda import END_SECONDS, LAST_BATCH, RunFailed, handler
from etl.config import Settings
from tests.acceptance.job_processes import expected_users, logins, make_tables, users
from tests.acceptance.test_container import inside, why_not
from tests.conftest import ROOT, Job
from tests.unit.aws_server import serve
from tests.unit.builders import EVENT, some_long

# A function as Lambda starts it, twice in one process: cold, and warm.
FUNCTION = """
import json, types
from etl.commands.aws_lambda import handler

context = types.SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
for _ in range(2):
    handler({}, context)
"""
AWAY = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "ETL_QUEUE__RETRY_SECONDS": "1"}
# make test takes the first, make test-long the others.
CASES = [
    ({"ETL_KEYRING": ""}, [], "exit code 2: no keyring"),
    ({"ETL_RUN__WORKERS": "2"}, [], "exit code 2: run.workers is 2"),
    (AWAY, [], "exit code 1: "),
    ({"ETL_QUARANTINE__MIN_MESSAGES": "1"}, ["[]"] * 3, "exit code 3: "),
]


@dataclass
class Context:
    """What Lambda tells a function."""

    seconds: float = 60

    def get_remaining_time_in_millis(self) -> int:
        """The time that is left."""
        return int(self.seconds * 1000)


@pytest.fixture
def function(job: Job, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """The variables of a function, in a folder with config.yaml, where no semaphore can be made."""

    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    for name, value in {**job.environment, "ETL_RUN__IDLE_SECONDS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(_multiprocessing, "SemLock", refuse)
    package_log = logging.getLogger("etl")
    before = (package_log.handlers[:], package_log.level, package_log.propagate)
    yield job
    package_log.handlers[:], package_log.level, package_log.propagate = before


def test_it_loads_the_queue_and_returns_the_summary(
    function: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With max_messages, which several receivers count together; the summary is in the log too."""
    make_tables(function)
    function.send(*logins(30))
    monkeypatch.setenv("ETL_RUN__MAX_MESSAGES", "30")
    summary = handler({"source": "aws.scheduler"}, Context())
    assert (summary["loaded"], users(function)) == (30, expected_users(30))
    assert json.loads(capsys.readouterr().out) == summary


@pytest.mark.parametrize(
    ("variables", "bodies", "message"),
    [CASES[0], *(pytest.param(*case, marks=pytest.mark.long) for case in CASES[1:])],
)
def test_every_other_exit_code_is_an_error_of_the_function(
    function: Job,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    bodies: list[str],
    message: str,
) -> None:
    """So that Lambda counts it, and an alarm on its errors sees it."""
    function.send(*bodies)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunFailed, match=message):
        handler({}, Context())


def test_the_message_of_an_unexpected_error_is_withheld(
    function: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lambda logs the message of an error and of its cause, and a library's may quote a value."""

    def fail(*_: Any) -> None:
        raise ValueError(EVENT["ip"])

    monkeypatch.setattr(job_of_the_package, "run", fail)
    with pytest.raises(RunFailed, match="unexpected ValueError") as caught:
        handler({}, Context())
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)
    shown = str(caught.value) + "".join(capsys.readouterr())
    assert EVENT["ip"] not in shown
    assert "in fail" in shown


def settings_given(
    function: Job, monkeypatch: pytest.MonkeyPatch, seconds: float, **variables: str
) -> Settings:
    """The settings of the run that a function begins."""
    given: list[Settings] = []

    def keep(settings: Settings, _: object) -> None:
        given.append(settings)
        raise RunFailed

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(job_of_the_package, "run", keep)
    with pytest.raises(RunFailed):
        handler({}, Context(seconds))
    return given[0]


@pytest.mark.parametrize("seconds", some_long([899.98, 30, 60]))
def test_the_run_and_its_last_batch_end_in_time(
    function: Job, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """The last batch begins just before max_seconds; its transaction is closed in time."""
    settings = settings_given(function, monkeypatch, seconds, ETL_QUEUE__WAIT_SECONDS="5")
    limit = settings.run.max_seconds or 0
    assert settings.database.answer_seconds <= limit * LAST_BATCH
    end = limit + settings.database.answer_seconds + settings.queue.wait_seconds + END_SECONDS
    assert seconds - 3 < end <= seconds


def test_a_shorter_limit_of_the_settings_stays(
    function: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has set it for a reason."""
    settings = settings_given(function, monkeypatch, 900, ETL_RUN__MAX_SECONDS="20")
    assert settings.run.max_seconds == 20


def test_a_function_with_too_little_time_is_told_how_much_it_needs(
    function: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda's own default is three seconds."""
    monkeypatch.setenv("ETL_QUEUE__WAIT_SECONDS", "5")
    with pytest.raises(RunFailed, match=r"exit code 2: .* timeout to 28 or more") as caught:
        handler({}, Context(3))
    assert "3 s are left" in str(caught.value)
    assert settings_given(function, monkeypatch, 28).run.max_seconds == 10


def test_the_database_may_be_named_by_a_secret(
    function: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error says which secret, and not its text."""
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DATABASE_URL_SECRET", "etl/database")
    with serve(400, '{"__type": "ResourceNotFoundException"}') as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", address)
        with pytest.raises(RunFailed) as caught:
            handler({}, Context())
    assert "exit code 2: secret of DATABASE_URL_SECRET 'etl/database' cannot be" in str(
        caught.value
    )
    assert "or store DATABASE_URL in it" in str(caught.value)


@pytest.mark.long
def test_it_runs_in_a_place_as_bare_as_a_function(job: Job, tmp_path: Path) -> None:
    """Nothing can be written, there is no /dev/shm, and the database's address is a secret."""
    if reason := why_not():
        pytest.skip(f"no such place on this machine: {reason}")
    make_tables(job)
    job.send(*logins(30))
    answer = json.dumps({"SecretString": job.environment["DATABASE_URL"] + "\n"})
    with serve(200, answer) as address:
        environment = {
            **job.environment,
            "HYPOTHESIS_NO_PLUGINS": "1",  # which production does not install
            "DATABASE_URL": "",
            "DATABASE_URL_SECRET": "etl/database",
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": address,
            "ETL_RUN__IDLE_SECONDS": "1",
            "ETL_RUN__MAX_MESSAGES": "20",
        }
        done = inside(str(tmp_path), [sys.executable, "-W", "error", "-c", FUNCTION], environment)
    assert done.returncode == 0, done.stderr
    loaded = [json.loads(line)["loaded"] for line in done.stdout.splitlines()]
    assert (loaded, users(job)) == ([20, 10], expected_users(30))
    assert str(job.engine.url.password) not in done.stdout + done.stderr
