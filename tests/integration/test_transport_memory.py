"""A long run over libcurl needs no more memory than a short one."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import psutil
import pytest

from bench.stub import Stub
from etl.aws.curl import Curl, CurlError, Route
from etl.config import QueueSettings
from etl.sqs.client import open_queue
from tests.unit.aws_server import KEYS
from tests.unit.builders import event
from tests.unit.raw_server import Reply, serve_raw

MESSAGES = 1_000_000
MAX_GROWTH = 8 * 1024 * 1024  # bytes; 8 for each message


def memory() -> int:
    """Resident bytes of this process."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_million_messages_leave_nothing_behind(tmp_path: Path) -> None:
    """200,000 calls: each message is received and deleted."""
    bodies = tmp_path / "bodies"
    bodies.write_text("\n".join([event()] * 50))
    with Stub(bodies, MESSAGES) as stub:
        asked = open_queue(QueueSettings(url=stub.queue_url), {**KEYS, **stub.environment})
        received = 0
        after_a_tenth = 0
        while messages := asked.receive(10, 0):
            received += len(messages)
            assert asked.acknowledge([message.handle for message in messages]) == []
            if received == MESSAGES // 10:
                after_a_tenth = memory()
        assert (received, stub.counts()["deleted"]) == (MESSAGES, MESSAGES)
        assert memory() - after_a_tenth < MAX_GROWTH


def test_calls_that_fail_leave_nothing_behind() -> None:
    """Each ends in the middle of its answer, and begins with a new connection."""
    answer = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 8000, closes=True)
    with serve_raw(lambda _: answer) as server:
        curl = Curl(Route(server.url, "/none", 5, 5, "etl"))

        def fail(times: int) -> None:
            for _ in range(times):
                with pytest.raises(CurlError, match="CUT"):
                    curl.post(["X-Amz-Target: AmazonSQS.ReceiveMessage"], b"{}")
                server.requests.clear()

        fail(200)
        before = memory()
        fail(2000)
        assert memory() - before < MAX_GROWTH
        assert len(curl._free) == 1


def test_large_answers_leave_nothing_behind() -> None:
    """Ten of the largest messages, some times: their memory is given back."""
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": "x" * 1024 * 1024}
    body = json.dumps({"Messages": [message] * 10}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with serve_raw(lambda _: answer) as server:
        curl = Curl(Route(server.url, "/none", 5, 5, "etl"))
        assert curl.post([], b"{}") == (200, body)
        before = memory()
        for _ in range(20):
            assert len(curl.post([], b"{}")[1]) == len(body)
        assert memory() - before < MAX_GROWTH + len(body)
