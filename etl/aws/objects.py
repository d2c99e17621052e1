"""Objects of S3, read into memory: never more of one than is allowed, whatever is announced."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl.errors import PayloadsRefused, PayloadsUnavailable

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from etl.aws.connections import Destination, Fault

MAX_READS = 8  # at the same time
READ_SECONDS = 120.0  # how long one try may take, its body included
CONNECT_SECONDS = 5
ANSWER_SECONDS = 10
CHUNK_BYTES = 16 * 1024

# No producer has an object of this name. Without the right to list, S3 says 403 of it.
ABSENT_KEY = "etl/no-such-object"

_MISSING = ("NoSuchKey", "NoSuchVersion", "InvalidObjectState")  # the last one is in an archive
_PASSING = ("OperationAborted", "RequestTimeTooSkewed", "RequestTimeout", "SlowDown")
_TOO_MANY, _TIMED_OUT, _SERVER_FAULT = 429, 408, 500  # HTTP statuses
_CALL = "get_object"


class NoSuchObjectError(Exception):
    """The object does not exist, or no longer, or must first be restored from an archive."""


class TooLargeError(Exception):
    """The object has more bytes than may be read."""


class ObjectRefused(PayloadsRefused):
    """S3 refuses this object, and perhaps not the others of its bucket."""


class ObjectStore:
    """Reads objects of some buckets. Safe to use from several threads, as botocore's clients are.

    It remembers an object of each bucket that could be read: with it, a missing right can be told
    from a refusal of one object.
    """

    def __init__(self, client: Any, to: Destination) -> None:
        self._client = client
        self._to = to
        self._has_answered = False
        self._readable: dict[str, str] = {}  # a key by its bucket

    def read(self, bucket: str, key: str, max_bytes: int) -> bytearray:
        """Read an object.

        :raises NoSuchObjectError: there is none
        :raises TooLargeError: it has more than *max_bytes*
        :raises ObjectRefused: S3 refuses it
        :raises PayloadsRefused: S3 refuses every object, or cannot be reached by this configuration
        :raises PayloadsUnavailable: S3 does not answer for now, or not to the end
        """
        ends_at = time.monotonic() + READ_SECONDS
        body = self._open(bucket, key)
        try:
            content = self._read(body, max_bytes, ends_at)
        finally:
            body.close()
        self._readable[bucket] = key
        return content

    def check_bucket(self, bucket: str) -> None:
        """Ask for an object that does not exist.

        :raises NoSuchObjectError: both s3:GetObject and s3:ListBucket are allowed
        :raises ObjectRefused: one of these rights is missing
        :raises PayloadsRefused: there is no such bucket, or as :meth:`read`
        :raises PayloadsUnavailable: as :meth:`read`
        """
        self._open(bucket, ABSENT_KEY).close()

    def still_reads(self, bucket: str) -> bool:
        """Whether an object of the bucket that could be read before can still be read.

        :raises PayloadsUnavailable: as :meth:`read`
        """
        key = self._readable.get(bucket)
        if key is None:
            return False
        try:
            self._open(bucket, key).close()
        except (NoSuchObjectError, PayloadsRefused):
            return False
        return True

    def _open(self, bucket: str, key: str) -> Any:
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key)
        except Exception as error:  # noqa: BLE001 (not all that botocore raises is its own)
            raise self._fault(error, bucket) from None
        self._has_answered = True
        return answer["Body"]

    def _read(self, body: Any, max_bytes: int, ends_at: float) -> bytearray:
        content = bytearray()
        try:
            for chunk in body.iter_chunks(CHUNK_BYTES):
                content += chunk
                if len(content) > max_bytes:
                    raise TooLargeError
                if time.monotonic() > ends_at:
                    raise PayloadsUnavailable(
                        f"an object of S3 did not come within {READ_SECONDS:g} s"
                    )
        except (TooLargeError, PayloadsUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 (also what urllib3 raises)
            raise PayloadsUnavailable(
                f"the answer of S3 to {_CALL!r} ended early ({type(error).__name__})"
            ) from None
        return content

    def _fault(self, error: Exception, bucket: str) -> Exception:
        from botocore.exceptions import ClientError

        from etl.aws.faults import credentials_fault, explain

        if not isinstance(error, ClientError):
            return self._failed(explain(error, _CALL, self._to))
        if error.operation_name != "GetObject":
            return self._failed(credentials_fault(error, self._to.profile))
        return self._answered(error, bucket)

    def _answered(self, error: ClientError, bucket: str) -> Exception:
        """What an answer other than success means; the text of the error could quote the key."""
        from etl.aws import answers
        from etl.aws.connections import foreign_answer

        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = f"S3 answered {code!r} (HTTP {status}) to {_CALL!r} in bucket {bucket!r}"
        if answers.is_foreign(code):
            return self._failed(foreign_answer(_CALL, self._to, said))
        self._has_answered = True
        if code in _MISSING:
            return NoSuchObjectError()
        if code == "NoSuchBucket":
            return PayloadsRefused(
                f"{said}: there is no such bucket: check 'queue.payload_buckets' and "
                "AWS_ENDPOINT_URL_S3"
            )
        if answers.refuses_credentials(code):
            words = answers.refusal(code, error.operation_name, "s3", self._to.credentials)
            return PayloadsRefused(f"{said}: {words}")
        passes = code in _PASSING or "Throttl" in code or status in (_TOO_MANY, _TIMED_OUT)
        if passes or status >= _SERVER_FAULT:
            return PayloadsUnavailable(said)
        return ObjectRefused(
            f"{said}: allow s3:GetObject on the objects of bucket {bucket!r} to the credentials"
            f"{self._to.credentials}, and kms:Decrypt on its KMS key if it has one; if they are "
            "allowed, the object may not exist: with s3:ListBucket on the bucket S3 says so, and "
            "its message is quarantined"
        )

    def _failed(self, fault: Fault) -> PayloadsRefused | PayloadsUnavailable:
        from etl.aws.connections import Kind

        is_final = fault.kind is Kind.REFUSAL or (
            fault.kind is Kind.FINAL_AT_START and not self._has_answered
        )
        return PayloadsRefused(fault.text) if is_final else PayloadsUnavailable(fault.text)


def open_store(queue_url: str, environment: Mapping[str, str]) -> ObjectStore:
    """Make what reads objects. Calls nothing of S3 yet, but gets the credentials.

    :param queue_url: its region, if it has one, is that of the buckets
    :param environment: has the AWS variables
    :raises SettingsError: the AWS configuration cannot be used
    """
    from botocore.config import Config

    from etl.aws.access import destination, find_access, open_client
    from etl.aws.regions import region_of_queue

    if region := region_of_queue(queue_url):
        environment = {**environment, "AWS_REGION": region}
    access = find_access("s3", environment)
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        max_pool_connections=MAX_READS + 1,
    )
    client = open_client(access, config)
    return ObjectStore(client, destination(access, client, "S3"))


def check_buckets(store: ObjectStore, buckets: Sequence[str]) -> None:
    """Check that the buckets exist. Whether their objects may be read cannot always be told.

    :raises PayloadsRefused: there is no such bucket, or S3 cannot be used at all
    :raises PayloadsUnavailable: S3 does not answer for now
    """
    for bucket in buckets:
        try:
            store.check_bucket(bucket)
        except (NoSuchObjectError, ObjectRefused):
            continue
