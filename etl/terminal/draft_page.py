"""What ``etl draft`` has made, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from etl.operations.draft import Draft
from etl.text import counted


def page(draft: Draft, config: Path) -> Iterator[str]:
    """What is in the draft, and what to do next."""
    masked = [column for column in draft.columns if column.personal]
    doubtful = [column for column in draft.columns if column.doubt]
    for reason, count in draft.unread.items():
        yield f"{count:,} of {draft.messages:,} messages failed {reason}; no column is made of them"
    yield (
        f"{config}: {counted(len(draft.columns), 'column')} from {counted(draft.events, 'event')}; "
        f"{len(masked):,} masked, {len(doubtful):,} doubtful, "
        f"{counted(len(draft.left_out), 'field')} left out"
    )
    yield f"{config.with_name('table.sql')}: the table as etl init creates it"
    yield f"next: read its comments, and try it: etl check-config --config {config} --sample FILE"
