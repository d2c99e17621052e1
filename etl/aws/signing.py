"""Signs calls of AWS's JSON protocol by Signature Version 4, as botocore does, but from constants.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from botocore.utils import normalize_url_path

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

_DEFAULT_PORTS = {"http": 80, "https": 443}
CONTENT_TYPE = "application/x-amz-json-1.0"
_SIGNED = "content-type;host;x-amz-date;x-amz-target"
_SIGNED_WITH_TOKEN = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"  # noqa: S105


class _Key(NamedTuple):
    """What is the same for all calls of one day with the same credentials."""

    credentials: ReadOnlyCredentials
    day: str
    signing_key: bytes
    scope: str
    signed: str
    token_line: str  # of the canonical request
    authorization: str  # the beginning of the header
    headers: tuple[str, ...]


class Signer:
    """The signatures of one service in one region. Safe to use from several threads."""

    def __init__(self, url: str, region: str, service: str) -> None:
        """Prepare to sign calls.

        :param url: where they are sent; it has no query
        """
        self._host = host_header(url)
        # AWS signs the path as it is sent, with its special characters quoted once more.
        self._path = quote(normalize_url_path(urlsplit(url).path), safe="/~")
        self._region = region
        self._service = service
        self._key: _Key | None = None  # the newest

    def headers(
        self, target: str, body: bytes, credentials: ReadOnlyCredentials, seconds: float
    ) -> list[str]:
        """The header lines of a POST.

        :param target: the operation, such as ``AmazonSQS.ReceiveMessage``
        :param seconds: the time of the call, since 1970 UTC
        :raises ValueError: the credentials have a character that no header can have
        """
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
        key = self._key
        if key is None or key.day != when[:8] or key.credentials != credentials:
            self._key = key = self._new_key(credentials, when[:8])
        # Header names in order, each with its value; an empty line; the names alone; the body.
        canonical = (
            f"POST\n{self._path}\n\ncontent-type:{CONTENT_TYPE}\nhost:{self._host}\n"
            f"x-amz-date:{when}\n{key.token_line}x-amz-target:{target}\n\n{key.signed}\n"
            f"{sha256(body).hexdigest()}"
        )
        digest = sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{when}\n{key.scope}\n{digest}"
        signature = hmac.digest(key.signing_key, text.encode(), "sha256").hex()
        return [
            f"X-Amz-Target: {target}",
            f"X-Amz-Date: {when}",
            f"{key.authorization}{signature}",
            *key.headers,
        ]

    def _new_key(self, credentials: ReadOnlyCredentials, day: str) -> _Key:
        token = credentials.token
        for value in (str(credentials.access_key), token or ""):
            if not (value.isascii() and value.isprintable()):
                raise ValueError("the credentials have a character that no header can have")
        key = signing_key(str(credentials.secret_key), day, self._region, self._service)
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        signed = _SIGNED_WITH_TOKEN if token else _SIGNED
        headers = [f"Content-Type: {CONTENT_TYPE}", f"Host: {self._host}"]
        if token:
            headers.append(f"X-Amz-Security-Token: {token}")
        return _Key(
            credentials=credentials,
            day=day,
            signing_key=key,
            scope=scope,
            signed=signed,
            token_line=f"x-amz-security-token:{' '.join(token.split())}\n" if token else "",
            authorization=(
                f"Authorization: AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
                f"SignedHeaders={signed}, Signature="
            ),
            headers=tuple(headers),
        )


def signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """The key that signs the calls of one day, which is eight digits, to one service."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def host_header(url: str) -> str:
    """The Host header of a URL: in small letters, and its port unless that is the usual one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    usual = parts.port is None or parts.port == _DEFAULT_PORTS.get(parts.scheme)
    return host if usual else f"{host}:{parts.port}"
