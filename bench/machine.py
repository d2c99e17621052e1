"""The machine and the versions that the numbers were measured on."""

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
    "boto3",
    "botocore",
    "cryptography",
    "numpy",
    "orjson",
    "pandas",
    "pandera",
    "psycopg2-binary",
    "pycryptodome",
    "pycurl",
    "SQLAlchemy",
)


def facts(command: str) -> dict[str, object]:
    """Return the date, the command, the machine and the versions, but no host name."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": command,
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
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


def _commit() -> str:
    """Return the short hash of the commit, and whether the files of etl/ differ from it."""
    commit = _output_of("git", "rev-parse", "--short", "HEAD")
    changed = _output_of("git", "status", "--porcelain", "--", "etl")
    return f"{commit or 'unknown'}{' with changes' if changed else ''}"


def _postgres() -> str:
    return _output_of(str(postgres_program("postgres")), "--version").rpartition(" ")[2]


def _output_of(*command: str) -> str:
    """Return what a program prints, or "" if it fails."""
    try:
        completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return "" if completed.returncode else completed.stdout.strip()
