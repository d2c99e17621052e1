"""``job.run`` in programs that have threads, an event loop, signals and a log of their own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from etl import config
from etl.commands.signals import stop_on_signals
from etl.dry_run import dry_run
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.job import run
from etl.runs import Summary
from etl.sqs.limits import Stop
from tests.conftest import ROOT, Job
from tests.unit.builders import EVENT

NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"
BODY = json.dumps(EVENT)


@pytest.fixture
def environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the variables of a run, of which the process itself has those of AWS only."""
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return environment


def load(environment: dict[str, str], **changes: str) -> config.Settings:
    """Make settings from other variables than the run's."""
    changes = {"ETL_RUN__IDLE_SECONDS": "1", "ETL_RUN__MAX_MESSAGES": "1", **changes}
    return config.load(ROOT / "config.yaml", {**environment, **changes})


@pytest.mark.parametrize("url", [NOWHERE, ""])
def test_the_database_url_that_a_run_is_given_is_the_one_used(
    job: Job, environment: dict[str, str], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the settings were made from; a difference is logged, without the URL."""
    caplog.set_level("INFO", "etl")
    job.send(BODY)
    settings = load(environment, DATABASE_URL=url)
    summary = run(settings, environment)
    assert (summary.exit_code, summary.counts.loaded) == (0, 1)
    assert job.rows("select count(*) from user_logins") == [(1,)]
    assert ("DATABASE_URL is the one that the run was given" in caplog.text) == bool(url)
    assert "nobody" not in caplog.text
    assert environment["DATABASE_URL"] not in caplog.text


def test_the_settings_keep_their_database_url_if_the_run_is_given_none(
    job: Job, environment: dict[str, str]
) -> None:
    """As it was before."""
    job.send(BODY)
    settings = load(environment)
    del environment["DATABASE_URL"]
    assert run(settings, environment).counts.loaded == 1


def test_a_dry_run_compares_its_keys_with_the_database_that_it_is_given(
    job: Job, environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The one of the settings would be asked in vain."""
    job.send(BODY)
    dry_run(load(environment, DATABASE_URL=NOWHERE), environment)
    assert "cannot be compared" not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_workers_have_the_environment_that_the_run_was_given(
    job: Job, environment: dict[str, str]
) -> None:
    """The process has no keyring of its own."""
    assert "ETL_KEYRING" not in os.environ
    job.send(BODY)
    settings = load(environment, ETL_RUN__WORKERS="2", DATABASE_URL=NOWHERE)
    summary = run(settings, environment)
    assert (summary.exit_code, summary.problem, summary.counts.loaded) == (0, None, 1)


def test_libpqs_variables_that_the_process_has_not_are_named_as_ignored(
    job: Job, environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Libpq would not see them, and connect to something else."""
    settings = load(environment)
    variables = {"PGPASSWORD": "secret", "PGHOST": "db", "PG_PORT": "tcp://10.0.0.1:5432"}
    run(settings, {**environment, **variables}, stop=stopped())
    assert "ignored PGHOST, PGPASSWORD: libpq reads its variables from" in caplog.text
    assert "secret" not in caplog.text


def stopped() -> Stop:
    """A stop that was requested before the run began."""
    stop = Stop()
    stop.request("test")
    return stop


def test_a_run_works_inside_an_event_loop_and_beside_it(
    job: Job, environment: dict[str, str]
) -> None:
    """In a notebook the loop is always running."""
    job.send(BODY, BODY)
    settings = load(environment)

    async def main() -> list[int]:
        inside = run(settings, environment)
        beside = await asyncio.to_thread(run, settings, environment)
        return [inside.counts.loaded, beside.counts.loaded]

    assert asyncio.run(main()) == [1, 1]


@pytest.fixture
def second_job(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres, environment: dict[str, str]
) -> Iterator[dict[str, str]]:
    """Return the variables of a job with another queue and another database."""
    url = postgres.new_database()
    queue = sqs.create_queue(f"second-{os.getpid()}-{threading.get_ident()}")
    yield {**environment, "DATABASE_URL": url, "ETL_QUEUE__URL": queue}
    postgres.drop_database(url)


def test_two_runs_at_once_in_one_process_do_not_meet(
    job: Job, environment: dict[str, str], second_job: dict[str, str]
) -> None:
    """Each loads its own queue into its own database."""
    job.send(BODY, BODY)
    job.client.send_message(QueueUrl=second_job["ETL_QUEUE__URL"], MessageBody=BODY)
    first_works, second_ended = threading.Event(), threading.Event()
    summaries: dict[str, Summary] = {}

    def watch_first(*_: object) -> Any:
        first_works.set()
        second_ended.wait(30)
        return nullcontext()

    def run_first() -> None:
        settings = load(environment, ETL_RUN__MAX_MESSAGES="2")
        summaries["first"] = run(settings, environment, watch=watch_first)

    thread = threading.Thread(target=run_first)
    thread.start()
    assert first_works.wait(30)
    summaries["second"] = run(load(second_job), second_job)
    second_ended.set()
    thread.join()
    assert summaries["first"].counts.loaded == 2
    assert summaries["second"].counts.loaded == 1
    assert job.rows("select count(*) from user_logins") == [(2,)]


def test_a_run_leaves_signals_logs_and_streams_to_the_program(
    job: Job, environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Its log lines go where the program sends them."""

    def state() -> list[Any]:
        return [
            [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)],
            [logging.getLogger(name).handlers[:] for name in ("", "etl")],
            logging.getLogger("etl").propagate,
            (sys.stdin, sys.stdout, sys.stderr, sys.excepthook, threading.excepthook),
            sys.getswitchinterval(),
            dict(os.environ),
        ]

    job.send("not JSON")
    before = state()
    caplog.set_level("DEBUG", "etl")
    run(load(environment), environment)
    assert state() == before
    assert caplog.records


def test_a_program_gets_its_signal_handlers_back() -> None:
    """And its wake-up descriptor, which an event loop has."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, heard.set)
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            while stop.reason is None:
                await asyncio.sleep(0.01)
        assert not heard.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(heard.wait(), 10)

    asyncio.run(main())
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in another thread; return its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_signals_stay_as_they_are_in_another_thread() -> None:
    """Only the main thread may change them."""

    def stop() -> str | None:
        with stop_on_signals() as stop:
            return stop.reason

    assert in_thread(stop) is None


def test_the_program_of_the_documents_runs_as_it_stands(
    job: Job, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variables in the process."""
    page = (ROOT / "docs/platforms.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    job.send(BODY)
    monkeypatch.chdir(ROOT)
    for name, value in {**environment, "ETL_RUN__MAX_MESSAGES": "1"}.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    exec(compile(code, "platforms.md", "exec"), names)
    assert names["summary"].counts.loaded == 1
