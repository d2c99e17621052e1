"""Another login after one that failed, step by step, to learn what the driver does not tell.

psycopg2 raises the text of a refused login, in the server's language, and no SQLSTATE. libpq writes
the SQLSTATE in place of the text if it is told to between the first and the last step of a login,
and the driver takes these steps one by one only for an asynchronous connection.
"""

from __future__ import annotations

import ctypes
import re
import select
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2
from psycopg2 import _psycopg, extensions

_SQLSTATE_ONLY = 3  # PQERRORS_SQLSTATE in libpq-fe.h, from libpq 12 on
_SQLSTATE = re.compile(r":  ([0-9A-Z]{5})$", re.MULTILINE)


def login_sqlstate(
    arguments: Sequence[Any], parameters: Mapping[str, Any], seconds: float
) -> str | None:
    """Log in once more; return the SQLSTATE with which the server refuses it.

    :param arguments, parameters: of :func:`psycopg2.connect`
    :param seconds: time limit
    :returns: None if no server refuses it now, an empty text if none answers in time
    """
    ends_at = time.monotonic() + seconds
    try:
        connection = psycopg2.connect(*arguments, **parameters, async_=1)
        try:
            # The driver is linked with the libpq that must be told.
            libpq = ctypes.CDLL(_psycopg.__file__)
            libpq.PQsetErrorVerbosity(ctypes.c_void_p(connection.pgconn_ptr), _SQLSTATE_ONLY)
            return None if _finish(connection, ends_at) else ""
        finally:
            connection.close()
    except (psycopg2.Error, UnicodeDecodeError) as error:
        # Of several hosts, the last one decides: libpq goes on to the next one only from those
        # that may be there later.
        found = _SQLSTATE.findall(login_text(error))
        return found[-1] if found else None


def ends_at_begin(arguments: Sequence[Any], parameters: Mapping[str, Any], seconds: float) -> bool:
    """Whether a new session takes a single statement and then ends at BEGIN.

    :param arguments, parameters, seconds: as for :func:`login_sqlstate`
    """
    ends_at = time.monotonic() + seconds
    takes_statements = False
    try:
        connection = psycopg2.connect(*arguments, **parameters, async_=1)
        try:
            takes_statements = _finish(connection, ends_at) and _run(
                connection, "select 1", ends_at
            )
            if takes_statements:
                _run(connection, "begin", ends_at)
        finally:
            connection.close()
    except (psycopg2.Error, UnicodeDecodeError):
        return takes_statements
    return False


def login_text(error: psycopg2.Error | UnicodeDecodeError) -> str:
    """What a login failed with. Until it is over, a server may write in any encoding."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode("utf-8", "replace")
    return str(error)


def _run(connection: Any, statement: str, ends_at: float) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return _finish(connection, ends_at)


def _finish(connection: Any, ends_at: float) -> bool:
    """Take the steps of what a connection is doing; returns whether that took the time it may."""
    while (state := connection.poll()) != extensions.POLL_OK:
        descriptors = [connection.fileno()]
        readable = descriptors if state == extensions.POLL_READ else []
        writable = descriptors if state == extensions.POLL_WRITE else []
        left = ends_at - time.monotonic()
        if left <= 0 or not any(select.select(readable, writable, [], left)):
            return False
    return True
