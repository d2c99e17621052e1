"""The rows of a table, read once and counted: values are codes, of which pairs are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from etl.analysis.digests import read_digests
from etl.analysis.key_usage import key_id_text
from etl.analysis.linked import query_of_linked
from etl.analysis.named import Names
from etl.analysis.source import Source
from etl.analysis.tally import Coded, Numbers, Pairs, count_copies, count_pairs, encode
from etl.postgres.queries import quote_name
from etl.schema import masked_columns


class Counted:
    """What is counted about the rows of a source."""

    def __init__(self, source: Source, by: str | None) -> None:
        """Read the source, which must have a snapshot.

        :param by: the column to compare; None means each masked one
        :raises CannotCount: as :func:`etl.analysis.digests.read_digests` does
        """
        self.source = source
        self.columns = source.value_columns(by)
        # Repeats are of the masked columns, whatever else is compared.
        compared = [*self.columns, *source.masked]
        digests = read_digests(source, compared, _key_ids(source))
        self.keys = digests.keys
        self.times = digests.times
        self.time_type = digests.time_type
        self.names = Names(source, digests.places, digests.parts)
        self.is_surplus, row, copies = count_copies(digests.rows)
        self.copies = pd.DataFrame({"row": row, "copies": copies})
        digests.rows = np.array([], np.int64)
        self.stay()
        self.values: dict[str, Coded] = {}
        for name in list(digests.values):
            self.values[name] = encode(digests.values.pop(name))
            self.stay()
        self.users = self.values[source.entity.name]
        self.pairs: dict[str, Pairs] = {}
        for name in self.columns:
            self.pairs[name] = count_pairs(self.values[name].codes, self.users.codes)
            self.stay()

    def stay(self) -> None:
        """Show the server that this transaction is alive; it ends one that is idle for a minute."""
        with self.source.reading() as connection:
            connection.execute(sa.text("select 1"))

    @property
    def is_timed(self) -> Any:
        """Whether each row has a time."""
        return self.times != self.time_type.null_number

    def spans(
        self, coded: Coded, codes: Numbers, other: Coded
    ) -> tuple[pd.Series[Any], pd.Series[Any]]:
        """Return the first and the last time of each code, in rows where *other* is not null."""
        numbers = np.zeros(coded.rows.size, np.int32)
        numbers[codes] = np.arange(1, codes.size + 1)
        number = numbers[coded.codes]
        rows = np.flatnonzero((number > 0) & (other.codes != 0) & self.is_timed)
        number = number[rows] - 1
        null = self.time_type.null_number
        first = np.full(codes.size, null, np.int64)
        last = np.full(codes.size, np.iinfo(np.int64).min, np.int64)
        np.minimum.at(first, number, self.times[rows])
        np.maximum.at(last, number, self.times[rows])
        last[first == null] = null
        return self.time_type.series(first), self.time_type.series(last)

    def text_of_linked(self) -> str:
        """Return the query that describes linked groups, for readers."""
        return query_of_linked(self.source, self.columns)


def _key_ids(source: Source) -> dict[str, str]:
    """Return SQL of the key id by masked column; nothing, if the source is not the whole table."""
    if source.bounds:
        return {}
    masked = [column.name for column in masked_columns(source.settings.table)]
    return {name: key_id_text(quote_name(name)) for name in masked}
