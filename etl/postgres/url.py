"""Refuses a DATABASE_URL that is unclear, or has a parameter that libpq does not know.

In ``postgresql://user:pa@ss@host/name`` one parser takes ``ss@host`` for the host. It then appears
in error messages, in this program's and in libpq's. So nothing is guessed: a URL in which the parts
cannot be told apart is refused, and no part of it is printed.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Collection, Mapping
from urllib.parse import quote, unquote

import psycopg2
import sqlalchemy as sa
from psycopg2 import extensions

from etl.errors import SettingsError, nearest

# The characters that have a meaning in a URL, and a percent sign that encodes nothing.
_UNCLEAR = re.compile(r"[@:/?#]|%(?![0-9A-Fa-f]{2})")
# A host and its port: a name, an address, or the encoded path of a socket.
_HOST = re.compile(r"((?:[\w.-]|%2[Ff])*|\[[0-9A-Fa-f:.%]+\])(?::([0-9]{0,5}))?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# libpq's parameters (PostgreSQL's documentation, 34.1.2), for a "did you mean".
_PARAMETERS = re.findall(
    r"\w+",
    """application_name channel_binding client_encoding connect_timeout dbname
    fallback_application_name gssdelegation gssencmode gsslib host hostaddr keepalives
    keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts options
    passfile password port require_auth requirepeer service ssl_max_protocol_version
    ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslmode
    sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout user""",
)
# Parameters of other programs' URLs.
_SCHEMA = "the schema of a table is its 'schema' in config.yaml"
_FOREIGN = {
    "schema": _SCHEMA,
    "currentschema": _SCHEMA,
    "search_path": _SCHEMA,
    "ssl": "write sslmode=require",
    "pgbouncer": "take it out; a pooler that pools transactions needs no parameter",
}


def clean(text: str) -> str:
    """Take off what a file, a shell or ``--env-file`` has put around a URL: blanks and quotes."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text


def check_parts(url: str) -> None:
    """Check that the user, the password and the address can be told apart in only one way.

    :raises SettingsError: a character must be percent-encoded
    """
    if _CONTROL.search(url):
        raise SettingsError(
            "there is a line break or another control character in DATABASE_URL; if it ends the "
            "password, it was read from a file: take it out"
        )
    login, has_login, authority, rest = _split(url)
    user, _, password = login.partition(":")
    if (
        _UNCLEAR.search(user)
        or _UNCLEAR.search(password)
        or re.search(r"#|%(?![0-9A-Fa-f]{2})", authority + rest)
        or not all(map(_HOST.fullmatch, authority.split(",")))
    ):
        kind = "user and password" if has_login else "address"
        raise SettingsError(
            f"cannot tell the parts of DATABASE_URL apart, because of a character in its {kind}; "
            "percent-encode these: @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, % as %25"
        )


def with_single_address(url: str) -> str:
    """Move several hosts that have ports to the parameters, as SQLAlchemy wants them.

    :param url: a URL that :func:`check_parts` has passed
    """
    login, has_login, authority, rest = _split(url)
    if "," not in authority or ":" not in authority:
        return url
    found = [match for match in map(_HOST.fullmatch, authority.split(",")) if match]
    hosts = quote(",".join(unquote(match[1]).strip("[]") for match in found), safe="")
    ports = quote(",".join(match[2] or "" for match in found), safe="")
    path, _, parameters = rest.partition("?")
    scheme = url.partition("://")[0]
    query = "&".join(filter(None, [f"host={hosts}&port={ports}", parameters]))
    return f"{scheme}://{login}{has_login}{path or '/'}?{query}"


def check_parameters(names: Collection[str]) -> None:
    """Check that libpq knows the names of all parameters.

    :raises SettingsError: names one that it does not know
    """
    for name in names:
        try:
            extensions.parse_dsn(f"{name}=''")
        except psycopg2.Error:
            raise SettingsError(_unknown_parameter(name, names)) from None


def _unknown_parameter(name: str, names: Collection[str]) -> str:
    # An & in a password makes a name of its second half.
    may_be_secret = not re.fullmatch("[A-Za-z_]{2,32}", name) or "password" in names
    text = "unknown parameter" + ("" if may_be_secret else f" {name!r}") + " in DATABASE_URL; "
    meant = nearest(name, _PARAMETERS)
    if name.lower() in _FOREIGN:
        return text + _FOREIGN[name.lower()]
    if meant and not may_be_secret:
        return text + f"did you mean {meant!r}?"
    return text + "it takes libpq's parameters, such as sslmode and target_session_attrs"


def _split(url: str) -> tuple[str, str, str, str]:
    """Login, its ``@`` if it has one, the hosts, and what follows them."""
    _, _, rest = url.partition("://")
    login, has_login, address = rest.rpartition("@")
    authority = re.split("[/?#]", address, maxsplit=1)[0]
    return login, has_login, authority, address[len(authority) :]


def check_user(url: sa.URL, environment: Mapping[str, str]) -> None:
    """Check that libpq can tell who connects. It asks the system, if nothing else names a user.

    :raises SettingsError: it cannot, since this process runs as a user without a name
    """
    named = (url.username, *map(url.query.get, ("user", "service")))
    if any(named) or environment.get("PGUSER") or environment.get("PGSERVICE"):
        return
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise SettingsError(
            f"DATABASE_URL names no user, and user {os.geteuid()} of this process has no name; "
            "write postgresql://user@host:5432/name"
        ) from None
