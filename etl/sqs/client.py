"""The queue of the settings, behind a boto3 client made from the standard AWS variables."""

from __future__ import annotations

from etl.config import QueueSettings
from etl.errors import SettingsError
from etl.sqs.call_queue import MAX_CALL_THREADS
from etl.sqs.heartbeat import MAX_HEARTBEAT_THREADS
from etl.sqs.queue import Queue
from etl.version import __version__

# A call that hangs must not outlast the visibility timeout.
CONNECT_SECONDS = 5
ANSWER_SECONDS = 10


def open_queue(settings: QueueSettings) -> Queue:
    """Make the queue of the settings. Calls nothing yet.

    :raises SettingsError: there is no queue URL, no region, or another variable is wrong
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, NoRegionError

    if not settings.url:
        raise SettingsError("no queue: set 'queue.url' in the configuration, or ETL_QUEUE__URL")
    config = Config(
        # These two cost a fifth of the CPU of a call (bench/). Parameters are made only in
        # etl/sqs/queue.py, and boto3 builds its own user agent anew for each request.
        parameter_validation=False,
        user_agent=f"etl/{__version__}",
        connect_timeout=CONNECT_SECONDS,
        # Longer than a long poll.
        read_timeout=settings.wait_seconds + ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 3},
        # One connection for each receiver, heartbeat thread and thread that acknowledges, and for
        # the questions about the queue.
        max_pool_connections=settings.receivers + MAX_CALL_THREADS + MAX_HEARTBEAT_THREADS + 2,
    )
    try:
        return Queue(boto3.client("sqs", config=config), settings.url)
    except NoRegionError:
        raise SettingsError("no AWS region: set AWS_REGION") from None
    except (BotoCoreError, ValueError) as error:
        # Their messages quote addresses, which can have a password in them.
        raise SettingsError(
            f"the AWS variables cannot be used ({type(error).__name__}); check AWS_PROFILE, "
            "AWS_REGION and AWS_ENDPOINT_URL"
        ) from None
