"""What masked columns show to whoever reads them without the key, measured on made-up values.

For ``notebooks/03_masking.ipynb``, and for whoever weighs masking another column: nothing here is
part of the job. It plays the attacker, so it is given the plain values that an attacker lacks, to
say which guesses were right.
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

Fingerprints = Callable[[Sequence[str]], Iterable[object]]


def guesses_by_rank(known: pd.Series, plain: pd.Series, tokens: pd.Series) -> pd.DataFrame:
    """Guess the value behind each token: the one that is as frequent elsewhere.

    Columns out: ``rank`` (1 is the most frequent token), ``rows``, ``share`` (of all rows, 0 to 1),
    ``known_share`` (of the guess where it is known from; NaN where no guess is left) and ``right``.
    A row for each distinct token, nulls left out.

    :param known: plain values of the same kind from elsewhere, such as last year's
    :param plain: what is behind the tokens, row by row
    """
    counted = known.value_counts(normalize=True)
    elsewhere = pd.DataFrame({"guess": counted.index, "known_share": counted.to_numpy()})
    behind = pd.DataFrame({"token": tokens, "value": plain}).dropna()
    found = behind.groupby("token").agg(rows=("value", "size"), value=("value", "first"))
    found = found.sort_values("rows", ascending=False, kind="stable").reset_index(drop=True)
    guessed = found.join(elsewhere)
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
    """Look for an IPv4 address behind what is stored of it, by trying every address of its network.

    Columns out: ``stored`` (what is stored in the place of the address), ``attacker`` (what they
    have besides), ``tried`` (addresses), ``found``, ``seconds`` (of CPU, all addresses) and
    ``all_ipv4_hours`` (the same rate for all 2**32 addresses). A row for each way to store it.

    :param prefix_bits: the network is the /prefix_bits that the address stands in
    """
    salt, stranger = "cf1f5a0e", Keyring.new(keyring.primary)
    candidates = [
        str(one) for one in IPv4Network((int(IPv4Address(address)), prefix_bits), strict=False)
    ]
    token = _tokens(keyring)
    ways: list[tuple[str, str, Fingerprints, Fingerprints]] = [
        ("SHA-256", "nothing", hashes(""), hashes("")),
        ("SHA-256 with a salt", "the salt, stored beside it", hashes(salt), hashes(salt)),
        ("token", "a key of their own", token, _tokens(stranger)),
        ("token", "the key", token, token),
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
    """Time how long one core takes to try so many IPv4 addresses against an unkeyed SHA-256.

    Columns out: ``tried`` (addresses), ``seconds`` (of CPU). A row for each size, in their order.
    """
    times = []
    for size in sizes:
        candidates = [str(IPv4Address(number)) for number in range(size)]
        _, seconds = _timed(b"", candidates, hashes(""))
        times.append((size, seconds))
    return pd.DataFrame(times, columns=["tried", "seconds"])


def lengths(max_bytes: int, key_id: str = "k1") -> pd.DataFrame:
    """Say how long the tokens of values of 0 to *max_bytes* bytes of UTF-8 are.

    Columns out: ``value_bytes``, ``characters`` (of the token) and ``unpadded`` (characters, were
    values not padded to whole blocks first). A row for each length.
    """
    values = range(max_bytes + 1)
    return pd.DataFrame(
        {
            "value_bytes": values,
            "characters": [token_length(size, len(key_id)) for size in values],
            "unpadded": [len(key_id) + 1 + base64_length(BLOCK_BYTES + size) for size in values],
        }
    )


def hashes(salt: str) -> Fingerprints:
    """Hash values as those do who have no key: SHA-256 over salt and value."""
    return lambda values: (hashlib.sha256(f"{salt}{each}".encode()).digest() for each in values)


def _tokens(keyring: Keyring) -> Fingerprints:
    return lambda values: mask.tokens(values, keyring, "ip").tolist()


def _timed(
    target: object, candidates: Sequence[str], attempt: Fingerprints
) -> tuple[list[str], float]:
    """Try every candidate, also after a hit: the time is that of the unluckiest search."""
    began = time.process_time()
    attempts = zip(candidates, attempt(candidates), strict=True)
    hits = [candidate for candidate, made in attempts if made == target]
    return hits, time.process_time() - began
