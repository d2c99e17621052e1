"""Refuses a DATABASE_URL in which a secret could be taken for something else.

In ``postgresql://user:pa@ss@host/name`` one parser takes ``ss@host`` for the host. It then appears
in error messages, in this program's and in libpq's. So nothing is guessed: a URL in which the parts
cannot be told apart is refused, and no part of it is printed.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping

import sqlalchemy as sa

from etl.errors import SettingsError

# The characters that have a meaning in a URL, and a percent sign that encodes nothing.
_UNCLEAR = re.compile(r"[@:/?#]|%(?![0-9A-Fa-f]{2})")
# The host and the port: names, addresses, several of them, or the encoded path of a socket.
_HOST = re.compile(r"(?:[\w.,-]|%2[Ff])*|\[[0-9A-Fa-f:.%]+\]", re.ASCII)
_PORT = re.compile(r"[0-9]{0,5}")


def check_parts(url: str) -> None:
    """Check that the user, the password and the address can be told apart in only one way.

    :raises SettingsError: a character must be percent-encoded
    """
    _, _, rest = url.partition("://")
    login, has_login, address = rest.rpartition("@")
    user, _, password = login.partition(":")
    authority, *_ = re.split("[/?#]", address, maxsplit=1)
    host, _, port = authority.rpartition(":") if _has_port(authority) else (authority, "", "")
    if (
        _UNCLEAR.search(user)
        or _UNCLEAR.search(password)
        or re.search(r"#|%(?![0-9A-Fa-f]{2})", address)
        or not _HOST.fullmatch(host)
        or not _PORT.fullmatch(port)
    ):
        kind = "user and password" if has_login else "address"
        raise SettingsError(
            f"cannot tell the parts of DATABASE_URL apart, because of a character in its {kind}; "
            "percent-encode these: @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, % as %25"
        )


def _has_port(authority: str) -> bool:
    # In an IPv6 address colons are within the brackets.
    return ":" in authority.rpartition("]")[2]


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
