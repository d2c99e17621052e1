"""No part of DATABASE_URL that could be a secret is printed; an unclear one is refused at once."""

from __future__ import annotations

import itertools
import socket
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from etl.config import DatabaseSettings
from etl.errors import DatabaseUnavailable, LoginRefused, SettingsError
from etl.postgres import libpq
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


@pytest.mark.parametrize("around", ["{}\n", "  {}\r\n", "'{}'", '"{}"\n', "' {} '"])
def test_what_a_file_or_a_shell_puts_around_a_url_is_taken_off(around: str) -> None:
    """A secret read from a file ends with a newline; ``--env-file`` keeps the quotes."""
    url = driver_url(around.format("postgresql://etl:p@localhost/etl?sslmode=require"))
    assert (url.host, url.database, dict(url.query)) == ("localhost", "etl", {"sslmode": "require"})


@pytest.mark.parametrize(
    "place", ["etl:{}\n@localhost/etl", "etl:{}@local\thost/etl", "etl:{}@h/e\nx"]
)
def test_a_line_break_within_a_url_is_refused(place: str) -> None:
    """A password that was read from a file and put into a URL; it would be a wrong password."""
    with pytest.raises(SettingsError, match="line break") as caught:
        driver_url(f"postgresql://{place.format(SECRET)}")
    check_quotes_nothing(str(caught.value), SECRET)


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("schema=x", "unknown parameter 'schema' in DATABASE_URL; .*'schema' in config"),
        ("currentSchema=x", "'currentSchema'.*'schema' in config"),
        ("ssl=true", "'ssl'.*sslmode=require"),
        ("sslmod=require", "'sslmod'.*did you mean 'sslmode'?"),
        ("pgbouncer=true", "'pgbouncer'.*take it out"),
        ("verbose=1", "'verbose'.*libpq's parameters"),
        ("cursor_factory=1", "'cursor_factory'"),  # an argument of the driver, not of libpq
        (f"{SECRET}=1", "unknown parameter in DATABASE_URL"),
        ("password=a&swordfish=b", "unknown parameter in DATABASE_URL"),
    ],
)
def test_an_unknown_parameter_is_named_unless_it_may_be_a_secret(
    parameter: str, words: str
) -> None:
    """The message says where the setting belongs, or which one is meant."""
    with pytest.raises(SettingsError, match=words) as caught:
        driver_url(f"postgresql://etl:p@localhost/etl?{parameter}")
    check_quotes_nothing(str(caught.value), SECRET)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("a:1,b:2", ("a,b", "1,2")),
        ("a,b:2", ("a,b", ",2")),
        ("[::1]:1,10.0.0.1:2,%2Frun", ("::1,10.0.0.1,/run", "1,2,")),
    ],
)
def test_several_hosts_reach_libpq_as_they_are(hosts: str, expected: tuple[str, str]) -> None:
    """SQLAlchemy has another syntax for them; libpq's own documentation shows this one."""
    url = driver_url(f"postgresql://etl:p@{hosts}/etl?target_session_attrs=read-write")
    _, parameters = url.get_dialect()().create_connect_args(url)
    assert (parameters["host"], parameters["port"]) == expected
    assert parameters["target_session_attrs"] == "read-write"
    assert (parameters["dbname"], parameters["user"]) == ("etl", "etl")


UNKNOWN = 'could not translate host name "db.example.com" to address: ...'


@pytest.mark.parametrize(
    ("reason", "has_connected", "kind"),
    [
        (socket.EAI_NONAME, False, LoginRefused),
        (socket.EAI_AGAIN, False, DatabaseUnavailable),
        (socket.EAI_NONAME, True, DatabaseUnavailable),
    ],
)
def test_an_unknown_host_is_final_and_a_silent_name_server_is_not(
    reason: int, has_connected: bool, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """During a run, a name that was known comes back."""

    def resolve(*_: object) -> None:
        raise socket.gaierror(reason, "")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert isinstance(libpq.libpq_failure(UNKNOWN, has_connected=has_connected), kind)


def test_one_host_of_several_that_may_come_back_is_waited_for() -> None:
    """The other one does not exist."""
    text = f'connection to server at "a", port 1 failed: Connection refused\n\tIs it?\n{UNKNOWN}'
    assert isinstance(libpq.libpq_failure(text, has_connected=False), DatabaseUnavailable)


@pytest.mark.parametrize(
    "said",
    [
        "fe_sendauth: no password supplied", "server does not support SSL, but SSL was required",
        "SSL error: certificate verify failed", "SSL error: tlsv1 alert protocol version",
        'root certificate file "/x" does not exist\nEither provide the file',
        "received invalid response to SSL negotiation: H",
        "expected authentication request from server, but received H",
        "channel binding required but not supported by server",
    ],
)  # fmt: skip
def test_what_libpq_says_for_good_is_refused_with_a_way_out(said: str) -> None:
    """These texts are libpq's own and English, see the module."""
    text = f'connection to server at "a" (10.0.0.1), port 1 failed: {said}\n'
    error = libpq.libpq_failure(text, has_connected=True)
    assert isinstance(error, LoginRefused)
    assert str(error).startswith("the connection is impossible: connection to server at ")


@pytest.mark.parametrize(
    "said",
    [
        "Connection refused\n\tIs the server running?", "timeout expired", "Network is unreachable",
        "server closed the connection unexpectedly", "SSL SYSCALL error: EOF detected",
        "SSL error: unexpected eof while reading", "session is read-only",
        "No such file or directory",
    ],
)  # fmt: skip
def test_what_may_pass_is_an_outage(said: str) -> None:
    """A server that is away, restarts or fails over."""
    text = f'connection to server at "a" (10.0.0.1), port 1 failed: {said}\n'
    assert isinstance(libpq.libpq_failure(text, has_connected=False), DatabaseUnavailable)
