"""docker-compose.yml, elasticmq.conf, the Dockerfile and CI agree with each other and the code."""

from __future__ import annotations

import re
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from etl import config
from etl.crypto.keyring import Keyring, load_keyring
from tests.unit.builders import ROOT

# What the user puts into .env.
DOT_ENV = {"POSTGRES_PASSWORD": "f00d", "ETL_KEYRING": Keyring.new("k1").dump()}
# boto3 signs with these; the emulator does not look.
PLACEHOLDER = "unused"
# Words that a secret's name has, but for the ones that say where a secret is.
SECRET = re.compile(r"PASSWORD|SECRET|KEYRING|TOKEN|ACCESS_KEY|DATABASE_URL")


def text(name: str) -> str:
    """Read a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def substituted(value: str) -> str:
    """Fill in ``${NAME:?message}`` from .env, as compose does."""
    return re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: DOT_ENV[found[1]], value)


SERVICES: dict[str, Any] = yaml.safe_load(text("docker-compose.yml"))["services"]
CI: dict[str, Any] = yaml.safe_load(text(".github/workflows/ci.yml"))


def environment(service: str) -> dict[str, str]:
    """The environment that a service starts with."""
    given = SERVICES[service].get("environment", {})
    return {name: substituted(value) for name, value in given.items()}


def inner_ports(service: str) -> set[int]:
    """The ports that a service listens on."""
    return {int(port.rpartition(":")[2]) for port in SERVICES[service]["ports"]}


def queues() -> dict[str, str]:
    """The queues of elasticmq.conf, each with the text of its block."""
    section = re.search(
        r"^queues \{\n(.*?)^\}", text("docker/elasticmq.conf"), re.MULTILINE | re.DOTALL
    )
    assert section is not None
    blocks = re.findall(r"^  (\S+) \{(\}|.*?^  \})", section[1], re.MULTILINE | re.DOTALL)
    return dict(blocks)


def stages() -> dict[str, list[str]]:
    """The instructions of each stage of the Dockerfile, those of its parents first."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in re.sub(r"\\\n\s*", "", text("Dockerfile")).splitlines():
        if line.startswith("FROM"):
            _, parent, _, name = line.split()
            current = found[name] = [*found.get(parent, [])]
        if line and not line.startswith("#"):
            current.append(line)
    return found


def test_compose_sets_known_variables_only() -> None:
    """The settings refuse an unknown ETL_ variable, so loading them is the check."""
    everything = {name: value for each in SERVICES for name, value in environment(each).items()}
    settings = config.load(ROOT / "config.yaml", everything)
    assert settings.queue.url == everything["ETL_QUEUE__URL"]


def test_the_job_gets_a_keyring() -> None:
    """One source of keys, and it can be read."""
    assert load_keyring(environment("job")).key_ids == ("k1",)


def test_jupyter_gets_no_key_and_no_queue() -> None:
    """Who explores sees tokens only."""
    assert set(environment("jupyter")) == {"DATABASE_URL", "PGOPTIONS"}


@pytest.mark.parametrize("service", ["job", "jupyter"])
def test_the_database_url_is_the_postgres_service(service: str) -> None:
    """Host, port, role, password and database."""
    url = urlsplit(environment(service)["DATABASE_URL"])
    postgres = environment("postgres")
    assert url.hostname == "postgres"
    assert {url.port} == inner_ports("postgres")
    assert (url.username, url.password, url.path) == (
        postgres["POSTGRES_USER"],
        postgres["POSTGRES_PASSWORD"],
        "/" + postgres["POSTGRES_DB"],
    )


def test_the_queue_url_is_a_queue_of_the_sqs_service() -> None:
    """Host, port, and a queue that elasticmq.conf creates."""
    url = urlsplit(environment("job")["ETL_QUEUE__URL"])
    account, queue = url.path.strip("/").split("/")
    assert url.hostname == "sqs"
    assert {url.port} == inner_ports("sqs")
    assert queue in queues()
    assert f"accountId = {account}" in text("docker/elasticmq.conf")


def test_the_queue_has_a_dead_letter_queue() -> None:
    """A message that no run can handle goes to logins-dead."""
    made = queues()
    named = re.search(
        r'deadLettersQueue \{\s*name = "(\S+)"\s*maxReceiveCount = \d+', made["logins"]
    )
    assert set(made) == {"logins", "logins-dead"}
    assert named is not None
    assert named[1] == "logins-dead"


def test_elasticmq_listens_where_compose_expects_it() -> None:
    """One port and one region in elasticmq.conf, boto3's endpoint and the health check."""
    conf = text("docker/elasticmq.conf")
    ports = {int(port) for port in re.findall(r"^  (?:bind-)?port = (\d+)", conf, re.MULTILINE)}
    assert ports == inner_ports("sqs") == {9324}
    assert environment("job")["AWS_ENDPOINT_URL"] == "http://sqs:9324"
    assert '"http://sqs:9324/health"' in SERVICES["sqs-ready"]["command"][0]
    assert f"region = {environment('job')['AWS_REGION']}" in conf


def test_elasticmq_reads_our_configuration() -> None:
    """It is mounted where the image looks for it, and the file is there."""
    source, target, mode = SERVICES["sqs"]["volumes"][0].split(":")
    assert (target, mode) == ("/opt/elasticmq.conf", "ro")
    assert (ROOT / source).is_file()


def test_the_health_probe_is_python() -> None:
    """It stands in YAML, where no linter looks."""
    compile(SERVICES["sqs-ready"]["command"][0], "sqs-ready", "exec")


def test_the_job_waits_for_both_services() -> None:
    """Started is not ready."""
    waits = {name: each["condition"] for name, each in SERVICES["job"]["depends_on"].items()}
    assert waits == {"postgres": "service_healthy", "sqs-ready": "service_completed_successfully"}
    assert "pg_isready" in SERVICES["postgres"]["healthcheck"]["test"]


def test_the_images_are_pinned() -> None:
    """Two starts on two days give the same services."""
    images = {name: each["image"] for name, each in SERVICES.items() if "build" not in each}
    assert images == {
        "postgres": "postgres:18.6-alpine",
        "sqs": "softwaremill/elasticmq-native:1.7.1",
    }
    assert stages()["base"][0] == "FROM python:3.13-slim-trixie AS base"


def test_postgres_keeps_its_data_in_a_volume() -> None:
    """Since 18 the images refuse a volume at /var/lib/postgresql/data."""
    assert SERVICES["postgres"]["volumes"] == ["postgres-data:/var/lib/postgresql"]


def test_ports_are_published_on_this_machine_only() -> None:
    """Nothing of this is reachable from the network."""
    ports = [port for each in SERVICES.values() for port in each.get("ports", [])]
    assert len(ports) == 3
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_compose_builds_stages_that_exist() -> None:
    """A target names a stage of the Dockerfile."""
    targets = {each["build"]["target"] for each in SERVICES.values() if "build" in each}
    assert targets == {"job", "jupyter"}
    assert targets < set(stages())


@pytest.mark.parametrize("stage", ["job", "jupyter"])
def test_no_image_runs_as_root(stage: str) -> None:
    """The last USER is a number that is not 0."""
    users = [line.split()[1] for line in stages()[stage] if line.startswith("USER")]
    assert users[-1] == "10001:10001"


def test_the_job_installs_what_production_needs_and_no_more() -> None:
    """requirements.txt, the package and its settings."""
    job = stages()["job"]
    copied = [line.split()[1:-1] for line in job if line.startswith("COPY")]
    assert copied == [["requirements.txt"], ["etl/"], ["config.yaml"]]
    assert [
        line for line in job if re.search(r"pip install .*--requirement requirements\.txt$", line)
    ]


def test_a_build_without_a_target_makes_the_job() -> None:
    """The commands at the top of docker-compose.yml rely on it."""
    assert list(stages())[-1] == "job"
    assert stages()["job"][-2:] == ['ENTRYPOINT ["python", "-m", "etl"]', 'CMD ["run"]']


def test_builds_see_only_what_the_dockerfile_copies() -> None:
    """.dockerignore leaves everything out, and lets the copied paths in again."""
    lines = text(".dockerignore").splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?:--\S+ )?(\S+?)/? ", text("Dockerfile"), re.MULTILINE)
    assert lines[1] == "*"
    assert let_in == set(copied)


def test_compose_holds_no_secret() -> None:
    """Whatever has a secret's name comes from .env or is a placeholder."""
    literal = [
        name
        for each in SERVICES.values()
        for name, value in each.get("environment", {}).items()
        if SECRET.search(name) and "${" not in value and value != PLACEHOLDER
    ]
    assert literal == []


@pytest.mark.parametrize(
    "name", ["Dockerfile", "docker/elasticmq.conf", ".github/workflows/ci.yml"]
)
def test_no_secret_is_set_elsewhere(name: str) -> None:
    """These need none, so not even a variable for one stands in them."""
    assert SECRET.findall(text(name).upper()) == []


def test_the_secrets_file_is_not_committed() -> None:
    """Git ignores .env and every keyring."""
    assert {".env", "keyring*.json"} <= set(text(".gitignore").splitlines())


def test_ci_runs_the_targets_of_the_makefile() -> None:
    """CI and .ci/run do what a person does: lint, types, test."""
    steps = [step["run"] for step in CI["jobs"]["check"]["steps"] if "run" in step]
    targets = re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE)
    assert steps == ["make lint", "make types", "make test"]
    assert re.findall(r"^section (\w+)$", text(".ci/run"), re.MULTILINE) == [
        "lint",
        "types",
        "test",
    ]
    assert {"lint", "types", "test"} < set(targets)


def test_ci_covers_the_python_versions_from_the_oldest_supported() -> None:
    """pyproject.toml says which is the oldest."""
    versions = CI["jobs"]["check"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert f'requires-python = ">={versions[0]}"' in text("pyproject.toml")


def test_actions_are_pinned_by_major_version() -> None:
    """No branch, no floating tag."""
    actions = [step["uses"] for step in CI["jobs"]["check"]["steps"] if "uses" in step]
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@v\d+", action)] == []


def test_the_ci_script_is_executable_bash() -> None:
    """It is called by its name."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
