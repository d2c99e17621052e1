"""The wheel holds the whole package, and runs where nothing else of the project is."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.demo import samples
from etl.version import __version__
from tests.acceptance.expected_rows import expected_row
from tests.conftest import ROOT, Job

EVENTS = 50


def call(*arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed; fail with its standard error."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(source: Path, target: Path) -> Path:
    """Build the wheel of a source folder with the pinned backend; needs no network."""
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    call(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", target, source)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the repository."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The programs of a new environment that has the pinned requirements and the wheel only."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python"
    uv = Path(sys.prefix, "bin", "uv")
    if uv.exists():  # it links the files from its cache, which takes a tenth of pip's time
        call(sys.executable, "-m", "venv", "--without-pip", folder)
        install = (uv, "pip", "install", "--quiet", "--system-certs", "--python", python)
    else:
        call(sys.executable, "-m", "venv", folder)
        install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    call(*install, "--requirement", ROOT / "requirements.txt")
    call(*install, "--no-deps", wheel)
    yield python.parent
    shutil.rmtree(folder)  # pytest would keep its hundreds of megabytes


@pytest.fixture
def user(installed: Path, tmp_path: Path, job: Job) -> Job:
    """A user in an empty folder, with a queue and a database, and the new programs on PATH."""
    path = f"{installed}{os.pathsep}{os.defpath}"
    environment = {**job.environment, "PATH": path, "HOME": str(tmp_path)}
    return Job(environment, job.queue_url, job.client, job.engine)


def etl(user: Job, folder: Path, *arguments: str) -> str:
    """Run the installed command in a folder, and return what it printed."""
    program = shutil.which("etl", path=user.environment["PATH"])
    assert program
    return call(program, *arguments, cwd=folder, env=user.environment)


def package_files() -> set[str]:
    """All files in ``etl/`` of the repository but compiled modules."""
    files = (path for path in (ROOT / "etl").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    """SQL, templates and the default configuration are in it; tests and notebooks are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = f"etl-{__version__}.dist-info/"
    assert {name for name in names if not name.startswith(metadata)} == package_files()


def test_every_file_of_the_package_that_git_tracks_is_in_the_wheel(wheel: Path) -> None:
    """A file that .gitignore names by mistake would be left out of the wheel."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    tracked = call("git", "ls-files", "etl", cwd=ROOT).split()
    with zipfile.ZipFile(wheel) as archive:
        assert set(tracked) <= set(archive.namelist())


def test_the_wheel_holds_config_yaml_as_the_default_configuration(wheel: Path) -> None:
    """In the repository it is a symbolic link; in the wheel it is the file itself."""
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("etl/default_config.yaml") == (ROOT / "config.yaml").read_bytes()


def test_the_image_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """What the Dockerfile copies to the stage that builds the wheel is enough to build it."""
    stage = re.split(r"^FROM .*$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[2]
    source = tmp_path / "app"
    source.mkdir()
    for names, target in re.findall(r"^COPY (.+) (\S+)$", stage, re.MULTILINE):
        for name in names.split():
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / target, symlinks=True)
            else:
                shutil.copy(ROOT / name, source / target)
    assert build(source, tmp_path / "wheels").read_bytes() == wheel.read_bytes()


def test_the_installed_command_loads_the_events_of_a_queue(user: Job, tmp_path: Path) -> None:
    """A user gets from ``--help`` to the right rows in a folder with nothing of the repository."""
    assert "Usage: etl [OPTIONS] COMMAND" in etl(user, tmp_path, "--help")
    assert etl(user, tmp_path, "--version") == f"etl, version {__version__}\n"
    (tmp_path / "config.yaml").write_text(etl(user, tmp_path, "config", "show"))
    etl(user, tmp_path, "init")
    assert user.rows("select count(*) from user_logins") == [(0,)]
    started_ms = time.time_ns() // 1_000_000
    bodies = list(samples.bodies(EVENTS, 11, bad_share=0))
    user.send(*bodies)
    summary = json.loads(etl(user, tmp_path, "run", "--idle-seconds", "1", "--json"))
    assert (summary["received"], summary["loaded"], user.left()) == (EVENTS, EVENTS, 0)
    keyring = user.environment["ETL_KEYRING"]
    expected = [expected_row(keyring, json.loads(body), started_ms) for body in bodies]
    rows = user.rows("select * from user_logins")
    assert Counter(row[:-1] for row in rows) == Counter(row[:-1] for row in expected)
    # At midnight the last events may have the date of the next day.
    assert {row[-1] for row in rows} <= {expected[0][-1], dt.datetime.now(dt.UTC).date()}


def test_python_m_etl_is_the_installed_command(user: Job, installed: Path, tmp_path: Path) -> None:
    """In the new environment the module comes from the wheel and not from the repository."""
    code = "import etl.cli; print(etl.__file__)"
    file = call(installed / "python", "-c", code, cwd=tmp_path, env=user.environment)
    assert Path(file).is_relative_to(installed.parent)
    command = (installed / "python", "-m", "etl", "--version")
    assert call(*command, cwd=tmp_path, env=user.environment) == etl(user, tmp_path, "--version")
