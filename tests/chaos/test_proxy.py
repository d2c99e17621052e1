"""The fault proxy does to connections what it says, and counts it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.acceptance.job_processes import until
from tests.chaos.proxy import Chance, Fate, Judge, Proxy, commits, detour, passed

ANSWER_SECONDS = 30


class Echo:
    """A server that answers what it was sent, and remembers it."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
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
                self.seen.append(data)
                connection.sendall(data)

    def close(self) -> None:
        """Take no more connections."""
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
    with socket.create_connection(("127.0.0.1", proxy.port), ANSWER_SECONDS) as made:
        yield made


def asked(one: socket.socket, request: bytes) -> bytes:
    one.sendall(request)
    with contextlib.suppress(ConnectionResetError):
        return one.recv(1024)
    return b""


def fated(fate: Fate) -> Judge:
    return lambda request: fate if request == b"x" else Fate.PASSED


@pytest.mark.parametrize(
    ("fate", "answer", "seen"),
    [
        (Fate.PASSED, b"x", [b"x"]),
        (Fate.DELAYED, b"x", [b"x"]),
        (Fate.UNANSWERED, b"", [b"x"]),
        (Fate.LOST, b"", []),
    ],
)
def test_a_request_meets_its_fate(fate: Fate, answer: bytes, seen: list[bytes], echo: Echo) -> None:
    """What the client gets, and what the server saw; other requests are let alone."""
    with Proxy(echo.port, fated(fate), delay_seconds=0.01) as proxy, client(proxy) as one:
        assert asked(one, b"before") == b"before"
        assert asked(one, b"x") == answer
        assert echo.seen == [b"before", *seen]
        assert proxy.fired == ({} if fate is Fate.PASSED else {fate.name.lower(): 1})


@pytest.mark.parametrize(("fate", "seen"), [(Fate.HELD, []), (Fate.SILENT, [b"x"])])
def test_a_connection_may_fall_silent_until_it_is_cut(
    fate: Fate, seen: list[bytes], echo: Echo
) -> None:
    """Before the server has seen the request, or after."""
    with Proxy(echo.port, fated(fate)) as proxy, client(proxy) as one:
        one.settimeout(0.2)
        with pytest.raises(TimeoutError):
            asked(one, b"x")
        one.settimeout(ANSWER_SECONDS)
        until(lambda: echo.seen == seen)
        assert proxy.cut() == 1
        assert one.recv(1024) == b""
        assert proxy.fired == {fate.name.lower(): 1, "cut": 1}


def test_a_silent_connection_ends_with_its_client(echo: Echo) -> None:
    """The server is not left with it."""
    with Proxy(echo.port, fated(Fate.HELD)) as proxy:
        with client(proxy) as one:
            one.sendall(b"x")
            until(lambda: proxy.fired)
        until(lambda: not proxy._lines)


def test_a_black_hole_lets_nothing_through_until_it_ends(echo: Echo) -> None:
    """Then what was on its way arrives."""
    with Proxy(echo.port) as proxy, client(proxy) as one:
        with proxy.black_hole():
            one.sendall(b"x")
            one.settimeout(0.2)
            with pytest.raises(TimeoutError):
                one.recv(1024)
            assert echo.seen == []
        one.settimeout(ANSWER_SECONDS)
        assert one.recv(1024) == b"x"
        assert proxy.fired == {"black hole": 1}


def test_a_cut_ends_all_connections_and_takes_new_ones(echo: Echo) -> None:
    """None of those that had ended by themselves is counted."""
    with Proxy(echo.port, passed) as proxy:
        with client(proxy) as gone:
            asked(gone, b"gone")
        until(lambda: not proxy._lines)
        with client(proxy) as one, client(proxy) as other:
            assert asked(one, b"1") + asked(other, b"2") == b"12"
            assert proxy.cut() == 2
            assert asked(one, b"3") + asked(other, b"4") == b""
        with client(proxy) as new:
            assert asked(new, b"5") == b"5"


def test_a_server_that_is_down_is_down_for_the_client_too(echo: Echo) -> None:
    """And the proxy outlives it."""
    with Proxy(echo.port) as proxy:
        echo.close()
        for _ in range(2):
            with client(proxy) as one:
                assert asked(one, b"x") == b""


def test_chance_is_the_same_for_the_same_seed() -> None:
    """About its share, never above its maximum, and only among the requests meant."""
    requests = [b"Q\0\0\0\x0bCOMMIT\0", b"select 1\0"] * 500

    def fates(seed: int, most: int | None = None) -> list[Fate]:
        chance = Chance(seed, {Fate.UNANSWERED: 0.2, Fate.LOST: 0.1}, most=most)
        return [chance(request) for request in requests]

    assert fates(1) == fates(1) != fates(2)
    assert set(fates(1)[1::2]) == {Fate.PASSED}
    assert 60 < fates(1).count(Fate.UNANSWERED) < 140
    assert fates(1, most=7).count(Fate.PASSED) == 1000 - 7


def test_commits_are_told_from_other_requests() -> None:
    """As psycopg2 sends them."""
    assert commits(b"Q\0\0\0\x0bCOMMIT\0")
    assert not commits(b"Q\0\0\0\x0dROLLBACK\0")


def test_a_detour_changes_host_and_port_only() -> None:
    """Credentials, path and query stay."""
    url = "postgresql://me:p%40ss@localhost:5432/name?sslmode=disable"
    assert detour(url, 7) == "postgresql://me:p%40ss@127.0.0.1:7/name?sslmode=disable"
