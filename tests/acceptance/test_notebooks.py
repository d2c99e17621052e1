"""Every notebook runs from top to bottom, by the command that makes pages of them for a schedule.

And is committed as it ran, with nothing personal in it and no logic of its own. The committed
outputs come from a fresh demo. To make them anew, with the variables that
``python -m etl demo --serve --week`` prints::

    jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import sqlalchemy as sa

from etl.commands.send import send
from etl.demo import nights, samples
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import NotebookError, SettingsError
from etl.postgres.engine import driver_url
from etl.report import notebook
from tests.acceptance.job_processes import until
from tests.conftest import KEYRING, ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NIGHTS = (
    ("--sample 600 --seed 3 --bad-share 0.05", "--sample 60 --seed 4 --bad-share 0 --rings"),
    ("--sample 300 --seed 5", "--sample 60 --seed 6 --bad-share 0.9 --bad-kind 'ip: IP address'"),
)
DEMO = (*nights.WEEK, ("--sample 10000 --seed 1",))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(read: Any) -> list[Any]:
    """The cells that can run."""
    return [cell for cell in read.cells if cell.cell_type == "code"]


def outputs(read: Any) -> list[Any]:
    """What the cells answered."""
    return [output for cell in code_cells(read) for output in cell.outputs]


def pictures(read: Any) -> int:
    """How many there are to see."""
    return sum("image/png" in output.get("data", {}) for output in outputs(read))


def without_pictures(text: str) -> str:
    """The text of a notebook or a page, where chance may spell anything in a picture."""
    return re.sub(r'"image/png": "[^"]*"|data:image/png;base64,[^"]*', "", text)


@cache
def plain_values(sent: tuple[nights.Night, ...]) -> set[str]:
    """The addresses and device ids of made-up events, as they were sent."""
    found: set[Any] = set()
    for options in (options for night in sent for options in night):
        given = send.make_context("send", shlex.split(options)).params
        kinds = (given["bad_kind"],) if given["bad_kind"] else tuple(samples.BAD)
        for body in samples.bodies(
            given["sample"], given["seed"],
            bad_share=given["bad_share"], bad_kinds=kinds, rings=given["rings"],
        ):  # fmt: skip
            with contextlib.suppress(ValueError, RecursionError, AttributeError):
                event = json.loads(body)
                found |= {event.get("ip"), event.get("device_id")}
    return {value for value in found if isinstance(value, str)}


def leaks(text: str, sent: tuple[nights.Night, ...]) -> list[str]:
    """The plain values that stand in a text."""
    return [value for value in plain_values(sent) if value in text]


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database with two nights in it."""
    url = postgres.new_database()
    nights.load({"DATABASE_URL": url, "ETL_KEYRING": KEYRING.dump()}, NIGHTS)
    yield url
    postgres.drop_database(url)


def start_report(folder: Path, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    """Start ``report notebook`` as a schedule would, in another folder."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "etl", "report", "notebook", *arguments],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "ETL_CONFIG": os.path.relpath(ROOT / "config.yaml", folder),
            "ETL_KEYRING": KEYRING.dump(),
            "AWS_SECRET_ACCESS_KEY": "not for the notebook",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def report(
    folder: Path, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``report notebook`` to its end."""
    with start_report(folder, *arguments, **variables) as process:
        out, err = process.communicate(timeout=280)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture(scope="module")
def pages(database: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every notebook as a page, by its name: run on other data than it was committed with."""
    folder = tmp_path_factory.mktemp("pages")
    done = report(folder, *NOTEBOOKS, "--folder", "made/here", DATABASE_URL=database)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"wrote made/here/{path.stem}.html" for path in NOTEBOOKS]
    assert sorted(folder.rglob("*.html")) == [
        folder / "made" / "here" / f"{path.stem}.html" for path in NOTEBOOKS
    ]
    return {path.stem: path.read_text() for path in folder.rglob("*.html")}


@each_notebook
def test_a_notebook_runs_from_top_to_bottom(path: Path, pages: dict[str, str]) -> None:
    """With all its pictures, and without an error or a warning."""
    _, _, body = pages[path.stem].partition("<body>")
    assert body.count('src="data:image/png;base64,') == pictures(nbformat.read(path, as_version=4))
    assert "output_stderr" not in body


@each_notebook
def test_a_page_holds_no_plain_value(path: Path, pages: dict[str, str]) -> None:
    """Of all that was sent."""
    assert leaks(without_pictures(pages[path.stem]), NIGHTS) == []


@each_notebook
def test_a_page_fetches_nothing_and_shows_no_code(path: Path, pages: dict[str, str]) -> None:
    """No script, and nothing from anywhere else; the browser is told to refuse both."""
    page = pages[path.stem]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert re.findall(r"(?i)<(?:script|link|iframe|object|embed)\b", page) == []
    assert re.findall(r"(?i)(?:src|url\()\s*=?\s*[\"']?(?!data:)\w+:", page) == []
    assert "sys.path.insert" not in page


def test_the_nights_are_of_the_days_before_today(database: str) -> None:
    """So that there is something to see over time; and what is there is not loaded again."""
    engine = sa.create_engine(driver_url(database))
    statement = (
        "select cast(now() at time zone 'UTC' as date) - create_date as age, count(*) > 100 "
        "from user_logins group by 1 order by 1"
    )
    with engine.connect() as connection:
        assert list(map(tuple, connection.execute(sa.text(statement)))) == [(1, True), (2, True)]
    assert nights.missing(engine) == nights.WEEK[2:]
    engine.dispose()


def write_notebook(folder: Path, *cells: str, tag: str | None = None) -> Path:
    """Make a notebook of code cells, and one that is empty but has something to say."""
    path = folder / "own.ipynb"
    old = nbformat.v4.new_output("stream", text="of an earlier run")
    made = [
        nbformat.v4.new_markdown_cell("# own"),
        *[nbformat.v4.new_code_cell(c, metadata={"tags": [tag] if tag else []}) for c in cells],
        nbformat.v4.new_code_cell("", outputs=[old]),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def test_a_notebook_gets_neither_key_nor_queue_and_can_use_the_package(tmp_path: Path) -> None:
    """Whatever the schedule's environment holds. Its warnings are shown; its code, with --code."""
    names = "import os, etl.errors\nprint(*(n for n in os.environ if n[:4] in ('ETL_', 'AWS_')))"
    shown = "os.environ['DATABASE_URL'], '<script>1</script>'"
    own = write_notebook(tmp_path, names, shown, "import sys; sys.stderr.write('look')")
    done = report(tmp_path, own, "--code", DATABASE_URL="kept", ETL_TABLE__NAME="other")
    assert done.returncode == 0, done.stderr
    _, _, page = (tmp_path / "own.html").read_text().partition("<body>")
    printed = re.search(r"output_stdout.*?<pre>(.*?)</pre>", page, re.DOTALL)
    assert printed is not None
    assert sorted(printed[1].split()) == ["ETL_CONFIG", "ETL_TABLE__NAME"]
    assert "kept" in page
    assert "output_stderr" in page
    assert "of an earlier run" not in page
    assert "<script" not in page
    assert "os.environ" in re.sub("<[^>]+>", "", page)


def test_a_failed_cell_is_named_without_what_it_says(tmp_path: Path) -> None:
    """No page is made of it, whatever its tags allow, and the old one stays."""
    failing = "print('198.51.100.7')\nint('198.51.100.7')"
    own = write_notebook(tmp_path, "1", failing, tag="raises-exception")
    (tmp_path / "own.html").write_text("yesterday's")
    done = report(tmp_path, own)
    assert done.returncode == 1
    assert done.stderr.startswith("error: 'own.ipynb', code cell 2: ValueError; ")
    assert "198.51" not in done.stdout + done.stderr
    assert (tmp_path / "own.html").read_text() == "yesterday's"
    assert {path.name for path in tmp_path.iterdir()} >= {"own.ipynb", "own.html"}
    assert not list(tmp_path.glob(".own*"))


def test_without_a_database_it_says_what_to_do_and_goes_on(tmp_path: Path) -> None:
    """The words are ours, so they are shown; the other notebook is rendered all the same."""
    done = report(tmp_path, FOLDER / "04_quality.ipynb", write_notebook(tmp_path, "1 + 1"))
    assert done.returncode == 1
    wrote, error = done.stderr.splitlines()
    assert wrote == "wrote own.html"
    assert error.startswith("error: '04_quality.ipynb', code cell ")
    assert "DATABASE_URL is not set" in error


@pytest.mark.parametrize(
    ("cell", "kind"),
    [("while True: pass", "CellTimeoutError"), ("import os; os._exit(1)", "DeadKernelError")],
)
def test_a_notebook_that_hangs_or_dies_is_told(tmp_path: Path, cell: str, kind: str) -> None:
    """With the cell that did it."""
    own = write_notebook(tmp_path, cell)
    with pytest.raises(NotebookError, match=rf"^'own.ipynb', code cell 1: {kind};"):
        notebook.run(own, {"PATH": "/usr/bin:/bin"}, cell_seconds=3)


def test_sigterm_ends_the_command_and_the_notebook(tmp_path: Path) -> None:
    """No page, no traceback, no process left behind, and no notebook after this one."""
    own = write_notebook(
        tmp_path,
        "import os, pathlib, time\npathlib.Path('made').write_text(str(os.getpid()))\n"
        "pathlib.Path('made').rename('pid')\ntime.sleep(600)",
    )
    with start_report(tmp_path, own, FOLDER / "03_masking.ipynb") as process:
        until((tmp_path / "pid").exists)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == "error: 'own.ipynb' was interrupted; no page was made of it\n"
    assert list(tmp_path.glob("*.html")) == []
    until(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())))


def test_what_is_no_notebook_is_a_matter_of_usage(tmp_path: Path) -> None:
    """And nothing of the file is repeated."""
    other = tmp_path / "other.ipynb"
    other.write_text('{"ip": "198.51.100.7"}')
    with pytest.raises(SettingsError, match=r"other.ipynb': not a notebook$"):
        notebook.run(other, {})


def test_where_the_libraries_are_missing_it_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are an extra, and no dependency of the job."""
    for name in ("nbclient", "nbconvert.exporters"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingsError, match=r"pip install -r requirements-dev\.txt$"):
        notebook.run(NOTEBOOKS[0], {})
    with pytest.raises(SettingsError, match=r"pip install -r requirements-dev\.txt$"):
        notebook.html(None, "", code=False)


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Its folder is a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot write"):
        notebook.write("page", tmp_path / "file" / "page.html")


@each_notebook
def test_a_committed_notebook_ran_from_top_to_bottom(path: Path) -> None:
    """Execution counts go 1, 2, 3, and there are pictures to see, and neither error nor warning."""
    read = nbformat.read(path, as_version=4)
    cells = code_cells(read)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert pictures(read) >= 3
    streams = {output.get("name", output.output_type) for output in outputs(read)}
    assert streams <= {"display_data", "execute_result", "stdout"}


@each_notebook
def test_a_committed_notebook_names_no_machine(path: Path) -> None:
    """No absolute path and no address of a database, in outputs, sources or metadata."""
    text = without_pictures(path.read_text(encoding="utf-8"))
    # A path starts with a folder of the system, whatever stands before it but a letter or a point.
    found = re.findall(r"(?<![\w.<])/(?:home|Users|root|tmp|usr|var|opt|work|mnt)/\S*", text)
    assert found == []
    assert re.findall(r"\w+://\S*@\S*", text) == []


@each_notebook
def test_a_committed_notebook_holds_no_plain_value(path: Path) -> None:
    """Of the demo's sample events."""
    assert leaks(without_pictures(path.read_text(encoding="utf-8")), DEMO) == []


LOGIC = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If,
    ast.IfExp, ast.Try, ast.With, ast.comprehension,
)  # fmt: skip


@each_notebook
def test_a_notebook_has_no_logic_of_its_own(path: Path) -> None:
    """Its cells ask, show and draw; what is worked out is worked out in etl, where it is tested."""
    source = "\n".join(cell.source for cell in code_cells(nbformat.read(path, as_version=4)))
    found = [type(node).__name__ for node in ast.walk(ast.parse(source)) if isinstance(node, LOGIC)]
    assert found == []


def test_the_leaks_would_be_found() -> None:
    """The search knows what was sent, and sees it in a text."""
    values = plain_values(NIGHTS)
    assert len(values) > 500
    some = sorted(values)[100]
    assert leaks(f"<td>{some}</td>", NIGHTS) == [some]


def test_there_are_notebooks() -> None:
    """The tests above would pass over an empty folder."""
    assert [path.stem for path in NOTEBOOKS] == [
        "01_first_look",
        "02_duplicates",
        "03_masking",
        "04_quality",
    ]
