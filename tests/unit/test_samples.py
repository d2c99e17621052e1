"""The made-up events of the demo."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict

import pytest

from etl import extract, validate
from etl.demo import samples
from etl.reading.sources import values_of_messages
from etl.validate import frame_schema
from tests.unit.builders import FIELDS, columns, message


def reasons(bodies: list[str]) -> list[set[str]]:
    """Return the checks that each body breaks, as ``column: check``."""
    messages = [message(body, number) for number, body in enumerate(bodies)]
    raw, unreadable = extract.read(
        messages, FIELDS, of_messages=values_of_messages(columns(), "run")
    )
    _, rejects = validate.split(raw, frame_schema(columns()), columns())
    broken: dict[str, set[str]] = defaultdict(set)
    for frame in (unreadable, rejects):
        for message_id, column, check in frame.itertuples(index=False):
            broken[message_id].add(f"{column}: {check}")
    return [broken[f"m{number}"] for number in range(len(bodies))]


def test_the_same_seed_gives_the_same_events() -> None:
    """Another seed gives other events."""
    first, second, other = (list(samples.bodies(500, seed)) for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize("reason", samples.BAD)
def test_each_kind_of_bad_event_breaks_the_check_it_is_named_for(reason: str) -> None:
    """The demo counts rejected messages by these names."""
    good = json.loads(next(samples.bodies(1, 3, bad_share=0)))
    assert reason in reasons([samples.BAD[reason](good)])[0]


def test_good_events_break_nothing() -> None:
    """No made-up value is rejected by accident."""
    assert set(map(len, reasons(list(samples.bodies(3_000, 5, bad_share=0))))) == {0}


def test_about_two_in_a_hundred_are_bad_in_at_least_ten_ways() -> None:
    """This is the sample that ``make run`` sends."""
    bad = [broken for broken in reasons(list(samples.bodies(10_000, 1))) if broken]
    assert 150 <= len(bad) <= 250
    assert len(set().union(*bad)) >= 10


def test_devices_and_addresses_are_shared_by_a_heavy_tail() -> None:
    """Most devices belong to one user, and a few belong to very many."""
    users: dict[str, set[str]] = defaultdict(set)
    for body in samples.bodies(10_000, 1, bad_share=0):
        event = json.loads(body)
        users[event["device_id"]].add(event["user_id"])
    sizes = Counter(map(len, users.values()))
    assert sizes[1] > 0.9 * len(users)
    assert max(sizes) > 50


def test_a_third_of_the_locales_is_null_and_some_are_namibia() -> None:
    """A reader that takes NA for a missing value would lose the country."""
    locales = Counter(json.loads(body)["locale"] for body in samples.bodies(5_000, 1, bad_share=0))
    assert 0.28 < locales[None] / 5_000 < 0.38
    assert locales["NA"] > 0


def test_bad_events_can_all_be_of_one_kind() -> None:
    """A new release of a producer may get one field wrong."""
    kind = "app_version: version"
    broken = reasons(list(samples.bodies(300, 1, bad_share=0.5, bad_kinds=[kind])))
    assert set(map(frozenset, broken)) == {frozenset(), frozenset({kind})}


def test_ring_accounts_share_a_few_devices_and_addresses() -> None:
    """The accounts of a ring share devices and addresses only with each other."""
    events = [json.loads(body) for body in samples.bodies(400, 1, bad_share=0, rings=True)]
    users: dict[str, set[str]] = defaultdict(set)
    for event in events:
        users[event["device_id"]].add(event["user_id"])
        users[event["ip"]].add(event["user_id"])
    assert len(users) == samples.RINGS * (samples.RING_DEVICES + samples.RING_ADDRESSES)
    assert set(map(len, users.values())) == {samples.RING_USERS}
    assert len(set(map(frozenset, users.values()))) == samples.RINGS


def test_the_default_sample_does_not_change() -> None:
    """README shows numbers of this sample."""
    text = "\n".join(samples.bodies(1_000, 1))
    assert hashlib.sha256(text.encode()).hexdigest().startswith("295edc18bc60da54")
