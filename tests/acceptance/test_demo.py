"""The demo, as ``make run`` runs it, twice in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from etl.postgres.engine import driver_url
from tests.conftest import ROOT


def demo(folder: Path, messages: int) -> str:
    """Run a demo; return what it printed."""
    completed = subprocess.run(
        [sys.executable, "-W", "error", "-m", "etl", "demo", "--messages", str(messages)],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "ETL_CONFIG": str(ROOT / "config.yaml"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of both demos."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def outputs(folder: Path) -> tuple[str, str]:
    """Return what a first and a second demo print."""
    return demo(folder, 10_000), demo(folder, 1_000)


def numbers(output: str) -> dict[str, int]:
    """Return the counts of the reconciliation by name."""
    counts = re.findall(
        r"^  [ =+] (received|loaded|already handled|quarantined|released) +([\d,]+)$",
        output,
        re.MULTILINE,
    )
    return {name: int(value.replace(",", "")) for name, value in counts}


def test_the_demo_adds_up(outputs: tuple[str, str]) -> None:
    """Every message that was sent is accounted for, and some were redelivered."""
    first = numbers(outputs[0])
    assert first["loaded"] + first["quarantined"] == 10_000
    assert first["already handled"] > 0
    assert first["received"] == sum(first.values()) - first["received"]


def test_a_second_demo_loads_other_events_and_names_the_first(
    outputs: tuple[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same events once more would hide the duplicates that are worth finding."""
    monkeypatch.delenv("EMBEDDED_POSTGRES_BIN", raising=False)  # the demos did not have it
    assert "1 earlier run" in outputs[1]
    assert "earlier run" not in outputs[0]
    with EmbeddedPostgres(folder / ".embedded" / "postgres") as postgres:
        engine = sa.create_engine(driver_url(postgres.url))
        with engine.connect() as connection:
            rows, distinct = connection.execute(
                sa.text(
                    "select count(*), (select count(*) from (select distinct * from user_logins) t)"
                    " from user_logins"
                )
            ).one()
        engine.dispose()
    first, second = map(numbers, outputs)
    assert rows == first["loaded"] + second["loaded"]
    assert 0 < rows - distinct < rows / 50


def test_the_readme_shows_what_the_demo_prints(outputs: tuple[str, str]) -> None:
    """Every line of the README is printed, apart from numbers, tokens and widths."""
    block = re.search(
        r"<!-- output of make run -->\n```text\n(.*?)```",
        (ROOT / "README.md").read_text(),
        re.DOTALL,
    )
    assert block is not None
    shown = [line for line in map(_shape, block[1].splitlines()) if line]
    assert len(shown) > 20
    printed = set(map(_shape, outputs[0].splitlines()))
    assert [line for line in shown if line not in printed] == []


def _shape(line: str) -> str:
    """Return a line without what differs between demos: numbers, widths and rows with tokens."""
    if "k1." in line:
        return ""
    words = re.sub(r"[\d][\d,.]*", "0", line)
    return " ".join(re.sub(r"[─\s]+", " ", words).split())
