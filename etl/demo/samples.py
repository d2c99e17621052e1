"""Seeded, realistic login events, good and bad, for the demo, the tests and the notebooks.

Devices and addresses are shared by a heavy-tailed law, as they are in life: most belong to one
user, a few households share one, and an address of a large network (NAT) stands for thousands.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

BAD_SHARE = 0.02
DEVICE_TYPES = (("android", 55), ("iOS", 40), ("web", 5))
LOCALES = (
    ("US", 24),
    ("RU", 12),
    ("DE", 10),
    ("IN", 8),
    ("BR", 6),
    ("FR", 4),
    ("NA", 2),
    (None, 33),
)
REPEAT_SHARE = 0.01  # a producer that sends an event twice: two messages, one content

# Accounts that one hand works; not in the default sample.
RINGS, RING_USERS, RING_DEVICES, RING_ADDRESSES = 3, 8, 3, 2

Event = dict[str, Any]


class _World:
    """Users, devices and addresses to draw from."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def event(self) -> Event:
        draw = self._draw
        user = self._user()
        return {
            "user_id": self._uuid("user", user),
            "app_version": self._version(),
            "device_type": self._pick(DEVICE_TYPES),
            "ip": self._address(user),
            "locale": self._pick(LOCALES),
            "device_id": self._device(user) if draw.random() < 0.96 else self._shared_device(),
        }

    def ring_event(self) -> Event:
        """A login of an account that takes turns with others on a few devices and addresses."""
        ring, draw = self._draw.randrange(RINGS), self._draw
        return {
            **self.event(),
            "user_id": self._uuid(f"ring {ring}", draw.randrange(RING_USERS)),
            "ip": f"198.51.100.{10 * ring + draw.randrange(RING_ADDRESSES) + 1}",
            "device_id": f"800-{ring:02d}-{draw.randrange(RING_DEVICES):04d}",
        }

    def _user(self) -> int:
        # Some log in daily, most now and then.
        return min(int(self._draw.paretovariate(0.9) * 300) + self._draw.randrange(1500), 50_000)

    def _uuid(self, kind: str, number: int) -> str:
        own = random.Random(f"{kind} {number}")  # noqa: S311  (samples, not secrets)
        text = f"{own.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def _version(self) -> str:
        draw = self._draw
        parts = [draw.randrange(4), draw.randrange(12)]
        if draw.random() < 0.8:
            parts.append(draw.randrange(100))
        return ".".join(map(str, parts))

    def _address(self, user: int) -> str:
        draw = self._draw
        kind = draw.random()
        if kind < 0.08:  # a large network's address
            return f"203.0.113.{int(draw.paretovariate(0.8)) % 250 + 1}"
        own = random.Random(f"address {user} {draw.randrange(2)}")  # noqa: S311
        if kind < 0.2:
            return "2001:db8:" + ":".join(f"{own.getrandbits(16):x}" for _ in range(6))
        return ".".join(str(own.randrange(1, 255)) for _ in range(4))

    def _device(self, user: int) -> str:
        own = random.Random(f"device {user} {min(int(self._draw.paretovariate(2)) - 1, 5)}")  # noqa: S311
        return f"{own.randrange(1000):03d}-{own.randrange(100):02d}-{own.randrange(10000):04d}"

    def _shared_device(self) -> str:
        rank = min(int(self._draw.paretovariate(0.9)), 900)
        return f"900-{rank % 100:02d}-{rank:04d}"

    def _pick(self, choices: tuple[tuple[Any, int], ...]) -> Any:
        names, weights = zip(*choices, strict=True)
        return self._draw.choices(names, weights)[0]


def _without(field: str) -> Callable[[Event], str]:
    return lambda event: json.dumps({k: v for k, v in event.items() if k != field})


def _with(field: str, value: Any) -> Callable[[Event], str]:
    return lambda event: json.dumps({**event, field: value})


def _twice(event: Event) -> str:
    return json.dumps(event)[:-1] + ', "locale": "US"}'


def _raw(field: str, text: str) -> Callable[[Event], str]:
    return lambda event: json.dumps({**event, field: "@"}).replace('"@"', text)


# Each way to be bad, with the reason (column: check) that the quarantine gives.
BAD: dict[str, Callable[[Event], str]] = {
    "message: JSON": lambda event: json.dumps(event)[:-9],
    "message: JSON object": lambda event: json.dumps(list(event)),
    "message: NaN or Infinity": _raw("app_version", "NaN"),
    "message: duplicate key": _twice,
    "message: nesting": lambda _: "[" * 100_000,
    "message: integer length": _raw("app_version", "9" * 5_000),
    "user_id: missing": lambda _: json.dumps({"foo": "a message of another shape", "bar": "123"}),
    "device_id: missing": _without("device_id"),
    "user_id: null": _with("user_id", None),
    "device_type: type": _with("device_type", 7),
    "app_version: type": _with("app_version", 2.5),
    "app_version: version": _with("app_version", "two"),
    "app_version: version range": _with("app_version", "1.1000.0"),
    "ip: IP address": _with("ip", "300.1.2.3"),
    "ip: type": _with("ip", True),
    "locale: length": _with("locale", "x" * 33),
    "device_id: NUL character": _with("device_id", "593\0-47"),
    "user_id: lone surrogate": _raw("user_id", '"\\ud800"'),
}


def bodies(
    count: int,
    seed: int,
    *,
    bad_share: float = BAD_SHARE,
    bad_kinds: Sequence[str] = tuple(BAD),
    rings: bool = False,
) -> Iterator[str]:
    """Yield *count* message bodies; the same seed gives the same bodies.

    :param bad_kinds: keys of ``BAD``, the ways in which the bad ones are bad
    :param rings: of accounts that share a few devices and addresses, and of nobody else
    """
    draw = random.Random(seed)  # noqa: S311  (samples, not secrets)
    world = _World(draw)
    kinds = [BAD[kind] for kind in bad_kinds]
    bad = 0
    body = ""
    for _ in range(count):
        if draw.random() < bad_share:
            # In turn, so that a small sample already shows every kind.
            yield kinds[bad % len(kinds)](world.event())
            bad += 1
        elif body and draw.random() < REPEAT_SHARE:
            yield body
        else:
            body = json.dumps(world.ring_event() if rings else world.event())
            yield body
