"""No plain personal value is left anywhere: the tests search all traces of a job for canaries."""

from __future__ import annotations

import base64
import binascii
import json
import random
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa
import yaml

from etl.demo import samples
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from tests.acceptance.expected_rows import token
from tests.acceptance.job_processes import (
    held_sessions,
    ledger_locked,
    make_tables,
    new_job,
    running,
    until,
)
from tests.acceptance.leak_scan import everything, search, spellings
from tests.conftest import Job
from tests.unit.builders import EVENT, ROOT, event


def strange(word: str) -> str:
    """A value that every encoding writes differently."""
    return f"{word} ö/漢~?"


WORD = f"kanarie{secrets.token_hex(8)}"
DEVICE = strange(WORD)
IPV4 = ".".join(str(random.randrange(100, 256)) for _ in range(4))
IPV6 = "2001:db8:" + ":".join(f"{random.randrange(0x1000, 0x10000):x}" for _ in range(6))
CANARIES = (WORD, DEVICE, IPV4, IPV6, IPV6.upper())

PERSONAL = {"ip": IPV4, "device_id": DEVICE}
GOOD = [
    {},
    {"ip": IPV6.upper()},
    {"ip": f"::ffff:{IPV4}"},
    {"device_id": "\u2028" + DEVICE},
    {"email": DEVICE, DEVICE: {IPV4: [DEVICE]}, "c": {"mail": DEVICE, "old": [{"ip": IPV6}]}},
]
# Every kind of mask beside those of the default, and what is around one in JSON.
MASKS: list[dict[str, object]] = [
    {"name": "one_way", "field": "device_id", "type": "text", "mask": "hmac"},
    {"name": "shown", "field": "device_id", "type": "text", "mask": "partial", "keep_last": 4},
    *(
        {"name": name, "field": field, "nullable": True, "required": False, **how}
        for name, field, how in (
            ("mail", "c.mail", {"type": "text", "mask": "hmac"}),
            ("around", "c", {"type": "json"}),
        )
    ),
]
DROPPED = ["email", "c.old[0].ip"]
BAD = [
    {"ip": DEVICE},
    {"ip": f" {IPV4}"},
    {"ip": [IPV4]},
    {"ip": {IPV6: 1}},
    {"device_id": [DEVICE, {DEVICE: IPV6}]},
    {"device_id": DEVICE * 20},
    {"device_id": f"{DEVICE}\0{DEVICE}"},
    {"device_id": f"{DEVICE}\ud800{DEVICE}"},
    {"device_id": None, "locale": {DEVICE: IPV4}},
    {"app_version": DEVICE},
    {"app_version": [IPV4]},
    {"device_type": DEVICE * 3},
    {"locale": IPV6 * 5},
    {"user_id": DEVICE * 10},
    {"user_id": f"\ud800{IPV4}"},
]
TEXTS = [DEVICE, f'"{DEVICE}"', f"[{json.dumps(DEVICE)}, NaN", f'{{"ip": {IPV4}}}', "{" + IPV6]
# Refused by the database only, which quotes the row in its DETAIL.
REFUSED = {"user_id": "refused"}


def bodies() -> Iterator[str]:
    """Make good and bad messages, all of which hold canaries."""
    for changes in [*GOOD, *BAD, REFUSED]:
        yield event(**{**PERSONAL, **changes})
        # SQS accepts a lone surrogate only as an escape.
        text = json.dumps({**EVENT, **PERSONAL, **changes}, ensure_ascii=False)
        yield text.replace("\ud800", "\\ud800")
    for make in samples.BAD.values():
        yield make({**EVENT, **PERSONAL})
    yield from TEXTS


class Left:
    """A job that has worked on the canaries in every way, and what its commands printed."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self.folder = folder
        self.printed: dict[str, str] = {}
        self.codes: dict[str, int] = {}

    def do(self, name: str, *arguments: str, **more: str) -> None:
        """Run a command to its end, and keep its output."""
        done = self.job.command(*arguments, TMPDIR=str(self.folder), HOME=str(self.folder), **more)
        self.keep(name, done.returncode, done.stdout, done.stderr)

    def keep(self, name: str, code: int, out: str, err: str) -> None:
        """Keep the output of a command."""
        self.codes[name] = code
        self.printed |= {f"{name}, stdout": out, f"{name}, stderr": err}


@pytest.fixture(scope="module")
def left(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Left]:
    """Run dry, then for real, then into a table that is renamed, and list quarantine and runs."""
    debug = {"ETL_LOG__LEVEL": "debug", "ETL_QUARANTINE__MAX_FRACTION": "1"}
    with new_job(sqs, postgres) as job:
        left = Left(job, tmp_path_factory.mktemp("job"))
        default = yaml.safe_load((ROOT / "config.yaml").read_text())["table"]["columns"]
        job.environment["ETL_TABLE__COLUMNS"] = json.dumps([*default, *MASKS])
        job.environment["ETL_EVENT__DROP"] = json.dumps(DROPPED)
        with job.engine.begin() as connection:
            connection.execute(sa.text("drop table user_logins"))
        make_tables(job)
        with job.engine.begin() as connection:
            connection.execute(sa.text("alter table user_logins add check (user_id <> 'refused')"))
        job.send(*bodies())
        brief = ("run", "--idle-seconds", "1")
        left.do("dry run", *brief, "--dry-run", **debug)
        left.do("run", *brief, "--json", ETL_LOG__FORMAT="json", **debug)
        job.send(*bodies())
        with ledger_locked(job) as release, running(job, **debug) as process:
            until(lambda: held_sessions(job))
            with job.engine.begin() as connection:
                connection.execute(sa.text("alter table user_logins rename to gone"))
            release()
            left.keep("failing run", *_output(process))
        left.do("quarantine", "quarantine", "list", **debug)
        left.do("runs", "runs", "--json", **debug)
        yield left


def _output(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_the_commands_ended_as_they_should(left: Left) -> None:
    """The search covers real work: rows, rejects of every kind, and a refusal."""
    assert left.codes == {"dry run": 0, "run": 0, "failing run": 1, "quarantine": 0, "runs": 0}
    good = 2 * len(GOOD)
    summary = json.loads(left.printed["run, stdout"])
    assert (summary["loaded"], summary["quarantined"]) == (good, len(list(bodies())) - good)
    assert "42P01" in left.printed["failing run, stderr"]


def test_no_canary_is_found_anywhere(left: Left, postgres: EmbeddedPostgres) -> None:
    """The search covers output, tables, dump, server log, database files and temporary files."""
    places = everything(left.job, postgres, left.printed, left.folder)
    assert search(places, CANARIES) == set()


def test_the_rows_hold_the_canaries_as_tokens(left: Left) -> None:
    """The search covered the place where the plain values would be."""
    keyring = left.job.environment["ETL_KEYRING"]
    expected = (token(keyring, "ip", IPV4), token(keyring, "device_id", DEVICE))
    assert expected in left.job.rows("select masked_ip, masked_device_id from gone")
    (shown,) = left.job.rows(
        "select one_way ~ '^k1:', shown, mail ~ '^k1:', around from gone where mail is not null "
        "limit 1"
    )
    assert shown == (True, f"****{DEVICE[-4:]}", True, {"old": [{}]})


PLANTED = strange(f"planted{secrets.token_hex(8)}")


@pytest.mark.parametrize("neighbours", [b"", b"x", b"xy"])
def test_a_planted_value_is_found_in_base64_wherever_it_starts(neighbours: bytes) -> None:
    """All three alignments are found, in both alphabets."""
    data = neighbours + PLANTED.encode() + b"after"
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert search([("here", encode(data))], [PLANTED])


ENCODED = {
    "plain": f"before {PLANTED} after".encode(),
    "JSON": json.dumps({"a": ["before", PLANTED]}).encode(),
    "hex": binascii.hexlify(f"before {PLANTED} after".encode()),
    "HEX": f"before {PLANTED} after".encode().hex().upper().encode(),
    "URL": urlencode({"a": PLANTED}, quote_via=quote, safe="").encode(),
    "form": urlencode({"a": PLANTED}).encode(),
    "UTF-16": f"before {PLANTED}".encode("utf-16"),
}


@pytest.mark.parametrize("how", ENCODED)
def test_a_planted_value_is_found_in_each_spelling(how: str) -> None:
    """Each is written by the code that would write it in a real leak."""
    assert ("here", how) in search([("here", ENCODED[how])], [PLANTED])


def test_a_planted_leak_is_found_in_every_place(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """The places are output, text and binary columns, dump, server log and files."""
    with new_job(sqs, postgres) as job:
        left = Left(job, tmp_path)
        masked = token(job.environment["ETL_KEYRING"], "device_id", PLANTED)
        left.do("unmask", "unmask", masked, "--reason", "a planted leak")
        word = PLANTED.split()[0]
        left.do("wrong", "run", **{f"ETL_QUEUE__{word.upper()}": "1"})
        (tmp_path / "leak").write_text(PLANTED)
        texts = {how: text for how, text in spellings(PLANTED).items() if how != "UTF-16"}
        with job.engine.begin() as connection:
            connection.execute(sa.text("create table etl.texts (value text)"))
            connection.execute(sa.text("create table etl.bytes (value bytea)"))
            for text in texts.values():
                connection.execute(
                    sa.text("insert into etl.texts values (:value)"), {"value": text.decode()}
                )
                connection.execute(
                    sa.text("insert into etl.bytes values (:value)"), {"value": text}
                )
        _write_to_server_log(postgres, PLANTED)
        found = search(everything(job, postgres, left.printed, tmp_path), [PLANTED, word])
    everywhere = ("table etl.texts", "table etl.bytes", "dump", "database files")
    assert {(place, how) for place in everywhere for how in texts} - found == set()
    single = ("unmask, stdout", "wrong, stderr", "server log", "files")
    assert {(place, "plain") for place in single} - found == set()


def _write_to_server_log(postgres: EmbeddedPostgres, text: str) -> None:
    url = sa.make_url(postgres.superuser_url).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sa.text(f"do $$ begin raise log '{text}'; end $$"))
    engine.dispose()
