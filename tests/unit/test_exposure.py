"""The attacks of the notebook on masking: what they find, and what they do not."""

from __future__ import annotations

import hashlib
import json

import pandas as pd
import pytest

from etl import mask
from etl.analysis import exposure
from etl.crypto.keyring import Keyring
from etl.demo import samples

KEYRING = Keyring.new("k1")


def test_rank_gives_a_skewed_column_of_few_values_away() -> None:
    """Whatever the key."""
    frames = [pd.DataFrame(map(json.loads, samples.bodies(5_000, s, bad_share=0))) for s in (1, 2)]
    known, ours = (frame["locale"] for frame in frames)
    guesses = exposure.guesses_by_rank(known, ours, mask.tokens(ours, KEYRING, "locale"))
    assert guesses["rank"].tolist() == list(range(1, ours.nunique() + 1))
    assert guesses["rows"].tolist() == ours.value_counts().tolist()
    assert guesses["share"].sum() == pytest.approx(1)
    assert guesses.loc[guesses["right"], "share"].sum() > 0.9


def test_a_guess_by_rank_can_be_wrong_or_missing() -> None:
    """The second is another value there, and of the third nothing is known."""
    known = pd.Series(["a", "a", "c"])
    plain = pd.Series(["a", "a", "a", "b", "b", None, "c"])
    guesses = exposure.guesses_by_rank(known, plain, plain)
    assert guesses["right"].tolist() == [True, False, False]
    assert guesses["known_share"].round(2).tolist()[:2] == [0.67, 0.33]
    assert guesses["known_share"].isna().tolist() == [False, False, True]


def test_hashes_fall_and_the_token_falls_to_its_own_key_only() -> None:
    """Salted or not."""
    found = exposure.search("10.20.77.203", 24, KEYRING)
    assert list(zip(found["stored"], found["attacker"], found["found"], strict=True)) == [
        ("SHA-256", "nothing", True),
        ("SHA-256 with a salt", "the salt, stored beside it", True),
        ("token", "a key of their own", False),
        ("token", "the key", True),
    ]
    assert set(found["tried"]) == {256}


def test_the_hours_for_all_addresses_follow_from_the_rate() -> None:
    """Seconds for 256 addresses, times 2**24, in hours."""
    found = exposure.search("192.0.2.1", 24, KEYRING)
    assert found["all_ipv4_hours"].tolist() == pytest.approx(found["seconds"] * 2**24 / 3600)


def test_the_search_knows_the_hash_of_the_library() -> None:
    """So the demonstration is about SHA-256, not about something that resembles it."""
    (made,) = exposure.hashes("salt")(["192.0.2.1"])
    assert made == hashlib.sha256(b"salt192.0.2.1").digest()


def test_every_size_is_timed() -> None:
    """In the order given."""
    times = exposure.search_times([10, 1_000])
    assert times["tried"].tolist() == [10, 1_000]
    assert (times["seconds"] > 0).all()


def test_the_lengths_are_those_of_real_tokens() -> None:
    """Value by value."""
    lengths = exposure.lengths(40)
    made = mask.tokens(["x" * size for size in range(41)], KEYRING, "ip")
    assert lengths["value_bytes"].tolist() == list(range(41))
    assert lengths["characters"].tolist() == [len(token) for token in made]
