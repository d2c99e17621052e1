"""Connects to the database; says whether a failed login is final or may succeed later.

A *server's* refusal is judged by its SQLSTATE, since its text is in the server's language. For why,
and for what a pooler says, see docs/decisions/0021-refused-logins.md.
"""

from __future__ import annotations

import re
import time
from typing import Any

import psycopg2

from etl.config import TokenMaker
from etl.errors import DatabaseUnavailable, EtlError, LoginRefused
from etl.postgres.libpq import OF_PARAMETER, libpq_failure, said_lines
from etl.postgres.queries import quote_name
from etl.postgres.second_login import ends_at_begin, login_sqlstate, login_text
from etl.postgres.sqlstate import CAUSES, is_outage, translate

# How long a pooler's refusal of unknown meaning is tried again. By then a server that was starting
# has started, and no account has been locked.
UNCLEAR_SECONDS = 20.0
BEGIN_SECONDS = 3.0  # time limit for the search for a reason why a session ends at BEGIN

# Two blanks follow the severity of what a server says, and nothing else.
_SERVER_SAID = ":  "
# PgBouncer has this one SQLSTATE for everything, also for what a server has told it.
_POOLER = "08P01"
_POOLER_REFUSES = re.compile(
    r"authentication failed|no such (?:database|user)|unsupported startup parameter|not allowed"
    r"|(?:SSL|TLS) required|certificate|config error|login rejected|no pg_hba\.conf entry"
    r"|pg_hba\.conf rejects"
    r'|(?:database|role) ".*" does not exist|is not permitted to log in'
)
_POOLER_WAITS = re.compile(
    r"query_wait_timeout|client_login_timeout|cannot connect to server|server login|crashed"
    r"|no more connections|too many|shutting down|starting up|recovery|pause|disabled"
)

# The SQLSTATEs whose text has only names in it. Any other may quote the value of a parameter.
_NAMES_ONLY = ("28", "3D000", "42501", "53", "55", "57", _POOLER)
_HINTS = {
    "28P01": "the user or the password is wrong; check DATABASE_URL, or PGPASSWORD and PGPASSFILE",
    "28000": "the user may not log in in this way; check the LOGIN of the role, and whether a line "
    "of pg_hba.conf allows user, database and address (a 'hostssl' line needs sslmode=require); "
    "with the methods ldap, pam and radius, check the password and their server",
    "3D000": "create the database, or correct its name in DATABASE_URL",
    "55000": "let a superuser run: alter database {database} allow_connections true",
    "42501": "if it is the database, let its owner run: grant connect on database {database} to "
    "{user}; if it is a setting, take it out of PGOPTIONS and ?options=",
    "58P01": "the server cannot load a library at login; check local_preload_libraries and "
    "session_preload_libraries of the role, the database, the server and PGOPTIONS",
    "0A000": "the server, or a proxy in between, cannot do it; a proxy takes no PGOPTIONS and no "
    "?options= in DATABASE_URL",
    _POOLER: "a connection pooler said so; check DATABASE_URL, and the users and the databases of "
    "the pooler",
}
# With a token of AWS. RDS asks a role of rds_iam for the token, and any other for its own password.
_TOKEN_HINTS = {
    "28P01": "the password of this role is not the token: let an administrator run: grant rds_iam "
    "to {user}; and see that IAM authentication is enabled for the database",
    "28000": "RDS does not take the token: check that the AWS credentials may do rds-db:connect on "
    "arn:aws:rds-db:REGION:ACCOUNT:dbuser:RESOURCE_ID/USER and have not expired, that DATABASE_URL "
    "has the endpoint's own name and port (no CNAME), and that the clock of this machine is right; "
    "and check the LOGIN of the role",
}
_POOLER_LOGS = "a connection pooler said so; its log says why"
_NO_OPTIONS = (
    "a connection pooler takes no PGOPTIONS and no ?options= in DATABASE_URL (unsupported startup "
    "parameter, SQLSTATE 08P01); give the settings to the role instead: alter role ... set ..."
)
_POOLS_STATEMENTS = (
    "a connection pooler ends each session at BEGIN, since it pools single statements (PgBouncer's "
    "pool_mode = statement), and a batch is one transaction; set pool_mode = transaction for this "
    "database, or connect to the server itself"
)


class Login:
    """Connects for one engine, and remembers whether that has succeeded before."""

    def __init__(self, connect_seconds: float, make_token: TokenMaker | None = None) -> None:
        """Prepare to connect.

        :param connect_seconds: time limit
        :param make_token: makes the password of each login, if there is no other
        """
        self._seconds = connect_seconds
        self._make_token = make_token
        self._hints = _HINTS if make_token is None else {**_HINTS, **_TOKEN_HINTS}
        self._opened_with: tuple[Any, Any] | None = None
        self._has_transactions = False
        self._unclear_since: float | None = None

    def connect(self, dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Any:
        """Open a connection of the driver: the listener of an engine's event ``do_connect``.

        :raises LoginRefused: the login is refused, and would be again
        :raises DatabaseUnavailable: it may succeed later
        :raises SettingsError: there is no token to log in with, and will be none
        """
        try:
            connection = _open(dialect, arguments, self._with_token(parameters))
        except (psycopg2.Error, UnicodeDecodeError) as error:
            raise self._translated(error, arguments, parameters) from None
        self._opened_with, self._unclear_since = (arguments, parameters), None
        return connection

    def check_transactions(self, connection: Any, _record: Any = None) -> None:
        """Check that transactions are possible: the listener of the event ``connect``.

        The driver loses what a pooler of single statements says when it ends the session.

        :raises LoginRefused: sessions end at BEGIN, and take a single statement
        """
        if self._has_transactions or self._opened_with is None:
            return
        try:
            with connection.cursor() as cursor:
                cursor.execute("select 1")  # the driver sends BEGIN before it
            connection.rollback()
        except psycopg2.OperationalError:
            arguments, parameters = self._opened_with
            if ends_at_begin(arguments, self._with_token(parameters), BEGIN_SECONDS):
                raise LoginRefused(_POOLS_STATEMENTS) from None
            raise
        self._has_transactions = True

    def _with_token(self, parameters: Any) -> dict[str, Any]:
        if self._make_token is None:
            return dict(parameters)
        names = (str(parameters[name]) for name in ("host", "port", "user"))
        return {**parameters, "password": self._make_token(*names)}

    def _translated(
        self, error: psycopg2.Error | UnicodeDecodeError, arguments: Any, parameters: Any
    ) -> EtlError:
        if isinstance(error, psycopg2.Error) and error.pgcode:
            return translate(error)
        text = login_text(error)
        # libpq always gives a text. An empty one was a server's, in another encoding: Python 3.11.2
        # drops what it cannot decode, where newer versions raise UnicodeDecodeError.
        if not text.strip() or _SERVER_SAID in text:
            sqlstate = None
            if _tried_twice(text):
                with_tls = {**parameters, "sslmode": "require"}
                sqlstate = login_sqlstate(arguments, with_tls, self._seconds)
            complete = self._with_token(parameters)
            sqlstate = sqlstate or login_sqlstate(arguments, complete, self._seconds)
            return self._refused_by_server(sqlstate, text, parameters)
        return libpq_failure(text, has_connected=self._opened_with is not None)

    def _refused_by_server(self, sqlstate: str | None, text: str, parameters: Any) -> EtlError:
        if sqlstate == "" and _POOLER_REFUSES.search(text):
            # After a server has refused, PgBouncer lets the next login wait (server_login_retry).
            sqlstate = _POOLER
        if not sqlstate:
            return DatabaseUnavailable("the server refused a login, and then no other")
        lines = f": {said_lines(text)}" if sqlstate.startswith(_NAMES_ONLY) else ""
        if self._may_pass(sqlstate, text):
            cause = _POOLER_LOGS if sqlstate == _POOLER else CAUSES.get(sqlstate)
            why = f": {cause}" if cause else ""
            return DatabaseUnavailable(
                f"the database takes no login now{lines} (SQLSTATE {sqlstate}){why}"
            )
        if sqlstate == _POOLER and "startup parameter: options" in text:
            return LoginRefused(_NO_OPTIONS)
        if sqlstate not in self._hints:
            named = re.search(r'parameter "[\w.]+"', text)
            what = f" ({named[0]}, SQLSTATE {sqlstate})" if named else f" (SQLSTATE {sqlstate})"
            return LoginRefused(OF_PARAMETER.format(what=what))
        names = {
            key: quote_name(str(parameters.get(name) or "..."), for_driver=True)
            for key, name in (("database", "dbname"), ("user", "user"))
        }
        said = f"{lines} (SQLSTATE {sqlstate}); {self._hints[sqlstate].format(**names)}"
        # RDS checks a token with IAM, and may refuse a good one while that is slow or overloaded.
        if self._make_token and sqlstate in _TOKEN_HINTS and self._opened_with is not None:
            return DatabaseUnavailable(f"the database does not take the login as before{said}")
        return LoginRefused(f"the database refused the connection{said}")

    def _may_pass(self, sqlstate: str, text: str) -> bool:
        if sqlstate != _POOLER:
            return sqlstate != "58P01" and (is_outage(sqlstate) or sqlstate.startswith("XX"))
        if _POOLER_REFUSES.search(text):
            return False
        if _POOLER_WAITS.search(text):
            return True
        now = time.monotonic()
        self._unclear_since = self._unclear_since or now
        return now - self._unclear_since < UNCLEAR_SECONDS


def _tried_twice(text: str) -> bool:
    """Whether libpq has tried TLS and then, as sslmode=prefer has it, the same without.

    A wrong password need not be repeated twice. (libpq also tries again without
    application_name, if a parameter is unknown.)
    """
    refused = [
        line.partition(_SERVER_SAID)[0] for line in text.splitlines() if _SERVER_SAID in line
    ]
    servers = [line for line in refused if line.startswith("connection to")]
    return len(set(servers)) < len(servers)


def _open(dialect: Any, arguments: Any, parameters: Any) -> Any:
    connection = dialect.connect(*arguments, **parameters)
    if connection.info.parameter_status("standard_conforming_strings") != "off":
        return connection
    # The driver remembers from the moment it connects that each backslash needs another one, so a
    # transaction that sets this to on would store text with too many of them.
    options = f"{connection.info.options or ''} -c standard_conforming_strings=on"
    connection.close()
    return dialect.connect(*arguments, **{**parameters, "options": options})
