"""Realistic made-up login events, good and bad, for the demo, the tests and the notebooks.

As in real life, devices and addresses are shared with a heavy tail: most belong to one user, a few
are shared by a household, and an address of a large network (NAT) is shared by thousands.
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
REPEAT_SHARE = 0.01  # of events that a producer sends twice: two messages with equal bodies

# Groups of accounts that one person uses; they are not in the default sample.
RINGS = 3
RING_USERS = 8
RING_DEVICES = 3
RING_ADDRESSES = 2

Event = dict[str, Any]


class _World:
    """The users, devices and addresses from which events are drawn."""

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
        """Make up a login of an account that shares a few devices and addresses with others."""
        draw = self._draw
        ring = draw.randrange(RINGS)
        return {
            **self.event(),
            "user_id": self._uuid(f"ring {ring}", draw.randrange(RING_USERS)),
            "ip": f"198.51.100.{10 * ring + draw.randrange(RING_ADDRESSES) + 1}",
            "device_id": f"800-{ring:02d}-{draw.randrange(RING_DEVICES):04d}",
        }

    def _user(self) -> int:
        # Some users log in daily, most only now and then.
        return min(int(self._draw.paretovariate(0.9) * 300) + self._draw.randrange(1500), 50_000)

    def _uuid(self, kind: str, number: int) -> str:
        fixed = random.Random(f"{kind} {number}")  # noqa: S311  (samples, not secrets)
        text = f"{fixed.getrandbits(128):032x}"
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
        fixed = random.Random(f"address {user} {draw.randrange(2)}")  # noqa: S311
        if kind < 0.2:
            return "2001:db8:" + ":".join(f"{fixed.getrandbits(16):x}" for _ in range(6))
        return ".".join(str(fixed.randrange(1, 255)) for _ in range(4))

    def _device(self, user: int) -> str:
        number = min(int(self._draw.paretovariate(2)) - 1, 5)
        fixed = random.Random(f"device {user} {number}")  # noqa: S311
        return (
            f"{fixed.randrange(1000):03d}-{fixed.randrange(100):02d}-{fixed.randrange(10000):04d}"
        )

    def _shared_device(self) -> str:
        rank = min(int(self._draw.paretovariate(0.9)), 900)
        return f"900-{rank % 100:02d}-{rank:04d}"

    def _pick(self, choices: tuple[tuple[Any, int], ...]) -> Any:
        names, weights = zip(*choices, strict=True)
        return self._draw.choices(names, weights)[0]


def _without(field: str) -> Callable[[Event], str]:
    return lambda event: json.dumps({name: event[name] for name in event if name != field})


def _with(field: str, value: Any) -> Callable[[Event], str]:
    return lambda event: json.dumps({**event, field: value})


def _with_duplicate_key(event: Event) -> str:
    return json.dumps(event)[:-1] + ', "locale": "US"}'


def _raw(field: str, text: str) -> Callable[[Event], str]:
    return lambda event: json.dumps({**event, field: "@"}).replace('"@"', text)


# For each kind of bad event: the reason that the quarantine gives, as "column: check".
BAD: dict[str, Callable[[Event], str]] = {
    "message: JSON": lambda event: json.dumps(event)[:-9],
    "message: JSON object": lambda event: json.dumps(list(event)),
    "message: NaN or Infinity": _raw("app_version", "NaN"),
    "message: duplicate key": _with_duplicate_key,
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

    :param bad_kinds: the kinds of bad event to use in turn, as keys of ``BAD``
    :param rings: whether all events are of accounts that share a few devices and addresses
    """
    draw = random.Random(seed)  # noqa: S311  (samples, not secrets)
    world = _World(draw)
    spoilers = [BAD[kind] for kind in bad_kinds]
    bad_count = 0
    body = ""
    for _ in range(count):
        if draw.random() < bad_share:
            # In turn, so that even a small sample has every kind.
            yield spoilers[bad_count % len(spoilers)](world.event())
            bad_count += 1
        elif body and draw.random() < REPEAT_SHARE:
            yield body
        else:
            body = json.dumps(world.ring_event() if rings else world.event())
            yield body
