"""What is published: the same bytes from every machine, the SBOM, and files by their schemas."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from etl.version import __version__
from release.__main__ import not_ready
from tests.conftest import ROOT

TOOLS = ROOT / ".venv-release" / "bin"
SCHEMAS = {
    "docker-compose.yml": "vendor.compose-spec",
    ".github/workflows/ci.yml": "vendor.github-workflows",
    ".github/workflows/release.yml": "vendor.github-workflows",
    ".github/dependabot.yml": "vendor.dependabot",
}


def call(
    *command: str | Path, cwd: Path = ROOT, umask: int = 0o022
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=280, cwd=cwd, umask=umask, check=False
    )


def checkout(folder: Path, *, umask: int) -> Path:
    """Copy the files that git tracks, with the history, as another machine would have them."""
    done = call("git", "clone", "--quiet", ROOT, folder, umask=umask)
    assert done.returncode == 0, done.stderr
    names = call("git", "ls-files", "--cached", "--others", "--exclude-standard").stdout
    for name in names.splitlines():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy(ROOT / name, target, follow_symlinks=False)
    (folder / ".venv-release").mkdir()
    (folder / ".venv-release" / "bin").symlink_to(TOOLS)
    return folder


def dist(folder: Path, *, umask: int) -> Path:
    """Make ``dist/`` in a checkout."""
    done = call(sys.executable, "-m", "release", cwd=folder, umask=umask)
    assert done.returncode == 0, done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``dist/`` of a checkout."""
    folder = checkout(tmp_path_factory.mktemp("one") / "etl", umask=0o022)
    files = dist(folder, umask=0o022)
    shutil.rmtree(folder / ".venv-release" / "job")  # pytest would keep its hundreds of megabytes
    return files


@pytest.mark.long
@pytest.mark.xdist_group("release")
def test_another_machine_makes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    """The place, the times of the files and the umask of the user make no difference."""
    folder = checkout(tmp_path / "another place", umask=0o077)
    for path in (folder / "etl").rglob("*"):
        if not path.is_symlink():
            os.utime(path, (1, 1))
    again = dist(folder, umask=0o077)
    shutil.rmtree(folder / ".venv-release" / "job")
    assert (again / "SHA256SUMS").read_text() == (made / "SHA256SUMS").read_text()
    assert call("sha256sum", "--check", "SHA256SUMS", cwd=again).returncode == 0
    assert {path.name for path in made.iterdir()} == {
        "SHA256SUMS",
        f"etl-{__version__}-py3-none-any.whl",
        f"etl-{__version__}.cdx.json",
        f"etl-{__version__}.tar.gz",
    }


@pytest.mark.long
@pytest.mark.xdist_group("release")
def test_the_sdist_builds_the_same_wheel(made: Path, tmp_path: Path) -> None:
    """Who builds from the source archive has the package that was tested."""
    with tarfile.open(made / f"etl-{__version__}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / f"etl-{__version__}"
    epoch = call("git", "log", "-1", "--format=%ct").stdout.strip()
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=source, env=os.environ | {"SOURCE_DATE_EPOCH": epoch}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name = f"etl-{__version__}-py3-none-any.whl"
    assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


@pytest.mark.long
@pytest.mark.xdist_group("release")
def test_the_sbom_lists_what_production_installs(made: Path) -> None:
    """Each pin of requirements.txt with its version, and no other package."""
    sbom: dict[str, Any] = json.loads((made / f"etl-{__version__}.cdx.json").read_text())
    subject = sbom["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("etl", __version__)
    listed = {part["purl"].removeprefix("pkg:pypi/") for part in sbom["components"]}
    pins = re.findall(
        r"^([\w.-]+)(?:\[\w+\])?==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE
    )
    assert listed == {f"{re.sub('[-_.]+', '-', name.lower())}@{version}" for name, version in pins}
    (edges,) = (part for part in sbom["dependencies"] if part["ref"] == subject["bom-ref"])
    assert "boto3" in {ref.partition("==")[0] for ref in edges["dependsOn"]}
    assert str(ROOT) not in json.dumps(sbom)


@pytest.mark.long
@pytest.mark.parametrize("name", SCHEMAS)
def test_files_for_other_programs_follow_their_schemas(name: str, tmp_path: Path) -> None:
    """The file as it is passes, and with a key that the program does not know it fails."""
    check = (TOOLS / "check-jsonschema", "--builtin-schema", SCHEMAS[name])
    done = call(*check, ROOT / name)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / Path(name).name
    broken.write_text((ROOT / name).read_text() + "\nunknown_key: 1\n")
    assert call(*check, broken).returncode == 1


def test_a_tag_without_its_version_or_its_changes_is_not_released() -> None:
    """The version is in etl/version.py only, and a person has closed the section of the changes."""
    ready = f"# Changelog\n\n## [Unreleased]\n\n## [{__version__}] - 2026-11-28\n"
    assert not_ready(f"v{__version__}", ready) is None
    assert (
        not_ready("v99.0.0", ready) == f"the tag is v99.0.0, and etl/version.py has {__version__}"
    )
    open_section = "# Changelog\n\n## [Unreleased]\n"
    assert str(not_ready(f"v{__version__}", open_section)).startswith("CHANGELOG.md has no section")


def test_a_tag_is_released_from_what_is_committed_only() -> None:
    """A changed file, or an unknown one, would be in the wheel but not in the commit."""
    ready = f"## [{__version__}] - 2026-11-28\n"
    assert not_ready(f"v{__version__}", ready, " M etl/job.py\n?? etl/x.py\n") == (
        "not committed: etl/job.py, etl/x.py"
    )
