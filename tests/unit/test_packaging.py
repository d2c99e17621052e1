"""pyproject.toml and the requirements files agree with each other and with the code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from etl.version import __version__
from tests.unit.builders import ROOT

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def ranges(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by the canonical name of the package."""
    requirements = map(Requirement, lines)
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def pins(text: str) -> dict[str, Requirement]:
    """The requirements of a file by canonical name; fails where one is not pinned."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "-r "))]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", line)] == []
    return ranges(lines)


def pinned_version(requirement: Requirement) -> str:
    """The version of a pin."""
    return str(requirement.specifier).removeprefix("==")


def read(name: str) -> str:
    """Read a requirements file."""
    return (ROOT / name).read_text()


DEPENDENCIES = ranges(PROJECT["dependencies"])
# requirements.txt has the direct dependencies first, and after a blank line what they need.
DIRECT, INDIRECT = map(pins, read("requirements.txt").split("\n\n"))
DEVELOPMENT = pins(read("requirements-dev.txt"))
BUILD = pins(read("requirements-build.txt"))
REPORT = pins(read("requirements-report.txt"))


def check_pins(wanted: dict[str, Requirement], pinned: dict[str, Requirement]) -> None:
    """Check that each package is pinned within its range, with the same extras."""
    for name, requirement in wanted.items():
        pin = pinned[name]
        assert requirement.specifier.contains(pinned_version(pin)), f"{pin} is not {requirement}"
        assert requirement.extras == pin.extras


def test_each_dependency_is_pinned_within_its_range() -> None:
    """requirements.txt pins the dependencies of pyproject.toml first, and no other package."""
    assert set(DIRECT) == set(DEPENDENCIES)
    check_pins(DEPENDENCIES, DIRECT)


@pytest.mark.parametrize(
    ("extra", "pinned"),
    [
        ("report", REPORT),
        ("notebook", DEVELOPMENT),
        ("embedded", DEVELOPMENT),
        ("prometheus", DEVELOPMENT),
        ("otel", DEVELOPMENT),
    ],
)
def test_each_extra_is_pinned_within_its_range(extra: str, pinned: dict[str, Requirement]) -> None:
    """The tests run on a version that the extra allows."""
    check_pins(ranges(EXTRAS[extra]), pinned)


def test_there_are_no_other_extras() -> None:
    """The test above covers all of them, and the extra report has all of its requirements file."""
    assert set(EXTRAS) == {"report", "notebook", "embedded", "prometheus", "otel"}
    assert set(ranges(EXTRAS["report"])) == set(REPORT)


def test_the_build_backend_is_pinned_within_its_range() -> None:
    """The wheel of the image is built by the version in requirements-build.txt."""
    build_system = PYPROJECT["build-system"]
    assert build_system["build-backend"] == "hatchling.build"
    check_pins(ranges(build_system["requires"]), BUILD)


@pytest.mark.parametrize("name", sorted(DEPENDENCIES))
def test_a_range_starts_at_the_series_that_is_tested(name: str) -> None:
    """The lower bound is the pinned version without its last part."""
    bounds = {bound.operator: bound.version for bound in DEPENDENCIES[name].specifier}
    assert pinned_version(DIRECT[name]).startswith(f"{bounds['>=']}.")


@pytest.mark.parametrize("name", sorted({**DIRECT, **INDIRECT, **BUILD}))
def test_the_tests_run_on_the_pinned_versions(name: str) -> None:
    """The environment has what production installs."""
    assert version(name) == pinned_version({**DIRECT, **INDIRECT, **BUILD}[name])


def test_requirements_txt_pins_everything_that_the_dependencies_need() -> None:
    """An install from it downloads no package whose version is not written down."""
    pinned = {**DIRECT, **INDIRECT}
    for name, pin in pinned.items():
        for requirement in map(Requirement, requires(name) or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *pin.extras)):
                assert canonicalize_name(requirement.name) in pinned, f"{name}: {requirement}"


def test_the_version_is_in_one_place() -> None:
    """The build backend reads it from etl/version.py."""
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "etl/version.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_a_python_without_the_libraries_is_told_so() -> None:
    """The first command in a fresh checkout is a line of help, and not a traceback."""
    # Without the module `site` there are no installed packages.
    command = [sys.executable, "-S", "-m", "etl", "doctor"]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "lacks the library 'click': pip install -r requirements.txt" in done.stderr
