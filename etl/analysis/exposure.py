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
from typing import Any

import pandas as pd

from etl import mask
from etl.config import Column
from etl.crypto.keyring import Keyring
from etl.crypto.siv import BLOCK_BYTES
from etl.crypto.tokens import base64_length, token_length
from etl.reading.partial import shown_part

IPV4_ADDRESSES = 2**32
_SECONDS_IN_AN_HOUR = 3600

KINDS = (True, "hmac", "partial")

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


def kinds(known: pd.Series, plain: pd.Series, keyring: Keyring, keep_last: int = 4) -> pd.DataFrame:
    """Guess the same values behind each kind of mask, without the key.

    A token is guessed by its rank, as in :func:`guesses_by_rank`, whichever kind of token it is; of
    a part in plain the most frequent known value with that part is guessed.

    Columns out: ``mask``, ``distinct`` (stored texts), ``in_plain`` (share of the rows that show a
    part of the value) and ``right`` (share of the rows whose value is guessed). There is a row for
    each kind; nulls are left out.

    :param known: plain values of the same kind from another source, such as last year's
    :param keep_last: how many characters a part has
    """
    known, plain = known.dropna(), plain.dropna().reset_index(drop=True)
    rows = []
    for kind in KINDS:
        part = {"keep_last": keep_last} if kind == "partial" else {}
        column = _column(kind, **part)
        if kind == "partial":
            shown = shown_part(column)
            stored = plain.map(shown)
            in_plain = float((stored != shown("")).mean())
            guesses = known.groupby(known.map(shown)).agg(lambda same: same.mode()[0])
            right = float((stored.map(guesses) == plain).mean())
        else:
            stored = pd.Series(mask.tokens_of_column(plain, keyring, column))
            in_plain = 0.0
            ranked = guesses_by_rank(known, plain, stored)
            right = float(ranked.loc[ranked["right"], "share"].sum())
        rows.append((kind if isinstance(kind, str) else "true", stored.nunique(), in_plain, right))
    return pd.DataFrame(rows, columns=["mask", "distinct", "in_plain", "right"])


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
    another = Keyring.new(keyring.primary)
    siv, hmac = _column(True), _column("hmac")
    ways: list[tuple[str, str, Hasher, Hasher]] = [
        ("SHA-256", "nothing", hashes(""), hashes("")),
        ("SHA-256 with a salt", "the salt, stored beside it", salted, salted),
        ("token", "a key of their own", _tokens(siv, keyring), _tokens(siv, another)),
        ("token", "the key", _tokens(siv, keyring), _tokens(siv, keyring)),
        ("one-way token", "a key of their own", _tokens(hmac, keyring), _tokens(hmac, another)),
        ("one-way token", "the key", _tokens(hmac, keyring), _tokens(hmac, keyring)),
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


def _column(kind: Any, **settings: Any) -> Column:
    facts = {"name": "masked", "field": "value", "type": "text", "mask": kind, **settings}
    return Column.model_validate(facts)


def _tokens(column: Column, keyring: Keyring) -> Hasher:
    return lambda values: mask.tokens_of_column(values, keyring, column).tolist()


def _timed(target: object, candidates: Sequence[str], attempt: Hasher) -> tuple[list[str], float]:
    """Try every candidate, even after a hit, so that the time is that of the longest search."""
    started = time.process_time()
    attempts = zip(candidates, attempt(candidates), strict=True)
    hits = [candidate for candidate, hashed in attempts if hashed == target]
    return hits, time.process_time() - started
