"""Checks the signature of a request as AWS does: by computing it anew from what has arrived."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Protocol

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

MAX_SKEW = dt.timedelta(minutes=5)

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/, ]+)/(?P<day>\d{8})/(?P<region>[^/]+)/sqs/"
    r"aws4_request, SignedHeaders=(?P<signed>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)
# What AWS requires to be signed, if it is sent.
_NEEDED = {"host", "x-amz-date", "x-amz-security-token", "x-amz-target", "content-type"}


class HttpRequest(Protocol):
    """A request as it has arrived, with header names in small letters."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Each name with its value."""

    @property
    def body(self) -> bytes:
        """What was sent."""


def signature_problem(
    request: HttpRequest, secret: str, now: dt.datetime | None = None, path: str = "/"
) -> str | None:
    """What is wrong with a request's signature; None if it is right.

    :param now: the time of the service, in UTC; None to allow any time
    """
    parts = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if parts is None:
        return "no signature of version 4"
    signed = parts["signed"].split(";")
    if signed != sorted(signed) or not _NEEDED & request.headers.keys() <= {*signed}:
        return "a header is not signed"
    when = request.headers["x-amz-date"]
    signed_at = dt.datetime.strptime(when, "%Y%m%dT%H%M%S%z")
    if now is not None and abs(now - signed_at) > MAX_SKEW:
        return "the time is too far off"
    headers = {name: request.headers[name] for name in signed}
    again = AWSRequest("POST", f"http://{headers['host']}{path}", headers, request.body)
    again.context["timestamp"] = when
    signer = SigV4Auth(Credentials(parts["key"], secret), "sqs", parts["region"])
    text = signer.string_to_sign(again, signer.canonical_request(again))
    right = signer.signature(text, again) == parts["signature"] and parts["day"] == when[:8]
    return None if right else "the signature is another"
