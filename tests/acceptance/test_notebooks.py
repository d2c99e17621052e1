"""Every notebook runs from top to bottom, through the command that renders them for a schedule.

Each is committed with its outputs, with nothing personal in it and no logic of its own. The
committed outputs come from a fresh demo. To renew them, set the variables that
``python -m etl demo --serve --week`` prints, and run::

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
from etl.errors import NotebookError, UsageError
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
    """The code cells of a notebook."""
    return [cell for cell in read.cells if cell.cell_type == "code"]


def outputs(read: Any) -> list[Any]:
    """The outputs of its cells."""
    return [output for cell in code_cells(read) for output in cell.outputs]


def pictures(read: Any) -> int:
    """The number of pictures among its outputs."""
    return sum("image/png" in output.get("data", {}) for output in outputs(read))


def without_pictures(text: str) -> str:
    """The text of a notebook or page; the base64 of a picture may spell anything by chance."""
    return re.sub(r'"image/png": "[^"]*"|data:image/png;base64,[^"]*', "", text)


@cache
def plain_values(sent: tuple[nights.Night, ...]) -> set[str]:
    """The addresses and device ids in the events of these nights, as they were sent."""
    values: set[Any] = set()
    for options in (options for night in sent for options in night):
        given = send.make_context("send", shlex.split(options)).params
        kinds = (given["bad_kind"],) if given["bad_kind"] else tuple(samples.BAD)
        for body in samples.bodies(
            given["sample"],
            given["seed"],
            bad_share=given["bad_share"],
            bad_kinds=kinds,
            rings=given["rings"],
        ):
            with contextlib.suppress(ValueError, RecursionError, AttributeError):
                event = json.loads(body)
                values |= {event.get("ip"), event.get("device_id")}
    return {value for value in values if isinstance(value, str)}


def leaks(text: str, sent: tuple[nights.Night, ...]) -> list[str]:
    """The plain values in a text."""
    return [value for value in plain_values(sent) if value in text]


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database with the logins of two nights."""
    url = postgres.new_database()
    nights.load({"DATABASE_URL": url, "ETL_KEYRING": KEYRING.dump()}, NIGHTS)
    yield url
    postgres.drop_database(url)


def start_report(folder: Path, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    """Start ``report notebook`` in another folder, as a scheduler would."""
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
    """Run ``report notebook`` and wait for it."""
    with start_report(folder, *arguments, **variables) as process:
        out, err = process.communicate(timeout=280)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture(scope="module")
def pages(database: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page of every notebook by its name, made from other data than the committed outputs."""
    folder = tmp_path_factory.mktemp("pages")
    done = report(folder, *NOTEBOOKS, "--folder", "new/folder", DATABASE_URL=database)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"wrote new/folder/{path.stem}.html" for path in NOTEBOOKS]
    assert sorted(folder.rglob("*.html")) == [
        folder / "new" / "folder" / f"{path.stem}.html" for path in NOTEBOOKS
    ]
    return {path.stem: path.read_text() for path in folder.rglob("*.html")}


@each_notebook
def test_a_notebook_runs_from_top_to_bottom(path: Path, pages: dict[str, str]) -> None:
    """The page has all its pictures, and no error or warning."""
    _, _, body = pages[path.stem].partition("<body>")
    assert body.count('src="data:image/png;base64,') == pictures(nbformat.read(path, as_version=4))
    assert "output_stderr" not in body


@each_notebook
def test_a_page_holds_no_plain_value_of_what_was_sent(path: Path, pages: dict[str, str]) -> None:
    assert leaks(without_pictures(pages[path.stem]), NIGHTS) == []


@each_notebook
def test_a_page_fetches_nothing_and_shows_no_code(path: Path, pages: dict[str, str]) -> None:
    """It has no script and no reference to anything outside, and its policy forbids both."""
    page = pages[path.stem]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert re.findall(r"(?i)<(?:script|link|iframe|object|embed)\b", page) == []
    assert re.findall(r"(?i)(?:src|url\()\s*=?\s*[\"']?(?!data:)\w+:", page) == []
    assert "sys.path.insert" not in page


def test_the_nights_are_of_the_days_before_today(database: str) -> None:
    """The plots over time need several days; a night that is there is not loaded again."""
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
    """Write a notebook of these code cells and an empty one with an output of an earlier run."""
    path = folder / "example.ipynb"
    old = nbformat.v4.new_output("stream", text="of an earlier run")
    metadata = {"tags": [tag] if tag else []}
    all_cells = [
        nbformat.v4.new_markdown_cell("# Example"),
        *(nbformat.v4.new_code_cell(cell, metadata=metadata) for cell in cells),
        nbformat.v4.new_code_cell("", outputs=[old]),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=all_cells), path)
    return path


def test_a_notebook_gets_neither_key_nor_queue_and_can_use_the_package(tmp_path: Path) -> None:
    """The page shows its warnings, and its code because of --code."""
    names = "import os, etl.errors\nprint(*(n for n in os.environ if n[:4] in ('ETL_', 'AWS_')))"
    values = "os.environ['DATABASE_URL'], '<script>1</script>'"
    example = write_notebook(tmp_path, names, values, "import sys; sys.stderr.write('look')")
    done = report(tmp_path, example, "--code", DATABASE_URL="kept", ETL_TABLE__NAME="other")
    assert done.returncode == 0, done.stderr
    _, _, page = (tmp_path / "example.html").read_text().partition("<body>")
    printed = re.search(r"output_stdout.*?<pre>(.*?)</pre>", page, re.DOTALL)
    assert printed is not None
    assert sorted(printed[1].split()) == ["ETL_CONFIG", "ETL_TABLE__NAME"]
    assert "kept" in page
    assert "output_stderr" in page
    assert "of an earlier run" not in page
    assert "<script" not in page
    assert "os.environ" in re.sub("<[^>]+>", "", page)


def test_the_title_of_a_page_is_escaped(tmp_path: Path) -> None:
    """It is the name of the notebook's file."""
    read = nbformat.read(write_notebook(tmp_path, "1 + 1"), as_version=4)
    page = notebook.render(read, "<script>1</script>", code=False)
    assert "<title>&lt;script&gt;1&lt;/script&gt;</title>" in page


def test_the_error_of_a_cell_is_named_and_its_message_is_not_shown(tmp_path: Path) -> None:
    """No page is written, whatever the tags of the cell allow, and the old page stays."""
    failing = "print('198.51.100.7')\nint('198.51.100.7')"
    example = write_notebook(tmp_path, "1", failing, tag="raises-exception")
    (tmp_path / "example.html").write_text("yesterday's")
    done = report(tmp_path, example)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: 'example.ipynb', code cell 2: ValueError (message withheld, "
    )
    assert "198.51" not in done.stdout + done.stderr
    assert (tmp_path / "example.html").read_text() == "yesterday's"
    assert {path.name for path in tmp_path.iterdir()} >= {"example.ipynb", "example.html"}
    assert not list(tmp_path.glob(".example*"))


def test_without_a_database_it_says_what_to_do_and_goes_on(tmp_path: Path) -> None:
    """The message of our own error is shown, and the other notebook is still rendered."""
    done = report(tmp_path, FOLDER / "04_quality.ipynb", write_notebook(tmp_path, "1 + 1"))
    assert done.returncode == 1
    wrote, error = done.stderr.splitlines()
    assert wrote == "wrote example.html"
    assert error.startswith("error: '04_quality.ipynb', code cell ")
    assert "DATABASE_URL is not set" in error


@pytest.mark.parametrize(
    ("cell", "kind"),
    [("while True: pass", "CellTimeoutError"), ("import os; os._exit(1)", "DeadKernelError")],
)
def test_a_notebook_that_hangs_or_dies_is_an_error_that_names_the_cell(
    tmp_path: Path, cell: str, kind: str
) -> None:
    example = write_notebook(tmp_path, cell)
    with pytest.raises(NotebookError, match=rf"^'example.ipynb', code cell 1: {kind} \(message"):
        notebook.run(example, {"PATH": "/usr/bin:/bin"}, cell_seconds=3)


def test_sigterm_ends_the_command_and_the_notebook(tmp_path: Path) -> None:
    """No page, traceback or process is left behind, and the next notebook does not start."""
    example = write_notebook(
        tmp_path,
        "import os, pathlib, time\npathlib.Path('made').write_text(str(os.getpid()))\n"
        "pathlib.Path('made').rename('pid')\ntime.sleep(600)",
    )
    with start_report(tmp_path, example, FOLDER / "03_masking.ipynb") as process:
        until((tmp_path / "pid").exists)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == "error: 'example.ipynb' was interrupted; no page was written for it\n"
    assert list(tmp_path.glob("*.html")) == []
    until(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())))


def test_a_file_that_is_not_a_notebook_is_a_usage_error(tmp_path: Path) -> None:
    """The error quotes nothing from the file."""
    other = tmp_path / "other.ipynb"
    other.write_text('{"ip": "198.51.100.7"}')
    with pytest.raises(UsageError, match=r"other.ipynb': not a notebook$"):
        notebook.run(other, {})


def test_the_error_about_missing_libraries_says_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are optional, because the job does not need them."""
    for name in ("nbclient", "nbconvert.exporters"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UsageError, match=r"the extra 'notebook' .*pip install -r requirements-dev\.txt\)$"
    ):
        notebook.run(NOTEBOOKS[0], {})
    with pytest.raises(
        UsageError, match=r"the extra 'notebook' .*pip install -r requirements-dev\.txt\)$"
    ):
        notebook.render(None, "", code=False)


def test_a_page_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    """Here its folder is a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        notebook.write("page", tmp_path / "file" / "page.html")


@each_notebook
def test_a_committed_notebook_ran_from_top_to_bottom(path: Path) -> None:
    """Execution counts go 1, 2, 3; there are pictures, and no error or warning."""
    read = nbformat.read(path, as_version=4)
    cells = code_cells(read)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert pictures(read) >= 3
    streams = {output.get("name", output.output_type) for output in outputs(read)}
    assert streams <= {"display_data", "execute_result", "stdout"}


@each_notebook
def test_a_committed_notebook_names_no_machine(path: Path) -> None:
    """Outputs, sources and metadata hold no absolute path and no address of a database."""
    text = without_pictures(path.read_text(encoding="utf-8"))
    # An absolute path starts with a folder of the system, and no letter or dot comes before it.
    found = re.findall(r"(?<![\w.<])/(?:home|Users|root|tmp|usr|var|opt|work|mnt)/\S*", text)
    assert found == []
    assert re.findall(r"\w+://\S*@\S*", text) == []


@each_notebook
def test_a_committed_notebook_holds_no_plain_value(path: Path) -> None:
    """The values looked for are those of the demo's sample events."""
    assert leaks(without_pictures(path.read_text(encoding="utf-8")), DEMO) == []


LOGIC = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.For,
    ast.While,
    ast.If,
    ast.IfExp,
    ast.Try,
    ast.With,
    ast.comprehension,
)


@each_notebook
def test_a_notebook_has_no_logic_of_its_own(path: Path) -> None:
    """Its cells query, show and draw; everything else is in etl, where it is tested."""
    source = "\n".join(cell.source for cell in code_cells(nbformat.read(path, as_version=4)))
    found = [type(node).__name__ for node in ast.walk(ast.parse(source)) if isinstance(node, LOGIC)]
    assert found == []


def test_a_leak_would_be_found() -> None:
    """The search knows the values that were sent, and finds one in a text."""
    values = plain_values(NIGHTS)
    assert len(values) > 500
    some = sorted(values)[100]
    assert leaks(f"<td>{some}</td>", NIGHTS) == [some]


def test_there_are_notebooks() -> None:
    """The tests above would pass on an empty folder."""
    assert [path.stem for path in NOTEBOOKS] == [
        "01_first_look",
        "02_duplicates",
        "03_masking",
        "04_quality",
    ]
