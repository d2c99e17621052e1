"""The strict SQS: the embedded SQS with faults, as hard on its clients as AWS or harder.

`strict_sqs` starts it as ``python -m tests.chaos.strict_sqs_server SEED``; it ends with its parent.
Besides SQS's own protocol it answers ``GET /faults`` (what has fired so far) and accepts
``PUT /faults`` (see `StrictServer._apply`).
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import uuid
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from etl.embedded import lifeline
from etl.embedded.sqs import CREDENTIAL
from etl.embedded.sqs_answers import Answer, Receive
from etl.embedded.sqs_http import HTTP_REASONS, Connection, Request
from etl.embedded.sqs_messages import StoredMessage
from etl.embedded.sqs_model import StoredQueue
from etl.embedded.sqs_parameters import Parameters
from etl.embedded.sqs_refusals import Refusal
from etl.embedded.sqs_server import HTTP_STATUS, SqsServer, clock
from etl.embedded.sqs_service import Service
from tests.chaos.strict_sqs_faults import AFTER_EFFECT, CONSUMER_ACTIONS, Faults, ScheduledFault
from tests.chaos.strict_sqs_queue import CONSUMERS, StrictAccount, StrictQueue
from tests.signatures import signature_problem

EMPTY_SECONDS = 0.2  # before an empty answer with opposite orders, which never waits for messages
TRANSIENT = "InternalError"  # code of an entry that a retry may fix

HTTP_REASONS.setdefault(503, "Service Unavailable")
HTTP_STATUS["ServiceUnavailable"] = 503
HTTP_STATUS.update(
    dict.fromkeys(("AccessDeniedException", "ExpiredToken", "SignatureDoesNotMatch"), 403)
)

_CONSUMER = re.compile(r"Credential=[^/]*?(\d)/")


class StrictService(Service):
    """SQS's actions with failing entries, handles that turn out to be stale, and redrives."""

    def __init__(self, account: StrictAccount) -> None:
        super().__init__(account, clock())
        self._faults = account.faults
        self._strict_account = account
        self._position = 0
        self._consumers: WeakKeyDictionary[Receive, int] = WeakKeyDictionary()
        self._actions["StartMessageMoveTask"] = self._start_message_move_task

    def _batch(self, entries: list[Parameters], act: Any, required: str) -> Answer:
        positions = {entry.text("Id"): n for n, entry in enumerate(entries)}

        def act_or_fail(entry: Parameters) -> Answer:
            self._position = positions[entry.text("Id")]
            if self._faults.fires_for_entry("failed_entry", self._position):
                raise Refusal(TRANSIENT, "An internal error has occurred. Please try again.")
            answer: Answer = act(entry)
            return answer

        answer = super()._batch(entries, act_or_fail, required)
        for failed in answer["Failed"]:
            failed["SenderFault"] = failed["Code"] != TRANSIENT
        return answer

    def _receive_message(self, parameters: Parameters, base_url: str) -> Answer | Receive:
        queue = self._queue(parameters)
        assert isinstance(queue, StrictQueue)
        queue.check_in_flight(self.now_ms())
        return super()._receive_message(parameters, base_url)

    def _take(self, receive: Receive) -> list[StoredMessage]:
        # A receive may wait while others come, so it has to be known whose it is.
        consumer = self._consumers.setdefault(receive, self._strict_account.consumer)
        if consumer in self._strict_account.frozen:
            return []
        self._strict_account.consumer = consumer
        return [self._faults.damage(message) for message in super()._take(receive)]

    def _delete_message(self, parameters: Parameters, base_url: str) -> Answer:
        self._position = 0
        return super()._delete_message(parameters, base_url)

    def _delete(self, queue: StoredQueue, parameters: Parameters) -> Answer:
        if self._faults.fires_for_entry("stale_handle", self._position):
            return {}
        return super()._delete(queue, parameters)

    def _start_message_move_task(self, parameters: Parameters, _: str) -> Answer:
        source = self._strict_account.find(parameters.text("SourceArn"))
        if not isinstance(source, StrictQueue):
            raise Refusal("ResourceNotFoundException", "The source does not exist.")
        source.redrive(parameters.text("DestinationArn"), self.now_ms())
        return {"TaskHandle": str(uuid.uuid4())}


class StrictServer(SqsServer):
    """Applies the faults of whole requests; holds those that hit an answer until it is written."""

    def __init__(self, account: StrictAccount) -> None:
        self._strict_service = StrictService(account)
        super().__init__(self._strict_service)
        self._account = account
        self._faults = account.faults
        self._denied: frozenset[str] = frozenset()  # actions
        self._pending: dict[Connection, str] = {}  # what to do to the connection's next answer

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer *request*, or a question about the faults."""
        if request.path == "/faults":
            if request.method == "PUT":
                self._apply(json.loads(request.body))
            now_ms = self._strict_service.now_ms()
            seconds = [self._account.last_receive_seconds(n, now_ms) for n in range(CONSUMERS)]
            answer = {"fired": self._faults.fired, "received": self._account.received}
            body = json.dumps({**answer, "last_receive_seconds": seconds}).encode()
            self._write(connection, 200, body, {"Content-Type": "application/json"})
            return
        super().handle(request, connection)

    def _apply(self, orders: dict[str, Any]) -> None:
        """Change what the orders name.

        ``rates``, ``schedule``, ``expired_seconds``, ``frozen`` or ``denied``.
        """
        faults = self._faults
        if "rates" in orders:
            faults.change_rates(orders["rates"])
        for fault in orders.get("schedule", []):
            faults.schedule(ScheduledFault(**fault))
        if "denied" in orders:
            self._denied = frozenset(orders["denied"])
        if "frozen" in orders:
            self._account.frozen = set(orders["frozen"])
        if "expired_seconds" in orders:
            seconds = orders["expired_seconds"]
            faults.expired_until_ms = self._strict_service.now_ms() + int(1000 * seconds)

    def _act(self, request: Request, connection: Connection) -> Answer | None:
        action = request.headers.get("x-amz-target", "").rpartition(".")[2]
        signature = request.headers.get("authorization", "")
        # The producers of the campaigns do not sign.
        if signature or action in CONSUMER_ACTIONS:
            self._check_signature(request)
        if match := _CONSUMER.search(signature):
            self._account.consumer = int(match[1]) % CONSUMERS
        self._faults.begin_request(action)
        if signature and self._strict_service.now_ms() < self._faults.expired_until_ms:
            self._faults.fired["expired"] += 1
            raise Refusal("ExpiredToken", "The security token included in the request is expired")
        if action in self._denied:
            self._faults.fired["denied"] += 1
            raise Refusal("AccessDeniedException", f"no policy allows the action sqs:{action}")
        fault = self._faults.draw_for_request(action)
        if fault in AFTER_EFFECT:
            self._pending[connection] = fault
        elif fault is not None:
            self._faults.fired[fault] += 1
            return self._answer_without_effect(fault, connection)
        if action == "ReceiveMessage" and self._faults.rates.opposite_chunk:
            return self._receive_at_once(request, connection)
        return super()._act(request, connection)

    def _check_signature(self, request: Request) -> None:
        """Refuse a wrong signature, and from then on everything.

        Otherwise a client that tries again in another way would hide its mistake from the tests.
        """
        problem = signature_problem(request, CREDENTIAL, path=request.path)
        if problem is not None or self._faults.fired["wrong_signature"]:
            self._faults.fired["wrong_signature"] += 1
            raise Refusal("SignatureDoesNotMatch", f"The signature does not match: {problem}.")

    def _answer_without_effect(self, fault: str, connection: Connection) -> Answer | None:
        """Answer a request but do not execute it."""
        if fault == "throttled":
            codes = ("RequestThrottled", "ThrottlingException")
            raise Refusal(codes[self._faults.draw(0.5)], "Rate exceeded")
        if fault == "failed":
            raise Refusal("InternalFailure", "We encountered an internal error.")
        if fault == "unavailable":
            raise Refusal("ServiceUnavailable", "Service is unavailable.")
        if fault == "false_empty":
            return {}
        _cut(connection)
        return None

    def _receive_at_once(self, request: Request, connection: Connection) -> Answer:
        members = {**json.loads(request.body), "WaitTimeSeconds": 0}
        answer = self._strict_service.answer("ReceiveMessage", members, "")
        assert not isinstance(answer, Receive)
        if not answer:
            self._pending[connection] = "empty"
        return answer

    def _write_json(
        self, connection: Connection, status: int, body: Answer, headers: dict[str, str]
    ) -> None:
        fault = self._pending.pop(connection, None)
        if fault is None or status != 200 or not (body or fault == "empty"):
            # The request had no effect, so a fault after its effect makes no sense.
            super()._write_json(connection, status, body, headers)
            return
        if fault != "empty":
            self._faults.fired[fault] += 1
        if fault == "cut_after":
            _cut(connection)
        elif fault == "failed_after":
            self._refuse(connection, Refusal("InternalFailure", "We encountered an error."))
        else:
            seconds = EMPTY_SECONDS if fault == "empty" else self._faults.rates.slow_seconds
            loop = asyncio.get_running_loop()
            loop.call_later(seconds, self._write_late, connection, body, headers)

    def _write_late(self, connection: Connection, body: Answer, headers: dict[str, str]) -> None:
        if not connection._transport.is_closing():
            super()._write_json(connection, 200, body, headers)
            connection.resume()

    def abandon(self, connection: Connection) -> None:
        """Forget a client that has disconnected."""
        super().abandon(connection)
        self._pending.pop(connection, None)


def _cut(connection: Connection) -> None:
    connection._transport.abort()


async def serve(seed: int) -> None:
    """Serve until the parent ends."""
    loop = asyncio.get_running_loop()
    parent_ended = asyncio.Event()
    server = StrictServer(StrictAccount(Faults(seed)))
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0)
    lifeline.when_parent_ends(partial(loop.call_soon_threadsafe, parent_ended.set))
    port = listener.sockets[0].getsockname()[1]
    lifeline.report(endpoint_url=f"http://127.0.0.1:{port}")
    await parent_ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
