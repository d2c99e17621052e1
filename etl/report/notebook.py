"""Run notebooks from top to bottom and render each as one HTML page, for a schedule.

The libraries that this needs are optional: the job runs without them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from markupsafe import Markup

from etl import errors
from etl.errors import EtlError, NotebookError, UsageError
from etl.logs import visible
from etl.report.interrupts import run_until_signal
from etl.report.jinja import fill_template

# A notebook shows tokens, so its process gets neither the keys nor access to the queue.
WITHHELD = ("ETL_KEYRING", "AWS_")
MISSING = (
    "notebooks need nbclient, nbconvert, ipykernel and the plotting libraries: "
    "install the extra 'notebook' (in a checkout: pip install -r requirements-dev.txt)"
)
ROOT = Path(__file__).resolve().parents[2]


def run(path: Path, environment: Mapping[str, str], *, cell_seconds: int | None = None) -> Any:
    """Run a notebook from top to bottom in a process of its own; return it with its outputs.

    The file does not change. The process works in the file's folder and can import ``etl``.

    :param environment: passed to the process, except for the keys and the AWS variables
    :param cell_seconds: time limit of a cell
    :raises UsageError: the file is not a notebook, or a library or a folder for temporary files is
        missing
    :raises NotebookError: a cell failed
    :raises EtlError: SIGTERM or Ctrl-C
    """
    notebook = _without_outputs(_read(path))
    started: list[Any] = []
    with _temporary_folder() as folder:
        client = _client(notebook, path.parent, folder, cell_seconds, started)
        error = _execute(client, path, _environment(environment, folder), started)
    if error is not None:
        # Raised out here because the exception of nbclient quotes the cell and its output.
        raise error
    return notebook


@contextmanager
def home() -> Iterator[None]:
    """Give Jupyter a home while the block lasts, where the user has none, not even by name.

    :raises UsageError: no folder for temporary files can be written
    """
    try:
        Path.home()
    except RuntimeError:
        with _temporary_folder() as folder:
            os.environ["HOME"] = folder
            try:
                yield
            finally:
                del os.environ["HOME"]
    else:
        yield


@contextmanager
def _temporary_folder() -> Iterator[str]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="etl-notebook-")
    except OSError as error:
        raise UsageError(
            f"a notebook needs a folder for temporary files, and there is none: {error.strerror}; "
            "let TMPDIR name one that can be written"
        ) from None
    with folder as path:
        yield path


def render(notebook: Any, title: str, *, code: bool) -> str:
    """Render a notebook with its outputs as one page that loads nothing and runs no script.

    :param code: show the code of the cells too
    :raises UsageError: a library is missing
    """
    with _libraries():
        from nbconvert.exporters import HTMLExporter
    exporter = HTMLExporter(
        template_name="basic",  # the other templates bring scripts and fonts
        exclude_input=not code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    # A direction mark or an escape sequence in a value must not act on the page.
    body = visible(body, keep="\n\r\t\xa0")
    return fill_template(
        "notebook.html",
        title=title,
        body=Markup(body),  # noqa: S704  (made by nbconvert; the page's policy forbids scripts)
        finished_at=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
    )


def write(page: str, path: Path) -> None:
    """Write a page in one step: a reader always finds the old page or the new one.

    :raises UsageError: the file cannot be written
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from None


@contextmanager
def _libraries() -> Iterator[None]:
    """Tell the user what to install when an import fails."""
    try:
        yield
    except ImportError:
        raise UsageError(MISSING) from None


def _read(path: Path) -> Any:
    with _libraries():
        import nbformat
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        problem = error.strerror
    except Exception:  # noqa: BLE001  (nbformat raises many kinds, and they quote the file)
        problem = "not a notebook"
    raise UsageError(f"cannot read {str(path)!r}: {problem}")


def _without_outputs(notebook: Any) -> Any:
    """Remove stored outputs: a cell that is empty or skipped would keep its old one."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
    return notebook


def _client(
    notebook: Any, working_folder: Path, folder: str, cell_seconds: int | None, started: list[Any]
) -> Any:
    """Make the client that runs a notebook and adds each cell that it starts to *started*."""
    with _libraries():
        import nbclient
        from traitlets.config import Config
    return nbclient.NotebookClient(
        notebook,
        timeout=cell_seconds,
        kernel_name="python3",
        # Fail even where a cell's tags allow an error: the page would show its text.
        force_raise_errors=True,
        resources={"metadata": {"path": str(working_folder)}},
        on_cell_start=lambda cell, **_: started.append(cell),
        # Cells and outputs pass through sockets in a private folder, not through loopback ports.
        config=Config(
            KernelManager={"transport": "ipc", "connection_file": f"{folder}/kernel.json"}
        ),
    )


def _execute(
    client: Any, path: Path, environment: dict[str, str], started: list[Any]
) -> EtlError | None:
    """Run the client's notebook in place; return what went wrong."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellControlSignal, DeadKernelError

    try:
        # What the process itself prints, in a crash for example, may quote data.
        execution = client.async_execute(env=environment, stdout=DEVNULL, stderr=DEVNULL)
        interrupted = run_until_signal(execution)
    except (CellControlSignal, DeadKernelError) as error:
        return _failure(path, started, error)
    except NoSuchKernel:
        return UsageError(MISSING)
    if interrupted:
        return EtlError(f"{path.name!r} was interrupted; no page was written for it")
    return None


def _environment(given: Mapping[str, str], folder: str) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if not name.startswith(WITHHELD)}
    paths = [str(ROOT), *filter(None, [given.get("PYTHONPATH")])]
    # An empty profile: IPython runs no start-up file of the user and leaves no command history.
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "IPYTHONDIR": folder}


def _failure(path: Path, started: list[Any], error: Any) -> NotebookError:
    """Say which cell failed; quote the message only of our own errors, which carry no value."""
    number = sum(cell.cell_type == "code" for cell in started)
    place = f"{path.name!r}, code cell {number}:"
    kind = getattr(error, "ename", type(error).__name__)
    if isinstance(getattr(errors, kind, None), type):
        return NotebookError(f"{place} {error.evalue}")
    return NotebookError(
        f"{place} {kind} (message withheld, because it may quote data; run the notebook in Jupyter "
        "to see it)"
    )
