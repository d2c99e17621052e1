"""What botocore's exceptions mean: one line that names the cause, and whether waiting helps.

Their own texts quote addresses, headers and the output of programs, so most are not shown.
"""

from __future__ import annotations

import enum
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard
from urllib.parse import urlsplit

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from etl.aws import answers
from etl.aws.endpoints import shown
from etl.aws.regions import nearest_region

CHECK = "check the network, AWS_REGION and AWS_ENDPOINT_URL"
_NO_SUCH_NAME = {
    number for name in ("EAI_NONAME", "EAI_NODATA") if (number := getattr(socket, name, None))
}
# A TLS handshake that was cut short may succeed the next time.
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_TLS_RECORDS = ("\x15\x03", "\x16\x03")  # how an alert and a handshake begin, in an HTTP answer

# The others are refusals: they come from the configuration, and come again. ConnectionError and
# HTTPClientError stand for all their subclasses.
OUTAGES = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.CapacityNotAvailableError,
    boto.ChecksumError,
    boto.IncompleteReadError,
)
# What gave credentials before may give them again.
FINAL_AT_START = (
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.NoCredentialsError,
    boto.TokenRetrievalError,
    ResponseParserError,
)


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
    known_regions: Callable[[], Sequence[str]] = field(default=list, repr=False)


def is_transient_at_start(error: Exception) -> bool:
    """Whether credentials may come later: the service that gives them cannot be reached."""
    return isinstance(error, boto.ConnectionError | boto.HTTPClientError) and _final(error) is None


def explain(error: Exception, call: str, to: Destination) -> Fault:
    """Explain what a call raised, if it is not an error that the service has answered.

    :param call: its name
    """
    if isinstance(error, ResponseParserError):
        return foreign_answer(call, to)
    if _is_of_connection(error, to):
        return _connection_fault(error, call, to)
    return credentials_fault(error, to.profile)


def _is_of_connection(error: Exception, to: Destination) -> TypeGuard[boto.BotoCoreError]:
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


def _connection_fault(error: boto.BotoCoreError, call: str, to: Destination) -> Fault:
    where = f"at {shown(to.url)}, region {to.region!r}"
    begin = f"no answer from {to.service} to {call!r}"
    final = _final(error)
    if final:
        return Fault(f"{begin} {where}: {_final_words(final, error, to)}", Kind.FINAL_AT_START)
    proxy = " through the proxy" if isinstance(error, boto.ProxyConnectionError) else ""
    kind = type(error).__name__
    return Fault(f"{begin} {where}{proxy} ({kind}); {CHECK}", Kind.OUTAGE)


def credentials_fault(error: Exception, profile: str) -> Fault:
    """Explain why there are no credentials, in words without a secret.

    :param profile: the one in use
    """
    final = isinstance(error, FINAL_AT_START) or not isinstance(error, boto.BotoCoreError)
    if isinstance(error, OUTAGES):
        kind = Kind.OUTAGE
    else:
        kind = Kind.FINAL_AT_START if final else Kind.REFUSAL
    return Fault(_credentials_words(error, profile), kind)


def _credentials_words(error: Exception, profile: str) -> str:
    if isinstance(error, boto.ClientError):
        return _token_service_words(error, profile)
    if isinstance(error, boto.SSOError | boto.TokenRetrievalError):
        return (
            f"the SSO login of profile {profile!r} has expired or was never made: run "
            f"'aws sso login --profile {profile}'"
        )
    if isinstance(error, boto.LoginInsufficientPermissions):
        return f"the login of profile {profile!r} needs the right signin:CreateOAuth2Token"
    if isinstance(error, boto.LoginError):
        return (
            f"the login of profile {profile!r} has expired or was never made: run "
            f"'aws login --profile {profile}'"
        )
    if isinstance(error, boto.CredentialRetrievalError):
        return _retrieval_words(str(error.kwargs.get("provider")), profile)
    if isinstance(error, boto.PartialCredentialsError):
        missing = error.kwargs.get("cred_var")
        return f"profile {profile!r} has incomplete AWS credentials: {missing} is missing"
    if isinstance(error, boto.RefreshWithMFAUnsupportedError):
        return (
            f"the role of profile {profile!r} asks for an MFA code: use credentials that a program "
            "can renew"
        )
    if isinstance(error, boto.InvalidConfigError):
        return f"profile {profile!r} cannot be used: {_one_line(error)}"  # has names only
    if isinstance(error, boto.MissingDependencyException):
        return f"profile {profile!r} needs more of botocore: pip install 'botocore[crt]'"
    if isinstance(error, boto.MetadataRetrievalError):
        return "the metadata service of this machine gave no credentials of its role"
    if isinstance(error, boto.InvalidIMDSEndpointError | boto.InvalidIMDSEndpointModeError):
        return "AWS_EC2_METADATA_SERVICE_ENDPOINT, or its mode, cannot be used: correct or unset it"
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError):
        url = shown(str(error.kwargs.get("endpoint_url", "")))
        return (
            f"no answer from {url}, which gives the AWS credentials of profile {profile!r} "
            f"({type(error).__name__}); {CHECK}"
        )
    return f"the AWS credentials of profile {profile!r} cannot be loaded ({type(error).__name__})"


def _token_service_words(error: boto.ClientError, profile: str) -> str:
    """A refusal by STS or SSO, which give credentials for a role."""
    code, operation = str(error.response.get("Error", {}).get("Code")), error.operation_name
    service = "sso" if operation == "GetRoleCredentials" else "sts"
    words = answers.refusal(code, operation, service)
    if answers.short_code(code) in ("AccessDenied", "Forbidden", "Unauthorized"):
        words = (
            f"allow {answers.action_of(operation, service)} on the role, and name who assumes it "
            "in its trust policy"
        )
    hint = f": {words}" if words else ""
    return (
        f"no credentials for the role of profile {profile!r} or AWS_ROLE_ARN; AWS answered "
        f"{code!r} to {operation!r}{hint}"
    )


def _retrieval_words(provider: str, profile: str) -> str:
    if provider == "custom-process":
        return (
            f"the credential_process of profile {profile!r} failed, or printed something else than "
            "credentials: run its command to see why"
        )
    if provider == "container-role":
        return (
            "the credentials of this container's role cannot be read from the address in "
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or AWS_CONTAINER_CREDENTIALS_FULL_URI"
        )
    return f"no credentials for profile {profile!r} from {provider!r}"


def process_fault(error: Exception, profile: str) -> str | None:
    """Explain what a credential_process raised that is not botocore's; None if it is not that."""
    command = f"the credential_process of profile {profile!r}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{command} cannot be run: {error.filename!r}: {error.strerror}"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return f"{command} did not print JSON: run its command to see what it prints"
    if type(error).__name__ == "TimeoutExpired":
        return f"{command} did not end: run its command to see what it waits for"
    if isinstance(error, ValueError | AttributeError | TypeError):
        return f"{command} is not a command, or does not print credentials as JSON"
    return None


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


def _final(error: BaseException) -> BaseException | None:
    """The cause of a failed connection, if it is one that the next try will meet too."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_NAME:
            return cause
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _CUT):
            return cause if cause.reason else None  # a timeout has none
        if isinstance(cause, http.client.BadStatusLine) and _is_tls(str(cause)):
            return cause
        if isinstance(cause, UnicodeError) or type(cause).__name__ == "LocationParseError":
            return cause
    return None


def _is_tls(line: str) -> bool:
    """Whether what came in place of a status line is TLS, as it is or as its repr."""
    return line.strip("'").startswith(_TLS_RECORDS) or any(
        repr(record)[1:-1] in line for record in _TLS_RECORDS
    )


def _final_words(cause: BaseException, error: boto.BotoCoreError, to: Destination) -> str:
    if isinstance(error, boto.ProxyConnectionError):
        return "the proxy in HTTPS_PROXY or HTTP_PROXY does not exist or cannot be trusted"
    host = urlsplit(to.url).hostname
    if isinstance(cause, socket.gaierror):
        close = nearest_region(to.region, to.known_regions())
        return f"there is no host {host!r}{close}; check AWS_REGION and AWS_ENDPOINT_URL"
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".").replace('"', "'")
