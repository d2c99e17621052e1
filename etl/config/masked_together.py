"""What masked columns show together: parts of one value, and tokens of one context."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from etl.config.column import Column
from etl.errors import shown_name

# A column, and whose it is: " of 'public.orders'", or nothing if there is only one table.
Owned = tuple[Column, str]

# Equal numbers are masked as equal texts, whichever type they have.
_NUMBERS = ("smallint", "integer", "bigint", "decimal")


def check_parts(columns: Iterable[Owned]) -> None:
    """Check that no two columns show different parts of one value.

    Of two networks of an address, the larger one shows nothing that the other does not.

    :raises ValueError: names both columns
    """
    first: dict[str, Owned] = {}
    for column, of_table in columns:
        if column.mask != "partial" and column.network is None:
            continue
        other, of_other = first.setdefault(column.source, (column, of_table))
        if "partial" in (column.mask, other.mask) and _part(column) != _part(other):
            raise ValueError(
                f"columns {shown_name(other.name)}{of_other} and "
                f"{shown_name(column.name)}{of_table} show different "
                f"parts of {shown_name(column.source)}, and so more than each of them alone; keep "
                "one of them, or mask one with 'mask: true'"
            )


def check_contexts(columns: Iterable[Owned]) -> None:
    """Check that columns that share a context give equal values equal tokens.

    What a column accepts does not matter: where another one refuses a value, it has no token.

    :raises ValueError: names both columns, and the setting that differs
    """
    first: dict[tuple[str, str], Owned] = {}
    for column, of_table in columns:
        if not column.has_tokens:
            continue
        context = column.masking_context
        other, of_other = first.setdefault((column.mask_kind, context), (column, of_table))
        ours, theirs = _reading(column), _reading(other)
        if differing := [name for name, value in ours.items() if value != theirs[name]]:
            own = column.name if column.name != context else f"{context}_2"
            raise ValueError(
                f"masked columns {shown_name(other.name)}{of_other} and "
                f"{shown_name(column.name)}{of_table} share the context {shown_name(context)} and "
                f"differ in {differing[0]!r}, so equal values would not have equal tokens; give "
                "both the same, or give one of them a context of its own, such as "
                f"'context: {own}'"
            )


def _part(column: Column) -> Any:
    return column.keep_last, column.keep_domain, column.network, column.type, column.clean


def _reading(column: Column) -> dict[str, Any]:
    """The settings that decide as which text a value is masked."""
    is_address = column.type == "ip" and column.canonical
    return {
        "type": "number" if column.type in _NUMBERS else column.type,
        "canonical": is_address,
        "clean": () if is_address else column.clean,
        "null_values": frozenset(column.null_values),
    }
