"""Several workers share a queue, started from the command line."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from etl.embedded.sqs import EmbeddedSqs
from tests.acceptance.job_processes import until, visible
from tests.conftest import Job
from tests.unit.builders import event

WORKERS = ("--workers", "2")


def worker_processes(pid: int) -> list[psutil.Process]:
    """The worker processes of a run: the forks of its fork server."""
    return [fork for server in fork_servers(pid) for fork in _living_children(server)]


def fork_servers(pid: int) -> list[psutil.Process]:
    """The fork server of a run, which may have been replaced."""
    found = []
    for child in _living_children(psutil.Process(pid)):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            words = child.cmdline()
            if words and "resource_tracker" not in words[-1]:
                found.append(child)
    return found


def _living_children(process: psutil.Process) -> list[psutil.Process]:
    living = []
    with suppress(psutil.NoSuchProcess):
        for child in process.children():
            with suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    living.append(child)
    return living


def test_two_workers_share_a_run(job: Job) -> None:
    """There is one summary and one row for the run, and each message is loaded once."""
    job.send(*[event(user_id=f"u{i}") for i in range(600)], "{", event(ip="x"))
    summary = job.run(*WORKERS, ETL_BATCH__ROWS="40")
    assert (summary["received"], summary["loaded"], summary["quarantined"]) == (602, 600, 2)
    assert summary["reasons"] == {"message: JSON": 1, "ip: IP address": 1}
    assert job.rows("select count(*), count(distinct user_id) from user_logins") == [(600, 600)]
    assert job.rows("select received, loaded, quarantined, batches, stop_reason from etl.runs") == [
        (602, 600, 2, summary["batches"], "idle")
    ]
    assert job.left() == 0


def test_two_workers_share_one_maximum(job: Job) -> None:
    """Together they receive exactly that number of messages, and no more."""
    job.send(*[event(user_id=f"u{i}") for i in range(100)])
    summary = job.run(*WORKERS, "--max-messages", "37")
    assert (summary["received"], summary["loaded"]) == (37, 37)
    assert summary["stop_reason"] == "max_messages"
    assert job.left() == 63


def test_a_worker_that_dies_is_reported_and_loses_nothing(sqs: EmbeddedSqs, job: Job) -> None:
    """Its messages become visible again, and what it had committed stays counted."""
    job.queue_url = sqs.create_queue(f"dying-{os.getpid()}", visibility_seconds=3)
    settings = {"ETL_QUEUE__URL": job.queue_url, "ETL_BATCH__ROWS": "20"}
    job.send(*[event(user_id=f"u{i}") for i in range(400)])
    process = job.start("run", "--idle-seconds", "2", "--json", *WORKERS, **settings)
    until(lambda: len(worker_processes(process.pid)) == 2 and _loaded(job))
    worker_processes(process.pid)[0].send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "died by signal SIGKILL" in err
    first = json.loads(out)
    assert first["stop_reason"] == "worker died"
    assert first["problem"].startswith("1 of 2 workers died; SQS will deliver its messages again")
    second = job.run("--idle-seconds", "5", **settings)
    assert first["loaded"] + second["loaded"] == 400
    assert job.rows("select count(*), count(distinct user_id) from user_logins") == [(400, 400)]
    assert job.left() == 0


def test_a_worker_that_dies_in_a_run_that_goes_on_forever_is_replaced(
    sqs: EmbeddedSqs, job: Job
) -> None:
    """By one that loads the rest; the counts include what the dead ones had committed."""
    job.queue_url = sqs.create_queue(f"replaced-{os.getpid()}", visibility_seconds=3)
    settings = {"ETL_QUEUE__URL": job.queue_url, "ETL_BATCH__ROWS": "20"}
    with job.start("run", "--forever", "--json", *WORKERS, **settings) as process:
        try:
            for number, kill in enumerate((signal.SIGKILL, signal.SIGTERM)):
                until(lambda: len(worker_processes(process.pid)) == 2)
                job.send(*[event(user_id=f"u{number} {i}") for i in range(200)])
                until(lambda number=number: _loaded(job) > 200 * number)
                group = worker_processes(process.pid)
                group[0].send_signal(kill)
                psutil.wait_procs(group[:1], timeout=60)
                until(lambda number=number: _loaded(job) == 200 * (number + 1))
            until(lambda: len(worker_processes(process.pid)) == 2)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert (summary["stop_reason"], summary["problem"]) == ("SIGTERM", None)
    assert summary["loaded"] == 400
    assert "died by signal SIGKILL and is replaced" in err
    assert "was ended by SIGTERM and is replaced" in err
    assert job.rows("select count(*), count(distinct user_id) from user_logins") == [(400, 400)]
    assert job.rows("select loaded, stop_reason from etl.runs") == [(400, "SIGTERM")]
    assert job.left() == 0


def _loaded(job: Job) -> int:
    return int(job.rows("select count(*) from user_logins")[0][0]) if _has_runs(job) else 0


def _has_runs(job: Job) -> bool:
    return bool(job.rows("select to_regclass('etl.runs')")[0][0])


def test_workers_end_when_their_parent_is_killed(job: Job) -> None:
    """They release the messages that they hold, and their server ends after them."""
    job.send(*[event(user_id=f"u{i}") for i in range(50)])
    process = job.start("run", "--forever", *WORKERS, ETL_BATCH__SECONDS="600")
    until(lambda: len(worker_processes(process.pid)) == 2)
    group = [*worker_processes(process.pid), *fork_servers(process.pid)]
    until(lambda: not visible(job))
    process.kill()
    process.communicate()
    psutil.wait_procs(group, timeout=30)
    assert not any(worker.is_running() for worker in group)
    assert visible(job) == 50


def test_sigterm_stops_all_workers(job: Job) -> None:
    """They release at once the messages that they have not loaded."""
    job.send(*[event(user_id=f"u{i}") for i in range(50)])
    process = job.start("run", "--forever", "--json", *WORKERS, ETL_BATCH__SECONDS="600")
    until(lambda: not visible(job))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    summary = json.loads(out)
    # One worker may receive again what the other has just released.
    assert summary["stop_reason"] == "SIGTERM"
    assert summary["released"] == summary["received"] >= 50
    assert visible(job) == 50


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", [("--idle-seconds", "60"), ("--forever",)])
def test_a_signal_to_the_whole_group_while_the_workers_start_is_a_clean_end(
    job: Job, number: signal.Signals, mode: tuple[str, ...]
) -> None:
    """Ctrl-C in a terminal sends one to every process, and so does systemd with SIGTERM."""
    job.send(*[event(user_id=f"u{i}") for i in range(50)])
    with job.start("run", "--json", *mode, *WORKERS) as process:
        try:
            until(lambda: len(worker_processes(process.pid)) == 2)
            group = [*fork_servers(process.pid), *worker_processes(process.pid)]
            for member in (psutil.Process(process.pid), *group):
                member.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert json.loads(out)["stop_reason"] == number.name
    assert "died" not in err
    assert "Traceback" not in err
    assert job.rows("select stop_reason from etl.runs") == [(number.name,)]
    assert visible(job) == 50


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_does_not_end_the_fork_server(job: Job, number: signal.Signals) -> None:
    """Nor does it before it has a worker; it ends when its parent does not need it any more."""
    with job.start("run", "--forever", "--json", *WORKERS) as process:
        try:
            until(lambda: fork_servers(process.pid))
            (server,) = fork_servers(process.pid)
            server.send_signal(number)
            until(lambda: len(worker_processes(process.pid)) == 2)
            assert {worker.ppid() for worker in worker_processes(process.pid)} == {server.pid}
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert "died" not in err
    assert not server.is_running()


def test_a_fork_server_that_is_killed_is_replaced_with_the_next_worker(job: Job) -> None:
    """Its workers live on, and their results count."""
    with job.start("run", "--forever", "--json", *WORKERS) as process:
        try:
            until(lambda: len(worker_processes(process.pid)) == 2)
            (server,), group = fork_servers(process.pid), worker_processes(process.pid)
            server.kill()
            until(lambda: not fork_servers(process.pid))
            job.send(*[event(user_id=f"u{i}") for i in range(50)])
            until(lambda: _loaded(job) == 50)
            group[0].kill()
            until(lambda: len(worker_processes(process.pid)) == 1)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert json.loads(out)["loaded"] == 50
    assert "died by signal SIGKILL and is replaced" in err
    assert not psutil.wait_procs(group, timeout=60)[1]


def test_an_installation_without_pandera_receives_nothing(job: Job, tmp_path: Path) -> None:
    """One line tells what is missing, once for all workers."""
    job.send(event())
    (tmp_path / "pandera.py").write_text("raise ImportError")
    done = job.command("run", *job.arguments, *WORKERS, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("no worker can be started: ImportError at ") == 1
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["stop_reason"], summary["received"]) == ("worker died", 0)
    assert visible(job) == 1


def test_no_secret_is_on_a_command_line(job: Job) -> None:
    """Neither the keyring nor the database's password is visible in ps."""
    password = job.environment["DATABASE_URL"].split(":")[2].split("@")[0]
    process = job.start("run", "--forever", *WORKERS)
    until(lambda: len(worker_processes(process.pid)) == 2)
    group = [*worker_processes(process.pid), *fork_servers(process.pid)]
    command_lines = [Path(f"/proc/{member.pid}/cmdline").read_bytes().decode() for member in group]
    process.terminate()
    process.communicate(timeout=60)
    for secret in (password, job.environment["ETL_KEYRING"][40:80]):
        assert not any(secret in line for line in command_lines)
