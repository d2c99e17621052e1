"""A working folder that somebody has deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import etl
from etl.errors import SettingsError
from tests.unit.builders import ROOT, some_long

NO_CONFIG = (
    "error: no config.yaml in this folder; name a file with --config, or create one with: etl "
    "config show > config.yaml\n"
)
NO_DATABASE = (
    "error: DATABASE_URL is not set; it looks like postgresql://user:password@host:5432/name\n"
)
# Without hypothesis, which production does not have: it asks for the folder when it is imported.
START = (
    "import runpy, sys; sys.modules['hypothesis'] = None; sys.argv[0] = 'etl'; "
    "runpy.run_module('etl', run_name='__main__')"
)


@pytest.mark.parametrize(
    "case",
    some_long([
        ("history", 2, NO_CONFIG),
        ("history --config {root}/config.yaml", 2, NO_DATABASE),
        ("report duplicates --config {root}/config.yaml --html page.html", 2, NO_DATABASE),
        ("config show > /dev/null", 0, ""),
    ]),
)  # fmt: skip
def test_a_deleted_working_folder_is_noticed_only_where_it_is_needed(
    case: tuple[str, int, str], tmp_path: Path
) -> None:
    """A path from the root needs no working folder."""
    arguments, code, errors = case
    command = f'rmdir "$PWD" && exec {sys.executable} -c "{START}" {arguments.format(root=ROOT)}'
    done = subprocess.run(
        ["sh", "-c", command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", errors)


def test_analysis_in_a_deleted_folder_finds_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error of ours, as in any other folder without one."""
    monkeypatch.delenv("ETL_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(SettingsError, match=r"no config\.yaml in this folder"):
        etl.connect()
