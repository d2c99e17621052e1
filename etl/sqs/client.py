"""The queue of the settings, behind a client made from the standard AWS variables."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from etl.config import QueueSettings
from etl.errors import SettingsError
from etl.sqs.attributes import Wanted
from etl.sqs.call_queue import MAX_CALL_THREADS
from etl.sqs.calls import Calls
from etl.sqs.heartbeat import MAX_HEARTBEAT_THREADS
from etl.sqs.queue import Queue
from etl.version import __version__

if TYPE_CHECKING:
    from etl.aws.access import Access

log = logging.getLogger(__name__)

# A call that hangs must not outlast the visibility timeout.
CONNECT_SECONDS = 5
ANSWER_SECONDS = 10

USER_AGENT = f"etl/{__version__}"


def queue_url(settings: QueueSettings) -> str:
    """Return the URL of the queue.

    :raises SettingsError: there is none
    """
    url = (settings.url or "").strip()
    if not url:
        raise SettingsError("no queue: set 'queue.url' in the configuration, or ETL_QUEUE__URL")
    return url


def open_queue(
    settings: QueueSettings, environment: Mapping[str, str], wanted: Wanted | None = None
) -> Queue:
    """Make the queue of the settings. Calls nothing of SQS yet, but gets the credentials.

    :param environment: has the AWS variables
    :param wanted: the attributes of a message that the job reads
    :raises SettingsError: there is no queue URL, or it or the AWS configuration cannot be used
    """
    from botocore.config import Config

    from etl.aws.access import destination, find_access, open_client

    url = queue_url(settings)
    config = Config(
        # These two cost a fifth of the CPU of a call (bench/). Parameters are made only in
        # etl/sqs/queue.py, and botocore builds its own user agent anew for each request.
        parameter_validation=False,
        user_agent=USER_AGENT,
        connect_timeout=CONNECT_SECONDS,
        # Longer than a long poll.
        read_timeout=settings.wait_seconds + ANSWER_SECONDS,
        # One connection for each receiver, heartbeat thread and thread that acknowledges, and for
        # the questions about the queue.
        max_pool_connections=settings.max_receivers + MAX_CALL_THREADS + MAX_HEARTBEAT_THREADS + 2,
    )
    access = find_access("sqs", environment, queue_url=url)
    client = open_client(access, config)
    if settings.transport == "curl":
        client = over_curl(client, access)
    return Queue(Calls(client, destination(access, client, "SQS")), url, wanted)


def over_curl(client: Any, access: Access) -> Any:
    """Make a client whose frequent calls go over libcurl, as far as that can be."""
    from botocore.httpsession import get_cert_path

    from etl.aws.access import is_main_process
    from etl.aws.curl import Curl, Route
    from etl.aws.signing import Signer
    from etl.sqs.transport import Transport

    meta, config = client.meta, client.meta.config
    credentials = access.session.get_credentials()
    parts = urlsplit(meta.endpoint_url)
    # Only botocore knows what to do without credentials, and how it signs such an address.
    if credentials is None or parts.query or not meta.endpoint_url.isascii():
        return client
    route = Route(
        url=meta.endpoint_url,
        ca_file=access.session.ca_bundle or str(get_cert_path(True)),
        connect_seconds=config.connect_timeout,
        read_seconds=config.read_timeout,
        user_agent=USER_AGENT,
        proxy=(config.proxies or {}).get(parts.scheme),
    )
    try:
        curl = Curl(route)
    except ImportError:
        if is_main_process():
            log.warning("pycurl cannot be imported: SQS is called through boto3, which is slower")
        return client
    signer = Signer(meta.endpoint_url, meta.region_name, "sqs")
    return Transport(client, curl, signer, credentials.get_frozen_credentials)
