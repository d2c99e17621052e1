"""docker-compose.yml, elasticmq.conf, the Dockerfile and CI agree with each other and the code."""

from __future__ import annotations

import re
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import SecretStr

from etl import config
from etl.config import DatabaseSettings
from etl.crypto.keyring import Keyring, load_keyring
from etl.postgres.engine import driver_url
from etl.postgres.rds import rds_parameters
from tests.unit.builders import ROOT

# The variables that a user writes to .env.
DOT_ENV = {"POSTGRES_PASSWORD": "f00d", "ETL_KEYRING": Keyring.new("k1").dump()}
# boto3 signs requests with this; the emulator does not check the signature.
PLACEHOLDER = "unused"
# The name of a variable with a secret contains one of these words.
SECRET = re.compile(r"PASSWORD|SECRET|KEYRING|TOKEN|ACCESS_KEY|DATABASE_URL")


def text(name: str) -> str:
    """Read a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def substituted(value: str) -> str:
    """Replace ``${NAME:?message}`` by the value from .env, as compose does."""
    return re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: DOT_ENV[match[1]], value)


SERVICES: dict[str, Any] = yaml.safe_load(text("docker-compose.yml"))["services"]
CI: dict[str, Any] = yaml.safe_load(text(".github/workflows/ci.yml"))
RELEASE: dict[str, Any] = yaml.safe_load(text(".github/workflows/release.yml"))


def environment(service: str) -> dict[str, str]:
    """The environment that a service starts with."""
    variables = SERVICES[service].get("environment", {})
    return {name: substituted(value) for name, value in variables.items()}


def inner_ports(service: str) -> set[int]:
    """The ports that a service listens on."""
    return {int(port.rpartition(":")[2]) for port in SERVICES[service]["ports"]}


def queues() -> dict[str, str]:
    """The queues in elasticmq.conf, each with the text of its block."""
    section = re.search(
        r"^queues \{\n(.*?)^\}", text("docker/elasticmq.conf"), re.MULTILINE | re.DOTALL
    )
    assert section is not None
    blocks = re.findall(r"^  (\S+) \{(\}|.*?^  \})", section[1], re.MULTILINE | re.DOTALL)
    return dict(blocks)


def stages() -> dict[str, list[str]]:
    """The instructions of each stage of the Dockerfile, after those of the stages it builds on."""
    instructions: dict[str, list[str]] = {}
    current: list[str] = []
    for line in re.sub(r"\\\n\s*", "", text("Dockerfile")).splitlines():
        if line.startswith("FROM"):
            _, parent, _, name = line.split()
            current = instructions[name] = [*instructions.get(parent, [])]
        if line and not line.startswith("#"):
            current.append(line)
    return instructions


def copied(stage: str) -> list[list[str]]:
    """The words of each COPY of a stage: an option such as ``--from`` first, without the target."""
    return [line.split()[1:-1] for line in stages()[stage] if line.startswith("COPY")]


def installed(stage: str) -> list[str]:
    """The words of each pip of a stage, without its unimportant options."""
    unimportant = r"--no-cache-dir |--disable-pip-version-check "
    lines = [line for line in stages()[stage] if line.startswith("RUN pip ")]
    return [re.sub(unimportant, "", line.removeprefix("RUN pip ")) for line in lines]


def test_compose_sets_known_variables_only() -> None:
    """Loading the settings checks it, since an unknown ETL_ variable is an error."""
    variables = {
        name: value for service in SERVICES for name, value in environment(service).items()
    }
    settings = config.load(ROOT / "config.yaml", variables)
    assert settings.queue.url == variables["ETL_QUEUE__URL"]


def test_the_job_gets_a_keyring() -> None:
    """The job has exactly one source of keys, and the keyring can be read from it."""
    assert load_keyring(environment("job")).key_ids == ("k1",)


def test_jupyter_gets_no_key_and_no_queue() -> None:
    """An analyst sees tokens and never a plain value."""
    assert set(environment("jupyter")) == {"DATABASE_URL", "PGOPTIONS"}


@pytest.mark.parametrize("service", ["job", "jupyter"])
def test_the_database_url_is_the_postgres_service(service: str) -> None:
    """The host, port, role, password and database are those of the service."""
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
    """The host and port are those of the service, and elasticmq.conf creates the queue."""
    url = urlsplit(environment("job")["ETL_QUEUE__URL"])
    account, queue = url.path.strip("/").split("/")
    assert url.hostname == "sqs"
    assert {url.port} == inner_ports("sqs")
    assert queue in queues()
    assert f"accountId = {account}" in text("docker/elasticmq.conf")


def test_the_queue_has_a_dead_letter_queue() -> None:
    """A message that no run can handle goes to logins-dead."""
    blocks = queues()
    dead_letter = re.search(
        r'deadLettersQueue \{\s*name = "(\S+)"\s*maxReceiveCount = \d+', blocks["logins"]
    )
    assert set(blocks) == {"logins", "logins-dead"}
    assert dead_letter is not None
    assert dead_letter[1] == "logins-dead"


def test_elasticmq_listens_where_compose_expects_it() -> None:
    """elasticmq.conf, boto3's endpoint and the health check have one port and one region."""
    conf = text("docker/elasticmq.conf")
    ports = {int(port) for port in re.findall(r"^  (?:bind-)?port = (\d+)", conf, re.MULTILINE)}
    assert ports == inner_ports("sqs") == {9324}
    assert environment("job")["AWS_ENDPOINT_URL"] == "http://sqs:9324"
    assert '"http://sqs:9324/health"' in SERVICES["sqs-ready"]["command"][0]
    assert f"region = {environment('job')['AWS_REGION']}" in conf


def test_elasticmq_reads_our_configuration() -> None:
    """It is mounted where the image looks for it, and the file exists."""
    source, target, mode = SERVICES["sqs"]["volumes"][0].split(":")
    assert (target, mode) == ("/opt/elasticmq.conf", "ro")
    assert (ROOT / source).is_file()


def test_the_health_probe_is_python() -> None:
    """The script compiles; it is in a YAML file, which no linter checks."""
    compile(SERVICES["sqs-ready"]["command"][0], "sqs-ready", "exec")


def test_the_job_waits_for_both_services() -> None:
    """It starts when they are ready, not when they have only started."""
    waits = {name: wait["condition"] for name, wait in SERVICES["job"]["depends_on"].items()}
    assert waits == {"postgres": "service_healthy", "sqs-ready": "service_completed_successfully"}
    assert "pg_isready" in SERVICES["postgres"]["healthcheck"]["test"]


def test_the_images_are_pinned() -> None:
    """A start next month uses the same versions of the services."""
    images = {
        name: service["image"] for name, service in SERVICES.items() if "build" not in service
    }
    assert images == {
        "postgres": "postgres:18.6-alpine",
        "sqs": "softwaremill/elasticmq-native:1.7.1",
    }
    froms = [line.split()[1] for line in text("Dockerfile").splitlines() if line[:5] == "FROM "]
    (base,) = set(froms) - set(stages())
    assert re.fullmatch(r"python:3\.13-slim-trixie@sha256:[0-9a-f]{64}", base)


def test_postgres_keeps_its_data_in_a_volume() -> None:
    """Since version 18 the images refuse a volume at /var/lib/postgresql/data."""
    assert SERVICES["postgres"]["volumes"] == ["postgres-data:/var/lib/postgresql"]


def test_ports_are_published_on_this_machine_only() -> None:
    """No service can be reached from the network."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_compose_builds_stages_that_exist() -> None:
    """Each target names a stage of the Dockerfile."""
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == {"job", "jupyter"}
    assert targets < set(stages())


@pytest.mark.parametrize("stage", ["job", "jupyter"])
def test_no_image_runs_as_root(stage: str) -> None:
    """The last USER of the stage is a number other than 0."""
    users = [line.split()[1] for line in stages()[stage] if line.startswith("USER")]
    assert users[-1] == "10001:10001"


def test_the_job_installs_what_production_needs_and_no_more() -> None:
    """The image has the pinned requirements, the wheel and config.yaml."""
    assert copied("job") == [["requirements.txt"], ["--from=wheel", "/wheels/"], ["config.yaml"]]
    assert installed("job") == [
        "install --requirement requirements.txt",
        "install --no-deps /wheels/*.whl",
    ]


@pytest.mark.parametrize("stage", ["job", "jupyter"])
def test_the_images_verify_databases_in_rds(stage: str) -> None:
    """They have the file of AWS, pinned and readable for their user, and name it in a setting."""
    (line,) = (line for line in stages()[stage] if line.startswith("ADD"))
    *options, url, target = line.split()[1:]
    assert url == "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
    assert re.fullmatch(r"--checksum=sha256:[0-9a-f]{64}", options[0])
    assert options[1:] == ["--chmod=0444"]
    words = [word for line in stages()[stage] if line.startswith("ENV") for word in line.split()]
    variables = dict(word.split("=") for word in words if word.startswith("ETL_"))
    settings = config.load(ROOT / "config.yaml", variables)
    assert settings.database.rds_ca_file == target


@pytest.mark.parametrize("service", ["job", "jupyter"])
def test_the_images_leave_other_databases_alone(service: str) -> None:
    """The Postgres of docker-compose.yml has no TLS, which libpq's own variables would demand."""
    assert not [line for line in stages()[service] if re.search(r"\bPG[A-Z]+", line)]
    url = environment(service)["DATABASE_URL"]
    made = DatabaseSettings(url=SecretStr(url), rds_ca_file="/etc/ssl/rds-global-bundle.pem")
    assert rds_parameters(driver_url(url), made, {}) == {}


def test_jupyter_has_the_job_and_the_development_requirements() -> None:
    """The requirements files that requirements-dev.txt includes are copied before it is read."""
    assert copied("jupyter") == [
        *copied("job"),
        ["requirements-build.txt", "requirements-dev.txt"],
        ["--chown=10001:10001", "notebooks/"],
    ]
    assert installed("jupyter") == [
        *installed("job"),
        "install --requirement requirements-dev.txt",
    ]
    included = re.findall(r"^-r (\S+)$", text("requirements-dev.txt"), re.MULTILINE)
    assert included == ["requirements.txt", "requirements-build.txt"]


def test_the_wheel_is_built_by_the_pinned_backend() -> None:
    """Without isolation, so that pip does not download another version of the backend."""
    assert installed("wheel") == [
        "install --requirement requirements-build.txt",
        "wheel --no-deps --no-build-isolation --wheel-dir /wheels .",
    ]


def test_a_build_without_a_target_makes_the_job() -> None:
    """The commands at the top of docker-compose.yml rely on it."""
    assert list(stages())[-1] == "job"
    assert stages()["job"][-2:] == ['ENTRYPOINT ["etl"]', 'CMD ["run"]']


def test_builds_see_only_what_the_dockerfile_copies() -> None:
    """.dockerignore excludes everything, then includes exactly the paths that are copied."""
    lines = text(".dockerignore").splitlines()
    included = {line.removeprefix("!") for line in lines if line.startswith("!")}
    words = {
        word.rstrip("/")
        for stage in stages()
        for copy in copied(stage)
        if copy[0] != "--from=wheel"
        for word in copy
        if not word.startswith("--")
    }
    assert lines[1] == "*"
    assert included == words


def test_compose_holds_no_secret() -> None:
    """A variable with the name of a secret is taken from .env or is the placeholder."""
    literal = [
        name
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if SECRET.search(name) and "${" not in value and value != PLACEHOLDER
    ]
    assert literal == []


@pytest.mark.parametrize(
    "name",
    ["Dockerfile", "docker/elasticmq.conf", ".github/workflows/ci.yml", ".github/dependabot.yml"],
)
def test_no_secret_is_set_elsewhere(name: str) -> None:
    """These files need no secret, so they do not even name a variable for one."""
    assert SECRET.findall(text(name).upper()) == []


def test_the_secrets_file_is_not_committed() -> None:
    """Git ignores .env and every keyring."""
    assert {".env", "keyring*.json"} <= set(text(".gitignore").splitlines())


def test_ci_runs_the_targets_of_the_makefile() -> None:
    """CI and .ci/run call the same targets as a person: lint, types, test."""
    steps = [step["run"] for step in CI["jobs"]["check"]["steps"] if "run" in step]
    targets = re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE)
    assert steps == ["make lint", "make types", "make test", "make test-long"]
    deploy = [step["run"] for step in CI["jobs"]["deploy"]["steps"] if "run" in step]
    assert deploy == ["make deploy-lint", "make deploy-test"]
    assert re.findall(r"^section ([\w-]+)$", text(".ci/run"), re.MULTILINE) == [
        "lint",
        "types",
        "test",
        "test-long",
        "deploy-lint",
        "deploy-test",
    ]
    assert {"lint", "types", "test", "test-long", "deploy-lint", "deploy-test"} < set(targets)


def test_ci_runs_the_tests_on_the_python_of_debian_12() -> None:
    """That is 3.11.2, the oldest that is supported; other jobs have the newest 3.11."""
    job = CI["jobs"]["debian-12"]
    steps = [step["run"].split() for step in job["steps"] if "run" in step]
    assert job["container"] == "debian:12"
    assert {"python3", "python3-venv", "make", "chromium", "chromium-driver"} < set(steps[1])
    assert steps[-1] == ["make", "test"]


def test_the_ci_script_runs_the_tests_on_the_python_of_the_system_too() -> None:
    """It uses an environment beside the first one, which git ignores and ``make clean`` removes."""
    script = text(".ci/run")
    assert 'section test VENV=.venv-oldest PYTHON="$system"' in script
    assert ".venv-oldest/" in text(".gitignore").splitlines()
    assert (
        ".venv-oldest" in re.findall(r"^\trm -rf (.*)$", text("Makefile"), re.MULTILINE)[0].split()
    )


def test_ci_covers_the_python_versions_from_the_oldest_supported() -> None:
    """The oldest is the one that pyproject.toml requires."""
    versions = CI["jobs"]["check"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert f'requires-python = ">={versions[0]}"' in text("pyproject.toml")


def test_ci_covers_the_supported_versions_of_postgres() -> None:
    """Each runs the tests that need a database; the embedded one is version 18."""
    job = CI["jobs"]["postgres"]
    assert job["strategy"]["matrix"]["postgres"] == ["14", "15", "16", "17", "18"]
    programs = "/usr/lib/postgresql/${{ matrix.postgres }}/bin"
    assert job["steps"][-1]["run"] == f"make test-matrix POSTGRES={programs}"


def test_nothing_is_published_before_every_check_has_passed() -> None:
    """A tag runs all jobs of ci.yml, and then one job builds and publishes."""
    jobs = RELEASE["jobs"]
    assert set(jobs) == {"check", "build"}
    assert jobs["check"] == {"uses": "./.github/workflows/ci.yml"}
    assert "workflow_call" in CI[True]  # YAML reads the key `on` as true
    assert jobs["build"]["needs"] == "check"
    steps = [step.get("run", "").split(" ")[:2] for step in jobs["build"]["steps"]]
    audit, dist = steps.index(["make", "audit"]), steps.index(["make", "dist"])
    assert audit < dist < steps.index(["gh", "release"])


def test_actions_are_pinned_by_major_version() -> None:
    """No action is taken from a branch or a floating tag."""
    jobs = [*CI["jobs"].values(), RELEASE["jobs"]["build"]]
    actions = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
    assert {"actions/checkout@v7", "docker/build-push-action@v7"} <= set(actions)
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@v\d+", action)] == []


def test_the_ci_script_is_executable_bash() -> None:
    """It is called by its name, and bash can parse it."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
