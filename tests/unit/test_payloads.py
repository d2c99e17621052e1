"""Bodies that are read from S3, over real HTTP, and what the answers of S3 mean."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etl.aws import objects
from etl.config import QueueSettings
from etl.errors import ConfigurationError, PayloadsRefused, PayloadsUnavailable
from etl.reading import payloads
from etl.reading.payloads import Payloads, open_payloads
from etl.sqs.limits import Stop
from etl.sqs.message import Message
from tests.s3_server import (
    BUCKET,
    HOST,
    S3Server,
    cut,
    dripping,
    endless,
    error,
    pointer,
    serve_s3,
    waiting_for,
    whole,
)
from tests.unit.builders import message

MIB = 1024 * 1024
SLOW_DOWN = error(503, "SlowDown")
URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/logins"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server; botocore waits no time between its own attempts."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    with serve_s3() as server:
        yield server


def source(s3: S3Server, stop: Stop | None = None, **changes: Any) -> Payloads:
    """What reads bodies from the server."""
    retry_seconds = changes.pop("retry_seconds", 60)
    variables = {**s3.environment, **changes.pop("variables", {})}
    given = {"payloads": "s3", "payload_buckets": [BUCKET], **changes}
    return open_payloads(
        QueueSettings.model_validate(given), variables, stop or Stop(), retry_seconds
    )


def read(reader: Payloads, *bodies: str) -> list[str]:
    """The bodies that come of these bodies, and of what fails a check its name."""
    messages = [message(body, number) for number, body in enumerate(bodies)]
    (part,) = reader.bodies(messages, 1 << 40)
    found = {m.message_id: m.body for m in part.messages}
    found |= {m.message_id: f"failed {check}" for m, check in part.faults}
    return [found[m.message_id] for m in messages]


def test_bodies_take_the_place_of_their_pointers(s3: S3Server) -> None:
    """In the order of the messages, of which others stay as they are."""
    bodies = [s3.put(f"k{i}", f"body {i} ä") for i in range(20)]
    bodies.insert(5, "{}")
    expected = [f"body {i} ä" for i in range(20)]
    expected.insert(5, "{}")
    assert read(source(s3), *bodies) == expected
    assert {method for method, _, _ in s3.asked} == {"GET"}
    assert s3.most_in_progress <= objects.MAX_READS


def test_a_message_keeps_all_but_its_body(s3: S3Server) -> None:
    """The MD5 of SQS is that of the pointer, and the message that is held never changes."""
    came = message(s3.put("k", "body"), 7, deliveries=3, attributes={"a": 1})
    (part,) = source(s3).bodies([came], 1)
    (found,) = part.messages
    assert (found.body, found.is_damaged) == ("body", False)
    assert (found.handle, found.sent_ms, found.deliveries) == (came.handle, came.sent_ms, 3)
    assert found.attributes == {"a": 1}
    assert came.body == pointer("k")


@pytest.mark.parametrize(
    ("content", "check"),
    [(b"\xff", "UTF-8"), (b"\xed\xa0\x80", "UTF-8"), (b'{"a": 1}\0{}', "UTF-8"),
     (b"a" * 1025, "S3 object size")],
)  # fmt: skip
def test_a_body_that_no_message_could_have_fails_a_check(
    s3: S3Server, content: bytes, check: str
) -> None:
    """The other messages go on."""
    bodies = [s3.put("bad", content), s3.put("good", b"a" * 1024)]
    assert read(source(s3, payload_max_bytes=1024), *bodies) == [f"failed {check}", "a" * 1024]


@pytest.mark.parametrize("code", ["NoSuchKey", "InvalidObjectState"])
def test_an_object_that_is_gone_fails_a_check(s3: S3Server, code: str) -> None:
    """Expired, deleted, or in an archive: the job goes on."""
    s3.always["gone"] = error(404 if code == "NoSuchKey" else 403, code)
    assert read(source(s3), pointer("gone")) == ["failed S3 object"]


def test_no_other_bucket_is_asked(s3: S3Server) -> None:
    """Not even whether it exists."""
    bodies = [s3.put("k", "body", "secrets"), pointer("../secrets/k")]
    assert read(source(s3), *bodies) == ["failed S3 bucket", "failed S3 pointer"]
    assert s3.asked == []


def test_what_an_object_holds_is_not_followed(s3: S3Server) -> None:
    """A pointer to a pointer is a body like any other."""
    s3.put("k2", "body")
    assert read(source(s3), s3.put("k1", pointer("k2"))) == [pointer("k2")]


def test_a_damaged_pointer_is_not_followed(s3: S3Server) -> None:
    """Its own check will name it."""
    damaged = message(s3.put("k", "body"), md5="0" * 32)
    (part,) = source(s3).bodies([damaged], 1)
    assert (part.messages, s3.asked) == ([damaged], [])


def test_an_endless_body_is_read_up_to_the_limit(s3: S3Server) -> None:
    """It announces no length, so only the bytes that come can be counted."""
    s3.always["k"] = endless
    reader = source(s3, payload_max_bytes=MIB)
    read(reader, s3.put("small", "body"))  # what botocore loads for its first call
    tracemalloc.start()
    try:
        assert read(reader, pointer("k")) == ["failed S3 object size"]
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_as_many_bodies_are_in_memory_as_the_limits_say(s3: S3Server) -> None:
    """A part ends at its bytes, and no more than MAX_READS objects are read ahead of it."""
    messages = [message(s3.put(f"k{i}", b"a" * 1024), i) for i in range(100)]
    parts = source(s3, payload_max_bytes=1024).bodies(messages, 4 * 1024)
    taken: list[Message] = []
    for number, part in enumerate(parts, 1):
        assert len(part.messages) == 4
        taken += part.messages
        time.sleep(0.01)  # for what would be read too early
        assert len(s3.asked) <= 4 * number + objects.MAX_READS
    assert [m.message_id for m in taken] == [m.message_id for m in messages]


def test_several_objects_are_read_at_once(s3: S3Server) -> None:
    """All of them have begun before the first one ends."""
    begun = threading.Event()

    def last(handler: Any, content: bytes) -> None:
        begun.set()
        whole(handler, content)

    bodies = [s3.put(f"k{i}", "body") for i in range(objects.MAX_READS)]
    s3.always = {f"k{i}": waiting_for(begun) for i in range(objects.MAX_READS)}
    s3.always[f"k{objects.MAX_READS - 1}"] = last
    assert read(source(s3), *bodies) == ["body"] * objects.MAX_READS


@pytest.mark.parametrize("fault", [cut, SLOW_DOWN, error(500, "InternalError")])
def test_a_fault_that_may_pass_is_waited_out(s3: S3Server, fault: Any) -> None:
    """More often than botocore tries by itself."""
    body = s3.put("k", "body" * 1000)
    s3.faults["k"] = [fault] * 4
    assert read(source(s3), body) == ["body" * 1000]


def test_a_body_that_does_not_come_is_asked_for_again(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes come now and then, so no timeout of the connection would end this."""
    monkeypatch.setattr(payloads, "READ_SECONDS", 0.3)
    body = s3.put("k", "body" * 1000)
    s3.faults["k"] = [dripping]
    assert read(source(s3), body) == ["body" * 1000]


@pytest.mark.parametrize("fault", [SLOW_DOWN, None])
def test_an_outage_that_lasts_ends_the_run(s3: S3Server, fault: Any) -> None:
    """With or without a server."""
    s3.always = {"": fault} if fault else {}
    variables = {} if fault else {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
    with pytest.raises(PayloadsUnavailable, match="S3"):
        read(source(s3, retry_seconds=0, variables=variables), pointer("k"))


def test_a_stop_ends_the_wait(s3: S3Server) -> None:
    """A run that is told to stop gives its messages back at once."""
    stop = Stop()

    def stopping(handler: Any, content: bytes) -> None:
        stop.request("SIGTERM", release_rest=True)
        SLOW_DOWN(handler, content)

    s3.always[""] = stopping
    with pytest.raises(PayloadsUnavailable):
        read(source(s3, stop, retry_seconds=3600), pointer("k"))


def test_a_missing_right_is_named(s3: S3Server) -> None:
    """It holds for every object, so no message must pay for it; and no key is quoted."""
    s3.always[""] = error(403, "AccessDenied")
    with pytest.raises(PayloadsRefused) as refused:
        read(source(s3), pointer("anna-bell"))
    text = str(refused.value)
    assert "allow s3:GetObject" in text
    assert repr(BUCKET) in text
    assert "anna-bell" not in text


def test_one_object_that_is_denied_does_not_stop_the_others(s3: S3Server) -> None:
    """Without the right to list, S3 denies what does not exist; another object tells."""
    s3.may_list = False
    assert read(source(s3), pointer("gone"), s3.put("k", "body")) == ["failed S3 object", "body"]
    assert s3.keys().count("k") == 2


def test_a_right_that_is_taken_away_stops_the_run(s3: S3Server) -> None:
    """Though an object was read before: it cannot be read again."""
    reader = source(s3)
    assert read(reader, s3.put("k", "body")) == ["body"]
    s3.always[""] = error(403, "AccessDenied")
    with pytest.raises(PayloadsRefused, match="s3:GetObject"):
        read(reader, pointer("k2"))


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(404, "NoSuchBucket", "check 'queue.payload_buckets'"),
     (403, "InvalidAccessKeyId", "AWS does not know the access key id"),
     (403, "SignatureDoesNotMatch", "the secret key is not that")],
)  # fmt: skip
def test_what_every_object_would_meet_is_found_at_the_start(
    s3: S3Server, status: int, code: str, words: str
) -> None:
    """Before anything is received."""
    s3.always[""] = error(status, code)
    with pytest.raises(ConfigurationError, match=words):
        source(s3).check()


def test_the_start_waits_for_s3(s3: S3Server) -> None:
    """As for every service without which nothing can be loaded."""
    s3.faults["etl/no-such-object"] = [SLOW_DOWN] * 4
    source(s3).check()
    s3.always[""] = SLOW_DOWN
    with pytest.raises(PayloadsUnavailable):
        source(s3, retry_seconds=0).check()


@pytest.mark.parametrize("may_list", [True, False])
def test_the_rights_of_a_start_suffice(s3: S3Server, may_list: bool) -> None:
    """Whether the bucket may be listed or not."""
    s3.may_list = may_list
    source(s3).check()


def test_a_foreign_answer_at_the_start_is_a_mistake_in_the_configuration(s3: S3Server) -> None:
    """Such as the endpoint of another service."""

    def page(handler: Any, _: bytes) -> None:
        handler.send_response(403)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    s3.always[""] = page
    with pytest.raises(ConfigurationError, match="may not be S3"):
        source(s3).check()


def test_the_region_is_that_of_the_queue_and_the_keys_those_of_the_environment(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of this process."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    regions: list[str] = []
    monkeypatch.setattr(
        "etl.aws.access.destination",
        lambda access, *_: regions.append(access.region),
    )
    read(source(s3, url=URL), s3.put("k", "body"))
    assert s3.signers == {"AKIAEXAMPLE"}
    assert regions == ["eu-central-1"]


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_both_kinds_of_addresses_are_used(s3: S3Server, tmp_path: Path, style: str) -> None:
    """As the AWS configuration says; the server is its own proxy, since no name leads to it."""
    (tmp_path / "config").write_text(f"[default]\ns3 =\n  addressing_style = {style}\n")
    variables = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_ENDPOINT_URL_S3": f"http://{HOST}",
        "HTTP_PROXY": s3.url,
    }
    assert read(source(s3, variables=variables), s3.put("a b/ä+", "body")) == ["body"]
    assert s3.hosts == {HOST if style == "path" else f"{BUCKET}.{HOST}"}
    assert s3.keys() == ["a b/ä+"]


def test_nothing_is_written_to_disk(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body is personal data."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    body = s3.put("k", b"a" * 4 * MIB)
    opened: list[Any] = []
    real_open = open

    def noting(file: Any, mode: str = "r", *more: Any, **others: Any) -> Any:
        if {*mode} & {*"wax+"}:
            opened.append(file)
        return real_open(file, mode, *more, **others)

    monkeypatch.setattr("builtins.open", noting)
    with suppress(StopIteration):
        read(source(s3), body)
    assert (opened, list(tmp_path.iterdir())) == ([], [])
