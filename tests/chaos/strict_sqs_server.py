"""An SQS as hard as AWS or harder: the embedded one, with faults by rates, a seed and a script.

Started by `strict_sqs` as ``python -m tests.chaos.strict_sqs_server SEED``; ends with its parent.
Beside SQS's own protocol it answers ``GET /faults`` (what fired so far) and takes ``PUT /faults``
(see `Orders`).

With ``opposite_chunk`` each message is delivered three times, to three of four consumers, which are
told apart by the last digit of their access key. They are led through the queue in chunks of so
many messages, every other consumer through each chunk backwards, so that all have the same messages
in hand at a time, in opposite orders.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import uuid
from collections import deque
from functools import partial
from typing import Any

from etl.embedded import lifeline
from etl.embedded.sqs_answers import Answer, Receive
from etl.embedded.sqs_http import HTTP_REASONS, Connection, Request
from etl.embedded.sqs_messages import StoredMessage
from etl.embedded.sqs_model import Redelivery, SqsAccount, StoredQueue
from etl.embedded.sqs_parameters import Parameters
from etl.embedded.sqs_refusals import Refusal
from etl.embedded.sqs_server import HTTP_STATUS, SqsServer, clock
from etl.embedded.sqs_service import Service
from tests.chaos.strict_sqs_faults import AFTER_EFFECT, Faults, Scripted

CONSUMERS = 4
EMPTY_SECONDS = 0.2  # an empty answer in opposite orders, which never waits for messages
TRANSIENT = "InternalError"  # the code of an entry that another try may mend

HTTP_REASONS.setdefault(503, "Service Unavailable")
HTTP_STATUS.update({"ServiceUnavailable": 503, "ExpiredToken": 403})

_CONSUMER = re.compile(r"Credential=[^/]*?(\d)/")


class StrictRedelivery(Redelivery):
    """Chooses by the faults' rate, and counts."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def chooses(self) -> bool:
        """Whether the message deleted now will be delivered once more."""
        return self._faults.of_entry("redelivered", -1)


class StrictAccount(SqsAccount):
    """An account whose queues know the faults, and who asks."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(StrictRedelivery(faults), StrictQueue)
        self.faults = faults
        self.consumer = 0


class StrictQueue(StoredQueue):
    """A queue with a limit in flight, double deliveries, new ids, and opposite orders."""

    _account: StrictAccount

    def purge(self) -> None:
        """Forget every message, in flight or not."""
        super().purge()
        self._lines: list[deque[StoredMessage]] = []

    def check_in_flight(self, now_ms: int) -> None:
        """Refuse a receive beyond the limit; AWS lets a long poll wait, in place of refusing it.

        :raises Refusal: OverLimit
        """
        self.advance(now_ms)
        if len(self._in_flight) >= self._account.faults.rates.in_flight:
            self._account.faults.fired["over_limit"] += 1
            raise Refusal("OverLimit", "Too many messages in flight.")

    def receive(
        self, limit: int, visibility_seconds: int | None, now_ms: int
    ) -> list[StoredMessage]:
        """Hand out up to *limit* messages."""
        self.advance(now_ms)
        faults = self._account.faults
        if faults.rates.opposite_chunk and (line := self._line()):
            return self._hand_out_again(line, limit, now_ms)
        taken = super().receive(limit, visibility_seconds, now_ms)
        for message in taken:
            if faults.of_entry("twice", -1):
                self._in_flight.discard(message.number)
                self._visible[message.number] = None
        return taken

    def _line(self) -> deque[StoredMessage]:
        """What this consumer has still to get; the first receive orders it for all of them."""
        if not self._lines:
            every, chunk = list(self._messages.values()), self._account.faults.rates.opposite_chunk
            for consumer in range(CONSUMERS):
                line: deque[StoredMessage] = deque()
                for start in range(0, len(every), chunk):
                    part = every[start : start + chunk]
                    part = [m for m in part if m.number % CONSUMERS != consumer]
                    line.extend(reversed(part) if consumer % 2 else part)
                self._lines.append(line)
        return self._lines[self._account.consumer]

    def _hand_out_again(
        self, line: deque[StoredMessage], limit: int, now_ms: int
    ) -> list[StoredMessage]:
        taken = [line.popleft() for _ in range(min(limit, len(line)))]
        for message in taken:
            if message.number not in self._messages:
                self._admit(message)  # it was deleted, and SQS may deliver it all the same
            self._visible.pop(message.number, None)
            self._hand_out(message, int(self.attributes["VisibilityTimeout"]), now_ms)
        self._account.faults.fired["opposite_order"] += len(taken)
        return taken

    def _moves_to_dead_letters(self, message: StoredMessage) -> bool:
        moves = super()._moves_to_dead_letters(message)
        if moves and self._account.faults.rates.dead_letter_new_ids:
            # AWS keeps the id here and gives a new one at the redrive; harder is: at once.
            message.id = str(uuid.uuid4())
            self._account.faults.fired["dead_letter"] += 1
        return moves

    def redrive(self, arn: str, now_ms: int) -> int:
        """Send everything visible here to the queue *arn* as new messages; returns how many."""
        target = self._account.find(arn)
        if target is None:
            raise Refusal("ResourceNotFoundException", "The destination does not exist.")
        moved = [self._messages[number] for number in self._visible]
        for message in moved:
            self._forget(message)
            target.send(message.body, message.attributes, None, now_ms)
        self._account.faults.fired["redriven"] += len(moved)
        return len(moved)


class StrictService(Service):
    """SQS's actions with failing entries, handles that turn out stale, and redrives."""

    def __init__(self, account: StrictAccount) -> None:
        super().__init__(account, clock())
        self._faults = account.faults
        self._strict_account = account
        self._position = 0
        self._actions["StartMessageMoveTask"] = self._start_message_move_task

    def _batch(self, entries: list[Parameters], act: Any, required: str) -> Answer:
        positions = {entry.text("Id"): n for n, entry in enumerate(entries)}

        def strictly(entry: Parameters) -> Answer:
            self._position = positions[entry.text("Id")]
            if self._faults.of_entry("failed_entry", self._position):
                raise Refusal(TRANSIENT, "An internal error has occurred. Please try again.")
            answer: Answer = act(entry)
            return answer

        answer = super()._batch(entries, strictly, required)
        for failed in answer["Failed"]:
            failed["SenderFault"] = failed["Code"] != TRANSIENT
        return answer

    def _receive_message(self, parameters: Parameters, base_url: str) -> Answer | Receive:
        queue = self._queue(parameters)
        assert isinstance(queue, StrictQueue)
        queue.check_in_flight(self.now_ms())
        return super()._receive_message(parameters, base_url)

    def _delete_message(self, parameters: Parameters, base_url: str) -> Answer:
        self._position = 0
        return super()._delete_message(parameters, base_url)

    def _delete(self, queue: StoredQueue, parameters: Parameters) -> Answer:
        if self._faults.of_entry("stale_handle", self._position):
            return {}
        return super()._delete(queue, parameters)

    def _start_message_move_task(self, parameters: Parameters, _: str) -> Answer:
        source = self._strict_account.find(parameters.text("SourceArn"))
        if not isinstance(source, StrictQueue):
            raise Refusal("ResourceNotFoundException", "The source does not exist.")
        source.redrive(parameters.text("DestinationArn"), self.now_ms())
        return {"TaskHandle": str(uuid.uuid4())}


class StrictServer(SqsServer):
    """Commits the faults of whole requests; keeps what is to befall an answer until it is there."""

    def __init__(self, account: StrictAccount) -> None:
        self._strict_service = StrictService(account)
        super().__init__(self._strict_service)
        self._account = account
        self._faults = account.faults
        self._fates: dict[Connection, str] = {}

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer *request*, or a question about the faults."""
        if request.path == "/faults":
            if request.method == "PUT":
                self._obey(json.loads(request.body))
            body = json.dumps({"fired": self._faults.fired}).encode()
            self._write(connection, 200, body, {"Content-Type": "application/json"})
            return
        super().handle(request, connection)

    def _obey(self, orders: dict[str, Any]) -> None:
        faults = self._faults
        if "rates" in orders:
            faults.change(orders["rates"])
        for scripted in orders.get("script", []):
            faults.add(Scripted(**scripted))
        if "expired_seconds" in orders:
            seconds = orders["expired_seconds"]
            faults.expired_until_ms = self._strict_service.now_ms() + int(1000 * seconds)

    def _act(self, request: Request, connection: Connection) -> Answer | None:
        action = request.headers.get("x-amz-target", "").rpartition(".")[2]
        signed = request.headers.get("authorization", "")
        if found := _CONSUMER.search(signed):
            self._account.consumer = int(found[1]) % CONSUMERS
        self._faults.begin(action)
        if signed and self._strict_service.now_ms() < self._faults.expired_until_ms:
            self._faults.fired["expired"] += 1
            raise Refusal("ExpiredToken", "The security token included in the request is expired")
        fate = self._faults.of_request(action)
        if fate in AFTER_EFFECT:
            self._fates[connection] = fate
        elif fate is not None:
            self._faults.fired[fate] += 1
            return self._undone(fate, connection)
        if action == "ReceiveMessage" and self._faults.rates.opposite_chunk:
            return self._receive_at_once(request, connection)
        return super()._act(request, connection)

    def _undone(self, fate: str, connection: Connection) -> Answer | None:
        """Answer a request without doing it."""
        if fate == "throttled":
            both = ("RequestThrottled", "ThrottlingException")
            raise Refusal(both[self._faults.chance(0.5)], "Rate exceeded")
        if fate == "failed":
            raise Refusal("InternalFailure", "We encountered an internal error.")
        if fate == "unavailable":
            raise Refusal("ServiceUnavailable", "Service is unavailable.")
        if fate == "false_empty":
            return {}
        _cut(connection)
        return None

    def _receive_at_once(self, request: Request, connection: Connection) -> Answer:
        members = {**json.loads(request.body), "WaitTimeSeconds": 0}
        answer = self._strict_service.answer("ReceiveMessage", members, "")
        assert not isinstance(answer, Receive)
        if not answer:
            self._fates[connection] = "empty"
        return answer

    def _write_json(
        self, connection: Connection, status: int, body: Answer, headers: dict[str, str]
    ) -> None:
        fate = self._fates.pop(connection, None)
        if fate is None or status != 200 or not (body or fate == "empty"):
            # Nothing was done, so nothing can go wrong after it.
            super()._write_json(connection, status, body, headers)
            return
        if fate != "empty":
            self._faults.fired[fate] += 1
        if fate == "cut_after":
            _cut(connection)
        elif fate == "failed_after":
            self._refuse(connection, Refusal("InternalFailure", "We encountered an error."))
        else:
            seconds = EMPTY_SECONDS if fate == "empty" else self._faults.rates.slow_seconds
            loop = asyncio.get_running_loop()
            loop.call_later(seconds, self._write_late, connection, body, headers)

    def _write_late(self, connection: Connection, body: Answer, headers: dict[str, str]) -> None:
        if not connection._transport.is_closing():
            super()._write_json(connection, 200, body, headers)
            connection.resume()

    def abandon(self, connection: Connection) -> None:
        """Forget a client that is gone."""
        super().abandon(connection)
        self._fates.pop(connection, None)


def _cut(connection: Connection) -> None:
    connection._transport.abort()


async def serve(seed: int) -> None:
    """Serve until the parent ends."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = StrictServer(StrictAccount(Faults(seed)))
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0)
    lifeline.when_parent_ends(partial(loop.call_soon_threadsafe, ended.set))
    port = listener.sockets[0].getsockname()[1]
    lifeline.report(endpoint_url=f"http://127.0.0.1:{port}")
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
