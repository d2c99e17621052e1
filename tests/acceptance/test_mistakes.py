"""What the program says to each mistake is what docs/mistakes.md shows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from tests import fork_server
from tests.acceptance.mistakes import GROUPS, Mistake, Services, documented, make
from tests.unit.builders import some_long

MISTAKES = {mistake.name: mistake for mistakes in GROUPS.values() for mistake in mistakes}
DOCUMENTED = documented()


@pytest.fixture(scope="module")
def services(postgres: EmbeddedPostgres, sqs: EmbeddedSqs) -> Services:
    """The embedded services, with a queue for all mistakes."""
    return Services(postgres, sqs)


def fork(
    arguments: list[str], environment: dict[str, str], piped: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a fork, which starts faster."""
    return fork_server.run(arguments, environment, piped)


@pytest.mark.parametrize("name", some_long(list(MISTAKES)))
def test_the_program_says_what_the_page_shows(
    name: str, services: Services, tmp_path: Path
) -> None:
    """The exit code and the words; no password, no traceback."""
    outcome = make(MISTAKES[name], services, tmp_path, fork)
    shown = DOCUMENTED[name]
    assert (outcome.line, outcome.code) == (shown.line, shown.code)


def test_the_page_has_every_mistake_and_no_other() -> None:
    """Names are unique, and the page is up to date."""
    mistakes: list[Mistake] = [mistake for group in GROUPS.values() for mistake in group]
    assert list(DOCUMENTED) == [mistake.name for mistake in mistakes]
