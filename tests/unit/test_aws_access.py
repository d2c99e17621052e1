"""The region, the endpoint and the credentials of AWS come from one environment, in one order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.aws.access import destination, find_access, open_client
from etl.aws.regions import region_of_queue
from etl.aws.variables import aws_variables, proxies
from etl.config import QueueSettings
from etl.errors import SettingsError
from etl.sqs.client import open_queue

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/logins"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
EMULATOR = {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9324"}
EMULATOR_URL = "http://127.0.0.1:9324/000000000000/logins"


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return a function that writes AWS's files and returns the variables that name them."""

    def write(config: str, credentials: str = "") -> dict[str, str]:
        (tmp_path / "config").write_text(config)
        (tmp_path / "credentials").write_text(credentials)
        return {
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        }

    return write


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (URL, "eu-west-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/123456789012/q", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q", "cn-north-1"),
        ("https://sqs-fips.us-east-2.amazonaws.com/123456789012/q", "us-east-2"),
        ("https://sqs.eu-west-3.api.aws/123456789012/q", "eu-west-3"),
        ("https://sqs.eusc-de-east-1.amazonaws.eu/123456789012/q", "eusc-de-east-1"),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/q", "eu-west-1"),
        ("https://queue.amazonaws.com/123456789012/q", "us-east-1"),
        ("https://SQS.EU-WEST-1.AMAZONAWS.COM/123456789012/q", "eu-west-1"),
        ("https://sqs.eu-west-1.amazonaws.com:443/123456789012/q", "eu-west-1"),
        ("https://vpce-0a1-b2.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q", "eu-west-1"),
        ("https://vpce-0a1-b2-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com/1/q", "eu-west-1"),
        ("https://vpce-0a1.sqs.cn-north-1.vpce.amazonaws.com.cn/1/q", "cn-north-1"),
        ("http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/q", None),
        ("http://sqs:9324/000000000000/q", None),
        ("https://sns.eu-west-1.amazonaws.com/123456789012/q", None),
        ("https://sqs.eu-west-1.amazonaws.com.example.org/123456789012/q", None),
    ],
)
def test_a_queue_url_says_its_region(url: str, region: str | None) -> None:
    """Only the hosts of SQS in AWS do: a host that merely looks like one does not."""
    assert region_of_queue(url) == region


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "eu-south-1"}, "eu-north-1"),
        ({"AWS_DEFAULT_REGION": "eu-south-1"}, "eu-south-1"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-south-1"}, "eu-south-1"),
        ({"AWS_REGION": " eu-north-1\r\n"}, "eu-north-1"),
        ({"AWS_PROFILE": "nightly"}, "eu-central-1"),
        ({"AWS_PROFILE": "nightly", "AWS_REGION": "eu-north-1"}, "eu-north-1"),
        ({}, "eu-central-2"),
        ({"AWS_REGION": "elasticmq"}, "elasticmq"),
    ],
)
@pytest.mark.parametrize("service", ["sqs", "secretsmanager"])
def test_the_region_has_one_order_for_every_service(
    variables: dict[str, str],
    region: str,
    service: str,
    files: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever this process has in its own environment."""
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    configured = files(
        "[default]\nregion = eu-central-2\n[profile nightly]\nregion = eu-central-1\n"
    )
    access = find_access(service, {**EMULATOR, **configured, **variables})
    assert access.region == region


@pytest.mark.parametrize(
    ("variables", "logged"),
    [
        ({"AWS_REGION": "us-east-1"}, "the region in AWS_REGION"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, "the region in AWS_DEFAULT_REGION"),
        ({"AWS_REGION": "eu-west-1"}, None),
        ({}, None),
    ],
)
def test_the_region_of_the_queue_comes_first_and_is_said(
    variables: dict[str, str],
    logged: str | None,
    files: Callable[..., dict[str, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In one line, and only if another one is configured."""
    environment = {**KEYS, **files(""), **variables}
    with caplog.at_level(logging.INFO, "etl"):
        access = find_access("sqs", environment, queue_url=URL)
    assert access.region == "eu-west-1"
    rest = "is 'us-east-1', but the queue's URL is in 'eu-west-1': using that"
    assert caplog.messages == ([f"{logged} {rest}"] if logged else [])
    client = open_client(access)
    assert client.meta.endpoint_url == "https://sqs.eu-west-1.amazonaws.com"


def test_the_region_of_a_secret_is_that_of_its_arn(
    files: Callable[..., dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """A name is looked for in the configured region."""
    environment = {**KEYS, **files(""), "AWS_REGION": "us-east-1"}
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:etl/keyring-AbCdEf"
    assert find_access("secretsmanager", environment, secret_id="etl/k").region == "us-east-1"
    assert find_access("secretsmanager", environment, secret_id=arn).region == "eu-west-1"
    rest = "but the secret's ARN is in 'eu-west-1': using that"
    assert caplog.messages == [f"the region in AWS_REGION is 'us-east-1', {rest}"]


def test_the_given_environment_is_used_and_not_that_of_the_process(
    files: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job in a notebook or a thread has its own."""
    (tmp_path / "other").write_text("not a file of AWS")
    for name, value in {
        "AWS_REGION": "ap-south-1",
        "AWS_ENDPOINT_URL": "http://other:1",
        "AWS_ENDPOINT_URL_SQS": "http://other:1",
        "AWS_ACCESS_KEY_ID": "OTHER",
        "AWS_SECRET_ACCESS_KEY": "OTHER",
        "AWS_SESSION_TOKEN": "OTHER",
        "AWS_PROFILE": "other",
        "AWS_CONFIG_FILE": str(tmp_path / "other"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "other"),
        "AWS_CA_BUNDLE": str(tmp_path / "other"),
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "other"),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/other",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTPS_PROXY": "http://other:1",
    }.items():
        monkeypatch.setenv(name, value)
    profile = "aws_access_key_id = MINE\naws_secret_access_key = secret\naws_session_token = mine\n"
    mine = {
        **files("[profile nightly]\nregion = eu-central-1\n", f"[nightly]\n{profile}"),
        "AWS_PROFILE": "nightly",
    }
    access = find_access("secretsmanager", mine)
    client = open_client(access)
    to = destination(access, client, "Secrets Manager")
    assert (to.url, to.region) == (
        "https://secretsmanager.eu-central-1.amazonaws.com",
        "eu-central-1",
    )
    found = client._request_signer._credentials.get_frozen_credentials()
    assert (found.access_key, found.secret_key, found.token) == ("MINE", "secret", "mine")
    assert client.meta.config.proxies == {}
    assert client._endpoint.http_session._verify is True


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9324", "http://[::1]:9324", "https://sqs.example.org/base", "http://q"],
)
def test_an_endpoint_may_be_any_address_of_the_web(url: str) -> None:
    """Of a name or a number, of either kind."""
    environment = {**KEYS, "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": url}
    assert find_access("sqs", environment).endpoint_url == url


def test_no_credentials_are_taken_from_the_process(
    files: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it may have some."""
    (tmp_path / "boto").write_text("[Credentials]\naws_access_key_id = A\n")
    for name, value in {
        **KEYS,
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/other",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com",
        "BOTO_CONFIG": str(tmp_path / "boto"),
        "AWS_CREDENTIAL_FILE": str(tmp_path / "boto"),
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "no url",
    }.items():
        monkeypatch.setenv(name, value)
    mine = {**files(""), "AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.raises(SettingsError, match=r"^no AWS credentials"):
        find_access("sqs", mine)


def test_variables_of_one_service_come_first() -> None:
    """AWS_ENDPOINT_URL_SQS is for SQS, and AWS_ENDPOINT_URL for all."""
    environment = {**EMULATOR, "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_SQS": "http://a:1"}
    assert find_access("sqs", environment).endpoint_url == "http://a:1"
    assert find_access("secretsmanager", environment).endpoint_url == "http://127.0.0.1:9324"
    environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true"
    assert find_access("sqs", environment).endpoint_url is None


def test_a_service_of_two_words_has_the_variable_of_the_other_tools(
    files: Callable[..., dict[str, str]],
) -> None:
    """And the name in a profile that goes with it."""
    environment = {
        **EMULATOR,
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://a:1",
    }
    assert find_access("secretsmanager", environment).endpoint_url == "http://a:1"
    assert find_access("sqs", environment).endpoint_url == EMULATOR["AWS_ENDPOINT_URL"]
    lines = "[default]\nservices = own\n[services own]\nsecrets_manager =\n  endpoint_url = http://b:1\n"
    environment = {**KEYS, **files(lines), "AWS_REGION": "eu-west-1"}
    assert find_access("secretsmanager", environment).endpoint_url == "http://b:1"


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("vpce-0abc-xyz.sqs.eu-west-1.vpce.amazonaws.com", True),
        ("sqs-fips.us-gov-west-1.amazonaws.com", True),
        ("sqs.eu-west-1.api.aws", True),
        ("sqs.cn-north-1.api.amazonwebservices.com.cn", True),
        ("sqs.eu-west-1.amazonaws.com", False),
        ("eu-west-1.queue.amazonaws.com", False),
        ("queue.amazonaws.com", False),
    ],
)
def test_a_queue_url_chooses_its_endpoint(host: str, is_own: bool) -> None:
    """The region's usual one would be neither in the VPC nor one of FIPS, nor have IPv6."""
    url = f"https://{host}/123456789012/logins"
    expected = f"https://{host}" if is_own else None
    assert find_access("sqs", KEYS, queue_url=url).endpoint_url == expected
    configured = find_access("sqs", EMULATOR, queue_url=url)
    assert configured.endpoint_url == EMULATOR["AWS_ENDPOINT_URL"]


def test_a_process_gives_credentials_from_the_given_environment(
    files: Callable[..., dict[str, str]],
) -> None:
    """And blanks around variables do not matter, as in a mounted file."""
    command = """sh -c 'echo "{\\"Version\\": 1, \\"AccessKeyId\\": \\"$MINE\\", """
    command += """\\"SecretAccessKey\\": \\"s\\"}"'"""
    configured = files(f"[profile nightly]\ncredential_process = {command}\n")
    environment = {
        **configured,
        "PATH": "/usr/bin:/bin",
        "MINE": "KEY",
        "AWS_PROFILE": "nightly\n",
        "AWS_REGION": "eu-west-1\n",
    }
    access = find_access("sqs", environment)
    assert access.session.get_credentials().access_key == "KEY"
    assert access.credentials == " of profile 'nightly'"


def test_blanks_around_variables_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is made from a file ends in a newline; an empty one is none."""
    variables = {
        "AWS_SECRET_ACCESS_KEY": "secret\n",
        "AWS_REGION": "\ufeffeu-west-1\r\n",
        "AWS_PROFILE": " ",
        "OTHER": " x ",
    }
    assert aws_variables(variables) == {
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
        "OTHER": " x ",
    }
    queue = open_queue(QueueSettings(url=f" {URL}\n"), {**KEYS, "AWS_REGION": "eu-west-1"})
    assert queue.url == URL


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {}),
        ({"HTTPS_PROXY": "http://p:1"}, {"https": "http://p:1"}),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, {"https": "http://q:1"}),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "amazonaws.com"}, {}),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, {}),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.org"}, {"https": "http://p:1"}),
        ({"ALL_PROXY": "http://p:1"}, {}),
    ],
)
def test_proxies_are_those_of_the_given_environment(
    variables: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the rules that botocore has for those of the process."""
    monkeypatch.setenv("HTTPS_PROXY", "http://other:1")
    monkeypatch.setenv("NO_PROXY", "amazonaws.com")
    assert proxies(variables, "https://sqs.eu-west-1.amazonaws.com") == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://sqs:9324/000000000000/q",
        "http://my_sqs:9324/000000000000/q",
        "http://[::1]:9324/000000000000/q",
        URL,
    ],
)
def test_the_host_of_the_queue_may_differ_from_the_endpoint(url: str) -> None:
    """An emulator gives its own name for itself; only account and name of the URL matter."""
    queue = open_queue(QueueSettings(url=url), {**EMULATOR, "AWS_REGION": "eu-west-1"})
    assert queue.url == url
