"""The campaign ``redrive``: kills and restarts on a queue that allows each message three receives.

A message that was received three times and not deleted goes to the dead-letter queue at the next
receive. None may, since each of them can be handled: after every third receive of a message its
worker has GRACE_SECONDS in which it is not killed and has its database. A row takes ROW_SECONDS to
load. So a worker that holds two batches of a usual size has handled them long before, and a worker
that holds as many as there are has not.
"""

from __future__ import annotations

import math
import random
import time

from tests.chaos.injected_faults import slow_down_loads
from tests.chaos.messages import Messages
from tests.chaos.services import open_testbed
from tests.chaos.testbed import TICK_SECONDS, Result, Size, Testbed

MAX_RECEIVE_COUNT = 3
VISIBILITY_SECONDS = 4
ROW_SECONDS = 0.005
GRACE_SECONDS = 10.0
LIFE_SECONDS = (0.2, 3.0)  # from its first message until a worker is killed, if it may be then
AGAIN_SECONDS = 0.3  # until the next attempt to kill a worker that may not be killed now
RECOVERY_SECONDS = 5.0  # after a restart of the database, as promised
RESTART_SECONDS = (8.0, 16.0)  # between two restarts


def redrive(seed: int, size: Size) -> Result:
    """Kill the workers whenever that is fair, and restart the database, until enough happened."""
    planned = {
        "sigkill": size.of(100, 4),
        "restart": size.of(8, 1),
        "last_receive": size.of(8000, 100),
    }
    with open_testbed(
        "redrive",
        Messages(seed, bad_share=0.01),
        worker_count=4 if size.share >= 0.2 else 1,
        visibility_seconds=VISIBILITY_SECONDS,
        max_receive_count=MAX_RECEIVE_COUNT,
        settings={"ETL_BATCH__SECONDS": "1"},
    ) as testbed:
        slow_down_loads(testbed, ROW_SECONDS, per_row=True)
        testbed.send(size.of(15_000, 2600))
        adversary = Adversary(testbed, random.Random(f"redrive {seed}"))
        while any((testbed.fired + testbed.sqs.fired())[kind] < n for kind, n in planned.items()):
            adversary.act(restart=testbed.fired["restart"] < planned["restart"])
            if testbed.left() < 500:
                testbed.send(500)
            testbed.report_progress()
            time.sleep(TICK_SECONDS / 2)
        adversary.let_everybody_live()
        testbed.drain()
        return testbed.result(planned)


class Adversary:
    """Kills workers and restarts the database as often as the rules allow."""

    def __init__(self, testbed: Testbed, draw: random.Random) -> None:
        self._testbed = testbed
        self._draw = draw
        self._calm_since = 0.0  # monotonic seconds: since when the database is there
        self._received: dict[int, int] = {}  # messages, by slot, before its worker was started
        self._kill_at: dict[int, float] = {}  # by slot, once its worker has received a message
        self._restart_at = time.monotonic() + self._draw.uniform(*RESTART_SECONDS)

    def act(self, *, restart: bool) -> None:
        """Start workers, and kill those whose time has come.

        :param restart: restart the database too, if its time has come
        """
        workers = self._testbed.workers
        self._testbed.fired["sigkill"] += sum(ended.is_kill for ended in workers.reap())
        received = self._testbed.sqs.received()
        for slot in workers.free_slots:
            self._testbed.sqs.unfreeze(slot)
            workers.start(slot)
            self._received[slot] = received[slot]
            self._kill_at.pop(slot, None)
        for slot in workers.busy_slots:
            if slot not in self._kill_at and received[slot] > self._received[slot]:
                self._kill_at[slot] = time.monotonic() + self._draw.uniform(*LIFE_SECONDS)
            elif time.monotonic() >= self._kill_at.get(slot, math.inf):
                self._kill_if_fair(slot)
        if restart and time.monotonic() >= self._restart_at:
            self._restart()

    def let_everybody_live(self) -> None:
        """Kill nobody any more."""
        for slot in self._testbed.workers.busy_slots:
            self._testbed.sqs.unfreeze(slot)

    def _kill_if_fair(self, slot: int) -> None:
        # From here on it receives nothing, so that the answer stays true until it is dead.
        seconds = self._testbed.sqs.freeze(slot)
        calm = time.monotonic() - self._calm_since
        if seconds is None or min(seconds, calm) > GRACE_SECONDS:
            self._kill_at[slot] = math.inf
            self._testbed.workers.kill(slot)
        else:
            self._testbed.sqs.unfreeze(slot)
            self._kill_at[slot] = time.monotonic() + AGAIN_SECONDS

    def _restart(self) -> None:
        self._testbed.postgres.restart(self._draw.choice(("immediate", "fast")))
        self._testbed.fired["restart"] += 1
        self._calm_since = time.monotonic() + RECOVERY_SECONDS
        self._restart_at = time.monotonic() + self._draw.uniform(*RESTART_SECONDS)
