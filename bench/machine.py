"""What the numbers were measured on."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.processes import ROOT, postgres_program

LIBRARIES = (
    "boto3", "botocore", "cryptography", "numpy", "pandas", "pandera", "psycopg2-binary",
    "pycryptodome", "SQLAlchemy",
)  # fmt: skip


def facts(command: str) -> dict[str, object]:
    """Date, command, machine and versions; nothing that names the machine."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": command,
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "kernel": f"{platform.system()} {_number(platform.release())}",
        },
        "versions": {
            "etl": _commit(),
            "python": platform.python_version(),
            "postgres": _postgres(),
            **{name: version(name) for name in LIBRARIES},
        },
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _number(release: str) -> str:
    """The part of a kernel's release that is not its builder's."""
    return release.partition("-")[0]


def _commit() -> str:
    """Short hash of the commit measured, with a mark if the tree of etl/ differs from it."""
    commit = _answer("git", "rev-parse", "--short", "HEAD")
    changed = _answer("git", "status", "--porcelain", "--", "etl")
    return f"{commit or 'unknown'}{' with changes' if changed else ''}"


def _postgres() -> str:
    return _answer(str(postgres_program("postgres")), "--version").rpartition(" ")[2]


def _answer(*command: str) -> str:
    """What a program prints; nothing if it fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()
