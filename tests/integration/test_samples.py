"""What a budget stop keeps of the messages that it refused, to look at without another receive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl import quarantine
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import QuarantineBudget
from etl.frames import Reject, rejects
from etl.operations import entries, reseal, transfer
from etl.operations.entries import Selection
from etl.operations.forget import Search, forget_value
from etl.postgres.engine import transaction
from etl.schema import masked_column
from tests.integration.test_quarantine import ALL, RUN, QuarantineDatabase
from tests.unit.builders import event, message


@pytest.fixture
def database(
    engine: sa.Engine, keyring: Keyring, settings: Callable[..., Settings]
) -> QuarantineDatabase:
    """A database with empty tables, the default settings and a keyring of one key."""
    return QuarantineDatabase(engine, keyring, settings())


class BudgetStop:
    """A budget stop of one batch, whose sample is kept."""

    def __init__(self, database: QuarantineDatabase) -> None:
        self.database = database

    def __call__(self, bodies: dict[str, str], run: str = RUN, **settings: Any) -> str:
        """Refuse these bodies, each with its check; returns the error's text."""
        messages = {
            message_id: message(body, message_id=message_id) for message_id, body in bodies.items()
        }
        reasons: list[Reject] = [(message_id, "ip", message_id[0]) for message_id in messages]
        error = QuarantineBudget("too many", rejects(reasons[1:]))
        database = self.database
        changed = database.settings.model_copy(
            update={"quarantine": database.settings.quarantine.model_copy(update=settings)}
        )
        return str(
            quarantine.with_sample(
                error,
                database.engine,
                rejects(reasons[:1]),
                messages,
                database.keyring,
                run,
                changed,
            )
        )


@pytest.fixture
def budget_stop(database: QuarantineDatabase) -> BudgetStop:
    """Budget stops in the database."""
    return BudgetStop(database)


SAMPLES = Selection(samples=True)


def test_a_budget_stop_keeps_a_sealed_sample_of_every_reason(
    database: QuarantineDatabase, budget_stop: BudgetStop
) -> None:
    """The error says how to look at it, and the bodies can be shown."""
    bodies = {f"{check}{number}": event(user_id=check) for check in "abc" for number in range(9)}
    text = budget_stop(bodies, sample_messages=5)
    assert text == "too many; 5 of them are kept, see: etl quarantine list --samples --entries"
    kept = entries.list_entries(database.engine, SAMPLES, 99)
    assert kept["message_id"].tolist() == ["a0", "a1", "b0", "b1", "c0"]
    with transaction(database.engine) as connection:
        opened = entries.unseal_entries(
            entries.read_open(connection, kept["quarantine_id"].tolist()), database.keyring
        )
    assert [body for _, body in opened] == [bodies[entry.message_id] for entry, _ in opened]


def test_a_sample_is_neither_quarantined_nor_handled(
    database: QuarantineDatabase, budget_stop: BudgetStop
) -> None:
    """It is in no count, no replay, no export and no ledger: its messages are in the queue."""
    budget_stop({"x1": event(), "x2": "{"})
    database.add("[]")
    assert len(entries.list_entries(database.engine, Selection(samples=False), 9)) == 1
    assert database.rows("select sum(messages) from etl.broken_checks") == [(1,)]
    assert database.rows("select count(*) from etl.ledger") == [(1,)]
    assert database.replay().counts.received == 1
    assert database.users() == []


def test_a_sample_is_not_exported(
    database: QuarantineDatabase, budget_stop: BudgetStop, tmp_path: Path
) -> None:
    """Imported elsewhere, it would count as quarantined there."""
    budget_stop({"x1": event()})
    path = tmp_path / "rejects.jsonl"
    assert (
        transfer.export_entries(database.engine, database.keyring, database.settings, ALL, path)
        == 0
    )


def test_each_budget_stop_replaces_the_sample_of_its_own_job(
    database: QuarantineDatabase, budget_stop: BudgetStop, settings: Callable[..., Settings]
) -> None:
    """Quarantined messages and the samples of other jobs stay."""
    database.add("[]")
    budget_stop({"x1": event()})
    database.settings = settings(job__name="other")
    budget_stop({"y1": event()})
    budget_stop({"y2": event(), "y3": event()})
    kept = entries.list_entries(database.engine, SAMPLES, 9)
    assert kept["message_id"].tolist() == ["x1", "y2", "y3"]
    assert len(entries.list_entries(database.engine, Selection(samples=False), 9)) == 1
    budget_stop({"y4": event()}, sample_messages=0)
    kept = entries.list_entries(database.engine, SAMPLES, 9)
    assert kept["message_id"].tolist() == ["x1"]


def test_old_samples_are_removed(database: QuarantineDatabase, budget_stop: BudgetStop) -> None:
    """By the age that is configured."""
    budget_stop({"x1": event()})
    database.do("update etl.quarantine set quarantined_at = now() - interval '14 days 1 hour'")
    for days, left in ((15, 1), (14, 0)):
        with transaction(database.engine) as connection:
            quarantine.remove_samples(connection, database.settings.job_name, days)
        assert len(entries.list_entries(database.engine, SAMPLES, 9)) == left


def test_a_sample_that_cannot_be_kept_is_only_a_warning(
    database: QuarantineDatabase, budget_stop: BudgetStop, caplog: pytest.LogCaptureFixture
) -> None:
    """The run stops for the same reason as without it."""
    database.do("drop function etl.remove_samples")
    assert budget_stop({"x1": event()}) == "too many"
    assert "no sample of the refused messages was kept" in caplog.text


def test_a_sample_is_forgotten_like_any_stored_message(
    database: QuarantineDatabase, budget_stop: BudgetStop
) -> None:
    """It holds a person's values, though sealed."""
    budget_stop({"x1": event(ip="2001:db8::1"), "x2": event()})
    column = masked_column(database.settings.table, "ip")
    search = Search(database.engine, database.settings, database.keyring, column, "2001:db8::1")
    matches = forget_value(search, "delete", "4711")
    assert len(matches.entries) == 1
    assert database.closed_as() == ["forgotten", None]


def test_a_sample_comes_under_a_new_key_like_any_stored_message(
    database: QuarantineDatabase, budget_stop: BudgetStop
) -> None:
    """Otherwise the old key could never be removed."""
    budget_stop({"x1": event(), "x2": event()})
    new = Keyring("k2", {"k2": Keyring.new("k2").key("k2"), "k1": database.keyring.key("k1")})
    job = database.settings.job_name
    with transaction(database.engine) as connection:
        assert reseal.count_bodies_of_other_keys(connection, job, new) == 2
        assert reseal.reseal_entries(connection, job, 0, new)[0] == 2
        assert reseal.count_bodies_of_other_keys(connection, job, new) == 0
