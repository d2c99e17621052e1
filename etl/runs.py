"""Runs: their counts, and their rows in ``etl.runs``."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, field

import pandas as pd
import sqlalchemy as sa

from etl.postgres.engine import transaction
from etl.postgres.queries import queries
from etl.postgres.tables import query_frame
from etl.version import __version__


@dataclass
class Counts:
    """What became of the deliveries; a message delivered three times counts three times."""

    received: int = 0
    loaded: int = 0
    already_handled: int = 0
    quarantined: int = 0
    released: int = 0

    @property
    def accounted(self) -> int:
        """Deliveries whose fate is known."""
        return self.loaded + self.already_handled + self.quarantined + self.released

    @property
    def adds_up(self) -> bool:
        """Whether every delivery received has one fate."""
        return self.received == self.accounted

    def plus(self, other: Counts) -> Counts:
        """Add up two counts."""
        return Counts(*(a + b for a, b in zip(self._all(), other._all(), strict=True)))

    def _all(self) -> tuple[int, ...]:
        return tuple(asdict(self).values())


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands, for a progress display."""

    received: int
    loaded: int
    already_handled: int
    quarantined: int
    buffered: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    run_id: str
    counts: Counts
    reasons: dict[str, int] = field(default_factory=dict)  # "column: check" -> messages
    stop_reason: str = ""
    seconds: float = 0.0
    batches: int = 0
    exit_code: int = 0
    problem: str | None = None  # what ended the run, when it was not the end of the work
    not_acknowledged: int = 0  # handled, but still in the queue; the ledger knows them
    would: Counts | None = None  # of a dry run: what a run would have done

    def as_dict(self) -> dict[str, object]:
        """The summary as ``run --json`` prints it."""
        own = asdict(self)
        would = own.pop("would")
        dry = {} if would is None else {
            "would_load": would["loaded"], "would_quarantine": would["quarantined"]
        }  # fmt: skip
        return {"run_id": own.pop("run_id"), **own.pop("counts"), **dry, **own}


@dataclass(frozen=True)
class Run:
    """One run and its row."""

    run_id: str  # a UUID
    config_hash: str
    command: str = "run"

    def start(self, engine: sa.Engine) -> None:
        """Enter the run; raises as :func:`etl.postgres.engine.transaction` does."""
        with transaction(engine) as connection:
            connection.execute(
                queries()["start_run"],
                {
                    "run_id": self.run_id,
                    "command": self.command,
                    "version": __version__,
                    "config_hash": self.config_hash,
                    "host": socket.gethostname(),
                },
            )

    def add(self, connection: sa.Connection, counts: Counts) -> None:
        """Add a batch's counts, in the batch's transaction."""
        connection.execute(queries()["add_to_run"], {"run_id": self.run_id, **asdict(counts)})

    def committed(self, engine: sa.Engine) -> tuple[Counts, int]:
        """The counts and the number of batches that the row has; raises as ``transaction``."""
        with transaction(engine) as connection:
            row = connection.execute(queries()["run_counts"], {"run_id": self.run_id}).one()
        *counts, batches = row
        return Counts(*counts), batches

    def finish(self, engine: sa.Engine, counts: Counts, batches: int, stop_reason: str) -> None:
        """Set the final counts and the reason of the end; raises as ``transaction`` does."""
        end = {"run_id": self.run_id, "batches": batches, "stop_reason": stop_reason}
        with transaction(engine) as connection:
            connection.execute(queries()["finish_run"], {**end, **asdict(counts)})


def history(engine: sa.Engine, limit: int) -> pd.DataFrame:
    """The newest runs, newest first: the columns of ``etl.runs``; one row a run."""
    return query_frame(engine, "list_runs", {"limit": limit})
