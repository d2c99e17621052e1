"""What was masked under one envelope is not stored as it came under another."""

from __future__ import annotations

from typing import Any

import pytest

from etl.config import EventSettings, QueueSettings, Settings, Table
from etl.errors import UsageError
from etl.operations.masked_before import check_masking


def settings(envelope: Any, split: Any, masked: str, plain: str = "unrelated") -> Settings:
    """The settings of a job with a masked field and a plain one."""
    columns = [
        {"name": "masked", "field": masked, "type": "text", "mask": True},
        {"name": "plain", "field": plain, "type": "json" if plain == "$" else "text"},
    ]
    return Settings(
        queue=QueueSettings(envelope=envelope),
        event=EventSettings(split=split),
        table=Table.model_validate({"columns": columns}),
    )


KEEP = {"path": "a", "keep": ["b"]}
BRIDGE = "eventbridge"


@pytest.mark.parametrize(
    ("before", "after", "plain", "field"),
    [
        # Of an event, within it, and around it.
        (("none", "none", "ip"), ("none", "none"), "ip", "ip"),
        (("none", "none", "a.ip"), ("none", "none"), "a", "a"),
        (("none", "none", "a"), ("none", "none"), "a.ip", "a"),
        (("none", "none", "a.ip"), ("none", "none"), "$", "$"),
        (("none", "none", "a.ip"), ("none", "none"), "a.id", None),
        # An envelope that is taken for a part of the event.
        ((BRIDGE, "none", "ip"), ("none", "none"), "detail.ip", "detail.ip"),
        ((BRIDGE, "none", "ip"), ("none", "none"), "detail", "detail"),
        ((BRIDGE, "none", "ip"), ("none", "none"), "detail.id", None),
        ((BRIDGE, "none", "ip"), ("none", "none"), "account", None),
        ((BRIDGE, "none", "ip"), ({"path": "detail"}, "none"), "ip", "ip"),
        ((BRIDGE, "none", "a.ip"), ({"path": "detail.a"}, "none"), "ip", "ip"),
        ((BRIDGE, "none", "a"), ({"path": "detail.a"}, "none"), "id", "a"),
        ((["sns", BRIDGE], "none", "ip"), ("sns", "none"), "detail", "detail"),
        ((["sns", BRIDGE], "none", "ip"), ("none", "none"), "Message", "Message"),
        ((["sns", BRIDGE], "none", "ip"), ("sns", "none"), "account", None),
        (({"path": "d"}, "none", "ip"), (["base64", "gzip"], "none"), "d", "d"),
        ((["base64", "gzip"], "none", "ip"), ({"path": "d"}, "none"), "id", None),
        # A part of the event that is taken for an envelope.
        (("none", "none", "detail"), (BRIDGE, "none"), "id", "detail"),
        (("none", "none", "detail.ip"), (BRIDGE, "none"), "ip", "ip"),
        (("none", "none", "ip"), (BRIDGE, "none"), "id", None),
        (("none", "none", "Message"), (["sns", BRIDGE], "none"), "id", "Message"),
        (("sns", "none", "ip"), (BRIDGE, "none"), "id", None),
        # Lists, of which a path reads one item, and a split each.
        (("none", {"path": "a"}, "ip"), ("none", "none"), "a", "a"),
        (("none", {"path": "a"}, "ip"), ("none", "none"), "a[3].ip", "a[3].ip"),
        (("none", {"path": "a"}, "ip"), ("none", "none"), "a[3].id", None),
        (("none", {"path": "a"}, "ip"), ("none", "none"), "b", None),
        (("none", {"path": "a"}, "ip"), ({"path": "a[0]"}, "none"), "ip", "ip"),
        (("none", "none", "a[0].ip"), ("none", {"path": "a"}), "ip", "ip"),
        (("none", "none", "a[0]"), ("none", {"path": "a"}), "id", "a[0]"),
        (("s3", "none", "ip"), ("none", {"path": "Records"}), "ip", "ip"),
        (("none", "array", "ip"), ("none", "lines"), "id", None),
        # Fields of the message that its events get.
        (("none", KEEP, "b.ip"), ("none", "none"), "b", "b"),
        (("none", KEEP, "b.ip"), ("none", "none"), "b.id", None),
        (("none", "none", "b"), ("none", KEEP), "b.ip", "b"),
        (("none", "none", "b"), ("none", KEEP), "ip", None),
    ],
)  # fmt: skip
def test_two_paths_are_compared_from_the_root_of_the_body(
    before: Any, after: Any, plain: str, field: str | None
) -> None:
    """One that leads to the other, or into it, is refused; what is beside it may be read."""
    entry = tuple(sorted(settings(*before).masked_fields))
    now = settings(after[0], after[1], "unrelated.masked", plain)
    if field is None:
        check_masking(now, {entry: 3}, set())
        return
    with pytest.raises(UsageError, match=r"was masked (or dropped )?when") as found:
        check_masking(now, {entry: 3}, set())
    assert f"the field {field!r} of 3 entries" in str(found.value)
    assert "column 'plain'" in str(found.value)


@pytest.mark.parametrize("envelope", ["none", "sns", "eventbridge", ["sns", "base64", "gzip"]])
@pytest.mark.parametrize("split", ["none", "array", "lines", KEEP])
def test_the_same_settings_can_always_replay(envelope: Any, split: Any) -> None:
    """What a run stores, a replay stores."""
    same = settings(envelope, split, masked="ip", plain="id")
    check_masking(same, {tuple(sorted(same.masked_fields)): 1}, {"ip"})
    # The entry of an event has only the names.
    check_masking(same, {tuple(sorted(same.table.masked_fields)): 1}, {"ip"})


def test_what_was_masked_nowhere_may_be_read() -> None:
    """A job that masks nothing marks no place either."""
    plain = Table.model_validate({"columns": [{"name": "id", "field": "id", "type": "text"}]})
    nothing = Settings(queue=QueueSettings(envelope="eventbridge"), table=plain)
    assert nothing.masked_fields == frozenset()
    check_masking(settings("none", "none", masked="x", plain="detail"), {(): 1}, set())
