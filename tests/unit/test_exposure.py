"""The attacks in the notebook on masking find what they should, and nothing else."""

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


def locales(seed: int) -> pd.Series:
    """The locales of 5,000 sample events."""
    return pd.DataFrame(map(json.loads, samples.bodies(5_000, seed, bad_share=0)))["locale"]


def test_rank_reveals_a_skewed_column_of_few_values() -> None:
    """The attacker has no key, only the frequencies of the same kind of data."""
    plain = locales(seed=2)
    tokens = mask.tokens(plain, KEYRING, "locale")
    guesses = exposure.guesses_by_rank(locales(seed=1), plain, tokens)
    assert guesses["rank"].tolist() == list(range(1, plain.nunique() + 1))
    assert guesses["rows"].tolist() == plain.value_counts().tolist()
    assert guesses["share"].sum() == pytest.approx(1)
    assert guesses.loc[guesses["right"], "share"].sum() > 0.9


def test_a_guess_by_rank_can_be_wrong_or_missing() -> None:
    """The known values have another second, and no third."""
    known = pd.Series(["a", "a", "c"])
    plain = pd.Series(["a", "a", "a", "b", "b", None, "c"])
    guesses = exposure.guesses_by_rank(known, plain, plain)
    assert guesses["right"].tolist() == [True, False, False]
    assert guesses["known_share"].round(2).tolist()[:2] == [0.67, 0.33]
    assert guesses["known_share"].isna().tolist() == [False, False, True]


def test_a_search_finds_the_address_of_a_hash_and_needs_the_key_for_a_token() -> None:
    """A salt does not help the hash, and another key does not open the token."""
    result = exposure.search("10.20.77.203", 24, KEYRING)
    assert list(zip(result["stored"], result["attacker"], result["found"], strict=True)) == [
        ("SHA-256", "nothing", True),
        ("SHA-256 with a salt", "the salt, stored beside it", True),
        ("token", "a key of their own", False),
        ("token", "the key", True),
        ("one-way token", "a key of their own", False),
        ("one-way token", "the key", True),
    ]
    assert set(result["tried"]) == {256}


def test_one_way_tokens_show_what_tokens_show_and_a_part_shows_more() -> None:
    """Equality and frequency; a part in plain tells rare values apart, too."""
    names = ["anna-0001", "bert-0002", "cleo-0003", "dora-0004"]
    known = pd.Series(
        [name for name, times in zip(names, [4, 3, 2, 1], strict=True) for _ in range(times)]
    )
    plain = pd.Series(
        [name for name, times in zip(names, [4, 1, 2, 3], strict=True) for _ in range(times)]
        + ["x", None]
    )
    result = exposure.kinds(known, plain, KEYRING).set_index("mask")
    assert result.index.tolist() == ["true", "hmac", "partial"]
    assert result["distinct"].tolist() == [5, 5, 5]
    assert result["in_plain"].tolist() == [0, 0, 10 / 11]
    assert result["right"].tolist()[0] == result["right"].tolist()[1] == pytest.approx(6 / 11)
    assert result["right"]["partial"] == 10 / 11


def test_the_hours_for_all_addresses_follow_from_the_rate() -> None:
    """The network has 256 addresses, and there are 2**24 networks of this size."""
    result = exposure.search("192.0.2.1", 24, KEYRING)
    assert result["all_ipv4_hours"].tolist() == pytest.approx(result["seconds"] * 2**24 / 3600)


def test_the_hashes_are_those_of_sha256() -> None:
    """Otherwise the notebook would show something about a hash that nobody uses."""
    (digest,) = exposure.hashes("salt")(["192.0.2.1"])
    assert digest == hashlib.sha256(b"salt192.0.2.1").digest()


def test_every_size_is_timed_in_the_given_order() -> None:
    times = exposure.search_times([10, 1_000])
    assert times["tried"].tolist() == [10, 1_000]
    assert (times["seconds"] > 0).all()


def test_the_lengths_are_those_of_real_tokens() -> None:
    """The formula and the masking agree for values of 0 to 40 bytes."""
    lengths = exposure.lengths(40)
    tokens = mask.tokens(["x" * size for size in range(41)], KEYRING, "ip")
    assert lengths["value_bytes"].tolist() == list(range(41))
    assert lengths["characters"].tolist() == [len(token) for token in tokens]
