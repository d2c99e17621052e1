"""The embedded SQS compared with moto's: the same answers, except where moto is laxer than AWS.

The queues hold at most ten messages, and every receive takes all visible ones: AWS promises no
order, and the two emulators put a released message in different places.
"""

import logging
import random
import time
from contextlib import closing
from itertools import count

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from etl.embedded.sqs import EmbeddedSqs

NAMES = count()
SEQUENCES = 8
STEPS = 25
COMPARED_ATTRIBUTES = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "DelaySeconds",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "VisibilityTimeout",
]
# Always different, or different only in wording.
NOT_COMPARED = {
    "ApproximateFirstReceiveTimestamp",
    "Message",
    "ResponseMetadata",
    "SenderId",
    "SentTimestamp",
}


@pytest.fixture(scope="module")
def our_client():
    with EmbeddedSqs() as sqs, closing(sqs.client()) as client:
        yield client


@pytest.fixture(scope="module")
def moto_client():
    # moto's web server logs every request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.Session().client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="moto",
        aws_secret_access_key="moto",
        config=Config(proxies={}),
    )
    with closing(client):
        yield client
    server.stop()


@pytest.fixture
def ours(our_client):
    return Side(our_client)


@pytest.fixture
def motos(moto_client):
    return Side(moto_client)


class Side:
    """A new queue of one emulator, and its answers without ids, handles and times."""

    def __init__(self, client) -> None:
        self.client = client
        self.name = f"diff-{next(NAMES)}"
        self.url = client.create_queue(QueueName=self.name)["QueueUrl"]
        self.held: dict[str, str] = {}  # body -> handle, for messages in flight
        self._ids: dict[str, int] = {}

    def call(self, operation: str, **options):
        """Make one call; return its normalised answer, or the code of its error."""
        try:
            answer = getattr(self.client, operation)(QueueUrl=self.url, **options)
        except ClientError as error:
            return error.response["Error"]["Code"].removeprefix("AWS.SimpleQueueService.")
        for message in answer.get("Messages", []):
            self.held[message["Body"]] = message["ReceiptHandle"]
        return self._normalised(answer)

    def _normalised(self, value):
        if isinstance(value, list):
            return sorted(map(self._normalised, value), key=repr)
        if not isinstance(value, dict):
            return value
        return {
            key: self._normalised_member(key, member)
            for key, member in value.items()
            if key not in NOT_COMPARED
        }

    def _normalised_member(self, key: str, value):
        if key == "MessageId":
            return self._ids.setdefault(value, len(self._ids))
        return "a handle" if key == "ReceiptHandle" else self._normalised(value)

    def send(self, body: str = "m", **options):
        """Send one message."""
        return self.call("send_message", MessageBody=body, **options)

    def receive(self, **options) -> str:
        """Receive the only message and return its handle."""
        (message,) = self.client.receive_message(QueueUrl=self.url, **options)["Messages"]
        return message["ReceiptHandle"]

    def receive_many(self, number: int) -> list[str]:
        """Send and receive *number* messages and return their handles."""
        for position in range(number):
            self.send(f"m{position}")
        handles: list[str] = []
        while len(handles) < number:
            answer = self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10)
            handles += [message["ReceiptHandle"] for message in answer["Messages"]]
        return handles


class Driver:
    """Draws operations from a seed, carries out each on both sides, and compares the answers."""

    def __init__(self, seed: int, *sides: Side) -> None:
        self.random = random.Random(seed)
        self.sides = sides
        self.sent = 0
        self.trace: list[str] = []

    def both(self, operation: str, options) -> None:
        """Call *operation* on both sides, with the options that *options* returns for each side."""
        self.trace.append(operation)
        ours, motos = (side.call(operation, **options(side)) for side in self.sides)
        assert ours == motos, f"ours comes first; after {self.trace}"

    def message(self) -> dict:
        """Draw a message with a body that was not sent before."""
        self.sent += 1
        ending = self.random.choice(["", " plain", " \u4e16\u754c", "\t\U0001f600"])
        message: dict = {"MessageBody": f"{self.sent:03}{ending}"}
        if self.random.random() < 0.4:
            kind = self.random.choice(["String", "Number.int", "String.custom"])
            names = self.random.sample(["a", "b.c", "Z", "_"], 2)
            value = {"DataType": kind, "StringValue": "42"}
            message["MessageAttributes"] = dict.fromkeys(names, value)
        if self.random.random() < 0.1:
            message["DelaySeconds"] = 900
        return message

    def send(self) -> None:
        """Send one message, while there are fewer than ten."""
        if self.sent < 10:
            message = self.message()
            self.both("send_message", lambda _: message)

    def send_batch(self) -> None:
        """Send up to three messages, or an empty batch when ten have been sent."""
        number = min(3, 10 - self.sent)
        entries = [{"Id": f"e{position}", **self.message()} for position in range(number)]
        self.both("send_message_batch", lambda _: {"Entries": entries})

    def receive(self) -> None:
        """Receive all visible messages."""
        options = {
            "MaxNumberOfMessages": 10,
            "VisibilityTimeout": self.random.choice([600, 3_600]),
            "MessageSystemAttributeNames": self.random.choice([["All"], ["SentTimestamp"]]),
            "MessageAttributeNames": self.random.choice([[], ["All"], ["a"], ["b.*"], [".*"]]),
        }
        self.both("receive_message", lambda _: options)

    def pick(self) -> list[str]:
        """Choose up to three messages in flight."""
        held = sorted(self.sides[0].held)
        return self.random.sample(held, min(len(held), self.random.randint(1, 3)))

    def forget(self, bodies: list[str]) -> None:
        """Drop the handles of messages that are no longer in flight."""
        for side in self.sides:
            for body in bodies:
                del side.held[body]

    def delete(self) -> None:
        """Delete one to three messages in flight, one by one."""
        for body in self.pick():
            self.both("delete_message", lambda side, b=body: {"ReceiptHandle": side.held[b]})
            self.forget([body])

    def delete_batch(self) -> None:
        """Delete one to three messages in flight in one call."""
        bodies = self.pick()
        self.both("delete_message_batch", lambda side: entries_for(side, bodies))
        self.forget(bodies)

    def change_visibility(self) -> None:
        """Release or extend one to three messages in flight."""
        bodies = self.pick()
        seconds = self.random.choice([0, 0, 1_000])
        self.both(
            "change_message_visibility_batch",
            lambda side: entries_for(side, bodies, VisibilityTimeout=seconds),
        )
        if seconds == 0:
            self.forget(bodies)
        # moto makes a released message visible only in the next millisecond.
        time.sleep(0.003)

    def attributes(self) -> None:
        """Compare the counts and the settings."""
        self.both("get_queue_attributes", lambda _: {"AttributeNames": COMPARED_ATTRIBUTES})

    def purge(self) -> None:
        """Empty the queue, one time in five."""
        # Rarely, so that most sequences have messages to work with.
        if self.random.random() < 0.2:
            self.both("purge_queue", lambda _: {})
            for side in self.sides:
                side.held.clear()

    def run(self) -> None:
        """Carry out a sequence of operations, then compare what is left."""
        operations = [
            *(self.send, self.send_batch, self.receive, self.receive, self.delete),
            *(self.delete_batch, self.change_visibility, self.attributes, self.purge),
        ]
        for _ in range(STEPS):
            self.random.choice(operations)()
        self.receive()
        self.attributes()


def entries_for(side: Side, bodies: list[str], **more: int) -> dict:
    """Return a batch with the handles of the messages and one malformed handle."""
    handles = [*(side.held[body] for body in bodies), "nonsense"]
    entries = [
        {"Id": f"e{position}", "ReceiptHandle": handle, **more}
        for position, handle in enumerate(handles)
    ]
    return {"Entries": entries}


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_both_emulators_answer_alike(ours, motos, seed):
    """A random sequence of calls gets the same answers from both emulators."""
    Driver(seed, ours, motos).run()


def test_the_sequences_reach_deletes_and_releases(our_client):
    """Together, the random sequences use every operation that should be compared."""
    reached = set()
    for seed in range(SEQUENCES):
        driver = Driver(seed, Side(our_client), Side(our_client))
        driver.run()
        reached |= set(driver.trace)
    assert reached == {
        "change_message_visibility_batch",
        "delete_message",
        "delete_message_batch",
        "get_queue_attributes",
        "purge_queue",
        "receive_message",
        "send_message",
        "send_message_batch",
    }


# Cases in which moto 5.2.5 is laxer than AWS. Each function makes the calls and returns the answer.


def delete_two_under_one_entry_id(side):
    handles = side.receive_many(2)
    entries = [{"Id": "x", "ReceiptHandle": handle} for handle in handles]
    return side.call("delete_message_batch", Entries=entries)


def change_two_under_one_entry_id(side):
    handles = side.receive_many(2)
    entries = [{"Id": "x", "ReceiptHandle": handle, "VisibilityTimeout": 9} for handle in handles]
    return side.call("change_message_visibility_batch", Entries=entries)


def delete_eleven(side):
    handles = side.receive_many(11)
    entries = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles)]
    return side.call("delete_message_batch", Entries=entries)


def change_none(side):
    return side.call("change_message_visibility_batch", Entries=[])


def delete_with_an_old_handle(side):
    side.send()
    old_handle = side.receive(VisibilityTimeout=0)
    time.sleep(0.003)
    new_handle = side.receive(VisibilityTimeout=600)
    side.call("delete_message", ReceiptHandle=old_handle)
    answer = side.call("change_message_visibility", ReceiptHandle=new_handle, VisibilityTimeout=600)
    return "deleted" if isinstance(answer, str) else "kept"


def change_what_is_not_in_flight(side):
    side.send()
    handle = side.receive()
    release = {"ReceiptHandle": handle, "VisibilityTimeout": 0}
    side.call("change_message_visibility", **release)
    return side.call("change_message_visibility", **release | {"VisibilityTimeout": 60})


def change_to_a_negative_visibility(side):
    side.send()
    return side.call(
        "change_message_visibility", ReceiptHandle=side.receive(), VisibilityTimeout=-1
    )


def send_an_empty_body(side):
    return side.send("")


def send_a_nul(side):
    return side.send("a\x00b")


def send_too_many_bytes(side):
    return side.send("\u00e9" * 600_000)


def send_too_many_bytes_in_a_batch(side):
    entries = [{"Id": str(n), "MessageBody": "\u00e9" * 300_000} for n in range(2)]
    return side.call("send_message_batch", Entries=entries)


def send_a_negative_delay(side):
    return side.send(DelaySeconds=-1)


def send_eleven_attributes(side):
    value = {"DataType": "String", "StringValue": "v"}
    return side.send(MessageAttributes={f"n{n}": value for n in range(11)})


def receive_with_a_negative_visibility(side):
    return side.call("receive_message", VisibilityTimeout=-1)


def set_a_visibility_of_a_day(side):
    return side.call("set_queue_attributes", Attributes={"VisibilityTimeout": "86400"})


def set_a_retention_of_a_second(side):
    return side.call("set_queue_attributes", Attributes={"MessageRetentionPeriod": "1"})


# The calls | what AWS documents or answers | moto's answer | our answer
LAXER = [
    (
        delete_two_under_one_entry_id,
        "API_DeleteMessageBatch: two or more entries with the same Id are refused",
        "accepted",
        "BatchEntryIdsNotDistinct",
    ),
    (
        change_two_under_one_entry_id,
        "API_ChangeMessageVisibilityBatch: entries with the same Id are refused",
        "accepted",
        "BatchEntryIdsNotDistinct",
    ),
    (
        delete_eleven,
        "API_DeleteMessageBatch: at most ten entries",
        "accepted",
        "TooManyEntriesInBatchRequest",
    ),
    (
        change_none,
        "API_ChangeMessageVisibilityBatch: a batch has at least one entry",
        "accepted",
        "EmptyBatchRequest",
    ),
    (
        delete_with_an_old_handle,
        "API_DeleteMessage: with an old handle the message might not be deleted",
        "deleted",
        "kept",
    ),
    (
        change_what_is_not_in_flight,
        "API_ChangeMessageVisibility: only a message in flight has a timeout to change",
        "accepted",
        "MessageNotInflight",
    ),
    (
        change_to_a_negative_visibility,
        "API_ChangeMessageVisibility: 0 to 43,200 seconds",
        "accepted",
        "InvalidParameterValue",
    ),
    (
        send_an_empty_body,
        "API_SendMessage: a body has at least one character",
        "accepted",
        "MissingParameter",
    ),
    (
        send_a_nul,
        "API_SendMessage: only the characters of XML 1.0",
        "accepted",
        "InvalidMessageContents",
    ),
    (
        send_too_many_bytes,
        "API_SendMessage: the limit of 1 MiB counts bytes of UTF-8, not characters",
        "accepted",
        "InvalidParameterValue",
    ),
    (
        send_too_many_bytes_in_a_batch,
        "API_SendMessageBatch: the limit of 1 MiB for all entries also counts bytes",
        "accepted",
        "BatchRequestTooLong",
    ),
    (
        send_a_negative_delay,
        "API_SendMessage: DelaySeconds from 0 to 900",
        "accepted",
        "InvalidParameterValue",
    ),
    (
        send_eleven_attributes,
        "SQS message metadata: a message has up to ten attributes",
        "accepted",
        "InvalidParameterValue",
    ),
    (
        receive_with_a_negative_visibility,
        "API_ReceiveMessage: a visibility timeout from 0 to 43,200 seconds",
        "accepted",
        "InvalidParameterValue",
    ),
    (
        set_a_visibility_of_a_day,
        "API_SetQueueAttributes: VisibilityTimeout from 0 to 43,200 seconds",
        "accepted",
        "InvalidAttributeValue",
    ),
    (
        set_a_retention_of_a_second,
        "API_SetQueueAttributes: MessageRetentionPeriod from 60 to 1,209,600 seconds",
        "accepted",
        "InvalidAttributeValue",
    ),
]


@pytest.mark.parametrize(
    ("act", "rule", "moto_answer", "our_answer"), LAXER, ids=[row[0].__name__ for row in LAXER]
)
def test_ours_follows_aws_where_moto_is_laxer(ours, motos, act, rule, moto_answer, our_answer):
    """Moto's answer is checked too, so that we notice when moto starts to follow the rule."""
    answers = [act(side) for side in (motos, ours)]
    outcomes = ["accepted" if isinstance(answer, dict) else answer for answer in answers]
    assert outcomes == [moto_answer, our_answer]
