"""Takes the rows of a binary COPY, and keeps their fields as arrays of numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from etl.analysis.tally import Numbers

BLOCK_ROWS = 8 << 20
# Memory of the process without a row; and besides the numbers themselves, of each row and of each
# value in it, while they are sorted and counted.
BASE_BYTES = 200 << 20
ROW_BYTES = 16
VALUE_BYTES = 12

_HEADER_BYTES = 19  # of a binary COPY
_END = b"\xff\xff"
_EPOCH = int(np.datetime64("2000-01-01", "us").astype(np.int64))


class CannotCount(Exception):  # noqa: N818  (it says what happened)
    """The rows cannot be counted in memory; each question can still be asked to Postgres."""


@dataclass(frozen=True)
class TimeType:
    """How Postgres sends times of a type: as numbers of units since 2000."""

    null: str  # sent in place of null: the last time of the type
    null_number: int
    unit: int  # microseconds
    dtype: str  # of the numbers in a COPY
    zone: str | None = None

    def series(self, numbers: Numbers) -> pd.Series[Any]:
        """Return numbers as times."""
        is_null = numbers == self.null_number
        microseconds = np.where(is_null, 0, numbers).astype(np.int64) * self.unit + _EPOCH
        times = pd.Series(microseconds.view("datetime64[us]")).mask(is_null)
        return times.dt.tz_localize(self.zone)

    def check(self, numbers: Numbers) -> None:
        """Check that Python has these times.

        :raises CannotCount: one is infinite, or not in the years 1 to 9999
        """
        known = numbers[numbers != self.null_number]
        years = (np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31", "us"))
        low, high = ((int(year.astype(np.int64)) - _EPOCH) // self.unit for year in years)
        if known.size and not low <= known.min() <= known.max() <= high:
            raise CannotCount


_LAST = "294276-12-31 23:59:59.999999"
_LAST_NUMBER = 9_223_371_331_199_999_999
# By the OID of the type in Postgres.
TIME_TYPES = {
    1082: TimeType("5874897-12-31", 2_145_031_948, 86_400_000_000, ">i4"),
    1114: TimeType(_LAST, _LAST_NUMBER, 1, ">i8"),
    1184: TimeType(f"{_LAST}+00", _LAST_NUMBER, 1, ">i8", "UTC"),
}


class Column:
    """An array that grows by large blocks.

    The C library gives memory back as soon as a block of 32 MiB or more is freed; of many small
    arrays it would keep the whole.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._blocks: list[Numbers] = []
        self._size = BLOCK_ROWS  # of the last block

    def add(self, numbers: Numbers) -> None:
        """Append numbers."""
        while numbers.size:
            if self._size == BLOCK_ROWS:
                self._blocks.append(np.empty(BLOCK_ROWS, self.dtype))
                self._size = 0
            piece = numbers[: BLOCK_ROWS - self._size]
            self._blocks[-1][self._size : self._size + piece.size] = piece
            self._size += piece.size
            numbers = numbers[piece.size :]

    def joined(self) -> Numbers:
        """Return all numbers as one array."""
        *full, last = self._blocks or [np.empty(BLOCK_ROWS, self.dtype)]
        return np.concatenate([*full, last[: self._size if self._blocks else 0]])


class Reader(io.RawIOBase):
    """Takes the bytes of a binary COPY, and keeps the fields as arrays."""

    def __init__(self, hashes: int, time_type: TimeType, masked: list[str], max_bytes: int) -> None:
        super().__init__()
        self.parts: dict[int, int] = {}  # their indexes by OID
        self.keys: list[pd.DataFrame] = []
        self._time_type = time_type
        self._masked = masked
        self._max_bytes = max_bytes
        self._hashes = hashes
        place: Any = [("block", ">u4"), ("line", ">u2")]
        kinds = [*[">i8"] * hashes, time_type.dtype, ">u4", place, *[">i8"] * len(masked)]
        # A row is the number of its fields, and then the length and the value of each.
        fields: list[Any] = [("fields", ">i2")]
        for i, kind in enumerate(kinds):
            fields += [(f"length{i}", ">i4"), (f"value{i}", kind)]
        self._row = np.dtype(fields)
        integers: list[Any] = [
            *[np.int64] * hashes,
            np.dtype(time_type.dtype).newbyteorder("="),
            np.int64,
        ]
        self._columns = [Column(np.dtype(integer)) for integer in integers]
        self._rest = b""
        self._header_bytes = _HEADER_BYTES  # still to come
        self._bytes = BASE_BYTES

    def writable(self) -> bool:
        """Say that it takes bytes."""
        return True

    def write(self, data: Any) -> int:
        """Take the next bytes.

        :raises CannotCount: there are too many rows, or a time is not in Python's calendar
        """
        received = self._rest + bytes(data)
        skipped = min(self._header_bytes, len(received))
        self._header_bytes -= skipped
        count = (len(received) - skipped) // self._row.itemsize
        rows = np.frombuffer(received, self._row, count, skipped)
        self._rest = received[skipped + count * self._row.itemsize :]
        self._keep(rows)
        return len(data)

    def _keep(self, rows: Any) -> None:
        if rows.size == 0:
            return
        times = self._hashes
        values = [rows[f"value{i}"] for i in range(times + 1)]
        self._time_type.check(values[times])
        places = self._places(rows[f"value{times + 1}"], rows[f"value{times + 2}"])
        for column, numbers in zip(self._columns, [*values, places], strict=True):
            column.add(numbers)
            self._bytes += rows.size * column.dtype.itemsize
        self._bytes += rows.size * (ROW_BYTES + VALUE_BYTES * (self._hashes - 2))
        if self._bytes > self._max_bytes:
            raise CannotCount
        for i, name in enumerate(self._masked, times + 3):
            states, first, counts = np.unique(
                rows[f"value{i}"].astype(np.int64), return_index=True, return_counts=True
            )
            counted = {"column": name, "state": states, "place": places[first], "rows": counts}
            self.keys.append(pd.DataFrame(counted))

    def _places(self, oids: Any, positions: Any) -> Numbers:
        distinct, which = np.unique(oids, return_inverse=True)
        indexes = [self.parts.setdefault(int(oid), len(self.parts)) for oid in distinct]
        parts = np.array(indexes, np.int64)[which]
        blocks = positions["block"].astype(np.int64)
        places: Numbers = parts << 48 | blocks << 16 | positions["line"]
        return places

    def column(self, i: int) -> Numbers:
        """Return a field of all rows as an array, and forget it."""
        column, self._columns[i] = self._columns[i], Column(np.dtype(np.int64))
        return column.joined()

    def check_end(self) -> None:
        """Check that every byte was understood."""
        assert self._rest == _END, "the rows are of another size than was asked for"
