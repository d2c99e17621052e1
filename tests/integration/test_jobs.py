"""Several jobs share a database, and each sees only its own messages, runs and quarantine."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner

from etl import config, job, ledger
from etl.analysis import duplicates, quality
from etl.analysis.source import Source
from etl.cli import main
from etl.config import JobSettings, Settings
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.errors import EtlError
from etl.postgres import jobs, roles
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url, open_engine, transaction
from etl.postgres.target import check_tables
from etl.runs import Run, Summary
from tests.conftest import KEYRING, ROOT

SECOND = KEYRING.with_new("k2")
COLUMNS = {
    "user_logins": [
        {"name": "id", "field": "id", "type": "integer"},
        {"name": "masked_ip", "field": "ip", "type": "ip", "mask": True},
    ],
    "orders": [
        {"name": "id", "field": "id", "type": "integer"},
        {"name": "masked_email", "field": "email", "type": "text", "mask": True},
        {"name": "amount", "field": "amount", "type": "integer", "nullable": True,
         "required": False},
    ],
}  # fmt: skip


@dataclass
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class OneJob:
    """A job with a queue, a table and a configuration file of its own."""

    path: Path
    tree: dict[str, Any]
    environment: dict[str, str]
    queue_url: str
    client: Any
    engine: sa.Engine
    sent: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return self.changed({})

    def changed(self, more: dict[str, Any]) -> Settings:
        """Write the configuration with sections changed, and return the settings."""
        tree = {**self.tree}
        for section, keys in more.items():
            tree[section] = {**tree.get(section, {}), **keys}
        self.path.write_text(yaml.safe_dump(tree))
        return config.load(self.path, self.environment)

    def send(self, *events: dict[str, Any]) -> None:
        """Send events."""
        for event in events:
            self.send_text(json.dumps(event))

    def send_text(self, body: str) -> None:
        """Send the body of a message."""
        self.client.send_message(QueueUrl=self.queue_url, MessageBody=body)

    def run(self, keyring: Keyring = KEYRING, **more: dict[str, Any]) -> Summary:
        """Drain the queue in this process."""
        settings = self.changed(more)
        environment = {**self.environment, "ETL_KEYRING": keyring.dump()}
        summary = job.run(settings, environment)
        assert summary.exit_code == 0, summary.problem
        return summary

    def command(self, *arguments: str, **more: str) -> Answer:
        """Run a command in this process, with the configuration as it was last written."""
        environment = {**self.environment, "ETL_CONFIG": str(self.path), **more}
        done = CliRunner().invoke(main, list(arguments), env=environment)
        error = done.exception
        if isinstance(error, EtlError):
            return Answer(error.exit_code, done.stdout, f"{done.stderr}error: {error}")
        if error is not None and not isinstance(error, SystemExit):
            raise error
        return Answer(done.exit_code, done.stdout, done.stderr)

    def rows(self, statement: str) -> list[Any]:
        """Query the database."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def ids(self) -> list[int]:
        """The ids in its table."""
        name = self.tree["table"]["name"]
        return [row for (row,) in self.rows(f"select id from {name} order by 1")]


MakeJob = Callable[..., OneJob]


@pytest.fixture
def make_job(
    environment: dict[str, str],
    sqs: EmbeddedSqs,
    engine: sa.Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> MakeJob:
    """Return a function that makes a job on the test's database."""
    for name, value in sqs.environment.items():
        monkeypatch.setenv(name, value)

    def make(table: str, **sections: dict[str, Any]) -> OneJob:
        queue_url = sqs.create_queue(f"jobs-{uuid.uuid4().hex[:12]}", max_receive_count=100)
        tree: dict[str, Any] = {
            "table": {"name": table, "columns": COLUMNS[table]},
            "run": {"idle_seconds": 0.2},
            "queue": {"wait_seconds": 0},
            "quarantine": {"max_fraction": 1},
        }
        for section, keys in sections.items():
            tree[section] = {**tree.get(section, {}), **keys}
        own = {**environment, "ETL_QUEUE__URL": queue_url}
        del own["ETL_QUEUE__WAIT_SECONDS"]
        made = OneJob(tmp_path / f"{table}.yaml", tree, own, queue_url, sqs.client(), engine)
        made.changed({})
        return made

    return make


def login(number: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "ip": "198.51.100.7", **more}


def order(number: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "email": "a@example.com", **more}


@pytest.fixture
def logins(make_job: MakeJob) -> OneJob:
    return make_job("user_logins")


@pytest.fixture
def orders(make_job: MakeJob) -> OneJob:
    return make_job("orders")


# The same event, or the same id, in two jobs.


def test_equal_ids_of_two_jobs_are_two_events(logins: OneJob, orders: OneJob) -> None:
    """Orders 6 to 10 are not logins 6 to 10, in either order of the runs."""
    by_id = {"ledger": {"key": "field:id"}}
    logins.send(*(login(n) for n in range(1, 11)))
    orders.send(*(order(n) for n in range(6, 16)), order(6))
    assert logins.run(**by_id).counts.loaded == 10
    second = orders.run(**by_id).counts
    assert (second.loaded, second.already_handled) == (10, 1)
    logins.send(*(login(n) for n in range(6, 13)))
    again = logins.run(**by_id).counts
    assert (again.loaded, again.already_handled) == (2, 5)
    assert (logins.ids(), orders.ids()) == (list(range(1, 13)), list(range(6, 16)))


def test_one_topic_fills_two_tables(logins: OneJob, orders: OneJob) -> None:
    """One SNS topic feeds two queues, and bodies are compared within each job."""
    sns = {"ledger": {"key": "body"}, "queue": {"envelope": "sns"}}
    for number in range(5):
        text = json.dumps({**login(number), **order(number)})
        for one in (logins, orders):
            body = {"Type": "Notification", "MessageId": f"{number}", "Message": text}
            one.send_text(json.dumps(body))
            one.send_text(json.dumps({**body, "MessageId": "another"}))
    for one in (logins, orders):
        counts = one.run(**sns).counts
        assert (counts.loaded, counts.already_handled) == (5, 5)
    assert logins.ids() == orders.ids() == list(range(5))


def test_two_queues_into_one_table_with_one_name_are_one_job(make_job: MakeJob) -> None:
    """The name decides: with two names, each queue is a job of its own."""
    one = make_job("user_logins", ledger={"key": "field:id"})
    one.send(login(1))
    one.run()
    one.send(login(1))
    assert one.run().counts.already_handled == 1
    one.send(login(1))
    assert one.run(job={"name": "another"}).counts.loaded == 1
    one.send(login(1))
    assert one.run(job={"name": "another"}).counts.already_handled == 1


def test_one_name_for_a_second_table_is_reported_when_it_begins(
    logins: OneJob, orders: OneJob, caplog: pytest.LogCaptureFixture
) -> None:
    """The name may have been copied with the configuration; then equal ids would count as one."""
    name = {"job": {"name": "nightly"}}
    words = "job 'nightly' has loaded into 'public.user_logins' before"
    for one, event, is_reported in (
        (logins, login(1), False),
        (orders, order(1), True),
        (orders, order(2), False),
        (logins, login(2), False),
    ):
        caplog.clear()
        one.send(event)
        one.run(**name)
        assert (words in caplog.text) == is_reported
    caplog.clear()
    orders.send(order(3))
    orders.run()
    assert "has loaded into" not in caplog.text


NAMES = (["id", "new"], ["new", "id"], ["newest", "id", "new"])


@pytest.mark.parametrize("key", ["field:id", "field:new"])
@pytest.mark.parametrize("names", NAMES)
def test_an_event_is_known_under_each_name_of_its_field(
    names: list[str], key: str, logins: OneJob
) -> None:
    """Wherever the old name is in the list; and those that come meanwhile are known afterwards."""
    before, now, later = "id", names, "new"

    def run(field: Any, ledger_key: str) -> tuple[int, int]:
        columns = [{"name": "id", "field": field, "type": "integer"}, COLUMNS["user_logins"][1]]
        counts = logins.run(table={"columns": columns}, ledger={"key": ledger_key}).counts
        return counts.loaded, counts.already_handled

    def renamed(number: int) -> dict[str, Any]:
        return {"new": number, "ip": "198.51.100.7"}

    logins.send(login(1))
    assert run(before, "field:id") == (1, 0)
    logins.send(login(1), renamed(1), renamed(2), login(2), renamed(3))
    assert run(now, key) == (2, 3)
    logins.send(renamed(2), renamed(3), renamed(4))
    assert run(later, "field:new") == (1, 2)


def start(engine: sa.Engine, settings: Settings, number: int) -> str:
    """Enter a run; returns its id."""
    run_id = f"00000000-0000-4000-8000-{number:012d}"
    create_tables(engine, settings.table, settings.job_name)
    Run(run_id, "hash").start(engine, settings)
    return run_id


def test_each_job_claims_a_message_id_once(
    logins: OneJob, orders: OneJob, engine: sa.Engine
) -> None:
    """A tool or an emulator may give two jobs the same id; each run of a job knows the other's."""
    runs = [
        start(engine, one.settings, number)
        for number, one in enumerate((logins, orders, logins, orders))
    ]
    claimed = []
    for run_id in runs:
        with transaction(engine) as connection:
            claimed.append(ledger.claim(connection, ["a", "b"], run_id, 1))
    assert claimed == [{"a", "b"}, {"a", "b"}, set(), set()]


def test_a_lost_commit_and_a_freed_key_are_those_of_the_run(
    logins: OneJob, orders: OneJob, engine: sa.Engine
) -> None:
    """What one job takes back stays with the other."""
    first = start(engine, logins.settings, 1)
    second = start(engine, orders.settings, 2)
    for run_id in (first, second):
        with transaction(engine) as connection:
            assert ledger.claim(connection, ["a"], run_id, 1) == {"a"}
    with pytest.raises(ledger.CommittedBeforeError), transaction(engine) as connection:
        ledger.claim(connection, ["a"], second, 1)
    with transaction(engine) as connection:
        ledger.free(connection, ["a"], second)
    assert logins.rows("select run_id::text from etl.ledger") == [(first,)]


def test_each_job_prunes_by_its_own_retention(
    logins: OneJob, orders: OneJob, engine: sa.Engine
) -> None:
    """A short retention of one job takes nothing from another that needs a long one."""
    for number, one in enumerate((logins, orders)):
        with transaction(engine) as connection:
            ledger.claim(connection, [f"of {number}"], start(engine, one.settings, number), 1)
    with transaction(engine) as connection:
        connection.execute(sa.text("update etl.ledger set handled_at = now() - interval '9 days'"))
    orders.run(ledger={"retention_days": 1})
    assert logins.rows("select message_id from etl.ledger") == [("of 0",)]


# Commands.


@pytest.fixture
def quarantined(logins: OneJob, orders: OneJob) -> tuple[OneJob, OneJob]:
    """Both jobs have quarantined messages that would pass in the other job's table too."""
    both = {**login(1), **order(1)}
    logins.send(login(50), {**both, "ip": "no address"}, {**both, "ip": None})
    orders.send(order(60), {**both, "email": 7}, {**both, "email": None})
    for one in (logins, orders):
        counts = one.run().counts
        assert (counts.loaded, counts.quarantined) == (1, 2)
    return logins, orders


def entry_ids(one: OneJob) -> list[str]:
    name = one.settings.job_name
    found = one.rows(f"select quarantine_id from etl.quarantine where job = '{name}' order by 1")
    return [str(entry_id) for (entry_id,) in found]


def test_list_shows_the_own_entries_or_all(quarantined: tuple[OneJob, OneJob]) -> None:
    """With --all-jobs each entry names its job."""
    logins, orders = quarantined
    for one in quarantined:
        listed = one.command("quarantine", "list", "--entries", "--json").lines
        assert [str(line["quarantine_id"]) for line in listed] == entry_ids(one)
        reasons = one.command("quarantine", "list", "--json").lines
        assert sum(line["messages"] for line in reasons) == 2
    every = logins.command("quarantine", "list", "--entries", "--all-jobs", "--json").lines
    assert {line["job"] for line in every} == {"public.user_logins", "public.orders"}
    reasons = orders.command("quarantine", "list", "--all-jobs", "--json").lines
    assert sum(line["messages"] for line in reasons) == 4


def test_replay_all_leaves_the_entries_of_other_jobs(quarantined: tuple[OneJob, OneJob]) -> None:
    """They are neither loaded nor closed."""
    logins, orders = quarantined
    logins.changed({"table": {"columns": [{"name": "id", "field": "id", "type": "integer"}]}})
    with logins.engine.begin() as connection:
        connection.execute(sa.text("alter table user_logins drop masked_ip"))
    summary = logins.command("quarantine", "replay", "--all", "--json").lines[0]
    assert (summary["received"], summary["loaded"]) == (2, 2)
    assert logins.ids() == [1, 1, 50]
    assert orders.rows(
        "select count(*) from etl.quarantine where job = 'public.orders' and body is not null"
    ) == [(2,)]


@pytest.mark.parametrize(
    "command",
    [
        ("quarantine", "replay"),
        ("quarantine", "discard", "--reason", "a test"),
        ("quarantine", "show", "--reason", "a test"),
    ],
)
def test_an_entry_of_another_job_is_refused_by_its_id(
    command: tuple[str, ...], quarantined: tuple[OneJob, OneJob]
) -> None:
    """The error names the job, and nothing is done, not even to the job's own entries."""
    logins, orders = quarantined
    other = entry_ids(orders)[0]
    own = [] if "show" in command else entry_ids(logins)
    before = logins.rows("select quarantine_id, closed_as, reasons from etl.quarantine order by 1")
    done = logins.command(*command, *own, other)
    assert done.code == 2
    assert f"entry {other} belongs to the job 'public.orders'" in done.err
    assert before == logins.rows(
        "select quarantine_id, closed_as, reasons from etl.quarantine order by 1"
    )
    assert logins.rows("select count(*) from etl.unmask_audit") == [(0,)]


@pytest.mark.parametrize(
    "command",
    [
        ("quarantine", "replay"),
        ("quarantine", "discard", "--reason", "a test"),
        ("quarantine", "list"),
        ("quarantine", "list", "--entries"),
        ("quarantine", "export", "FILE"),
    ],
)
def test_a_run_of_another_job_is_refused_by_its_id(
    command: tuple[str, ...], quarantined: tuple[OneJob, OneJob], tmp_path: Path
) -> None:
    """Otherwise the answer would be that the run has no entries."""
    logins, orders = quarantined
    ((run_id,),) = orders.rows("select run_id::text from etl.runs where job = 'public.orders'")
    arguments = [str(tmp_path / "file") if text == "FILE" else text for text in command]
    done = logins.command(*arguments, "--run", run_id)
    assert done.code == 2
    assert f"run {run_id} belongs to the job 'public.orders'" in done.err
    assert not (tmp_path / "file").exists()
    assert logins.rows("select count(*) from etl.quarantine where body is null") == [(0,)]


def test_discard_takes_the_own_entries_only(quarantined: tuple[OneJob, OneJob]) -> None:
    """With --all too."""
    logins, _ = quarantined
    assert logins.command("quarantine", "discard", "--all", "--reason", "a test").code == 0
    assert logins.rows("select job, closed_as from etl.quarantine order by 1, 2") == [
        *[("public.orders", None)] * 2,
        *[("public.user_logins", "discarded")] * 2,
    ]


def test_export_writes_the_own_entries_and_import_refuses_another_jobs_file(
    quarantined: tuple[OneJob, OneJob], tmp_path: Path
) -> None:
    """Unless it is told so; each job then imports each message once."""
    logins, orders = quarantined
    path = tmp_path / "orders.jsonl"
    assert orders.command("quarantine", "export", str(path)).code == 0
    assert len(path.read_text().splitlines()) == 2 + 2
    refused = logins.command("quarantine", "import", str(path))
    assert refused.code == 2
    assert "entries of the job 'public.orders'" in refused.err
    assert "--from-job public.orders" in refused.err
    wrong = logins.command("quarantine", "import", str(path), "--from-job", "public.else")
    assert wrong.code == 2
    assert logins.rows("select count(*) from etl.quarantine") == [(4,)]
    for imported in ("2 of 2", "0 of 2"):
        told = logins.command("quarantine", "import", str(path), "--from-job", "public.orders")
        assert (told.code, told.err) == (0, f"imported {imported} entries\n")
    assert "0 of 2" in orders.command("quarantine", "import", str(path)).err
    assert len(entry_ids(logins)) == 4
    assert len(entry_ids(orders)) == 2
    fields = "select distinct masked_fields from etl.quarantine where job = 'public.user_logins'"
    assert sorted(logins.rows(fields)) == [(["email"],), (["ip"],)]


def test_forget_closes_the_own_entries_and_names_the_other_jobs(
    quarantined: tuple[OneJob, OneJob],
) -> None:
    """An erasure request is not answered by one job for all of them."""
    logins, orders = quarantined
    for one in quarantined:
        one.send_text("no JSON, but 198.51.100.7 and a@example.com are in it")
        one.run()
    arguments = ("forget", "198.51.100.7", "--column", "ip", "--json")
    done = logins.command(*arguments, "--yes")
    assert done.lines == [{"rows": 1, "rows_within": 0, "quarantined": 1, "done": True}]
    assert "other jobs of this database were not searched" in done.err
    assert "'public.orders'" in done.err
    assert logins.rows("select job from etl.quarantine where closed_as = 'forgotten'") == [
        ("public.user_logins",)
    ]
    assert "public.user_logins" in orders.command("forget", "x", "--column", "email").err


def other_table(one: OneJob) -> None:
    one.tree["table"] = {**one.tree["table"], "name": "logins_2026"}


def other_column(one: OneJob) -> None:
    columns = [one.tree["table"]["columns"][0], {**COLUMNS["user_logins"][1], "name": "address"}]
    one.tree["table"] = {**one.tree["table"], "columns": columns}
    with one.engine.begin() as connection:
        connection.execute(sa.text("alter table user_logins alter masked_ip drop not null"))
        connection.execute(sa.text("alter table user_logins add address text"))


def no_column(one: OneJob) -> None:
    other = {"name": "masked_id", "field": "device", "type": "text", "mask": True}
    columns = [one.tree["table"]["columns"][0], {**other, "nullable": True, "required": False}]
    one.tree["table"] = {**one.tree["table"], "columns": columns, "name": "logins_2026"}


@pytest.mark.parametrize("change", [other_table, other_column, no_column])
def test_forget_names_what_the_job_masked_under_an_earlier_configuration(
    change: Callable[[OneJob], None], logins: OneJob
) -> None:
    """The person's rows may be there; a table that is gone, and the own columns, are not named."""
    one = logins
    one.tree["job"] = {"name": "logins"}
    one.send(login(1))
    one.run()
    arguments = ("forget", "198.51.100.7", "--column", "ip")
    assert "earlier" not in one.command(*arguments).err
    change(one)
    one.changed({})
    assert one.command("init").code == 0
    if change is no_column:
        arguments = ("forget", "x", "--column", "device")
    done = one.command(*arguments, "--yes")
    assert done.code == 0
    assert "this job masked these columns under an earlier configuration" in done.err
    assert "searched: public.user_logins.masked_ip\n" in done.err
    with one.engine.begin() as connection:
        connection.execute(sa.text("alter table user_logins drop masked_ip"))
    assert "earlier" not in one.command(*arguments).err


NO_RUN = "00000000-0000-4000-8000-000000000009"


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("quarantine", "replay", "OWN", "987654"), "entry 987654"),
        (("quarantine", "discard", "OWN", "987654", "--reason", "a test"), "entry 987654"),
        (("quarantine", "replay", "--run", NO_RUN), f"run {NO_RUN}"),
        (("quarantine", "discard", "--run", NO_RUN, "--reason", "a test"), f"run {NO_RUN}"),
        (("quarantine", "list", "--run", NO_RUN), f"run {NO_RUN}"),
    ],
)
def test_an_entry_or_a_run_that_does_not_exist_is_refused(
    command: tuple[str, ...], missing: str, quarantined: tuple[OneJob, OneJob]
) -> None:
    """A mistyped id is not answered with 0 entries, and nothing is done."""
    logins, _ = quarantined
    own = entry_ids(logins)[0]
    done = logins.command(*(own if text == "OWN" else text for text in command))
    assert (done.code, done.out) == (2, "")
    assert f"{missing} does not exist" in done.err
    assert logins.rows("select count(*) from etl.quarantine where body is null") == [(0,)]
    assert logins.rows("select count(*) from etl.runs where command = 'replay'") == [(0,)]
    # A closed entry exists: there is nothing left to do about it.
    for count in ("1 entry", "0 entries"):
        discarded = logins.command("quarantine", "discard", own, "--reason", "a test")
        assert (discarded.code, discarded.err) == (0, f"discarded {count}\n")


ON_NOTHING = (
    ("rows", "::1", "--column", "ip"),
    ("forget", "::1", "--column", "ip"),
    ("unmask", "--where", "true", "--reason", "a test"),
    ("keys", "list"),
)


@pytest.mark.parametrize("command", ON_NOTHING)
def test_a_command_names_the_target_table_that_is_missing(
    command: tuple[str, ...], logins: OneJob
) -> None:
    """A database that has only the job's own tables, or none, is told from one that has no rows."""
    none = logins.command(*command)
    assert logins.command("init").code == 0
    logins.rows("select from user_logins")
    with logins.engine.begin() as connection:
        connection.execute(sa.text("drop table user_logins"))
    gone = logins.command(*command)
    for done in (none, gone):
        assert (done.code, done.out) == (2, "")
        assert "etl init" in done.err
    assert "table 'public.user_logins' is missing" in gone.err


def test_an_import_into_a_database_without_tables_says_how_to_make_them(
    quarantined: tuple[OneJob, OneJob], tmp_path: Path
) -> None:
    """The other database is often a new one."""
    logins, _ = quarantined
    file = str(tmp_path / "file")
    assert logins.command("quarantine", "export", file).code == 0
    with logins.engine.begin() as connection:
        connection.execute(sa.text("drop schema etl cascade"))
    refused = logins.command("quarantine", "import", file)
    assert (refused.code, "create them with: etl init" in refused.err) == (2, True)
    assert logins.command("init").code == 0
    assert "imported 2 of 2" in logins.command("quarantine", "import", file).err


def test_history_shows_the_own_runs_or_all(quarantined: tuple[OneJob, OneJob]) -> None:
    """Each with its job."""
    logins, _ = quarantined
    assert [run["job"] for run in logins.command("history", "--json").lines] == [
        "public.user_logins"
    ]
    every = logins.command("history", "--all-jobs", "--json").lines
    assert {run["job"] for run in every} == {"public.user_logins", "public.orders"}


def test_the_report_and_the_quality_count_the_own_runs(
    quarantined: tuple[OneJob, OneJob], engine: sa.Engine
) -> None:
    """Also where another job has imported entries of this job's run."""
    logins, orders = quarantined
    path = logins.path.with_suffix(".jsonl")
    assert logins.command("quarantine", "export", str(path)).code == 0
    name = "public.user_logins"
    assert orders.command("quarantine", "import", str(path), "--from-job", name).code == 0
    source = Source(open_engine(logins.settings.database), logins.settings)
    deliveries = duplicates.deliveries(source).iloc[0]
    assert (deliveries["runs"], deliveries["received"]) == (1, 3)
    assert len(quality.runs(source)) == 1
    assert sorted(quality.checks(source)["check"]) == ["IP address", "null"]
    assert quality.checks(source)["messages"].tolist() == [1, 1]
    assert quality.checks_by_run(source)["messages"].tolist() == [1, 1]


def test_the_report_of_a_database_without_jobs_says_that_deliveries_are_unknown(
    logins: OneJob, engine: sa.Engine
) -> None:
    """The table itself can still be analysed."""
    create_tables(engine, logins.settings.table)
    with engine.begin() as connection:
        connection.exec_driver_sql("drop schema etl cascade")
        connection.exec_driver_sql(EARLIER_TABLES)
    source = Source(open_engine(logins.settings.database), logins.settings)
    assert duplicates.deliveries(source).empty


# Keys.


def as_superuser(postgres: EmbeddedPostgres, one: OneJob) -> str:
    """The URL of the job's database for the superuser."""
    name = sa.make_url(one.environment["DATABASE_URL"]).database
    return (
        sa.make_url(postgres.superuser_url).set(database=name).render_as_string(hide_password=False)
    )


def key_counts(answer: Answer) -> dict[str, dict[str, Any]]:
    """What `keys list --json` printed, by key."""
    assert answer.code == 0, answer.err
    return {line.pop("key_id"): line for line in answer.lines}


def test_keys_list_counts_the_tables_and_entries_of_all_jobs(
    quarantined: tuple[OneJob, OneJob],
) -> None:
    """Otherwise a key would be taken for unused that another job needs."""
    logins, orders = quarantined
    rotated = {"ETL_KEYRING": SECOND.dump()}
    assert logins.command("rekey", **rotated).code == 0
    listed = key_counts(logins.command("keys", "list", "--json", **rotated))
    assert listed["k1"] == {
        "status": "older key",
        "user_logins.masked_ip": 0,
        "public.orders.masked_email": 1,
        "etl.quarantine": 2,
    }
    assert orders.command("rekey", **rotated).code == 0
    listed = key_counts(orders.command("keys", "list", "--json", **rotated))
    assert set(listed["k1"].values()) == {"older key", 0}


ANOTHER = "another key of this id, not in the keyring"


def counts_by_status(answer: Answer) -> dict[tuple[str, str], list[Any]]:
    """What `keys list --json` printed, by key and status."""
    assert answer.code == 0, answer.err
    return {(line["key_id"], line["status"]): [*line.values()][2:] for line in answer.lines}


def test_keys_list_tells_two_keys_of_one_id_apart(logins: OneJob, orders: OneJob) -> None:
    """Two jobs with keyrings of their own: what one cannot open does not count as its own."""
    others = Keyring.new("k1")
    logins.send(login(1), login("x"))
    orders.send(order(1), order(2), order("x"), order("y"))
    logins.run()
    orders.run(keyring=others)
    done = logins.command("keys", "list", "--json")
    assert counts_by_status(done) == {("k1", "primary"): [1, 0, 1], ("k1", ANOTHER): [0, 2, 2]}
    done = orders.command("keys", "list", "--json", ETL_KEYRING=others.dump())
    assert counts_by_status(done) == {("k1", "primary"): [2, 0, 2], ("k1", ANOTHER): [0, 1, 1]}
    rotated = {"ETL_KEYRING": SECOND.dump()}
    assert counts_by_status(logins.command("keys", "list", "--json", **rotated)) == {
        ("k1", "older key"): [1, 0, 1],
        ("k2", "primary"): [0, 0, 0],
        ("k1", ANOTHER): [0, 2, 2],
    }
    # rekey does not ask to keep a key of its own for them.
    assert logins.command("rekey", "--json", **rotated).lines[0]["elsewhere"] == {}


BOTH_RECORDED = """
insert into etl.key_checks (job, target, key_id, check_value)
select 'public.orders', 'public.else', key_id, check_value from etl.key_checks
where job = 'public.user_logins'
"""


@pytest.mark.parametrize(
    "change",
    ["delete from etl.key_checks where job = 'public.orders'", BOTH_RECORDED],
    ids=["nothing is recorded", "both are recorded"],
)
def test_a_key_that_may_be_the_same_counts_as_used(
    change: str, logins: OneJob, orders: OneJob
) -> None:
    """A key is not called unused as long as it may be the one that another job needs."""
    logins.send(login(1))
    orders.send(order(1), order("x"))
    logins.run()
    orders.run(keyring=Keyring.new("k1"))
    with logins.engine.begin() as connection:
        connection.exec_driver_sql(change)
    done = logins.command("keys", "list", "--json")
    assert counts_by_status(done) == {("k1", "primary"): [1, 1, 1]}


def test_rekey_leaves_other_jobs_alone_and_names_them(quarantined: tuple[OneJob, OneJob]) -> None:
    """It is done with its own job, so that each job can be rekeyed in turn."""
    logins, orders = quarantined
    rotated = {"ETL_KEYRING": SECOND.dump()}
    done = logins.command("rekey", "--json", **rotated)
    assert done.code == 0
    (outcome,) = done.lines
    assert (outcome["rows"], outcome["entries"], outcome["remaining"]) == (1, 2, 0)
    assert outcome["elsewhere"] == {
        "public.orders.masked_email of 'public.orders'": 1,
        "etl.quarantine of 'public.orders'": 2,
    }
    assert "keep them" in done.err
    assert "public.orders" in done.err
    assert orders.rows("select count(*) from orders where masked_email like 'k1.%'") == [(1,)]
    assert orders.command("rekey", "--json", **rotated).lines[0]["elsewhere"] == {}


def test_a_column_that_is_no_longer_masked_and_a_table_left_behind_still_count(
    logins: OneJob, engine: sa.Engine
) -> None:
    """A job's own older tokens are found too."""
    logins.send(login(1))
    logins.run()
    create_tables(engine, logins.settings.table)
    renamed = {**logins.tree["table"], "name": "logins_2"}
    logins.tree = {**logins.tree, "table": renamed, "job": {"name": "public.user_logins"}}
    logins.changed({})
    assert logins.command("init").code == 0
    listed = key_counts(logins.command("keys", "list", "--json"))
    assert listed["k1"]["logins_2.masked_ip"] == 0
    assert listed["k1"]["public.user_logins.masked_ip"] == 1
    logins.changed({"table": {"columns": [{"name": "id", "field": "id", "type": "integer"}]}})
    assert (
        key_counts(logins.command("keys", "list", "--json"))["k1"]["public.user_logins.masked_ip"]
        == 1
    )


HIDE = (
    "create schema hidden; alter table orders set schema hidden; "
    "update etl.job_columns set schema_name = 'hidden' where table_name = 'orders'"
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("alter table orders rename to orders_old", "does not exist"),
        ("alter table orders drop column masked_email", "does not exist"),
        ("revoke select on orders from etl_officer", "may not read it"),
        ("revoke select on orders from etl_officer; grant select (id) on orders to etl_officer",
         "may not read it"),
        ("alter table orders enable row level security", "row-level security"),
        (HIDE, "may not read it"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_unknown_and_named(
    change: str, words: str, logins: OneJob, orders: OneJob, postgres: EmbeddedPostgres
) -> None:
    """Unknown is not unused, in `keys list` and after `rekey`."""
    text = as_superuser(postgres, logins)
    for one in (logins, orders):
        one.environment["DATABASE_URL"] = text
        one.send(login(1) if one is logins else order(1))
        one.run()
    superuser = sa.create_engine(driver_url(text))
    for one in (logins, orders):
        roles.create(superuser, one.settings.table)
    with superuser.begin() as connection:
        connection.exec_driver_sql(change)
    superuser.dispose()
    officer = {
        "DATABASE_URL": f"{text}?options=-c%20role%3Detl_officer",
        "ETL_KEYRING": SECOND.dump(),
    }
    done = logins.command("keys", "list", "--json", **officer)
    for counts in key_counts(done).values():
        assert counts.pop("status")
        (others,) = (count for place, count in counts.items() if "orders" in place)
        assert others == "unknown"
    assert "orders.masked_email (of 'public.orders') is unknown" in done.err
    assert words in done.err
    rekeyed = logins.command("rekey", "--json", **officer)
    assert rekeyed.code == 0
    assert list(rekeyed.lines[0]["elsewhere"].values()) == [None]
    assert "unknown" in rekeyed.err


# Replay under another configuration.


@pytest.mark.parametrize("command", ["replay", "import"])
@pytest.mark.parametrize(
    "name", ["masked_ip", "ip", "plain"], ids=["same column", "as the field", "another column"]
)
def test_replay_stores_no_field_as_it_came_that_was_masked(
    name: str, command: str, logins: OneJob, tmp_path: Path
) -> None:
    """Not even into another column, and not after an export and an import."""
    logins.send(login(1, id="not a number"))
    logins.run()
    columns = [
        {"name": "id", "field": "id", "type": "text"},
        {"name": name, "field": "ip", "type": "text", "mask": False},
    ]
    with logins.engine.begin() as connection:
        connection.exec_driver_sql(
            f"drop table user_logins; create table public.user_logins (id text, {name} text); "
            # What the owner deletes to mask the same column in another way, or not at all.
            "truncate etl.masked_columns"
        )
    path = str(tmp_path / "file")
    if command == "import":
        assert logins.command("quarantine", "export", path).code == 0
        with logins.engine.begin() as connection:
            connection.exec_driver_sql("truncate etl.ledger, etl.quarantine, etl.job_columns")
    logins.changed({"table": {"columns": columns}})
    if command == "import":
        assert logins.command("quarantine", "import", path).code == 0
    done = logins.command("quarantine", "replay", "--all")
    assert done.code == 2
    assert "the field 'ip' of 1 entry was masked" in done.err
    assert f"column {name!r}" in done.err
    assert logins.rows("select count(*) from user_logins") == [(0,)]
    assert logins.rows("select count(*) from etl.runs where command = 'replay'") == [(0,)]
    # With the field masked again, or left out, it is loaded.
    logins.changed({"table": {"columns": [columns[0], {**columns[1], "mask": True}]}})
    assert logins.command("quarantine", "replay", "--all", "--json").lines[0]["loaded"] == 1


def test_a_field_that_was_never_masked_may_be_replayed(logins: OneJob) -> None:
    """Only what was masked when it was quarantined is refused."""
    logins.send(login(1, id="x"))
    columns = [
        {"name": "id", "field": "id", "type": "integer"},
        {"name": "masked_ip", "field": "ip", "type": "text", "mask": False},
    ]
    logins.run(table={"columns": columns})
    columns[0]["type"] = "text"
    with logins.engine.begin() as connection:
        connection.exec_driver_sql("alter table user_logins alter id type text")
    logins.changed({"table": {"columns": columns}})
    assert logins.command("quarantine", "replay", "--all", "--json").lines[0]["loaded"] == 1


def test_the_envelope_of_a_masked_field_is_not_stored_either(logins: OneJob) -> None:
    """Without the envelope, its Message is a field that holds all others."""
    body = {"Type": "Notification", "Message": json.dumps(login(1, id="x"))}
    logins.send_text(json.dumps(body))
    logins.run(queue={"envelope": "sns"})
    columns = [
        {"name": "id", "field": "Message", "type": "text"},
        {"name": "masked_ip", "field": "ip", "type": "ip", "mask": True, "nullable": True,
         "required": False},
    ]  # fmt: skip
    with logins.engine.begin() as connection:
        connection.exec_driver_sql("alter table user_logins alter id type text")
    logins.changed({"table": {"columns": columns}})
    done = logins.command("quarantine", "replay", "--all")
    assert done.code == 2
    assert "'Message'" in done.err
    assert logins.ids() == []


OPTIONAL_IP = {**COLUMNS["user_logins"][1], "nullable": True, "required": False}
ANY_MESSAGE = {"field": "Message", "type": "text", "nullable": True, "required": False}


def notification(event: dict[str, Any]) -> str:
    return json.dumps({"Type": "Notification", "Message": json.dumps(event)})


def quarantined_with_a_masked_message(logins: OneJob, *more: dict[str, Any]) -> None:
    """Quarantine a notification whose text is masked as a field of the event."""
    masked = {"name": "masked_text", "mask": True, **ANY_MESSAGE}
    with logins.engine.begin() as connection:
        connection.exec_driver_sql(
            "create table user_logins (id integer, masked_text text, masked_ip text)"
        )
    logins.send_text(notification(login(1)))
    logins.run(table={"columns": [COLUMNS["user_logins"][0], masked, *more]})


@pytest.mark.parametrize("by", ["this version", "an earlier one", "another job's file"])
@pytest.mark.parametrize("other", [[], [OPTIONAL_IP]], ids=["alone", "with another"])
def test_no_part_of_a_masked_message_is_stored_as_it_came(
    other: list[dict[str, Any]], by: str, logins: OneJob, make_job: MakeJob, tmp_path: Path
) -> None:
    """A column that reads the event within the notification would take it out of the mask."""
    quarantined_with_a_masked_message(logins, *other)
    one = logins
    if by == "an earlier one":
        with logins.engine.begin() as connection:
            connection.exec_driver_sql(
                "update etl.quarantine set masked_fields = array_remove(masked_fields, "
                "'none:Message')"
            )
    if by == "another job's file":
        path = str(tmp_path / "file")
        assert logins.command("quarantine", "export", path).code == 0
        one = make_job("user_logins", job={"name": "other"})
        one.changed({})
        done = one.command("quarantine", "import", path, "--from-job", "public.user_logins")
        assert "1 of 1" in done.err
    columns = [COLUMNS["user_logins"][0]]
    one.changed({"queue": {"envelope": "sns"}, "table": {"columns": columns}})
    done = one.command("quarantine", "replay", "--all")
    assert done.code == 2
    assert "the field 'Message' of 1 entry was masked" in done.err
    assert "column 'id'" in done.err
    assert one.ids() == []
    # Masked on both sides, nothing is plain.
    columns = [COLUMNS["user_logins"][1]]
    one.changed({"queue": {"envelope": "sns"}, "table": {"columns": columns}})
    assert one.command("quarantine", "replay", "--all", "--json").lines[0]["loaded"] == 1


@pytest.mark.parametrize("by", ["this version", "an earlier one"])
def test_an_entry_of_a_notification_is_replayed_as_one(by: str, logins: OneJob) -> None:
    """What its envelope holds is masked field by field, then as now."""
    logins.send_text(notification(login(1, id="x")))
    logins.run(queue={"envelope": "sns"})
    if by == "an earlier one":
        with logins.engine.begin() as connection:
            connection.exec_driver_sql("update etl.quarantine set masked_fields = '{ip,Message}'")
    columns = [{**COLUMNS["user_logins"][0], "type": "text"}, COLUMNS["user_logins"][1]]
    with logins.engine.begin() as connection:
        connection.exec_driver_sql("alter table user_logins alter id type text")
    logins.changed({"queue": {"envelope": "sns"}, "table": {"columns": columns}})
    assert logins.command("quarantine", "replay", "--all", "--json").lines[0]["loaded"] == 1


def test_the_envelope_is_masked_though_the_event_has_a_plain_field_of_its_name(
    logins: OneJob,
) -> None:
    """The event's own `Message` is another text than that of the notification."""
    columns = [
        COLUMNS["user_logins"][0],
        OPTIONAL_IP,
        {"name": "text", **ANY_MESSAGE},
    ]
    logins.send_text(notification(login(1, id="x")))
    logins.run(queue={"envelope": "sns"}, table={"columns": columns})
    columns[0] = {**columns[0], "required": False, "nullable": True}
    logins.changed({"table": {"columns": columns}})
    done = logins.command("quarantine", "replay", "--all")
    assert done.code == 2
    assert "'Message'" in done.err
    assert logins.rows("select count(*) from user_logins") == [(0,)]


def test_entries_of_an_earlier_version_count_the_envelope_as_masked(
    earlier: sa.Engine, make_job: MakeJob
) -> None:
    """They were notifications if the job that updates the tables reads notifications."""
    logins = make_job("user_logins", queue={"envelope": "sns"})
    logins.changed({})
    assert logins.command("init").code == 0
    assert logins.rows("select masked_fields from etl.quarantine") == [(["ip", "sns:Message"],)]
    columns = [{"name": "id", "field": "Message", "type": "text"}]
    with earlier.begin() as connection:
        connection.exec_driver_sql("alter table user_logins alter id type text")
    logins.changed({"queue": {"envelope": "none"}, "table": {"columns": columns}})
    done = logins.command("quarantine", "replay", "--all")
    assert done.code == 2
    assert "'Message'" in done.err


def version_1(path: Path, keyring: Keyring) -> None:
    """Rewrite an exported file as the earlier version wrote it."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0] = {"format": "etl-quarantine", "version": 1, "key_id": lines[0]["key_id"]}
    for line in lines[1:-1]:
        del line["masked_fields"]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines[:-1])
    digest = hmac.new(keyring.derive("export", "k1"), data, "sha256").hexdigest()
    last = {"entries": len(lines) - 2, "hmac": digest}
    path.write_bytes(data + json.dumps(last).encode() + b"\n")


def test_a_file_of_an_earlier_version_counts_as_masked_where_the_job_masks(
    logins: OneJob, tmp_path: Path
) -> None:
    """Now or earlier; and the user says whose it is, since the file does not."""
    logins.send(login(1, id="x"))
    logins.run()
    path = tmp_path / "file"
    assert logins.command("quarantine", "export", str(path)).code == 0
    version_1(path, KEYRING)
    with logins.engine.begin() as connection:
        connection.exec_driver_sql("truncate etl.ledger, etl.quarantine, etl.masked_columns")
    columns = [
        {"name": "id", "field": "id", "type": "text"},
        {"name": "masked_ip", "field": "ip", "type": "text", "mask": False},
    ]
    logins.changed({"table": {"columns": columns}})
    refused = logins.command("quarantine", "import", str(path))
    assert refused.code == 2
    assert "--from-job public.user_logins" in refused.err
    told = logins.command("quarantine", "import", str(path), "--from-job", "public.user_logins")
    assert told.code == 0
    assert logins.rows("select masked_fields from etl.quarantine") == [(["ip"],)]


# An earlier version.

EARLIER_TABLES = (ROOT / "tests" / "integration" / "tables_of_0_1.sql").read_text()
EARLIER_ROWS = """
insert into etl.ledger select m, '00000000-0000-4000-8000-000000000001', 1
    from unnest(array['a', 'b', 'k1:fingerprint']) as m;
insert into etl.quarantine (message_id, run_id, reasons, body)
    values ('b', '00000000-0000-4000-8000-000000000001', '[]', 'x');
insert into etl.runs (run_id, version, config_hash, host)
    values ('00000000-0000-4000-8000-000000000001', '0.1.0', 'x', 'y');
"""


@pytest.fixture
def earlier(engine: sa.Engine) -> sa.Engine:
    """A database that an earlier version has used."""
    with engine.begin() as connection:
        connection.exec_driver_sql(EARLIER_TABLES)
        connection.exec_driver_sql(EARLIER_ROWS)
    return engine


def test_rows_of_an_earlier_version_get_the_job_that_updates_the_tables(
    earlier: sa.Engine, make_job: MakeJob
) -> None:
    """Once: a second job that comes later changes nothing."""
    logins = make_job("user_logins", job={"name": "nightly logins"})
    assert logins.command("init").code == 0
    assert make_job("orders").command("init").code == 0
    assert logins.rows("select job from etl.runs") == [("nightly logins",)]
    assert logins.rows("select job, masked_fields from etl.quarantine") == [
        ("nightly logins", ["ip"])
    ]
    assert logins.rows("select job_id, job from etl.jobs order by 1") == [
        (1, "nightly logins"),
        (2, "public.orders"),
    ]
    check_tables(earlier, logins.settings.table)


ODD = """it's an "odd" \\ name: %s {x} :job $$ é"""


def test_an_odd_name_is_a_name_and_no_sql(earlier: sa.Engine, make_job: MakeJob) -> None:
    """In the update of the tables, in the run, and in every command."""
    odd = make_job("user_logins", job={"name": ODD}, ledger={"key": "field:id"})
    assert odd.command("init").code == 0
    odd.send(login(1), login(1), login("x"))
    counts = odd.run().counts
    assert (counts.loaded, counts.already_handled, counts.quarantined) == (1, 1, 1)
    assert odd.rows("select distinct job from etl.runs") == [(ODD,)]
    assert odd.rows("select distinct job from etl.quarantine") == [(ODD,)]
    other = make_job("orders")
    assert other.command("init").code == 0
    entry_id = str(odd.rows("select max(quarantine_id) from etl.quarantine")[0][0])
    done = other.command("quarantine", "replay", entry_id)
    assert done.code == 2
    assert repr(ODD) in done.err


def test_new_jobs_that_start_at_once_get_numbers_of_their_own(
    make_job: MakeJob, engine: sa.Engine
) -> None:
    """A number stands for one job, or one job would see the ids of another."""
    made = make_job("orders").settings
    settings = [
        made.model_copy(update={"job": JobSettings(name=f"job {number}")}) for number in range(8)
    ]
    create_tables(engine, settings[0].table)
    all_ready = threading.Barrier(len(settings))
    errors: list[BaseException] = []

    def register(one: Settings) -> None:
        try:
            with transaction(engine) as connection:
                connection.exec_driver_sql("select 1")
                all_ready.wait()
                jobs.register(connection, one)
        except BaseException as error:  # noqa: BLE001  (shown by the test)
            errors.append(error)

    threads = [threading.Thread(target=register, args=(one,)) for one in settings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with engine.connect() as connection:
        known = connection.execute(sa.text("select job_id, job from etl.jobs order by 1")).all()
    assert [number for number, _ in known] == list(range(1, 9))
    assert {job for _, job in known} == {one.job_name for one in settings}


def test_ids_of_an_earlier_version_count_for_every_job(
    earlier: sa.Engine, logins: OneJob, orders: OneJob
) -> None:
    """They do not say whose they are, and what was loaded must not be loaded again."""
    runs = [start(earlier, one.settings, n) for n, one in ((2, logins), (3, orders))]
    for run_id in runs:
        with transaction(earlier) as connection:
            assert ledger.claim(connection, ["a", "b", "c"], run_id, 1) == {"c"}
    assert logins.rows("select message_id, job_id from etl.ledger order by 1, 2") == [
        ("a", 0), ("b", 0), ("c", 1), ("c", 2), ("k1:fingerprint", 0),
    ]  # fmt: skip


def test_an_event_of_an_earlier_version_is_not_taken_for_another_jobs(
    earlier: sa.Engine, logins: OneJob, orders: OneJob
) -> None:
    """Its fingerprint does not say whose it is; a message that it belongs to is known by its id."""
    data = b"field:id\0i7"
    digest = hmac.digest(KEYRING.derive("ledger", "k1"), data, "sha256")
    earlier_fingerprint = f"k1:{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    with earlier.begin() as connection:
        run_id = "00000000-0000-4000-8000-000000000001"
        connection.exec_driver_sql(
            "insert into etl.ledger values (%s, %s, 1)", (earlier_fingerprint, run_id)
        )
    orders.send(order(7))
    assert orders.run(ledger={"key": "field:id"}).counts.loaded == 1
    logins.send(login(7))
    assert logins.run(ledger={"key": "field:id"}).counts.loaded == 1


def test_the_tables_are_updated_without_being_rewritten(earlier: sa.Engine, logins: OneJob) -> None:
    """So that a large ledger or quarantine is updated in seconds."""
    files = "select relname, relfilenode from pg_class where relname in ('ledger', 'quarantine')"
    before = logins.rows(files)
    assert logins.command("init").code == 0
    assert logins.rows(files) == before


def test_a_role_that_could_run_the_earlier_version_can_still_run(
    earlier: sa.Engine, logins: OneJob, postgres: EmbeddedPostgres
) -> None:
    """Whoever may enter runs may enter jobs, without another `init --roles`."""
    role = f"loader {uuid.uuid4().hex[:8]}"
    superuser = sa.create_engine(driver_url(as_superuser(postgres, logins)))
    with superuser.begin() as connection:
        connection.exec_driver_sql(f'create role "{role}" nologin')
        connection.exec_driver_sql(f'grant insert on etl.runs to "{role}"')
    assert logins.command("init").code == 0
    for table in ("jobs", "job_columns"):
        may = f"select has_table_privilege('{role}', 'etl.{table}', 'insert')"
        assert logins.rows(may) == [(True,)]
    with superuser.begin() as connection:
        connection.exec_driver_sql(f'drop owned by "{role}"; drop role "{role}"')
    superuser.dispose()


def test_a_new_database_looks_like_an_updated_one(earlier: sa.Engine, logins: OneJob) -> None:
    """Columns, types, indexes and constraints are the same."""
    columns = (
        "select table_name, column_name, data_type, is_nullable, column_default "
        "from information_schema.columns where table_schema = 'etl' order by 1, 2"
    )
    indexes = (
        "select pg_get_indexdef(indexrelid) from pg_index join pg_class on pg_class.oid = indrelid "
        "where relnamespace = 'etl'::regnamespace order by 1"
    )
    facts = (columns, indexes)
    assert logins.command("init").code == 0
    updated = [logins.rows(statement) for statement in facts]
    with earlier.begin() as connection:
        connection.exec_driver_sql("drop schema etl cascade")
    assert logins.command("init").code == 0
    assert [logins.rows(statement) for statement in facts] == updated
