"""The alert rules: each fires and is silent where it should, by Prometheus's own promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.debian_services import program
from tests.integration.promql import LABELS_OF, OF_PROMETHEUS, labels_in, metrics_in, unknown_in
from tests.unit.builders import ROOT, some_long

FOLDER = ROOT / "deploy/prometheus"
RUNBOOK = ROOT / "docs/runbook.md"
(GROUP,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
RULES: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in GROUP["rules"]}
CASES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
# Alerts that are not about one job: there is none to name.
OF_NO_JOB = {"EtlNoMetrics", "EtlTextfileUnreadable"}

# Each is a mistake that is easily made: what is in the rules, and what takes its place.
PLANTED_BUGS = {
    "silence the wrong way round": ("timestamp_seconds > 26", "timestamp_seconds < 26"),
    "silence of failed runs": ("time() - etl_run_last_success", "time() - etl_run_last_end"),
    "a wait that starts again with each version": ("max without (version) (etl_build_info)",
        "etl_build_info"),
    "a job that has succeeded": ("unless etl_run_last_success", "or etl_run_last_success"),
    "one job of two is gone": ("last_over_time(etl_run_last_end_timestamp_seconds[7d]) unless",
        "absent(etl_run_last_end_timestamp_seconds) unless"),
    "a first run that goes on": ("absent(etl_build_info)",
        "absent(etl_run_last_end_timestamp_seconds)"),
    "a renamed queue": ("unless ignoring (queue) ", "unless "),
    "two alerts for one failure": (" and etl_run_exit_code != 3", ""),
    "another exit code": ("etl_run_exit_code == 3", "etl_run_exit_code == 2"),
    "dead letters that were moved back": ("> min_over_time(etl_dead", "!= max_over_time(etl_dead"),
    "no number of dead letters during a run": ("last_over_time(etl_dead_letter_messages[26h]) > 0",
        "etl_dead_letter_messages > 0"),
    "a backlog that was larger before": (
        " > min_over_time(etl_queue_visible_messages[1d] offset 2d)", ""),
    "the messages of a day": ("min_over_time(etl_queue", "max_over_time(etl_queue"),
    "labels that do not match": ("/ ignoring (outcome) ", "/ "),
    "a share of a few messages": (" >= 100", ""),
    "a share of all deliveries": ("""{outcome=~"loaded|quarantined"}""", ""),
    "a number that reads 1e+06": ("""{{ printf "%.0f" $value }}""", "{{ $value }}"),
    "the job of node-exporter": ("or $labels.exported_job $labels.job", "$labels.job"),
    "the job with honor_labels": ("or $labels.exported_job $labels.job", "$labels.exported_job"),
}  # fmt: skip


def promtool(*arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    """Run promtool in the folder of the rules."""
    command = [program("promtool", "prometheus"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def flat(text: str) -> str:
    """A text with each run of white space as one space."""
    return " ".join(text.split())


def with_bug(old: str, new: str) -> str:
    """The rules with a bug in them; an expression of several lines becomes one."""
    group = {**GROUP, "rules": [rule | {"expr": flat(rule["expr"])} for rule in RULES.values()]}
    text = yaml.safe_dump({"groups": [group]}, width=10_000, default_style='"')
    old, new = (part.replace('"', '\\"') for part in (old, new))
    assert old in text
    return text.replace(old, new)


def test_prometheus_accepts_the_rules_and_the_configuration() -> None:
    """Its own check finds no mistake in either."""
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stderr


def test_each_alert_fires_and_is_silent_where_it_should() -> None:
    """The cases pass, and compare every word of an alert."""
    tested = promtool("test", "rules", "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("bug", some_long(list(PLANTED_BUGS)))
def test_the_cases_catch_a_planted_bug(bug: str, tmp_path: Path) -> None:
    """A rule that is nearly right does not pass."""
    shutil.copy(FOLDER / "alerts_test.yml", tmp_path)
    (tmp_path / "alerts.yml").write_text(with_bug(*PLANTED_BUGS[bug]))
    tested = promtool("test", "rules", "alerts_test.yml", folder=tmp_path)
    assert (tested.returncode, "FAILED" in tested.stderr) == (1, True), tested.stdout


def test_the_rules_pass_without_a_planted_bug(tmp_path: Path) -> None:
    """What the test above catches is the bug, and not how the rules are written there."""
    shutil.copy(FOLDER / "alerts_test.yml", tmp_path)
    (tmp_path / "alerts.yml").write_text(with_bug("severity", "severity"))
    tested = promtool("test", "rules", "alerts_test.yml", folder=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", RULES)
def test_each_alert_has_cases_where_its_metrics_exist(alert: str) -> None:
    """It fires in one of them and is silent in another, although there is something to look at."""
    found: dict[bool, set[str]] = {}
    for case in CASES:
        given = {re.split(r"\{", series["series"])[0] for series in case["input_series"]}
        for test in case["alert_rule_test"]:
            if test["alertname"] == alert:
                found.setdefault(bool(test["exp_alerts"]), set()).update(given)
    assert set(found) == {True, False}
    assert metrics_in(RULES[alert]["expr"]) <= found[False]


@pytest.mark.parametrize("alert", RULES)
def test_each_metric_and_label_of_an_alert_exists(alert: str) -> None:
    """The program writes every metric that a rule reads, with the labels that it goes by."""
    rule = RULES[alert]
    assert unknown_in(rule["expr"]) == set()
    assert metrics_in(rule["expr"])
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    known = set().union(*(LABELS_OF[name] for name in metrics_in(rule["expr"])))
    assert shown <= known | OF_PROMETHEUS


def test_each_series_of_the_cases_has_the_labels_that_prometheus_gives_it() -> None:
    """A rule that matches other labels than the real ones would pass with made-up ones."""
    for case in CASES:
        for series in case["input_series"]:
            (name,) = metrics_in(series["series"])
            labels = labels_in(series["series"])
            own = LABELS_OF[name]
            behind_node_exporter = own - {"job"} | {"job", "instance"}
            if "job" in own:
                behind_node_exporter |= {"exported_job"}
            assert labels in (behind_node_exporter, own | {"instance"}), series


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("etl_run_exit_code != 0", set()),
        ("etl_run_exitcode != 0", {"etl_run_exitcode"}),
        ('sum without (outcome) (etl_run_deliveries{outcome=~"etl_x|y"})', set()),
        ('etl_run_deliveries{result="loaded"}', {"result"}),
        ("etl_run_exit_code / ignoring (outcome) etl_run_duration_seconds", {"outcome"}),
        ("node_uname_info", {"node_uname_info"}),
    ],
)
def test_unknown_metrics_and_labels_are_found(expression: str, unknown: set[str]) -> None:
    """The tests above would pass over a name that this one does not see."""
    assert unknown_in(expression) == unknown


@pytest.mark.parametrize("alert", RULES)
def test_each_alert_says_whom_it_is_about_and_what_to_do(alert: str) -> None:
    """Its texts name the job and the queue, and it points to its part of the runbook."""
    rule = RULES[alert]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    texts = rule["annotations"]
    assert set(texts) == {"summary", "description", "runbook"}
    assert texts["runbook"] == f"docs/runbook.md#{alert.lower()}"
    if alert not in OF_NO_JOB:
        assert "{{ or $labels.exported_job $labels.job }}" in texts["summary"]
        assert "{{ $labels.queue }}" in texts["description"]


def test_the_runbook_has_a_part_for_each_alert() -> None:
    """A person who is woken finds the cause and the command."""
    headings = re.findall(r"^#+ (Etl\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(RULES)
