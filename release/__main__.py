"""Make what is published of a version: the wheel, the sdist, the SBOM and their checksums.

``make dist`` calls it. The same commit gives the same bytes, on every machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from etl.version import __version__

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
# Has what production has, and nothing else, since the SBOM lists what is installed there.
JOB = ROOT / ".venv-release" / "job"
TOOLS = ROOT / ".venv-release" / "bin"


def main() -> None:
    """Make ``dist/``; end with a sentence where the version is not ready."""
    parser = argparse.ArgumentParser(prog="python -m release")
    parser.add_argument("--tag", help="the tag that is released, such as v1.2.0")
    tag = parser.parse_args().tag
    if tag:
        changes = call("git", "status", "--porcelain")
        if problem := not_ready(tag, (ROOT / "CHANGELOG.md").read_text(), changes):
            sys.exit(f"error: {problem}")
    shutil.rmtree(DIST, ignore_errors=True)
    # Files carry the time of the commit; without it, that of the build.
    os.environ["SOURCE_DATE_EPOCH"] = call("git", "log", "-1", "--format=%ct").strip()
    os.umask(0o022)
    call(sys.executable, "-m", "hatchling", "build", "--directory", DIST)
    install(*DIST.glob("*.whl"))
    write_sbom(DIST / f"etl-{__version__}.cdx.json")
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files()]
    (DIST / "SHA256SUMS").write_text("".join(sums))
    print("".join(f"dist/{path.name}\n" for path in files()), end="")


def not_ready(tag: str, changelog: str, changes: str = "") -> str | None:
    """Say what keeps a tag from being released.

    :param changes: what ``git status --porcelain`` prints
    """
    if tag != f"v{__version__}":
        return f"the tag is {tag}, and etl/version.py has {__version__}"
    if not re.search(
        rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    ):
        return f"CHANGELOG.md has no section '## [{__version__}] - YYYY-MM-DD'"
    if changes:
        return f"not committed: {', '.join(line[3:] for line in changes.splitlines())}"
    return None


def call(*command: str | Path) -> str:
    """Run a program in the checkout, and return what it printed; its errors are shown."""
    return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout


def install(wheel: Path) -> None:
    """Make the environment of the job from its pinned requirements and the wheel."""
    call(sys.executable, "-m", "venv", "--clear", "--without-pip", JOB)
    uv = (TOOLS / "uv", "pip", "install", "--quiet", "--system-certs")
    into = ("--python", JOB / "bin" / "python")
    call(*uv, *into, "--requirement", ROOT / "requirements.txt")
    call(*uv, *into, "--no-deps", wheel)


def write_sbom(path: Path) -> None:
    """Write the CycloneDX document of the environment, with etl as its subject."""
    document = json.loads(call(TOOLS / "cyclonedx-py", "environment", JOB, "--output-reproducible"))
    (subject,) = (part for part in document["components"] if part["name"] == "etl")
    document["components"].remove(subject)
    # Where the wheel lay when it was installed differs between machines.
    del subject["externalReferences"]
    document["metadata"]["component"] = subject | {"type": "application"}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def files() -> list[Path]:
    """What is in ``dist/``."""
    return sorted(DIST.iterdir())


if __name__ == "__main__":
    main()
