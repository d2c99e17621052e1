"""Start and stop the embedded SQS; for the demo, the tests and the notebooks."""

from __future__ import annotations

import json
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from etl.embedded.lifeline import Child
from etl.errors import EmbeddedError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

REGION = "us-east-1"
CREDENTIAL = "embedded"


def variables(endpoint_url: str) -> dict[str, str]:
    """Return the environment variables that point boto3 to an SQS on this machine."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": CREDENTIAL,
        "AWS_SECRET_ACCESS_KEY": CREDENTIAL,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class EmbeddedSqs:
    """An SQS in a child process, which ends with this object or with this process.

        with EmbeddedSqs() as sqs:
            url = sqs.create_queue("logins")
            sqs.client().send_message(QueueUrl=url, MessageBody="{}")

    :raises EmbeddedError: the child process did not start, or it refused to create a queue.
    """

    def __init__(
        self, redeliver_fraction: float = 0.0, seed: int = 0, *, days_behind: int = 0
    ) -> None:
        """Start the SQS.

        :param redeliver_fraction: the share of deleted messages that are delivered once more
        :param seed: chooses which messages those are
        :param days_behind: by how many days its clock, and so every SentTimestamp, is set back
        """
        self._child = Child(
            "etl.embedded.sqs_server",
            *("--redeliver-fraction", str(redeliver_fraction)),
            *("--seed", str(seed)),
            *("--days-behind", str(days_behind)),
        )
        self.endpoint_url: str = self._child.ready["endpoint_url"]
        self._creator: SQSClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._child.pid

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point boto3, in any process, to this SQS."""
        return variables(self.endpoint_url)

    def client(self) -> SQSClient:
        """Return a new boto3 client for this SQS; the caller closes it."""
        import boto3
        from botocore.config import Config

        # A new session, because threads cannot safely share the default one. No proxy, because the
        # machine's proxy cannot reach the machine's loopback address.
        return boto3.Session().client(
            "sqs",
            region_name=REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=CREDENTIAL,
            aws_secret_access_key=CREDENTIAL,
            config=Config(proxies={}),
        )

    def create_queue(
        self,
        name: str,
        *,
        dead_letter: bool = True,
        max_receive_count: int = 5,
        visibility_seconds: int = 30,
    ) -> str:
        """Create a queue, with ``<name>-dead`` as its dead-letter queue; return its URL.

        A name that ends in ``.fifo`` makes both FIFO queues.

        :param dead_letter: whether to create the dead-letter queue
        :raises EmbeddedError: SQS refuses, for instance because the queue exists with other
            attributes.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        # Kept, because making a client takes a good part of a second.
        client = self._creator = self._creator or self.client()
        try:
            attributes = {"VisibilityTimeout": str(visibility_seconds), **_type(name)}
            if dead_letter:
                attributes["RedrivePolicy"] = _redrive_policy(client, name, max_receive_count)
            return client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
        except (BotoCoreError, ClientError) as error:
            raise EmbeddedError(
                f"the embedded SQS did not create queue {name!r}: {error}"
            ) from error

    def close(self) -> None:
        """Stop the server and wait until it has ended; its queues and messages are lost."""
        self._close_client()
        self._child.stop()

    def kill(self) -> None:
        """Kill the server (SIGKILL)."""
        self._close_client()
        self._child.kill()

    def _close_client(self) -> None:
        if self._creator:
            self._creator.close()


def queue_arn(client: SQSClient, url: str) -> str:
    """Ask SQS for the ARN of a queue."""
    described: Any = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(described["Attributes"]["QueueArn"])


def _type(name: str) -> dict[str, str]:
    """The attribute that makes a queue of this name a FIFO queue, if it is one."""
    return {"FifoQueue": "true"} if name.endswith(".fifo") else {}


def _redrive_policy(client: SQSClient, name: str, max_receive_count: int) -> str:
    """Create the dead-letter queue and return the policy that names it."""
    stem, dot, fifo = name.partition(".")
    dead: Any = _type(name)
    url = client.create_queue(QueueName=f"{stem}-dead{dot}{fifo}", Attributes=dead)["QueueUrl"]
    arn = queue_arn(client, url)
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": max_receive_count})
