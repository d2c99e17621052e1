"""Another key under a known id, and another context of a column, are refused by every command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from etl import worker
from etl.cli import main
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.errors import ConfigurationError, KeyringError, SettingsError
from tests.acceptance.job_processes import new_job
from tests.conftest import KEYRING, ROOT, Job
from tests.unit.builders import event
from tests.unit.test_help import all_calls

WRONG = Keyring.new("k1")
COLUMNS = yaml.safe_load((ROOT / "config.yaml").read_text())["table"]["columns"]

# Every command that uses keys, with what it needs. {token} is a token of the table, {file} an
# export, {new} a file that does not exist.
WITH_KEYS = {
    "run": ["run --idle-seconds 1", "run --dry-run --idle-seconds 1", "run --workers 2"],
    "token": ["token 198.51.100.7 --column masked_ip"],
    "rows": ["rows 198.51.100.7 --column masked_ip"],
    "unmask": [
        "unmask {token} --reason test",
        "unmask --where true --reason test",
        "unmask --in {csv} --out {new} --reason test",
    ],
    "forget": [
        "forget 198.51.100.7 --column masked_ip",
        "forget 198.51.100.7 --column masked_ip --yes",
    ],
    "quarantine show": ["quarantine show 1 --reason test"],
    "quarantine replay": ["quarantine replay --all"],
    "quarantine export": ["quarantine export {new}"],
    "quarantine import": ["quarantine import {file}"],
    "keys list": ["keys list"],
    "rekey": ["rekey"],
}
# The others, and why no key is compared.
WITHOUT = {
    "audit": "no key",
    "config show": "no key",
    "demo": "runs other commands",
    "history": "no key",
    "init": "no key",
    "keys new": "makes a key, and has no database",
    "keys rotate": "adds a key, and has no database",
    "quarantine discard": "no key: it opens no body",
    "quarantine list": "no key: it opens no body",
    "report duplicates": "no key",
    "report notebook": "no key",
    "send": "no key",
}
CALLS = [call for calls in WITH_KEYS.values() for call in calls]


def test_every_command_either_compares_keys_or_uses_none() -> None:
    """A new command must be added to one of the two lists."""
    groups = {" ".join(path) for path in _groups(main)}
    assert {*WITH_KEYS, *WITHOUT} == {call for call in all_calls(main) if call not in groups}


def _groups(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _groups(command, *path, name)


@pytest.fixture(scope="module")
def loaded(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Job, dict[str, str]]]:
    """A job that has loaded a row and quarantined a message, and what the calls need."""
    folder = tmp_path_factory.mktemp("loaded")
    with new_job(sqs, postgres) as job:
        job.send(event(ip="198.51.100.7"), "{")
        job.run()
        job.send(event(ip="198.51.100.8"))
        ((token,),) = job.rows("select masked_ip from user_logins")
        export = job.command("quarantine", "export", str(folder / "export.jsonl"))
        assert export.returncode == 0, export.stderr
        (folder / "masked.csv").write_text(f"ip\n{token}\n")
        yield (
            job,
            {
                "token": token,
                "file": str(folder / "export.jsonl"),
                "csv": str(folder / "masked.csv"),
                "new": str(folder / "new"),
            },
        )


@pytest.fixture
def invoke(
    loaded: tuple[Job, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Call a command in this process, with changes of its environment."""
    job, places = loaded
    monkeypatch.setattr(worker, "tune_interpreter", lambda: None)

    def call(text: str, **changes: str) -> Result:
        arguments = [word.format(**places) for word in text.split()]
        return CliRunner().invoke(main, arguments, env={**job.environment, **changes})

    return call


def everything(job: Job) -> dict[str, list[Any]]:
    """Every row of every table of the database, and what the queue holds."""
    names = job.rows(
        "select table_schema, table_name from information_schema.tables "
        "where table_schema in ('etl', 'public') and table_type = 'BASE TABLE'"
    )
    tables = {
        f"{schema}.{name}": sorted(job.rows(f'select t::text from "{schema}"."{name}" t'))
        for schema, name in names
    }
    return {**tables, "queue": [job.left()]}


def check_refused(
    loaded: tuple[Job, dict[str, str]], call: Callable[[], Result]
) -> ConfigurationError:
    """Check that a call shows, stores and receives nothing; return its error."""
    job, places = loaded
    before = everything(job)
    done = call()
    error = done.exception
    assert isinstance(error, ConfigurationError), done.output
    assert error.exit_code == 2
    assert done.stdout == ""
    assert everything(job) == before
    assert not Path(places["new"]).exists()
    return error


WRONG_KEYRINGS = {
    "its only key": WRONG,
    "its primary key": Keyring("k1", {"k1": WRONG.key("k1"), "k2": KEYRING.key("k1")}),
    "an older key": WRONG.with_new("k3"),
}


@pytest.mark.parametrize("keyring", WRONG_KEYRINGS.values(), ids=WRONG_KEYRINGS)
@pytest.mark.parametrize("text", CALLS)
def test_another_key_of_a_known_id_is_refused(
    loaded: tuple[Job, dict[str, str]],
    invoke: Callable[..., Result],
    text: str,
    keyring: Keyring,
) -> None:
    """The error says which key it is, and when and by which job it was first used."""
    error = check_refused(loaded, lambda: invoke(text, ETL_KEYRING=keyring.dump()))
    assert isinstance(error, KeyringError)
    ((day,),) = loaded[0].rows(
        "select to_char(min(first_used_at), 'YYYY-MM-DD') from etl.key_checks"
    )
    for part in ("key 'k1'", day, "job 'public.user_logins'", "restore the copy of that keyring"):
        assert part in str(error)


def columns(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns of config.yaml with changes by name; a value of None takes a key out."""
    return [
        {
            key: value
            for key, value in {**column, **changes.get(column["name"], {})}.items()
            if value is not None
        }
        for column in COLUMNS
    ]


IP = "{name: masked_ip, field: %s, type: ip, max_length: 256, mask: true, context: ip}"
DEVICE = (
    "{name: masked_device_id, field: %s, type: text, max_length: 256, mask: true, "
    "context: device_id}"
)
# Each with the line to write for it.
OTHER_COLUMNS = {
    "renamed field": (columns(masked_ip={"field": "ip_address"}), IP % "[ip, ip_address]"),
    "new name first": (
        columns(masked_device_id={"field": ["device", "device_id"]}),
        DEVICE % "[device_id, device]",
    ),
    "context": (columns(masked_ip={"context": "address"}), IP % "ip"),
    "shared context": (columns(masked_device_id={"context": "ip"}), DEVICE % "device_id"),
    "not canonical": (columns(masked_ip={"canonical": False}), IP % "ip"),
    "type": (columns(masked_ip={"type": "text"}), IP % "ip"),
    "not masked": (columns(masked_device_id={"mask": False}), DEVICE % "device_id"),
}


@pytest.mark.parametrize(("other", "line"), OTHER_COLUMNS.values(), ids=OTHER_COLUMNS)
@pytest.mark.parametrize("text", CALLS)
def test_columns_that_are_masked_in_another_way_are_refused(
    loaded: tuple[Job, dict[str, str]],
    invoke: Callable[..., Result],
    text: str,
    other: list[dict[str, Any]],
    line: str,
) -> None:
    """The error shows the line to write."""
    error = check_refused(loaded, lambda: invoke(text, ETL_TABLE__COLUMNS=yaml.safe_dump(other)))
    assert isinstance(error, SettingsError)
    assert str(error).splitlines()[1:] == [f"    - {line}"]
