"""Tables and spreads as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.paired_runs import Spread


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table whose first column is words and whose others are numbers."""
    align = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, align, *rows)]


def shown(spread: Spread, digits: int = 2, *, times: float = 1) -> str:
    """Write a spread as ``median (least to most)``."""
    middle, least, most = (
        f"{spread[name] * times:,.{digits}f}" for name in ("median", "least", "most")
    )
    return f"**{middle}** ({least} to {most})"
