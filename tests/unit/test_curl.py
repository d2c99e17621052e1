"""libcurl's connections: TLS, proxies and addresses as botocore has them, and no environment."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.httpsession import get_cert_path

from etl.aws.access import find_access, open_client
from etl.aws.curl import Curl, CurlError, Failure, Route
from etl.errors import QueueRefused
from etl.sqs.client import over_curl
from etl.sqs.transport import Transport
from tests.conftest import ROOT
from tests.signatures import signature_problem
from tests.unit.aws_server import KEYS, SECRET, URL, certificate, queue
from tests.unit.raw_server import Reply, Request, reply, serve_raw
from tests.unit.test_transport import MESSAGES, ordinary


def post(url: str, ca_file: Path | str = "/none", **more: Any) -> tuple[int, bytes]:
    """Make one call over a connection of its own."""
    route = Route(url, str(ca_file), connect_seconds=5, read_seconds=5, user_agent="etl", **more)
    return Curl(route).post(["X-Amz-Target: AmazonSQS.ReceiveMessage"], b"{}")


def test_the_right_authority_is_trusted(tmp_path: Path) -> None:
    """That of AWS_CA_BUNDLE."""
    with serve_raw(ordinary, certificate(tmp_path)) as server:
        assert post(server.url, tmp_path / "ca.pem") == (200, MESSAGES.partition(b"\r\n\r\n")[2])
        environment = {
            **KEYS,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_CA_BUNDLE": str(tmp_path / "ca.pem"),
        }
        assert len(queue(environment, transport="curl").receive(10, 0)) == 1
        assert server.counts() == (2, 0)


@pytest.mark.parametrize(
    ("address", "days", "trusted"),
    [
        ("127.0.0.1", 1, False),  # another authority
        ("127.0.0.2", 1, True),  # another host
        ("127.0.0.1", -1, True),  # expired
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(
    address: str, days: int, trusted: bool, tmp_path: Path
) -> None:
    """By libcurl itself, before anything is sent; and it is said as it is for botocore."""
    other = tmp_path / "other"
    other.mkdir()
    certificate(other)
    with serve_raw(ordinary, certificate(tmp_path, address, days)) as server:
        ca_file = (tmp_path if trusted else other) / "ca.pem"
        with pytest.raises(CurlError) as failed:
            post(server.url, ca_file)
        environment = {**KEYS, "AWS_ENDPOINT_URL": server.url, "AWS_CA_BUNDLE": str(ca_file)}
        texts = []
        for transport in ("curl", "boto3"):
            with pytest.raises(QueueRefused, match="its certificate") as caught:
                queue(environment, transport=transport).receive(10, 0)
            texts.append(str(caught.value))
        assert (failed.value.failure, server.requests) == (Failure.NOT_CONNECTED, [])
        assert texts[0] == texts[1]


def transport_of(environment: dict[str, str], url: str = URL) -> Transport:
    """The transport to a queue."""
    access = find_access("sqs", {**KEYS, **environment}, queue_url=url)
    transport = over_curl(open_client(access), access)
    assert isinstance(transport, Transport)
    return transport


def test_the_authorities_are_those_of_botocore(tmp_path: Path) -> None:
    """Its own file, or that of a profile."""
    assert transport_of({})._curl._route.ca_file == get_cert_path(True)
    certificate(tmp_path)
    bundle = str(tmp_path / "ca.pem")
    (tmp_path / "config").write_text(f"[default]\nca_bundle = {bundle}\n")
    with_profile = transport_of({"AWS_CONFIG_FILE": str(tmp_path / "config")})
    assert with_profile._curl._route.ca_file == bundle


AWS = "https://sqs.{}.amazonaws.com/123456789012/q"
OWN = "http://host/000/q"
FIPS, DUAL = {"AWS_USE_FIPS_ENDPOINT": "true"}, {"AWS_USE_DUALSTACK_ENDPOINT": "true"}


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, AWS.format("eu-west-1")),
        ({}, "https://queue.amazonaws.com/123456789012/q"),
        ({}, "https://vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q"),
        ({"AWS_REGION": "cn-north-1"}, "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q"),
        ({"AWS_REGION": "us-iso-east-1"}, "https://sqs.us-iso-east-1.c2s.ic.gov/123456789012/q"),
        (FIPS, AWS.format("us-east-1")),
        (DUAL, AWS.format("us-east-1")),
        ({**FIPS, **DUAL}, AWS.format("us-east-1")),
        ({**FIPS, "AWS_REGION": "us-gov-west-1"}, AWS.format("us-gov-west-1")),
        ({"AWS_ENDPOINT_URL": f"http://me:{SECRET}@Host:9324/a/b/"}, OWN),
        ({"AWS_ENDPOINT_URL_SQS": "http://host:80/a"}, OWN),
        ({"AWS_ENDPOINT_URL_SQS": "https://host:443/%7Ea/../b//c~"}, OWN),
        ({"AWS_ENDPOINT_URL": "http://one", "AWS_ENDPOINT_URL_SQS": "http://[::1]:99"}, OWN),
        ({"AWS_SESSION_TOKEN": "token/+="}, AWS.format("eu-west-1")),
    ],
)
def test_a_call_goes_where_botocore_sends_it(environment: dict[str, str], url: str) -> None:
    """With the signature that it makes for that address."""
    transport = transport_of(environment, url)
    theirs = []

    def keep(request: Any, **_: Any) -> Any:
        theirs.append(request)
        raise RuntimeError

    transport.meta.events.register("before-send.sqs.*", keep)
    with contextlib.suppress(RuntimeError):
        transport._client.receive_message(QueueUrl=url)
    ours: list[list[str]] = []
    transport._curl.post = lambda headers, _: ours.append(headers) or (200, b"{}")  # type: ignore[func-returns-value]
    transport.receive_message(QueueUrl=url)
    headers = dict(line.split(": ", 1) for line in ours[0])
    by_botocore = {
        name: value if isinstance(value, str) else value.decode()
        for name, value in theirs[0].headers.items()
    }
    scope = by_botocore["Authorization"].partition(",")[0]
    assert headers["Authorization"].startswith(scope)
    assert headers.get("X-Amz-Security-Token") == by_botocore.get("X-Amz-Security-Token")
    address = transport._curl._route.address
    assert address == theirs[0].url.replace(f"me:{SECRET}@", "")
    body = b'{"QueueUrl":"%s"}' % url.encode()
    request = Request("", {name.lower(): value for name, value in headers.items()}, body, 1)
    path = "/" + address.split("/", 3)[3]
    assert signature_problem(request, SECRET, path=path) is None


@pytest.mark.parametrize("url", ["https://host/a?b=c", "http://host/é"])
def test_an_address_that_only_botocore_can_sign_is_left_to_it(url: str) -> None:
    """There is no such queue service, but nor is there a reason to fail."""
    access = find_access("sqs", {**KEYS, "AWS_ENDPOINT_URL": url})
    client = open_client(access)
    assert over_curl(client, access) is client


@contextmanager
def serve_tunnels() -> Iterator[tuple[str, list[str]]]:
    """A proxy for https; yields its host and port, and the heads of what it was asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    heads: list[str] = []
    opened = [listener]

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(1)
                heads.append(head.decode())
                host, _, port = heads[-1].split(" ")[1].partition(":")
                server = socket.create_connection((host, int(port)))
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                opened.extend((client, server))
                for pair in ((client, server), (server, client)):
                    threads.append(threading.Thread(target=copy, args=pair, daemon=True))
                    threads[-1].start()

    threads = [threading.Thread(target=accept, daemon=True)]
    threads[0].start()
    yield f"127.0.0.1:{listener.getsockname()[1]}", heads
    for kept in opened:
        with contextlib.suppress(OSError):
            kept.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    for kept in opened:
        kept.close()


def test_https_goes_through_a_tunnel(tmp_path: Path) -> None:
    """The proxy is shown its own password only, and the service none."""
    with serve_tunnels() as (proxy, heads), serve_raw(ordinary, certificate(tmp_path)) as server:
        environment = {
            **KEYS,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_CA_BUNDLE": str(tmp_path / "ca.pem"),
            "HTTPS_PROXY": f"http://me:s%40crt@{proxy}",
        }
        asked = queue(environment, transport="curl")
        for _ in range(2):
            assert len(asked.receive(10, 0)) == 1
        (head,) = heads
        lines = head.split("\r\n")
        assert lines[0] == f"CONNECT {server.url.removeprefix('https://')} HTTP/1.1"
        token = base64.b64encode(b"me:s@crt").decode()
        assert f"Proxy-Authorization: Basic {token}" in lines
        assert not [line for line in lines if line.startswith(("Authorization", "X-Amz"))]
        assert server.counts() == (2, 0)
        assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize("written", ["http://{}", "{}", "//{}"])
def test_http_goes_to_the_proxy(written: str) -> None:
    """With its whole address, as from botocore."""
    with serve_raw(ordinary) as proxy:
        environment = {
            **KEYS,
            "AWS_ENDPOINT_URL": "http://sqs.example:9324",
            "HTTP_PROXY": written.format(proxy.url.removeprefix("http://")),
        }
        for transport in ("curl", "boto3"):
            assert len(queue(environment, transport=transport).receive(10, 0)) == 1
        ours, theirs = proxy.requests
        assert ours.line == theirs.line == "POST http://sqs.example:9324/ HTTP/1.1"
        assert (ours.headers["host"], proxy.counts()) == ("sqs.example:9324", (1, 1))


def test_hosts_of_no_proxy_are_called_directly() -> None:
    """As the variables of the job say."""
    with serve_raw(lambda _: reply("", 502)) as proxy, serve_raw(ordinary) as server:
        environment = {
            **KEYS,
            "AWS_ENDPOINT_URL": server.url,
            "HTTP_PROXY": proxy.url,
            "NO_PROXY": "127.0.0.1",
        }
        assert len(queue(environment, transport="curl").receive(10, 0)) == 1
        assert (server.counts(), proxy.requests) == ((1, 0), [])


def test_nothing_is_read_of_the_environment_and_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the proxies of this process, nor files that the command curl reads."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    (tmp_path / ".curlrc").write_text("user-agent = other\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with serve_raw(ordinary) as server:
        queue({**KEYS, "AWS_ENDPOINT_URL": server.url}, transport="curl").receive(10, 0)
        assert server.counts() == (1, 0)
        assert server.requests[0].headers["authorization"].startswith("AWS4-HMAC-SHA256")
        assert server.requests[0].headers["user-agent"].startswith("etl/")
    # The environment's NO_PROXY does not keep a call from the proxy of the job.
    monkeypatch.setenv("NO_PROXY", "*")
    with serve_raw(ordinary) as proxy:
        environment = {**KEYS, "AWS_ENDPOINT_URL": "http://sqs.example", "HTTP_PROXY": proxy.url}
        queue(environment, transport="curl").receive(10, 0)
        assert proxy.counts() == (1, 0)


def test_a_password_in_the_address_is_not_sent() -> None:
    """The call is signed as without it."""
    with serve_raw(ordinary) as server:
        url = server.url.replace("//", f"//me:{SECRET}@")
        assert len(queue({**KEYS, "AWS_ENDPOINT_URL": url}, transport="curl").receive(10, 0)) == 1
        assert server.counts() == (1, 0)
        assert signature_problem(server.requests[0], SECRET) is None


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://127.0.0.1:9/"])
def test_a_redirect_is_the_answer(location: str) -> None:
    """It is not followed."""
    with serve_raw(lambda _: reply("", 302, Location=location)) as server:
        assert post(server.url) == (302, b"")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/"])
def test_only_http_and_https_are_spoken(url: str) -> None:
    """Libcurl knows many more."""
    with pytest.raises(CurlError):
        post(url)


def test_what_goes_wrong_is_told_apart() -> None:
    """What could not be sent may be sent by another way."""

    def answer(request: Request) -> Reply:
        return Reply(b"", closes=True)

    with pytest.raises(CurlError, match="NOT_CONNECTED"):
        post("http://127.0.0.1:9")
    with serve_raw(answer) as server, pytest.raises(CurlError, match="CUT"):
        post(server.url)


def test_an_error_says_nothing_of_the_address() -> None:
    """Which may have a password in it."""
    with pytest.raises(CurlError) as caught:
        post(f"http://me:{SECRET}@127.0.0.1:9")
    route = Route(f"http://{SECRET}@h", "f", 1, 1, "etl", proxy=f"http://me:{SECRET}@h")
    for text in (str(caught.value), repr(caught.value.__context__), repr(route)):
        assert SECRET not in text


def test_an_answer_is_waited_for_as_long_as_by_botocore() -> None:
    """Libcurl finds that nothing comes six to seven seconds late, so it is told less."""
    transport = transport_of({})
    found: dict[int, Any] = {}

    class Handle:
        def setopt(self, option: int, value: Any) -> None:
            found[option] = value

        def unsetopt(self, option: int) -> None:
            pass

    pycurl = transport._curl._pycurl
    transport._curl._pycurl = SimpleNamespace(**{**vars(pycurl), "Curl": Handle})
    transport._curl._new_handle()
    assert found[pycurl.LOW_SPEED_LIMIT] == 1
    assert found[pycurl.LOW_SPEED_TIME] + 6 == transport.meta.config.read_timeout


@pytest.mark.parametrize("transport", ["curl", "boto3"])
def test_the_keys_of_tls_are_written_if_the_environment_says_so(
    transport: str, tmp_path: Path
) -> None:
    """docs/security.md says that both do, and warns of it."""
    keys = tmp_path / "keys"
    with serve_raw(ordinary, certificate(tmp_path)) as server:
        variables = {
            **KEYS,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_CA_BUNDLE": str(tmp_path / "ca.pem"),
        }
        # libcurl reads it once in a process.
        program = (
            "from tests.unit.aws_server import queue\n"
            f"queue({variables!r}, transport={transport!r}).receive(10, 0)"
        )
        environment = {**os.environ, "SSLKEYLOGFILE": str(keys)}
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
        assert server.counts() == ((1, 0) if transport == "curl" else (0, 1))
    assert "TRAFFIC_SECRET" in keys.read_text()
