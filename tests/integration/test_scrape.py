"""From a run to an alert: its textfile, a real node-exporter, and a real Prometheus."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.monitoring import metrics
from etl.monitoring.metrics import Metric
from tests.conftest import Job
from tests.integration.debian_services import free_port, program, wait_until_open
from tests.integration.promql import LABELS_OF
from tests.unit.builders import ROOT, event

pytestmark = pytest.mark.long

FOLDER = ROOT / "deploy/prometheus"
WAIT_SECONDS = 120
# Nothing of what is tested depends on it; once a minute, the test would take minutes.
INTERVAL = "200ms"


@dataclass
class Prometheus:
    """A running Prometheus, which scrapes a node-exporter that reads the files of a folder."""

    port: int
    textfiles: Path

    def ask(self, path: str) -> Any:
        """Ask its HTTP interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}") as answer:
            return json.load(answer)["data"]

    def is_ready(self) -> bool:
        """Whether it has read its storage; until then it answers nothing else."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready"):
                return True
        except urllib.error.HTTPError:
            return False

    def alerts(self, state: str) -> dict[str, dict[str, Any]]:
        """The alerts that are pending or firing, by name."""
        alerts = self.ask("alerts")["alerts"]
        return {a["labels"]["alertname"]: a for a in alerts if a["state"] == state}

    def series(self) -> dict[str, dict[str, str]]:
        """The labels of a series of each of our metrics, as they are now."""
        query = "query?query=%7B__name__%3D~%22etl_.%2B%22%7D"
        return {one["metric"].pop("__name__"): one["metric"] for one in self.ask(query)["result"]}


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something is true."""
    ends_at = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.1)


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    """Start both programs with the configuration in deploy/, but for ports and intervals."""
    textfiles = tmp_path / "textfiles"
    textfiles.mkdir()
    exporter_port, port = free_port(), free_port()
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = dict.fromkeys(configuration["global"], INTERVAL)
    configuration["rule_files"] = [str(FOLDER / name) for name in configuration["rule_files"]]
    (scrape,) = configuration["scrape_configs"]
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{exporter_port}"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    commands = {
        exporter_port: [
            program("prometheus-node-exporter", "prometheus-node-exporter"),
            "--collector.disable-defaults", "--collector.textfile",
            f"--collector.textfile.directory={textfiles}",
            f"--web.listen-address=127.0.0.1:{exporter_port}",
        ],
        port: [
            program("prometheus", "prometheus"),
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
    }  # fmt: skip
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "log").open("wb"))
        for listens, command in commands.items():
            process = stack.enter_context(subprocess.Popen(command, stderr=log, stdout=log))
            stack.callback(process.kill)
            wait_until_open(listens, process)
        running = Prometheus(port, textfiles)
        wait_until(running.is_ready)
        yield running


def test_a_run_that_fails_fires_an_alert_and_a_good_one_ends_it(
    job: Job, prometheus: Prometheus
) -> None:
    """The alert names the job and the queue, and it is gone after the next run."""
    textfile = str(prometheus.textfiles / "logins.prom")
    job.send(*[event(ip="x")] * 10)
    strict = {"ETL_QUARANTINE__MIN_MESSAGES": "1", "ETL_QUARANTINE__MAX_FRACTION": "0"}
    job.run(code=3, ETL_METRICS__TEXTFILE=textfile, **strict)
    wait_until(lambda: "EtlTooMuchQuarantined" in prometheus.alerts("firing"))
    alert = prometheus.alerts("firing")["EtlTooMuchQuarantined"]
    queue = job.queue_url.rpartition("/")[2]
    assert alert["labels"]["exported_job"] == "public.user_logins"
    assert alert["labels"]["queue"] == queue
    assert alert["annotations"]["summary"].startswith("Job public.user_logins stopped")
    assert queue in alert["annotations"]["description"]
    assert "EtlRunFailed" not in prometheus.alerts("firing")

    job.client.purge_queue(QueueUrl=job.queue_url)
    job.send(event())
    job.run(ETL_METRICS__TEXTFILE=textfile)
    wait_until(lambda: not prometheus.alerts("firing"))
    series = prometheus.series()
    assert set(series) >= {metric.name for metric in (*metrics.OF_THE_END, metrics.DELIVERIES)}
    for name, labels in series.items():
        own = LABELS_OF[name] - {"job"} | {"exported_job", "job", "instance"}
        assert (set(labels), labels["job"], labels["queue"]) == (own, "node", queue), name


def write(prometheus: Prometheus, text: str) -> None:
    """Write the file of a job in one step, as a run does."""
    partial = prometheus.textfiles / "partial"
    partial.write_text(text)
    partial.replace(prometheus.textfiles / "logins.prom")


def one_sample(metric: Metric, value: float) -> str:
    """A file with one sample."""
    return f'# TYPE {metric.name} gauge\n{metric.name}{{job="logins",queue="q"}} {value}\n'


def test_a_job_that_was_silent_for_a_day_fires_an_alert(prometheus: Prometheus) -> None:
    """The file is still there and never changes, so only its timestamps tell."""
    write(prometheus, one_sample(metrics.LAST_SUCCESS, time.time() - 27 * 3600))
    wait_until(lambda: "EtlJobSilent" in prometheus.alerts("firing"))
    alert = prometheus.alerts("firing")["EtlJobSilent"]
    assert alert["annotations"]["summary"].startswith("Job logins has not succeeded for 1d 3h")
    write(prometheus, one_sample(metrics.LAST_SUCCESS, time.time()))
    wait_until(lambda: "EtlJobSilent" not in prometheus.alerts("firing"))


def test_a_file_that_cannot_be_read_is_noticed(prometheus: Prometheus) -> None:
    """The metrics of its job are gone; both alerts wait before they fire."""
    write(prometheus, one_sample(metrics.LAST_END, time.time()))
    wait_until(lambda: metrics.LAST_END.name in prometheus.series())
    assert not {"EtlTextfileUnreadable", "EtlJobVanished"} & set(prometheus.alerts("pending"))
    write(prometheus, "{")
    noticed = {"EtlTextfileUnreadable", "EtlJobVanished", "EtlNoMetrics"}
    wait_until(lambda: noticed <= set(prometheus.alerts("pending")))
