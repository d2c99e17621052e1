"""No part of DATABASE_URL that could be a secret is printed; an unclear one is refused at once."""

from __future__ import annotations

import itertools
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from etl.config import DatabaseSettings
from etl.errors import LoginRefused, SettingsError
from etl.postgres.engine import driver_url, open_engine, transaction
from etl.postgres.url import check_user

PIECE = 4  # characters of a secret that may not appear in a row
SECRET = "Sw0rdfish"


def pieces(secret: str) -> set[str]:
    """Every part of a secret that would give something away."""
    return {secret[i : i + PIECE] for i in range(len(secret) - PIECE + 1)}


def check_quotes_nothing(text: str, secret: str) -> None:
    """Check that a text has no piece of the secret in it."""
    assert [piece for piece in pieces(secret) if piece in text] == []


RAW = [f"{SECRET}{sign}{'Tr0ub4dor'}" for sign in "@:/?#"] + [
    f"{SECRET}%Tr0ub4dor", "Sw0rd%", "%Sw0rd", "%4Sw0rdfish", "@Sw0rdfish", "Sw0rdfish@",
    "/Sw0rdfish",
    "Sw0rdfish/", "#Sw0rdfish", "?Sw0rdfish", "Sw0rd@fish@more", "Sw0rd/fi@sh", "Sw0rd:54321@fish",
    "Sw0rd?sslmode=fish", "Sw0rd?host=fish&port=54321", "Sw0rd#fish?more/less:@",
    "Sw0rd//fish@more",
    "Sw0rd@[fish]", "Sw0rd@fish:99999/more", "Sw0rd%2", "Sw0rd%%fish", "Sw0rd@fish,more",
]  # fmt: skip


@pytest.mark.parametrize("password", RAW)
@pytest.mark.parametrize("rest", ["127.0.0.1:1/etl", "db.example.com", "/etl?host=/run/postgresql"])
def test_an_unencoded_password_is_refused_and_not_quoted(password: str, rest: str) -> None:
    """Each of the characters could end the password for one parser and not for another."""
    with pytest.raises(SettingsError, match="percent-encode") as caught:
        driver_url(f"postgresql://etl:{password}@{rest}")
    check_quotes_nothing(str(caught.value), password)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://etl:{SECRET}", f"postgresql://etl:{SECRET}/etl",
        f"etl:{SECRET}@localhost/etl",
        f"mysql://etl:{SECRET}@localhost/etl", f"postgresql+asyncpg://etl:{SECRET}@localhost/etl",
        f"postgresql//etl:{SECRET}@localhost/etl", f"postgresql:etl:{SECRET}@localhost", SECRET,
        f"host=localhost password={SECRET}", f"postgresql://etl:p@localhost:{SECRET}/etl",
        f"postgresql://etl:p@{SECRET} {SECRET}/etl", f"postgresql://etl:p@half%40{SECRET}/etl",
        "postgresql://etl:p@localhost:1234567890123/etl", f"postgresql://etl:p@local\0{SECRET}/etl",
        f"jdbc:postgresql://localhost/etl?password={SECRET}",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_read_is_refused_and_not_quoted(url: str) -> None:
    """Whatever is wrong with it, the message only says what it should look like."""
    with pytest.raises(SettingsError) as caught:
        driver_url(url)
    check_quotes_nothing(str(caught.value), SECRET)
    check_quotes_nothing(str(caught.value), "1234567890123")


@pytest.mark.parametrize(
    "parameters",
    [
        f"sslmode={SECRET}", f"port={SECRET}", f"{SECRET}=1", f"password=a&{SECRET}=b",
        f"sslmode=disable&gssencmode={SECRET}", f"target_session_attrs={SECRET}", "port=99999",
        f"channel_binding={SECRET}", f"require_auth={SECRET}", f"service={SECRET}",
        f"plugin={SECRET}", f"gssencmode={SECRET}", f"hostaddr={SECRET}",
        f"load_balance_hosts={SECRET}", f"host=a&host=b&port=1&port=2&port={SECRET}",
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_at_once_and_not_quoted(parameters: str) -> None:
    """The driver refuses it before it connects, and quotes it; a second try would do the same."""
    url = f"postgresql://etl:p@127.0.0.1:1/etl?{parameters}"
    with (
        pytest.raises((SettingsError, LoginRefused)) as caught,
        transaction(open_engine(DatabaseSettings(url=SecretStr(url)))),
    ):
        pass
    check_quotes_nothing(str(caught.value), SECRET)


@pytest.mark.parametrize(
    "signs", ["@:/?#%", "%40", " ", "ü€🎈", "'\"\\", "[]{}|^`<>", "&=+$,;!*()~"]
)
def test_an_encoded_password_arrives_as_it_is(signs: str) -> None:
    """Every character can be in a password, and in a user's name, once it is percent-encoded."""
    for text in map("".join, itertools.permutations((signs, "a"))):
        encoded = quote(text, safe="")
        url = driver_url(f"postgresql://{encoded}:{encoded}@localhost:5432/etl\n")
        assert (url.username, url.password, url.database) == (text, text, "etl")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql://etl@localhost/etl", "localhost", None),
        ("postgres://etl:p@db-1.example.com:5432/etl", "db-1.example.com", 5432),
        ("postgresql+psycopg2://etl:p@[2001:db8::1]:5433/etl?sslmode=require", "2001:db8::1", 5433),
        ("postgresql://etl:p@[::1]", "::1", None),
        ("postgresql:///etl?host=/run/postgresql&user=etl", None, None),
        ("postgresql://a,b/etl", "a,b", None),
        ("postgresql://etl:p@127.0.0.1/etl?options=-c%20role%3Detl_analyst", "127.0.0.1", None),
        ("postgresql://", None, None),
    ],
)
def test_a_usual_url_is_read(url: str, host: str | None, port: int | None) -> None:
    """Sockets, IPv6 addresses and parameters are no secrets in the wrong place."""
    read = driver_url(url)
    assert (read.host, read.port) == (host, port)


def without_a_name(_number: int) -> None:
    """Stand for a system that does not know the user of this process."""
    raise KeyError


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("postgresql://u@host/name", {}),
        ("postgresql://host/name?user=u", {}),
        ("postgresql://host/name?service=s", {}),
        ("postgresql://host/name", {"PGUSER": "u"}),
        ("postgresql://host/name", {"PGSERVICE": "s"}),
    ],
)
def test_a_user_that_anything_names_needs_no_name_in_the_system(
    monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str]
) -> None:
    """In a container, users have numbers only."""
    monkeypatch.setattr("pwd.getpwuid", without_a_name)
    check_user(driver_url(url), variables)


def test_a_url_without_a_user_is_an_error_where_the_system_knows_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The refusal of libpq would look like an outage, and be waited out."""
    monkeypatch.setattr("pwd.getpwuid", without_a_name)
    with pytest.raises(SettingsError, match=r"names no user, and user \d+ of this process has no"):
        check_user(driver_url("postgresql://host/name"), {})
