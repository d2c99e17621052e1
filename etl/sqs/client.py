"""The boto3 client, and what an error of SQS means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from etl.config import QueueSettings
from etl.errors import QueueRefused, QueueUnavailable, SettingsError
from etl.version import __version__

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# A call that hangs must not outlast the visibility timeout.
CONNECT_SECONDS, ANSWER_SECONDS = 5, 10
THREADS_TO_EXTEND = 4  # extensions under way at once; nearly always there is nothing to extend
# Refusals that no waiting mends. Everything else (throttling, 5xx, the network) may pass.
REFUSALS = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "AccessDenied",
        "AccessDeniedException",
        "InvalidAddress",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "IncompleteSignature",
        "KmsAccessDenied",
        "KmsDisabled",
        "KmsInvalidKeyUsage",
        "KmsInvalidState",
        "KmsNotFound",
        "KmsOptInRequired",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "UnsupportedOperation",
    }
)
# How AWS begins its text when a request was signed five minutes or more before or after it came,
# under the codes InvalidSignatureException and SignatureDoesNotMatch, which a wrong key has too. It
# passes when the clock is set, or when it was the process that stood still.
OUT_OF_TIME = ("Signature expired", "Signature not yet current")


def make_client(settings: QueueSettings) -> SQSClient:
    """Make the client from the standard AWS variables; calls nothing yet.

    :raises SettingsError: no region
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import NoRegionError

    config = Config(
        # Both cost CPU on every call, a fifth together (bench/): the parameters are made in
        # etl.sqs.queue only, and the usual user agent is put together anew for each request.
        parameter_validation=False,
        user_agent=f"etl/{__version__}",
        connect_timeout=CONNECT_SECONDS,
        # It must outlast a long poll.
        read_timeout=settings.wait_seconds + ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 3},
        # Receivers, acknowledgements and the heartbeat each want a connection.
        max_pool_connections=2 * settings.receivers + 1 + THREADS_TO_EXTEND,
    )
    try:
        return boto3.client("sqs", config=config)
    except NoRegionError:
        raise SettingsError("no AWS region: set AWS_REGION") from None


def call_sqs(call: Callable[..., Any], **arguments: Any) -> Any:
    """Call a method of the client; raise what its failure means, without what was sent."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        return call(**arguments)
    except ClientError as error:
        told = error.response.get("Error", {})
        code = told.get("Code", "unknown")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if str(told.get("Message", "")).startswith(OUT_OF_TIME):
            raise QueueUnavailable(
                f"SQS refuses the time of a signature (HTTP {status}, {_name(call)!r}): set this "
                "machine's clock, unless the process stood still"
            ) from None
        # The error's own text can repeat what was sent; its code cannot.
        kind = QueueRefused if code in REFUSALS else QueueUnavailable
        raise kind(f"SQS answered {code!r} (HTTP {status}) to {_name(call)!r}") from None
    except (NoCredentialsError, NoRegionError) as error:
        raise QueueRefused(
            f"{type(error).__name__}: set AWS_REGION and AWS credentials in the environment"
        ) from None
    except BotoCoreError as error:
        raise QueueUnavailable(f"{type(error).__name__} in {_name(call)!r}") from None


def _name(call: Callable[..., Any]) -> str:
    return getattr(call, "__name__", "call")
