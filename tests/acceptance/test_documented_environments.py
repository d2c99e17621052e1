"""What the documents tell a user to set is enough: their commands, with their variables only."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from etl.cli import main
from etl.config import Settings
from etl.config.conversion import fields, sections
from etl.config.sources import NOT_SETTINGS
from tests.acceptance.private_network import (
    Network,
    run_in_private_network,
    skip_unless_possible,
)
from tests.conftest import KEYRING, ROOT

PROGRAMS = str(Path(sys.prefix) / "bin")
README = (ROOT / "README.md").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
# Misspelt variables are shown in docs/mistakes.md, on purpose.
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs/mistakes.md"}),
    *(ROOT / name for name in ("docker-compose.yml", "Dockerfile", "config.yaml")),
]
DOT_ENV = {"POSTGRES_PASSWORD": "f00d", "ETL_KEYRING": KEYRING.dump()}
EVENTS = 40

README_NETWORK = Network(
    hosts=("host", "sqs.eu-west-1.amazonaws.com"),
    user="user",
    password="password",
    database="name",
    sqs_port=443,
    queue="logins",
    events=EVENTS,
)
COMPOSE_NETWORK = Network(
    hosts=("postgres", "sqs"),
    user="etl",
    password=DOT_ENV["POSTGRES_PASSWORD"],
    database="etl",
    sqs_port=9324,
    queue="logins",
)

# Variables of Kubernetes, which the program ignores.
SERVICE_LINK = re.compile("_(PORT|PORT_.*|SERVICE_HOST)$")
# What an analyst may do in Jupyter, and may not.
ANALYST = """python - <<'END'
import etl
import sqlalchemy as sa

source = etl.connect()
with source.engine.connect() as connection:
    rows = connection.execute(sa.text("select count(*) from user_logins")).scalar_one()
    try:
        connection.execute(sa.text("delete from user_logins"))
    except sa.exc.DBAPIError as error:
        print(rows, "rows, a write is refused:", type(error.orig).__name__)
END"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home with AWS credentials in their usual place."""
    skip_unless_possible()
    folder = tmp_path / "home"
    (folder / ".aws").mkdir(parents=True)
    (folder / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = embedded\naws_secret_access_key = embedded\n"
    )
    return folder


def block_after(text: str, heading: str) -> list[str]:
    """The lines of the first indented block after a heading."""
    (found,) = re.findall(rf"^## {heading}\n\n((?: {{4}}.*\n)+)", text, re.MULTILINE)
    return [line.removeprefix("    ") for line in found.splitlines()]


def service_environment(name: str) -> dict[str, str]:
    """The variables of a service, with those of .env filled in, as compose does."""
    return {
        key: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: DOT_ENV[match[1]], value)
        for key, value in SERVICES[name]["environment"].items()
    }


def test_the_commands_of_the_readme_load_a_queue(home: Path, tmp_path: Path) -> None:
    """Every line of its block after the installation, in a folder with the settings."""
    lines = block_after(README, "Your own queue and database")
    assert [line.split()[0] for line in lines[:2]] == ["python3", "pip"]
    shutil.copy(ROOT / "config.yaml", tmp_path)
    environment = {"PATH": f"{PROGRAMS}:{os.defpath}", "HOME": str(home)}
    done = run_in_private_network(README_NETWORK, "\n".join(lines[2:]), environment, tmp_path)
    assert (done.code, done.rows) == (0, EVENTS), done.output


@pytest.mark.long
def test_the_commands_of_the_help_load_a_queue(home: Path, tmp_path: Path) -> None:
    """Its address has no password, so that is where libpq looks for it, in the home."""
    examples = main.epilog.partition("Examples:\n")[2] if main.epilog else ""
    pgpass = home / ".pgpass"
    pgpass.write_text("localhost:5432:etl:etl:password\n")
    pgpass.chmod(0o600)
    shutil.copy(ROOT / "config.yaml", tmp_path)
    environment = {"PATH": f"{PROGRAMS}:{os.defpath}", "HOME": str(home)}
    network = replace(README_NETWORK, user="etl", database="etl", queue="q")
    done = run_in_private_network(network, examples, environment, tmp_path)
    assert (done.code, done.rows) == (0, EVENTS), done.output


@pytest.mark.long
def test_the_commands_of_compose_load_a_queue(tmp_path: Path) -> None:
    """What the top of the file says, in the job's container; then the analyst's container."""
    skip_unless_possible()
    calls = re.findall(r"^#      docker compose run --rm job(.*)$", COMPOSE, re.MULTILINE)
    assert [call.split()[:1] for call in calls] == [["send"], [], ["history"]]
    job = "\n".join(f"etl {call.strip() or 'run'}" for call in calls)
    script = f"{in_service('job', job)}\n{in_service('jupyter', ANALYST)}"
    shutil.copy(ROOT / "config.yaml", tmp_path)
    environment = {"PATH": f"{PROGRAMS}:{os.defpath}"}
    done = run_in_private_network(COMPOSE_NETWORK, script, environment, tmp_path)
    assert done.code == 0, done.output
    assert done.rows, done.output
    assert f"{done.rows} rows, a write is refused: ReadOnlySqlTransaction" in done.output


def in_service(name: str, script: str) -> str:
    """The command that runs a script with the variables of a service and of its image."""
    variables = {"PATH": f"{PROGRAMS}:{os.defpath}", **service_environment(name)}
    pairs = [f"{key}={value}" for key, value in variables.items()]
    return shlex.join(["env", "-i", *pairs, "bash", "-e", "-c", script])


@pytest.mark.long
def test_what_the_demo_prints_is_enough_for_a_second_terminal(tmp_path: Path) -> None:
    """``demo --serve`` shows variables to export, and the commands to try with them."""
    environment = {"PATH": f"{PROGRAMS}:{os.defpath}"}
    command = [f"{PROGRAMS}/etl", "demo", "--serve", "--messages", "200"]
    shutil.copy(ROOT / "config.yaml", tmp_path)
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        try:
            lines = []
            for line in demo.stdout:
                lines.append(line)
                if "quarantine list" in line:  # the last one, after which it waits
                    break
            printed = "".join(lines).partition("in a second terminal")[2].partition("\n")[2]
            script = printed.replace(".venv/bin/etl", "etl")
            done = subprocess.run(
                ["bash", "-e", "-c", script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            demo.terminate()
    assert done.returncode == 0, done.stderr
    assert "idle" in done.stdout


def known_variables() -> set[str]:
    """Every variable of ours that the program reads."""
    return NOT_SETTINGS | {
        f"ETL_{section}__{key}".upper()
        for section, model in sections(Settings).items()
        for key in fields(model)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_variable_of_a_document_is_one_that_the_program_reads(page: Path) -> None:
    """A name with a typing error would be copied."""
    shown = set(re.findall(r"\bETL_[A-Z_]+[A-Z]\b", page.read_text()))
    unknown = {name for name in shown - known_variables() if not SERVICE_LINK.search(name)}
    assert unknown <= {"ETL_SECTION__KEY", "ETL_QUEUE_URL"}  # shown as a mistake
