"""The examples in docs/duplicates.md show what the code returns."""

from __future__ import annotations

import doctest
from pathlib import Path

import pandas as pd
import pytest

from etl.analysis.opening import open_source
from tests.conftest import ROOT
from tests.integration.test_duplicates import create, fill, token

PAGE = ROOT / "docs" / "duplicates.md"
LOGINS = [
    ("anna", 1, 1, 1),
    ("anna", 1, 1, 1),
    ("ben", 1, 2, 2),
    ("ben", 2, 3, 2),
    ("cleo", 3, 3, 3),
    ("dora", 4, 4, 3),
    ("eve", 4, 5, 4),
]


def test_the_examples_of_the_page_are_true(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run on the seven logins in the table above them."""
    source = open_source(ROOT / "config.yaml", {"DATABASE_URL": database_url})
    create(source)
    rows = [
        {
            "user_id": user,
            "masked_device_id": token(device),
            "masked_ip": token(address),
            "create_date": f"2026-11-0{day}",
        }
        for user, device, address, day in LOGINS
    ]
    fill(source, rows)
    source.engine.dispose()
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DATABASE_URL", database_url)
    results = run_examples(PAGE)
    assert results.attempted > 15
    assert results.failed == 0


def run_examples(page: Path) -> doctest.TestResults:
    """Run the examples of a page and compare their output with what it shows."""
    with pd.option_context("display.width", 120, "display.max_columns", 20):
        return doctest.testfile(
            str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
        )
