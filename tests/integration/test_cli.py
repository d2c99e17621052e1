"""The commands as a user sees them."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from etl.cli import main
from etl.commands.send import _bodies
from etl.crypto.keyring import Keyring
from etl.errors import UsageError
from tests.conftest import Job
from tests.unit.builders import event


def commands(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    """Every command of a group, as the words that call it."""
    paths: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        paths.append((*path, name))
        if isinstance(command, click.Group):
            paths += commands(command, *path, name)
    return paths


@pytest.mark.parametrize("path", [(), *commands(main)], ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    """The example can be copied, and contains the command's own name."""
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    if not isinstance(_command(path), click.Group) or not path:
        call = f"etl {' '.join(path)}".strip()
        assert re.search(rf"\b{call}\b", result.output.split("Example")[1])


def _command(path: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


@pytest.mark.parametrize("path", commands(main), ids=" ".join)
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    for parameter in _command(path).params:
        if isinstance(parameter, click.Option):
            assert (parameter.help or "").rstrip("]").strip(), parameter.name


def test_the_help_lists_the_exit_codes() -> None:
    """A scheduler needs them."""
    output = CliRunner().invoke(main, ["--help"]).output
    for code in range(4):
        assert re.search(rf"^ +{code}  \w", output, re.MULTILINE)


def test_the_defaults_in_the_help_of_run_are_those_of_the_settings() -> None:
    """An option that overrides a setting shows that setting's default."""
    from etl.config import RunSettings

    output = CliRunner().invoke(main, ["run", "--help"]).output
    assert f"default: {RunSettings().idle_seconds:g}" in " ".join(output.split())


def test_a_misspelled_option_exits_with_2() -> None:
    assert CliRunner().invoke(main, ["run", "--idle"]).exit_code == 2


def test_keys_new_prints_a_keyring_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prints to standard output only, and a different keyring every time."""
    monkeypatch.chdir(tmp_path)
    first, second = (CliRunner().invoke(main, ["keys", "new"]).stdout for _ in range(2))
    assert list(tmp_path.iterdir()) == []
    ids = {Keyring.parse(text, source="test").primary for text in (first, second)}
    assert len(ids) == 2


def test_init_creates_the_tables(job: Job) -> None:
    """The command needs neither a queue nor a keyring."""
    done = job.command("init", ETL_KEYRING="", ETL_QUEUE__URL="")
    assert done.returncode == 0, done.stderr
    assert job.rows("select count(*) from user_logins") == [(0,)]
    assert job.rows("select count(*) from etl.ledger") == [(0,)]


def test_send_sends_the_lines_of_a_file(job: Job, tmp_path: Path) -> None:
    """Each line is a body, and blank lines are skipped."""
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join([event(), "", "not json", event(locale="é")]) + "\n")
    done = job.command("send", str(file))
    assert done.returncode == 0, done.stderr
    assert "sent 3 messages" in done.stderr
    assert job.left() == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
def test_send_reads_files_of_windows(encoding: str, tmp_path: Path) -> None:
    """A body has neither a mark nor a line end; a line in another encoding is named."""
    file = tmp_path / "events.jsonl"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    file.write_bytes(f"{mark}a 1\r\n\r\nb\u2028é\rc\nd".encode(encoding, "replace"))
    with file.open("rb") as opened:
        bodies = _bodies(opened)
        assert next(bodies) == "a 1"
        if encoding == "latin-1":
            with pytest.raises(UsageError, match="line 3 of the file is not text in UTF-8"):
                next(bodies)
            return
        assert list(bodies) == ["b\u2028é", "c", "d"]


def test_send_names_the_lines_that_sqs_refuses(job: Job, tmp_path: Path) -> None:
    """The other lines are sent."""
    file = tmp_path / "events.jsonl"
    file.write_text("good\nbad \x01\ngood\n")
    done = job.command("send", str(file))
    assert done.returncode == 1
    assert "SQS refused 1 message: number 2 (the first is 1)" in done.stderr
    assert job.left() == 2


def test_send_needs_either_a_file_or_a_sample() -> None:
    """Both together are wrong usage, and so is neither."""
    runner = CliRunner()
    assert runner.invoke(main, ["send"]).exit_code == 2
    assert runner.invoke(main, ["send", "config.yaml", "--sample", "3"]).exit_code == 2


def test_the_history_and_the_quarantine_are_listed(job: Job) -> None:
    """They are printed as tables or JSON lines, and never show a body."""
    job.send(event(), event(ip="canary"), "{canary")
    summary = job.run(ETL_QUARANTINE__MAX_FRACTION="1")
    listed = job.command("quarantine", "list")
    assert "IP address" in listed.stdout
    assert "canary" not in listed.stdout + listed.stderr
    lines = job.command("quarantine", "list", "--json").stdout.splitlines()
    counts = {(row["column"], row["check"]): row["messages"] for row in map(json.loads, lines)}
    assert counts == {("ip", "IP address"): 1, ("message", "JSON"): 1}
    (run,) = map(json.loads, job.command("history", "--json").stdout.splitlines())
    assert run["run_id"] == summary["run_id"]
    assert (run["received"], run["loaded"], run["quarantined"]) == (3, 1, 2)
    assert summary["run_id"][:8] in job.command("history").stdout


def test_a_summary_for_people_shows_the_reconciliation(job: Job) -> None:
    """Without --json, standard output has it as text."""
    job.send(event(), "{")
    done = job.command("run", "--idle-seconds", "1")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "received 2 = loaded 1 + already handled 0 + quarantined 1 + released 0" in words
    assert "message: JSON" in words


def test_the_seconds_of_work_are_apart_from_those_of_waiting(job: Job) -> None:
    """A run that is idle for a second has waited for most of it, and the parts are no more."""
    job.send(event(), event())
    summary = job.run()
    assert summary["work_seconds"] > 0
    assert summary["waiting_seconds"] > 0.5
    assert summary["work_seconds"] + summary["waiting_seconds"] <= summary["seconds"] + 0.01
    assert job.run()["work_seconds"] == 0


def test_the_history_answers_to_its_old_name(job: Job) -> None:
    """Scripts that call ``runs`` print the same rows as ``history``."""
    job.run()
    old, new = (job.command(name, "--json") for name in ("runs", "history"))
    assert old.returncode == 0, old.stderr
    assert old.stdout == new.stdout != ""


@pytest.mark.parametrize("command", [("history",), ("quarantine", "list")], ids=" ".join)
def test_a_database_without_the_tables_is_an_error_that_says_how_to_create_them(
    job: Job, command: tuple[str, ...]
) -> None:
    """Standard error has no traceback."""
    done = job.command(*command)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: the job's tables are missing; create them with: etl init"
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--forever", "--idle-seconds", "5"),
        ("--forever", "--dry-run"),
        ("--dry-run", "--workers", "2"),
    ],
    ids=" ".join,
)
def test_options_of_a_run_that_contradict_each_other_are_wrong_usage(
    options: tuple[str, ...],
) -> None:
    """Nothing is received, since nobody knows which one was meant."""
    result = CliRunner().invoke(main, ["run", *options])
    assert result.exit_code == 2
    assert "--" in result.output


def test_a_group_has_the_characters_that_sqs_allows() -> None:
    """SQS would refuse each message."""
    for name in ("", "a b", "ü", "g" * 129):
        result = CliRunner().invoke(main, ["send", "--sample", "1", "--group", name])
        assert result.exit_code == 2


def test_an_idle_time_on_the_command_line_ends_a_run_of_a_service(job: Job) -> None:
    """The configuration lets it run forever."""
    completed = job.command("run", "--idle-seconds", "1", "--json", ETL_RUN__FOREVER="true")
    assert json.loads(completed.stdout)["stop_reason"] == "idle"


def test_a_word_that_is_not_a_run_id_is_wrong_usage() -> None:
    """The command does not query the database."""
    for word in ("last", "", "-", "1a2b3c4d-x", "1" * 33):
        assert CliRunner().invoke(main, ["quarantine", "list", "--run", word]).exit_code == 2


def test_the_beginning_of_a_run_id_names_the_run(job: Job) -> None:
    """As the tables show it; one that several runs have is refused."""
    job.send("{")
    first = job.run()["run_id"]
    job.send("{", "[")
    second = job.run()["run_id"]
    for run_id, count in ((first, 1), (second, 2)):
        for text in (run_id, run_id[:8], run_id[:13].upper()):
            done = job.command("quarantine", "list", "--entries", "--run", text, "--json")
            assert done.returncode == 0, done.stderr
            assert done.stdout.count(run_id) == count
            assert len(done.stdout.splitlines()) == count
    with job.engine.begin() as connection:
        twin = first[:8] + second[8:]
        connection.exec_driver_sql(
            f"update etl.runs set run_id = '{twin}' where run_id = '{second}'"
        )
    done = job.command("quarantine", "discard", "--run", first[:8], "--reason", "a test")
    assert done.returncode == 2
    assert f"2 runs have an id that begins with '{first[:8]}'" in done.stderr
    assert job.command("quarantine", "list", "--run", "00000000").returncode == 2


def test_a_queue_that_does_not_exist_is_a_configuration_error(job: Job) -> None:
    """The exit code is 2, since nothing was received."""
    done = job.command("run", "--json", ETL_QUEUE__URL=f"{job.queue_url}-not")
    assert (done.returncode, done.stdout) == (2, "")
    assert "NonExistentQueue" in done.stderr
    assert "queue.url" in done.stderr


def test_a_wrong_password_is_a_configuration_error(job: Job) -> None:
    """The exit code is 2 at once, and the password is not printed."""
    url = job.environment["DATABASE_URL"].replace("etl:", "etl:hunter2")
    done = job.command("run", DATABASE_URL=url)
    assert done.returncode == 2
    assert "DATABASE_URL" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_send_ends_at_once_on_ctrl_c(job: Job) -> None:
    """Its threads would otherwise wait for an SQS that has not answered, and try again."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = job.start("send", "--sample", "100", AWS_ENDPOINT_URL=address)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=25)  # its calls would take 30 s to fail
    assert process.returncode == 128 + signal.SIGINT
    assert err.endswith("Ctrl-C: ending at once; some of the messages may have been sent\n")
