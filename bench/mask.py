"""Values per second, masked and unmasked, compared with two libraries called for each value."""

from __future__ import annotations

import base64
import ipaddress
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
from Crypto.Cipher import AES
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from bench import markdown, paired_runs
from bench.services import Options
from etl import mask
from etl.crypto.keyring import Keyring

VALUES, QUICK_VALUES = 500_000, 4_000
LIBRARY_SHARE = 20  # the libraries get a twentieth of the values: their rate is the same
CONTEXT = "ip"

OURS = "etl.mask, whole columns"
PYCRYPTODOME = "pycryptodome"
CRYPTOGRAPHY = "cryptography"
SHORT = "11 to 15 bytes"
IPV6 = "IPv6"
VALUES_TARGET = "≥ 1,000,000"
LIBRARY_TARGET = "≥ 2"

Work = Callable[[Sequence[str]], Sequence[str]]


class OneByOne:
    """Makes and reads the same tokens as etl.mask, value by value, with the SIV of a library."""

    def __init__(self, keyring: Keyring) -> None:
        self._prefix = f"{keyring.primary}."
        self._associated = f"etl:v1:{keyring.primary}:{CONTEXT}".encode()
        self._key = keyring.key(keyring.primary)
        self._aessiv = AESSIV(self._key)

    def mask(self, library: str, values: Sequence[str]) -> list[str]:
        """Return the tokens of the values."""
        seal = self._seal_by_pycryptodome if library == PYCRYPTODOME else self._seal
        return [self._encode(seal(_padded(value))) for value in values]

    def unmask(self, library: str, tokens: Sequence[str]) -> list[str]:
        """Return the values of the tokens."""
        opener = self._open_by_pycryptodome if library == PYCRYPTODOME else self._open
        return [opener(self._decode(token)).rstrip(b"\0")[:-1].decode() for token in tokens]

    def _seal(self, plain: bytes) -> bytes:
        return self._aessiv.encrypt(plain, [self._associated])

    def _open(self, sealed: bytes) -> bytes:
        return self._aessiv.decrypt(sealed, [self._associated])

    def _seal_by_pycryptodome(self, plain: bytes) -> bytes:
        # A new object for each value: an object encrypts only one message.
        cipher = AES.new(self._key, AES.MODE_SIV)
        cipher.update(self._associated)
        sealed, tag = cipher.encrypt_and_digest(plain)
        return tag + sealed

    def _open_by_pycryptodome(self, sealed: bytes) -> bytes:
        cipher = AES.new(self._key, AES.MODE_SIV)
        cipher.update(self._associated)
        return cipher.decrypt_and_verify(sealed[16:], sealed[:16])

    def _encode(self, sealed: bytes) -> str:
        return self._prefix + base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def _decode(self, token: str) -> bytes:
        text = token[len(self._prefix) :]
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _padded(value: str) -> bytes:
    plain = value.encode() + b"\x80"
    return plain.ljust(-(-len(plain) // 16) * 16, b"\0")


def measure(options: Options) -> dict[str, Any]:
    """Mask and unmask distinct values with each library in turns."""
    count = options.messages or (QUICK_VALUES if options.quick else VALUES)
    keyring = Keyring.new("k1")
    one_by_one = OneByOne(keyring)
    runs = {}
    table = {}
    for kind, values in {SHORT: short_values(count), IPV6: ipv6_values(count)}.items():
        masked = pd.Series(mask.tokens(values, keyring, CONTEXT), dtype=object)
        _check_same_tokens(values, masked, one_by_one)
        for verb, inputs in {"mask": values, "unmask": masked}.items():
            candidates = _candidates(verb, inputs, keyring, one_by_one)
            rates = paired_runs.in_turns(candidates, options.runs)
            runs[f"{verb}, {kind}"] = rates
            table[f"{verb}, {kind}"] = {
                **{name: paired_runs.spread(turns) for name, turns in rates.items()},
                "ratio": paired_runs.ratio(rates[OURS], _faster(rates)),
            }
    return {
        "values": count,
        "ratios": {
            "mask.values_per_second": table[f"mask, {SHORT}"][OURS],
            "mask.over_best_library": table[f"mask, {SHORT}"]["ratio"],
        },
        "table": table,
        "runs": runs,
    }


def short_values(count: int) -> pd.Series[Any]:
    """Make distinct texts of 11 to 15 bytes, as long as device ids and most IPv4 addresses."""
    draw = random.Random(1)
    texts = [f"{number:0{draw.randrange(11, 16)}d}" for number in range(count)]
    draw.shuffle(texts)
    return pd.Series(texts, dtype=object)


def ipv6_values(count: int) -> pd.Series[Any]:
    """Make distinct IPv6 addresses in their shortest form."""
    draw = random.Random(1)
    numbers = {draw.getrandbits(128): None for _ in range(count)}
    return pd.Series([str(ipaddress.IPv6Address(number)) for number in numbers], dtype=object)


def _candidates(
    verb: str, inputs: pd.Series[Any], keyring: Keyring, one_by_one: OneByOne
) -> dict[str, Callable[[], float]]:
    """Return functions that mask or unmask and return values per second."""
    ours = mask.tokens if verb == "mask" else mask.unmask_tokens
    theirs = one_by_one.mask if verb == "mask" else one_by_one.unmask
    few = inputs[: max(len(inputs) // LIBRARY_SHARE, 100)].tolist()
    return {
        OURS: partial(_rate, lambda: ours(inputs, keyring, CONTEXT), len(inputs)),
        PYCRYPTODOME: partial(_rate, partial(theirs, PYCRYPTODOME, few), len(few)),
        CRYPTOGRAPHY: partial(_rate, partial(theirs, CRYPTOGRAPHY, few), len(few)),
    }


def _rate(work: Callable[[], object], count: int) -> float:
    return count / paired_runs.seconds_of(work)


def _faster(rates: dict[str, list[float]]) -> list[float]:
    return [max(pair) for pair in zip(rates[PYCRYPTODOME], rates[CRYPTOGRAPHY], strict=True)]


def _check_same_tokens(
    values: pd.Series[Any], masked: pd.Series[Any], one_by_one: OneByOne
) -> None:
    """Check that all three make the same tokens and read the same values from them."""
    few, tokens = values[:200].tolist(), masked[:200].tolist()
    for library in (PYCRYPTODOME, CRYPTOGRAPHY):
        assert one_by_one.mask(library, few) == tokens, library
        assert one_by_one.unmask(library, tokens) == few, library


METHOD = """\
{count:,} distinct values, so that no work is saved on equal ones; one thread. All three make the
same tokens, which is checked before the measurement. The libraries are called for each value,
because their interfaces take one at a time, and get a {share}th of the values. Values per
second:"""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    keys = " and ".join(f"`{key}`" for key in part["ratios"])
    return [
        METHOD.format(count=part["values"], share=LIBRARY_SHARE),
        "",
        *markdown.table(
            ["work", OURS, "target", PYCRYPTODOME, CRYPTOGRAPHY, "ratio to the faster", "target"],
            [
                [
                    name,
                    markdown.shown(row[OURS], 0),
                    VALUES_TARGET,
                    f"{row[PYCRYPTODOME]['median']:,.0f}",
                    f"{row[CRYPTOGRAPHY]['median']:,.0f}",
                    markdown.shown(row["ratio"], 1),
                    LIBRARY_TARGET,
                ]
                for name, row in part["table"].items()
            ],
        ),
        "",
        f"{keys} are from the first row.",
    ]
