"""Plant each known bug in a copy of the project and see if the tests catch it: ``make bites``.

A bug is caught if its tests fail on the copy that contains it and pass on a copy that does not.
Prints a table, writes ``tests/chaos/mutants.json``, and exits with 1 unless every bug is caught.
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
# pytest's exit codes. All others mean that it could not test the code.
PASSED = 0
FAILED = 1


class DoesNotApply(Exception):  # noqa: N818  (a finding, not a mistake)
    """The text that a bug replaces is not in its file exactly once."""


@dataclass(frozen=True)
class BugResult:
    """Whether the tests caught a bug; the fields are keys of the JSON file."""

    bug: str
    verdict: str  # caught, missed, or why neither can be said
    tests: tuple[str, ...]
    seconds: float


def plant(bug: Bug, text: str) -> str:
    """The text of the bug's file with the bug in it.

    :raises DoesNotApply: the file has changed
    """
    times = text.count(bug.old)
    if times != 1:
        raise DoesNotApply(f"{bug.name!r}: its text is {times} times in {bug.file}")
    changed = text.replace(bug.old, bug.new)
    if bug.file.endswith(".py"):
        ast.parse(changed)  # any test catches a syntax error
    return changed


@contextmanager
def copy_of_the_project() -> Iterator[Path]:
    """A temporary copy to plant a bug in."""
    with tempfile.TemporaryDirectory(prefix="etl-bite-") as folder:
        copy = Path(folder) / "project"
        unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.png")
        shutil.copytree(ROOT, copy, ignore=unwanted)
        yield copy


def run_tests(folder: Path, tests: Iterable[str]) -> int:
    """Run the tests in a copy; returns pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, timeout=TEST_SECONDS
    )
    return done.returncode


def passing_tests(tests: Iterable[str], pool: Executor) -> set[str]:
    """Those of the tests that pass on an unmodified copy."""
    names = sorted(set(tests))
    with copy_of_the_project() as copy:
        codes = pool.map(lambda test: run_tests(copy, [test]), names)
        return {test for test, code in zip(names, codes, strict=True) if code == PASSED}


def try_bug(bug: Bug, passing: set[str]) -> BugResult:
    """Plant a bug and run its tests.

    :param passing: the tests that pass without it
    """
    started = time.monotonic()
    verdict = _verdict(bug, passing)
    return BugResult(bug.name, verdict, bug.tests, round(time.monotonic() - started, 1))


def _verdict(bug: Bug, passing: set[str]) -> str:
    if not passing.issuperset(bug.tests):
        return "its tests fail without it"
    with copy_of_the_project() as copy:
        file = copy / bug.file
        try:
            file.write_text(plant(bug, file.read_text()))
        except DoesNotApply as finding:
            return str(finding)
        code = run_tests(copy, bug.tests)
    return {PASSED: "missed", FAILED: "caught"}.get(code, f"pytest exited with {code}")


@click.command()
@click.argument("words", nargs=-1)
@click.option("--jobs", default=2, show_default=True, help="Number of bugs to test in parallel.")
def main(words: tuple[str, ...], jobs: int) -> None:
    """Plant every bug and print which ones the tests catch.

    With WORDS, plant only the bugs whose names contain one of them, and do not write the results.
    """
    bugs = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    results = []
    with ThreadPoolExecutor(jobs) as pool:
        passing = passing_tests((test for bug in bugs for test in bug.tests), pool)
        for result in pool.map(lambda bug: try_bug(bug, passing), bugs):
            results.append(result)
            click.echo(f"{result.verdict:8} {result.seconds:5.1f} s  {result.bug}")
    caught = sum(result.verdict == "caught" for result in results)
    if not words:
        bites = [asdict(result) for result in results]
        document = {"bugs": len(results), "caught": caught, "bites": bites}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    click.echo(json.dumps({"campaign": "bites", "bugs": len(results), "caught": caught}))
    sys.exit(caught < len(results))


if __name__ == "__main__":
    main()
