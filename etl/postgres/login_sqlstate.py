"""The SQLSTATE of a refused login, which the driver does not tell.

psycopg2 raises what the server said, in the server's language. libpq writes the SQLSTATE in its
place if it is told to between the first and the last step of a login, and the driver takes these
steps one by one only for an asynchronous connection.
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
    :returns: None if no server refuses it now
    """
    try:
        connection = psycopg2.connect(*arguments, **parameters, async_=1)
        try:
            # The driver is linked with the libpq that must be told.
            libpq = ctypes.CDLL(_psycopg.__file__)
            libpq.PQsetErrorVerbosity(ctypes.c_void_p(connection.pgconn_ptr), _SQLSTATE_ONLY)
            _finish(connection, time.monotonic() + seconds)
        finally:
            connection.close()
    except (psycopg2.Error, UnicodeDecodeError) as error:
        # Of several hosts, the last one decides: libpq goes on to the next one only from those
        # that may be there later.
        found = _SQLSTATE.findall(login_text(error))
        return found[-1] if found else None
    return None


def login_text(error: psycopg2.Error | UnicodeDecodeError) -> str:
    """What a login failed with. Before it is over, a server may write in any encoding."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode("utf-8", "replace")
    return str(error)


def _finish(connection: Any, ends_at: float) -> None:
    while (state := connection.poll()) != extensions.POLL_OK:
        descriptors = [connection.fileno()]
        readable = descriptors if state == extensions.POLL_READ else []
        writable = descriptors if state == extensions.POLL_WRITE else []
        left = ends_at - time.monotonic()
        if left <= 0 or not any(select.select(readable, writable, [], left)):
            return
