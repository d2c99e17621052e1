"""The metrics as data, and what each of the three outputs makes of them."""

from __future__ import annotations

import json
import logging
import math
import os
import string
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from etl import config, logs
from etl.errors import SettingsError
from etl.monitoring import emf, metrics, otlp
from etl.monitoring.figures import OF_CONFLICTS, OUTCOMES, End, Figures, oldest_age
from etl.monitoring.metrics import METRICS, Sample
from etl.monitoring.monitor import Monitor, queue_name
from etl.monitoring.otlp import Otlp
from etl.monitoring.textfile import Textfile
from etl.runs import Counts, Summary
from etl.sqs.queue import Queue
from etl.version import __version__
from etl.workers.snapshot import Snapshot
from tests.unit.builders import ROOT
from tests.unit.collector import attributes, serve_collector
from tests.unit.emf_rules import check_emf

LABELS = ("public.user_logins", "logins")
NOW = 1_700_000_100.0
COUNTS = Counts(
    received=10, loaded=4, already_handled=3, quarantined=2, released=1, updated=2, skipped=1
)
ALL = Figures(
    seconds=12.5,
    counts=COUNTS,
    checks={("ip", "IP address"): 2, ("message", 'JSON "\\'): 1},
    not_acknowledged=5,
    visible=6,
    oldest_age_seconds=100.25,
    dead_letters=7,
    ledger_ids=8,
    end=End(0, NOW),
)
GOES_ON = Figures(seconds=1.0, counts=Counts())


def test_the_names_are_those_that_alerts_and_dashboards_use() -> None:
    """A name that changes here would silence an alarm."""
    assert {metric.name: metric.labels for metric in METRICS} == {
        "etl_run_last_success_timestamp_seconds": (),
        "etl_run_last_end_timestamp_seconds": (),
        "etl_run_exit_code": (),
        "etl_run_duration_seconds": (),
        "etl_run_deliveries": ("outcome",),
        "etl_run_conflicts": ("outcome",),
        "etl_run_quarantined_messages": ("column", "check"),
        "etl_run_not_acknowledged": (),
        "etl_queue_visible_messages": (),
        "etl_queue_oldest_message_age_seconds": (),
        "etl_dead_letter_messages": (),
        "etl_ledger_ids": (),
        "etl_build_info": ("version",),
    }
    assert all(metric.all_labels[:2] == ("job", "queue") for metric in METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_has_a_sentence_and_the_unit_of_its_name(metric: metrics.Metric) -> None:
    """Prometheus wants the unit at the end of the name."""
    assert metric.help.endswith(".")
    assert metric.kind == "gauge"
    assert metric.name.endswith("_seconds") == (metric.unit == "seconds")
    assert not metric.name.endswith("_messages") or metric.unit == "messages"


def test_every_metric_has_its_figure() -> None:
    """At the end of a run of which everything is known."""
    values = {(sample.metric.name, *sample.labels): sample.value for sample in ALL.samples()}
    assert values == {
        ("etl_run_last_success_timestamp_seconds",): NOW,
        ("etl_run_last_end_timestamp_seconds",): NOW,
        ("etl_run_exit_code",): 0,
        ("etl_run_duration_seconds",): 12.5,
        ("etl_run_deliveries", "loaded"): 4,
        ("etl_run_deliveries", "already_handled"): 3,
        ("etl_run_deliveries", "quarantined"): 2,
        ("etl_run_deliveries", "released"): 1,
        ("etl_run_conflicts", "updated"): 2,
        ("etl_run_conflicts", "skipped"): 1,
        ("etl_run_quarantined_messages", "ip", "IP address"): 2,
        ("etl_run_quarantined_messages", "message", 'JSON "\\'): 1,
        ("etl_run_not_acknowledged",): 5,
        ("etl_queue_visible_messages",): 6,
        ("etl_queue_oldest_message_age_seconds",): 100.25,
        ("etl_dead_letter_messages",): 7,
        ("etl_ledger_ids",): 8,
        ("etl_build_info", __version__): 1,
    }
    assert {sample.metric for sample in ALL.samples()} == set(METRICS)


def test_what_is_not_known_has_no_sample() -> None:
    """A zero would look like an empty queue."""
    names = {sample.metric for sample in GOES_ON.samples()}
    assert names == {
        metrics.DURATION,
        metrics.DELIVERIES,
        metrics.CONFLICTS,
        metrics.NOT_ACKNOWLEDGED,
        metrics.BUILD_INFO,
    }


@pytest.mark.parametrize("exit_code", [1, 2, 3])
def test_a_run_that_failed_was_no_success(exit_code: int) -> None:
    """It has an end, and the last success was another run."""
    found = {s.metric: s.value for s in Figures(end=End(exit_code, NOW)).samples()}
    assert metrics.LAST_SUCCESS not in found
    assert (found[metrics.LAST_END], found[metrics.EXIT_CODE]) == (NOW, exit_code)


@pytest.mark.parametrize(
    ("visible", "unfinished", "sent_ms", "age"),
    [
        (0, 0, math.inf, 0.0),  # an empty queue
        (0, 0, 1_000.0, 0.0),  # emptied
        (0, 3, 1_000.0, 9.0),  # they are in hand, or released
        (5, 0, 1_000.0, 9.0),
        (5, 0, math.inf, None),  # nothing was received
        (None, 0, math.inf, None),
        (None, 0, 1_000.0, 9.0),
        (5, 0, 20_000.0, 0.0),  # SQS's clock is ahead
    ],
)
def test_the_oldest_age_is_that_of_what_was_received(
    visible: int | None, unfinished: int, sent_ms: float, age: float | None
) -> None:
    """0 if nothing waits, and None if nothing is known."""
    assert oldest_age(visible, unfinished, sent_ms, 10.0) == age


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/logins", "logins"),
        ("http://localhost:9324/000000000000/q.fifo/ ", "q.fifo"),
        (None, "unknown"),
        ("", "unknown"),
        ("secret", "unknown"),
        ('{"primary": "k1"}', "unknown"),
        ("postgresql://etl:secret@host/database?x", "unknown"),
    ],
)
def test_the_queue_label_is_a_name_and_nothing_else(url: str | None, name: str) -> None:
    """The URL has the account in it, and may be something else by mistake."""
    assert queue_name(url) == name


# --- CloudWatch


def lines_of(samples: list[Sample], labels: tuple[str, ...] = LABELS) -> list[dict[str, Any]]:
    """The documents as CloudWatch reads them."""
    return [json.loads(logs.to_json(line)) for line in emf.documents(samples, labels, NOW)]


def test_the_lines_keep_the_rules_of_the_format() -> None:
    """One line for each combination of labels, each with its dimensions."""
    lines = lines_of(ALL.samples())
    for line in lines:
        check_emf(line, NOW)
        assert line["_aws"]["Timestamp"] == 1_700_000_100_000
    assert len(lines) == 1 + 1 + len(OUTCOMES) + len(OF_CONFLICTS) + 2
    (directive,) = lines[0]["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [["job", "queue"]]
    assert {"Name": "etl_run_duration_seconds", "Unit": "Seconds"} in directive["Metrics"]
    assert {"Name": "etl_run_exit_code", "Unit": "None"} in directive["Metrics"]
    assert {"Name": "etl_dead_letter_messages", "Unit": "Count"} in directive["Metrics"]
    assert (lines[0]["job"], lines[0]["queue"]) == LABELS
    assert lines[0]["etl_run_duration_seconds"] == 12.5
    (by_outcome,) = [line for line in lines if line.get("outcome") == "released"]
    assert by_outcome["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["job", "queue", "outcome"]]
    assert by_outcome["etl_run_deliveries"] == 1


@pytest.mark.long
@hypothesis_settings(max_examples=40)
@given(st.text(max_size=1100), st.text(max_size=5), st.floats(min_value=0, max_value=1e15))
def test_the_lines_keep_the_rules_whatever_the_names_are(
    job: str, check: str, value: float
) -> None:
    """A dimension is ASCII, not blank, and not too long."""
    samples = [Sample(metrics.QUARANTINED, value, ("ip", check)), Sample(metrics.DURATION, value)]
    for line in lines_of(samples, (job, "q")):
        check_emf(line, NOW)


@pytest.mark.parametrize(
    "breakage",
    [
        lambda line: line["_aws"].update(Timestamp=1.5),
        lambda line: line.pop("queue"),
        lambda line: line.update(job=" "),
        lambda line: line.update(job="nächte"),
        lambda line: line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0].update(Unit="Messages"),
        lambda line: line["_aws"]["CloudWatchMetrics"][0]["Metrics"].extend(
            [{"Name": "job"}] * 101
        ),
        lambda line: line["_aws"]["CloudWatchMetrics"][0].update(Dimensions=[["job"] * 2]),
        lambda line: line["_aws"].update(Timestamp=1_700_000_100),
    ],
)
def test_a_line_that_breaks_a_rule_is_found(breakage: Callable[[Any], Any]) -> None:
    """The rules would not be worth much otherwise."""
    (line,) = lines_of([Sample(metrics.DURATION, 1.0)])
    breakage(line)
    with pytest.raises((jsonschema.ValidationError, KeyError, AssertionError)):
        check_emf(line, NOW)


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The package's log, which is put back afterwards."""
    package_log = logging.getLogger("etl")
    before = (package_log.handlers[:], package_log.level, package_log.propagate)
    yield package_log
    package_log.handlers[:], package_log.level, package_log.propagate = before


def test_the_metrics_are_members_of_log_lines_at_any_level(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the time, the level and the message, like every line."""
    logs.start("error", "json")
    emf.Emf(LABELS).tell([Sample(metrics.DURATION, 3.0)], is_last=True)
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    check_emf(line, time.time())
    assert (line["level"], line["message"]) == ("info", "metrics")
    assert line["etl_run_duration_seconds"] == 3.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ETL_METRICS__EMF": "true"}, "log.format must be json"),
        ({"ETL_METRICS__TEXTFILE": "/var/lib/etl.txt"}, "must end in .prom"),
    ],
)
def test_settings_that_would_show_nothing_are_refused(changes: dict[str, str], said: str) -> None:
    """CloudWatch reads JSON only, and node-exporter reads *.prom only."""
    with pytest.raises(SettingsError, match=said):
        config.load(ROOT / "config.yaml", changes)


# --- Prometheus


def parsed(path: Path) -> dict[tuple[str, ...], float]:
    """The samples of a file by name and the labels that are not common, as Prometheus reads it."""
    found = {}
    own_labels = {metric.name: metric.labels for metric in METRICS}
    for family in text_string_to_metric_families(path.read_text()):
        assert family.type == "gauge"
        for sample in family.samples:
            assert (sample.labels["job"], sample.labels["queue"]) == LABELS
            own = [sample.labels[name] for name in own_labels[sample.name]]
            found[sample.name, *own] = sample.value
    return found


def written(figures: Figures) -> dict[tuple[str, ...], float]:
    """The samples of figures, in the same form."""
    return {(sample.metric.name, *sample.labels): sample.value for sample in figures.samples()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a textfile."""
    return tmp_path / "etl.prom"


def tell(path: Path, figures: Figures, labels: tuple[str, ...] = LABELS) -> None:
    """Write figures to a textfile, as a new run does."""
    Textfile(path, labels).tell(figures.samples(), is_last=True)


def test_the_textfile_reads_back_as_it_was_meant(path: Path) -> None:
    """With quotes and backslashes in a label too."""
    tell(path, ALL)
    assert parsed(path) == written(ALL)
    assert path.read_text().count("# TYPE") == len(METRICS)


def test_node_exporter_may_read_the_textfile(path: Path) -> None:
    """Whatever the umask is; and nothing else is left in the folder."""
    before = os.umask(0o077)
    try:
        tell(path, ALL)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_the_textfile_is_replaced_in_one_step(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where that fails, the earlier one stays as it was, and nothing else is left."""
    tell(path, ALL)
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        assert path.read_bytes() == before
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    tell(path, GOES_ON)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize("folder", ["absent", "file"])
def test_a_textfile_that_cannot_be_written_is_said_once(
    tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs the run nothing else."""
    (tmp_path / "file").touch()
    output = Textfile(tmp_path / folder / "etl.prom", LABELS)
    for _ in range(3):
        output.tell(ALL.samples(), is_last=False)
    assert len(caplog.records) == 1


def test_the_last_success_stays_after_a_run_that_failed(path: Path) -> None:
    """Until the next success."""
    tell(path, ALL)
    tell(path, Figures(end=End(1, NOW + 50)))
    tell(path, Figures(end=End(2, NOW + 100)), (LABELS[0], LABELS[1]))
    found = parsed(path)
    assert found["etl_run_last_success_timestamp_seconds",] == NOW
    assert found["etl_run_last_end_timestamp_seconds",] == NOW + 100
    assert found["etl_run_exit_code",] == 2
    assert ("etl_queue_visible_messages",) not in found
    tell(path, Figures(end=End(0, NOW + 150)))
    assert parsed(path)["etl_run_last_success_timestamp_seconds",] == NOW + 150


def test_the_last_success_stays_after_a_run_whose_queue_has_no_name(path: Path) -> None:
    """A wrong URL is one of the ways in which a run fails."""
    tell(path, ALL)
    tell(path, Figures(end=End(2, NOW + 50)), (LABELS[0], "unknown"))
    tell(path, Figures(end=End(1, NOW + 100)))
    assert parsed(path)["etl_run_last_success_timestamp_seconds",] == NOW


def test_how_the_run_before_ended_stays_while_a_run_goes_on(path: Path) -> None:
    """An alert on the exit code is not resolved by a run that has only begun."""
    tell(path, ALL)
    tell(path, Figures(end=End(3, NOW + 50)))
    tell(path, GOES_ON)
    found = parsed(path)
    assert found["etl_run_exit_code",] == 3
    assert found["etl_run_last_end_timestamp_seconds",] == NOW + 50
    assert found["etl_run_last_success_timestamp_seconds",] == NOW
    assert found["etl_run_duration_seconds",] == 1.0
    assert found["etl_run_deliveries", "loaded"] == 0


def test_the_end_of_another_job_is_not_taken_over(path: Path) -> None:
    """Its success is none of this job."""
    tell(path, ALL, ("other", "logins"))
    tell(path, Figures(end=End(1, NOW)))
    assert ("etl_run_last_success_timestamp_seconds",) not in parsed(path)


@pytest.mark.parametrize("value", ["NaN", "+Inf"])
def test_the_time_of_the_last_success_is_a_number(path: Path, value: str) -> None:
    """No comparison with NaN is true, so no alert would tell that the job is silent."""
    path.write_text(f'{metrics.LAST_SUCCESS.name}{{job="{LABELS[0]}",queue="x"}} {value}\n')
    tell(path, Figures(end=End(1, NOW)))
    assert ("etl_run_last_success_timestamp_seconds",) not in parsed(path)


def test_each_sample_is_taken_over_once(path: Path) -> None:
    """Node-exporter refuses a whole file in which one comes twice, and so would each later one."""
    name = metrics.LAST_SUCCESS.name
    path.write_text(
        "".join(f'{name}{{job="{LABELS[0]}",queue="{queue}"}} {queue}\n' for queue in (5, 7, 6))
    )
    tell(path, Figures(end=End(1, NOW)))
    assert [line for line in path.read_text().splitlines() if line.startswith(name)] == [
        f'{name}{{job="{LABELS[0]}",queue="{LABELS[1]}"}} 7.0'
    ]


def test_a_pipe_in_the_place_of_the_file_holds_up_no_run(path: Path) -> None:
    """To open it for reading would wait for somebody who writes."""
    os.mkfifo(path)
    thread = threading.Thread(target=tell, args=(path, ALL), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert parsed(path) == written(ALL)


PARTS = st.sampled_from([*string.printable, "etl_run_exit_code", '{job="a"}', "# TYPE x gauge\n"])


@hypothesis_settings(max_examples=40)
@given(st.binary() | st.lists(PARTS).map(lambda parts: "".join(parts).encode()))
def test_a_file_that_is_not_ours_is_written_over(content: bytes) -> None:
    """Whatever is in it."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"etl-{os.getpid()}.prom"
    try:
        path.write_bytes(content)
        tell(path, ALL)
        assert parsed(path) == written(ALL)
    finally:
        path.unlink(missing_ok=True)


def test_multiprocess_mode_of_the_library_changes_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own gauges would write their values to other files."""
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(other))
    tell(path, ALL)
    assert parsed(path) == written(ALL)
    assert list(other.iterdir()) == []


# --- OpenTelemetry


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/metrics"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/x/"}, "http://c:4318/x/v1/metrics"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/m"}, "http://c/m"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/m",
            },
            "http://c/m",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "none"}, None),
    ],
)
def test_the_endpoint_is_that_of_the_standard_variables(
    variables: dict[str, str], endpoint: str | None
) -> None:
    """The one for metrics is taken as it is; the common one gets a path."""
    assert otlp.find_endpoint(variables) == endpoint


def test_the_collector_gets_every_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its unit, our labels, and the attributes of the conventions."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=night")
    with serve_collector() as collector:
        Otlp(f"{collector.url}/v1/metrics", LABELS, "public.user_logins").tell(
            ALL.samples(), is_last=True
        )
    assert [path for path, _ in collector.requests] == ["/v1/metrics"]
    (resource,) = collector.decoded()[0].resource_metrics
    assert attributes(resource.resource) == {
        "service.name": "etl",
        "service.version": __version__,
        "deployment.environment.name": "night",
    }
    units = {metric.name: metric.unit for metric in resource.scope_metrics[0].metrics}
    assert set(units) == {metric.name for metric in METRICS}
    assert units["etl_run_duration_seconds"] == "s"
    assert units["etl_dead_letter_messages"] == "{message}"
    assert units["etl_run_exit_code"] == ""
    points = collector.points()
    common = dict(zip(("job", "queue"), LABELS, strict=True))
    sqs = {"messaging.system": "aws_sqs", "messaging.destination.name": "logins"}
    postgres = {"db.system.name": "postgresql", "db.collection.name": "public.user_logins"}
    assert points["etl_queue_visible_messages"] == [({**common, **sqs}, 6)]
    assert points["etl_ledger_ids"] == [
        ({**common, **postgres, "db.collection.name": "etl.ledger"}, 8)
    ]
    assert points["etl_run_deliveries"] == [
        ({**common, **sqs, **postgres, "outcome": name}, value)
        for name, value in zip(OUTCOMES, (4, 3, 2, 1), strict=True)
    ]
    assert points["etl_run_exit_code"] == [(common, 0)]


def test_a_collector_that_does_not_answer_holds_up_no_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait ends before the answer, and within two seconds."""
    assert otlp.TRY_SECONDS < otlp.END_SECONDS < 2
    # The library would not give up in the time of this test.
    monkeypatch.setattr(otlp, "TRY_SECONDS", 10_000.0)
    monkeypatch.setattr(otlp, "END_SECONDS", 0.2)
    with serve_collector(answers=False) as collector:
        Otlp(f"{collector.url}/v1/metrics", LABELS, "t").tell(ALL.samples(), is_last=True)
        assert not collector.may_answer.is_set()
        assert "did not take the metrics: no answer" in caplog.text
        (sender,) = [thread for thread in threading.enumerate() if thread.name == "otlp"]
        assert sender.daemon
        collector.may_answer.set()
        sender.join()


@pytest.mark.parametrize("status", [400, 503])
def test_a_collector_that_refuses_is_said_once(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its address, which may hold a password."""
    with serve_collector(status) as collector:
        url = collector.url.replace("//", "//user:secret@") + "/v1/metrics"
        output = Otlp(url, LABELS, "t")
        for _ in range(2):
            output.tell(ALL.samples(), is_last=True)
    ours = [record for record in caplog.records if record.name.startswith("etl")]
    assert len(ours) == 1
    assert "secret" not in ours[0].getMessage()


def test_a_collector_that_has_moved_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """The library does not follow a redirection, and takes it for a success."""
    with serve_collector(status=307) as collector:
        Otlp(f"{collector.url}/v1/metrics", LABELS, "t").tell(ALL.samples(), is_last=True)
    assert "did not take the metrics" in caplog.text


def test_the_library_logs_nothing_where_others_listen_to_all_logs(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As AWS Lambda and Airflow do. It would quote headers, addresses and names of files."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "canary")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "canary")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "canary")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/canary")
    Otlp("https://user:canary@127.0.0.1:1/", LABELS, "t").tell(ALL.samples(), is_last=True)
    assert [record.name for record in caplog.records] == ["etl.monitoring.otlp"]
    assert "canary" not in caplog.text
    # What another part of the program does with OpenTelemetry is logged as before.
    logging.getLogger("opentelemetry.util.re").warning("of another thread")
    assert caplog.records[-1].getMessage() == "of another thread"


@pytest.mark.parametrize(
    "variable", ["OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_HEADERS"]
)
def test_a_malformed_variable_costs_a_warning_at_most(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the library that reads it, at each export."""
    monkeypatch.setenv(variable, "canary\n=")
    with serve_collector() as collector:
        Otlp(f"{collector.url}/v1/metrics", LABELS, "t").tell(ALL.samples(), is_last=True)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("etl")]
    assert len(ours) <= 1
    assert "canary" not in "".join(ours)


@pytest.mark.parametrize(
    ("library", "variables", "said"),
    [
        ("prometheus_client", {"ETL_METRICS__TEXTFILE": "/nowhere/etl.prom"}, "extra prometheus"),
        ("opentelemetry", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "extra otel"),
    ],
)
def test_a_library_that_is_not_installed_is_said_once(
    library: str,
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run goes on without it."""
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)  # its import fails
    with Monitor(config.load(ROOT / "config.yaml", variables), variables) as monitor:
        assert not monitor.is_on
    (record,) = caplog.records
    assert said in record.getMessage()


def test_a_run_that_a_bug_ends_tells_what_it_could_not_delete(path: Path) -> None:
    """And what it had counted until then."""
    variables = {"ETL_METRICS__TEXTFILE": str(path)}
    seen = Snapshot(received=3, loaded=3, not_acknowledged=2, updated=5, skipped=4)

    def end_by_a_bug() -> None:
        with Monitor(config.load(ROOT / "config.yaml", variables), variables) as monitor:
            watch = monitor.watching(None)
            assert watch is not None
            with watch(lambda: seen, cast("Queue", None)):
                raise RuntimeError

    with pytest.raises(RuntimeError):
        end_by_a_bug()
    text = path.read_text()
    for name, value in (("etl_run_not_acknowledged", 2), ("updated", 5), ("skipped", 4)):
        (line,) = (line for line in text.splitlines() if name in line and not line.startswith("#"))
        assert line.endswith(f" {value}.0")


def test_a_bug_in_an_output_does_not_end_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other outputs are told all the same."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("canary")

    variables = {
        "ETL_METRICS__EMF": "true",
        "ETL_LOG__FORMAT": "json",
        "ETL_METRICS__TEXTFILE": str(path),
    }
    monkeypatch.setattr(emf, "documents", fail)
    with Monitor(config.load(ROOT / "config.yaml", variables), variables) as monitor:
        monitor.ended(Summary("", COUNTS))
    assert path.exists()
    assert [record.getMessage() for record in caplog.records] == [
        "metrics are missing: unexpected RuntimeError"
    ]
