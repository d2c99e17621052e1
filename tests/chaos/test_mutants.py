"""The known bugs still fit the code, and the command says which of them it cannot judge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import mutants
from tests.chaos.mutants import Bug, DoesNotApply, plant, try_bug
from tests.chaos.planted_bugs import BUGS
from tests.unit.builders import ROOT

ABSENT = Bug("absent", "etl/ledger.py", "no such text", "", ("tests/unit/test_siv.py",))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_known_bug_still_fits_the_code(bug: Bug) -> None:
    """The bug changes its file, and the tests that must catch it exist."""
    text = (ROOT / bug.file).read_text()
    assert plant(bug, text) != text
    for test in bug.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(), test


def test_a_known_bug_uses_no_undefined_name(tmp_path: Path) -> None:
    """Any test that ran the line would catch such a bug."""
    for number, bug in enumerate(BUGS):
        if bug.file.endswith(".py"):
            text = plant(bug, (ROOT / bug.file).read_text())
            (tmp_path / f"bug_{number}.py").write_text(text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,E9", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_there_are_twelve_bugs_at_least_and_their_names_differ() -> None:
    """The table identifies a bug by its name."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 12


@pytest.mark.parametrize("times", [0, 2])
def test_a_bug_whose_text_is_not_there_exactly_once_is_an_error(times: int) -> None:
    """Otherwise the bug would never be planted, and nobody would notice."""
    with pytest.raises(DoesNotApply, match=f"its text is {times} times in etl/ledger.py"):
        plant(ABSENT, ABSENT.old * times)


def test_a_bug_is_not_caught_by_tests_that_fail_without_it() -> None:
    """Tests that always fail would catch every bug."""
    assert try_bug(ABSENT, passing=set()).verdict == "its tests fail without it"


@pytest.mark.parametrize(
    ("code", "verdict"), [(0, "missed"), (1, "caught"), (2, "pytest exited with 2")]
)
def test_only_a_failed_test_catches_a_bug(
    code: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If pytest cannot collect the tests, or finds none, that says nothing about the bug."""
    bug = BUGS[0]
    tested: list[str] = []

    def run_tests(folder: Path, tests: tuple[str, ...]) -> int:
        tested.append((folder / bug.file).read_text())
        return code

    monkeypatch.setattr(mutants, "run_tests", run_tests)
    assert try_bug(bug, passing=set(bug.tests)).verdict == verdict
    assert tested == [plant(bug, (ROOT / bug.file).read_text())]
