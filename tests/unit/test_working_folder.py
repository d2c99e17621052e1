"""A working folder that somebody has deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

import etl
from etl.errors import SettingsError


def test_analysis_in_a_deleted_folder_finds_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error of ours, as in any other folder without one."""
    monkeypatch.delenv("ETL_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(SettingsError, match=r"no config\.yaml in this folder"):
        etl.connect()
