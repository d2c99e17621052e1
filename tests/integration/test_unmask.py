"""Plain values are recovered by token, by file and by condition, after an audit row."""

from __future__ import annotations

import csv
import hmac
import io
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from etl.cli import main
from etl.crypto.keyring import Keyring
from etl.mask import tokens
from tests.acceptance.job_processes import make_tables
from tests.conftest import Job
from tests.unit.builders import event

WHY = ("--reason", "ticket 4711")


@pytest.fixture
def ready(job: Job) -> Job:
    """A job whose tables exist."""
    make_tables(job)
    return job


def audited(job: Job) -> list[Any]:
    """The rows of the audit, oldest first."""
    return job.rows("select action, reason, columns, count from etl.unmask_audit order by audit_id")


def test_tokens_are_recovered_in_order(ready: Job, keyring: Keyring) -> None:
    """The column is given or found by trying; tokens are arguments or lines."""
    (ip,) = tokens(["198.51.100.7"], keyring, "ip")
    (device,) = tokens(["5\n9"], keyring, "device_id")
    done = ready.command("unmask", ip, device, *WHY)
    assert (done.returncode, done.stdout) == (0, "198.51.100.7\n5\\n9\n")
    done = ready.command("unmask", device, "--json", *WHY)
    assert json.loads(done.stdout) == {"token": device, "value": "5\n9"}
    done = ready.command("unmask", "--column", "masked_ip", *WHY, piped=f"{ip}\n\n {ip} \n")
    assert (done.returncode, done.stdout) == (0, "198.51.100.7\n" * 2)
    assert audited(ready) == [
        ("unmask", "ticket 4711", ["ip", "device_id"], 2),
        ("unmask", "ticket 4711", ["ip", "device_id"], 1),
        ("unmask", "ticket 4711", ["ip"], 2),
    ]


def test_no_value_is_shown_if_one_token_is_wrong(ready: Job, keyring: Keyring) -> None:
    """The error names its position, in the same words whatever is wrong with it."""
    good = tokens(["198.51.100.7"], keyring, "ip")[0]
    wrong = [
        tokens(["198.51.100.8"], Keyring.new("k1"), "ip")[0],
        tokens(["198.51.100.8"], Keyring.new("k9"), "ip")[0],
        tokens(["593-47-5928"], keyring, "device_id")[0],
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        "198.51.100.9",
        "",
    ]
    errors = set()
    for token in wrong:
        done = ready.command("unmask", good, token, "--column", "ip", *WHY)
        assert (done.returncode, done.stdout) == (1, "")
        assert not token or token not in done.stderr
        errors.add(done.stderr)
    assert errors == {
        "error: token 2 was not made by this keyring for this column, or was changed\n"
    }
    assert len(audited(ready)) == len(wrong)


@pytest.mark.parametrize(
    ("ddl", "word"),
    [
        ("drop table etl.unmask_audit", "etl.unmask_audit"),
        ("revoke insert on etl.unmask_audit from etl", "42501"),
        ("alter table etl.unmask_audit add check (reason = '')", "23514"),
        ("drop schema etl cascade", "42P01"),
    ],
)
def test_without_the_audit_row_nothing_is_shown(
    ready: Job, keyring: Keyring, tmp_path: Path, ddl: str, word: str
) -> None:
    """Neither standard output nor a file has a value, and the exit code is not 0."""
    with ready.engine.begin() as connection:
        connection.execute(sa.text(ddl))
    token = tokens(["198.51.100.7"], keyring, "ip")[0]
    out = tmp_path / "out"
    for more in ((), ("--out", str(out))):
        done = ready.command("unmask", token, *more, *WHY)
        assert done.returncode in (1, 2)
        assert done.stdout == ""
        assert "nothing is shown" in done.stderr
        assert word in done.stderr or word == "etl.unmask_audit"
        assert "198.51" not in done.stderr
    assert not out.exists()


def test_without_a_database_nothing_is_shown(ready: Job, keyring: Keyring) -> None:
    """The audit row cannot be written, so the exit code is 1."""
    token = tokens(["198.51.100.7"], keyring, "ip")[0]
    done = ready.command("unmask", token, *WHY, DATABASE_URL="postgresql://a@127.0.0.1:1/none")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing is shown" in done.stderr


@pytest.mark.parametrize(
    "reason", [(), ("--reason", ""), ("--reason", " "), ("--reason", "\udcff")]
)
def test_a_reason_is_required(reason: tuple[str, ...]) -> None:
    """Without one the exit code is 2, even where there is no configuration."""
    assert CliRunner().invoke(main, ["unmask", "k1.AAAA", *reason]).exit_code == 2


def test_more_than_the_limit_is_refused(ready: Job, keyring: Keyring, tmp_path: Path) -> None:
    """This holds for tokens, a file and a condition, and leaves no audit row."""
    masked = list(tokens(["198.51.100.7", "198.51.100.8"], keyring, "ip"))
    file = tmp_path / "in.csv"
    file.write_text("masked_ip\n" + "\n".join(masked) + "\n")
    insert(ready, [{"masked_ip": token} for token in masked])
    for source in (masked, ["--in", str(file)], ["--where", "true"]):
        done = ready.command("unmask", *source, "--limit", "1", *WHY)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(r"more than 1 (token|row)\b", done.stderr), done.stderr
        assert ready.command("unmask", *source, *WHY, ETL_UNMASK__MAX_ROWS="2").returncode == 0
    assert len(audited(ready)) == 3


def insert(job: Job, rows: list[dict[str, Any]]) -> None:
    """Put rows into the target."""
    target = sa.table("user_logins", *map(sa.column, rows[0]))
    with job.engine.begin() as connection:
        connection.execute(sa.insert(target), rows)


@pytest.mark.parametrize("source", [(), ("--in", "empty.csv")])
def test_nothing_to_recover_is_wrong_usage(
    ready: Job, tmp_path: Path, source: tuple[str, ...]
) -> None:
    """No audit row says that something was recovered."""
    (tmp_path / "empty.csv").write_text("masked_ip\n")
    arguments = [str(tmp_path / word) if word.endswith(".csv") else word for word in source]
    done = ready.command("unmask", *arguments, *WHY, piped="\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert audited(ready) == []


def test_a_csv_file_comes_back_plain(ready: Job, keyring: Keyring, tmp_path: Path) -> None:
    """Columns of tokens get their fields' names; the new file is private and replaces no other."""
    (ip,) = tokens(["2001:db8::1"], keyring, "ip")
    (device,) = tokens(['a,"b'], keyring, "device_id")
    source = tmp_path / "in.csv"
    out = tmp_path / "out.csv"
    rows = [["masked_ip", "n", "device_id"], [ip, "NA", device], ["", "007", ""]]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    source.write_text("\ufeff" + text.getvalue(), newline="")
    done = ready.command("unmask", "--in", str(source), "--out", str(out), *WHY)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with out.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["ip", "n", "device_id"],
            ["2001:db8::1", "NA", 'a,"b'],
            ["", "007", ""],
        ]
    assert sorted(tmp_path.iterdir()) == [source, out]
    assert audited(ready) == [("unmask", "ticket 4711", ["ip", "device_id"], 2)]
    again = ready.command("unmask", "--in", str(source), "--out", str(out), *WHY)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert len(audited(ready)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "masked_ip\n'{ip}\n",
        " masked_ip \n {ip}\u00a0\n",
        "n;masked_ip\r\n1;{ip}\r\n",
        "n\tmasked_ip\n1\t{ip}\n",
        "n, masked_ip\n1, {ip}\n",
        "n,\u200bmasked_ip\n1,\"'{ip}'\"\n",
        '"=""masked_ip"""\n"=""{ip}"""\n',
    ],
)
def test_tokens_of_a_spreadsheet_are_read_as_elsewhere(
    ready: Job, keyring: Keyring, tmp_path: Path, text: str
) -> None:
    """Whatever it puts around a token or a name is ignored."""
    file = tmp_path / "in.csv"
    file.write_text(text.format(ip=tokens(["192.0.2.1"], keyring, "ip")[0]))
    done = ready.command("unmask", "--in", str(file), *WHY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("192.0.2.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("masked_ip\n{ip}\nsecret\n", "the token of 'masked_ip' in row 2 was not made"),
        ("n\n1\n", "no column of the CSV file is named like a masked column; expected one of"),
        ("masked_ip n\n{ip} 1\n", "its header is one cell, with ' ' in it"),
        ("{ip}\n{ip}\n", "the first row of the CSV file has a token in it"),
        ("masked_ip,ip\n{ip},{ip}\n", "the same name after unmasking"),
        ("masked_ip,masked_ip\n{ip},{ip}\n", "header"),
        ("masked_ip\n{ip},secret\n", "row 1 has 2 cells"),
        ('masked_ip\n"secret', "line 3 is not CSV"),
        ("", "header"),
    ],
)
def test_a_wrong_file_is_refused_whole(
    ready: Job, keyring: Keyring, tmp_path: Path, text: str, words: str
) -> None:
    """The error has the number of the row and never its contents."""
    file = tmp_path / "in.csv"
    file.write_text(text.format(ip=tokens(["192.0.2.1"], keyring, "ip")[0]))
    done = ready.command("unmask", "--in", str(file), *WHY)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert words in done.stderr
    assert "secret" not in done.stderr


def test_rows_that_meet_a_condition_come_back_plain(ready: Job) -> None:
    """One or all masked columns are recovered, and the SQL may hold %, colons and quotes."""
    ready.send(event(user_id="u1"), event(user_id="it's 100% :x", locale=None))
    ready.run()
    done = ready.command("unmask", "--where", "user_id like 'it''s 100% :x'", *WHY)
    assert done.returncode == 0, done.stderr
    head, row = csv.reader(io.StringIO(done.stdout))
    assert head[:4] == ["user_id", "device_type", "ip", "device_id"]
    assert row[:6] == ["it's 100% :x", "android", "199.172.111.135", "593-47-5928", "", "2003000"]
    done = ready.command("unmask", "--where", "user_id = 'u1'", "--column", "ip", *WHY)
    assert "199.172.111.135" in done.stdout
    assert "593-47-5928" not in done.stdout
    assert audited(ready)[1] == ("unmask", "ticket 4711", ["ip"], 1)


@pytest.mark.parametrize(
    ("condition", "code", "words"),
    [
        ("user_id::int = 1", 2, "22P02"),
        ("1 / (app_version - app_version) = 1", 2, "22012"),
        ("user_id", 1, "42804"),
        ("secret = 1", 2, "42703"),
        ("true; drop table user_logins", 2, "semicolon"),
        ("pg_sleep(5) is null", 2, "statement_seconds"),
        ('"secret" = 1', 2, "single quotes"),
        ("nextval('numbers') > 0", 1, "25006"),
    ],
)
def test_a_failing_condition_is_reported_without_a_value(
    ready: Job, condition: str, code: int, words: str
) -> None:
    """The error has the SQLSTATE only; the transaction cannot write and has a time limit."""
    insert(ready, [{"user_id": "secret value", "app_version": 1}])
    with ready.engine.begin() as connection:
        connection.execute(sa.text("create sequence numbers"))
    done = ready.command("unmask", "--where", condition, *WHY, ETL_UNMASK__STATEMENT_SECONDS="0.5")
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "secret" not in done.stderr
    assert ready.rows("select count(*) from user_logins") == [(1,)]
    assert audited(ready) == []


def test_the_audit_has_a_keyed_fingerprint_of_the_tokens(ready: Job, keyring: Keyring) -> None:
    """It is of the distinct tokens, in order; the users cannot be faked by the environment."""
    masked = list(tokens(["198.51.100.7", "198.51.100.8", "198.51.100.7"], keyring, "ip"))
    ready.command("unmask", *masked, *WHY, USER="mallory", LOGNAME="mallory")
    done = ready.command("audit", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, done.stdout.splitlines())
    distinct = json.dumps(sorted(set(masked))).encode()
    expected = hmac.digest(keyring.derive("audit"), distinct, "sha256").hex()
    assert row["fingerprint"] == expected
    assert (row["db_user"], row["key_id"], row["count"]) == ("etl", "k1", 3)
    assert row["os_user"] not in ("", "mallory")
    assert row["columns"] == "ip, device_id"
    assert "ticket 4711" in ready.command("audit").stdout


def test_a_column_that_is_not_masked_is_refused(job: Job) -> None:
    """The error names those that are masked."""
    done = job.command("unmask", "k1.AAAA", "--column", "locale", *WHY)
    assert done.returncode == 2
    assert "ip, device_id" in done.stderr


def test_only_one_source_at_a_time() -> None:
    """More than one source is wrong usage, exit code 2."""
    for two in (["k1.A", "--where", "true"], ["--in", "x", "--where", "true"]):
        assert CliRunner().invoke(main, ["unmask", *two, *WHY]).exit_code == 2
