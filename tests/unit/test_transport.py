"""The calls over libcurl: the ordinary answer is its own, and everything else is botocore's.

This is one file because all its tests watch the same server from the other side.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

import etl.aws.access
import etl.aws.curl
from etl.aws.curl import CurlError, Failure
from etl.errors import EtlError, QueueRefused, QueueUnavailable
from etl.sqs.message import Handle, body_md5
from etl.sqs.queue import Queue
from etl.sqs.transport import MAX_MISSES
from etl.version import __version__
from tests.signatures import signature_problem
from tests.unit.aws_server import KEYS, SECRET, certificate, queue
from tests.unit.raw_server import RawServer, Reply, Request, reply, serve_raw

HANDLES = [Handle("m0", "handle 0"), Handle("m1", "handle 1")]
BODY = json.dumps({"user_id": "ü", "quote": '"'})
MESSAGE = {
    "MessageId": "m0",
    "ReceiptHandle": "handle 0",
    "MD5OfBody": body_md5(BODY),
    "Body": BODY,
    "Attributes": {"SentTimestamp": "1700000000000", "ApproximateReceiveCount": "1"},
}
MESSAGES = reply(json.dumps({"Messages": [MESSAGE]}))
DELETED = reply('{"Successful": [{"Id": "0"}, {"Id": "1"}], "Failed": []}')


def ordinary(request: Request) -> bytes:
    """What SQS answers when all is well."""
    return MESSAGES if request.headers["x-amz-target"].endswith(".ReceiveMessage") else DELETED


def over(transport: str, url: str, **more: Any) -> Queue:
    """A queue at this address."""
    return queue({**KEYS, "AWS_ENDPOINT_URL": url}, transport=transport, **more)


@pytest.fixture
def server() -> Iterator[RawServer]:
    with serve_raw(ordinary) as server:
        yield server


def test_the_frequent_calls_go_over_one_kept_connection(server: RawServer) -> None:
    """None of them is made by botocore."""
    asked = over("curl", server.url)
    for _ in range(3):
        (message,) = asked.receive(10, 5)
        assert (message.message_id, message.body, message.is_damaged) == ("m0", BODY, False)
        assert message.sent_ms == 1_700_000_000_000
        assert asked.acknowledge(HANDLES) == []
        assert asked.extend(HANDLES, 30) == []
    assert (server.counts(), server.connections) == ((9, 0), 1)


def test_a_call_is_that_of_botocore(server: RawServer) -> None:
    """In its parameters and its headers, less what only botocore's own retries need."""
    for transport in ("curl", "boto3"):
        asked = over(transport, server.url)
        asked.receive(7, 5)
        asked.acknowledge(HANDLES)
        asked.extend(HANDLES, 30)
    for ours, theirs in zip(server.requests[:3], server.requests[3:], strict=True):
        assert (ours.is_of_botocore, theirs.is_of_botocore) == (False, True)
        assert (ours.line, ours.parameters) == (theirs.line, theirs.parameters)
        for name in ("accept-encoding", "content-type", "host", "x-amz-target"):
            assert ours.headers[name] == theirs.headers[name]
        assert ours.headers["user-agent"] == f"etl/{__version__}"
        assert not {"expect", "cookie"} & ours.headers.keys()
        assert signature_problem(ours, SECRET) is None


def test_other_calls_are_made_by_botocore(server: RawServer) -> None:
    """Such as those about the queue, and sending."""
    asked = over("curl", server.url)
    with pytest.raises(QueueRefused):
        asked.state()
    asked.send(["{}"])
    assert server.counts() == (0, 2)


def test_failed_entries_come_through(server: RawServer) -> None:
    """The call succeeds, and names what did not work."""
    failed = {"Id": "1", "Code": "InternalError", "SenderFault": False}
    with serve_raw(lambda _: reply(json.dumps({"Successful": [], "Failed": [failed]}))) as other:
        (entry,) = over("curl", other.url).acknowledge(HANDLES)
        assert other.counts() == (1, 0)
    assert (entry.handle, entry.code, entry.final) == (HANDLES[1], "InternalError", False)


@pytest.mark.parametrize(
    "answer",
    ["{}", '{"Messages": []}', '{"Messages": null}', '{"ResponseMetadata": {}}', ' {"a": 1} '],
)
def test_an_empty_answer_is_one(answer: str) -> None:
    """However an emulator writes it: botocore understands it in the same way."""
    with serve_raw(lambda _: reply(answer)) as server:
        assert over("curl", server.url).receive(10, 5) == []
        assert server.counts() == (1, 0)


def test_what_only_json_reads_is_read_too() -> None:
    """A lone surrogate, as from an emulator that checks nothing: the checks name it later."""
    text = json.dumps({"Messages": [{**MESSAGE, "Body": "\ud800"}]})
    with serve_raw(lambda _: reply(text)) as server:
        (message,) = over("curl", server.url).receive(10, 0)
        assert (message.body, server.counts()) == ("\ud800", (1, 0))


def said(ask: Callable[[], Any]) -> Any:
    """What a call returns, or the kind and the text of what it raises."""
    try:
        found = ask()
    except EtlError as error:
        return type(error), str(error)
    except Exception as error:  # noqa: BLE001
        return type(error)
    return [getattr(entry, "message_id", entry) for entry in found]


# Answers that are not the ordinary one, and none of an AWS error: test_transport_errors has those.
UNUSUAL = [
    reply("<html>log in</html>"),
    reply(""),
    reply("[]"),
    reply('"text"'),
    reply('{"Messages": 5}'),
    reply('{"Messages": [5]}'),
    reply('{"Messages": [null]}'),
    reply('{"Messages": {"a": 1}}'),
    reply('{"Messages": [{"MessageId": "m0"}]}'),
    reply('{"Messages": [{"MessageId": null, "ReceiptHandle": "r"}]}'),
    reply('{"Messages": [{"MessageId": "m0", "ReceiptHandle": "r", "Attributes": []}]}'),
    reply('{"Failed": 5, "Successful": []}'),
    reply('{"Failed": [{"Id": "0"}], "Successful": []}'),
    reply('{"Failed": [{"Id": 0, "Code": "x", "SenderFault": true}], "Successful": []}'),
    reply('{"Messages": ' + "[" * 100_000),
    reply(b'{"Messages": "\xff"}'),
    reply("{}", 204),
    reply("{}", 201),
    reply("<html>gone</html>", 404),
    reply("", 500),
    reply("<html>", 502),
    reply("{}", 503),
    reply("", 302, Location="http://127.0.0.1:9/"),
    reply("", 307, Location="http://127.0.0.1:9/"),
    reply('{"Messages": []}', 302),
    reply('{"Messages": [], "Failed": []}', 500),
    reply("{}", Content_Encoding="gzip"),
    b"\x15\x03\x01\x00\x02\x02\x46\r\n",
    b"hello",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    b"",
]


@pytest.fixture(scope="module")
def both() -> Iterator[Callable[[bytes, Callable[[Queue], Any]], list[Any]]]:
    """What a call comes to over both transports, if each request has the same answer."""
    now = [b""]
    with serve_raw(lambda _: Reply(now[0], closes=True)) as server:
        queues = [over(transport, server.url) for transport in ("boto3", "curl")]

        def ask(answer: bytes, call: Callable[[Queue], Any]) -> list[Any]:
            # Said beforehand, or botocore could meet its kept connection just before it is closed.
            now[0] = answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            return [said(lambda: call(asked)) for asked in queues]  # noqa: B023

        yield ask


CALLS: list[Callable[[Queue], Any]] = [
    lambda asked: asked.receive(10, 0),
    lambda asked: asked.acknowledge(HANDLES),
    lambda asked: asked.extend(HANDLES, 30),
]


@pytest.mark.parametrize("answer", UNUSUAL, ids=lambda a: repr(a.partition(b"\r\n\r\n")[2][:40]))
def test_what_botocore_makes_of_an_unusual_answer_counts(answer: bytes, both: Any) -> None:
    """The same is returned or raised as without libcurl."""
    for call in CALLS:
        over_boto3, over_curl = both(answer, call)
        assert over_curl == over_boto3


def test_a_redirect_is_not_followed() -> None:
    """A signed call goes to its own address only."""
    with serve_raw(ordinary) as other:
        answer = reply("", 307, Location=other.url)
        with serve_raw(lambda _: answer) as server, pytest.raises(QueueRefused, match="'307'"):
            over("curl", server.url).receive(10, 0)
        assert other.requests == []


def test_an_answer_that_is_cut_is_asked_for_again() -> None:
    """On a kept connection, at any byte of the answer."""
    answers: list[Reply | bytes] = []
    with serve_raw(lambda _: answers.pop(0)) as server:
        asked = over("curl", server.url)
        for at in range(len(MESSAGES)):
            answers[:] = [MESSAGES, Reply(MESSAGES[:at], closes=True), MESSAGES, MESSAGES]
            for _ in range(3):
                assert [m.body for m in asked.receive(10, 0)] == [BODY]
            assert answers == []


def test_a_connection_that_is_closed_while_idle_is_no_error() -> None:
    """Libcurl makes another one by itself."""
    with serve_raw(lambda request: Reply(ordinary(request), closes=True)) as server:
        asked = over("curl", server.url)
        for _ in range(3):
            assert len(asked.receive(10, 0)) == 1
            time.sleep(0.05)
        assert (server.counts(), server.connections) == ((3, 0), 3)


def test_an_answer_that_does_not_come_is_an_outage_at_once() -> None:
    """The caller tries again: botocore's own tries would hold up a heartbeat."""
    ended = threading.Event()

    def answer(_: Request) -> bytes:
        ended.wait(60)
        return MESSAGES

    with serve_raw(answer) as server:
        asked = over("curl", server.url, read_timeout=1)
        with pytest.raises(QueueUnavailable, match=r"no answer from SQS .* \(ReadTimeoutError\)"):
            asked.receive(10, 0)
        ended.set()
        assert server.counts() == (1, 0)


@pytest.mark.parametrize("is_declared", [True, False])
def test_an_answer_without_an_end_is_not_read(
    is_declared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor asked for again, since botocore would read it."""
    monkeypatch.setattr(etl.aws.curl, "MAX_ANSWER_BYTES", 10_000)
    chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    head = b"Content-Length: 99999999" if is_declared else b"Transfer-Encoding: chunked"
    answer = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + chunk * 1000
    with serve_raw(lambda _: answer) as server:
        with pytest.raises(QueueRefused, match="the answer to 'receive_message' cannot be read"):
            over("curl", server.url).receive(10, 0)
        assert server.counts() == (1, 0)


class Sqs:
    """An SQS with a clock of its own, which refuses what was not signed in time."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def answer(self, request: Request) -> bytes:
        """Answer a call, or refuse its signature."""
        now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.ahead_seconds)
        problem = signature_problem(request, SECRET, now)
        if problem is None:
            return ordinary(request)
        date = formatdate(now.timestamp(), usegmt=True)
        body = {
            "__type": "com.amazon.coral.service#InvalidSignatureException",
            "message": f"Signature expired: {problem}",
        }
        return reply(json.dumps(body), 400, Date=date)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_wrong_clock_is_corrected_once(seconds: int, caplog: pytest.LogCaptureFixture) -> None:
    """By the time of SQS's answer; and forgotten when the clock has been set."""
    sqs = Sqs()
    with serve_raw(sqs.answer) as server:
        asked = over("curl", server.url)
        for ahead, calls in ((0, (1, 0)), (seconds, (2, 1)), (0, (1, 1)), (seconds, (2, 1))):
            sqs.ahead_seconds = ahead
            server.requests.clear()
            assert len(asked.receive(10, 0)) == 1
            assert server.counts() == calls
            server.requests.clear()
            assert len(asked.receive(10, 0)) == 1
            assert server.counts() == (1, 0)
    side = "behind" if seconds > 0 else "ahead of"
    assert [f"s {side} SQS's; correct it" in line for line in caplog.messages] == [True, True]


def test_a_wrong_clock_that_is_not_the_reason_is_not_corrected() -> None:
    """The refusal is that of botocore, and later calls are signed as before."""
    refusal = reply(
        '{"__type": "AccessDeniedException"}', 400, Date="Mon, 01 Jan 2001 00:00:00 GMT"
    )
    answers = [refusal, refusal, refusal, MESSAGES]
    with serve_raw(lambda _: answers.pop(0)) as server:
        asked = over("curl", server.url)
        with pytest.raises(QueueRefused, match="AccessDenied"):
            asked.receive(10, 0)
        assert len(asked.receive(10, 0)) == 1
        now = dt.datetime.now(dt.UTC)
        assert signature_problem(server.requests[-1], SECRET, now) is None


def test_credentials_are_asked_for_each_time(tmp_path: Path) -> None:
    """They are renewed in the middle of a run, and a call is signed with what holds then."""
    program = tmp_path / "renew"
    program.write_text(
        f"#!{sys.executable}\n"
        "import datetime as dt, json, os, pathlib\n"
        f"calls = pathlib.Path({str(tmp_path / 'calls')!r})\n"
        "number = len(calls.read_text()) if calls.exists() else 0\n"
        "calls.write_text('x' * (number + 1))\n"
        # botocore renews what ends within ten minutes at every call.
        "ends = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=5)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': 'A', 'SecretAccessKey': 's',\n"
        "    'SessionToken': f'token {number}'.replace(' ', '-'), 'Expiration': str(ends)}))\n"
    )
    program.chmod(0o700)
    (tmp_path / "config").write_text(
        f"[default]\ncredential_process = {program}\nregion = eu-west-1\n"
    )
    with serve_raw(ordinary) as server:
        environment = {
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_ENDPOINT_URL": server.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        asked = queue(environment, transport="curl")
        for _ in range(3):
            asked.receive(10, 0)
        assert server.counts() == (3, 0)
        tokens = {request.headers["x-amz-security-token"] for request in server.requests}
        assert len(tokens) == 3
        assert [signature_problem(request, "s") for request in server.requests] == [None] * 3


class Unconnected:
    """A Curl that cannot connect."""

    calls = 0

    def post(self, headers: list[str], body: bytes) -> tuple[int, bytes]:
        """Fail, and count it."""
        self.calls += 1
        raise CurlError(Failure.NOT_CONNECTED)


def test_what_libcurl_cannot_reach_is_left_to_botocore(
    server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    """For good, if it never could; a log line says so once."""
    asked = over("curl", server.url)
    transport = asked._calls._client
    transport._curl = Unconnected()
    for _ in range(MAX_MISSES + 3):
        assert len(asked.receive(10, 0)) == 1
    assert transport._curl.calls == MAX_MISSES
    assert caplog.messages == ["libcurl cannot connect where boto3 can; going on with boto3 only"]


def test_what_libcurl_could_reach_is_tried_again(
    server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage is no reason to leave it, nor to say so."""
    asked = over("curl", server.url)
    asked.receive(10, 0)
    transport = asked._calls._client
    curl, transport._curl = transport._curl, Unconnected()
    for _ in range(MAX_MISSES + 3):
        asked.receive(10, 0)
    transport._curl = curl
    server.requests.clear()
    asked.receive(10, 0)
    assert (server.counts(), caplog.messages) == ((1, 0), [])


@pytest.mark.parametrize("is_worker", [False, True])
def test_without_pycurl_all_calls_go_through_boto3(
    is_worker: bool,
    server: RawServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A log line says so, but not once more for each worker."""
    monkeypatch.setitem(sys.modules, "pycurl", None)
    monkeypatch.setattr(etl.aws.access, "is_main_process", lambda: not is_worker)
    assert len(over("curl", server.url).receive(10, 0)) == 1
    assert server.counts() == (0, 1)
    line = "pycurl cannot be imported: SQS is called through boto3, which is slower"
    assert caplog.messages == ([] if is_worker else [line])


def test_threads_share_the_connections() -> None:
    """Each call has its own answer, and there are no more connections than calls at a time."""

    def answer(request: Request) -> bytes:
        number = request.parameters["MaxNumberOfMessages"]
        return reply(json.dumps({"Messages": [{**MESSAGE, "MessageId": f"m{number}"}]}))

    with serve_raw(answer) as server:
        asked = over("curl", server.url)
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                ids = pool.map(lambda n: asked.receive(n, 0)[0].message_id, range(100))
                assert list(ids) == [f"m{number}" for number in range(100)]
        # Threads that come later use the connections of those that have ended.
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: asked.receive(n, 0), range(100)))
        assert server.connections <= 8
        assert server.counts() == (600, 0)


def test_a_fork_makes_its_own_connections(tmp_path: Path) -> None:
    """The child leaves those of its parent open, which are in the middle of a TLS session."""
    with serve_raw(ordinary, tls=certificate(tmp_path)) as server:
        environment = {
            **KEYS,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_CA_BUNDLE": str(tmp_path / "ca.pem"),
        }
        asked = queue(environment, transport="curl")
        asked.receive(10, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fork beside threads, of which none holds a lock
            child = os.fork()
        if child == 0:
            is_right = len(asked.receive(10, 0)) == 1
            os._exit(0 if is_right else 1)
        assert os.waitpid(child, 0)[1] == 0
        asked.receive(10, 0)
        assert [request.connection for request in server.requests] == [1, 2, 1]
        assert server.counts() == (3, 0)
