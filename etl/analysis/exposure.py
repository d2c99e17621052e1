"""Measures, on made-up values, what masked columns reveal to a reader without the key.

This is for ``notebooks/03_masking.ipynb``, and for anyone who considers masking another column; the
job does not use it. It plays the attacker, but knows the plain values, so it can say which guesses
were right. Unlike the other modules of this package it has keys: it makes its own tokens.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network

import pandas as pd

from etl import mask
from etl.crypto.keyring import Keyring
from etl.crypto.siv import BLOCK_BYTES
from etl.crypto.tokens import base64_length, token_length

IPV4_ADDRESSES = 2**32
_SECONDS_IN_AN_HOUR = 3600

Hasher = Callable[[Sequence[str]], Iterable[object]]


def guesses_by_rank(known: pd.Series, plain: pd.Series, tokens: pd.Series) -> pd.DataFrame:
    """Guess the value of each token: the known value with the same rank by frequency.

    Columns out: ``rank`` (1 is the most frequent token), ``rows``, ``share`` (of all rows, 0 to 1),
    ``known_share`` (of the guess among the known values; NaN if there are no more guesses) and
    ``right``. There is a row for each distinct token; nulls are left out.

    :param known: plain values of the same kind from another source, such as last year's
    :param plain: the values of the tokens, row by row
    """
    known_shares = known.value_counts(normalize=True)
    guesses = pd.DataFrame({"guess": known_shares.index, "known_share": known_shares.to_numpy()})
    pairs = pd.DataFrame({"token": tokens, "value": plain}).dropna()
    ranked = pairs.groupby("token").agg(rows=("value", "size"), value=("value", "first"))
    ranked = ranked.sort_values("rows", ascending=False, kind="stable").reset_index(drop=True)
    guessed = ranked.join(guesses)
    return pd.DataFrame(
        {
            "rank": guessed.index + 1,
            "rows": guessed["rows"],
            "share": guessed["rows"] / guessed["rows"].sum(),
            "known_share": guessed["known_share"],
            "right": guessed["guess"] == guessed["value"],
        }
    )


def search(address: str, prefix_bits: int, keyring: Keyring) -> pd.DataFrame:
    """Try every address of a network to find the IPv4 address behind its stored form.

    Columns out: ``stored`` (the stored form), ``attacker`` (what else they know), ``tried``
    (addresses), ``found``, ``seconds`` (of CPU, for all addresses of the network) and
    ``all_ipv4_hours`` (for all 2**32 addresses at the same rate). There is a row for each way to
    store the address.

    :param prefix_bits: the network is the /prefix_bits around the address
    """
    salt = "cf1f5a0e"
    network = IPv4Network((int(IPv4Address(address)), prefix_bits), strict=False)
    candidates = [str(candidate) for candidate in network]
    salted = hashes(salt)
    masked = _tokens(keyring)
    masked_with_another_key = _tokens(Keyring.new(keyring.primary))
    ways: list[tuple[str, str, Hasher, Hasher]] = [
        ("SHA-256", "nothing", hashes(""), hashes("")),
        ("SHA-256 with a salt", "the salt, stored beside it", salted, salted),
        ("token", "a key of their own", masked, masked_with_another_key),
        ("token", "the key", masked, masked),
    ]
    rows = []
    for stored, attacker, store, attempt in ways:
        (target,) = store([address])
        hits, seconds = _timed(target, candidates, attempt)
        hours = seconds / len(candidates) * IPV4_ADDRESSES / _SECONDS_IN_AN_HOUR
        rows.append((stored, attacker, len(candidates), hits == [address], seconds, hours))
    names = ["stored", "attacker", "tried", "found", "seconds", "all_ipv4_hours"]
    return pd.DataFrame(rows, columns=names)


def search_times(sizes: Sequence[int]) -> pd.DataFrame:
    """Measure the time one core takes to hash N IPv4 addresses, for each N in *sizes*.

    The time includes comparing the hashes.

    Columns out: ``tried`` (addresses), ``seconds`` (of CPU). There is a row for each size, in the
    given order.
    """
    times = []
    for size in sizes:
        candidates = [str(IPv4Address(number)) for number in range(size)]
        _, seconds = _timed(b"", candidates, hashes(""))
        times.append((size, seconds))
    return pd.DataFrame(times, columns=["tried", "seconds"])


def lengths(max_bytes: int, key_id: str = "k1") -> pd.DataFrame:
    """Compute the lengths of the tokens of values of 0 to *max_bytes* bytes of UTF-8.

    Columns out: ``value_bytes``, ``characters`` (of the token) and ``unpadded`` (characters, if
    values were not padded to whole blocks). There is a row for each length.
    """
    values = range(max_bytes + 1)
    return pd.DataFrame(
        {
            "value_bytes": values,
            "characters": [token_length(size, len(key_id)) for size in values],
            "unpadded": [len(key_id) + 1 + base64_length(BLOCK_BYTES + size) for size in values],
        }
    )


def hashes(salt: str) -> Hasher:
    """Hash values without a key, as SHA-256 of the salt and the value."""
    return lambda values: (hashlib.sha256(f"{salt}{value}".encode()).digest() for value in values)


def _tokens(keyring: Keyring) -> Hasher:
    return lambda values: mask.tokens(values, keyring, "ip").tolist()


def _timed(target: object, candidates: Sequence[str], attempt: Hasher) -> tuple[list[str], float]:
    """Try every candidate, even after a hit, so that the time is that of the longest search."""
    started = time.process_time()
    attempts = zip(candidates, attempt(candidates), strict=True)
    hits = [candidate for candidate, hashed in attempts if hashed == target]
    return hits, time.process_time() - started
