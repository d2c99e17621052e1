"""The schedules of deploy/ agree with the program: commands, settings, exit codes, time to stop."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl import config, errors
from etl.cli import EXIT_CODES, main
from etl.config.conversion import sections
from tests.unit.builders import ROOT

DEPLOY = ROOT / "deploy"
SYSTEMD = DEPLOY / "systemd/etl.service"
CRON = DEPLOY / "cron/etl"
KUBERNETES = DEPLOY / "kubernetes/cronjob.yaml"
KEDA = DEPLOY / "keda/scaledjob.yaml"
AIRFLOW = DEPLOY / "airflow/etl_dag.py"
LAMBDA = DEPLOY / "lambda/function.yaml"
FILES = (SYSTEMD, CRON, KUBERNETES, KEDA, AIRFLOW, LAMBDA)  # Lambda calls no command

SETTINGS = config.load(ROOT / "config.yaml", {})
# A batch's transaction, and a minute for its deletes and the releases.
STOP_SECONDS = SETTINGS.database.answer_seconds + 60
# Those that another try cannot mend.
NEED_A_PERSON = {errors.ConfigurationError.exit_code, errors.QuarantineBudget.exit_code}


class Template(yaml.SafeLoader):
    """Reads CloudFormation, whose tags such as !Ref stand for themselves."""


Template.add_multi_constructor("!", lambda _loader, suffix, node: f"!{suffix}")


def documents(path: Path) -> dict[str, Any]:
    """The documents of a file, by their kind."""
    loaded = yaml.load_all(path.read_text(), Template)
    return {document.get("kind", "Template"): document for document in loaded}


def unit() -> dict[str, list[str]]:
    """The lines of the service, by their name."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", SYSTEMD.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def job(path: Path) -> Any:
    """The specification of the job in a file for Kubernetes."""
    if path == KUBERNETES:
        return documents(path)["CronJob"]["spec"]["jobTemplate"]["spec"]
    return documents(path)["ScaledJob"]["spec"]["jobTargetRef"]


def commands(path: Path) -> Iterator[list[str]]:
    """The commands of etl in a file: what a schedule runs, and what a comment says to run."""
    text = path.read_text()
    lines = re.findall(r"bin/etl ([a-z][^>\n]*?)(?:>>|$)", text, re.MULTILINE)
    yield from map(shlex.split, lines)
    if path in (KUBERNETES, KEDA):
        yield job(path)["template"]["spec"]["containers"][0]["args"]
    if path == AIRFLOW:
        lists = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.List)]
        for names in (node.elts for node in lists):
            if names and isinstance(names[0], ast.Name) and names[0].id == "PROGRAM":
                yield [ast.literal_eval(name) for name in names[1:]]


@pytest.mark.parametrize("path", FILES[:-1], ids=lambda path: path.name)
def test_every_command_of_a_schedule_exists(path: Path) -> None:
    """With its options, as the program itself reads them; and each file has one."""
    found = list(commands(path))
    assert found
    for name, *arguments in found:
        command = main.commands[name]
        command.make_context(name, arguments, resilient_parsing=False)


def test_the_handler_of_the_function_exists() -> None:
    """Lambda imports it by this name."""
    name = documents(LAMBDA)["Template"]["Resources"]["Function"]["Properties"]["Handler"]
    path, _, function = name.rpartition(".")
    tree = ast.parse((ROOT / f"{path.replace('.', '/')}.py").read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_of_a_schedule_exists(path: Path) -> None:
    """Variables by their names, and settings that a comment names with their values."""
    text = path.read_text()
    known = {
        f"{section}.{name}"
        for section, model in sections(config.Settings).items()
        for name in model.model_fields
    }
    variables = set(re.findall(r"\bETL_[A-Z_]+[A-Z]\b", text)) - config.sources.NOT_SETTINGS
    names = {name[4:].lower().replace("__", ".") for name in variables}
    assert names <= known
    for name, value in re.findall(r"\b(\w+\.\w+) \((\d+)\)", text):
        section, key = name.split(".")
        assert getattr(getattr(SETTINGS, section), key) == int(value)


def test_two_exit_codes_need_a_person() -> None:
    """A further one, in the help, would have to be sorted into the schedules."""
    assert re.findall(r"^  (\d)  ", EXIT_CODES, re.MULTILINE) == ["0", "1", "2", "3"]
    assert {2, 3} == NEED_A_PERSON


def test_systemd_tries_again_only_what_may_succeed() -> None:
    """It starts the service again after any other failure, and not for ever."""
    known = unit()
    assert known["Restart"] == ["on-failure"]
    assert {int(code) for code in known["RestartPreventExitStatus"][0].split()} == NEED_A_PERSON
    assert (known["StartLimitBurst"], known["StartLimitIntervalSec"]) == (["3"], ["6h"])


@pytest.mark.parametrize("path", [KUBERNETES, KEDA], ids=lambda path: path.name)
def test_kubernetes_tries_again_only_what_may_succeed(path: Path) -> None:
    """The rules are in order: the first that fits counts."""
    spec = job(path)
    actions = [
        (rule["action"], set(rule["onExitCodes"]["values"]))
        for rule in spec["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    ]
    assert actions == [("FailJob", NEED_A_PERSON), ("Count", {errors.Outage.exit_code})]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["backoffLimit"] == 2


def test_airflow_tries_again_only_what_may_succeed() -> None:
    """The other exit codes fail the task for good."""
    codes = re.findall(r"^NEED_A_PERSON = (\(.*?\))", AIRFLOW.read_text(), re.MULTILINE)
    assert set(ast.literal_eval(codes[0])) == NEED_A_PERSON


def test_lambda_tries_nothing_again() -> None:
    """It cannot tell exit codes apart, and its own default is two more tries."""
    resources = documents(LAMBDA)["Template"]["Resources"]
    assert resources["NoRetries"]["Properties"]["MaximumRetryAttempts"] == 0
    assert resources["Function"]["Properties"]["ReservedConcurrentExecutions"] == 1


def test_a_stop_leaves_time_for_the_batch_in_hand() -> None:
    """SIGKILL comes later than the end of the longest transaction."""
    minutes = re.fullmatch(r"(\d+)min", unit()["TimeoutStopSec"][0])
    assert minutes is not None
    assert int(minutes[1]) * 60 >= STOP_SECONDS
    for path in (KUBERNETES, KEDA):
        assert job(path)["template"]["spec"]["terminationGracePeriodSeconds"] >= STOP_SECONDS


@pytest.mark.long
def test_the_cron_job_is_valid() -> None:
    """Nothing in it is unknown to the newest Kubernetes, nor to the oldest that it is for."""
    import kubernetes_validate

    for version in ("1.31", "1.37"):
        for document in documents(KUBERNETES).values():
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("path", [KUBERNETES, KEDA], ids=lambda path: path.name)
def test_the_pod_is_restricted(path: Path) -> None:
    """As the Pod Security Standard `restricted` asks, and with a root that is read-only."""
    pod = job(path)["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [set(volume) for volume in pod["volumes"]] == [{"name", "secret"}]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert str(pod["securityContext"]["runAsUser"]) in (ROOT / "Dockerfile").read_text()


def test_the_pods_of_both_files_are_the_same() -> None:
    """KEDA only decides when one starts."""
    assert job(KUBERNETES) == job(KEDA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_schedule_holds_a_secret(path: Path) -> None:
    """Passwords and keys are in files or secrets that it names."""
    text = path.read_text()
    assert re.findall(r"://[^/\s'\"]+:[^/\s'\"]+@", text) == []
    assert re.findall(r"[A-Za-z0-9+/]{40,}", text.replace("/", " ")) == []
