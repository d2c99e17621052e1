"""Mistakes that people make before a run, and what the program says to each of them.

``python -m tests.acceptance.mistakes`` makes every mistake with the real command, the embedded
services and nothing else, and writes what was printed, the exit code and the seconds to
docs/mistakes.md. The test of the same name makes them again and compares.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import psycopg2

from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/mistakes.md"
KEYRING = Keyring.new("k1").dump()
CONFIG = (ROOT / "config.yaml").read_text()
SHORT_CONFIG = "table:\n  columns:\n    - {name: user_id, field: user_id, type: text}\n"
TIMEOUT_SECONDS = 120
RUNS = "(nothing: it runs)"
# Those of the default table.
COLUMNS = """user_id varchar(128) not null, device_type varchar(32) not null,
masked_ip varchar(256) not null, masked_device_id varchar(256) not null, locale varchar(32),
app_version integer not null, create_date date not null"""


@dataclass(frozen=True)
class Mistake:
    """One mistake, as a difference from an environment in which the job runs.

    In the values, ``$name`` stands for one of the addresses of :class:`Services`.
    """

    name: str
    variables: Mapping[str, str | None] = field(default_factory=dict)  # None: it is not set
    arguments: tuple[str, ...] = ("run", "--idle-seconds", "1")
    files: Mapping[str, str] = field(default_factory=dict)  # in the home, by path
    modes: Mapping[str, int] = field(default_factory=dict)  # of these files
    after: str = ""  # what follows the one column of a short config.yaml
    statements: tuple[str, ...] = ()  # by the superuser, before; the job's role is "etl"
    undo: tuple[str, ...] = ()  # by the superuser, afterwards: what is not of the database
    piped: str | None = None
    is_initialised: bool = False  # whether ``etl init`` has made the tables


@dataclass(frozen=True)
class Outcome:
    """What a command printed last, its exit code and how long it took."""

    line: str
    code: int
    seconds: float


class Services:
    """The embedded services, and the addresses that mistakes are made from."""

    def __init__(self, postgres: EmbeddedPostgres, sqs: EmbeddedSqs) -> None:
        """Take running services."""
        self._postgres = postgres
        self._sqs = sqs
        self._queue_url = sqs.create_queue("mistakes", max_receive_count=100)

    @contextmanager
    def environment(self, folder: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        """Make a database; yield the environment of a run without a mistake, and the addresses."""
        database_url = self._postgres.new_database()
        parts = urlsplit(database_url)
        names = {
            "database_url": database_url,
            "superuser_url": self._postgres.superuser_url.rpartition("/")[0] + parts.path,
            "password": parts.password or "",
            "port": str(parts.port),
            "database": parts.path[1:],
            "queue_url": self._queue_url,
            "sqs_port": self._sqs.endpoint_url.rpartition(":")[2],
            "closed_port": str(_closed_port()),
            "folder": str(folder),
        }
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            **self._sqs.environment,
            "DATABASE_URL": database_url,
            "ETL_QUEUE__URL": self._queue_url,
            "ETL_QUEUE__WAIT_SECONDS": "1",
            "ETL_QUEUE__RETRY_SECONDS": "3",
            "ETL_DATABASE__RETRY_SECONDS": "3",
            "ETL_KEYRING": KEYRING,
            "ETL_CONFIG": str(folder / "config.yaml"),
        }
        try:
            yield environment, names
        finally:
            self._postgres.drop_database(database_url)


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


Launch = Callable[[list[str], dict[str, str], str], "subprocess.CompletedProcess[str]"]


def make(mistake: Mistake, services: Services, folder: Path, launch: Launch) -> Outcome:
    """Run the command with one mistake, in an empty folder that is the home.

    :param launch: runs ``etl`` with arguments, an environment and a standard input
    """
    with services.environment(folder) as (environment, names):
        config = f"{SHORT_CONFIG}{mistake.after}" if mistake.after else CONFIG
        files = {"config.yaml": config, **mistake.files}
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(Template(text).safe_substitute(names).encode())
            path.chmod(mistake.modes.get(name, 0o600))
        for name, value in mistake.variables.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = Template(value).safe_substitute(names)
        if mistake.is_initialised:
            launch(["init"], environment, "")
        _execute(names["superuser_url"], mistake.statements)
        arguments = [Template(argument).safe_substitute(names) for argument in mistake.arguments]
        began = time.monotonic()
        try:
            done = launch(arguments, environment, mistake.piped or "")
        finally:
            _execute(names["superuser_url"], mistake.undo)
        seconds = time.monotonic() - began
        assert names["password"] not in done.stdout + done.stderr, mistake.name
        assert "Traceback" not in done.stderr, mistake.name
    said = _last_words(done.stderr, names) if done.returncode else RUNS
    return Outcome(said, done.returncode, seconds)


def _execute(url: str, statements: tuple[str, ...]) -> None:
    if not statements:
        return
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def _last_words(errors: str, names: Mapping[str, str]) -> str:
    """The error, in one line: the last that was printed, with what follows it."""
    begin = max(errors.rfind("error: "), errors.rfind("Error: "))
    words = " ".join(errors[max(begin, 0) :].split()) if begin >= 0 else ""
    words = words or (errors.strip().splitlines() or [""])[-1]
    words = words.replace(f"{names['folder']}/", "")
    for name in ("port", "sqs_port", "closed_port", "database"):
        words = words.replace(names[name], name.upper())
    return re.sub(r"\d{4}-\d\d-\d\d( at \d\d:\d\d)?", "DATE", words)


@contextmanager
def started() -> Iterator[Services]:
    """Start the services."""
    with EmbeddedPostgres() as postgres, EmbeddedSqs() as sqs:
        yield Services(postgres, sqs)


def documented() -> dict[str, Outcome]:
    """The outcomes that the page shows, by the name of the mistake."""
    rows = re.findall(
        r"^\| (.+?) \| `` (.+?) `` \| (\d) \| ([\d.]+) \|$", PAGE.read_text(), re.MULTILINE
    )
    return {
        name: Outcome(line.replace("\\|", "|"), int(code), float(seconds))
        for name, line, code, seconds in rows
    }


def _from_scratch(
    arguments: list[str], environment: dict[str, str], piped: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "etl", *arguments],
        env=environment,
        cwd=ROOT,
        input=piped,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def _page() -> str:
    head, _, _ = PAGE.read_text().partition("\n## ")
    parts = [head.rstrip()]
    with started() as services:
        for group, mistakes in GROUPS.items():
            rows = [
                f"\n## {group}\n",
                "| mistake | it says | exit code | seconds |",
                "|---|---|---|---|",
            ]
            for mistake in mistakes:
                with tempfile.TemporaryDirectory() as folder:
                    outcome = make(mistake, services, Path(folder), _from_scratch)
                line = outcome.line.replace("|", "\\|")
                rows.append(
                    f"| {mistake.name} | `` {line} `` | {outcome.code} | {outcome.seconds:.1f} |"
                )
                sys.stderr.write(f"{mistake.name}: {outcome.line}\n")
            parts.append("\n".join(rows))
    return "\n".join(parts) + "\n"


# Each is made in an environment in which the job would run.
GROUPS: dict[str, tuple[Mistake, ...]] = {
    "AWS": (
        Mistake("no region anywhere", {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}),
        Mistake("a region with blanks around it", {"AWS_REGION": " us-east-1 "}),
        Mistake("a region with a blank in it", {"AWS_REGION": "us east"}),
        Mistake("no credentials", {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}),
        Mistake("a key without its secret", {"AWS_SECRET_ACCESS_KEY": None}),
        Mistake("a secret without its key", {"AWS_ACCESS_KEY_ID": None}),
        Mistake(
            "a profile that does not exist",
            {"AWS_PROFILE": "nigthly"},
            files={".aws/config": "[profile nightly]\nregion = eu-west-1\n"},
        ),
        Mistake(
            "a credential process that fails",
            {"AWS_PROFILE": "p", "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
            files={".aws/config": "[profile p]\ncredential_process = false\n"},
        ),
        Mistake(
            "a credential process that is not installed",
            {"AWS_PROFILE": "p", "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
            files={".aws/config": "[profile p]\ncredential_process = no-such-program\n"},
        ),
        Mistake(
            "an SSO login that has expired or never was",
            {"AWS_PROFILE": "p", "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
            files={
                ".aws/config": "[sso-session s]\nsso_start_url = https://example.awsapps.com/start\n"
                "sso_region = us-east-1\n[profile p]\nsso_session = s\n"
                "sso_account_id = 123456789012\nsso_role_name = r\nregion = us-east-1\n"
            },
        ),
        Mistake("a configuration file that is not there", {"AWS_CONFIG_FILE": "$folder/none"}),
        Mistake(
            "a configuration file that cannot be parsed",
            {"AWS_PROFILE": "p"},
            files={".aws/config": "profile p]\nregion = eu-west-1\n"},
        ),
        Mistake("an endpoint without a scheme", {"AWS_ENDPOINT_URL": "127.0.0.1:$sqs_port"}),
        Mistake("an endpoint with an underscore", {"AWS_ENDPOINT_URL": "http://my_sqs:9324"}),
        Mistake(
            "an endpoint whose host does not exist", {"AWS_ENDPOINT_URL": "http://sqs.invalid:9324"}
        ),
        Mistake(
            "an endpoint where nothing listens",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:$closed_port"},
        ),
        Mistake(
            "https to a port that speaks http", {"AWS_ENDPOINT_URL": "https://127.0.0.1:$sqs_port"}
        ),
        Mistake(
            "a CA bundle that is not there",
            {
                "AWS_CA_BUNDLE": "$folder/none.pem",
                "AWS_ENDPOINT_URL": "https://127.0.0.1:$sqs_port",
            },
        ),
        Mistake("no queue URL", {"ETL_QUEUE__URL": None}),
        Mistake("a name in place of the queue's URL", {"ETL_QUEUE__URL": "logins"}),
        Mistake(
            "an ARN in place of the queue's URL",
            {"ETL_QUEUE__URL": "arn:aws:sqs:us-east-1:000000000000:mistakes"},
        ),
        Mistake("a queue that does not exist", {"ETL_QUEUE__URL": "${queue_url}s"}),
    ),
    "The database": (
        Mistake("no DATABASE_URL", {"DATABASE_URL": None}),
        Mistake("another kind of URL", {"DATABASE_URL": "mysql://etl@localhost/etl"}),
        Mistake(
            "a wrong password",
            {"DATABASE_URL": "postgresql://etl:wrong@127.0.0.1:$port/$database"},
        ),
        Mistake(
            "a role that does not exist",
            {"DATABASE_URL": "postgresql://elt:x@127.0.0.1:$port/$database"},
        ),
        Mistake(
            "a database that does not exist",
            {"DATABASE_URL": "postgresql://etl:$password@127.0.0.1:$port/elt"},
        ),
        Mistake(
            "a host that does not exist",
            {"DATABASE_URL": "postgresql://etl:$password@db.invalid:$port/$database"},
        ),
        Mistake(
            "a port where nothing listens (retry_seconds: 3)",
            {"DATABASE_URL": "postgresql://etl:$password@127.0.0.1:$closed_port/$database"},
        ),
        Mistake("an unknown parameter", {"DATABASE_URL": "$database_url?schema=app"}),
        Mistake("a wrong sslmode", {"DATABASE_URL": "$database_url?sslmode=requird"}),
        Mistake(
            "TLS required, and the server has none",
            {"DATABASE_URL": "$database_url?sslmode=require"},
        ),
        Mistake(
            "an @ in the password", {"DATABASE_URL": "postgresql://etl:pa@ss@127.0.0.1:$port/etl"}
        ),
        Mistake(
            "a role that may not log in",
            {"DATABASE_URL": "postgresql://sleeper:x@127.0.0.1:$port/$database"},
            statements=("create role sleeper nologin password 'x'",),
            undo=("drop role sleeper",),
        ),
        Mistake("read-only by PGOPTIONS", {"PGOPTIONS": "-c default_transaction_read_only=on"}),
    ),
    "Rights and tables": (
        Mistake(
            "no right to create in the schema",
            statements=(
                "alter schema public owner to postgres",
                "revoke create on schema public from public",
            ),
        ),
        Mistake("a schema that does not exist", {"ETL_TABLE__SCHEMA": "analytics"}),
        Mistake(
            "a table of another owner without a grant",
            statements=(f"create table user_logins({COLUMNS})",),
        ),
        Mistake(
            "a column that the table lacks",
            statements=(
                "create table user_logins(user_id varchar(128))",
                "alter table user_logins owner to etl",
            ),
        ),
        Mistake("no tables yet", arguments=("history",)),
        Mistake(
            "a right on one of the job's tables taken away",
            statements=("alter table etl.ledger owner to postgres",),
            is_initialised=True,
        ),
    ),
    "config.yaml and the variables": (
        Mistake("no such file", {"ETL_CONFIG": "$folder/conf.yaml"}),
        Mistake("a misspelt type", after="    - {name: email, field: email, type: texxt}\n"),
        Mistake(
            "a misspelt key of a column",
            after="    - {name: ip, field: ip, type: ip, maks: true}\n",
        ),
        Mistake(
            "a key that appears twice",
            after="    - name: ip\n      field: ip\n      type: ip\n      mask: true\n"
            "      mask: false\n",
        ),
        Mistake(
            "a column that appears twice", after="    - {name: user_id, field: uid, type: text}\n"
        ),
        Mistake("a misspelt setting", after="batch:\n  row: 500\n"),
        Mistake("a setting in the wrong section", after="queue:\n  rows: 500\n"),
        Mistake("a misspelt section", after="qeue:\n  max_receivers: 4\n"),
        Mistake("a number of YAML 1.1", after="batch:\n  rows: 10_000\n"),
        Mistake("a number out of its range", after="batch:\n  rows: 0\n"),
        Mistake("a word where true or false belongs", after="database:\n  create_tables: maybe\n"),
        Mistake("a tab", after="queue:\n\tmax_receivers: 4\n"),
        Mistake("a second document", after="---\nqueue: {}\n"),
        Mistake("a tag", after="batch:\n  rows: !!int 500\n"),
        Mistake("a password in the file", after="database:\n  url: postgresql://etl:pw@host/etl\n"),
        Mistake("one underscore in a variable", {"ETL_QUEUE_URL": "$queue_url"}),
        Mistake("a misspelt variable", {"ETL_QUEUE__ULR": "$queue_url"}),
        Mistake("a word in capitals", {"ETL_LOG__LEVEL": "INFO"}),
        Mistake("a text for a number", {"ETL_BATCH__ROWS": "many"}),
        Mistake("two mistakes", {"ETL_RUN__MAX_SECONDS": "an hour"}, after="log:\n  levle: info\n"),
    ),
    "The keyring": (
        Mistake("no keyring", {"ETL_KEYRING": None}),
        Mistake("two keyrings", {"ETL_KEYRING_FILE": "$folder/k.json"}, files={"k.json": KEYRING}),
        Mistake(
            "a file that others may read",
            {"ETL_KEYRING": None, "ETL_KEYRING_FILE": "$folder/k.json"},
            files={"k.json": KEYRING},
            modes={"k.json": 0o644},
        ),
        Mistake(
            "a file that is not there", {"ETL_KEYRING": None, "ETL_KEYRING_FILE": "$folder/k.json"}
        ),
        Mistake("text that is not JSON", {"ETL_KEYRING": "k1"}),
    ),
    "Commands": (
        Mistake("a misspelt command", arguments=("rnu",)),
        Mistake("a misspelt option", arguments=("run", "--max-mesages", "5")),
        Mistake(
            "a misspelt column",
            arguments=("token", "-", "--column", "devise_id"),
            piped="593-47-5928\n",
        ),
        Mistake(
            "a misspelt check",
            arguments=("quarantine", "list", "--entries", "--check", "ip: IP adress"),
            is_initialised=True,
        ),
        Mistake(
            "a run that does not exist", arguments=("history", "feedbeef"), is_initialised=True
        ),
        Mistake(
            "a word in place of a run's id", arguments=("history", "latest"), is_initialised=True
        ),
    ),
}


if __name__ == "__main__":
    PAGE.write_text(_page())
