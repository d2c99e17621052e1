"""The messages of a campaign: each body is a function of the campaign's seed and a number.

So the history stores no bodies, and the checker can generate each of them again. All personal
values contain the campaign's canary, a word and address prefixes that occur nowhere else: wherever
the canary turns up, a personal value has leaked.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from etl.demo import samples

Event = dict[str, Any]

# API_SendMessage: the characters that SQS does not accept.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

LOCALES = ("US", "RU", "DE", "NA", None, None)
DEVICE_TYPES = ("android", "iOS", "web")


@dataclass(frozen=True)
class Canary:
    """The strings that mark the personal values of one campaign."""

    word: str
    ipv4: str  # the first two bytes and their dots
    ipv6: str  # the first four groups and their colons

    @classmethod
    def of(cls, seed: int) -> Canary:
        """Draw the canary of a seed."""
        draw = random.Random(f"canary {seed}")
        groups = ":".join(f"{draw.randrange(0x1000, 0x10000):x}" for _ in range(3))
        return cls(
            word=f"kanarie{draw.getrandbits(40):010x}",
            ipv4=f"{draw.randrange(100, 200)}.{draw.randrange(100, 200)}.",
            ipv6=f"2001:{groups}:",
        )

    @property
    def values(self) -> tuple[str, ...]:
        """The strings to search for; a campaign's IPv4 addresses share their third byte too."""
        return (self.word, self.ipv6, f"{self.ipv4}250.")


@dataclass(frozen=True)
class Messages:
    """The bodies of a campaign by number.

    Either a share of them is bad (``bad_share``), or every other one is mutated (``mutated``).
    """

    seed: int
    bad_share: float = 0.0
    mutated: bool = False
    device_count: int = 5000
    groups: int = 0  # of a FIFO queue, by turns; 0 for a standard queue

    @cached_property
    def canary(self) -> Canary:
        """The strings that mark the personal values."""
        return Canary.of(self.seed)

    def user(self, number: int) -> str:
        """The user of a good message; no other message has the same one."""
        return f"{self.canary.word[7:]}-{number:08d}"

    def group(self, number: int) -> str:
        """The FIFO group of a message."""
        return f"group-{number % self.groups}"

    def event(self, number: int) -> Event:
        """A good event with the message's own user."""
        draw = random.Random(f"{self.seed} {number}")
        canary = self.canary
        if draw.random() < 0.3:
            address = canary.ipv6 + ":".join(f"{draw.randrange(1, 0x10000):X}" for _ in range(4))
        else:
            address = f"{canary.ipv4}250.{draw.randrange(256)}"
        return {
            "user_id": self.user(number),
            "app_version": f"{draw.randrange(100)}.{draw.randrange(100):02}.{draw.randrange(100)}",
            "device_type": draw.choice(DEVICE_TYPES),
            "ip": address,
            "locale": draw.choice(LOCALES),
            "device_id": f"{canary.word} {draw.randrange(self.device_count):06d}",
        }

    def is_good(self, number: int) -> bool:
        """Whether the message must be loaded."""
        if self.mutated:
            return number % 2 == 0
        if not self.bad_share:
            return True
        return random.Random(f"bad {self.seed} {number}").random() >= self.bad_share

    def body(self, number: int) -> str:
        """The body to send."""
        if self.is_good(number):
            return json.dumps(self.event(number))
        draw = random.Random(f"body {self.seed} {number}")
        if self.mutated:
            return mutate(self.event(number), draw)
        return draw.choice(BAD_SAMPLES)(self.event(number))


# Without the sample of 100,000 characters, which would make up most of a campaign's bytes.
BAD_SAMPLES = [make for reason, make in samples.BAD.items() if reason != "message: nesting"]

ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, [], {}, [[]], {"": []},
    "", " ", "\0", "\ud800", "\udfff", "\u2028", "\ufeff", "x" * 129, "é" * 200, "1.2", "1.2.3.4",
    "01.2.3", "999.999.999", "2147.483.647", "2147.483.648", "::", "::1", "1.2.3.4.5", "fe80::1%1",
    "NaN", "NULL", "\\N", "\\", "'", '"', "\t", "\r\n", "-- ", "%s", "{0}", "$1",
]  # fmt: skip
RAW_VALUES = (
    "NaN", "-Infinity", "1e999", "9" * 5000, "01", "1.", "'x'", "undefined", "\\u0000",
    '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\x"', "[" * 120 + "]" * 120, "[" * 99999,
)  # fmt: skip
CHARACTERS = "\"'\\{}[]:,\t\n\r 0-eE.u\u00e9\u2028\ufeff\ufffd\U0001f600"


def mutate(event: Event, draw: random.Random) -> str:
    """Serialize an event, and damage its fields, its text, both or neither."""
    event = dict(event)
    for _ in range(draw.choice((0, 1, 1, 2))):
        draw.choice(FIELD_MUTATIONS)(event, draw)
    text = json.dumps(event, ensure_ascii=draw.random() < 0.7)
    for _ in range(draw.choice((0, 0, 1, 1, 3))):
        text = draw.choice(TEXT_MUTATIONS)(text, draw)
    return FORBIDDEN.sub("\ufffd", text) or "?"


def _random_field(event: Event, draw: random.Random) -> str:
    return draw.choice(list(event) or ["user_id"])


def _set_odd_value(event: Event, draw: random.Random) -> None:
    event[_random_field(event, draw)] = draw.choice(ODD_VALUES)


def _remove_field(event: Event, draw: random.Random) -> None:
    event.pop(_random_field(event, draw), None)


def _rename_field(event: Event, draw: random.Random) -> None:
    name = _random_field(event, draw)
    event[draw.choice((name.upper(), f" {name}", "", "message_id"))] = event.pop(name, 1)


def _swap_fields(event: Event, draw: random.Random) -> None:
    # Never a personal value into an unmasked column: it would look like a leak.
    pairs = (("ip", "device_id"), ("user_id", "locale"), ("device_type", "app_version"))
    left, right = draw.choice(pairs)
    event[left], event[right] = event.get(right), event.get(left)


def _nest_field(event: Event, draw: random.Random) -> None:
    name = _random_field(event, draw)
    event[name] = draw.choice(([event.get(name)], {name: event.get(name)}, str(event.get(name))))


def _lengthen_field(event: Event, draw: random.Random) -> None:
    name = _random_field(event, draw)
    event[name] = f"{event.get(name)}" * draw.choice((2, 3, 30))


def _truncate(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text) + 1)]


def _delete_part(text: str, draw: random.Random) -> str:
    start = draw.randrange(len(text) + 1)
    return text[:start] + text[start + draw.choice((1, 2, 9)) :]


def _repeat_part(text: str, draw: random.Random) -> str:
    start = draw.randrange(len(text) + 1)
    return text[:start] + text[start : start + draw.choice((1, 5, 40))] + text[start:]


def _insert_or_replace_character(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + draw.choice(CHARACTERS) + text[at + draw.randrange(2) :]


def _insert_raw_value(text: str, draw: random.Random) -> str:
    values = list(re.finditer(r'"(?:[^"\\]|\\.)*"|null|-?\d+', text))
    if not values:
        return text
    replaced = draw.choice(values)
    # The longest one only rarely, or it would make up most of the bytes.
    raw = draw.choice(RAW_VALUES[: -1 if draw.random() < 0.99 else None])
    return text[: replaced.start()] + raw + text[replaced.end() :]


def _duplicate(text: str, draw: random.Random) -> str:
    """Give a field twice, or the whole document twice."""
    return text.replace("{", '{"ip": "::1", ', 1) if draw.random() < 0.5 else text + text


# A mutation that is named twice is drawn more often.
FIELD_MUTATIONS: tuple[Callable[[Event, random.Random], None], ...] = (
    _set_odd_value,
    _set_odd_value,
    _set_odd_value,
    _remove_field,
    _rename_field,
    _swap_fields,
    _nest_field,
    _lengthen_field,
)
TEXT_MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (
    _truncate,
    _delete_part,
    _repeat_part,
    _insert_or_replace_character,
    _insert_or_replace_character,
    _insert_raw_value,
    _insert_raw_value,
    _duplicate,
)
