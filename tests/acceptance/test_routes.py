"""A job with several tables that is killed: each event is in its table once, and in no other."""

from __future__ import annotations

import json
import multiprocessing
import signal

import pytest

from etl import config, job
from tests.acceptance.job_processes import until
from tests.chaos.crash_points import CrashPoint, install
from tests.conftest import KEYRING
from tests.integration.test_jobs import MakeJob, OneJob, make_job  # noqa: F401  (a fixture)
from tests.integration.test_routes import click, ids, left, order, shop  # noqa: F401  (a fixture)


def run_to_crash(path: str, environment: dict[str, str], point: str, nth: int) -> None:
    """Drain the queue in this process, which kills itself at a point."""
    from pathlib import Path

    import etl.batch  # noqa: F401  (has what the points are put into)

    install(CrashPoint(point, nth))
    job.run(config.load(Path(path), environment), environment)


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("merge after", 1),
        pytest.param("COMMIT after", 1, marks=pytest.mark.long),
        pytest.param("stage after", 1, marks=pytest.mark.long),
        pytest.param("merge before", 2, marks=pytest.mark.long),
        pytest.param("COMMIT before", 1, marks=pytest.mark.long),
    ],
)
def test_each_event_is_in_its_table_once_after_a_kill(
    shop: OneJob,  # noqa: F811
    point: str,
    nth: int,
) -> None:
    """Between the rows of the two tables, and between their commit and the acknowledgement."""
    shop.changed({"event": {"split": "array"}})
    shop.client.set_queue_attributes(QueueUrl=shop.queue_url, Attributes={"VisibilityTimeout": "3"})
    for number in range(5):
        shop.send_text(json.dumps([order(number), click(number)]))
    environment = {**shop.environment, "ETL_KEYRING": KEYRING.dump()}
    process = multiprocessing.get_context("spawn").Process(
        target=run_to_crash, args=(str(shop.path), environment, point, nth)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    committed = point == "COMMIT after"
    assert ids(shop, "orders") == ids(shop, "clicks") == ([*range(5)] if committed else [])
    until(lambda: visible(shop) == 5)
    counts = shop.run(event={"split": "array"}).counts
    assert (counts.received, counts.already_handled) == (5, 5 if committed else 0)
    assert ids(shop, "orders") == ids(shop, "clicks") == [*range(5)]
    assert left(shop) == 0


def visible(shop: OneJob) -> int:  # noqa: F811
    """The number of messages that a consumer could receive now."""
    name = "ApproximateNumberOfMessages"
    answer = shop.client.get_queue_attributes(QueueUrl=shop.queue_url, AttributeNames=[name])
    return int(answer["Attributes"][name])
