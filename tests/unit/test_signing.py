"""The signatures are those of botocore, whatever is signed."""

from __future__ import annotations

import datetime as dt
from typing import Any
from unittest.mock import patch

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.aws.signing import CONTENT_TYPE, Signer

MIB = 1024 * 1024
SECONDS = 1_700_000_000

# What a header can have; botocore and we write tokens as they are.
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
TOKENS = st.none() | st.just("") | PRINTABLE | st.text("a +/=", min_size=1, max_size=2000)
HOSTS = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,40}[a-zA-Z0-9])?", fullmatch=True) | st.just(
    "[::1]"
)
PORTS = st.sampled_from(["", ":80", ":443"]) | st.integers(1, 65535).map(":{}".format)
PATHS = st.just("") | st.text("abcXYZ019-._~!$&'()+,*;=:@%/", max_size=40).map("/{}".format)
URLS = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https"]), HOSTS, PORTS, PATHS)
REGIONS = st.from_regex(r"[a-z]{2}(-[a-z]{1,9}){1,2}-\d", fullmatch=True) | PRINTABLE
BODIES = st.binary(max_size=3000) | st.text(max_size=500).map(lambda t: t.encode(errors="replace"))
LARGE = st.integers(0, 64).map(lambda n: b"x" * (MIB - n))
TARGETS = st.from_regex(r"AmazonSQS\.[A-Za-z]{1,40}", fullmatch=True)
TIMES = st.integers(0, 4_000_000_000)
# A secret is only hashed, so it may be any text.
CREDENTIALS = st.builds(ReadOnlyCredentials, PRINTABLE, st.text(max_size=60), TOKENS)
CALLS = st.tuples(URLS, REGIONS, TARGETS, BODIES, CREDENTIALS, TIMES)


def by_botocore(
    url: str, region: str, target: str, body: bytes, credentials: ReadOnlyCredentials, seconds: int
) -> dict[str, str]:
    """The headers that botocore sends with such a call."""
    headers = {"Content-Type": CONTENT_TYPE, "X-Amz-Target": target}
    request = AWSRequest("POST", url, headers, body)
    now = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None)
    with patch("botocore.auth.get_current_datetime", lambda: now):
        SigV4Auth(credentials, "sqs", region).add_auth(request)
    return dict(request.headers.items())


def check(
    url: str, region: str, target: str, body: bytes, credentials: ReadOnlyCredentials, seconds: int
) -> None:
    """Compare all headers but Host, which botocore leaves to http.client."""
    lines = Signer(url, region, "sqs").headers(target, body, credentials, seconds)
    ours = dict(line.split(": ", 1) for line in lines)
    del ours["Host"]
    assert ours == by_botocore(url, region, target, body, credentials, seconds)


@given(CALLS)
@settings(max_examples=300, deadline=None)
def test_a_signature_is_that_of_botocore(call: tuple[Any, ...]) -> None:
    """For any address, region, body, credentials and time."""
    check(*call)


@pytest.mark.long
@pytest.mark.timeout(1200)
@given(CALLS)
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_signatures_are_those_of_botocore(call: tuple[Any, ...]) -> None:
    """As above."""
    check(*call)


@given(LARGE, CREDENTIALS)
@settings(max_examples=20, deadline=None)
def test_a_large_body_is_signed_as_by_botocore(
    body: bytes, credentials: ReadOnlyCredentials
) -> None:
    """Up to a mebibyte."""
    check("https://sqs:9324/a", "eu-west-1", "AmazonSQS.X", body, credentials, SECONDS)


def test_a_signer_follows_the_day_and_the_credentials() -> None:
    """It keeps what was computed from them."""
    signer = Signer("http://sqs", "eu-west-1", "sqs")
    first = ReadOnlyCredentials("A", "secret", None)
    renewed = ReadOnlyCredentials("A", "secret", "token")
    for credentials in (first, renewed, first):
        for seconds in (SECONDS, SECONDS + 1, SECONDS + 86_400, SECONDS):
            lines = signer.headers("AmazonSQS.X", b"{}", credentials, seconds)
            expected = by_botocore(
                "http://sqs", "eu-west-1", "AmazonSQS.X", b"{}", credentials, seconds
            )
            assert f"Authorization: {expected['Authorization']}" in lines


@pytest.mark.parametrize(
    "credentials",
    [
        ReadOnlyCredentials("A\nX-Other: 1", "secret", None),
        ReadOnlyCredentials("A", "secret", "token\r\nX-Other: 1"),
        ReadOnlyCredentials("A", "secret", "tokén"),
    ],
)
def test_credentials_make_no_header_of_their_own(credentials: ReadOnlyCredentials) -> None:
    """Such as renewed ones from a program that prints a line break."""
    with pytest.raises(ValueError, match="a character that no header can have"):
        Signer("http://sqs", "eu-west-1", "sqs").headers("X", b"", credentials, SECONDS)
