"""Names of the columns of a draft, made of the paths of its fields."""

from __future__ import annotations

from collections.abc import Sequence

from etl.config import FIELDS_OF_THE_JOB, written_path
from etl.operations.draft_fields import Field
from etl.operations.draft_words import words_of

MASKED = "masked_"  # before the name of a masked column

MAX_NAME_BYTES = 63
_RESERVED = {"message_id", "cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"}


def written(path: Sequence[str]) -> str:
    """The path of a field as a configuration has it."""
    return written_path(tuple(path), FIELDS_OF_THE_JOB)


class Names:
    """Names of columns, made of paths: each once, and none of them a field of another column."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._taken = set(_RESERVED)
        self._fields = {written(each.path) for each in fields}

    def of(self, path: Sequence[str], *, is_masked: bool) -> str:
        """A name for the column of a field."""
        words = [word for name in path for word in words_of(name)]
        plain = "_".join(words) or "field"
        return self.free(f"{MASKED}{plain}" if is_masked else plain, written(path))

    def free(self, wanted: str, own_field: str = "") -> str:
        """The name, or the first number after it that nothing has."""
        number = 1
        while (name := _cut(wanted, f"_{number}" if number > 1 else "")) in self._taken or (
            name in self._fields and name != own_field
        ):
            number += 1
        self._taken.add(name)
        return name


def _cut(name: str, ending: str) -> str:
    return name.encode()[: MAX_NAME_BYTES - len(ending)].decode(errors="ignore") + ending
