"""The proxy applies the faults that it is told to, and counts them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.acceptance.job_processes import until
from tests.chaos.proxy import (
    Fault,
    FaultPolicy,
    Proxy,
    RandomFaults,
    is_commit,
    no_faults,
    via_proxy,
)

ANSWER_SECONDS = 30


class Echo:
    """A server that sends back what it receives, and records it."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1024):
                self.received.append(data)
                connection.sendall(data)

    def close(self) -> None:
        """Accept no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@contextlib.contextmanager
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), ANSWER_SECONDS) as connection:
        yield connection


def answer_to(connection: socket.socket, request: bytes) -> bytes:
    """Send a request; returns the answer, empty if the connection ends."""
    connection.sendall(request)
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(1024)
    return b""


def only_for_x(fault: Fault) -> FaultPolicy:
    """A policy that applies the fault to the request ``x`` alone."""
    return lambda request: fault if request == b"x" else Fault.NONE


@pytest.mark.parametrize(
    ("fault", "answer", "received"),
    [
        (Fault.NONE, b"x", [b"x"]),
        (Fault.DELAYED, b"x", [b"x"]),
        (Fault.UNANSWERED, b"", [b"x"]),
        (Fault.LOST, b"", []),
    ],
)
def test_a_fault_hits_only_the_request_that_it_was_chosen_for(
    fault: Fault, answer: bytes, received: list[bytes], echo: Echo
) -> None:
    """The client gets the answer, and the server the requests, that the fault lets pass."""
    with (
        Proxy(echo.port, only_for_x(fault), delay_seconds=0.01) as proxy,
        client(proxy) as connection,
    ):
        assert answer_to(connection, b"before") == b"before"
        assert answer_to(connection, b"x") == answer
        assert echo.received == [b"before", *received]
        assert proxy.fired == ({} if fault is Fault.NONE else {fault.name.lower(): 1})


@pytest.mark.parametrize(("fault", "received"), [(Fault.HELD, []), (Fault.SILENT, [b"x"])])
def test_a_connection_may_fall_silent_until_it_is_cut(
    fault: Fault, received: list[bytes], echo: Echo
) -> None:
    """It falls silent either before the server has received the request, or after."""
    with Proxy(echo.port, only_for_x(fault)) as proxy, client(proxy) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            answer_to(connection, b"x")
        connection.settimeout(ANSWER_SECONDS)
        until(lambda: echo.received == received)
        assert proxy.cut() == 1
        assert connection.recv(1024) == b""
        assert proxy.fired == {fault.name.lower(): 1, "cut": 1}


def test_a_silent_connection_ends_with_its_client(echo: Echo) -> None:
    """The proxy does not keep its connection to the server open."""
    with Proxy(echo.port, only_for_x(Fault.HELD)) as proxy:
        with client(proxy) as connection:
            connection.sendall(b"x")
            until(lambda: proxy.fired)
        until(lambda: not proxy._connections)


def test_a_black_hole_lets_nothing_through_until_it_ends(echo: Echo) -> None:
    """At its end, whatever was sent in the meantime arrives."""
    with Proxy(echo.port) as proxy, client(proxy) as connection:
        with proxy.black_hole():
            connection.sendall(b"x")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(1024)
            assert echo.received == []
        connection.settimeout(ANSWER_SECONDS)
        assert connection.recv(1024) == b"x"
        assert proxy.fired == {"black hole": 1}


def test_a_cut_ends_all_connections_and_the_proxy_accepts_new_ones(echo: Echo) -> None:
    """It counts only connections that had not ended before."""
    with Proxy(echo.port, no_faults) as proxy:
        with client(proxy) as ended:
            answer_to(ended, b"ended")
        until(lambda: not proxy._connections)
        with client(proxy) as first, client(proxy) as second:
            assert answer_to(first, b"1") + answer_to(second, b"2") == b"12"
            assert proxy.cut() == 2
            assert answer_to(first, b"3") + answer_to(second, b"4") == b""
        with client(proxy) as third:
            assert answer_to(third, b"5") == b"5"


def test_a_server_that_is_down_is_down_for_the_client_too(echo: Echo) -> None:
    """The proxy itself keeps running."""
    with Proxy(echo.port) as proxy:
        echo.close()
        for _ in range(2):
            with client(proxy) as connection:
                assert answer_to(connection, b"x") == b""


def test_random_faults_are_the_same_for_the_same_seed() -> None:
    """They hit about their share of the commits, at most the maximum, and no other request."""
    requests = [b"Q\0\0\0\x0bCOMMIT\0", b"select 1\0"] * 500

    def faults(seed: int, max_faults: int | None = None) -> list[Fault]:
        shares = {Fault.UNANSWERED: 0.2, Fault.LOST: 0.1}
        policy = RandomFaults(seed, shares, max_faults=max_faults)
        return [policy(request) for request in requests]

    assert faults(1) == faults(1) != faults(2)
    assert set(faults(1)[1::2]) == {Fault.NONE}
    assert 60 < faults(1).count(Fault.UNANSWERED) < 140
    assert faults(1, max_faults=7).count(Fault.NONE) == 1000 - 7


def test_commits_are_recognized_as_psycopg2_sends_them() -> None:
    """A rollback is not a commit."""
    assert is_commit(b"Q\0\0\0\x0bCOMMIT\0")
    assert not is_commit(b"Q\0\0\0\x0dROLLBACK\0")


def test_a_url_via_the_proxy_differs_in_host_and_port_only() -> None:
    """Credentials, path and query stay the same."""
    url = "postgresql://me:p%40ss@localhost:5432/name?sslmode=disable"
    assert via_proxy(url, 7) == "postgresql://me:p%40ss@127.0.0.1:7/name?sslmode=disable"
