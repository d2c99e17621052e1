"""The campaign ``upsert``: rows that replace each other, under kills and redelivery.

Every event has a number, and a later event of a device has a greater one and was sent later. So in
the end each device's row must hold the greatest number that was sent of it. That is all that the
model knows.
"""

from __future__ import annotations

import json
import random
import time

import sqlalchemy as sa

from etl import config
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url
from tests.chaos.checker import TokenOpener
from tests.chaos.crash_plans import crashing_plans
from tests.chaos.messages import Messages
from tests.chaos.producer import MAX_BATCH_ENTRIES
from tests.chaos.services import open_testbed
from tests.chaos.testbed import TICK_SECONDS, Result, Size, Testbed, fail_unless

TABLE = {
    "name": "latest",
    "on_conflict": "update",
    "key": ["masked_device"],
    "columns": [
        {"name": "masked_device", "field": "device", "type": "text", "mask": True},
        {"name": "number", "field": "number", "type": "integer"},
        {"name": "sent_at", "attribute": "SentTimestamp", "type": "timestamp"},
    ],
}
# More than one call sends, so that no two events of a device are sent in the same millisecond.
DEVICES = 97
TOP_UP = 1000
MAX_EXAMPLES = 5


def upsert(seed: int, size: Size) -> Result:
    """Kill four workers that replace the same few rows, and deliver many events again."""
    planned = {
        "sigkill": size.of(100, 6),
        "redelivered": size.of(3000, 20),
        "replaced": size.of(5000, 50),
        "came too late": size.of(500, 5),
    }
    plans = crashing_plans(random.Random(f"upsert {seed}"))
    settings = {"ETL_BATCH__ROWS": "200", "ETL_BATCH__SECONDS": "1"}
    messages = Messages(seed)
    with open_testbed("upsert", messages, visibility_seconds=6, settings=settings) as testbed:
        # The workers take their environment from this one.
        path = testbed.folder / "latest.yaml"
        path.write_text(json.dumps({"table": TABLE}))
        testbed.environment["ETL_CONFIG"] = str(path)
        _create_table(testbed)
        testbed.sqs.set_rates(redelivered=0.1)
        sent = _send(testbed, 0, size.of(40_000, 2000))
        while testbed.fired["sigkill"] < planned["sigkill"]:
            testbed.fired["sigkill"] += sum(ended.is_kill for ended in testbed.workers.reap())
            for slot in testbed.workers.free_slots:
                testbed.workers.start(slot, next(plans))
            # A worker that finds no messages reaches no crash point.
            if testbed.producer.visible() < TOP_UP:
                sent = _send(testbed, sent, TOP_UP)
            testbed.report_progress()
            time.sleep(TICK_SECONDS / 2)
        testbed.drain()
        counts = "select sum(loaded), sum(updated), sum(skipped) from etl.runs"
        loaded, replaced, late = map(int, testbed.sql(counts)[0])
        testbed.fired |= {"replaced": replaced, "came too late": late}
        stored = _stored(testbed)
        expected = {
            _device(testbed, number): number for number in range(max(sent - DEVICES, 0), sent)
        }
        wrong = [device for device, number in expected.items() if stored.get(device) != number]
        testbed.figures |= {"sent": sent, "wrong": len(wrong)}
        is_kept = (
            not wrong
            and len(stored) == len(expected)
            and loaded == sent
            and loaded - replaced - late == len(stored)
        )
        return fail_unless(is_kept, testbed.result(planned))


def _create_table(testbed: Testbed) -> None:
    settings = config.load(testbed.folder / "latest.yaml", {})
    engine = sa.create_engine(driver_url(testbed.database_url), poolclass=sa.NullPool)
    create_tables(engine, settings.table)
    engine.dispose()


def _device(testbed: Testbed, number: int) -> str:
    return f"{testbed.history.messages.canary.word} {number % DEVICES}"


def _send(testbed: Testbed, first: int, count: int) -> int:
    """Send the next events, each call in a later millisecond than the one before; returns the end.

    They are not in the testbed's history, because its checker expects a row of each message.
    """
    end = first + count
    for start in range(first, end, MAX_BATCH_ENTRIES):
        entries = [
            {
                "Id": str(number),
                "MessageBody": json.dumps({"device": _device(testbed, number), "number": number}),
            }
            for number in range(start, min(start + MAX_BATCH_ENTRIES, end))
        ]
        if testbed.producer.call("SendMessageBatch", Entries=entries).get("Failed"):
            raise RuntimeError("SQS did not accept the messages")
        time.sleep(0.002)
    return end


def _stored(testbed: Testbed) -> dict[str, int]:
    """The number in the row of each device; -1 if it has several rows."""
    opener = TokenOpener(testbed.environment["ETL_KEYRING"])
    stored: dict[str, int] = {}
    for token, number in testbed.sql("select masked_device, number from latest"):
        device = str(opener.open(token, "device"))
        stored[device] = -1 if device in stored else number
    return stored
