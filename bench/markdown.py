"""Write tables and spreads as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.paired_runs import Spread


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table: text in the first column, numbers in the others."""
    align = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, align, *rows)]


def shown(spread: Spread, digits: int = 2, *, times: float = 1) -> str:
    """Return a spread as ``**median** (least to most)``, after multiplying it by *times*."""
    median, least, most = (
        f"{spread[name] * times:,.{digits}f}" for name in ("median", "least", "most")
    )
    return f"**{median}** ({least} to {most})"
