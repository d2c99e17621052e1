"""Recovery, rotation, replay and forgetting leave plain values only where they were asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.postgres.engine import driver_url
from tests.acceptance.expected_rows import token
from tests.acceptance.job_processes import new_job
from tests.acceptance.leak_scan import everything, search
from tests.acceptance.test_canary import CANARIES, DEVICE, GOOD, IPV4, PLANTED, Left, bodies
from tests.conftest import ROOT, Job
from tests.unit.builders import EVENT

# Twenty commands one after another take long on a busy machine.
pytestmark = pytest.mark.timeout(1200)

WHY = ("--reason", "ticket 4711")
# These commands show plain values on standard output by design.
ASKED_FOR = {"unmask", "unmask where", "show", "show json"}


@pytest.fixture(scope="module")
def left(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Left]:
    """A job that has run every command of recovery on the results of a run."""
    with new_job(sqs, postgres) as job:
        folder = tmp_path_factory.mktemp("job")
        job = replace(
            job,
            environment={
                **job.environment,
                "ETL_LOG__LEVEL": "debug",
                "ETL_QUARANTINE__MAX_FRACTION": "1",
            },
        )
        left = Left(job, folder)
        work(left, tmp_path_factory.mktemp("plain"))
        yield left


def work(left: Left, plain: Path) -> None:
    """Run every command of recovery on data that holds the canaries."""
    job = left.job
    keyring = job.environment["ETL_KEYRING"]
    job.send(*bodies())
    job.run(ETL_EVENT__UNKNOWN_FIELDS="reject")
    device = token(keyring, "device_id", DEVICE)
    ip = token(keyring, "ip", IPV4)
    left.do("unmask", "unmask", device, *WHY)
    left.do("unmask where", "unmask", "--where", f"masked_ip = '{ip}'", *WHY)
    out = str(plain / "plain.csv")
    left.do("unmask out", "unmask", "--where", "true", "--out", out, *WHY)
    left.do("wrong column", "unmask", device, ip, "--column", "ip", *WHY)
    left.do("wrong condition", "unmask", "--where", f"user_id = '{DEVICE}'::int::text", *WHY)
    left.do("rotate", "keys", "rotate")
    rotated = left.printed["rotate, stdout"].strip()
    job.environment["ETL_KEYRING"] = rotated
    left.do("token", "token", "-", "--column", "device_id", piped=DEVICE)
    left.do("rows", "rows", "-", "--column", "device_id", "--json", piped=DEVICE)
    left.do("keys in use", "keys", "list")
    left.do("rekey", "rekey")
    left.do("list", "quarantine", "list", "--entries", "--json")
    left.do("show", "quarantine", "show", "1", *WHY)
    left.do("show json", "quarantine", "show", "2", "--json", *WHY)
    left.do("export", "quarantine", "export", str(left.folder / "sealed.jsonl"))
    left.do("replay", "quarantine", "replay", "--all", ETL_LOG__FORMAT="json")
    left.do("import", "quarantine", "import", str(left.folder / "sealed.jsonl"))
    left.do("counted", "forget", "-", "--column", "device_id", piped=DEVICE)
    left.do("forget", "forget", "-", "--column", "device_id", "--yes", piped=DEVICE)
    left.do("discard", "quarantine", "discard", "--all", *WHY)
    left.do("tombstones", "quarantine", "list", "--closed", "--entries")
    left.do("audit", "audit", "--json")


def test_the_commands_have_worked(left: Left) -> None:
    """The search covers real work."""
    failing = {"wrong column": 1, "wrong condition": 2}
    assert left.codes == {name: failing.get(name, 0) for name in left.codes}
    assert DEVICE in left.printed["unmask, stdout"]
    assert IPV4 in left.printed["unmask where, stdout"]
    assert "loaded 2 " in " ".join(left.printed["replay, stdout"].split())
    closed_as = dict(left.job.rows("select closed_as, count(*) from etl.quarantine group by 1"))
    assert closed_as["replayed"] == 2
    assert closed_as["forgotten"] > 10
    assert closed_as["discarded"] > 0
    assert set(closed_as) == {"replayed", "forgotten", "discarded"}
    actions = [json.loads(line)["action"] for line in left.printed["audit, stdout"].splitlines()]
    assert actions == ["forget", *["quarantine show"] * 2, *["unmask"] * 4]
    (count,) = left.job.rows("select count(*) from user_logins")[0]
    assert count < 2 * len(GOOD)


def test_no_canary_is_found_except_where_it_was_asked_for(
    left: Left, postgres: EmbeddedPostgres
) -> None:
    """The search covers output, tables, dump, server log, database files, WAL and files."""
    searched = {
        name: text
        for name, text in left.printed.items()
        if name not in {f"{command}, stdout" for command in ASKED_FOR}
    }
    assert len(searched) >= 2 * len(left.codes) - len(ASKED_FOR)
    assert search(everything(left.job, postgres, searched, left.folder), CANARIES) == set()


def test_a_canary_is_found_where_it_was_asked_for(left: Left, postgres: EmbeddedPostgres) -> None:
    """The search would therefore find it in other places too."""
    found = search(everything(left.job, postgres, left.printed, left.folder), CANARIES)
    assert {place for place, _ in found} == {f"{command}, stdout" for command in ASKED_FOR}


def unmasked(folder: Path) -> str:
    """Write a configuration of the same table without any masking."""
    tree = yaml.safe_load((ROOT / "config.yaml").read_text())
    for column in tree["table"]["columns"]:
        if column.pop("mask", False):
            column |= {"type": "text", "mask": False}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def test_the_token_check_keeps_plain_values_out_and_out_of_the_log(
    sqs: EmbeddedSqs, tmp_path: Path
) -> None:
    """The server logs all errors in full, as most do, and the run names the constraint.

    It stops, because the table refuses every row.
    """
    chatty = {
        "log_min_messages": "warning",
        "log_min_error_statement": "error",
        "log_error_verbosity": "verbose",
    }
    with EmbeddedPostgres(settings=chatty) as server, new_job(sqs, server) as job:
        with job.engine.begin() as connection:
            connection.execute(sa.text("drop table user_logins"))
        left = Left(job, tmp_path)
        left.do("init", "init", ETL_TABLE__TOKEN_CHECK="true")
        bad = {**EVENT, "ip": IPV4, "device_id": PLANTED}
        job.send(json.dumps(bad), json.dumps(bad))
        left.do("run", "run", "--idle-seconds", "1", "--config", unmasked(tmp_path))
        left.do("list", "quarantine", "list")
        assert left.codes == {"init": 0, "run": 1, "list": 0}
        assert job.rows("select count(*) from user_logins") == [(0,)]
        assert re.search("masked_(ip|device_id)_is_token", left.printed["run, stderr"])
        logged = server.log_path.read_text()
        assert "not a token" in logged
        places = [("server log", logged.encode())]
        places += [(name, text.encode()) for name, text in left.printed.items()]
        assert search(places, [IPV4, PLANTED]) == set()
        assert search([("log", plain_check(job, server))], [PLANTED])


def plain_check(job: Job, server: EmbeddedPostgres) -> bytes:
    """Break an ordinary CHECK and return the server's log, as a control."""
    engine = sa.create_engine(driver_url(job.environment["DATABASE_URL"]))
    with engine.begin() as connection:
        connection.execute(sa.text("create table plain (value text check (value = ''))"))
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.text("insert into plain values (:value)"), {"value": PLANTED})
    engine.dispose()
    return server.log_path.read_bytes()
