"""100,000 random values, and 20,000 tokens, against other implementations of RFC 5297."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from Crypto.Cipher import AES
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from etl import mask
from etl.crypto import siv
from etl.crypto.keyring import Keyring

COLUMNS = 50
VALUES_PER_COLUMN = 2_000
MAX_VALUE_BYTES = 200


@dataclass(frozen=True)
class Case:
    """A column of random values, its key, and its associated data: shared and for each value."""

    key: bytes
    values: list[bytes]
    associated: list[bytes | Sequence[bytes]]

    def associated_of(self, row: int) -> list[bytes]:
        """Return the associated data of one value."""
        return [data if isinstance(data, bytes) else data[row] for data in self.associated]


def cases(seed: int) -> Iterator[Case]:
    random = np.random.default_rng(seed)

    def some(max_bytes: int) -> bytes:
        return random.bytes(int(random.integers(0, max_bytes + 1)))

    for number in range(COLUMNS):
        rows = range(VALUES_PER_COLUMN)
        associated: list[bytes | Sequence[bytes]] = [some(70) for _ in range(number % 4)]
        if number % 3 == 0:
            associated.append([some(40) for _ in rows])
        key = random.bytes(siv.KEY_LENGTHS[number % 3])
        yield Case(key, [some(MAX_VALUE_BYTES) for _ in rows], associated)


def by_cryptography(key: bytes, value: bytes, associated: list[bytes]) -> bytes:
    return AESSIV(key).encrypt(value, associated)


def by_pycryptodome(key: bytes, value: bytes, associated: list[bytes]) -> bytes:
    cipher = AES.new(key, AES.MODE_SIV)
    for string in associated:
        cipher.update(string)
    ciphertext, synthetic_iv = cipher.encrypt_and_digest(value)
    return synthetic_iv + ciphertext


@pytest.mark.long
@pytest.mark.parametrize("one_by_one", [by_cryptography, by_pycryptodome])
def test_100_000_random_values_agree_with_another_implementation(one_by_one):
    """Each value of 0 to 200 bytes under each key size seals to the same bytes, and opens."""
    compared = 0
    for case in cases(seed=5297):
        sealed = siv.seal(case.key, case.values, case.associated)
        for row, value in enumerate(case.values):
            assert sealed[row] == one_by_one(case.key, value, case.associated_of(row))
            compared += 1
        assert siv.open_each(case.key, sealed, case.associated) == case.values
    assert compared == 100_000


def test_20_000_tokens_are_recovered_by_the_key_alone():
    """Another library and base64 make the same tokens and read them, without this program."""
    keyring = Keyring.new("k1")
    cipher = AESSIV(keyring.key("k1"))
    associated = [b"etl:v1:k1:ip"]
    random = np.random.default_rng(41)
    lengths = random.integers(0, 40, 20_000).tolist()
    values = ["".join(map(chr, random.integers(1, 0x2FF, length))) for length in lengths]

    for value, token in zip(values, mask.tokens(values, keyring, "ip"), strict=True):
        padded = value.encode() + b"\x80"
        padded += bytes(-len(padded) % 16)
        sealed = base64.urlsafe_b64decode(token.removeprefix("k1.") + "==")
        assert cipher.decrypt(sealed, associated) == padded
        again = base64.urlsafe_b64encode(cipher.encrypt(padded, associated)).decode()
        assert token == "k1." + again.rstrip("=")
