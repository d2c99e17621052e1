"""The known bugs still fit the code, and the command tells what it cannot judge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import mutants
from tests.chaos.mutants import Bug, DoesNotApply, bite, planted
from tests.chaos.planted_bugs import BUGS
from tests.unit.builders import ROOT

NEVER = Bug("never", "etl/ledger.py", "no such text", "", ("tests/unit/test_siv.py",))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_known_bug_still_fits_the_code(bug: Bug) -> None:
    """It changes its file, and the tests that must notice it exist."""
    text = (ROOT / bug.file).read_text()
    assert planted(bug, text) != text
    for test in bug.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(), test


def test_a_known_bug_names_nothing_that_is_not_there(tmp_path: Path) -> None:
    """It would be caught by whatever comes that way."""
    for number, bug in enumerate(BUGS):
        if bug.file.endswith(".py"):
            text = planted(bug, (ROOT / bug.file).read_text())
            (tmp_path / f"bug_{number}.py").write_text(text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,E9", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_two_bugs_have_one_name() -> None:
    """The table tells them by it; and the issue asks for twelve at least."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 12


@pytest.mark.parametrize("times", [0, 2])
def test_a_bug_whose_text_is_not_there_once_is_told(times: int) -> None:
    """Loudly, for it would be missed for ever."""
    with pytest.raises(DoesNotApply, match=f"stands {times} times in etl/ledger.py"):
        planted(NEVER, NEVER.old * times)


def test_a_bug_is_not_caught_by_tests_that_fail_without_it() -> None:
    """They would catch anything."""
    (test,) = NEVER.tests
    assert bite(NEVER, {test: False}).verdict == "its tests fail without it"


@pytest.mark.parametrize(
    ("code", "verdict"), [(0, "missed"), (1, "caught"), (2, "pytest ended with 2")]
)
def test_only_a_failed_test_catches_a_bug(
    code: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of collection, or no test at all, says nothing."""
    bug = BUGS[0]
    seen: list[str] = []

    def outcome(folder: Path, tests: tuple[str, ...]) -> int:
        seen.append((folder / bug.file).read_text())
        return code

    monkeypatch.setattr(mutants, "outcome", outcome)
    assert bite(bug, dict.fromkeys(bug.tests, True)).verdict == verdict
    assert seen == [planted(bug, (ROOT / bug.file).read_text())]
