"""Whose fault it is that the database refuses rows: decided by what it does with the others.

This is one file because every way in which a table refuses rows goes through the same harness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from etl import ledger, pipeline, quarantine
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused, DatabaseUnavailable, QuarantineBudget
from etl.postgres.creation import create_tables
from etl.postgres.engine import open_engine
from etl.postgres.watchdog import Watchdog
from etl.runs import Run, Share
from etl.sqs.consumer import Consumer
from etl.sqs.limits import Limits, Stop
from etl.sqs.message import Message
from etl.sqs.quota import open_quota
from tests.unit.builders import event, message, some_long

RUN = "00000000-0000-4000-8000-000000000001"
METHODS = pytest.mark.parametrize("method", some_long(["copy", "multi"]))


class Batches:
    """In the place of a receiver: has received these batches, and then ends."""

    received = 0

    def __init__(self, batches: Sequence[Sequence[Message]]) -> None:
        self._batches = [list(batch) for batch in batches]

    def start(self) -> None:
        """Everything has arrived already."""

    def take(self) -> list[Message] | None:
        """Hand out the next batch."""
        return self._batches.pop(0) if self._batches else None

    def end(self) -> list[Message]:
        """Nothing is left."""
        return []

    def raise_error(self) -> None:
        """There is no receiving that could fail."""


class Noting(Consumer):
    """A consumer that only notes what would become of the messages."""

    def __init__(self, *batches: Sequence[Message]) -> None:
        super().__init__(SimpleNamespace(url=""), 30, _LIMITS, 1, Stop(), open_quota(None))  # type: ignore[arg-type]
        self._receiver = Batches(batches)  # type: ignore[assignment]
        self.acknowledged: list[str] = []
        self.given_back: list[str] = []

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Note the messages that would be deleted."""
        self.acknowledged += [message.message_id for message in messages]

    def _release(self, messages: Sequence[Message]) -> int:
        """Note the messages that would be released."""
        self.given_back += [message.message_id for message in messages]
        return 0


_USERS = "select user_id from user_logins order by length(user_id), 1"
_LIMITS = Limits(
    max_rows=1, max_bytes=1, batch_seconds=1, idle_seconds=1, max_seconds=None, wait_seconds=1,
    retry_seconds=1,
)  # fmt: skip


@dataclass
class Outcome:
    """What became of the messages."""

    loaded: list[str]
    reasons: list[str]  # of the quarantined messages
    acknowledged: list[str]
    released: list[str]
    problem: Exception | None
    statements: int = 0


@dataclass
class Table:
    """The default table, changed by a test, and a job that loads into it."""

    engine: sa.Engine
    make: Callable[..., Settings]
    keyring: Keyring
    changes: dict[str, Any] = field(default_factory=dict)

    def do(self, *statements: str) -> None:
        """Change the table, as the user who owns it."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def load(
        self, *sizes: int, method: str = "multi", read: bool = True, **events: dict[str, Any]
    ) -> Outcome:
        """Load batches of these sizes; ``m7={...}`` changes the eighth event.

        :param read: read the table afterwards
        """
        settings = self.make(load__method=method, database__retry_seconds=0.01, **self.changes)
        bodies = [
            event(**{"user_id": f"u{n}", **events.get(f"m{n}", {})}) for n in range(sum(sizes))
        ]
        messages = [message(body, number) for number, body in enumerate(bodies)]
        batches = []
        for size in sizes:
            batches.append(messages[:size])
            messages = messages[size:]
        consumer = Noting(*batches)
        engine = open_engine(settings.database)
        statements: list[str] = []
        sa.event.listen(engine, "before_cursor_execute", lambda *facts: statements.append(facts[2]))
        run = Run(RUN, "hash")
        run.start(engine, settings)
        drain = pipeline.Drain(
            settings, consumer, engine, Watchdog(engine, 600), self.keyring,
            Share(run),
            pruner=ledger.Pruner(engine, settings.job_name, settings.ledger.retention_days),
            budget=quarantine.Budget(settings.quarantine),
        )  # fmt: skip
        problem: Exception | None = None
        try:
            pipeline.run(drain)
        except Exception as error:  # noqa: BLE001  (shown by the tests)
            problem = error
        engine.dispose()
        return Outcome(
            loaded=self.column(_USERS) if read else [],
            reasons=self.column(
                "select reason ->> 'check' from etl.quarantine, "
                "jsonb_array_elements(reasons) as reason where not is_sample "
                "order by quarantine_id"
            ),
            acknowledged=consumer.acknowledged,
            released=consumer.given_back,
            problem=problem,
            statements=len(statements),
        )

    def column(self, statement: str) -> list[Any]:
        """The first column of a query."""
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(statement)).scalars())


@pytest.fixture
def table(engine: sa.Engine, settings: Callable[..., Settings], keyring: Keyring) -> Table:
    """The default table in a new database."""
    create_tables(engine, settings().table)
    return Table(engine, settings, keyring)


def trigger(condition: str, then: str, when: str = "before") -> tuple[str, str]:
    """The statements for a trigger that does something to the rows that meet a condition."""
    return (
        (
            "create function act() returns trigger language plpgsql as $$ begin "
            f"if {condition} then {then}; end if; return new; end $$"
        ),
        f"create trigger act {when} insert on user_logins for each row execute function act()",
    )


def raising(sqlstate: str, condition: str, when: str = "before") -> tuple[str, str]:
    """A trigger that raises an error, with the value in its text."""
    error = f"raise exception using errcode = '{sqlstate}', message = 'canary ' || new.user_id"
    return trigger(condition, error, when)


def row_security(condition: str) -> tuple[str, ...]:
    """Row-level security that lets in the rows that meet a condition."""
    return (
        "alter table user_logins enable row level security",
        "alter table user_logins force row level security",
        f"create policy p on user_logins using (true) with check ({condition})",
    )


def partitioned(values: str) -> tuple[str, ...]:
    """The table with a partition for some users only."""
    return (
        "create table public.other (like user_logins) partition by list (user_id)",
        "drop table user_logins",
        "alter table other rename to user_logins",
        f"create table public.part partition of user_logins for values in ({values})",
    )


WITHOUT_7 = ", ".join(f"'u{n}'" for n in range(20) if n != 7)
# For each way to refuse rows: statements that refuse user u7 only, and others that refuse everyone.
WAYS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    **{
        f"a trigger raises {sqlstate}": (
            raising(sqlstate, "new.user_id = 'u7'"),
            raising(sqlstate, "true"),
        )
        for sqlstate in (
            "P0001",
            "42501",
            "42P01",
            "XX000",
            "ABC12",
            "23502",
            "25001",
            "2D000",
            "0B000",
            "3B001",
        )
    },
    "a trigger commits": (
        trigger("new.user_id = 'u7'", "commit"),
        trigger("true", "commit"),
    ),
    "a trigger after the insert": (
        raising("P0001", "new.user_id = 'u7'", "after"),
        raising("P0001", "true", "after"),
    ),
    "a trigger returns null": (
        trigger("new.user_id = 'u7'", "return null"),
        trigger("true", "return null"),
    ),
    "row-level security": (row_security("user_id <> 'u7'"), row_security("false")),
    "a missing partition": (partitioned(WITHOUT_7), partitioned("'nobody'")),
    "a check": (
        ["alter table user_logins add check (user_id <> 'u7')"],
        ["alter table user_logins add check (user_id = '')"],
    ),
    "a domain": (
        [
            "create domain public.user_name as varchar(128) check (value <> 'u7')",
            "alter table user_logins alter user_id type public.user_name",
        ],
        [
            "create domain public.user_name as varchar(128) check (value = '')",
            "alter table user_logins alter user_id type public.user_name",
        ],
    ),
    "a foreign key": (
        [
            "create table person (id varchar(128) primary key)",
            f"insert into person select unnest(array[{WITHOUT_7}])",
            "alter table user_logins add foreign key (user_id) references person",
        ],
        [
            "create table person (id varchar(128) primary key)",
            "alter table user_logins add foreign key (user_id) references person",
        ],
    ),
    "a deferred constraint trigger": (
        [
            raising("P0001", "new.user_id = 'u7'")[0],
            (
                "create constraint trigger act after insert on user_logins "
                "deferrable initially deferred for each row execute function act()"
            ),
        ],
        [
            raising("P0001", "true")[0],
            (
                "create constraint trigger act after insert on user_logins "
                "deferrable initially deferred for each row execute function act()"
            ),
        ],
    ),
    "a rule": (
        ["create rule r as on insert to user_logins where new.user_id = 'u7' do instead nothing"],
        ["create rule r as on insert to user_logins do instead nothing"],
    ),
    "a built-in function": (  # SQLSTATE 42704, and no function in the error's context
        [
            (
                "alter table user_logins add check (cast(case user_id when 'u7' then 'nowhere' "
                "else 'simple' end as regconfig) is not null)"
            )
        ],
        ["alter table user_logins add check (cast('no' || user_id as regconfig) is not null)"],
    ),
    "a view with a check option": (
        [
            "alter table user_logins rename to stored",
            (
                "create view public.user_logins as select * from stored where user_id <> 'u7' "
                "with check option"
            ),
        ],
        [
            "alter table user_logins rename to stored",
            "create view public.user_logins as select * from stored where false with check option",
        ],
    ),
    "a view with a trigger": (
        [
            "alter table user_logins rename to stored",
            "create view public.user_logins as select * from stored",
            (
                "create function act() returns trigger language plpgsql as $$ begin "
                "if new.user_id = 'u7' then return null; end if; "
                "insert into stored values (new.*); return new; end $$"
            ),
            (
                "create trigger act instead of insert on user_logins "
                "for each row execute function act()"
            ),
        ],
        [
            "alter table user_logins rename to stored",
            "create view public.user_logins as select * from stored",
            (
                "create function act() returns trigger language plpgsql as $$ begin "
                "return null; end $$"
            ),
            (
                "create trigger act instead of insert on user_logins "
                "for each row execute function act()"
            ),
        ],
    ),
    "a null where the table allows none": (
        [
            "alter table user_logins alter locale set not null",
            *trigger("new.user_id = 'u7'", "new.locale = null"),
        ],
        [
            "alter table user_logins alter locale set not null",
            *trigger("true", "new.locale = null"),
        ],
    ),
}
EVERY_WAY = pytest.mark.parametrize("way", WAYS)


@METHODS
@EVERY_WAY
def test_a_row_that_is_refused_among_others_is_quarantined_alone(
    way: str, method: str, table: Table
) -> None:
    """Whatever refuses it, and with whatever SQLSTATE."""
    table.do(*WAYS[way][0])
    outcome = table.load(12, method=method)
    assert outcome.problem is None
    assert outcome.loaded == [f"u{n}" for n in range(12) if n != 7]
    assert len(outcome.reasons) == 1
    assert "canary" not in outcome.reasons[0]
    assert len(outcome.acknowledged) == 12


@EVERY_WAY
@pytest.mark.parametrize(
    ("size", "method"), [(2, "copy"), pytest.param(1_000, "multi", marks=pytest.mark.long)]
)
def test_a_table_that_refuses_every_row_stops_the_run(
    size: int, way: str, method: str, table: Table
) -> None:
    """Nothing is stored or quarantined, all is released, and few statements show it."""
    table.do(*WAYS[way][1])
    outcome = table.load(size, method=method)
    assert isinstance(outcome.problem, DatabaseRefused)
    assert "'public.user_logins'" in str(outcome.problem)
    assert "role 'etl'" in str(outcome.problem)
    assert "canary" not in str(outcome.problem)
    assert (outcome.loaded, outcome.reasons, outcome.acknowledged) == ([], [], [])
    assert sorted(outcome.released) == sorted(f"m{n}" for n in range(size))
    assert outcome.statements < 500


@pytest.mark.long
@EVERY_WAY
@pytest.mark.parametrize("sizes", [(1,) * 9, (7, 1, 1)])
def test_a_row_alone_in_its_batch_waits_for_the_others(
    sizes: tuple[int, ...], way: str, table: Table
) -> None:
    """The rows before it or after it show that the table takes rows."""
    table.do(*WAYS[way][0])
    outcome = table.load(*sizes)
    assert outcome.problem is None
    assert outcome.loaded == [f"u{n}" for n in range(9) if n != 7]
    assert len(outcome.reasons) == 1
    assert sorted(outcome.acknowledged) == [f"m{n}" for n in range(9)]
    assert outcome.released == []


@pytest.mark.long
@EVERY_WAY
def test_a_bad_row_before_all_good_ones_is_found_too(way: str, table: Table) -> None:
    """Nothing has been loaded yet when it is refused, alone in its batch."""
    table.do(*WAYS[way][0])
    users = {f"m{n}": {"user_id": f"u{(n + 7) % 9}"} for n in range(9)}
    outcome = table.load(1, 1, 7, **users)
    assert outcome.problem is None
    assert len(outcome.loaded) == 8
    assert len(outcome.reasons) == 1
    assert sorted(outcome.acknowledged) == [f"m{n}" for n in range(9)]


@pytest.mark.long
@EVERY_WAY
def test_a_table_that_refuses_every_row_stops_the_run_in_batches_of_one(
    way: str, table: Table
) -> None:
    """The rows of the batches wait for each other, and together show it."""
    table.do(*WAYS[way][1])
    outcome = table.load(*(1,) * 5)
    assert isinstance(outcome.problem, DatabaseRefused)
    assert (outcome.loaded, outcome.reasons, outcome.acknowledged) == ([], [], [])
    assert sorted(outcome.released) == [f"m{n}" for n in range(5)]


@pytest.mark.parametrize("size", [1, 3, 30])
def test_a_column_that_no_row_has_a_value_for_is_the_tables_fault(size: int, table: Table) -> None:
    """Even one row shows it, and the error has the statement to run."""
    table.do("alter table user_logins add column region text not null")
    outcome = table.load(size)
    assert isinstance(outcome.problem, DatabaseRefused)
    assert "SQLSTATE 23502" in str(outcome.problem)
    assert 'alter table "public"."user_logins" alter column "region"' in str(outcome.problem)
    assert (outcome.loaded, outcome.reasons, outcome.acknowledged) == ([], [], [])


@pytest.mark.parametrize("size", [1, 30])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "revoke insert on user_logins from etl",
            'grant insert on "public"."user_logins" to "etl"',
        ),
        (
            (
                "alter table user_logins drop column locale, "
                "add column locale text generated always as ('x') stored"
            ),
            "SQLSTATE 428C9",
        ),
        (
            "alter table user_logins drop column locale",
            "SQLSTATE 42703 (UndefinedColumn); role 'etl'; it has no column 'locale': add it",
        ),
        ("drop table user_logins", "it was dropped during the run; create it with: etl init"),
        ("alter table user_logins alter app_version type date using null", "SQLSTATE 42804"),
    ],
)
def test_a_statement_that_is_refused_as_such_stops_the_run_at_once(
    change: str, words: str, size: int, table: Table
) -> None:
    """Rows that were loaded before change nothing about it."""
    table.load(3)
    table.do("truncate etl.ledger", "delete from etl.runs", change)
    outcome = table.load(size, read=False)
    assert isinstance(outcome.problem, DatabaseRefused)
    assert words in str(outcome.problem)
    assert (outcome.reasons, outcome.acknowledged) == ([], [])


@pytest.mark.parametrize("sqlstate", ["53100", "40001", "57P03", "08006", "25006"])
def test_an_outage_at_one_row_blames_no_row(sqlstate: str, table: Table) -> None:
    """It is waited out, and then the run ends with everything released."""
    table.do(*raising(sqlstate, "new.user_id = 'u7'"))
    outcome = table.load(12)
    assert isinstance(outcome.problem, DatabaseUnavailable)
    assert (outcome.loaded, outcome.reasons, outcome.acknowledged) == ([], [], [])
    assert len(outcome.released) == 12


@pytest.mark.parametrize("constraint", ["unique (user_id)", "exclude (user_id with =)"])
def test_rows_that_the_table_has_already_are_at_fault_themselves(
    constraint: str, table: Table
) -> None:
    """The rows in their way show that the table takes rows, even if it takes none of the batch."""
    table.do(f"alter table user_logins add constraint once {constraint}")
    table.load(5)
    table.do("truncate etl.ledger", "delete from etl.runs")
    outcome = table.load(5)
    assert outcome.problem is None
    assert len(outcome.loaded) == 5
    assert ["constraint 'once'" in reason for reason in outcome.reasons] == [True] * 5


_RESTORED = (
    "insert into user_logins select 'old', 'x', 'x', 'x', 'x', 1, '2024-01-01' "
    "from generate_series(1, 300)"
)
# Ways to be in conflict with a row that the new one has nothing to do with; a word of the error.
UNRELATED: dict[str, tuple[Sequence[str], str]] = {
    "a sequence is behind": (
        [
            "alter table user_logins add id bigserial primary key", _RESTORED,
            "select setval('user_logins_id_seq', 1, false)",
        ],
        "setval",
    ),
    "an identity is behind": (
        [
            "alter table user_logins add id integer generated by default as identity unique",
            _RESTORED, "alter table user_logins alter id restart",
        ],
        "setval",
    ),
    "a default is in use": (
        [
            "alter table user_logins add id integer, add constraint once exclude (id with =)",
            "alter table user_logins alter id set default 7", _RESTORED.replace("300", "1"),
        ],
        "defaults",
    ),
    "a log of a trigger": (
        [
            "create table log (id integer primary key)",
            "insert into log values (1)",
            *trigger("true", "insert into log values (1)", "after"),
        ],
        "'act'",
    ),
    "a counter of a trigger": (
        [
            "create table log (id bigserial primary key, name text)",
            "insert into log (name) select 'old' from generate_series(1, 300)",
            "select setval('log_id_seq', 1, false)",
            *trigger("true", "insert into log (name) values ('new')"),
        ],
        "'act'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sizes", [(1,), (5,), (1, 1, 1), (30,)])
@pytest.mark.parametrize("way", UNRELATED)
def test_a_conflict_that_no_value_has_led_to_is_the_tables_fault(
    way: str, sizes: tuple[int, ...], table: Table
) -> None:
    """The rows are good, so none of them is quarantined."""
    statements, word = UNRELATED[way]
    table.do(*statements)
    outcome = table.load(*sizes)
    assert isinstance(outcome.problem, DatabaseRefused)
    assert word in str(outcome.problem)
    assert (outcome.reasons, outcome.acknowledged) == ([], [])


@pytest.mark.parametrize(
    "columns",
    [
        "add h text generated always as (md5(user_id)) stored unique",
        "add id integer default 7, add unique (user_id, id)",
        "add constraint once exclude (lower(user_id) with =)",
    ],
)
def test_a_conflict_that_a_value_has_led_to_is_the_rows_fault(columns: str, table: Table) -> None:
    """Though the constraint is not on a configured column alone."""
    table.do(f"alter table user_logins {columns}")
    table.load(5)
    table.do("truncate etl.ledger", "delete from etl.runs")
    outcome = table.load(5)
    assert outcome.problem is None
    assert (len(outcome.loaded), len(outcome.reasons)) == (5, 5)


@pytest.mark.parametrize("way", ["a check", "a domain", "a foreign key", "a trigger returns null"])
def test_one_row_alone_is_quarantined_for_its_own_value(way: str, table: Table) -> None:
    """A queue that holds one bad message is not blocked by it."""
    table.do(*WAYS[way][1])
    outcome = table.load(1)
    assert outcome.problem is None
    assert (len(outcome.reasons), outcome.acknowledged) == (1, ["m0"])


@pytest.mark.parametrize("way", ["a trigger raises P0001", "row-level security"])
def test_one_row_alone_stops_the_run_if_any_row_might_be_refused(way: str, table: Table) -> None:
    """It cannot be told what is at fault, so nothing is decided: it comes again with others."""
    table.do(*WAYS[way][1])
    outcome = table.load(1)
    assert isinstance(outcome.problem, DatabaseRefused)
    assert (outcome.reasons, outcome.released) == ([], ["m0"])


def test_two_rows_alone_that_break_different_constraints_are_quarantined(table: Table) -> None:
    """Each of them says what is wrong with it."""
    table.do(
        "alter table user_logins add check (user_id <> 'u0')",
        "alter table user_logins add check (locale is null or locale <> 'XX')",
    )
    outcome = table.load(2, m1={"locale": "XX"})
    assert outcome.problem is None
    assert len(set(outcome.reasons)) == 2


def test_a_table_that_breaks_in_the_middle_of_a_run_stops_it(table: Table) -> None:
    """The rows that were loaded before do not make the later ones bad."""
    table.do(*raising("P0001", "length(new.user_id) > 2"))  # u10 and all later ones
    outcome = table.load(10, *(3,) * 10)
    assert isinstance(outcome.problem, DatabaseRefused)
    assert len(outcome.loaded) == 10
    assert outcome.reasons == []
    assert outcome.acknowledged == [f"m{n}" for n in range(10)]


def test_bad_rows_at_the_front_do_not_hide_the_good_ones(table: Table) -> None:
    """The rows that are tried are spread over the batch."""
    table.do(*raising("P0001", "length(new.user_id) <= 2 or new.user_id < 'u5'"))
    outcome = table.load(100)
    assert outcome.problem is None
    assert len(outcome.loaded) == 50
    assert len(outcome.reasons) == 50


def test_the_quarantine_budget_holds_for_refused_rows_too(table: Table) -> None:
    """One row in four is accepted, and half of them may be quarantined."""
    table.do(*raising("P0001", "new.user_id !~ '[05]$'"))
    outcome = table.load(400)
    assert isinstance(outcome.problem, QuarantineBudget)
    assert (outcome.loaded, outcome.acknowledged) == ([], [])
    assert set(outcome.reasons) <= {"SQLSTATE P0001"}  # of the sample that a budget stop keeps


def test_other_messages_of_the_batch_do_not_wait(table: Table) -> None:
    """A message that is no event is quarantined while the row that nobody can judge waits."""
    table.do(*raising("P0001", "new.user_id = 'u1'"))
    outcome = table.load(2, 1, m0={"ip": "not an address"})
    assert outcome.problem is None
    assert outcome.loaded == ["u2"]
    assert sorted(outcome.acknowledged) == ["m0", "m1", "m2"]
    assert outcome.reasons[0] == "IP address"


@pytest.mark.parametrize("key", ["field:locale", "body"])
def test_a_refused_row_waits_with_a_business_id_too(key: str, table: Table) -> None:
    """Its id is free for the next event while it waits."""
    table.changes["ledger__key"] = key
    table.do(*raising("P0001", "new.user_id = 'u0'"))
    outcome = table.load(1, 1, 1, **{f"m{n}": {"locale": f"L{n // 2}"} for n in range(3)})
    assert outcome.problem is None
    assert outcome.loaded == ["u1", "u2"]
    assert len(outcome.reasons) == 1


def test_a_row_that_waits_is_released_when_the_run_is_interrupted(table: Table) -> None:
    """SIGTERM or Ctrl-C decides nothing about it."""
    consumer = Noting()
    with consumer:
        consumer.keep([message(event())])
        consumer.stop.request("SIGTERM", release_rest=True)
        assert consumer.take() is None
    assert consumer.given_back == ["m0"]


def test_a_message_that_waits_and_comes_again_is_one_message() -> None:
    """It keeps the number of its deliveries and its newest receipt handle."""
    consumer = Noting([message(event(), receipt_handle="newest"), message(event(), 1)])
    consumer.keep([message(event(), receipt_handle="older")])
    taken = consumer.take() or []
    assert [(m.message_id, m.deliveries, m.receipt_handle) for m in taken] == [
        ("m0", 2, "newest"),
        ("m1", 1, "handle 1"),
    ]
