"""The embedded SQS as boto3 and a plain socket see it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from etl.embedded.sqs import EmbeddedSqs
from etl.errors import EmbeddedError

NAMES = count()


@pytest.fixture(scope="module")
def sqs():
    with EmbeddedSqs() as running:
        yield running


@pytest.fixture(scope="module")
def client(sqs):
    with closing(sqs.client()) as boto3_client:
        yield boto3_client


@pytest.fixture
def url(sqs):
    return sqs.create_queue(f"q{next(NAMES)}")


def raises(code: str):
    """Expect an error of SQS with this code."""
    return pytest.raises(ClientError, check=lambda error: error.response["Error"]["Code"] == code)


def receive(client, url, **options):
    """Receive messages; return an empty list when there are none."""
    return client.receive_message(QueueUrl=url, **options).get("Messages", [])


def attributes(client, url):
    """Return all attributes of the queue."""
    return client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def post(sqs, target: str | None, body: bytes) -> tuple[int, dict]:
    """Send one request without boto3; return the status and the decoded body of the answer."""
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    if target:
        headers["X-Amz-Target"] = target
    request = urllib.request.Request(sqs.endpoint_url, body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def connect(sqs) -> socket.socket:
    """Open a plain connection to the server."""
    address = urlsplit(sqs.endpoint_url)
    return socket.create_connection((address.hostname, address.port), timeout=30)


def raw_request(action: str, **members) -> bytes:
    """Return the bytes of a request as they go over the connection."""
    body = json.dumps(members).encode()
    head = f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.{action}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def read_answers(connection: socket.socket, number: int = 1) -> list[tuple[int, bytes]]:
    """Read *number* HTTP answers; return the status and the body of each."""
    with connection.makefile("rb") as stream:
        return [read_answer(stream) for _ in range(number)]


def read_answer(stream) -> tuple[int, bytes]:
    """Read one HTTP answer; return its status and body."""
    status = int(stream.readline().split()[1])
    length = 0
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.decode().partition(":")
        length = int(value) if name.lower() == "content-length" else length
    return status, stream.read(length)


def test_health_answers_ok(sqs):
    """The health check of a container needs no signature."""
    with urllib.request.urlopen(f"{sqs.endpoint_url}/health") as answer:
        assert (answer.status, answer.read()) == (200, b"OK")


def test_a_message_comes_as_it_was_sent(client, url):
    """Body, id, digests and attributes are the same in the send and the receive."""
    given = {
        "text": {"DataType": "String", "StringValue": "gr\u00fcn"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    sent = client.send_message(QueueUrl=url, MessageBody='{"a": "\u4e16"}', MessageAttributes=given)
    (message,) = receive(client, url, MessageAttributeNames=["All"])
    assert message["Body"] == '{"a": "\u4e16"}'
    assert message["MessageAttributes"] == given
    for received_name, sent_name in (
        ("MessageId", "MessageId"),
        ("MD5OfBody", "MD5OfMessageBody"),
        ("MD5OfMessageAttributes", "MD5OfMessageAttributes"),
    ):
        assert message[received_name] == sent[sent_name]


def test_message_attributes_are_returned_only_when_asked_for(client, url):
    """The digest covers only the attributes that are returned."""
    value = {"DataType": "String", "StringValue": "1"}
    sent = client.send_message(QueueUrl=url, MessageBody="m", MessageAttributes={"a.x": value})
    client.send_message(QueueUrl=url, MessageBody="m", MessageAttributes={"a.x": value, "b": value})
    received = receive(client, url, MaxNumberOfMessages=10, MessageAttributeNames=["a.*"])
    digests = [message["MD5OfMessageAttributes"] for message in received]
    assert [message["MessageAttributes"] for message in received] == [{"a.x": value}] * 2
    assert digests == [sent["MD5OfMessageAttributes"]] * 2


@pytest.mark.parametrize("parameter", ["AttributeNames", "MessageSystemAttributeNames"])
def test_system_attributes_come_by_either_parameter(client, url, parameter):
    """The older name of the parameter still works."""
    before = int(time.time() * 1000) - 1000
    client.send_message(QueueUrl=url, MessageBody="m")
    (message,) = receive(client, url, **{parameter: ["All"]})
    system = message["Attributes"]
    assert system["ApproximateReceiveCount"] == "1"
    assert before <= int(system["SentTimestamp"]) <= int(system["ApproximateFirstReceiveTimestamp"])
    assert system["SenderId"]


def test_a_plain_receive_has_no_attributes(client, url):
    """Without a request for attributes, only ids, body and digest are returned."""
    client.send_message(QueueUrl=url, MessageBody="m")
    (message,) = receive(client, url)
    assert set(message) == {"MessageId", "ReceiptHandle", "MD5OfBody", "Body"}


def test_an_empty_receive_has_no_messages(client, url):
    """The key Messages is absent, as in AWS's answer."""
    assert "Messages" not in client.receive_message(QueueUrl=url)


def test_a_visibility_timeout_really_expires(client, url):
    """When it has passed, the message is received again, with a receive count of 2."""
    client.send_message(QueueUrl=url, MessageBody="m")
    receive(client, url, VisibilityTimeout=4)
    assert receive(client, url) == []
    names = ["ApproximateReceiveCount"]
    (again,) = receive(client, url, WaitTimeSeconds=20, MessageSystemAttributeNames=names)
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"


def test_a_waiting_receive_gets_a_message_that_is_sent_later(sqs, client, url):
    """The send ends the wait early."""
    with ThreadPoolExecutor(1) as pool, closing(sqs.client()) as other:
        waiting = pool.submit(receive, other, url, WaitTimeSeconds=20)
        time.sleep(0.3)
        assert not waiting.done()
        client.send_message(QueueUrl=url, MessageBody="late")
        assert [message["Body"] for message in waiting.result(timeout=15)] == ["late"]


def test_a_waiting_receive_gets_a_delayed_message(client, url):
    """The end of the delay ends the wait, although no other request arrives."""
    client.send_message(QueueUrl=url, MessageBody="m", DelaySeconds=1)
    assert len(receive(client, url, WaitTimeSeconds=20)) == 1


def test_a_waiting_receive_gets_what_another_client_releases(sqs, client, url):
    """A visibility change to zero ends the wait."""
    client.send_message(QueueUrl=url, MessageBody="m")
    (held,) = receive(client, url)
    with ThreadPoolExecutor(1) as pool, closing(sqs.client()) as other:
        waiting = pool.submit(receive, other, url, WaitTimeSeconds=20)
        time.sleep(0.3)
        client.change_message_visibility(
            QueueUrl=url, ReceiptHandle=held["ReceiptHandle"], VisibilityTimeout=0
        )
        assert len(waiting.result(timeout=15)) == 1


def test_a_wait_ends_empty(client, url):
    """When no message arrives, the receive answers at the end of its wait."""
    assert receive(client, url, WaitTimeSeconds=1) == []


def test_a_receive_without_a_wait_uses_the_wait_of_the_queue(client, url):
    """With ReceiveMessageWaitTimeSeconds, a receive waits for a delayed message."""
    wait = {"ReceiveMessageWaitTimeSeconds": "20"}
    client.set_queue_attributes(QueueUrl=url, Attributes=wait)
    client.send_message(QueueUrl=url, MessageBody="m", DelaySeconds=1)
    assert len(receive(client, url)) == 1


def test_a_client_that_leaves_during_a_wait_takes_no_message(sqs, client, url):
    """The message stays in the queue for another client."""
    with connect(sqs) as leaving:
        leaving.sendall(raw_request("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=20))
        time.sleep(0.3)
    time.sleep(0.3)
    client.send_message(QueueUrl=url, MessageBody="m")
    assert len(receive(client, url)) == 1


def test_a_deleted_queue_ends_its_waiting_receives(sqs, client, url):
    """They get the error that the queue does not exist."""
    with ThreadPoolExecutor(1) as pool, closing(sqs.client()) as other:
        waiting = pool.submit(receive, other, url, WaitTimeSeconds=20)
        time.sleep(0.3)
        client.delete_queue(QueueUrl=url)
        with raises("AWS.SimpleQueueService.NonExistentQueue"):
            waiting.result(timeout=15)


def test_requests_on_one_connection_are_answered_in_order(sqs, client, url):
    """A request sent after a waiting receive is answered after it."""
    client.send_message(QueueUrl=url, MessageBody="m", DelaySeconds=1)
    wait = raw_request("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=20)
    with connect(sqs) as connection:
        connection.sendall(wait + raw_request("ListQueues", QueueNamePrefix="none"))
        first, second = read_answers(connection, 2)
    assert (b"Messages" in first[1], second) == (True, (200, b"{}"))


def test_a_request_in_small_pieces_is_answered(sqs):
    """A request may arrive one byte at a time."""
    with connect(sqs) as connection:
        for byte in raw_request("ListQueues", QueueNamePrefix="none"):
            connection.sendall(bytes([byte]))
        assert read_answers(connection) == [(200, b"{}")]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"x" * 70_000, 431),
    ],
)
def test_bytes_that_are_not_http_are_refused_and_the_connection_ends(sqs, sent, status):
    """Every kind of malformed request gets its own status at once."""
    with connect(sqs) as connection:
        connection.sendall(sent)
        assert [answer[0] for answer in read_answers(connection)] == [status]
        assert connection.recv(1) == b""


def test_a_request_without_a_target_is_a_clean_400(sqs):
    """A browser or an old SDK gets an answer that it can read."""
    status, body = post(sqs, None, b"{}")
    assert (status, body["__type"]) == (400, "com.amazonaws.sqs#MissingAction")


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("AmazonSQS.ListQueues", b"{", "SerializationException"),
        ("AmazonSQS.ListQueues", b"[]", "SerializationException"),
        ("AmazonSQS.ListQueues", b"[" * 100_000, "SerializationException"),
        ("AmazonSQS.ListQueues", b'{"MaxResults": true}', "SerializationException"),
        ("AmazonSQS.ListQueues", b'{"QueueNamePrefix": 1}', "SerializationException"),
        ("AmazonSQS.CreateQueue", b"{}", "MissingParameter"),
        (
            "AmazonSQS.CreateQueue",
            b'{"QueueName": "a", "Attributes": []}',
            "SerializationException",
        ),
        ("AmazonSQS.TagQueue", b"{}", "UnsupportedOperation"),
        ("AmazonSQS.MakeCoffee", b"{}", "InvalidAction"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(sqs, target, body, code):
    """Bad JSON, wrong types, missing members and unknown actions are refused."""
    status, answer = post(sqs, target, body)
    assert (status, answer["__type"]) == (400, f"com.amazonaws.sqs#{code}")


def test_errors_are_the_clients_own_exceptions(client, sqs):
    """Both ways to identify an SQS error in boto3 work."""
    with pytest.raises(client.exceptions.QueueDoesNotExist) as caught:
        client.get_queue_url(QueueName="none")
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_a_queue_is_found_by_name(client, url):
    """GetQueueUrl returns the URL that CreateQueue returned."""
    assert client.get_queue_url(QueueName=url.rsplit("/", 1)[1])["QueueUrl"] == url


def test_queues_are_listed_in_pages(client, sqs):
    """Every queue is listed once."""
    urls = sorted(sqs.create_queue(f"page-{n}", dead_letter=False) for n in range(5))
    pages = client.get_paginator("list_queues").paginate(
        QueueNamePrefix="page-", PaginationConfig={"PageSize": 2}
    )
    assert [page["QueueUrls"] for page in pages] == [urls[:2], urls[2:4], urls[4:]]


def test_visible_hidden_and_delayed_messages_are_counted_separately(client, url):
    for _ in range(3):
        client.send_message(QueueUrl=url, MessageBody="m")
    client.send_message(QueueUrl=url, MessageBody="m", DelaySeconds=60)
    receive(client, url)
    known = attributes(client, url)
    ends = ("", "NotVisible", "Delayed")
    assert [known[f"ApproximateNumberOfMessages{end}"] for end in ends] == ["2", "1", "1"]


def test_only_the_attributes_asked_for_are_answered(client, url):
    """If the request names no attribute, the answer has none."""
    answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    assert answer["Attributes"] == {"VisibilityTimeout": "30"}
    assert "Attributes" not in client.get_queue_attributes(QueueUrl=url)


def test_purge_empties_a_queue(client, url):
    """After a purge, a receive finds no message."""
    client.send_message(QueueUrl=url, MessageBody="m")
    client.purge_queue(QueueUrl=url)
    assert receive(client, url) == []


def send_entries(*bodies, ids=None):
    """Return the entries of a batch that sends these bodies."""
    entry_ids = ids or [str(position) for position in range(len(bodies))]
    return [
        {"Id": entry_id, "MessageBody": body}
        for entry_id, body in zip(entry_ids, bodies, strict=True)
    ]


def test_a_batch_fails_entry_by_entry(client, url):
    """One refused body does not prevent the others from being sent."""
    answer = client.send_message_batch(QueueUrl=url, Entries=send_entries("a", "\x00", "c"))
    (failed,) = answer["Failed"]
    assert [entry["Id"] for entry in answer["Successful"]] == ["0", "2"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == (
        "1",
        "InvalidMessageContents",
        True,
    )


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([], "EmptyBatchRequest"),
        (send_entries(*"abcdefghijk"), "TooManyEntriesInBatchRequest"),
        (send_entries("a", "b", ids=["x", "x"]), "BatchEntryIdsNotDistinct"),
        (send_entries("a", ids=["a b"]), "InvalidBatchEntryId"),
        (send_entries("a", ids=["a" * 81]), "InvalidBatchEntryId"),
        (send_entries("a" * 524_288, "b" * 524_289), "BatchRequestTooLong"),
    ],
)
def test_a_batch_that_aws_refuses_is_refused_as_a_whole(client, url, entries, code):
    """No message of the batch is sent."""
    with raises(f"AWS.SimpleQueueService.{code}"):
        client.send_message_batch(QueueUrl=url, Entries=entries)
    assert receive(client, url) == []


def test_a_batch_of_exactly_one_mebibyte_is_accepted(client, url):
    """The bodies of a batch at the limit arrive complete."""
    sent = send_entries("a" * 524_288, "b" * 524_288)
    assert not client.send_message_batch(QueueUrl=url, Entries=sent)["Failed"]
    received = receive(client, url, MaxNumberOfMessages=10)
    assert [message["Body"] for message in received] == ["a" * 524_288, "b" * 524_288]


def test_a_batch_with_an_empty_body_is_refused_as_a_whole(client, url):
    """An empty body counts as a missing parameter."""
    with raises("MissingParameter"):
        client.send_message_batch(QueueUrl=url, Entries=send_entries("a", ""))


def test_deletes_fail_entry_by_entry(client, url):
    """A malformed handle fails alone, and the answer as a whole has status 200."""
    client.send_message(QueueUrl=url, MessageBody="m")
    (message,) = receive(client, url)
    handles = {"good": message["ReceiptHandle"], "bad": "nonsense"}
    entries = [{"Id": name, "ReceiptHandle": handle} for name, handle in handles.items()]
    answer = client.delete_message_batch(QueueUrl=url, Entries=entries)
    assert answer["Successful"] == [{"Id": "good"}]
    (failed,) = answer["Failed"]
    assert (failed["Id"], failed["Code"]) == ("bad", "ReceiptHandleIsInvalid")


def test_visibility_changes_fail_entry_by_entry(client, url):
    """A message that was released does not prevent the heartbeat of another one."""
    client.send_message_batch(QueueUrl=url, Entries=send_entries("a", "b"))
    received = receive(client, url, MaxNumberOfMessages=10)
    handles = [message["ReceiptHandle"] for message in received]
    client.change_message_visibility(QueueUrl=url, ReceiptHandle=handles[0], VisibilityTimeout=0)
    entries = [
        {"Id": str(position), "ReceiptHandle": handle, "VisibilityTimeout": 60}
        for position, handle in enumerate(handles)
    ]
    answer = client.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["1"]
    assert answer["Failed"][0]["Code"] == "AWS.SimpleQueueService.MessageNotInflight"


@pytest.mark.parametrize(
    "options",
    [
        {"MaxNumberOfMessages": 0},
        {"MaxNumberOfMessages": 11},
        {"WaitTimeSeconds": -1},
        {"WaitTimeSeconds": 21},
        {"VisibilityTimeout": -1},
        {"VisibilityTimeout": 43_201},
    ],
)
def test_a_receive_out_of_range_is_refused(client, url, options):
    """SQS allows 1 to 10 messages, waits of 0 to 20 s and visibility of 0 to 12 h."""
    with raises("InvalidParameterValue"):
        receive(client, url, **options)


def test_a_message_over_one_mebibyte_is_refused(client, url):
    """One byte above 1,048,576 is too much."""
    with raises("InvalidParameterValue"):
        client.send_message(QueueUrl=url, MessageBody="a" * 1_048_577)


def test_create_queue_sets_up_its_dead_letter_queue(sqs, client):
    """After max_receive_count deliveries the message is in <name>-dead."""
    url = sqs.create_queue("with-dead", max_receive_count=1)
    client.send_message(QueueUrl=url, MessageBody="poison")
    receive(client, url, VisibilityTimeout=0)
    assert receive(client, url) == []
    assert [message["Body"] for message in receive(client, f"{url}-dead")] == ["poison"]


def test_create_queue_without_dead_letters_makes_one_queue(sqs, client):
    """The queue has the visibility timeout that was asked for."""
    url = sqs.create_queue("alone", dead_letter=False, visibility_seconds=7)
    assert attributes(client, url)["VisibilityTimeout"] == "7"
    assert client.list_queues(QueueNamePrefix="alone")["QueueUrls"] == [url]


def test_create_queue_with_other_attributes_is_an_embedded_error(sqs):
    """The command line can print this error and its cause."""
    sqs.create_queue("twice", visibility_seconds=7)
    with pytest.raises(EmbeddedError, match="'twice'"):
        sqs.create_queue("twice", visibility_seconds=8)


def test_redelivery_brings_every_chosen_message_once_more():
    """With a fraction of 1, each message is received twice under one id."""
    with EmbeddedSqs(redeliver_fraction=1.0) as sqs, closing(sqs.client()) as client:
        url = sqs.create_queue("again")
        client.send_message(QueueUrl=url, MessageBody="m")
        received = []
        for _ in range(2):
            (message,) = receive(client, url, WaitTimeSeconds=20)
            received.append(message)
            client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        assert receive(client, url, WaitTimeSeconds=1) == []
    first, second = received
    assert first["MessageId"] == second["MessageId"]
    assert first["ReceiptHandle"] != second["ReceiptHandle"]


def test_the_environment_is_enough_for_another_process(sqs, url, client):
    """A job that does not know the embedded SQS can reach the queue."""
    code = (
        "import boto3, sys; boto3.client('sqs').send_message(QueueUrl=sys.argv[1], MessageBody='x')"
    )
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-c", code, url]
    subprocess.run(command, env=others | sqs.environment, check=True, timeout=120)
    assert len(receive(client, url)) == 1


def test_the_server_ends_with_its_parent():
    """A parent that is killed leaves no server behind."""
    code = (
        "from etl.embedded.sqs import EmbeddedSqs; import sys, time\n"
        "print(EmbeddedSqs().endpoint_url, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        address = urlsplit(parent.stdout.readline().decode().strip())
        parent.kill()
    for _ in range(200):
        try:
            socket.create_connection((address.hostname, address.port), timeout=5).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass  # the server is about to end; the next attempt will be refused
        time.sleep(0.1)
    pytest.fail("the server outlived its parent by 20 seconds")


def test_kill_ends_the_server_at_once():
    """A test of an outage needs a server that has really ended."""
    sqs = EmbeddedSqs()
    sqs.kill()
    with pytest.raises(ConnectionRefusedError):
        connect(sqs)


def test_close_does_not_wait_for_a_waiting_receive():
    """The connection of the waiting receive is closed."""
    sqs = EmbeddedSqs()
    url = sqs.create_queue("q")
    with connect(sqs) as connection:
        connection.sendall(raw_request("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=20))
        time.sleep(0.3)
        sqs.close()
        assert connection.recv(1) == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_foreground_server_ends_by_a_signal(number):
    """It runs without a lifeline and ends with exit code 0."""
    command = [sys.executable, "-m", "etl.embedded.sqs_server", "--foreground"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        url = json.loads(server.stdout.readline())["endpoint_url"]
        with urllib.request.urlopen(f"{url}/health") as answer:
            assert answer.status == 200
        server.send_signal(number)
        assert server.wait(30) == 0


def test_a_redeliver_fraction_above_one_is_a_usage_error():
    """The server names the option and ends with exit code 2."""
    command = [sys.executable, "-m", "etl.embedded.sqs_server", "--redeliver-fraction", "2"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (ended.returncode, b"--redeliver-fraction" in ended.stderr) == (2, True)


def test_many_clients_get_every_message_once(sqs, client, url):
    """Four clients that receive at the same time share the messages without overlap."""
    for _ in range(20):
        client.send_message_batch(QueueUrl=url, Entries=send_entries(*"abcdefghij"))
    received_ids = []
    lock = threading.Lock()

    def drain() -> None:
        with closing(sqs.client()) as receiver:
            while messages := receive(receiver, url, MaxNumberOfMessages=10):
                with lock:
                    received_ids.extend(message["MessageId"] for message in messages)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: drain(), range(4)))
    assert (len(received_ids), len(set(received_ids))) == (200, 200)
