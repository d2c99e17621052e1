"""The made-up events."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict

import pytest

from etl import extract, validate
from etl.demo import samples
from etl.schema import frame_schema
from tests.unit.builders import FIELDS, columns, message


def reasons(bodies: list[str]) -> list[set[str]]:
    """What each body breaks."""
    raw, unreadable = extract.read([message(b, i) for i, b in enumerate(bodies)], FIELDS)
    _, rejects = validate.split(raw, frame_schema(columns()), columns())
    found: dict[str, set[str]] = defaultdict(set)
    for frame in (unreadable, rejects):
        for message_id, column, check in frame.itertuples(index=False):
            found[message_id].add(f"{column}: {check}")
    return [found[f"m{i}"] for i in range(len(bodies))]


def test_the_same_seed_gives_the_same_events() -> None:
    """And another one others."""
    one, same, other = (list(samples.bodies(500, seed)) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("reason", samples.BAD)
def test_each_kind_of_bad_event_breaks_the_check_it_is_named_for(reason: str) -> None:
    """The demo shows what it says."""
    good = json.loads(next(samples.bodies(1, 3, bad_share=0)))
    assert reason in reasons([samples.BAD[reason](good)])[0]


def test_good_events_break_nothing() -> None:
    """No made-up value is refused by accident."""
    assert set(map(len, reasons(list(samples.bodies(3_000, 5, bad_share=0))))) == {0}


def test_about_two_in_a_hundred_are_bad_in_at_least_ten_ways() -> None:
    """What ``make run`` sends."""
    found = reasons(list(samples.bodies(10_000, 1)))
    bad = [broken for broken in found if broken]
    assert 150 <= len(bad) <= 250
    assert len(set().union(*bad)) >= 10


def test_devices_and_addresses_are_shared_by_a_heavy_tail() -> None:
    """Most belong to one user, few to very many."""
    users: dict[str, set[str]] = defaultdict(set)
    for body in samples.bodies(10_000, 1, bad_share=0):
        event = json.loads(body)
        users[event["device_id"]].add(event["user_id"])
    sizes = Counter(map(len, users.values()))
    assert sizes[1] > 0.9 * len(users)
    assert max(sizes) > 50


def test_a_third_of_the_locales_is_null_and_na_is_a_country() -> None:
    """As in the real data."""
    locales = Counter(json.loads(body)["locale"] for body in samples.bodies(5_000, 1, bad_share=0))
    assert 0.28 < locales[None] / 5_000 < 0.38
    assert locales["NA"] > 0


def test_bad_events_can_all_be_of_one_kind() -> None:
    """As when a producer's new release gets one field wrong."""
    kind = "app_version: version"
    found = reasons(list(samples.bodies(300, 1, bad_share=0.5, bad_kinds=[kind])))
    assert Counter(map(frozenset, found)).keys() == {frozenset(), frozenset({kind})}


def test_ring_accounts_share_a_few_devices_and_addresses() -> None:
    """All of a ring's accounts hang together, and with nobody else."""
    events = [json.loads(body) for body in samples.bodies(400, 1, bad_share=0, rings=True)]
    users: dict[str, set[str]] = defaultdict(set)
    for event in events:
        users[event["device_id"]].add(event["user_id"])
        users[event["ip"]].add(event["user_id"])
    assert len(users) == samples.RINGS * (samples.RING_DEVICES + samples.RING_ADDRESSES)
    assert set(map(len, users.values())) == {samples.RING_USERS}
    assert len(set(map(frozenset, users.values()))) == samples.RINGS


def test_the_default_sample_is_what_it_was() -> None:
    """README shows numbers of it."""
    text = "\n".join(samples.bodies(1_000, 1))
    assert hashlib.sha256(text.encode()).hexdigest().startswith("295edc18bc60da54")
