"""The messages that SQS has moved to the dead-letter queue, after too many receives."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from etl.errors import EtlError
from etl.sqs.queue import Queue
from etl.sqs.redrive import RedrivePolicy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeadLetters:
    """A dead-letter queue, and how many messages it holds, approximately."""

    queue: str  # its name
    messages: int


def count_dead_letters(queue: Queue, policy: RedrivePolicy | None) -> DeadLetters | None:
    """Count the messages in the dead-letter queue of a queue.

    :param policy: of the queue
    :returns: None if there is no such queue, or it cannot be asked: the job needs no permission on
        it
    """
    if policy is None:
        return None
    name = policy.dead_letter_queue
    try:
        state = queue.neighbour(name, policy.dead_letter_account).state()
    except (EtlError, LookupError, ValueError) as error:
        # An emulator may answer in another form. This number is not worth a run.
        log.debug("cannot ask the dead-letter queue %s: %s", name, error)
        return None
    return DeadLetters(name, state.visible)
