"""An SQS that does not answer: what is waited out, and what can never be reached."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from etl.aws.access import destination, find_access, open_client
from etl.aws.connections import Destination, Kind, shown
from etl.aws.faults import explain
from etl.errors import ConfigurationError, QueueRefused, QueueUnavailable
from etl.sqs.first_answer import first_answer
from etl.sqs.limits import Stop
from tests.unit.aws_server import KEYS, SECRET, certificate, queue, serve

TO = Destination("SQS", "https://sqs.eu-west-1.amazonaws.com", "eu-west-1", "nightly")
REFUSED = "http://127.0.0.1:9"


def test_an_sqs_that_refuses_the_connection_is_named_with_address_and_region() -> None:
    """Without what may be a password in the address; it is waited for."""
    asked = queue({**KEYS, "AWS_ENDPOINT_URL": f"http://me:{SECRET}@127.0.0.1:9"})
    with pytest.raises(QueueUnavailable) as caught:
        asked.state()
    assert str(caught.value) == (
        f"no answer from SQS to 'get_queue_attributes' at {REFUSED}, region 'eu-west-1' "
        "(EndpointConnectionError); check the network, AWS_REGION and AWS_ENDPOINT_URL"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"https://me:{SECRET}@sqs:9324/{SECRET}?a={SECRET}", "https://sqs:9324"),
        ("http://[::1]:9324/q", "http://[::1]:9324"),
        (f"http://me:{SECRET}@sqs:port", "an address that is not shown"),
    ],
)
def test_only_the_place_of_an_address_is_shown(url: str, expected: str) -> None:
    """The rest can have a password in it."""
    assert shown(url) == expected


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the name server answer by an error, whose number can be put into the list."""
    error = [socket.EAI_NONAME]

    def getaddrinfo(*_: object, **__: object) -> Any:
        raise socket.gaierror(error[0], "as the test says")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return error


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_NODATA])
def test_a_host_that_does_not_exist_fails_at_once(number: int, no_host: list[int]) -> None:
    """It is a matter of the configuration: nothing was received."""
    no_host[0] = number
    asked = queue({**KEYS, "AWS_ENDPOINT_URL": "https://sqs.eu-wset-1.amazonaws.com"})
    with pytest.raises(ConfigurationError) as caught:
        first_answer(asked.state, 60, Stop())
    assert str(caught.value) == (
        "no answer from SQS to 'get_queue_attributes' at https://sqs.eu-wset-1.amazonaws.com, "
        "region 'eu-west-1': there is no host 'sqs.eu-wset-1.amazonaws.com'; check AWS_REGION and "
        "AWS_ENDPOINT_URL"
    )


def test_a_region_that_does_not_exist_suggests_another(no_host: list[int]) -> None:
    """Its host does not exist."""
    url = "https://sqs.eu-wset-1.amazonaws.com/123456789012/logins"
    asked = queue({**KEYS, "AWS_REGION": "eu-wset-1"}, url)
    with pytest.raises(QueueRefused, match="did you mean 'eu-west-1'"):
        asked.state()


def test_a_name_server_that_does_not_answer_is_an_outage(no_host: list[int]) -> None:
    """The name may exist."""
    no_host[0] = socket.EAI_AGAIN
    with pytest.raises(QueueUnavailable, match="EndpointConnectionError"):
        queue(KEYS).state()


def test_a_host_that_is_gone_during_a_run_is_an_outage(no_host: list[int]) -> None:
    """It was there, so its name may come back."""
    asked = queue(KEYS)
    asked._calls._has_answered = True
    with pytest.raises(QueueUnavailable, match="there is no host"):
        asked.state()


def test_a_proxy_that_does_not_exist_fails_at_once(no_host: list[int]) -> None:
    """And its password is not shown."""
    asked = queue({**KEYS, "HTTPS_PROXY": f"http://me:{SECRET}@proxy.example:3128"})
    with pytest.raises(QueueRefused) as caught:
        asked.state()
    assert "the proxy in HTTPS_PROXY or HTTP_PROXY does not exist" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_proxy_that_does_not_answer_is_an_outage() -> None:
    """It is said that it was the proxy."""
    asked = queue({**KEYS, "HTTPS_PROXY": f"http://me:{SECRET}@127.0.0.1:9"})
    with pytest.raises(QueueUnavailable, match="through the proxy") as caught:
        asked.state()
    assert "check HTTPS_PROXY or HTTP_PROXY; hosts that need no proxy belong" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "is_hinted"), [("https://sqs:9324", True), (TO.url, False), ("http://sqs:9324", False)]
)
def test_a_handshake_without_an_answer_may_be_with_a_server_without_tls(
    url: str, is_hinted: bool
) -> None:
    """Such a server waits for the rest of what it takes for a request."""
    environment = {**KEYS, "AWS_ENDPOINT_URL": url}
    access = find_access("sqs", environment)
    to = destination(access, open_client(access), "SQS")
    fault = explain(ReadTimeoutError(endpoint_url=url, error=None), "receive_message", to)
    assert fault.kind is Kind.OUTAGE
    assert ("has no TLS, use http://" in fault.text) == is_hinted


@pytest.mark.parametrize(
    ("address", "days", "problem"),
    [
        ("127.0.0.1", 1, r"is not trusted \(self-signed certificate\); set AWS_CA_BUNDLE"),
        ("127.0.0.1", -1, "has expired|is not trusted"),  # OpenSSL names one of its two faults
    ],
)
def test_a_certificate_that_is_not_trusted_fails_at_once(
    address: str, days: int, problem: str, tmp_path: Path
) -> None:
    """The cause is the one that OpenSSL gives."""
    with serve(200, "{}", tls=certificate(tmp_path, address, days)) as url:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": url})
        with pytest.raises(ConfigurationError, match=f"its certificate {problem}"):
            first_answer(asked.state, 60, Stop())


@pytest.mark.parametrize(
    ("address", "days", "problem"),
    [
        ("127.0.0.2", 1, "its certificate is that of another host"),
        ("127.0.0.1", -1, "has expired: renew it, or correct this machine's clock"),
    ],
)
def test_a_trusted_certificate_may_not_fit(
    address: str, days: int, problem: str, tmp_path: Path
) -> None:
    """It is of another host, or has expired."""
    with serve(200, "{}", tls=certificate(tmp_path, address, days)) as url:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": url, "AWS_CA_BUNDLE": str(tmp_path / "ca.pem")})
        with pytest.raises(QueueRefused, match=problem):
            asked.state()


def test_the_ca_bundle_of_the_environment_is_trusted(tmp_path: Path) -> None:
    """So the call arrives."""
    with serve(404, "no", tls=certificate(tmp_path)) as url:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": url, "AWS_CA_BUNDLE": str(tmp_path / "ca.pem")})
        with pytest.raises(QueueRefused, match="SQS answered '404'"):
            asked.state()


def test_tls_to_a_server_without_it_fails_at_once() -> None:
    """Such as https:// in the address of an emulator."""
    with serve(200, "{}") as url:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": url.replace("http:", "https:")})
        with pytest.raises(ConfigurationError, match=r"TLS is impossible .* use http:// in AWS_EN"):
            first_answer(asked.state, 60, Stop())


def test_plain_http_to_a_server_with_tls_fails_at_once() -> None:
    """Such as http:// in the address of a VPC endpoint: the server answers by an alert of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.getsockname()[1]}"})
        with pytest.raises(ConfigurationError, match=r"speaks TLS: use https:// in AWS_ENDPOINT_"):
            first_answer(asked.state, 60, Stop())
        thread.join()


def test_a_connection_that_is_closed_may_be_one_without_tls() -> None:
    """A server that speaks TLS may also just close it."""
    error = ConnectionClosedError(endpoint_url=REFUSED, error=None)
    fault = explain(error, "receive_message", Destination("SQS", REFUSED, "eu-west-1"))
    assert fault.kind is Kind.OUTAGE
    assert fault.text.endswith("if the server there speaks TLS, use https:// in AWS_ENDPOINT_URL")


def test_a_handshake_that_was_cut_short_is_an_outage() -> None:
    """The next one may succeed."""
    cut = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    fault = explain(SSLError(endpoint_url=TO.url, error=cut), "receive_message", TO)
    assert fault.kind is Kind.OUTAGE


# Every exception of botocore is decided on here. A new one in another version fails this test.
OUTAGES = {
    "CapacityNotAvailableError", "ChecksumError", "ConnectTimeoutError", "ConnectionClosedError",
    "ConnectionError", "EndpointConnectionError", "HTTPClientError", "IncompleteReadError",
    "ProxyConnectionError", "ReadTimeoutError", "ResponseStreamingError", "SSLError",
}  # fmt: skip
FINAL_AT_START = {
    "CredentialRetrievalError", "MetadataRetrievalError", "NoCredentialsError",
    "TokenRetrievalError",
}  # fmt: skip
REFUSALS = {
    "AliasConflictParameterError",
    "ApiVersionNotFoundError",
    "AwsChunkedWrapperError",
    "BaseEndpointResolverError",
    "ConfigNotFound",
    "ConfigParseError",
    "DataNotFoundError",
    "EndpointDiscoveryException",
    "EndpointDiscoveryRefreshFailed",
    "EndpointDiscoveryRequired",
    "EndpointProviderError",
    "EndpointResolutionError",
    "EndpointVariantError",
    "FlexibleChecksumError",
    "InfiniteLoopConfigError",
    "InvalidChecksumConfigError",
    "InvalidConfigError",
    "InvalidDNSNameError",
    "InvalidDefaultsMode",
    "InvalidEndpointConfigurationError",
    "InvalidEndpointDiscoveryConfigurationError",
    "InvalidExpressionError",
    "InvalidHostLabelError",
    "InvalidIMDSEndpointError",
    "InvalidIMDSEndpointModeError",
    "InvalidMaxRetryAttemptsError",
    "InvalidProxiesConfigError",
    "InvalidRegionError",
    "InvalidRetryConfigurationError",
    "InvalidRetryModeError",
    "InvalidS3AddressingStyleError",
    "InvalidS3UsEast1RegionalEndpointConfigError",
    "InvalidSTSRegionalEndpointsConfigError",
    "LoginAuthorizationCodeError",
    "LoginError",
    "LoginInsufficientPermissions",
    "LoginRefreshRequired",
    "LoginTokenLoadError",
    "MD5UnavailableError",
    "MissingDependencyException",
    "MissingParametersError",
    "NoAuthTokenError",
    "NoRegionError",
    "OperationNotPageableError",
    "PaginationError",
    "ParamValidationError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "RangeError",
    "RefreshWithMFAUnsupportedError",
    "SSOError",
    "SSOTokenLoadError",
    "ServiceNotInRegionError",
    "StubAssertionError",
    "StubResponseError",
    "UnStubbedResponseError",
    "UnauthorizedSSOTokenError",
    "UnknownClientMethodError",
    "UnknownCredentialError",
    "UnknownEndpointError",
    "UnknownEndpointResolutionBuiltInName",
    "UnknownFIPSEndpointError",
    "UnknownKeyError",
    "UnknownParameterError",
    "UnknownRegionError",
    "UnknownServiceError",
    "UnknownServiceStyle",
    "UnknownSignatureVersionError",
    "UnknownTokenProviderError",
    "UnseekableStreamError",
    "UnsupportedOutpostResourceError",
    "UnsupportedS3AccesspointConfigurationError",
    "UnsupportedS3ArnError",
    "UnsupportedS3ConfigurationError",
    "UnsupportedS3ControlArnError",
    "UnsupportedS3ControlConfigurationError",
    "UnsupportedServiceProtocolsError",
    "UnsupportedSignatureVersionError",
    "ValidationError",
    "WaiterConfigError",
    "WaiterError",
}
WORDS = {
    "SSOError": "aws sso login --profile nightly",
    "SSOTokenLoadError": "aws sso login --profile nightly",
    "UnauthorizedSSOTokenError": "aws sso login --profile nightly",
    "TokenRetrievalError": "aws sso login --profile nightly",
    "LoginError": "aws login --profile nightly",
    "LoginRefreshRequired": "aws login --profile nightly",
    "LoginTokenLoadError": "aws login --profile nightly",
    "LoginAuthorizationCodeError": "aws login --profile nightly",
    "LoginInsufficientPermissions": "signin:CreateOAuth2Token",
    "RefreshWithMFAUnsupportedError": "MFA",
    "MetadataRetrievalError": "the metadata service",
}


def subclasses(kind: type[BotoCoreError]) -> set[type[BotoCoreError]]:
    """All exceptions of botocore below this one; other libraries add their own."""
    below = {kind for kind in kind.__subclasses__() if kind.__module__.startswith("botocore.")}
    return below.union(*map(subclasses, below))


class Anything(dict[str, str]):
    """The parts of any message, of which each may be a secret."""

    def __missing__(self, name: str) -> str:
        return SECRET


def made(kind: type[BotoCoreError]) -> BotoCoreError:
    """An exception of this class, with a secret in each part of its message."""
    error = kind.__new__(kind)
    Exception.__init__(error, kind.fmt.format_map(Anything()))
    error.kwargs = {"endpoint_url": TO.url, "error": OSError(SECRET)}
    return error


@pytest.mark.parametrize(
    "kind",
    sorted(subclasses(BotoCoreError), key=lambda kind: kind.__name__),
    ids=lambda k: k.__name__,
)
def test_every_exception_of_botocore_is_decided_on(kind: type[BotoCoreError]) -> None:
    """In one line that names what to do, and no part of its own message."""
    name = kind.__name__
    fault = explain(made(kind), "receive_message", TO)
    sets = {
        Kind.OUTAGE: OUTAGES,
        Kind.FINAL_AT_START: FINAL_AT_START,
        Kind.REFUSAL: REFUSALS,
    }
    assert [kind for kind, names in sets.items() if name in names] == [fault.kind]
    assert "\n" not in fault.text
    assert WORDS.get(name, "") in fault.text
    if not issubclass(kind, botocore.exceptions.InvalidConfigError):  # names only, see its raisers
        assert SECRET not in fault.text


@pytest.mark.parametrize("error", [RuntimeError(SECRET), KeyError(SECRET), ResponseParserError()])
def test_other_exceptions_of_botocore_are_no_traceback(error: Exception) -> None:
    """It raises what is not its own, for instance when refreshed credentials have expired too."""
    fault = explain(error, "receive_message", TO)
    assert fault.kind is Kind.FINAL_AT_START
    assert SECRET not in fault.text


def test_a_service_that_gives_credentials_is_told_from_sqs() -> None:
    """It is another address that did not answer."""
    error = EndpointConnectionError(endpoint_url="https://sts.eu-west-1.amazonaws.com/", error=None)
    fault = explain(error, "receive_message", TO)
    assert fault.kind is Kind.OUTAGE
    assert fault.text.startswith(
        "no answer from https://sts.eu-west-1.amazonaws.com, which gives the AWS credentials of "
        "profile 'nightly' (EndpointConnectionError)"
    )
