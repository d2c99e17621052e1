"""Sends a campaign's messages and keeps the history; looks at the queue as nobody's consumer.

Not boto3: a million messages are sent in a tenth of the time, and nothing of the program's own
ways of talking to SQS is used.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.messages import Messages

TENS = 10


@dataclass
class History:
    """What was sent: message ids by number; numbers by message id."""

    messages: Messages
    numbers: dict[str, int] = field(default_factory=dict)
    sent: int = 0


class Producer:
    """Talks to one queue in SQS's JSON protocol, unsigned, so that no fault meets it."""

    def __init__(self, queue_url: str) -> None:
        self._queue_url = queue_url
        self._connection = http.client.HTTPConnection(urlsplit(queue_url).netloc, timeout=120)

    def send(self, history: History, count: int) -> None:
        """Send the next *count* messages of the history."""
        end = history.sent + count
        while history.sent < end:
            self._send_some(history, min(TENS, end - history.sent))

    def _send_some(self, history: History, count: int) -> None:
        first = history.sent
        bodies = [history.messages.body(number) for number in range(first, first + count)]
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
        answer = self.call("SendMessageBatch", Entries=entries)
        if answer.get("Failed"):
            raise RuntimeError(f"SQS did not take {len(answer['Failed'])} messages")
        for entry in answer["Successful"]:
            history.numbers[entry["MessageId"]] = first + int(entry["Id"])
        history.sent += count

    def numbers(self) -> tuple[int, int]:
        """Messages visible, and in flight or delayed."""
        names = ("", "NotVisible", "Delayed")
        names = tuple(f"ApproximateNumberOfMessages{name}" for name in names)
        attributes = self.call("GetQueueAttributes", AttributeNames=names)["Attributes"]
        visible, in_flight, delayed = (int(attributes[name]) for name in names)
        return visible, in_flight + delayed

    def call(self, action: str, **members: Any) -> Any:
        """Do one action on the queue."""
        body = json.dumps({"QueueUrl": self._queue_url, **members})
        headers = {"X-Amz-Target": f"AmazonSQS.{action}"}
        self._connection.request("POST", "/", body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"SQS answered {answer.status} to {action}")
        return json.loads(text)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
