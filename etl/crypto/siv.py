"""AES-SIV (RFC 5297) over whole columns: deterministic authenticated encryption, vectorised.

A library that takes one value at a time spends its time in calls, not in AES. Here the values of
one byte length form a matrix with one value in each row, and AES runs once for each block position
of the matrix: the CMAC chains advance together, and one call makes the keystream of all rows.

A column of strings has many lengths, so `seal` and `open_each` group the values by length. A caller
that already has a matrix (see mask.py) uses `seal_matrix` and `open_matrix`, which never build
bytes objects.

Associated data is a sequence of strings, as in the RFC. Each of them is either one `bytes` for all
values or a sequence with one `bytes` for each value; a nonce comes last (section 3).

This is one file because a reviewer checks it against one RFC, from the block cipher to the test
vectors.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from Crypto.Cipher import AES
from numpy.typing import NDArray

from etl.errors import EtlError

Matrix = NDArray[np.uint8]
Positions = NDArray[np.intp]
AssociatedData = Sequence[bytes | Sequence[bytes]]

BLOCK_BYTES = 16
# In bytes. For AES-128, AES-192 and AES-256: the key holds two of them, section 2.2.
KEY_LENGTHS = (32, 48, 64)
MAX_ASSOCIATED_STRINGS = 126  # with the value itself, S2V takes at most 127; section 2.6

# Section 2.5: bits 31 and 63 of the counter, counted from the right, are cleared before the first
# use. The low 32-bit lane can then count 2**31 blocks (32 GiB) without a carry into the next lane.
_COUNTER_MASK = np.frombuffer(bytes.fromhex("ffffffffffffffff7fffffff7fffffff"), np.uint8)


def seal_matrix(key: bytes, values: Matrix, associated_data: AssociatedData = ()) -> Matrix:
    """Encrypt each row of n x L bytes to a row of n x (16 + L): synthetic IV || ciphertext.

    RFC 5297, section 2.6.

    :raises ValueError: the key is not 32, 48 or 64 bytes long, there are more than 126 strings of
        associated data, or one of them has a different number of values than there are rows
    """
    mac, stream = _halves(key)
    return _seal(mac, stream, _s2v_start(mac, associated_data, len(values)), values)


def open_matrix(
    key: bytes, sealed: Matrix, associated_data: AssociatedData = ()
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Decrypt each row of n x (16 + L) bytes to n x L, and say which rows are genuine.

    RFC 5297, section 2.7. A row that is not genuine comes back as zero bytes, never as its
    decryption.

    :raises ValueError: as `seal_matrix` does, and for rows under 16 bytes
    """
    if sealed.shape[1] < BLOCK_BYTES:
        raise ValueError("a sealed row has at least 16 bytes")
    mac, stream = _halves(key)
    return _open(mac, stream, _s2v_start(mac, associated_data, len(sealed)), sealed)


def seal(key: bytes, values: Sequence[bytes], associated_data: AssociatedData = ()) -> list[bytes]:
    """Encrypt each value, of any length, to synthetic IV || ciphertext; order is kept.

    :raises ValueError: as `seal_matrix` does
    """
    mac, stream = _halves(key)
    start = _s2v_start(mac, associated_data, len(values))
    sealed: list[bytes] = [b""] * len(values)
    for length, positions in by_length(lengths_of(values)):
        rows = _matrix([values[position] for position in positions], length)
        _put(sealed, positions, _seal(mac, stream, _rows(start, positions), rows))
    return sealed


def open_each(
    key: bytes, sealed: Sequence[bytes], associated_data: AssociatedData = ()
) -> list[bytes | None]:
    """Decrypt each value, with None for each one that is not genuine.

    :raises ValueError: as `seal_matrix` does
    """
    mac, stream = _halves(key)
    start = _s2v_start(mac, associated_data, len(sealed))
    values: list[bytes | None] = [None] * len(sealed)
    for length, positions in by_length(lengths_of(sealed)):
        if length < BLOCK_BYTES:
            continue
        rows = _matrix([sealed[position] for position in positions], length)
        opened, genuine = _open(mac, stream, _rows(start, positions), rows)
        _put(values, positions[genuine], opened[genuine])
    return values


def by_length(lengths: Positions) -> Iterator[tuple[int, Positions]]:
    """Group positions by length: each distinct length with the ascending positions that have it."""
    if not lengths.size:
        return
    if (lengths == lengths[0]).all():  # the usual column needs no sort
        yield int(lengths[0]), np.arange(lengths.size)
        return
    order = np.argsort(lengths, kind="stable")
    for positions in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        yield int(lengths[positions[0]]), positions


def lengths_of(values: Sequence[bytes] | Sequence[str]) -> Positions:
    """Return the length of each value as an array."""
    return np.fromiter(map(len, values), np.intp, len(values))


class _Aes:
    """One AES key and the two CMAC subkeys derived from it (RFC 4493, section 2.3)."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ecb: Any = AES.new(key, AES.MODE_ECB)
        self._for_whole = _double(self.encrypt(np.zeros((1, BLOCK_BYTES), np.uint8)))
        self._for_padded = _double(self._for_whole)

    def encrypt(self, blocks: Matrix) -> Matrix:
        """Encrypt every 16-byte row of a C-contiguous matrix, in one call."""
        encrypted = np.empty_like(blocks)
        if blocks.size:
            self._ecb.encrypt(blocks.reshape(-1).data, output=encrypted.reshape(-1).data)
        return encrypted

    def cmac(self, messages: Matrix) -> Matrix:
        """Return the AES-CMAC (RFC 4493, section 2.4) of each row of n x L, as n x 16."""
        length = messages.shape[1]
        before_last = max(length - 1, 0) // BLOCK_BYTES * BLOCK_BYTES
        last = messages[:, before_last:]
        if last.shape[1] == BLOCK_BYTES:
            last = last ^ self._for_whole
        else:
            last = _pad(last) ^ self._for_padded
        if before_last:
            last ^= self._chain(messages[:, :before_last])
        return self.encrypt(last)

    def cmac_each(self, messages: Sequence[bytes]) -> Matrix:
        """Return the AES-CMAC of each of n strings of any lengths, as n x 16."""
        macs = np.empty((len(messages), BLOCK_BYTES), np.uint8)
        for length, positions in by_length(lengths_of(messages)):
            macs[positions] = self.cmac(
                _matrix([messages[position] for position in positions], length)
            )
        return macs

    def _chain(self, whole_blocks: Matrix) -> Matrix:
        """Return the state of each row's CBC chain after all of its blocks."""
        rows, length = whole_blocks.shape
        if length > rows * BLOCK_BYTES:  # for a few long rows, one call per row is fewer calls
            chains = b"".join(self._chain_of_one(row.tobytes()) for row in whole_blocks)
            return np.frombuffer(chains, np.uint8).reshape(rows, BLOCK_BYTES)
        state = self.encrypt(np.ascontiguousarray(whole_blocks[:, :BLOCK_BYTES]))
        for start in range(BLOCK_BYTES, length, BLOCK_BYTES):
            state = self.encrypt(state ^ whole_blocks[:, start : start + BLOCK_BYTES])
        return state

    def _chain_of_one(self, whole_blocks: bytes) -> bytes:
        cbc: Any = AES.new(self._key, AES.MODE_CBC, iv=bytes(BLOCK_BYTES))
        chain: bytes = cbc.encrypt(whole_blocks)
        return chain[-BLOCK_BYTES:]


def _halves(key: bytes) -> tuple[_Aes, _Aes]:
    """Split the key into one for S2V and one for counter mode (section 2.6)."""
    if len(key) not in KEY_LENGTHS:
        raise ValueError("an AES-SIV key has 32, 48 or 64 bytes")
    half = len(key) // 2
    return _Aes(key[:half]), _Aes(key[half:])


def _seal(mac: _Aes, stream: _Aes, start: Matrix, values: Matrix) -> Matrix:
    synthetic_iv = _s2v_end(mac, start, values)
    return np.concatenate([synthetic_iv, _ctr(stream, synthetic_iv, values)], axis=1)


def _open(
    mac: _Aes, stream: _Aes, start: Matrix, sealed: Matrix
) -> tuple[Matrix, NDArray[np.bool_]]:
    synthetic_iv = sealed[:, :BLOCK_BYTES]
    values = _ctr(stream, synthetic_iv, sealed[:, BLOCK_BYTES:])
    # All 16 bytes of all rows are compared, wherever the first difference is, so the time taken
    # says nothing about how close a forged value came.
    differences = np.bitwise_or.reduce((_s2v_end(mac, start, values) ^ synthetic_iv), axis=1)
    genuine = differences == 0
    values[~genuine] = 0
    return values, genuine


def _s2v_start(mac: _Aes, associated_data: AssociatedData, rows: int) -> Matrix:
    """Run S2V (section 2.4) over the associated data; returns 1 x 16 for all rows, or n x 16."""
    if len(associated_data) > MAX_ASSOCIATED_STRINGS:
        raise ValueError(f"AES-SIV takes at most {MAX_ASSOCIATED_STRINGS} associated strings")
    state = mac.cmac(np.zeros((1, BLOCK_BYTES), np.uint8))
    for strings in associated_data:
        if not isinstance(strings, bytes) and len(strings) != rows:
            raise ValueError("associated data for each value needs as many strings as values")
        state = _double(state) ^ mac.cmac_each([strings] if isinstance(strings, bytes) else strings)
    return state


def _s2v_end(mac: _Aes, start: Matrix, values: Matrix) -> Matrix:
    """Finish S2V (section 2.4) with the values; returns the synthetic IVs as n x 16."""
    if values.shape[1] < BLOCK_BYTES:
        return mac.cmac(_double(start) ^ _pad(values))
    mixed = values.copy()
    mixed[:, -BLOCK_BYTES:] ^= start
    return mac.cmac(mixed)


def _ctr(stream: _Aes, synthetic_iv: Matrix, data: Matrix) -> Matrix:
    """Encrypt or decrypt each row of n x L in counter mode (section 2.5)."""
    rows, length = data.shape
    blocks = -(-length // BLOCK_BYTES)
    counters = np.repeat(synthetic_iv & _COUNTER_MASK, blocks, axis=0)
    if blocks > 1:
        lanes = counters.view(">u4").reshape(rows, blocks, 4)
        lanes[:, :, 3] += np.arange(blocks, dtype=np.uint32)
    keystream = stream.encrypt(counters).reshape(rows, blocks * BLOCK_BYTES)
    return data ^ keystream[:, :length]


def _double(blocks: Matrix) -> Matrix:
    """Multiply each 16-byte row by x in GF(2**128) (section 2.3)."""
    doubled: Matrix = np.left_shift(blocks, 1)
    doubled[:, :-1] |= blocks[:, 1:] >> 7
    doubled[:, -1] ^= (blocks[:, 0] >> 7) * np.uint8(0x87)
    return doubled


def _pad(short: Matrix) -> Matrix:
    """Extend rows of under 16 bytes to 16 by one set bit and zeros (section 2.1)."""
    rows, length = short.shape
    padded = np.zeros((rows, BLOCK_BYTES), np.uint8)
    padded[:, :length] = short
    padded[:, length] = 0x80
    return padded


def _matrix(values: Iterable[bytes], length: int) -> Matrix:
    """Stack strings of one length as the rows of a matrix; the length may be 0."""
    strings = list(values)
    return np.frombuffer(b"".join(strings), np.uint8).reshape(len(strings), length)


def _put(target: list[Any], positions: Positions, rows: Matrix) -> None:
    """Write each row, as bytes, to its position in the list."""
    length = rows.shape[1]
    joined = rows.tobytes()
    for row, position in enumerate(positions.tolist()):
        target[position] = joined[row * length : (row + 1) * length]


def _rows(start: Matrix, positions: Positions) -> Matrix:
    return start if len(start) == 1 else start[positions]


def check_vectors() -> None:
    """Check encryption and decryption against published answers; takes a few milliseconds.

    :raises EtlError: an answer is wrong, so no job may mask with this cipher
    """
    for key, associated_data, value, sealed in _known_answers():
        expected = [sealed] * 2  # two rows, so that the column code is tested
        if seal(key, [value] * 2, associated_data) != expected:
            raise EtlError("AES-SIV fails the test vectors of RFC 5297; reinstall pycryptodome")
        changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        if open_each(key, [sealed, changed], associated_data) != [value, None]:
            raise EtlError("AES-SIV does not detect a changed value; reinstall pycryptodome")


def _known_answers() -> Iterator[tuple[bytes, list[bytes], bytes, bytes]]:
    """Yield key, associated data, value and sealed value: RFC 5297, appendix A.1 and A.2.

    The RFC has vectors for AES-128 only. The third, for the 64-byte keys used for masking, is A.1
    under a longer key, as published with the Miscreant library's test vectors (aes_siv.tjson).
    """
    unhex = bytes.fromhex
    yield (
        unhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"),
        [unhex("101112131415161718191a1b1c1d1e1f2021222324252627")],
        unhex("112233445566778899aabbccddee"),
        unhex("85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"),
    )
    yield (
        unhex("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f"),
        [
            unhex(
                "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100"
            ),
            unhex("102030405060708090a0"),
            unhex("09f911029d74e35bd84156c5635688c0"),
        ],
        b"this is some plaintext to encrypt using SIV-AES",
        unhex(
            "7bdb6e3b432667eb06f4d14bff2fbd0f"
            "cb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d"
        ),
    )
    yield (
        unhex(
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f06f6e6d6c6b6a69686766656463626160"
            "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f"
        ),
        [unhex("101112131415161718191a1b1c1d1e1f2021222324252627")],
        unhex("112233445566778899aabbccddee"),
        unhex("f125274c598065cfc26b0e71575029088b035217e380cac8919ee800c126"),
    )
