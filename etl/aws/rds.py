"""The tokens with which AWS IAM logs in to a database in RDS, instead of a password.

A token is a request to connect that is signed by Signature Version 4 and never sent as a request.
It is made here, without a call of AWS. botocore makes the same one, but writes its signature to its
debug log, and reads the whole description of RDS first.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

from etl.aws.access import Access, find_access
from etl.aws.connections import Kind
from etl.aws.faults import credentials_fault
from etl.aws.signing import host_header, signing_key
from etl.errors import DatabaseUnavailable, SettingsError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

TOKEN_SECONDS = 15 * 60  # RDS takes no longer ones
_SERVICE = "rds-db"


class RdsTokens:
    """Makes the tokens of a process. Safe to use from several threads."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Prepare to make tokens.

        :param environment: has the AWS variables
        """
        # The keyring is none of its business.
        self._environment = {n: v for n, v in environment.items() if not n.startswith("ETL_")}
        self._lock = threading.Lock()
        self._accesses: dict[str, Access] = {}  # by host, which can say its region
        self._has_made_one = False

    def __reduce__(self) -> tuple[type[RdsTokens], tuple[dict[str, str]]]:
        # A worker is another process, and gets credentials of its own.
        return RdsTokens, (self._environment,)

    def __call__(self, host: str, port: str, user: str) -> str:
        """Make the token of one login.

        :param host: the endpoint's own name; RDS takes no token for another name of it
        :raises SettingsError: there are no credentials, and will be none
        :raises DatabaseUnavailable: what gives the credentials is away for now
        """
        host = host.lower()
        with self._lock:
            access = self._accesses.get(host)
            if access is None:
                access = find_access("rds", self._environment, database_host=host)
                self._accesses[host] = access
            credentials = self._credentials(access)
            self._has_made_one = True
        return rds_token(f"{host}:{port}", user, access.region, credentials, time.time())

    def _credentials(self, access: Access) -> ReadOnlyCredentials:
        """The credentials, renewed if they are about to expire."""
        try:
            found = access.session.get_credentials()
            frozen = found.get_frozen_credentials() if found is not None else None
        except Exception as error:  # noqa: BLE001 (not all that botocore raises is its own)
            fault = credentials_fault(error, access.profile)
            words = f"no token to log in to the database with: {fault.text}"
            if fault.kind is Kind.OUTAGE:
                raise DatabaseUnavailable(words) from None
            # What gave credentials before may give them again.
            if fault.kind is Kind.FINAL_AT_START and self._has_made_one:
                raise DatabaseUnavailable(words) from None
            raise SettingsError(words) from None
        if frozen is None:
            raise DatabaseUnavailable("no token to log in to the database with: no AWS credentials")
        return frozen


def rds_token(
    address: str, user: str, region: str, credentials: ReadOnlyCredentials, seconds: float
) -> str:
    """Make a token.

    :param address: host and port, with a colon between them
    :param seconds: the time from which on it is valid, since 1970 UTC
    """
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
    scope = f"{when[:8]}/{region}/{_SERVICE}/aws4_request"
    parameters = {
        "Action": "connect",
        "DBUser": user,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": when,
        "X-Amz-Expires": str(TOKEN_SECONDS),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.token:
        parameters["X-Amz-Security-Token"] = credentials.token
    encoded = {name: quote(value, safe="-_.~") for name, value in parameters.items()}
    query = "&".join(f"{name}={value}" for name, value in sorted(encoded.items()))
    # The host is the only header, and the body is empty.
    host = host_header(f"https://{address}")
    canonical = f"GET\n/\n{query}\nhost:{host}\n\nhost\n{sha256(b'').hexdigest()}"
    digest = sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{digest}"
    key = signing_key(str(credentials.secret_key), when[:8], region, _SERVICE)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return f"{address}/?{query}&X-Amz-Signature={signature}"
