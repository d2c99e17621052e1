"""Checks of this process: its Python, its libraries, and the limits that it runs under."""

from __future__ import annotations

import contextlib
import platform
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from etl.checks.configured import check_table
from etl.config import Settings
from etl.doctor.result import Result, asked
from etl.sqs.call_queue import MAX_CALL_THREADS
from etl.sqs.heartbeat import MAX_HEARTBEAT_THREADS
from etl.text import counted

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

OLDEST_PYTHON = (3, 11)
MIB = 1024 * 1024
# Peaks of resident memory, measured by `python -m bench memory` and `python -m bench start`, and
# rounded up. A worker that has loaded little needs the first two.
FIRST_WORKER_MIB = 130
FURTHER_WORKER_MIB = 120
ROW_BYTES = 4096  # of a message in a batch, beside its body
BODY_COPIES = 1.5  # of the bodies of a batch
BATCHES_HELD = 2  # one that is loaded, and one that is gathered
# Beside connections to SQS: the standard streams, files of Python, pipes, a connection to Postgres.
OTHER_FILES = 48


def results(settings: Settings, environment: Mapping[str, str]) -> Iterator[Result]:
    """Make the checks, which need no network."""
    yield asked("environment.python", lambda: python(sys.version_info[:3]))
    yield asked("environment.libraries", installed_libraries)
    yield asked("environment.columns", lambda: columns(settings))
    yield asked(
        "environment.memory", lambda: memory(settings, memory_limit(Path("/"), environment))
    )
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield asked("environment.open_files", lambda: open_files(settings, limit))


def python(version: tuple[int, ...]) -> Result:
    """Whether this Python is one that the program is tested with."""
    found = f"Python {'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version < OLDEST_PYTHON:
        return Result("environment.python", "fail", found, "install Python 3.11 or newer")
    return Result("environment.python", "ok", found)


def columns(settings: Settings) -> Result:
    """Whether the configured columns can hold what a run makes.

    :raises SettingsError: one of them is too narrow for any token
    """
    for table in settings.tables:
        check_table(table)
    columns = counted(sum(len(table.columns) for table in settings.tables), "column")
    of_tables = f" of {counted(tables, 'table')}" if (tables := len(settings.tables)) > 1 else ""
    return Result("environment.columns", "ok", f"configured: {columns}{of_tables}")


def wanted_versions() -> tuple[str, dict[str, SpecifierSet]]:
    """Where it is written which version of each library to install, and which that are.

    A checkout has ``requirements.txt`` with pins; a wheel has ranges.
    """
    from packaging.requirements import Requirement

    pins = Path(__file__).parents[2] / "requirements.txt"
    if pins.is_file():
        source = pins.name
        lines = [line for line in pins.read_text("utf-8").splitlines() if line[:1] not in ("", "#")]
    else:
        source, lines = "the package", metadata.requires("etl") or []
    requirements = map(Requirement, lines)
    # Those of an extra have a marker.
    return source, {r.name: r.specifier for r in requirements if r.marker is None}


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those libraries that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def installed_libraries() -> Result:
    """Whether the installed libraries are those that the tests have run with."""
    source, wanted = wanted_versions()
    return libraries(source, wanted, installed_versions(["pyarrow", *wanted]))


def libraries(
    source: str, wanted: Mapping[str, SpecifierSet], installed: Mapping[str, str]
) -> Result:
    """Compare versions.

    :param source: where the wanted versions are written
    """
    check = "environment.libraries"
    others = [
        f"{name} {installed.get(name, 'is missing')}, not {specifier}"
        for name, specifier in wanted.items()
        if name not in installed or not specifier.contains(installed[name], prereleases=True)
    ]
    if others:
        found = f"{', '.join(others)} as in {source}"
        advice = "run: pip install --requirement requirements.txt"
        return Result(check, "warn", found, advice)
    if "pyarrow" in installed:
        found = "pyarrow is installed, with which pandas stores strings differently"
        advice = "run the job in an environment without it: pip uninstall pyarrow"
        return Result(check, "warn", found, advice)
    return Result(check, "ok", f"{len(wanted)} libraries as in {source}")


def memory_limit(root: Path, environment: Mapping[str, str]) -> int | None:
    """The bytes that this process may use with those beside it: the lowest limit around it.

    Of cgroups, of Lambda, or else the memory of the machine; None if none is known.

    :param root: the root of the file system
    """
    limits = list(_cgroup_limits(root))
    if of_lambda := environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"):
        limits.append(int(of_lambda) * MIB)
    meminfo = root / "proc/meminfo"
    if meminfo.is_file():
        words = meminfo.read_text("ascii").split()
        limits.append(int(words[words.index("MemTotal:") + 1]) * 1024)
    return min(limits, default=None)


def _cgroup_limits(root: Path) -> Iterator[int]:
    """The limits of the process's cgroup and of those around it, of version 2 and version 1."""
    membership = root / "proc/self/cgroup"
    if not membership.is_file():
        return
    for line in membership.read_text("utf-8").splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be that of the host, and the mounted top is the container's.
        place = top / own.strip("/")
        for folder in (place, *place.parents):
            file = folder / name
            if file.is_file() and (limit := file.read_text("ascii").strip()) != "max":
                yield int(limit)


def memory(settings: Settings, limit: int | None) -> Result:
    """Whether the workers fit into the memory.

    :param limit: in bytes; None if it is not known
    """
    check = "environment.memory"
    if limit is None:
        return Result(check, "unknown", "no memory limit can be read")
    workers, batch = settings.run.workers, settings.batch
    least = FIRST_WORKER_MIB + FURTHER_WORKER_MIB * (workers - 1)
    batch_bytes = batch.rows * ROW_BYTES + batch.bytes * BODY_COPIES
    most = least + round(workers * BATCHES_HELD * batch_bytes / MIB)
    limit_mib = limit // MIB
    whose = counted(workers, "worker")
    found = f"{limit_mib:,} MiB; {whose} with full batches may use {most:,} MiB"
    advice = "raise the limit, or lower run.workers, batch.bytes or batch.rows"
    if limit_mib < least:
        found = f"{limit_mib:,} MiB; {whose} cannot start with less than {least:,} MiB"
        return Result(check, "fail", found, advice)
    if limit_mib < most:
        return Result(check, "warn", found, advice)
    return Result(check, "ok", found)


def open_files(settings: Settings, limit: int) -> Result:
    """Whether a worker may open as many files and connections as it needs.

    :param limit: of one process; below 0 for none
    """
    check = "environment.open_files"
    needed = settings.queue.max_receivers + MAX_CALL_THREADS + MAX_HEARTBEAT_THREADS + OTHER_FILES
    allowed = "any number" if limit < 0 else f"{limit:,}"
    found = f"{allowed} allowed; a worker may need {needed}"
    if 0 <= limit < needed:
        advice = (
            "raise the limit: ulimit -n 1024, LimitNOFILE= in systemd, nofile of the container; "
            "or lower queue.max_receivers"
        )
        return Result(check, "warn", found, advice)
    return Result(check, "ok", found)
