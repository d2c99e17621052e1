"""Every notebook runs from top to bottom, and is committed as it ran, with nothing personal in it.

The committed outputs come from a fresh demo. To make them anew, with the variables that
``python -m etl demo --serve`` prints::

    jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from etl import samples
from tests.conftest import ROOT, Job

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SAMPLES, SEED = 1_500, 1
DEMO_SAMPLES = 10_000

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def execute(path: Path, folder: Path, **variables: str) -> Any:
    """Run a notebook as an analyst would: no key, no queue, a profile of its own."""
    notebook = nbformat.read(path, as_version=4)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "ETL_")) and name != "DATABASE_URL"
    }
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env={**environment, "IPYTHONDIR": str(folder), **variables})
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    """The cells that can run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: Any) -> list[Any]:
    """What the cells answered."""
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def words(notebook: Any) -> str:
    """Every output as one text, without the pictures."""
    kept = []
    for output in outputs(notebook):
        data = output.get("data", {})
        pictures = {kind: "" for kind in data if kind.startswith("image/")}
        kept.append({**output, "data": {**data, **pictures}})
    return json.dumps(kept)


def plain_values(count: int) -> set[str]:
    """The addresses and device ids of the sample events, as they were sent."""
    found: set[str] = set()
    for body in samples.bodies(count, SEED, bad_share=0):
        event = json.loads(body)
        found |= {event["ip"], event["device_id"]}
    return found


def leaks(notebook: Any, count: int) -> list[str]:
    """The plain values that stand in the outputs."""
    text = words(notebook)
    return [value for value in plain_values(count) if value in text]


@each_notebook
def test_a_notebook_runs_from_top_to_bottom(path: Path, job: Job, tmp_path: Path) -> None:
    """On other data than it was committed with, without a warning, and with no plain value."""
    sent = job.command("send", "--sample", str(SAMPLES), "--seed", str(SEED), "--bad-share", "0.02")
    assert sent.returncode == 0, sent.stderr
    job.run(ETL_BATCH__ROWS="500")
    done = execute(path, tmp_path, DATABASE_URL=job.environment["DATABASE_URL"])
    kinds = {output.output_type for output in outputs(done)}
    assert "error" not in kinds
    assert "display_data" in kinds
    assert [o.text for o in outputs(done) if o.get("name") == "stderr"] == []
    assert leaks(done, SAMPLES) == []


@each_notebook
def test_a_notebook_without_a_database_says_what_to_do(path: Path, tmp_path: Path) -> None:
    """The first cell names the command that brings one."""
    with pytest.raises(CellExecutionError) as caught:
        execute(path, tmp_path)
    assert caught.value.ename == "RuntimeError"
    assert caught.value.evalue.startswith("DATABASE_URL is not set: run `make notebook`")


@each_notebook
def test_a_committed_notebook_ran_from_top_to_bottom(path: Path) -> None:
    """Execution counts go 1, 2, 3 and there are pictures to see."""
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []


@each_notebook
def test_a_committed_notebook_names_no_machine(path: Path) -> None:
    """No absolute path and no address of a database, in outputs, sources or metadata."""
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
    # A path starts with a folder of the system, whatever stands before it but a letter or a point.
    found = re.findall(r"(?<![\w.<])/(?:home|Users|root|tmp|usr|var|opt|work|mnt)/\S*", text)
    assert found == []
    assert re.findall(r"\w+://\S*@\S*", text) == []


@each_notebook
def test_a_committed_notebook_holds_no_plain_value(path: Path) -> None:
    """Of the demo's sample events."""
    assert leaks(nbformat.read(path, as_version=4), DEMO_SAMPLES) == []


def test_there_are_notebooks() -> None:
    """The tests above would pass over an empty folder."""
    assert [path.name for path in NOTEBOOKS] == ["01_first_look.ipynb"]
