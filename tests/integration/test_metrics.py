"""The metrics of real runs: in CloudWatch's lines, in the textfile, and at a collector."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from etl import config, ledger
from etl import job as job_module
from etl.config import Settings
from etl.dry_run import dry_run
from etl.errors import EtlError
from etl.monitoring import monitor
from etl.monitoring.metrics import METRICS
from etl.runs import Summary
from etl.sqs.limits import Stop
from tests.conftest import ROOT, Job
from tests.integration.waiting import wait_until
from tests.unit.builders import event
from tests.unit.collector import Collector, serve_collector
from tests.unit.emf_rules import check_emf

TAKES_ALL = {"ETL_QUARANTINE__MAX_FRACTION": "1"}
BUDGET = {"ETL_QUARANTINE__MIN_MESSAGES": "1", "ETL_QUARANTINE__MAX_FRACTION": "0.01"}
NO_DATABASE = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
    "ETL_DATABASE__RETRY_SECONDS": "0.1",
}
EMF = {"ETL_METRICS__EMF": "true", "ETL_LOG__FORMAT": "json"}
OWN_LABELS = {metric.name: metric.labels for metric in METRICS}

SUCCESS = ("etl_run_last_success_timestamp_seconds",)
END = ("etl_run_last_end_timestamp_seconds",)
EXIT_CODE = ("etl_run_exit_code",)
VISIBLE = ("etl_queue_visible_messages",)
OLDEST = ("etl_queue_oldest_message_age_seconds",)
DEAD = ("etl_dead_letter_messages",)
IDS = ("etl_ledger_ids",)
LOADED = ("etl_run_deliveries", "loaded")
REFUSED = ("etl_run_quarantined_messages", "ip", "IP address")

Samples = dict[tuple[str, ...], float]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a textfile."""
    return tmp_path / "etl.prom"


@pytest.fixture
def textfile(path: Path) -> dict[str, str]:
    """The variable that asks for it."""
    return {"ETL_METRICS__TEXTFILE": str(path)}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """An OpenTelemetry collector."""
    with serve_collector() as started:
        yield started


Run = Callable[..., Summary]


@pytest.fixture
def run(environment: dict[str, str], path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the job in this process, which takes less time."""
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)  # boto3 reads its own

    def run_job(**variables: str) -> Summary:
        given = {
            **environment,
            "ETL_METRICS__TEXTFILE": str(path),
            "ETL_RUN__IDLE_SECONDS": "0.1",
            **variables,
        }
        return job_module.run(config.load(ROOT / "config.yaml", given), given)

    return run_job


def of_textfile(path: Path) -> Samples:
    """The samples as Prometheus reads them, by name and own labels."""
    return {
        (sample.name, *(sample.labels[name] for name in OWN_LABELS[sample.name])): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def of_log(stderr: str) -> Samples:
    """The samples as CloudWatch reads them."""
    found = {}
    for line in map(json.loads, stderr.splitlines()):
        if "_aws" not in line:
            continue
        check_emf(line, time.time())
        for name in line.keys() & OWN_LABELS.keys():
            key = (name, *(line[label] for label in OWN_LABELS[name]))
            assert key not in found
            found[key] = line[name]
    return found


def of_collector(collector: Collector) -> Samples:
    """The samples of the last request."""
    return {
        (name, *(attributes[label] for label in OWN_LABELS[name])): value
        for name, points in collector.points().items()
        for attributes, value in points
    }


def of_runs(job: Job) -> Samples:
    """What ``etl.runs`` says of the newest run."""
    ((exit_code, checks, updated, skipped, *counts),) = job.rows(
        "select exit_code, failed_checks, updated, skipped, loaded, already_handled, quarantined, "
        "released "
        "from etl.runs order by started_at desc limit 1"
    )
    outcomes = ("loaded", "already_handled", "quarantined", "released")
    failed = {
        ("etl_run_quarantined_messages", check["column"], check["check"]): (
            check["messages"] - check["released"]
        )
        for check in checks
    }
    return {
        EXIT_CODE: exit_code,
        **{("etl_run_deliveries", n): count for n, count in zip(outcomes, counts, strict=True)},
        ("etl_run_conflicts", "updated"): updated,
        ("etl_run_conflicts", "skipped"): skipped,
        **{key: count for key, count in failed.items() if count},
    }


def assert_agree(samples: Samples, expected: Samples) -> None:
    """All that the run's row knows is in the samples, and no other outcome or check."""
    names = {name for name, *_ in expected}
    assert {key: value for key, value in samples.items() if key[0] in names} == expected


def test_the_three_outputs_say_what_the_runs_row_says(
    job: Job, path: Path, textfile: dict[str, str], collector: Collector
) -> None:
    """And nothing that a message held, and no run id."""
    job.send(*[event(ip="canary", device_id="canary", canary="canary")] * 3, "{canary", event())
    done = job.command(
        *("run", *job.arguments),
        **{**TAKES_ALL, **EMF, **textfile, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    samples = of_textfile(path)
    assert_agree(samples, of_runs(job))
    assert samples[REFUSED] == 3
    assert samples[LOADED] == 1
    assert samples["etl_run_duration_seconds",] == summary["seconds"]
    assert (samples[VISIBLE], samples[OLDEST], samples[DEAD]) == (0, 0, 0)
    assert IDS not in samples or samples[IDS] >= 0
    ((started, finished),) = job.rows(
        "select cast(extract(epoch from started_at) as float), "
        "cast(extract(epoch from finished_at) as float) from etl.runs"
    )
    assert started <= finished <= samples[END] <= time.time()
    assert samples[SUCCESS] == samples[END]
    assert of_log(done.stderr) == pytest.approx(samples)
    assert of_collector(collector) == pytest.approx(samples)
    told = [line for line in done.stderr.splitlines() if '"_aws"' in line]
    everything = "".join([*told, path.read_text(), *(str(body) for _, body in collector.requests)])
    run_id = summary["run_id"]
    assert [
        word for word in ("canary", run_id, run_id.replace("-", "")) if word in everything
    ] == []
    assert (
        f'job="public.user_logins",queue="{job.queue_url.rpartition("/")[2]}"' in path.read_text()
    )
    assert list(path.parent.iterdir()) == [path]


def test_each_outcome_is_counted(job: Job, path: Path, run: Run) -> None:
    """Loaded, handled before, and in quarantine; what is released comes in the next test."""
    job.send(event(), "{")
    run(**TAKES_ALL)
    again = job.send(event(), event(), event())
    with job.engine.begin() as connection:
        # As if an earlier run could not delete two of them.
        connection.execute(
            sa.text(
                "insert into etl.ledger (message_id, run_id, batch, job_id) "
                "select id, run_id, 99, job_id from etl.runs, etl.jobs, unnest(:ids) as id"
            ),
            {"ids": again[:2]},
        )
    run(**TAKES_ALL)
    samples = of_textfile(path)
    assert samples["etl_run_deliveries", "already_handled"] == 2
    assert samples[LOADED] == 1
    assert_agree(samples, of_runs(job))


def test_a_run_that_stops_for_its_quarantine_tells_what_was_released(
    job: Job, path: Path, run: Run
) -> None:
    """The messages are back in the queue, and the oldest of them has an age."""
    run()
    success = of_textfile(path)[SUCCESS]
    job.send(*[event(ip="canary")] * 3)
    assert run(**BUDGET).exit_code == 3
    samples = of_textfile(path)
    assert_agree(samples, of_runs(job))
    assert samples["etl_run_deliveries", "released"] == 3
    assert not [key for key in samples if key[0] == "etl_run_quarantined_messages"]
    assert (samples[EXIT_CODE], samples[SUCCESS]) == (3, success)
    assert samples[END] > success
    assert samples[OLDEST] > 0
    assert samples[VISIBLE] == 3  # when the run last asked, which was at its start


@pytest.mark.parametrize(
    ("variables", "code", "asked"),
    [
        (NO_DATABASE, 1, True),
        ({"ETL_KEYRING": "canary"}, 2, False),
        ({"ETL_QUEUE__URL": "canary"}, 2, False),
        pytest.param({"DATABASE_URL": ""}, 2, True, marks=pytest.mark.long),
        pytest.param(
            {"ETL_TABLE__NAME": "other", "ETL_DATABASE__CREATE_TABLES": "false"},
            *(2, True),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_run_that_fails_before_it_receives_tells_so(
    job: Job,
    path: Path,
    run: Run,
    collector: Collector,
    variables: dict[str, str],
    code: int,
    asked: bool,
) -> None:
    """The last success stays, and what is not known is absent."""
    named = {"ETL_JOB__NAME": "nightly", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    run(**named)
    before = of_textfile(path)
    job.send(event())
    with pytest.raises(EtlError) as caught:
        run(**named, **variables)
    assert caught.value.exit_code == code
    samples = of_textfile(path)
    assert (samples[EXIT_CODE], samples[SUCCESS]) == (code, before[SUCCESS])
    assert samples[END] > before[END]
    assert sum(value for key, value in samples.items() if key[0] == "etl_run_deliveries") == 0
    assert (VISIBLE in samples, OLDEST in samples) == (asked, False)
    # The collector remembers the last success itself.
    assert of_collector(collector) == pytest.approx(
        {key: value for key, value in samples.items() if key != SUCCESS}
    )
    assert "canary" not in path.read_text()


def test_a_command_that_fails_writes_its_metrics_to_the_log(job: Job) -> None:
    """Before the line that says why."""
    done = job.command("run", **EMF, **NO_DATABASE)
    *told, error = done.stderr.splitlines(keepends=True)
    assert (done.returncode, error[:6]) == (1, "error:")
    assert of_log("".join(told))[EXIT_CODE] == 1


def test_several_workers_write_one_file(
    job: Job, path: Path, textfile: dict[str, str], collector: Collector
) -> None:
    """It is the run's, with the sum of what they did."""
    job.send(*[event(ip="canary"), event()] * 20)
    done = job.command(
        *("run", *job.arguments, "--workers", "2"),
        **{**TAKES_ALL, **EMF, **textfile, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
        ETL_BATCH__ROWS="5",
    )
    assert done.returncode == 0, done.stderr
    samples = of_textfile(path)
    assert_agree(samples, of_runs(job))
    assert (samples[LOADED], samples[REFUSED]) == (
        20,
        20,
    )
    assert of_log(done.stderr) == pytest.approx(samples)  # which fails where a sample comes twice
    assert len(collector.requests) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_dry_run_tells_nothing(
    job: Job, path: Path, collector: Collector, run: Run, environment: dict[str, str]
) -> None:
    """It is a person's look, and no run of the schedule."""
    job.send(event())
    given = {
        **environment,
        "ETL_METRICS__TEXTFILE": str(path),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    dry_run(config.load(ROOT / "config.yaml", given), given)
    assert (path.exists(), collector.requests) == (False, [])


def test_outputs_that_cannot_be_reached_cost_no_exit_code(job: Job, tmp_path: Path) -> None:
    """Each is said once, in the log."""
    job.send(event())
    done = job.command(
        *("run", *job.arguments),
        ETL_METRICS__TEXTFILE=str(tmp_path / "absent" / "etl.prom"),
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loaded"] == 1
    assert done.stderr.count("cannot be written to the textfile: No such file or directory") == 1
    assert done.stderr.count("OpenTelemetry collector did not take the metrics") == 1
    # Nor does the library say anything by itself.
    assert "Connection refused" not in done.stderr


@contextmanager
def running(
    settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Summary]]:
    """Run the job in this process, forever; yields a function that ends it."""
    monkeypatch.setattr(monitor, "EVERY_SECONDS", 0.02)
    stop = Stop()
    with ThreadPoolExecutor() as pool:
        future = pool.submit(job_module.run, settings, environment, stop=stop)

        def end() -> Summary:
            stop.request("SIGTERM", release_rest=True)
            return future.result()

        try:
            yield end
        finally:
            end()


def test_a_run_tells_how_far_it_is_while_it_goes_on(
    job: Job,
    path: Path,
    run: Run,
    settings: Callable[..., Settings],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How the run before ended stays in the file until this one has ended."""
    with pytest.raises(EtlError):
        run(**NO_DATABASE)
    before = of_textfile(path)
    goes_on = settings(run__forever=True, metrics__textfile=str(path), quarantine__max_fraction=1.0)
    with running(goes_on, environment, monkeypatch) as end:
        job.send(event(), event(ip="canary"), event())
        # They may come in several batches.
        assert wait_until(lambda: of_textfile(path).get(LOADED) == 2)
        assert wait_until(lambda: of_textfile(path).get(REFUSED) == 1)
        samples = of_textfile(path)
        assert (samples[EXIT_CODE], samples[END]) == (1, before[END])
        assert SUCCESS not in samples
        assert wait_until(lambda: of_textfile(path)[VISIBLE] == 0)
        summary = end()
    samples = of_textfile(path)
    assert (summary.exit_code, samples[EXIT_CODE]) == (0, 0)
    assert samples[SUCCESS] == samples[END] > before[END]
    assert_agree(samples, of_runs(job))


def test_a_bug_is_the_end_of_a_run_too(
    path: Path,
    settings: Callable[..., Settings],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its exit code is the one of Python for any error."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(job_module, "check_keys_and_queue", fail)
    with pytest.raises(RuntimeError):
        job_module.run(settings(metrics__textfile=str(path)), environment)
    assert of_textfile(path)[EXIT_CODE] == 1


def test_dead_letters_and_ids_are_those_of_the_services(job: Job, path: Path, run: Run) -> None:
    """Without a dead-letter queue, there is no such metric."""
    job.send(event(), event())
    run()
    with job.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("analyze etl.ledger"))
    assert ledger.estimated_ids(job.engine) == 2
    answer = job.client.get_queue_attributes(
        QueueUrl=job.queue_url, AttributeNames=["RedrivePolicy"]
    )
    policy = json.loads(answer["Attributes"]["RedrivePolicy"])
    name = policy["deadLetterTargetArn"].rpartition(":")[2]
    dead = job.client.get_queue_url(QueueName=name)["QueueUrl"]
    job.client.send_message(QueueUrl=dead, MessageBody="x")
    run()
    samples = of_textfile(path)
    assert (samples[DEAD], samples[IDS]) == (1, 2)
    alone = job.client.create_queue(QueueName="without-dead-letters")["QueueUrl"]
    run(ETL_QUEUE__URL=alone)
    assert DEAD not in of_textfile(path)


def test_a_ledger_that_cannot_be_asked_has_no_metric() -> None:
    """An outage just then is not worth the run."""
    unreachable = sa.create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/nowhere")
    assert ledger.estimated_ids(unreachable) is None


PROGRAM = """
import contextlib, os, sys
from pathlib import Path
from etl import config, errors, job

with contextlib.suppress(errors.KeyringError):
    job.run(config.load(Path("config.yaml"), os.environ), os.environ)
libraries = {"prometheus_client", "opentelemetry", "google", "requests"}
print(*(libraries & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("variables", "imported"),
    [(EMF, ""), ({"ETL_METRICS__TEXTFILE": "{path}"}, "prometheus_client")],
)
def test_a_library_is_imported_only_if_it_is_asked_for(
    path: Path, variables: dict[str, str], imported: str
) -> None:
    """A run without metrics starts as quickly as before."""
    given = {name: value.format(path=path) for name, value in variables.items()}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**given, "ETL_KEYRING": "wrong"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout.strip()) == (0, imported), done.stderr
