"""Start the strict SQS, set its faults, and ask which of them fired."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from etl.embedded.lifeline import Child
from etl.embedded.sqs import EmbeddedSqs
from tests.chaos.strict_sqs_faults import Rates


class StrictSqs(EmbeddedSqs):
    """A strict SQS in its own process; it has no faults until they are set."""

    def __init__(self, seed: int = 0) -> None:
        self._child = Child("tests.chaos.strict_sqs_server", str(seed))
        self.endpoint_url: str = self._child.ready["endpoint_url"]
        self._frozen: set[int] = set()
        self._creator = None

    def set_rates(self, **rates: Any) -> None:
        """Replace the rates of all faults; see `strict_sqs_faults.Rates`.

        :raises ValueError: no such rate
        """
        self._ask({"rates": Rates.read(rates).json()})

    def schedule_fault(
        self, action: str, kind: str, *, nth: int = 1, entry: int | None = None
    ) -> None:
        """Make the *nth* call of *action* from now on fail, or only one entry of it."""
        fault = {"action": action, "nth": nth, "kind": kind, "entry": entry}
        self._ask({"schedule": [fault]})

    def expire_credentials(self, seconds: float) -> None:
        """Refuse every signed request for this time, as if the credentials had expired."""
        self._ask({"expired_seconds": seconds})

    def deny(self, *actions: str) -> None:
        """Refuse these actions from now on, as if a policy did not allow them; no other ones."""
        self._ask({"denied": actions})

    def fired(self) -> Counter[str]:
        """How often each kind of fault has fired so far."""
        return +Counter(self._ask(None)["fired"])

    def received(self) -> list[int]:
        """How many messages each consumer has received so far."""
        received: list[int] = self._ask(None)["received"]
        return received

    def freeze(self, consumer: int) -> float | None:
        """Let a consumer receive nothing from now on.

        :returns: how many seconds ago it received a message for the last time that the queue
            allows; only messages that it still holds count, None if there is none
        """
        self._frozen.add(consumer)
        seconds: float | None = self._freeze()["last_receive_seconds"][consumer]
        return seconds

    def unfreeze(self, consumer: int) -> None:
        """Let a consumer receive again."""
        self._frozen.discard(consumer)
        self._freeze()

    def _freeze(self) -> dict[str, Any]:
        return self._ask({"frozen": sorted(self._frozen)})

    def _ask(self, orders: dict[str, Any] | None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.endpoint_url).netloc, timeout=60)
        if orders is None:
            connection.request("GET", "/faults")
        else:
            connection.request("PUT", "/faults", json.dumps(orders))
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer
