"""AES-SIV over columns: published answers, each path of the code, and what is refused."""

import numpy as np
import pytest
from Crypto.Cipher import AES
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from etl.crypto import siv, tokens
from etl.errors import EtlError

KEY = bytes(range(64))

# RFC 5297, A.1 (deterministic) and A.2 (nonce-based), then the first of the 64-byte vectors of
# Miscreant's aes_siv.tjson: key, associated data, value, sealed.
A1 = (
    "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
    ["101112131415161718191a1b1c1d1e1f2021222324252627"],
    "112233445566778899aabbccddee",
    "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c",
)
A2 = (
    "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
    [
        "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
        "102030405060708090a0",
        "09f911029d74e35bd84156c5635688c0",
    ],
    "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553",
    (
        "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17"
        "dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d"
    ),
)
AES_256 = (
    (
        "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f06f6e6d6c6b6a69686766656463626160"
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f"
    ),
    ["101112131415161718191a1b1c1d1e1f2021222324252627"],
    "112233445566778899aabbccddee",
    "f125274c598065cfc26b0e71575029088b035217e380cac8919ee800c126",
)
VECTORS = pytest.mark.parametrize(
    ("key", "associated", "value", "sealed"), [A1, A2, AES_256], ids=["A.1", "A.2", "AES-256"]
)


def matrix(rows: int, length: int, seed: int = 5) -> siv.Matrix:
    return np.random.default_rng(seed).integers(0, 256, (rows, length), dtype=np.uint8)


@VECTORS
def test_seal_gives_the_published_answer(key, associated, value, sealed):
    """The vectors of RFC 5297 and the AES-256 one come out to the byte."""
    answer = siv.seal(
        bytes.fromhex(key), [bytes.fromhex(value)], list(map(bytes.fromhex, associated))
    )
    assert answer == [bytes.fromhex(sealed)]


@VECTORS
def test_open_gives_the_published_value(key, associated, value, sealed):
    """The published sealed values open to the published values."""
    opened = siv.open_each(
        bytes.fromhex(key), [bytes.fromhex(sealed)], list(map(bytes.fromhex, associated))
    )
    assert opened == [bytes.fromhex(value)]


@pytest.mark.parametrize(
    ("length", "mac"),
    [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
        (64, "51f0bebf7e3b9d92fc49741779363cfe"),
    ],
)
def test_cmac_gives_the_answers_of_rfc_4493(length, mac):
    """The four examples of RFC 4493, section 4."""
    message = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )[:length]
    aes = siv._Aes(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    assert aes.cmac_each([message])[0].tobytes().hex() == mac


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 200])
def test_every_length_agrees_with_another_library(length):
    """A column of each length around the block borders agrees value by value."""
    rows = matrix(40, length)
    wanted = [AESSIV(KEY).encrypt(row.tobytes(), [b"ad"]) for row in rows]
    assert [row.tobytes() for row in siv.seal_matrix(KEY, rows, [b"ad"])] == wanted


@pytest.mark.parametrize("bits", ["ffffffff", "80000000", "7fffffff"])
def test_the_counter_never_carries_out_of_its_low_lane(bits):
    """Bits 31 and 63 are cleared before the counting, as RFC 5297, section 2.5 says."""
    synthetic_iv = bytes.fromhex("ff" * 8 + bits * 2)
    start = int.from_bytes(synthetic_iv) & ~(1 << 31 | 1 << 63)
    blocks = b"".join((start + number).to_bytes(16) for number in range(5))
    stream = AES.new(KEY[32:], AES.MODE_ECB).encrypt(blocks)

    answer = siv._ctr(
        siv._Aes(KEY[32:]),
        np.frombuffer(synthetic_iv, np.uint8).reshape(1, 16),
        np.zeros((1, 80), np.uint8),
    )
    assert answer.tobytes() == stream


def test_a_few_long_rows_agree_with_a_long_column():
    """One CBC call per row, used for a few long rows, gives the same result as chained columns."""
    rows = matrix(80, 1000)
    alone = np.concatenate([siv.seal_matrix(KEY, rows[at : at + 1]) for at in range(len(rows))])
    assert (alone == siv.seal_matrix(KEY, rows)).all()


def test_mixed_lengths_keep_their_places():
    """Values of many lengths come back in their order and as another library seals them."""
    values = [bytes([number]) * (number * 7 % 50) for number in range(200)]
    sealed = siv.seal(KEY, values, [b"x"])
    assert sealed == [AESSIV(KEY).encrypt(value, [b"x"]) for value in values]
    assert siv.open_each(KEY, sealed, [b"x"]) == values


def test_no_associated_data_is_not_one_empty_string():
    """S2V counts its strings: none, one empty and two empty ones are three results."""
    sealed = [siv.seal(KEY, [b"value"], data)[0] for data in ([], [b""], [b"", b""])]
    assert sealed == [AESSIV(KEY).encrypt(b"value", data) for data in (None, [b""], [b"", b""])]


def test_associated_data_may_differ_from_value_to_value():
    """A string for each value, of any length, goes with the value at the same position."""
    values = [b"same" * (number % 9) for number in range(60)]
    nonces = [bytes([number]) * (number % 20) for number in range(60)]
    wanted = [
        AESSIV(KEY).encrypt(value, [b"all", nonce])
        for value, nonce in zip(values, nonces, strict=True)
    ]
    assert siv.seal(KEY, values, [b"all", nonces]) == wanted
    assert siv.open_each(KEY, wanted, [b"all", nonces]) == values


@pytest.mark.parametrize("value", [b"", b"short", b"sixteen bytes ok", b"more than sixteen bytes"])
def test_every_flipped_bit_is_told(value):
    """No single bit of IV or ciphertext can change unnoticed."""
    (sealed,) = siv.seal(KEY, [value], [b"ad"])
    number = int.from_bytes(sealed)
    changed = [(number ^ 1 << bit).to_bytes(len(sealed)) for bit in range(8 * len(sealed))]
    assert siv.open_each(KEY, changed, [b"ad"]) == [None] * len(changed)


def test_a_row_that_is_not_genuine_comes_back_as_zeros():
    """The decryption of a forged row is never returned; its neighbours come back as usual."""
    rows = matrix(3, 20)
    sealed = siv.seal_matrix(KEY, rows)
    sealed[1, 30] ^= 1
    values, genuine = siv.open_matrix(KEY, sealed)
    assert genuine.tolist() == [True, False, True]
    assert not values[1].any()
    assert (values[[0, 2]] == rows[[0, 2]]).all()


def test_values_that_are_not_genuine_come_back_as_none():
    """Whether a value is too short or changed, the others keep their positions."""
    sealed = siv.seal(KEY, [b"alpha", b"beta", b"gamma"])
    received = [sealed[0], b"too short", sealed[2][:-1] + b"!"]
    assert siv.open_each(KEY, received) == [b"alpha", None, None]


def test_values_are_padded_to_whole_blocks_of_the_cipher():
    """The format of tokens and the cipher each name the block size; both sizes are the same."""
    assert tokens.BLOCK_BYTES == siv.BLOCK_BYTES


def test_no_values_make_no_values():
    """An empty column is a column."""
    assert siv.seal(KEY, [], [b"ad", []]) == []
    assert siv.open_each(KEY, [], [b"ad", []]) == []
    assert siv.seal_matrix(KEY, np.zeros((0, 5), np.uint8)).shape == (0, 21)


@pytest.mark.parametrize("size", [0, 16, 31, 63, 65, 128])
def test_a_key_of_another_size_is_refused(size):
    """Keys have 32, 48 or 64 bytes."""
    with pytest.raises(ValueError, match="32, 48 or 64 bytes"):
        siv.seal(bytes(size), [b"value"])


def test_127_associated_strings_are_refused():
    """S2V takes 126 of them and the value; for 126 the result agrees with another library."""
    strings = [b"ad"] * 126
    assert siv.seal(KEY, [b"value"], strings) == [AESSIV(KEY).encrypt(b"value", strings)]
    with pytest.raises(ValueError, match="at most 126"):
        siv.seal(KEY, [b"value"], [*strings, b"ad"])


@pytest.mark.parametrize("strings", [[b"one"], [b"one"] * 3])
def test_associated_data_of_another_number_than_values_is_refused(strings):
    """A missing or surplus string would pair values with the wrong ones."""
    with pytest.raises(ValueError, match="as many strings as values"):
        siv.seal(KEY, [b"a", b"b"], [strings])


def test_a_sealed_matrix_under_16_columns_is_refused():
    """There is no room for a synthetic IV in 15 bytes."""
    with pytest.raises(ValueError, match="at least 16 bytes"):
        siv.open_matrix(KEY, np.zeros((2, 15), np.uint8))


def test_self_test_passes():
    """The cipher as installed gives the published answers."""
    assert siv.check_vectors() is None


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_COUNTER_MASK", np.full(16, 255, np.uint8)),
        ("_double", lambda blocks: blocks),
        ("_ctr", lambda _stream, _iv, data: data.copy()),
    ],
)
def test_self_test_stops_a_broken_cipher(monkeypatch, name, broken):
    """A wrong part anywhere in the cipher fails the known answers."""
    monkeypatch.setattr(siv, name, broken)
    with pytest.raises(EtlError, match="RFC 5297"):
        siv.check_vectors()


def test_self_test_stops_a_cipher_that_verifies_nothing(monkeypatch):
    """Opening that takes every value for genuine fails the self test."""

    def open_all(mac, stream, start, sealed):
        return siv._ctr(stream, sealed[:, :16], sealed[:, 16:]), np.ones(len(sealed), np.bool_)

    monkeypatch.setattr(siv, "_open", open_all)
    with pytest.raises(EtlError, match="changed value"):
        siv.check_vectors()
