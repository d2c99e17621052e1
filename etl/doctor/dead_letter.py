"""Where messages go that a run could not handle: the redrive policy and the dead-letter queue."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from etl.doctor.questions import Answer, Questions, QueueAttributes
from etl.doctor.result import Result, Status, asked
from etl.sqs.redrive import RedrivePolicy
from etl.text import counted

MAX_RETENTION_SECONDS = 14 * 86_400  # SQS allows no more
DAY_SECONDS = 86_400

# A failed run, a look with --dry-run and a look in the console use up a receive each.
ENOUGH_RECEIVES = 5


@dataclass(frozen=True)
class DeadLetterQueue:
    """The dead-letter queue, as far as it may be looked at."""

    policy: RedrivePolicy
    attributes: QueueAttributes | None
    refusal: Answer  # why there are no attributes
    is_absent: bool = False

    @property
    def retention_seconds(self) -> int | None:
        """How long it keeps a message; None if that is not known.

        :raises QueueRefused: what answers does not say it
        """
        return self.attributes.number("MessageRetentionPeriod") if self.attributes else None


def find_dead_letter_queue(sqs: Questions, queue: QueueAttributes) -> DeadLetterQueue | None:
    """Look at the dead-letter queue of a queue; None if its redrive policy names none."""
    policy = queue.redrive
    if policy is None:
        return None
    # The same two calls as a run makes, so they need the same two rights.
    found = sqs.ask(
        "get_queue_url",
        QueueName=policy.dead_letter_queue,
        QueueOwnerAWSAccountId=policy.dead_letter_account,
    )
    url = found.members.get("QueueUrl")
    if url:
        found = sqs.ask("get_queue_attributes", QueueUrl=url, AttributeNames=["All"])
    values = found.members.get("Attributes")
    attributes = QueueAttributes(url, values) if url and values else None
    is_absent = found.code in ("NonExistentQueue", "QueueDoesNotExist")
    return DeadLetterQueue(policy, attributes, found, is_absent)


def results(queue: QueueAttributes, dead: DeadLetterQueue | None) -> Iterator[Result]:
    """Check the redrive policy and, if it names a dead-letter queue, that queue."""
    yield _redrive(queue)
    if dead is None:
        return
    yield asked("queue.dead_letter_retention", partial(_retention, queue, dead))
    yield asked("queue.dead_letters", partial(_depth, dead))


def _redrive(queue: QueueAttributes) -> Result:
    check = "queue.redrive"
    policy = queue.redrive
    if policy is None and queue.values.get("RedrivePolicy"):
        return Result(check, "unknown", "the queue's RedrivePolicy cannot be read")
    if policy is None:
        return Result(
            check,
            "warn",
            "no dead-letter queue: a message that no run can handle comes again until it expires",
            "create a dead-letter queue, and set the queue's RedrivePolicy with a maxReceiveCount "
            f"of {ENOUGH_RECEIVES} or more",
        )
    receives = policy.max_receive_count
    found = f"{policy.dead_letter_queue!r} after {counted(receives, 'receive')} (maxReceiveCount)"
    if receives < ENOUGH_RECEIVES:
        return Result(
            check,
            "warn",
            f"{found}: each run that is killed and each look at the messages uses up one",
            f"set maxReceiveCount to {ENOUGH_RECEIVES} or more in the queue's RedrivePolicy",
        )
    return Result(check, "ok", found)


def _retention(queue: QueueAttributes, dead: DeadLetterQueue) -> Result:
    check = "queue.dead_letter_retention"
    if dead.attributes is None:
        return _not_seen(check, dead)
    own = queue.number("MessageRetentionPeriod")
    kept = dead.attributes.number("MessageRetentionPeriod")
    found = f"{in_days(kept)}; the queue itself keeps messages for {in_days(own)}"
    if kept > own or kept == own == MAX_RETENTION_SECONDS:
        return Result(check, "ok", found)
    advice = dead.attributes.set_command(MessageRetentionPeriod=MAX_RETENTION_SECONDS)
    if queue.is_fifo:
        # There the time begins anew when a message is moved.
        return Result(check, "warn", found, advice)
    status: Status = "fail" if kept < own else "warn"
    why = "SQS counts from the first send, so a message may expire as soon as it is moved"
    return Result(check, status, f"{found}: {why}", advice)


def _depth(dead: DeadLetterQueue) -> Result:
    check = "queue.dead_letters"
    if dead.attributes is None:
        return _not_seen(check, dead)
    name = dead.policy.dead_letter_queue
    names = ("", "NotVisible", "Delayed")
    messages = sum(dead.attributes.number(f"ApproximateNumberOfMessages{n}") for n in names)
    if not messages:
        return Result(check, "ok", f"{name!r} is empty")
    return Result(
        check,
        "warn",
        f"{name!r} holds {counted(messages, 'message')}",
        # By default the ledger knows only the ids, and a move gives new ones.
        "find the cause in the log and in 'etl history', and correct it; if some are loaded "
        "already (deletes were refused), run the job once on that queue: a move would load them "
        "twice; otherwise move them back: aws sqs start-message-move-task --source-arn "
        f"{shlex.quote(dead.policy.dead_letter_arn)}",
    )


def _not_seen(check: str, dead: DeadLetterQueue) -> Result:
    """What to say of a dead-letter queue that cannot be looked at."""
    name = dead.policy.dead_letter_queue
    if dead.is_absent:
        # SQS says the same of a queue that these credentials may not see.
        return Result(
            check,
            "warn",
            f"there is no queue {name!r}, or these credentials may not see it: "
            f"{dead.refusal.problem}",
            "create it, or correct the queue's RedrivePolicy, or allow sqs:GetQueueUrl and "
            f"sqs:GetQueueAttributes on {dead.policy.dead_letter_arn}",
        )
    advice = dead.refusal.advice
    if dead.refusal.is_denied:
        # A run goes on without them.
        advice = (
            "to see it, allow sqs:GetQueueUrl and sqs:GetQueueAttributes on "
            f"{dead.policy.dead_letter_arn}"
        )
    problem = dead.refusal.problem or "what answers gives no attributes"
    return Result(check, "unknown", f"{name!r}: {problem}", advice)


def in_days(seconds: int) -> str:
    """A retention period in words."""
    days = seconds / DAY_SECONDS
    if days < 1:
        return f"{seconds:,} s"
    return "1 day" if days == 1 else f"{days:.4g} days"
