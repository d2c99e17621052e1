"""Makes the frequent calls to SQS over libcurl, and leaves everything else to botocore.

A call is made once, on a kept-alive connection. If it has a complete answer of the expected form,
that is the answer. Whatever else comes, botocore makes the call again, and what it returns or
raises counts: its retries, its errors, and what :mod:`etl.sqs.calls` says of them. The three calls
may be repeated, and botocore does so itself.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from etl.aws.curl import Curl, CurlError, Failure
from etl.aws.signing import Signer

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

log = logging.getLogger(__name__)

# After this many calls for which only botocore could connect, and none for which libcurl could, it
# is not tried again: it does not know a way that botocore knows.
MAX_MISSES = 3

# AWS refuses a signature when the clocks differ by five minutes.
MAX_SKEW_SECONDS = 240
_MAY_BE_SKEW = (400, 403)  # HTTP statuses


class Operation(NamedTuple):
    """A call that goes over libcurl."""

    target: str  # its name in the JSON protocol
    member: str  # of the answer: the list that is used
    is_ordinary: Callable[[Any], bool]  # whether an entry of it has the expected form


class Transport:
    """Has the methods of a botocore client. Safe to use from several threads, and after a fork."""

    def __init__(
        self,
        client: Any,
        curl: Curl,
        signer: Signer,
        credentials: Callable[[], ReadOnlyCredentials],
    ) -> None:
        """Make the calls of a botocore client.

        :param credentials: gets them; may renew them, and raise what botocore raises
        """
        self._client = client
        self._curl = curl
        self._signer = signer
        self._credentials = credentials
        self._skew_seconds = 0.0  # what SQS's clock is ahead of this one, once it has said so
        self._has_connected = False
        self._misses = 0
        for name, operation in OPERATIONS.items():
            setattr(self, name, partial(self._call, name, operation))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _call(self, name: str, operation: Operation, **parameters: Any) -> Any:
        failure = None
        if self._has_connected or self._misses < MAX_MISSES:
            try:
                answer = self._try(operation, parameters)
            except CurlError as error:
                failure = self._checked(error)
            else:
                if answer is not None:
                    return answer
        return self._repeat(name, operation, parameters, failure)

    def _try(self, operation: Operation, parameters: dict[str, Any]) -> dict[str, Any] | None:
        """Make a call; return its answer, or None if botocore must say what is the matter.

        :raises CurlError: there was no answer
        """
        try:
            body = orjson.dumps(parameters)
            now = time.time() + self._skew_seconds
            headers = self._signer.headers(operation.target, body, self._credentials(), now)
            status, text = self._curl.post(headers, body)
        except CurlError:
            raise
        except Exception as error:  # noqa: BLE001 (credentials may raise anything)
            # botocore meets it too, and what it raises is known.
            log.debug("a call is left to botocore (%s)", type(error).__name__)
            return None
        self._has_connected = True
        return read_answer(text, operation) if status == 200 else None

    def _checked(self, error: CurlError) -> Failure:
        """Raise the failures that must not be repeated; return the others."""
        url = self._client.meta.endpoint_url
        if error.failure is Failure.TIMED_OUT:
            # To wait for botocore as well could take longer than the messages stay hidden.
            raise ReadTimeoutError(endpoint_url=url) from None
        if error.failure is Failure.TOO_LARGE:
            # botocore would read it to its end, if it has one.
            raise ResponseParserError("the answer is too large") from None
        return error.failure

    def _repeat(
        self, name: str, operation: Operation, parameters: dict[str, Any], failure: Failure | None
    ) -> Any:
        """Let botocore make the call. It does not correct a wrong clock, so that is done here."""
        try:
            answer = getattr(self._client, name)(**parameters)
        except ClientError as error:
            if (answer := self._with_other_clock(error, operation, parameters)) is None:
                raise
            return answer
        # The clock of this machine is right, or right again.
        self._skew_seconds = 0.0
        if failure is Failure.NOT_CONNECTED and not self._has_connected:
            self._misses += 1
            if self._misses == MAX_MISSES:
                log.warning("libcurl cannot connect where boto3 can; going on with boto3 only")
        return answer

    def _with_other_clock(
        self, error: ClientError, operation: Operation, parameters: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Make a call again, signed at the time of the answer, if that is another than ours."""
        skew = _skew_seconds(error, time.time())
        if abs(skew) < MAX_SKEW_SECONDS:
            return None
        before, self._skew_seconds = self._skew_seconds, skew
        try:
            answer = self._try(operation, parameters)
        except CurlError:
            answer = None
        if answer is None:
            self._skew_seconds = before
        elif abs(skew - before) >= MAX_SKEW_SECONDS:
            log.warning(
                "this machine's clock is %.0f s %s SQS's; correct it (calls are signed with the "
                "time of SQS's answers meanwhile)",
                abs(skew),
                "behind" if skew > 0 else "ahead of",
            )
        return answer


def _skew_seconds(error: ClientError, now: float) -> float:
    """How far the clock of an answer is ahead of ours; 0 if it does not matter, or is not known."""
    metadata: Any = error.response.get("ResponseMetadata", {})
    if metadata.get("HTTPStatusCode") not in _MAY_BE_SKEW:
        return 0.0
    try:
        return parsedate_to_datetime(metadata["HTTPHeaders"]["date"]).timestamp() - now
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


def read_answer(text: bytes, operation: Operation) -> dict[str, Any] | None:
    """Read an answer as botocore does; None if it is not of the form that this operation has."""
    try:
        try:
            answer = orjson.loads(text)
        except ValueError:
            # It refuses lone surrogates and a few more things that json, and so botocore, takes.
            answer = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    entries = answer.get(operation.member)
    if entries is None:
        return {}
    is_ordinary = isinstance(entries, list) and all(map(operation.is_ordinary, entries))
    return answer if is_ordinary else None


def _is_message(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("MessageId"), str)
        and isinstance(entry.get("ReceiptHandle"), str)
        and isinstance(entry.get("Attributes", {}), dict)
    )


def _is_failed_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("Id"), str)
        and isinstance(entry.get("Code"), str)
        and isinstance(entry.get("SenderFault"), bool)
    )


OPERATIONS = {
    "receive_message": Operation("AmazonSQS.ReceiveMessage", "Messages", _is_message),
    "delete_message_batch": Operation("AmazonSQS.DeleteMessageBatch", "Failed", _is_failed_entry),
    "change_message_visibility_batch": Operation(
        "AmazonSQS.ChangeMessageVisibilityBatch", "Failed", _is_failed_entry
    ),
}
