"""A run treats messages with care: few receives, no good message into quarantine or dead letters."""

from __future__ import annotations

import pytest

from tests.acceptance.job_processes import logins, numbers
from tests.conftest import Job


@pytest.mark.parametrize("rows", ["200", "10000"])
def test_good_messages_of_the_past_do_not_pay_for_bad_ones(job: Job, rows: str) -> None:
    """A producer's mistake after 1,500 good messages stops the run, whatever the batches are."""
    job.send(*logins(1500), *("{}" for _ in range(1400)))
    summary = job.run(code=3, ETL_BATCH__ROWS=rows, ETL_QUEUE__RECEIVERS="1")
    assert "messages in a row failed a check" in summary["problem"]
    assert summary["quarantined"] <= 500
    assert job.left() == 2900 - summary["loaded"] - summary["quarantined"]
    assert numbers(job)[1] == 0
