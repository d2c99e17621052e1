"""What libpq itself says when a login fails: what is final about it, and the way out.

These texts are English on every server: the driver's libpq has no translations, and Python leaves
LC_MESSAGES alone.
"""

from __future__ import annotations

import re
import socket

from etl.errors import DatabaseUnavailable, EtlError, LoginRefused

# What libpq says about a parameter, before it connects. It quotes the value, which may be a part of
# a secret. What is matched has no value in it.
_MISUSED = re.compile(
    r"^(?:invalid dsn: )?(?:invalid (?!socket|connection state)[\w ]*|could not match"
    r"|definition of service|service file|(?:syntax error|line \d+ too long) in service file"
    r"|sslmode value|weak sslmode|(?:negative )?require_auth method|\w+ parameter must"
    r"|forbidden value|could not parse network address)"
)
_CHOICES = {
    "sslmode": "disable, allow, prefer, require, verify-ca or verify-full",
    "target_session_attrs": "any, read-write, read-only, primary, standby or prefer-standby",
    "channel_binding": "disable, prefer or require",
    "gssencmode": "disable, prefer or require",
}
# What libpq says that would be the same again, and the way out.
_FINAL = {
    r"no password supplied": "give one in DATABASE_URL, in PGPASSWORD, or in a password file "
    "(PGPASSFILE), which libpq reads only if its mode is 0600",
    r"server does not support SSL": "switch TLS on at the server, or correct sslmode",
    r"root certificate file": "give the file in sslrootcert, or sslrootcert=system",
    r"certificate|private key": "check sslrootcert, sslcert, sslkey and the name of the host",
    r"SSL error: (?!.*(?:eof|clos|reset|shutdown))": "check sslmode and the TLS settings",
    r"expected authentication request|received invalid response": "no Postgres answers at this "
    "address; check DATABASE_URL",
    r"authentication method requirement|did not complete authentication|channel binding"
    r"|authentication not supported": "check require_auth and channel_binding",
    r"GSSAPI encryption required": "correct gssencmode, or run kinit",
    r'socket ".*" failed: Permission denied': "this system account may not open the socket",
}
_UNREADABLE = re.compile(r"failed: .*\ufffd.*")
_UNKNOWN_HOST = re.compile(r'could not translate host name "([^"]*)"')

OF_PARAMETER = (
    "a parameter of the connection cannot be used{what}; check DATABASE_URL, the PG... variables "
    "and the service file"
)


def libpq_failure(text: str, *, has_connected: bool) -> EtlError:
    """What a login failed with before a server refused it.

    :param has_connected: whether the same address was good before
    """
    lines = said_lines(text)
    if misused := _MISUSED.search(text):
        what = misused[0].strip().replace("definition of service", "no such service")
        choices = "".join(f"; it is {_CHOICES[n]}" for n in _CHOICES if n in what)
        return LoginRefused(OF_PARAMETER.format(what=f" ({what}{choices})"))
    hosts = _UNKNOWN_HOST.findall(text)
    # A name that was known before is missing for a reason that may pass.
    is_all = 0 < len(set(hosts)) == lines.count("; ") + 1
    if is_all and not has_connected and all(map(_is_unknown, hosts)):
        return LoginRefused(f"{lines}; check the host in DATABASE_URL or PGHOST")
    last = lines.rpartition("; ")[2]
    for pattern, hint in _FINAL.items():
        if re.search(pattern, last):
            return LoginRefused(f"the connection is impossible: {last}; {hint}")
    return DatabaseUnavailable(lines)


def _is_unknown(host: str) -> bool:
    """Whether there is no such host, which is not the same as a name server without an answer."""
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None))
    except (OSError, UnicodeError):
        return False
    return False


def said_lines(text: str) -> str:
    """What was said of each host, without the lines that explain it."""
    lines = text.strip().splitlines() or ["its reason cannot be decoded"]
    said = [line for line in lines if line.startswith(("connection to", "could not translate"))]
    # A server that is not set to UTF-8 writes what nobody can read here.
    said = [_UNREADABLE.sub("failed", line) for line in said]
    return "; ".join(dict.fromkeys(said or lines[:1]))
