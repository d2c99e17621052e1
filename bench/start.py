"""What a start costs: the help, a run that finds nothing, a second worker, and the first row."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from bench import markdown, paired_runs, processes, services
from bench.services import Options, Services
from bench.stub import Stub
from etl.postgres.engine import driver_url

MIN_RUNS = 11  # more than elsewhere, because a start is short and its noise relatively large
LOOK_SECONDS = 0.02  # between two looks at the table
LOOK_AT_MEMORY = 5  # at every fifth look, since it costs more

HELP = "python -m etl --help"
IMPORTS = 'python -c "import yaml, click"'
EMPTY = "etl run, empty queue"
LIBRARIES = 'python -c "import pandas, sqlalchemy, psycopg2"'
FIFTY = "etl run, 50 messages"
ONE = "etl run, 500 messages"
TWO = "etl run, 500 messages, 2 workers"
IDLE_SECONDS = 1
MESSAGES = {EMPTY: 0, FIFTY: 50, ONE: 500, TWO: 500}

TARGETS = {
    "start.help_over_imports": "≤ 3",
    "start.empty_run_cpu": "≤ 1.3",
    "start.second_worker_cpu_seconds": "≤ 1.5",
    "start.second_worker_mib": "≤ 120",
    "start.first_row_seconds": "≤ 2",
    "start.fifty_over_idle_seconds": "≤ 3",
}


def measure(options: Options) -> dict[str, Any]:
    """Start the programs in turns."""
    with services.start(max(MESSAGES.values())) as running, _as_installed() as variables:
        run = partial(_run, running, variables)
        candidates = {
            HELP: partial(_command, variables, "-m", "etl", "--help"),
            IMPORTS: partial(_command, variables, "-c", "import yaml, click"),
            LIBRARIES: partial(_command, variables, "-c", "import pandas, sqlalchemy, psycopg2"),
            EMPTY: partial(run, 0),
            FIFTY: partial(run, MESSAGES[FIFTY]),
            ONE: partial(run, MESSAGES[ONE]),
            TWO: partial(run, MESSAGES[TWO], "--workers", "2"),
        }
        for warm_up in candidates.values():
            warm_up()
        turns = 1 if options.quick else max(options.runs, MIN_RUNS)
        runs = paired_runs.in_turns(candidates, turns)

    def values(name: str, field: str) -> list[float]:
        return [run[field] for run in runs[name]]

    def more(field: str) -> dict[str, float]:
        both = zip(values(TWO, field), values(ONE, field), strict=True)
        return paired_runs.spread([two - one for two, one in both])

    over_idle = [seconds - IDLE_SECONDS for seconds in values(FIFTY, "wall_seconds")]
    ratio, spread = paired_runs.ratio, paired_runs.spread
    return {
        "ratios": {
            "start.help_over_imports": ratio(
                values(HELP, "wall_seconds"), values(IMPORTS, "wall_seconds")
            ),
            "start.empty_run_cpu": ratio(
                values(EMPTY, "cpu_seconds"), values(LIBRARIES, "cpu_seconds")
            ),
            "start.second_worker_cpu_seconds": more("cpu_seconds"),
            "start.second_worker_mib": more("mib"),
            "start.first_row_seconds": spread(values(FIFTY, "first_row_seconds")),
            "start.fifty_over_idle_seconds": spread(over_idle),
        },
        "table": {
            name: {field: spread(values(name, field)) for field in runs[name][0]} for name in runs
        },
        "runs": runs,
    }


@contextmanager
def _as_installed() -> Iterator[dict[str, str]]:
    """Yield variables with which a program starts as it does where only the job is installed.

    Its bytecode is kept, by the warm-up. It has no hypothesis, which pandera imports if it is
    there, and with it half of the development tools.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder, "hypothesis.py").write_text("raise ImportError('not in production')\n")
        yield {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": ""}


def _command(variables: dict[str, str], *arguments: str) -> dict[str, float]:
    cost = processes.run(processes.python(*arguments), variables)
    return {"wall_seconds": cost.wall_seconds, "cpu_seconds": cost.cpu_seconds}


def _run(
    running: Services, variables: dict[str, str], count: int, *arguments: str
) -> dict[str, float]:
    """Drain a queue; return what it cost, the peak of its memory, and when the first row came.

    :raises WorkNotDone: a message is left, or a row is missing
    """
    idle = ("--idle-seconds", str(IDLE_SECONDS))
    command = processes.python("-m", "etl", "run", *idle, "--json", *arguments)
    with running.database() as url, Stub(running.bodies, count) as stub:
        engine = sa.create_engine(driver_url(url))
        environment = {
            **stub.environment,
            **variables,
            "DATABASE_URL": url,
            "ETL_KEYRING": running.keyring.dump(),
        }
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            query = sa.text("select count(*) from user_logins")
            measured = _watch(command, environment, lambda: bool(connection.scalar(query)))
            rows = connection.scalar(query)
        engine.dispose()
        if rows != count or stub.counts()["deleted"] != count:
            raise services.WorkNotDone(f"{' '.join(command[1:])}: {count} messages, {rows} rows")
    return measured


def _watch(command: list[str], variables: dict[str, str], has_row: Any) -> dict[str, float]:
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=processes.ROOT,
        env=processes.environment(variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first_row = mib = 0.0
    looks = 0
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        now = time.perf_counter() - began
        if ended:
            break
        if not first_row and has_row():
            first_row = now
        if looks % LOOK_AT_MEMORY == 0:
            mib = max(mib, _pss_mib(process.pid))
        looks += 1
        time.sleep(LOOK_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise processes.ProgramFailed(f"{' '.join(command[1:])} ended with {process.returncode}")
    return {
        "wall_seconds": now,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "mib": mib,
        "first_row_seconds": first_row,
    }


def _pss_mib(pid: int) -> float:
    """The memory of a process and its descendants; what several of them share counts once."""
    kib = 0
    with suppress(psutil.Error, OSError):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib / 1024


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    rows = [
        [
            name if name.startswith("etl") else f"`{name}`",
            markdown.shown(fields["wall_seconds"], 0, times=1000),
            markdown.shown(fields["cpu_seconds"], 0, times=1000),
            markdown.shown(fields["mib"], 0) if "mib" in fields else "",
        ]
        for name, fields in part["table"].items()
    ]
    ratios = [
        [f"`{key}`", TARGETS[key], markdown.shown(spread)] for key, spread in part["ratios"].items()
    ]
    return [
        *markdown.table(["command", "wall time, ms", "CPU, ms", "memory, MiB"], rows),
        "",
        f"A run stops after {IDLE_SECONDS} s without messages, which its wall time includes.",
        "Memory is the peak of the sum over its processes; what several share is counted once.",
        "",
        *markdown.table(["key", "target", "measured"], ratios),
    ]
