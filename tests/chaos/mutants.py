"""Plant each known bug in a copy of the project, and see whether its tests notice: ``make bites``.

A bug counts as caught when its tests fail on the copy that has it and pass on one that has not.
Prints a table, and writes ``tests/chaos/mutants.json``. Ends with 1 unless every bug is caught.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from tests.chaos.planted_bugs import BUGS, Bug
from tests.unit.builders import ROOT

RESULTS = ROOT / "tests/chaos/mutants.json"
TEST_SECONDS = 600
# pytest's exit codes. Others than these two say nothing of the code under test.
PASSED, FAILED = 0, 1


class DoesNotApply(Exception):  # noqa: N818  (a finding)
    """The text that a bug replaces does not stand in its file exactly once."""


@dataclass(frozen=True)
class Bite:
    """What became of one bug."""

    bug: str
    verdict: str  # caught, missed, or why nothing can be said
    tests: tuple[str, ...]
    seconds: float


def planted(bug: Bug, text: str) -> str:
    """The text of the bug's file with the bug in it.

    :raises DoesNotApply: the file has changed
    """
    times = text.count(bug.old)
    if times != 1:
        raise DoesNotApply(f"{bug.name!r}: its text stands {times} times in {bug.file}")
    changed = text.replace(bug.old, bug.new)
    if bug.file.endswith(".py"):
        ast.parse(changed)  # a bug that no interpreter would run is caught by everything
    return changed


@contextmanager
def copy_of_the_project() -> Iterator[Path]:
    """A copy that may be spoilt."""
    with tempfile.TemporaryDirectory(prefix="etl-bite-") as folder:
        copy = Path(folder) / "project"
        unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.png")
        shutil.copytree(ROOT, copy, ignore=unwanted)
        yield copy


def outcome(folder: Path, tests: Iterable[str]) -> int:
    """Run the tests in a copy; returns pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, timeout=TEST_SECONDS
    )
    return done.returncode


def sound(tests: Iterable[str], pool: Executor) -> dict[str, bool]:
    """Which of the tests pass on an unmodified copy."""
    names = sorted(set(tests))
    with copy_of_the_project() as copy:
        codes = pool.map(lambda test: outcome(copy, [test]), names)
        return {test: code == PASSED for test, code in zip(names, codes, strict=True)}


def bite(bug: Bug, passing: dict[str, bool]) -> Bite:
    """Plant a bug and run its tests.

    :param passing: which tests pass without it
    """
    began = time.monotonic()
    verdict = _verdict(bug, passing)
    return Bite(bug.name, verdict, bug.tests, round(time.monotonic() - began, 1))


def _verdict(bug: Bug, passing: dict[str, bool]) -> str:
    if not all(passing[test] for test in bug.tests):
        return "its tests fail without it"
    with copy_of_the_project() as copy:
        file = copy / bug.file
        try:
            file.write_text(planted(bug, file.read_text()))
        except DoesNotApply as finding:
            return str(finding)
        code = outcome(copy, bug.tests)
    return {PASSED: "missed", FAILED: "caught"}.get(code, f"pytest ended with {code}")


@click.command()
@click.argument("words", nargs=-1)
@click.option("--jobs", default=2, show_default=True, help="Copies that are tested at a time.")
def main(words: tuple[str, ...], jobs: int) -> None:
    """Plant every bug, or those whose names hold one of WORDS, and say which are caught."""
    bugs = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    bites = []
    with ThreadPoolExecutor(jobs) as pool:
        passing = sound((test for bug in bugs for test in bug.tests), pool)
        for one in pool.map(lambda bug: bite(bug, passing), bugs):
            bites.append(one)
            click.echo(f"{one.verdict:8} {one.seconds:5.1f} s  {one.bug}")
    caught = sum(one.verdict == "caught" for one in bites)
    result = {"bugs": len(bites), "caught": caught, "bites": [asdict(one) for one in bites]}
    if not words:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps({"campaign": "bites", "bugs": len(bites), "caught": caught}))
    sys.exit(caught < len(bites))


if __name__ == "__main__":
    main()
