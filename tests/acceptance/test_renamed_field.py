"""The steps of "A producer renamed a field" in docs/operations.md, carried out as written."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from tests.acceptance.job_processes import new_job
from tests.conftest import ROOT, Job
from tests.unit.builders import event

pytestmark = pytest.mark.long

PAGE = (ROOT / "docs/operations.md").read_text()
SECTION = PAGE.partition("## A producer renamed a field\n")[2].partition("\n## ")[0]
COMMANDS = re.findall(r"^    etl (.+)$", SECTION, re.MULTILINE)
(ERROR,) = re.findall(r"```text\n(.*?)```", SECTION, re.DOTALL)
BOTH, ONLY_NEW = (line for line in re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL))

ADDRESS = "198.51.100.7"
OTHER = "198.51.100.8"


def old_kind(user: str, ip: str) -> str:
    """An event as producers sent it before."""
    return event(user_id=user, ip=ip)


def new_kind(user: str, ip: str) -> str:
    """An event as they send it now."""
    facts = json.loads(old_kind(user, ip))
    return json.dumps({("ip_address" if k == "ip" else k): v for k, v in facts.items()})


class Story:
    """A job with a configuration file of its own, which the steps edit."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self.path = folder / "config.yaml"
        self.path.write_text((ROOT / "config.yaml").read_text())
        job.environment |= {"ETL_CONFIG": str(self.path), "ETL_RUN__IDLE_SECONDS": "1"}

    def write(self, line: str) -> None:
        """Replace the line of the column masked_ip."""
        text, count = re.subn(
            r"^    - \{name: masked_ip,.*\n", line, self.path.read_text(), flags=re.MULTILINE
        )
        assert count == 1
        self.path.write_text(text)

    def do(self, command: str) -> subprocess.CompletedProcess[str]:
        """Type a command of the page; `< value.txt` is the address."""
        assert command in COMMANDS
        words = re.findall(r'"[^"]*"|\S+', command.partition(" <")[0])
        piped = f"{ADDRESS}\n" if "<" in command else None
        return self.job.command(*(word.strip('"') for word in words), piped=piped)

    def users(self) -> list[str]:
        """The users that `rows` finds by the address."""
        done = self.job.command("rows", ADDRESS, "--column", "ip_address", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return sorted(json.loads(line)["user_id"] for line in done.stdout.splitlines())


@pytest.fixture
def story(sqs: EmbeddedSqs, postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Story]:
    """A job that has loaded events of the old kind."""
    with new_job(sqs, postgres) as job:
        story = Story(job, tmp_path)
        job.send(old_kind("before", ADDRESS), old_kind("another", OTHER))
        job.run()
        yield story


def shape(text: str) -> str:
    """An error without the day."""
    return re.sub(r"\d{4}-\d\d-\d\d", "DAY", text)


def test_a_producer_renames_a_field_and_nothing_is_lost_or_missed(story: Story) -> None:
    """Every command, line and error of the page is typed, written or printed here, in its order."""
    assert COMMANDS == [
        "quarantine list",
        "run --dry-run",
        "run",
        'quarantine replay --check "ip: missing"',
        "rows - --column ip_address < value.txt",
    ]
    job = story.job
    job.send(new_kind("in quarantine", ADDRESS))
    job.run()
    assert re.search(r"\bip +missing +1\b", story.do("quarantine list").stdout)
    only_renamed = re.sub(r"field: \[.*?\]", "field: ip_address", BOTH).replace(", context: ip", "")
    story.write(only_renamed)
    job.send(new_kind("waiting", ADDRESS), old_kind("late", ADDRESS))
    named = ("run", "run --dry-run", f"rows {ADDRESS} --column ip_address", "rekey",
             f"forget {ADDRESS} --column ip_address --yes", "quarantine replay --all")  # fmt: skip
    for command in (*named, "unmask --where true --reason x"):
        assert " ".join(command.split()[:1]) in SECTION
        done = job.command(*command.split())
        assert (done.returncode, done.stdout) == (2, ""), command
        # Before it stands a warning that the server of the tests does not wait for its disk.
        error = done.stderr[done.stderr.index("error: ") :]
        assert shape(error) == shape(ERROR), command
    assert job.left() == 2

    assert BOTH in ERROR
    story.write(BOTH)
    dry = story.do("run --dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "missing" not in dry.stdout
    assert story.do("run").returncode == 0
    replayed = story.do('quarantine replay --check "ip: missing"')
    assert replayed.returncode == 0, replayed.stderr
    assert story.users() == ["before", "in quarantine", "late", "waiting"]
    found = story.do("rows - --column ip_address < value.txt")
    assert found.returncode == 0
    assert job.rows("select count(*), count(distinct masked_ip) from user_logins") == [(5, 2)]
    assert job.left() == 0

    story.write(ONLY_NEW)
    job.send(new_kind("after", ADDRESS), old_kind("too late", ADDRESS))
    assert story.do("run").returncode == 0
    assert story.users() == ["after", "before", "in quarantine", "late", "waiting"]
    assert job.rows("select count(distinct masked_ip) from user_logins") == [(2,)]
    counted = job.command("forget", ADDRESS, "--column", "ip_address", "--yes", "--json")
    counts = {"rows": 5, "rows_within": 0, "quarantined": 1}
    assert json.loads(counted.stdout) == {**counts, "done": True}
    assert job.rows("select user_id from user_logins") == [("another",)]


BOTH_NAMES = {
    "equal": ({"ip": ADDRESS, "ip_address": ADDRESS}, ["before", "x"]),
    "an empty new one": ({"ip": ADDRESS, "ip_address": None}, ["before", "x"]),
    "an empty old one": ({"ip": None, "ip_address": ADDRESS}, ["before", "x"]),
    "different": ({"ip": ADDRESS, "ip_address": OTHER}, ["before"]),
}


@pytest.mark.long
@pytest.mark.parametrize(("names", "users"), BOTH_NAMES.values(), ids=BOTH_NAMES)
def test_an_event_with_both_names_is_loaded_or_quarantined_as_the_page_says(
    story: Story, names: dict[str, str | None], users: list[str]
) -> None:
    """Different values are a check of their own, and forget finds them."""
    assert "`ip: two values`" in SECTION
    story.write(BOTH)
    story.job.send(event(**{"user_id": "x", **names}))
    summary = story.job.run()
    assert story.users() == users
    assert summary["reasons"] == ({} if "x" in users else {"ip: two values": 1})
    forgotten = story.job.command("forget", ADDRESS, "--column", "ip", "--yes", "--json")
    assert json.loads(forgotten.stdout)["quarantined"] == (0 if "x" in users else 1)
