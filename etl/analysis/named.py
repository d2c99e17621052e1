"""The values in chosen rows of a table that was read as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from etl.analysis.source import Source
from etl.analysis.tally import Numbers
from etl.postgres.queries import quote_name

# More rows than this are chosen only if many have the same counts, and the order of their names
# decides which ones are shown. Postgres then answers the question sooner.
MAX_ROWS = 300_000


class TooManyNames(Exception):  # noqa: N818  (it says what happened)
    """Too many values compete for the places of an answer."""


class Names:
    """Asks Postgres for values, by the places of rows with them."""

    def __init__(self, source: Source, places: Numbers, parts: list[int]) -> None:
        """Know the places of the rows; see :class:`etl.analysis.digests.Digests`."""
        self._source = source
        self._places = places
        self._parts = parts

    def at(self, places: Numbers, shown: str, order: str) -> pd.DataFrame:
        """Read columns of the rows at these places.

        Columns: ``nth`` (position in *places*), then those of *shown*.

        :param shown: SQL of the columns; the table is called ``logins``
        :param order: SQL of the order of the rows
        :raises TooManyNames: there are more than :data:`MAX_ROWS` places
        """
        if places.size > MAX_ROWS:
            raise TooManyNames
        parts = (str(self._parts[place >> 48]) for place in places.tolist())
        tids = (f'"({p >> 16 & 0xFFFFFFFF},{p & 0xFFFF})"' for p in places.tolist())
        fragments = {"shown": shown, "order": order}
        arrays = {"parts": f"{{{','.join(parts)}}}", "places": f"{{{','.join(tids)}}}"}
        answer = self._source.ask("named", fragments, **arrays)
        answer.isetitem(0, answer.iloc[:, 0].to_numpy() - 1)
        return answer

    def of(
        self,
        counted: pd.DataFrame,
        shown: str,
        order: str,
        counts: list[str],
        top: int | None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Name what was counted, and put the largest counts first.

        :param counted: its column ``row`` says a row with the value
        :param shown: as for :meth:`at`
        :param order: of what has the same counts
        :returns: the columns of *shown*, and *counted*, both in the new order
        :raises TooManyNames: as for :meth:`at`
        """
        shown_rows = self.at(self._places[counted["row"].to_numpy()], shown, order)
        counted = counted.iloc[shown_rows.iloc[:, 0].to_numpy()]
        keys = [-counted[name].to_numpy() for name in reversed(counts)]
        positions = np.lexsort([np.arange(len(counted)), *keys])[:top]
        # By position, because the table's columns may have any name.
        names = shown_rows.iloc[positions, 1:].reset_index(drop=True)
        for position in range(names.shape[1]):
            names.isetitem(position, _without_needless_nulls(names.iloc[:, position]))
        return names, counted.iloc[positions].reset_index(drop=True)

    def ranks(self, column: str, rows: Numbers) -> tuple[Numbers, pd.Series[str]]:
        """Return the rank of each row by the bytes of its text in a column, and the texts.

        :raises TooManyNames: as for :meth:`at`
        """
        answer = self.at(self._places[rows], text(column), in_bytes(column))
        nth = answer["nth"].to_numpy()
        ranks = np.empty(nth.size, np.int64)
        ranks[nth] = np.arange(nth.size)
        texts = answer.iloc[:, 1].take(np.argsort(nth)).reset_index(drop=True)
        return ranks, texts


def _without_needless_nulls(values: pd.Series[Any]) -> Any:
    """The dtype that the column has if the rows with nulls were not asked for."""
    plain: Any = {"Int64": "int64", "boolean": "bool"}.get(str(values.dtype))
    return values if plain is None or values.isna().any() else values.astype(plain)


def text(column: str) -> str:
    """Return SQL for the text of a column."""
    return f"cast(logins.{quote_name(column)} as text)"


def in_bytes(column: str) -> str:
    """Return SQL that orders the texts of a column by their bytes."""
    return f'{text(column)} collate "C"'
