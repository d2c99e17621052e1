"""What a database in Amazon RDS needs of a connection: TLS that is verified, and a token to log in.

The token is a password for 15 minutes, and the server asks for it in clear text. So it is sent
through TLS only. See docs/decisions/0031-rds-iam-login.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from etl.aws.regions import has_rds_certificate
from etl.config import DatabaseSettings
from etl.errors import SettingsError

_DEFAULT_PORT = "5432"
_WITHOUT_TLS = ("disable", "allow", "prefer")
_VERIFYING = ("verify-ca", "verify-full")
_LOGIN = "'database.login' is rds-iam"


def rds_parameters(
    url: sa.URL, database: DatabaseSettings, environment: Mapping[str, str]
) -> dict[str, str]:
    """Parameters for libpq, in place of its defaults.

    :param environment: has libpq's variables
    :raises SettingsError: with the login rds-iam, something is missing or in the way
    """
    # What the query says goes to libpq in place of the rest.
    host = url.query.get("host") or url.host or ""
    has_token = database.login == "rds-iam"
    has_authorities = bool(database.rds_ca_file) and has_rds_certificate(str(host))
    has_service = bool(url.query.get("service") or environment.get("PGSERVICE"))
    # A service file may have a mode of its own.
    if not has_token and (has_service or not has_authorities):
        return {}
    mode = str(url.query.get("sslmode") or environment.get("PGSSLMODE") or "verify-full")
    parameters = {"sslmode": mode}
    if has_token:
        _check_login(url, host, mode, database)
        port = url.query.get("port") or url.port or environment.get("PGPORT") or _DEFAULT_PORT
        # Encryption by Kerberos would come before TLS.
        parameters |= {"port": str(port), "gssencmode": "disable"}
    given_file = url.query.get("sslrootcert") or environment.get("PGSSLROOTCERT")
    # With any other mode, libpq would verify too if it had a file.
    if has_authorities and mode in _VERIFYING and not given_file:
        parameters["sslrootcert"] = str(database.rds_ca_file)
    return parameters


def _check_login(
    url: sa.URL, host: str | tuple[str, ...], mode: str, database: DatabaseSettings
) -> None:
    if mode in _WITHOUT_TLS:
        raise SettingsError(
            f"{_LOGIN}, and sslmode={mode} may send its token without TLS: write "
            "sslmode=verify-full"
        )
    if url.password is not None or "password" in url.query:
        raise SettingsError(f"{_LOGIN}, but DATABASE_URL has a password: take it out")
    if not (url.username or url.query.get("user")):
        raise SettingsError(f"{_LOGIN}, so DATABASE_URL must name the user, whom the token is for")
    if not isinstance(host, str) or "," in host:
        raise SettingsError(f"{_LOGIN}, and a token is for one host: name one in DATABASE_URL")
    if not host or host.startswith("/"):
        raise SettingsError(f"{_LOGIN}, so DATABASE_URL must name the host of the RDS endpoint")
    if database.make_token is None:
        raise SettingsError(f"{_LOGIN}, but these settings came without AWS variables")
