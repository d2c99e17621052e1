"""The examples of docs/envelopes.md: a configuration, a message, and its events."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from etl.reading.layers import CHECKS
from tests.unit.builders import ROOT, message, reader

PAGE = (ROOT / "docs/envelopes.md").read_text()
BLOCKS = re.findall(r"```(yaml|json)\n(.*?)\n```", PAGE, re.DOTALL)
EXAMPLES = [tuple(text for _, text in BLOCKS[i : i + 3]) for i in range(0, len(BLOCKS), 3)]


@pytest.mark.parametrize(("configuration", "body", "events"), EXAMPLES)
def test_an_example_has_these_events(configuration: str, body: str, events: str) -> None:
    """With exactly their text."""
    tree: dict[str, Any] = yaml.safe_load(configuration)
    envelope = tree.get("queue", {}).get("envelope", "none")
    split = tree.get("event", {}).get("split", "none")
    assert reader(envelope, split).texts(message(body)) == events.split("\n")


def test_the_page_has_examples_and_every_check() -> None:
    """A layer without its check would be a riddle in the quarantine."""
    assert [kind for kind, _ in BLOCKS] == ["yaml", "json", "json"] * len(EXAMPLES)
    assert len(EXAMPLES) >= 6
    assert [check for check in CHECKS if f"`{check}`" not in PAGE] == []
