"""The commands that work with keys, called as a user calls them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from moto.server import ThreadedMotoServer

from etl.cli import main
from etl.crypto.keyring import Keyring
from etl.mask import tokens
from tests.acceptance.job_processes import make_tables, until
from tests.conftest import KEYRING, ROOT, Job

SECOND = KEYRING.with_new("k2")


def call(*arguments: str, text: bytes = b"", **environment: str) -> Result:
    """Call a command that needs no service, without the settings of the caller's environment."""
    unset = {name: None for name in os.environ if name.startswith(("ETL_", "DATABASE_URL"))}
    return CliRunner().invoke(main, arguments, input=text, env={**unset, **environment})


def material(keyring: Keyring) -> list[str]:
    """The keys as a keyring's JSON has them."""
    return list(json.loads(keyring.dump())["keys"].values())


def test_rotate_prints_the_new_keyring_on_standard_output_only() -> None:
    """The old key is in it, and the new one is primary."""
    done = call("keys", "rotate", "--key-id", "new", ETL_KEYRING=KEYRING.dump())
    ring = Keyring.parse(done.stdout, source="test")
    assert (ring.primary, ring.key_ids) == ("new", ("k1", "new"))
    assert ring.key("k1") == KEYRING.key("k1")
    assert not any(key in done.stderr for key in material(ring))


def test_rotate_in_place_prints_no_key(tmp_path: Path) -> None:
    """The key is in the file only, and its id on standard error."""
    path = tmp_path / "keyring.json"
    path.write_text(KEYRING.dump())
    path.chmod(0o600)
    done = call("keys", "rotate", "--in-place", ETL_KEYRING_FILE=str(path))
    assert (done.exit_code, done.stdout) == (0, "")
    assert repr(json.loads(path.read_text())["primary"]) in done.stderr
    assert not any(key in done.stderr for key in json.loads(path.read_text())["keys"].values())


@pytest.mark.parametrize("source", ["ETL_KEYRING", None])
def test_rotate_in_place_needs_the_file(source: str | None) -> None:
    """A keyring in a variable cannot be rewritten."""
    done = call("keys", "rotate", "--in-place", **({source: KEYRING.dump()} if source else {}))
    assert done.exit_code != 0
    assert "set ETL_KEYRING_FILE" in str(done.exception)


def test_list_without_a_database_shows_the_keyring() -> None:
    """It also says that the use of the keys is not known."""
    done = call("keys", "list", "--json", ETL_KEYRING=SECOND.dump())
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"key_id": "k1", "status": "older key"},
        {"key_id": "k2", "status": "primary"},
    ]
    assert "DATABASE_URL is not set" in done.stderr
    assert not any(key in done.output for key in material(SECOND))


def put(job: Job, *ips: Any, device: Any = None) -> None:
    """Insert a row for each token of an address."""
    for ip in ips:
        with job.engine.begin() as connection:
            connection.exec_driver_sql(
                "insert into user_logins (masked_ip, masked_device_id) values (%s, %s)",
                (ip, device),
            )


def lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """The JSON lines that a command printed."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def ip(keyring: Keyring, value: str = "198.51.100.7") -> str:
    """The token of an address."""
    return str(tokens([value], keyring, "ip")[0])


def test_list_shows_what_still_needs_each_key(job: Job) -> None:
    """It counts rows and bodies by key, also for a missing key and for values without one."""
    job.send("{canary", "{")
    job.run(ETL_QUARANTINE__MAX_FRACTION="1")
    stranger = Keyring.new("k9")
    put(job, ip(KEYRING), ip(SECOND), ip(stranger), device="canary")
    done = job.command("keys", "list", "--json", ETL_KEYRING=SECOND.dump())
    places = ["user_logins.masked_ip", "user_logins.masked_device_id", "etl.quarantine"]
    assert [list(line.values()) for line in lines(done)] == [
        ["k1", "older key", 1, 0, 2],
        ["k2", "primary", 1, 0, 0],
        ["k9", "not in the keyring", 1, 0, 0],
        [None, "not a token", 0, 3, 0],
    ]
    assert list(lines(done)[0]) == ["key_id", "status", *places]
    shown = job.command("keys", "list", ETL_KEYRING=SECOND.dump()).stdout
    for text in (shown, done.stdout + done.stderr):
        assert not any(secret in text for secret in [*material(SECOND), "canary"])


@pytest.mark.parametrize("argument", [["-"], []])
def test_token_reads_standard_input(argument: list[str]) -> None:
    """It accepts an address in any spelling and prints the primary key's token first."""
    done = call(
        "token", *argument, "--column", "ip", text=b"2001:DB8:0::1\n", ETL_KEYRING=SECOND.dump()
    )
    expected = f"{ip(SECOND, '2001:db8::1')}\n{ip(KEYRING, '2001:db8::1')}\n"
    assert (done.exit_code, done.stdout) == (0, expected)


def test_token_asks_on_a_terminal_and_does_not_show_the_answer() -> None:
    """The value is neither on the terminal nor in the output."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "etl", "token", "--column", "ip"],
        env={"PATH": os.environ["PATH"], "ETL_KEYRING": KEYRING.dump()},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        cwd=ROOT,
        start_new_session=True,  # so that there is no other terminal to ask on
    ) as process:
        os.close(theirs)
        until(lambda: not termios.tcgetattr(ours)[3] & termios.ECHO)
        os.write(ours, b"198.51.100.7\n")
        out, _ = process.communicate(timeout=60)
    shown = os.read(ours, 1000)
    os.close(ours)
    assert (process.returncode, out) == (0, f"{ip(KEYRING)}\n")
    assert b"value:" in shown
    assert b"198" not in shown


def test_token_takes_an_argument_too() -> None:
    """It also accepts the column by its name in the table; JSON names the keys."""
    done = call("token", "::1", "--column", "masked_ip", "--json", ETL_KEYRING=SECOND.dump())
    found = {line["key_id"]: line["token"] for line in map(json.loads, done.stdout.splitlines())}
    assert found == {"k1": ip(KEYRING, "::1"), "k2": ip(SECOND, "::1")}


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        (b"canary", "ip", "check 'IP address'"),
        (b"", "ip", "no value on standard input"),
        (b"canary", "locale", "masked are ip, device_id"),
        (b"canary\xff", "device_id", "standard input is not text in UTF-8"),
    ],
)
def test_token_refuses_a_value_without_repeating_it(text: bytes, column: str, problem: str) -> None:
    """The error names the check or the column, and the exit code is that of wrong usage."""
    done = call("token", "-", "--column", column, text=text, ETL_KEYRING=KEYRING.dump())
    # cli.start() prints an error of ours, and exits with its code.
    code = getattr(done.exception, "exit_code", done.exit_code)
    printed = f"{done.exception} {done.output}"
    assert (code, done.stdout) == (2, "")
    assert problem in printed
    assert "canary" not in printed


def test_rows_finds_a_value_under_every_key(job: Job) -> None:
    """It also prints how many rows it could not compare, and then the exit code is 1."""
    make_tables(job)
    put(
        job,
        ip(KEYRING),
        ip(SECOND),
        ip(SECOND, "198.51.100.8"),
        ip(Keyring.new("k9")),
        "plain",
        None,
    )
    arguments = ["rows", "198.51.100.7", "--column", "ip", "--json"]
    done = job.command(*arguments, ETL_KEYRING=SECOND.dump())
    found = [json.loads(line)["masked_ip"] for line in done.stdout.splitlines()]
    assert sorted(found) == sorted([ip(KEYRING), ip(SECOND)])
    assert done.returncode == 1
    assert "not compared: 2 rows" in done.stderr
    few = job.command(*arguments, "--limit", "1", ETL_KEYRING=SECOND.dump())
    assert (few.returncode, len(few.stdout.splitlines())) == (1, 1)
    assert "showing 1 row; there may be more, raise --limit" in few.stderr


def test_rows_says_nothing_when_all_were_compared(job: Job) -> None:
    """It prints nothing at all if no row has the value."""
    make_tables(job)
    put(job, ip(KEYRING), None)
    done = job.command("rows", "192.0.2.1", "--column", "ip", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_rekey_leaves_the_old_key_unused(job: Job) -> None:
    """`keys list` shows it, and the exit code says whether all rows and bodies are done."""
    job.send("{canary")
    job.run(ETL_QUARANTINE__MAX_FRACTION="1")
    put(job, ip(KEYRING), ip(SECOND), None)
    rotated = {"ETL_KEYRING": SECOND.dump()}
    (outcome,) = lines(job.command("rekey", "--json", **rotated))
    assert outcome.pop("seconds") > 0
    assert outcome == {
        "key_id": "k2",
        "rows": 1,
        "entries": 1,
        "unopened": {},
        "remaining": 0,
        "passes": 1,
        "elsewhere": {},
        "one_way": [],
    }
    used = lines(job.command("keys", "list", "--json", **rotated))
    assert [list(line.values())[2:] for line in used] == [[0, 0, 0], [2, 0, 1]]
    put(job, ip(Keyring.new("k9")))
    done = job.command("rekey", **rotated)
    assert done.returncode == 1
    assert done.stdout.startswith("re-encrypted 0 rows and 0 quarantined bodies with key 'k2' in ")
    assert "no key in this keyring opens them: masked_ip 1; see: etl keys list" in done.stderr


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    """The variables of an AWS Secrets Manager that moto plays over HTTP."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_REGION": "eu-west-3",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "NO_PROXY": "127.0.0.1",
    }
    server.stop()


def secrets_manager(aws: dict[str, str]) -> Any:
    """A client of the Secrets Manager that moto plays."""
    return boto3.client(
        "secretsmanager",
        region_name="eu-west-3",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


def test_a_secret_is_read_over_http_and_rotated(job: Job, aws: dict[str, str]) -> None:
    """The job reads the current version only, and `keys rotate` prints the next one."""
    client = secrets_manager(aws)
    client.create_secret(Name="etl/keyring", SecretString=KEYRING.dump())
    from_aws = {**aws, "ETL_KEYRING": "", "ETL_KEYRING_SECRET": "etl/keyring"}
    printed = job.command("token", "198.51.100.7", "--column", "ip", **from_aws)
    assert (printed.stdout, printed.stderr) == (f"{ip(KEYRING)}\n", "")
    rotated = job.command("keys", "rotate", **from_aws)
    client.put_secret_value(SecretId="etl/keyring", SecretString=rotated.stdout)
    client.close()
    printed = job.command("token", "198.51.100.7", "--column", "ip", **from_aws)
    new, old = printed.stdout.splitlines()
    assert new == ip(Keyring.parse(rotated.stdout, source="test"))
    assert old == ip(KEYRING)


def test_a_missing_secret_is_reported_over_http(job: Job, aws: dict[str, str]) -> None:
    """It counts as an error of configuration, exit code 2."""
    done = job.command(
        "token", "-", "--column", "ip", **aws, ETL_KEYRING="", ETL_KEYRING_SECRET="gone"
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: keyring secret 'gone' cannot be read: Secrets Manager answered "
        "'ResourceNotFoundException'; correct the id or "
        "the region ('eu-west-3'), or restore the copy of the keyring\n"
    )


def test_an_unreachable_secrets_manager_is_reported(job: Job, aws: dict[str, str]) -> None:
    """The command prints one line and no traceback."""
    away = {**aws, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = job.command(
        "token", "-", "--column", "ip", **away, ETL_KEYRING="", ETL_KEYRING_SECRET="a"
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: keyring secret 'a' cannot be read: no answer from Secrets Manager to "
        "'get_secret_value' at http://127.0.0.1:9, region 'eu-west-3' (EndpointConnectionError); "
    )
