"""The tokens of RDS, their credentials, and the TLS that a database in RDS is connected to with."""

from __future__ import annotations

import datetime as dt
import logging
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore import exceptions as boto
from botocore.credentials import ReadOnlyCredentials
from pydantic import SecretStr

from etl.aws import rds
from etl.aws.rds import RdsTokens, rds_token
from etl.aws.regions import has_rds_certificate, region_of_database
from etl.config import DatabaseSettings
from etl.errors import DatabaseUnavailable, EtlError, SettingsError
from etl.postgres.engine import driver_url, open_engine
from etl.postgres.rds import rds_parameters

HOST = "events.c9akciq32abc.eu-central-1.rds.amazonaws.com"
URL = f"postgresql://loader@{HOST}/etl"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "a-secret-key",
    "AWS_EC2_METADATA_DISABLED": "true",
}
NOW = dt.datetime(2026, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


@pytest.mark.parametrize("user", ["loader", "the loader/+~@%é", "a&b=c"])
@pytest.mark.parametrize("session", [None, "IQoJb3/+=="])
@pytest.mark.parametrize("port", [5432, 443, 6543])
def test_a_token_is_the_one_that_boto3_makes(
    user: str, session: str | None, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have the same parameters, one of which is the signature."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
    client = boto3.client(
        "rds", "eu-north-1", aws_access_key_id="AKIA", aws_secret_access_key="secret",
        aws_session_token=session,
    )  # fmt: skip
    expected = client.generate_db_auth_token(HOST, port, user)
    credentials = ReadOnlyCredentials("AKIA", "secret", session)
    token = rds_token(f"{HOST}:{port}", user, "eu-north-1", credentials, NOW.timestamp())
    address, _, query = token.partition("?")
    expected_address, _, expected_query = expected.partition("?")
    assert address == expected_address
    assert sorted(query.split("&")) == sorted(expected_query.split("&"))


@pytest.mark.parametrize(
    ("host", "region", "is_certified"),
    [
        (HOST, "eu-central-1", True),
        (HOST.upper(), "eu-central-1", True),
        ("a.cluster-c9.us-gov-west-1.rds.amazonaws.com", "us-gov-west-1", True),
        ("a.cluster-ro-c9.eusc-de-east-1.rds.amazonaws.eu", "eusc-de-east-1", True),
        ("a.c9.rds.cn-north-1.amazonaws.com.cn", "cn-north-1", True),
        ("a.proxy-c9.eu-west-1.rds.amazonaws.com", "eu-west-1", False),
        ("db.example.org", None, False),
        ("a.c9.eu-west-1.rds.amazonaws.com.example.org", None, False),
        ("127.0.0.1", None, False),
    ],
)
def test_a_host_says_its_region_and_its_authority(
    host: str, region: str | None, is_certified: bool
) -> None:
    """RDS Proxy has certificates of public authorities, which are not in RDS's own file."""
    assert (region_of_database(host), has_rds_certificate(host)) == (region, is_certified)


def settings(url: str = URL, **changes: Any) -> DatabaseSettings:
    """Settings with the login rds-iam."""
    made = DatabaseSettings(url=SecretStr(url), **{"login": "rds-iam", **changes})
    return made.with_tokens(RdsTokens(KEYS))


BY_TOKEN = {"port": "5432", "gssencmode": "disable"}
VERIFIED = {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}


@pytest.mark.parametrize(
    ("login", "query", "variables", "expected"),
    [
        ("rds-iam", "", {}, BY_TOKEN | VERIFIED),
        ("rds-iam", "?sslmode=require", {}, BY_TOKEN | {"sslmode": "require"}),
        ("rds-iam", "", {"PGSSLMODE": "require"}, BY_TOKEN | {"sslmode": "require"}),
        ("rds-iam", "?sslmode=verify-ca", {}, BY_TOKEN | VERIFIED | {"sslmode": "verify-ca"}),
        ("rds-iam", "?sslrootcert=/own", {}, BY_TOKEN | {"sslmode": "verify-full"}),
        ("rds-iam", "", {"PGSSLROOTCERT": "/own"}, BY_TOKEN | {"sslmode": "verify-full"}),
        ("rds-iam", "", {"PGPORT": "6"}, BY_TOKEN | VERIFIED | {"port": "6"}),
        ("rds-iam", "", {"PGSERVICE": "s"}, BY_TOKEN | VERIFIED),
        ("password", "", {}, VERIFIED),
        ("password", "?sslmode=disable", {}, {"sslmode": "disable"}),
        ("password", "", {"PGSSLMODE": "prefer"}, {"sslmode": "prefer"}),
        ("password", "", {"PGSERVICE": "s"}, {}),
    ],
)
def test_a_host_of_rds_is_verified_unless_something_else_is_said(
    login: str, query: str, variables: dict[str, str], expected: dict[str, str]
) -> None:
    """The parameters win over libpq's variables, so these are looked at first."""
    made = settings(login=login, rds_ca_file="/ca.pem")
    assert rds_parameters(driver_url(URL + query), made, variables) == expected


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("postgresql://etl:x@postgres:5432/etl", "/ca.pem"),
        ("postgresql://etl:x@a.proxy-c9.eu-west-1.rds.amazonaws.com/etl", "/ca.pem"),
        (URL, None),
    ],
)
def test_other_databases_are_connected_to_as_before(url: str, file: str | None) -> None:
    """The Postgres of docker-compose.yml has no TLS, and the image names RDS's authorities."""
    made = settings(login="password", rds_ca_file=file)
    assert rds_parameters(driver_url(url), made, {}) == {}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql://loader:pass@{HOST}/etl", "has a password"),
        (f"postgresql://loader:@{HOST}/etl", "has a password"),
        (f"{URL}?password=x", "has a password"),
        (f"postgresql://{HOST}/etl", "must name the user"),
        ("postgresql://loader@/etl", "must name the host"),
        ("postgresql://loader@/etl?host=/run/postgresql", "must name the host"),
        ("postgresql://loader@a,b/etl", "for one host"),
        ("postgresql://loader@a:1,b:2/etl", "for one host"),
        ("postgresql://loader@/etl?host=a&host=b", "for one host"),
        (f"{URL}?host=a,b", "for one host"),
        (f"{URL}?host=/run/postgresql", "must name the host"),
        *((f"{URL}?sslmode={mode}", "without TLS") for mode in ("disable", "allow", "prefer")),
    ],
)
def test_a_url_that_does_not_fit_the_tokens_is_refused(url: str, words: str) -> None:
    """Before anything is sent."""
    with pytest.raises(SettingsError, match=words):
        open_engine(settings(url))


def test_settings_without_aws_variables_are_refused() -> None:
    """They were not made for a run or a command."""
    with pytest.raises(SettingsError, match="without AWS variables"):
        open_engine(DatabaseSettings(url=SecretStr(URL), login="rds-iam"))


def test_a_token_is_made_for_the_region_in_the_host(caplog: pytest.LogCaptureFixture) -> None:
    """A log line says so; nothing that is logged has the token or its signature in it."""
    caplog.set_level(logging.DEBUG)
    token = RdsTokens(KEYS | {"AWS_REGION": "eu-west-1"})(HOST, "5432", "loader")
    assert "%2Feu-central-1%2Frds-db%2F" in token
    assert "the host in DATABASE_URL is in 'eu-central-1': using that" in caplog.text
    assert token.rpartition("=")[2] not in caplog.text


def test_another_host_needs_a_region() -> None:
    """It is that of AWS_REGION, then AWS_DEFAULT_REGION, then the profile."""
    for variables in ({"AWS_REGION": "eu-west-1"}, {"AWS_DEFAULT_REGION": "eu-west-1"}):
        assert "%2Feu-west-1%2F" in RdsTokens(KEYS | variables)("db.internal", "5432", "loader")
    with pytest.raises(SettingsError, match="no AWS region"):
        RdsTokens(KEYS)("db.internal", "5432", "loader")


def test_tokens_show_no_secret_and_can_be_sent_to_a_worker() -> None:
    """A worker gets the AWS variables with the settings, and not the keyring."""
    made = settings().with_tokens(RdsTokens(KEYS | {"ETL_KEYRING": "keys"}))
    assert "secret" not in f"{made!r}{made}{made.make_token!r}{made.model_dump()}"
    sent = pickle.dumps(made)
    assert b"keys" not in sent
    make_token = pickle.loads(sent).make_token
    assert make_token(HOST, "5432", "loader").startswith(f"{HOST}:5432/?Action=connect")


def failure(call: Callable[[], object]) -> EtlError:
    """How a token cannot be made."""
    with pytest.raises(EtlError) as caught:
        call()
    return caught.value


def test_missing_credentials_are_a_mistake() -> None:
    """The error is that of every other call of AWS."""
    tokens = RdsTokens({"AWS_EC2_METADATA_DISABLED": "true"})
    missing = failure(lambda: tokens(HOST, "5432", "loader"))
    assert isinstance(missing, SettingsError)
    assert "no AWS credentials: set AWS_ACCESS_KEY_ID" in str(missing)


class Renewed:
    """Credentials that were good once, and then cannot be renewed."""

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)
        self.profile = "default"
        self.region = "eu-central-1"
        self.session = SimpleNamespace(get_credentials=lambda: self)

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """The next answer."""
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return ReadOnlyCredentials(*answer)


def test_credentials_that_cannot_be_renewed_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were good before; each token is signed with the newest."""
    given = Renewed(("A", "s", "t1"), RuntimeError("still expired: SECRET"), ("B", "s", "t2"))
    monkeypatch.setattr(rds, "find_access", lambda *_, **__: given)
    tokens = RdsTokens(KEYS)
    assert "X-Amz-Security-Token=t1" in tokens(HOST, "5432", "loader")
    away = failure(lambda: tokens(HOST, "5432", "loader"))
    assert isinstance(away, DatabaseUnavailable)
    assert "no token to log in to the database with" in str(away)
    assert "SECRET" not in str(away)
    assert "X-Amz-Security-Token=t2" in tokens(HOST, "5432", "loader")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("expired"), SettingsError),
        (boto.UnauthorizedSSOTokenError(), SettingsError),
        (boto.ConnectTimeoutError(endpoint_url="http://169.254.170.2"), DatabaseUnavailable),
        (None, DatabaseUnavailable),
    ],
    ids=repr,
)
def test_credentials_that_were_never_good_are_refused(
    error: Exception | None, kind: type[EtlError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless what gives them is away for a while."""
    given = Renewed(error)
    if error is None:
        given.session = SimpleNamespace(get_credentials=lambda: None)
    monkeypatch.setattr(rds, "find_access", lambda *_, **__: given)
    assert isinstance(failure(lambda: RdsTokens(KEYS)(HOST, "5432", "loader")), kind)
