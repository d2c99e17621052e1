"""What it means that a service had no answer: the name, the connection, TLS or the proxy.

The texts of the exceptions quote addresses, which can have a password in them.
"""

from __future__ import annotations

import enum
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeGuard
from urllib.parse import urlsplit

from botocore import exceptions as boto
from urllib3.exceptions import LocationParseError
from urllib3.util.ssl_match_hostname import CertificateError

CHECK = "check the network, AWS_REGION and AWS_ENDPOINT_URL"
NO_PROXY = (
    "hosts that need no proxy belong in NO_PROXY, which takes names and their endings, no ranges "
    "of addresses"
)
# OpenSSL's numbers for a certificate that is not trusted for another reason than its signature.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_HOST = (62, 64)  # by name, by address
_NO_SUCH_NAME = {
    number for name in ("EAI_NONAME", "EAI_NODATA") if (number := getattr(socket, name, None))
}
# A TLS handshake that was cut short may succeed the next time.
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_TLS_RECORDS = ("\x15\x03", "\x16\x03")  # how an alert and a handshake begin, in an HTTP answer


class Kind(enum.Enum):
    """Whether waiting helps."""

    REFUSAL = enum.auto()
    FINAL_AT_START = enum.auto()  # a refusal, unless the same has worked before in this process
    OUTAGE = enum.auto()


@dataclass(frozen=True)
class Fault:
    """What an exception means."""

    text: str
    kind: Kind


@dataclass(frozen=True)
class Destination:
    """Where calls go, and as whom."""

    service: str  # in words, such as SQS
    url: str = field(repr=False)  # may have a password in it
    region: str
    profile: str = "default"
    credentials: str = ""  # which ones, in words that follow "the credentials"
    is_aws: bool = True  # its host is one of AWS, not for instance that of an emulator
    suggestion: Callable[[], str] = str  # words for another region, if the host does not exist


def shown(url: str) -> str:
    """The scheme, host and port of a URL: there may be a password in its other parts."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that is not shown"
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def is_of_connection(error: Exception, to: Destination) -> TypeGuard[boto.BotoCoreError]:
    """Whether the service itself had no answer, and not one that gives credentials for it."""
    if not isinstance(error, boto.ConnectionError | boto.HTTPClientError):
        return False
    url = error.kwargs.get("endpoint_url")
    return url is None or urlsplit(str(url)).netloc == urlsplit(to.url).netloc


def foreign_answer(call: str, to: Destination, said: str = "") -> Fault:
    """Explain an answer that is not one of AWS.

    :param said: what was answered, in words
    """
    begin = said or f"the answer to {call!r} cannot be read"
    return Fault(
        f"{begin}: what answers at {shown(to.url)} may not be {to.service}; check AWS_ENDPOINT_URL "
        "and the proxy",
        Kind.FINAL_AT_START,
    )


def connection_fault(error: boto.BotoCoreError, call: str, to: Destination) -> Fault:
    """Explain why a call had no answer.

    :param call: its name
    """
    where = f"at {shown(to.url)}, region {to.region!r}"
    begin = f"no answer from {to.service} to {call!r}"
    final = final_cause(error)
    if final:
        return Fault(f"{begin} {where}: {_final_words(final, error, to)}", Kind.FINAL_AT_START)
    kind = type(error).__name__
    if isinstance(error, boto.ProxyConnectionError):
        words = f"through the proxy ({kind}); check HTTPS_PROXY or HTTP_PROXY; {NO_PROXY}"
        return Fault(f"{begin} {where} {words}", Kind.OUTAGE)
    hint = ""
    if isinstance(error, boto.ConnectionClosedError) and to.url.startswith("http:"):
        hint = "; if the server there speaks TLS, use https:// in AWS_ENDPOINT_URL"
    if isinstance(error, boto.ReadTimeoutError) and to.url.startswith("https:") and not to.is_aws:
        hint = "; if the server there has no TLS, use http:// in AWS_ENDPOINT_URL"
    return Fault(f"{begin} {where} ({kind}); {CHECK}{hint}", Kind.OUTAGE)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exceptions behind one of botocore's, from the outside in."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [*cause.args, cause.__cause__, getattr(cause, "original_error", None)]
        if isinstance(cause, boto.BotoCoreError):
            waiting.append(cause.kwargs.get("error"))


def final_cause(error: BaseException) -> BaseException | None:
    """The cause of a failed connection, if it is one that the next try will meet too."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_NAME:
            return cause
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _CUT):
            # A timeout has no reason. A server's own trouble may pass.
            return cause if cause.reason and "INTERNAL_ERROR" not in cause.reason else None
        if isinstance(cause, http.client.BadStatusLine) and _is_tls(str(cause)):
            return cause
        if isinstance(cause, CertificateError):
            return cause
        if isinstance(cause, UnicodeError | LocationParseError):
            return cause
    return None


def _is_tls(line: str) -> bool:
    """Whether what came in place of a status line is TLS, as it is or as its repr."""
    return line.strip("'").startswith(_TLS_RECORDS) or any(
        repr(record)[1:-1] in line for record in _TLS_RECORDS
    )


def _verify_code(cause: BaseException) -> int | None:
    return cause.verify_code if isinstance(cause, ssl.SSLCertVerificationError) else None


def _final_words(cause: BaseException, error: boto.BotoCoreError, to: Destination) -> str:
    if isinstance(error, boto.ProxyConnectionError):
        return (
            "the proxy in HTTPS_PROXY or HTTP_PROXY does not exist or cannot be trusted; "
            f"{NO_PROXY}"
        )
    host = urlsplit(to.url).hostname
    if isinstance(cause, socket.gaierror):
        return f"there is no host {host!r}{to.suggestion()}; check AWS_REGION and AWS_ENDPOINT_URL"
    if isinstance(cause, CertificateError) or _verify_code(cause) in _OTHER_HOST:
        return "its certificate is that of another host; check AWS_ENDPOINT_URL"
    if _verify_code(cause) in (_EXPIRED, _NOT_YET_VALID):
        when = "has expired" if _verify_code(cause) == _EXPIRED else "is not valid yet"
        return f"its certificate {when}: renew it, or correct this machine's clock"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({cause.verify_message}); set AWS_CA_BUNDLE to a file "
            "with the certificate of the authority that signed it"
        )
    if isinstance(cause, ssl.SSLError):
        return (
            f"TLS is impossible ({cause.reason}); if it is a server without TLS, use http:// in "
            "AWS_ENDPOINT_URL"
        )
    if isinstance(cause, http.client.BadStatusLine):
        return "the server there speaks TLS: use https:// in AWS_ENDPOINT_URL"
    return f"{host!r} is not the name of a host; check AWS_ENDPOINT_URL and the proxy's variables"
