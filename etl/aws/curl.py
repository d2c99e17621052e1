"""Kept-alive connections of libcurl to one address.

The environment of this process says nothing of where it connects to, and how. Only SSLKEYLOGFILE
and OpenSSL's own variables count, as they do for Python's TLS.

pycurl may be missing, so it is imported only when a :class:`Curl` is made.
"""

from __future__ import annotations

import enum
import os
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

# The ten largest messages are 10 MiB, and their JSON can be six times as long.
MAX_ANSWER_BYTES = 64 * 1024 * 1024

# How much libcurl reads from the kernel at a time.
_READ_BYTES = 128 * 1024

# libcurl measures the speed over the last six seconds, in both directions: only so long after the
# request does it find that nothing comes.
_AVERAGED_SECONDS = 6


class Failure(enum.Enum):
    """How a call got no answer."""

    NOT_CONNECTED = enum.auto()
    TIMED_OUT = enum.auto()  # while it waited for the answer
    TOO_LARGE = enum.auto()
    CUT = enum.auto()  # or anything else, after the request was begun


class CurlError(Exception):
    """A call got no answer. libcurl's own text is not kept, since it can quote addresses."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.name)
        self.failure = failure


@dataclass(frozen=True)
class Route:
    """Where calls go, and how."""

    url: str = field(repr=False)  # may have a password in it, which is not sent
    ca_file: str  # the authorities that TLS trusts
    connect_seconds: float
    read_seconds: float  # without a byte; seven at least
    user_agent: str
    proxy: str | None = field(default=None, repr=False)  # a URL, which may have a password in it

    @property
    def address(self) -> str:
        """The URL without user and password, which botocore does not send either."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path or '/'}"


class Curl:
    """Makes POSTs, each over a free connection or a new one. Safe to use from several threads.

    The connections belong to the process and not to a thread: many threads here live for only a few
    calls. After a fork the child makes its own.
    """

    def __init__(self, route: Route) -> None:
        """Connect to nothing yet.

        :raises ImportError: pycurl is not installed
        """
        import pycurl

        self._pycurl: Any = pycurl
        self._route = route
        self._free: deque[Any] = deque()
        self._process = os.getpid()
        # Of the parent. To close them would end its TLS sessions.
        self._kept: list[deque[Any]] = []

    def post(self, headers: list[str], body: bytes) -> tuple[int, bytes]:
        """Make a call; return the status and the body of the answer.

        libcurl itself makes a new connection if a kept one turns out to have been closed.

        :raises CurlError: there was no answer
        :raises ValueError: an option cannot be set
        """
        pycurl = self._pycurl
        handle = self._take()
        try:
            handle.setopt(pycurl.HTTPHEADER, headers)
            handle.setopt(pycurl.POSTFIELDS, body)
            answer = handle.perform_rb()
        except pycurl.error as error:
            failure = self._failure(error.args[0], handle)
            self._free.append(handle)
            raise CurlError(failure) from None
        status = handle.getinfo(pycurl.RESPONSE_CODE)
        self._free.append(handle)
        return status, answer

    def _take(self) -> Any:
        if self._process != os.getpid():
            self._kept.append(self._free)
            self._free = deque()
            self._process = os.getpid()
        try:
            # The one that was used last: the others end unused.
            return self._free.pop()
        except IndexError:
            return self._new_handle()

    def _failure(self, code: int, handle: Any) -> Failure:
        pycurl = self._pycurl
        if not handle.getinfo(pycurl.REQUEST_SIZE):
            return Failure.NOT_CONNECTED
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return Failure.TIMED_OUT
        return Failure.TOO_LARGE if code == pycurl.E_FILESIZE_EXCEEDED else Failure.CUT

    def _new_handle(self) -> Any:
        pycurl, route = self._pycurl, self._route
        is_tls = route.address.startswith("https:")
        handle = pycurl.Curl()
        options = {
            pycurl.URL: route.address,
            pycurl.PATH_AS_IS: 1,
            pycurl.POST: 1,
            pycurl.PROTOCOLS: pycurl.PROTO_HTTPS if is_tls else pycurl.PROTO_HTTP,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.USERAGENT: route.user_agent,
            pycurl.FOLLOWLOCATION: 0,
            pycurl.ACCEPT_ENCODING: "identity",
            pycurl.HTTP_CONTENT_DECODING: 0,
            pycurl.CAINFO: os.fsencode(route.ca_file),
            pycurl.SSL_VERIFYPEER: 1,
            pycurl.SSL_VERIFYHOST: 2,
            pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2,  # or newer
            pycurl.CONNECTTIMEOUT_MS: int(route.connect_seconds * 1000),
            # Give up after this long below a byte a second. A whole answer may take longer.
            pycurl.LOW_SPEED_LIMIT: 1,
            pycurl.LOW_SPEED_TIME: max(1, round(route.read_seconds) - _AVERAGED_SECONDS),
            pycurl.MAXFILESIZE_LARGE: MAX_ANSWER_BYTES,
            pycurl.BUFFERSIZE: _READ_BYTES,
            pycurl.NOSIGNAL: 1,  # signals are Python's
            pycurl.TCP_NODELAY: 1,
            pycurl.TCP_KEEPALIVE: 1,
            # Not those of the environment.
            pycurl.PROXY: "",
            pycurl.NOPROXY: "",
            **(self._proxy_options(route.proxy) if route.proxy else {}),
        }
        for option, value in options.items():
            handle.setopt(option, value)
        # The authorities of the machine are not trusted in addition to the file.
        handle.unsetopt(pycurl.CAPATH)
        return handle

    def _proxy_options(self, proxy: str) -> dict[int, Any]:
        pycurl = self._pycurl
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy.removeprefix('//')}")
        port = parts.port or (443 if parts.scheme == "https" else 80)  # libcurl's own is 1080
        host = parts.netloc.rpartition("@")[2].removesuffix(f":{parts.port}")
        options = {
            pycurl.PROXY: f"{parts.scheme}://{host}:{port}",
            # What goes to SQS through a tunnel is not shown to the proxy.
            pycurl.HEADEROPT: pycurl.HEADER_SEPARATE,
            pycurl.PROXY_CAINFO: os.fsencode(self._route.ca_file),
            pycurl.PROXY_SSL_VERIFYPEER: 1,
            pycurl.PROXY_SSL_VERIFYHOST: 2,
        }
        if parts.username and parts.password:
            options[pycurl.PROXYUSERNAME] = unquote(parts.username).encode()
            options[pycurl.PROXYPASSWORD] = unquote(parts.password).encode()
        return options
