"""Values masked and unmasked in a second, against two libraries called value by value."""

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
LIBRARY_SHARE = 20  # the libraries get a twentieth: their rate does not depend on it
CONTEXT = "ip"

OURS, PYCRYPTODOME, CRYPTOGRAPHY = "etl.mask, whole columns", "pycryptodome", "cryptography"
SHORT, IPV6 = "11 to 15 bytes", "IPv6"
VALUES_TARGET, LIBRARY_TARGET = "≥ 1,000,000", "≥ 2"

Work = Callable[[Sequence[str]], Sequence[str]]


class OneByOne:
    """The tokens of etl.mask, made and read value by value with a library's SIV."""

    def __init__(self, keyring: Keyring) -> None:
        self._prefix = f"{keyring.primary}."
        self._associated = f"etl:v1:{keyring.primary}:{CONTEXT}".encode()
        self._key = keyring.key(keyring.primary)
        self._aessiv = AESSIV(self._key)

    def mask(self, library: str, values: Sequence[str]) -> list[str]:
        """Make tokens."""
        seal = self._seal_by_pycryptodome if library == PYCRYPTODOME else self._seal
        return [self._spell(seal(_padded(value))) for value in values]

    def unmask(self, library: str, tokens: Sequence[str]) -> list[str]:
        """Read tokens."""
        opener = self._open_by_pycryptodome if library == PYCRYPTODOME else self._open
        return [opener(self._unspell(token)).rstrip(b"\0")[:-1].decode() for token in tokens]

    def _seal(self, plain: bytes) -> bytes:
        return self._aessiv.encrypt(plain, [self._associated])

    def _open(self, sealed: bytes) -> bytes:
        return self._aessiv.decrypt(sealed, [self._associated])

    def _seal_by_pycryptodome(self, plain: bytes) -> bytes:
        # One object a value: it takes no second message.
        cipher = AES.new(self._key, AES.MODE_SIV)
        cipher.update(self._associated)
        sealed, tag = cipher.encrypt_and_digest(plain)
        return tag + sealed

    def _open_by_pycryptodome(self, sealed: bytes) -> bytes:
        cipher = AES.new(self._key, AES.MODE_SIV)
        cipher.update(self._associated)
        return cipher.decrypt_and_verify(sealed[16:], sealed[:16])

    def _spell(self, sealed: bytes) -> str:
        return self._prefix + base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def _unspell(self, token: str) -> bytes:
        text = token[len(self._prefix) :]
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _padded(value: str) -> bytes:
    plain = value.encode() + b"\x80"
    return plain.ljust(-(-len(plain) // 16) * 16, b"\0")


def measure(options: Options) -> dict[str, Any]:
    """Mask and unmask unique values with each candidate in turns."""
    count = options.messages or (QUICK_VALUES if options.quick else VALUES)
    keyring = Keyring.new()
    one_by_one = OneByOne(keyring)
    runs, table = {}, {}
    for kind, values in {SHORT: short_values(count), IPV6: ipv6_values(count)}.items():
        masked = pd.Series(mask.tokens(values, keyring, CONTEXT), dtype=object)
        _same(values, masked, one_by_one)
        for verb, inputs in {"mask": values, "unmask": masked}.items():
            rates = paired_runs.in_turns(
                _candidates(verb, inputs, keyring, one_by_one), options.runs
            )
            runs[f"{verb}, {kind}"] = rates
            table[f"{verb}, {kind}"] = {
                **{name: paired_runs.spread(own) for name, own in rates.items()},
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
    """Make distinct texts of 11 to 15 bytes: the lengths of device ids and of most IPv4."""
    draw = random.Random(1)
    texts = [f"{number:0{draw.randrange(11, 16)}d}" for number in range(count)]
    draw.shuffle(texts)
    return pd.Series(texts, dtype=object)


def ipv6_values(count: int) -> pd.Series[Any]:
    """Make distinct IPv6 addresses in their shortest spelling."""
    draw = random.Random(1)
    numbers = {draw.getrandbits(128): None for _ in range(count)}
    return pd.Series([str(ipaddress.IPv6Address(number)) for number in numbers], dtype=object)


def _candidates(
    verb: str, inputs: pd.Series[Any], keyring: Keyring, one_by_one: OneByOne
) -> dict[str, Callable[[], float]]:
    """What each candidate does, as functions that return values a second."""
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


def _same(values: pd.Series[Any], masked: pd.Series[Any], one_by_one: OneByOne) -> None:
    """See that all three make the same tokens, and read them alike."""
    few, tokens = values[:200].tolist(), masked[:200].tolist()
    for library in (PYCRYPTODOME, CRYPTOGRAPHY):
        assert one_by_one.mask(library, few) == tokens, library
        assert one_by_one.unmask(library, tokens) == few, library


METHOD = """\
{count:,} distinct values, so that none is spared by being equal to another; one thread; the same
tokens from all three (compared before the measurement). The libraries are called value by value, as
their interfaces want it, and get a {share}th of the values. Values a second:"""


def show(part: dict[str, Any]) -> list[str]:
    """The part in Markdown."""
    keys = ", ".join(f"`{key}`" for key in part["ratios"])
    return [
        METHOD.format(count=part["values"], share=LIBRARY_SHARE),
        "",
        *markdown.table(
            ["what", OURS, "target", PYCRYPTODOME, CRYPTOGRAPHY, "ratio to the faster", "target"],
            [
                [
                    name,
                    markdown.shown(row[OURS], 0),
                    VALUES_TARGET,
                    *(f"{row[each]['median']:,.0f}" for each in (PYCRYPTODOME, CRYPTOGRAPHY)),
                    markdown.shown(row["ratio"], 1),
                    LIBRARY_TARGET,
                ]
                for name, row in part["table"].items()
            ],
        ),
        "",
        f"{keys}: the first line.",
    ]
