"""The queues of the embedded SQS, at times that the test chooses."""

import base64
import json
import struct
from hashlib import md5

import pytest

from etl.embedded import sqs_model
from etl.embedded.sqs_deadlines import Deadlines
from etl.embedded.sqs_messages import MAX_BYTES, attributes_md5
from etl.embedded.sqs_model import REDELIVERY_MS, Redelivery, SqsAccount, StoredQueue
from etl.embedded.sqs_refusals import Refusal

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


@pytest.fixture
def account() -> SqsAccount:
    return SqsAccount()


@pytest.fixture
def queue(account: SqsAccount) -> StoredQueue:
    return account.create("q", {}, START_MS)


def send(queue: StoredQueue, *bodies: str, at_ms: int = START_MS, delay: int | None = None) -> None:
    """Send one message for each body."""
    for body in bodies:
        queue.send(body, {}, delay, at_ms)


def bodies(
    queue: StoredQueue, at_ms: int, limit: int = 10, visibility: int | None = None
) -> list[str]:
    """Receive messages and return their bodies."""
    return [message.body for message in queue.receive(limit, visibility, at_ms)]


def receive_one(queue: StoredQueue, at_ms: int = START_MS, visibility: int | None = None) -> str:
    """Receive one message and return its handle."""
    (message,) = queue.receive(1, visibility, at_ms)
    return queue.handle(message)


def counts(queue: StoredQueue, at_ms: int) -> tuple[int, int, int]:
    """Return the numbers of messages that are visible, in flight and delayed."""
    attributes = queue.describe(at_ms)
    return (
        int(attributes["ApproximateNumberOfMessages"]),
        int(attributes["ApproximateNumberOfMessagesNotVisible"]),
        int(attributes["ApproximateNumberOfMessagesDelayed"]),
    )


def refused(code: str):
    """Expect a refusal with this code."""
    return pytest.raises(Refusal, check=lambda refusal: refusal.code == code)


def with_dead_letters(account: SqsAccount, max_receives: int) -> tuple[StoredQueue, StoredQueue]:
    """Create a queue with a dead-letter queue; return both."""
    dead = account.create("dead", {}, START_MS)
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": max_receives})
    return account.create("main", {"RedrivePolicy": policy}, START_MS), dead


def test_messages_come_in_the_order_sent(queue):
    """Standard queues promise no order; ours keeps it, to make tests easy to read."""
    send(queue, "a", "b", "c")
    assert bodies(queue, START_MS) == ["a", "b", "c"]


def test_a_received_message_is_hidden_until_its_visibility_timeout(queue):
    """It is hidden one millisecond before the timeout and visible at the timeout."""
    send(queue, "a")
    receive_one(queue)
    assert (bodies(queue, START_MS + 29_999), bodies(queue, START_MS + 30_000)) == ([], ["a"])


def test_a_visibility_of_zero_does_not_hand_out_twice_in_one_receive(queue):
    """The message is visible again, but only for the next receive."""
    send(queue, "a")
    assert bodies(queue, START_MS, visibility=0) == ["a"]
    assert bodies(queue, START_MS, visibility=0) == ["a"]


def test_delete_with_the_newest_handle_deletes_even_after_the_timeout(queue):
    """AWS accepts the newest handle even when the message is visible again."""
    send(queue, "a")
    handle = receive_one(queue)
    queue.delete(handle, START_MS + HOUR_MS)
    assert counts(queue, START_MS + HOUR_MS) == (0, 0, 0)


def test_delete_with_an_old_handle_deletes_nothing(queue):
    """A message that was received again is kept, and the delete succeeds."""
    send(queue, "a")
    old_handle = receive_one(queue, visibility=0)
    receive_one(queue)
    queue.delete(old_handle, START_MS)
    assert counts(queue, START_MS) == (0, 1, 0)


def test_delete_twice_succeeds(queue):
    """A delete is idempotent."""
    send(queue, "a")
    handle = receive_one(queue)
    queue.delete(handle, START_MS)
    queue.delete(handle, START_MS)
    assert counts(queue, START_MS) == (0, 0, 0)


@pytest.mark.parametrize("handle", ["", "AQEB", "nonsense", "AQEB" + "A" * 32, "AQEB\u00e9"])
def test_a_malformed_handle_is_refused(queue, handle):
    """Text that never was a handle is not treated as an old handle."""
    with refused("ReceiptHandleIsInvalid"):
        queue.delete(handle, START_MS)


def test_a_handle_with_one_changed_character_is_refused(queue):
    """The handle contains a checksum."""
    send(queue, "a")
    handle = receive_one(queue)
    with refused("ReceiptHandleIsInvalid"):
        queue.delete(handle[:-1] + ("A" if handle[-1] != "A" else "B"), START_MS)


def test_a_handle_of_another_queue_is_refused(account, queue):
    """A handle is valid only in the queue that made it."""
    send(queue, "a")
    handle = receive_one(queue)
    with refused("ReceiptHandleIsInvalid"):
        account.create("other", {}, START_MS).delete(handle, START_MS)


def test_extending_hides_a_message_for_longer(queue):
    """The new timeout starts when it is set."""
    send(queue, "a")
    handle = receive_one(queue)
    queue.change_visibility(handle, 60, START_MS + 20_000)
    assert bodies(queue, START_MS + 79_999) == []
    assert bodies(queue, START_MS + 80_000) == ["a"]


def test_a_shorter_visibility_counts_too(queue):
    """The earlier, longer timeout no longer applies."""
    send(queue, "a")
    queue.change_visibility(receive_one(queue), 5, START_MS)
    assert bodies(queue, START_MS + 5_000) == ["a"]


def test_releasing_makes_a_message_visible_at_once(queue):
    """A visibility timeout of zero returns the message to the queue."""
    send(queue, "a")
    queue.change_visibility(receive_one(queue), 0, START_MS)
    assert bodies(queue, START_MS) == ["a"]


def test_changing_the_visibility_of_a_visible_message_is_refused(queue):
    """Only a message in flight has a timeout that can be changed."""
    send(queue, "a")
    handle = receive_one(queue)
    with refused("MessageNotInflight"):
        queue.change_visibility(handle, 10, START_MS + 30_000)


def test_changing_the_visibility_with_an_old_handle_is_refused(queue):
    """A heartbeat cannot extend a message that another client has received since."""
    send(queue, "a")
    old_handle = receive_one(queue, visibility=0)
    receive_one(queue)
    with refused("MessageNotInflight"):
        queue.change_visibility(old_handle, 10, START_MS)


def test_changing_the_visibility_of_a_deleted_message_is_refused(queue):
    """For a deleted message AWS answers InvalidParameterValue."""
    send(queue, "a")
    handle = receive_one(queue)
    queue.delete(handle, START_MS)
    with refused("InvalidParameterValue"):
        queue.change_visibility(handle, 10, START_MS)


def test_visibility_ends_twelve_hours_after_the_receive(queue):
    """The limit applies to the total time since the receive, not to each extension."""
    send(queue, "a")
    handle = receive_one(queue, visibility=43_200)
    queue.change_visibility(handle, 43_200 - 3_600, START_MS + HOUR_MS)
    with refused("InvalidParameterValue"):
        queue.change_visibility(handle, 43_200 - 3_599, START_MS + HOUR_MS)


@pytest.mark.parametrize("seconds", [-1, 43_201])
def test_a_visibility_out_of_range_is_refused(queue, seconds):
    """A visibility timeout is 0 to 43,200 seconds."""
    send(queue, "a")
    handle = receive_one(queue)
    with refused("InvalidParameterValue"):
        queue.change_visibility(handle, seconds, START_MS)


def test_a_delayed_message_is_invisible_until_its_delay_ends(queue):
    """DelaySeconds counts from the send."""
    send(queue, "a", delay=5)
    assert counts(queue, START_MS + 4_999) == (0, 0, 1)
    assert bodies(queue, START_MS + 5_000) == ["a"]


def test_a_send_without_a_delay_uses_the_delay_of_the_queue(account):
    """A delay given in the send, even 0, takes precedence."""
    queue = account.create("slow", {"DelaySeconds": "7"}, START_MS)
    send(queue, "without delay", delay=0)
    send(queue, "with the delay of the queue")
    assert bodies(queue, START_MS) == ["without delay"]
    assert bodies(queue, START_MS + 7_000) == ["with the delay of the queue"]


@pytest.mark.parametrize("seconds", [-1, 901])
def test_a_delay_out_of_range_is_refused(queue, seconds):
    """A delay is 0 to 900 seconds."""
    with refused("InvalidParameterValue"):
        send(queue, "a", delay=seconds)


def test_an_expired_message_is_dropped_even_in_flight(account):
    """Retention counts from the send, for visible messages and for those in flight."""
    queue = account.create("short", {"MessageRetentionPeriod": "60"}, START_MS)
    send(queue, "in flight", "visible")
    bodies(queue, START_MS, limit=1, visibility=3_600)
    assert counts(queue, START_MS + 59_999) == (1, 1, 0)
    assert counts(queue, START_MS + 60_000) == (0, 0, 0)


def test_a_new_retention_period_applies_to_old_messages(queue):
    """A shorter period also expires messages that are already in the queue."""
    send(queue, "a")
    queue.set_attributes({"MessageRetentionPeriod": "60"}, START_MS)
    assert counts(queue, START_MS + 60_000) == (0, 0, 0)


def test_receive_counts_and_times_are_kept(queue):
    """The time of the first receive stays the same while the count grows."""
    send(queue, "a")
    receive_one(queue, START_MS + 10)
    (message,) = queue.receive(1, None, START_MS + 40_000)
    facts = (message.sent_ms, message.first_received_ms, message.receive_count)
    assert facts == (START_MS, START_MS + 10, 2)


def test_a_message_received_too_often_moves_to_the_dead_letter_queue(account):
    """After maxReceiveCount deliveries, the next receive moves it."""
    main, dead = with_dead_letters(account, max_receives=2)
    send(main, "poison")
    assert [bodies(main, START_MS, visibility=0) for _ in range(3)] == [["poison"], ["poison"], []]
    assert bodies(dead, START_MS) == ["poison"]


def test_a_move_keeps_id_sent_time_and_receive_count(account):
    """The moved message also names the queue it came from."""
    main, dead = with_dead_letters(account, max_receives=1)
    sent = main.send("poison", {}, None, START_MS)
    receive_one(main, visibility=0)
    bodies(main, START_MS)
    (moved,) = dead.receive(1, None, START_MS + 5)
    facts = (moved.id, moved.sent_ms, moved.receive_count, moved.dead_letter_source_arn)
    assert facts == (sent.id, START_MS, 2, main.arn)


def test_a_moved_message_does_not_hide_the_next_one(account):
    """A receive that moves a message continues with the next one."""
    main, _ = with_dead_letters(account, max_receives=1)
    send(main, "poison")
    receive_one(main, visibility=0)
    send(main, "good")
    assert bodies(main, START_MS) == ["good"]


@pytest.mark.parametrize(
    "policy",
    [
        "not json",
        "[]",
        "{}",
        '{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:none", "maxReceiveCount": 3}',
        '{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:q", "maxReceiveCount": 3}',
        '{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:o", "maxReceiveCount": 0}',
        '{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:o", "maxReceiveCount": 1001}',
        '{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:o", "maxReceiveCount": 1e999}',
    ],
)
def test_a_redrive_policy_without_a_valid_target_or_count_is_refused(account, queue, policy):
    """The target must be another existing queue, and the count 1 to 1000."""
    account.create("o", {}, START_MS)
    with refused("InvalidParameterValue"):
        queue.set_attributes({"RedrivePolicy": policy}, START_MS)


def test_an_empty_redrive_policy_removes_the_policy(account):
    """Without a policy, messages are delivered any number of times."""
    main, _ = with_dead_letters(account, max_receives=1)
    main.set_attributes({"RedrivePolicy": ""}, START_MS)
    send(main, "a")
    assert [bodies(main, START_MS, visibility=0) for _ in range(2)] == [["a"], ["a"]]
    assert "RedrivePolicy" not in main.describe(START_MS)


def test_receive_stops_at_the_in_flight_limit(queue, monkeypatch):
    """The receive that reaches the limit returns fewer messages, the next one is refused."""
    monkeypatch.setattr(sqs_model, "MAX_IN_FLIGHT", 3)
    send(queue, "a", "b", "c", "d")
    assert (bodies(queue, START_MS, limit=2), bodies(queue, START_MS)) == (["a", "b"], ["c"])
    with refused("OverLimit"):
        queue.receive(1, None, START_MS)


def test_the_in_flight_limit_is_that_of_aws():
    """A standard queue has at most 120,000 messages in flight."""
    assert sqs_model.MAX_IN_FLIGHT == 120_000


def test_a_redelivered_message_keeps_its_id_and_is_redelivered_once(account):
    """With a fraction of 1, each deleted message is delivered once more with a new handle."""
    account.redelivery = Redelivery(1.0)
    queue = account.create("q", {}, START_MS)
    sent = queue.send("a", {}, None, START_MS)
    first_handle = receive_one(queue)
    queue.delete(first_handle, START_MS)
    assert bodies(queue, START_MS + REDELIVERY_MS - 1) == []
    (redelivered,) = queue.receive(1, None, START_MS + REDELIVERY_MS)
    second_handle = queue.handle(redelivered)
    queue.delete(second_handle, START_MS + REDELIVERY_MS)
    assert redelivered.id == sent.id
    assert second_handle != first_handle
    assert bodies(queue, START_MS + HOUR_MS) == []


def test_a_repeated_delete_does_not_cancel_the_redelivery(account):
    """The old handle deletes nothing once the message is back."""
    account.redelivery = Redelivery(1.0)
    queue = account.create("q", {}, START_MS)
    queue.send("a", {}, None, START_MS)
    handle = receive_one(queue)
    queue.delete(handle, START_MS)
    queue.advance(START_MS + REDELIVERY_MS)
    queue.delete(handle, START_MS + REDELIVERY_MS)
    assert bodies(queue, START_MS + REDELIVERY_MS) == ["a"]


def test_the_seed_chooses_the_redelivered_messages():
    """The same seed chooses the same deletes, and another seed chooses others."""

    def choices(seed: int) -> list[bool]:
        redelivery = Redelivery(0.5, seed)
        return [redelivery.chooses() for _ in range(64)]

    assert choices(1) == choices(1) != choices(2)


def test_the_fraction_is_the_share_of_redelivered_messages():
    """The share is within a tenth of the fraction, over a thousand deletes."""
    redelivery = Redelivery(0.3, 0)
    assert 270 <= sum(redelivery.chooses() for _ in range(1000)) <= 330


def test_purge_removes_visible_hidden_and_delayed_messages(queue):
    send(queue, "a", "b")
    send(queue, "c", delay=10)
    receive_one(queue)
    queue.purge()
    assert counts(queue, START_MS + HOUR_MS) == (0, 0, 0)


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\x1f", "\ud800", "\ufffe", "\uffff"])
def test_a_character_that_sqs_does_not_allow_is_refused(queue, character):
    """Control characters, lone surrogates and the two non-characters are refused."""
    with refused("InvalidMessageContents"):
        send(queue, f"a{character}b")


@pytest.mark.parametrize("character", "\t\n\r \x7f\x80\ud7ff\ue000\ufffd\U00010000\U0010ffff")
def test_a_character_that_sqs_allows_is_accepted(queue, character):
    """The first and last characters of each allowed range are accepted."""
    send(queue, character)
    assert bodies(queue, START_MS) == [character]


def test_an_empty_body_is_refused(queue):
    """A message has at least one character."""
    with refused("MissingParameter"):
        send(queue, "")


def test_the_size_limit_counts_bytes_not_characters(queue):
    """524,288 two-byte characters fit into 1 MiB, and one more does not."""
    send(queue, "\u00e9" * (MAX_BYTES // 2))
    with refused("InvalidParameterValue"):
        send(queue, "\u00e9" * (MAX_BYTES // 2) + "a")


def test_attributes_count_towards_the_size_limit(queue):
    """Name, type and value count: 1 + 6 + 3 bytes here."""
    attributes = {"n": {"DataType": "String", "StringValue": "abc"}}
    queue.send("a" * (MAX_BYTES - 10), attributes, None, START_MS)
    with refused("InvalidParameterValue"):
        queue.send("a" * (MAX_BYTES - 9), attributes, None, START_MS)


def test_binary_attributes_count_by_their_decoded_size(queue):
    """The value counts before it is encoded as Base64: 1 + 6 + 4 bytes here."""
    value = base64.b64encode(b"\x00\x01\x02\x03").decode()
    attributes = {"n": {"DataType": "Binary", "BinaryValue": value}}
    queue.send("a" * (MAX_BYTES - 11), attributes, None, START_MS)
    with refused("InvalidParameterValue"):
        queue.send("a" * (MAX_BYTES - 10), attributes, None, START_MS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", {"DataType": "Text", "StringValue": "a"}),
        ("n", {"DataType": "String"}),
        ("n", {"DataType": "String\ud800", "StringValue": "a"}),
        ("n", {"DataType": "String", "StringValue": "\x00"}),
        ("n", {"DataType": "Binary", "BinaryValue": "not base64"}),
        ("a b", {"DataType": "String", "StringValue": "a"}),
        (".a", {"DataType": "String", "StringValue": "a"}),
        ("AWS.a", {"DataType": "String", "StringValue": "a"}),
    ],
)
def test_an_invalid_message_attribute_is_refused(queue, name, value):
    """There are rules for the type, the value and the name."""
    with refused("InvalidParameterValue"):
        queue.send("a", {name: value}, None, START_MS)


def test_more_than_ten_message_attributes_are_refused(queue):
    """Ten attributes are accepted, eleven are refused."""
    eleven = {f"n{i}": {"DataType": "String", "StringValue": "a"} for i in range(11)}
    ten = dict(list(eleven.items())[:10])
    queue.send("a", ten, None, START_MS)
    with refused("InvalidParameterValue"):
        queue.send("a", eleven, None, START_MS)


def test_attributes_md5_follows_the_developer_guide():
    """The digest covers sorted names, lengths, bytes and the transport byte."""

    def piece(content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + content

    expected = piece(b"a") + piece(b"Number.int") + b"\x01" + piece(b"12")
    expected += piece(b"b") + piece(b"Binary") + b"\x02" + piece(b"\x00\xff")
    attributes = {
        "b": {"DataType": "Binary", "BinaryValue": base64.b64encode(b"\x00\xff").decode()},
        "a": {"DataType": "Number.int", "StringValue": "12"},
    }
    assert attributes_md5(attributes) == md5(expected, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("VisibilityTimeout", "43201", "InvalidAttributeValue"),
        ("VisibilityTimeout", "-1", "InvalidAttributeValue"),
        ("VisibilityTimeout", "ten", "InvalidAttributeValue"),
        ("MessageRetentionPeriod", "59", "InvalidAttributeValue"),
        ("DelaySeconds", "901", "InvalidAttributeValue"),
        ("ReceiveMessageWaitTimeSeconds", "21", "InvalidAttributeValue"),
        ("MaximumMessageSize", "1048577", "InvalidAttributeValue"),
        ("QueueArn", "arn", "InvalidAttributeName"),
        ("FifoQueue", "true", "UnsupportedOperation"),
    ],
)
def test_an_attribute_out_of_range_is_refused(queue, name, value, code):
    """Each setting has a range, and an unsupported setting is not ignored."""
    with refused(code):
        queue.set_attributes({name: value}, START_MS)


def test_a_refused_change_changes_nothing(queue):
    """A request sets all of its attributes or none."""
    with refused("InvalidAttributeValue"):
        queue.set_attributes({"DelaySeconds": "5", "VisibilityTimeout": "-1"}, START_MS)
    assert queue.attributes["DelaySeconds"] == "0"


def test_creating_a_queue_again_with_the_same_attributes_returns_it(account):
    """CreateQueue is idempotent."""
    first = account.create("q", {"DelaySeconds": "5"}, START_MS)
    assert account.create("q", {"DelaySeconds": "5"}, START_MS) is first


def test_creating_a_queue_again_with_other_attributes_is_refused(account, queue):
    """CreateQueue does not change an existing queue."""
    with refused("QueueNameExists"):
        account.create("q", {"DelaySeconds": "5"}, START_MS)


@pytest.mark.parametrize("name", ["", "a b", "a" * 81, "a/b"])
def test_an_invalid_queue_name_is_refused(account, name):
    """A name has at most 80 letters, digits, hyphens and underscores."""
    with refused("InvalidParameterValue"):
        account.create(name, {}, START_MS)


def test_a_heartbeat_does_not_make_deadlines_grow():
    """A key that moves a thousand times takes the space of a few entries."""
    deadlines = Deadlines()
    for moment in range(1000):
        deadlines.set(1, moment)
    assert len(deadlines._heap) < 100
    assert (deadlines.due(998), deadlines.due(999)) == ([], [1])


def test_the_next_change_is_the_earliest_of_delay_and_visibility(queue):
    """A waiting receive has to be tried again at that time."""
    send(queue, "a")
    receive_one(queue)
    send(queue, "b", delay=10)
    assert queue.next_change_ms() == START_MS + 10_000


def test_a_message_does_not_show_its_body():
    """The repr may be logged, and bodies must not be."""
    queue = SqsAccount().create("q", {}, START_MS)
    assert "secret" not in repr(queue.send("secret", {}, None, START_MS))
