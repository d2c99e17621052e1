"""The queue: whether it exists, and whether its attributes suit the job. Changes nothing.

``results`` takes the settings and :func:`etl.doctor.questions.open_questions`, which asks SQS::

    sqs = open_questions(config.queue, environment)  # may raise SettingsError
    yield from queue.results(config, sqs, tasks=tasks)
    yield from rights.results(config, sqs)

Nothing is received. Both areas share one answer of GetQueueAttributes, and neither asks again
after SQS did not answer.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from etl.aws.connections import shown
from etl.config import Settings
from etl.doctor import dead_letter
from etl.doctor.dead_letter import DAY_SECONDS, MAX_RETENTION_SECONDS, DeadLetterQueue, in_days
from etl.doctor.questions import Answer, Questions, QueueAttributes
from etl.doctor.result import Result, Status, asked
from etl.sqs.client import ANSWER_SECONDS, CONNECT_SECONDS
from etl.sqs.pace import HELD_PER_SECOND
from etl.text import counted

MIN_VISIBILITY_SECONDS = 60
# A run that follows a kill finds the messages hidden for this long.
MAX_VISIBILITY_SECONDS = 3600
GOOD_VISIBILITY_SECONDS = 120

# A night, and one more after a night that failed.
MIN_RETENTION_SECONDS = 2 * DAY_SECONDS

# Of a queue, standard or FIFO. Near it SQS delivers nothing, and says nothing either.
MAX_IN_FLIGHT = 120_000
# The counts are approximate, and there may be other consumers.
NEAR_IN_FLIGHT = 100_000


@dataclass(frozen=True)
class _Facts:
    """What the checks are made from."""

    config: Settings
    tasks: int  # runs on this queue at the same time
    queue: QueueAttributes
    dead: DeadLetterQueue | None


def results(config: Settings, sqs: Questions, *, tasks: int = 1) -> Iterator[Result]:
    """Check the queue of the settings. Receives nothing and changes nothing.

    :param tasks: runs that read the queue at the same time, at least 1
    """
    answer = sqs.attributes
    values = answer.members.get("Attributes") or {}
    queue = QueueAttributes(sqs.url, values)
    exists = _exists(sqs, answer, queue)
    yield exists
    if exists.status != "ok":
        for name in (*CHECKS, "queue.redrive"):
            yield Result(name, "unknown", "SQS gives no attributes", "see queue.exists")
        return
    dead = dead_letter.find_dead_letter_queue(sqs, queue)
    facts = _Facts(config, tasks, queue, dead)
    for name, check in CHECKS.items():
        yield asked(name, partial(check, facts))
    yield from dead_letter.results(queue, dead)


def _exists(sqs: Questions, answer: Answer, queue: QueueAttributes) -> Result:
    check = "queue.exists"
    if answer.problem:
        # Of the queue nothing is known without the right to ask, or while SQS throttles. Whatever
        # else it is, a run would end with it.
        may_exist = answer.is_denied or (answer.code and not answer.advice)
        status: Status = "unknown" if may_exist else "fail"
        return Result(check, status, answer.problem, answer.advice)
    if "VisibilityTimeout" not in queue.values:
        return Result(
            check,
            "fail",
            f"what answers at {shown(sqs.to.url)} is not SQS, as it gives no visibility timeout",
            "check AWS_ENDPOINT_URL",
        )
    kind = "FIFO" if queue.is_fifo else "standard"
    parts = queue.arn.split(":")
    region, account = parts[3:5] if len(parts) > 5 else (sqs.to.region, "unknown")
    return Result(check, "ok", f"{kind} queue {queue.name!r}, region {region}, account {account}")


def _visibility(facts: _Facts) -> Result:
    check = "queue.visibility"
    seconds = facts.queue.number("VisibilityTimeout")
    gather_seconds = facts.config.batch.seconds
    found = f"{seconds:,} s; a batch is gathered for up to {gather_seconds:g} s"
    if seconds < 1:
        return Result(
            check,
            "fail",
            "0 s: every message would come back at once, so no run begins",
            facts.queue.set_command(VisibilityTimeout=GOOD_VISIBILITY_SECONDS),
        )
    # Held messages are extended when half of it has passed. One call may hang as long as this.
    hang_seconds = CONNECT_SECONDS + facts.config.queue.wait_seconds + ANSWER_SECONDS
    least = max(MIN_VISIBILITY_SECONDS, 2 * hang_seconds, 2 * math.ceil(gather_seconds))
    least = min(least, 12 * 3600)
    good = max(least, GOOD_VISIBILITY_SECONDS)
    if seconds < least:
        why = "short for that, and for an extension that hangs: messages may come again meanwhile"
    elif seconds > max(MAX_VISIBILITY_SECONDS, good):
        why = "after a kill its messages stay hidden for so long, and the next run finds none"
    else:
        return Result(check, "ok", found)
    return Result(check, "warn", f"{found}: {why}", facts.queue.set_command(VisibilityTimeout=good))


def _retention(facts: _Facts) -> Result:
    check = "queue.retention"
    seconds = facts.queue.number("MessageRetentionPeriod")
    if seconds >= MIN_RETENTION_SECONDS:
        return Result(check, "ok", in_days(seconds))
    return Result(
        check,
        "warn",
        f"{in_days(seconds)}: SQS deletes what is older, loaded or not, so one night without a "
        "run can lose messages",
        facts.queue.set_command(MessageRetentionPeriod=MAX_RETENTION_SECONDS),
    )


def _ledger(facts: _Facts) -> Result:
    """A message that outlives its id in the ledger could be loaded twice."""
    check = "queue.ledger"
    days = facts.config.ledger.retention_days
    own = facts.queue.number("MessageRetentionPeriod")
    dead_seconds = facts.dead.retention_seconds if facts.dead else 0
    longest = own + (MAX_RETENTION_SECONDS if dead_seconds is None else dead_seconds)
    found = f"the ledger keeps ids for {days} days, and SQS a message for up to {in_days(longest)}"
    if days * DAY_SECONDS > longest:
        return Result(check, "ok", found)
    least = longest // DAY_SECONDS + 1
    advice = f"set ETL_LEDGER__RETENTION_DAYS to {least} or more ('ledger.retention_days')"
    if days * DAY_SECONDS <= own:
        return Result(check, "fail", f"{found}: it could be loaded twice", advice)
    if dead_seconds is None:
        found = f"{found}, if its dead-letter queue does so for 14 days, which is not known"
        return Result(check, "unknown", found, advice)
    found = f"{found}, with its time in the dead-letter queue: it could be loaded twice"
    return Result(check, "warn", found, advice)


def _encryption(facts: _Facts) -> Result:
    check = "queue.encryption"
    key = facts.queue.values.get("KmsMasterKeyId")
    if key:
        return Result(check, "ok", f"SSE-KMS, key {key!r}")
    managed = facts.queue.values.get("SqsManagedSseEnabled")
    if managed == "true":
        return Result(check, "ok", "SSE-SQS")
    if managed is None:
        return Result(check, "unknown", "what answers does not say whether messages are encrypted")
    return Result(
        check,
        "warn",
        "none: personal data is stored in the queue as it was sent",
        facts.queue.set_command(SqsManagedSseEnabled="true"),
    )


def _counts(facts: _Facts) -> tuple[int, int, int]:
    """Messages that are visible, in flight and delayed, approximately."""
    names = ("", "NotVisible", "Delayed")
    visible, in_flight, delayed = (
        facts.queue.number(f"ApproximateNumberOfMessages{name}") for name in names
    )
    return visible, in_flight, delayed


def _messages(facts: _Facts) -> Result:
    check = "queue.messages"
    visible, in_flight, delayed = _counts(facts)
    found = f"{visible:,} visible, {in_flight:,} in flight, {delayed:,} delayed"
    if in_flight < NEAR_IN_FLIGHT:
        return Result(check, "ok", found)
    return Result(
        check,
        "warn",
        f"{found}: SQS delivers nothing while {MAX_IN_FLIGHT:,} are in flight",
        "find out who holds them; they come back after the queue's visibility timeout",
    )


def _oldest(facts: _Facts) -> Result:
    """SQS itself does not say it, and a receive that looks would use up a receive."""
    check = "queue.oldest"
    if not any(_counts(facts)):
        return Result(check, "ok", "the queue is empty")
    return Result(
        check,
        "unknown",
        "only CloudWatch knows the age of the oldest message (ApproximateAgeOfOldestMessage)",
        "aws cloudwatch get-metric-statistics --namespace AWS/SQS --metric-name "
        "ApproximateAgeOfOldestMessage --dimensions "
        f"Name=QueueName,Value={shlex.quote(facts.queue.name)} --statistics Maximum --period 300 "
        '--start-time "$(date -u -d -1hour +%FT%TZ)" --end-time "$(date -u +%FT%TZ)"',
    )


def _in_flight(facts: _Facts) -> Result:
    """The messages that all tasks together may hold: two batches for each worker."""
    check = "queue.in_flight"
    config, tasks = facts.config, facts.tasks
    workers = config.run.workers
    visibility_seconds = facts.queue.number("VisibilityTimeout")
    # A worker holds no more than it can extend in time, however large its batches may be.
    held = min(2 * config.batch.rows, HELD_PER_SECOND * visibility_seconds)
    each = min(workers * held, config.run.max_messages or math.inf)
    total = int(tasks * each)
    held_by = f"{counted(tasks, 'task')} may hold {counted(total, 'message')}"
    found = f"{held_by}; SQS allows {MAX_IN_FLIGHT:,} in flight"
    if total <= NEAR_IN_FLIGHT:
        return Result(check, "ok", found)
    rows = NEAR_IN_FLIGHT // (2 * tasks * workers)
    advice = f"set ETL_BATCH__ROWS to {rows} or less ('batch.rows'), or run fewer tasks"
    if rows < 1:
        advice = "run fewer tasks, or fewer workers in each"
    if total <= MAX_IN_FLIGHT:
        return Result(check, "warn", f"{found}, to other consumers too", advice)
    return Result(check, "fail", f"{found}, and delivers nothing beyond", advice)


CHECKS: dict[str, Callable[[_Facts], Result]] = {
    "queue.visibility": _visibility,
    "queue.retention": _retention,
    "queue.ledger": _ledger,
    "queue.encryption": _encryption,
    "queue.messages": _messages,
    "queue.oldest": _oldest,
    "queue.in_flight": _in_flight,
}
