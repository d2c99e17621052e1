"""The queue of the settings, behind a client made from the standard AWS variables."""

from __future__ import annotations

from collections.abc import Mapping

from etl.config import QueueSettings
from etl.errors import SettingsError
from etl.sqs.call_queue import MAX_CALL_THREADS
from etl.sqs.calls import Calls
from etl.sqs.heartbeat import MAX_HEARTBEAT_THREADS
from etl.sqs.queue import Queue
from etl.version import __version__

# A call that hangs must not outlast the visibility timeout.
CONNECT_SECONDS = 5
ANSWER_SECONDS = 10


def open_queue(settings: QueueSettings, environment: Mapping[str, str]) -> Queue:
    """Make the queue of the settings. Calls nothing of SQS yet, but gets the credentials.

    :param environment: has the AWS variables
    :raises SettingsError: there is no queue URL, or it or the AWS configuration cannot be used
    """
    from botocore.config import Config

    from etl.aws.access import destination, find_access, open_client

    url = (settings.url or "").strip()
    if not url:
        raise SettingsError("no queue: set 'queue.url' in the configuration, or ETL_QUEUE__URL")
    config = Config(
        # These two cost a fifth of the CPU of a call (bench/). Parameters are made only in
        # etl/sqs/queue.py, and botocore builds its own user agent anew for each request.
        parameter_validation=False,
        user_agent=f"etl/{__version__}",
        connect_timeout=CONNECT_SECONDS,
        # Longer than a long poll.
        read_timeout=settings.wait_seconds + ANSWER_SECONDS,
        # One connection for each receiver, heartbeat thread and thread that acknowledges, and for
        # the questions about the queue.
        max_pool_connections=settings.max_receivers + MAX_CALL_THREADS + MAX_HEARTBEAT_THREADS + 2,
    )
    access = find_access("sqs", environment, queue_url=url)
    client = open_client(access, config)
    return Queue(Calls(client, destination(access, client, "SQS")), url)
