"""Notebooks, run from top to bottom and rendered as one page of HTML, for a schedule.

The libraries for it are an extra: the job needs none of them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from subprocess import DEVNULL
from typing import Any

from etl import errors
from etl.errors import EtlError, NotebookError, SettingsError

# A notebook shows tokens, so its process gets no key, and no way to the queue.
WITHHELD = ("ETL_KEYRING", "AWS_")
MISSING = (
    "notebooks need nbclient, nbconvert, ipykernel and what they draw with: "
    "pip install -r requirements-dev.txt"
)
ROOT = Path(__file__).resolve().parents[2]


def run(path: Path, environment: Mapping[str, str], *, cell_seconds: int | None = None) -> Any:
    """Run a notebook from top to bottom in a process of its own; answers it with its outputs.

    The file stays as it is. The process works in the file's folder, and can import ``etl``.

    :param environment: what the process gets, but for the keys and the queue
    :param cell_seconds: the most that a cell may take
    :raises SettingsError: the file is no notebook, or a library is missing
    :raises NotebookError: a cell failed
    :raises EtlError: SIGTERM or Ctrl-C
    """
    with _extra():
        import nbclient
        from jupyter_client.kernelspec import NoSuchKernel
        from nbclient.exceptions import CellControlSignal, DeadKernelError
        from traitlets.config import Config
    notebook = _without_outputs(_read(path))
    failed: EtlError
    begun: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="etl-notebook-") as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=cell_seconds,
            kernel_name="python3",
            force_raise_errors=True,  # also where a cell's tags allow them: they would be shown
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_start=lambda cell, **_: begun.append(cell),
            # What goes to and fro stays in a private folder; by default it is open on loopback.
            config=Config(
                KernelManager={"transport": "ipc", "connection_file": f"{folder}/kernel.json"}
            ),
        )
        try:
            # What it says past the notebook, or crashing, may quote data.
            client.execute(env=_environment(environment, folder), stdout=DEVNULL, stderr=DEVNULL)
        except (CellControlSignal, DeadKernelError) as error:
            failed = _failure(path, begun, error)
        except NoSuchKernel:
            failed = SettingsError(MISSING)
        except AssertionError:
            # nbclient ends the process on SIGTERM and SIGINT, and then misses it.
            failed = EtlError(f"{path.name!r} was interrupted; no page was made of it")
        else:
            return notebook
    # Here and not in the handler: the exception quotes the cell and what it said.
    raise failed


def html(notebook: Any, title: str, *, code: bool) -> str:
    """Render a notebook with its outputs as one page that fetches nothing and runs no script.

    :param code: show the cells' code too
    :raises SettingsError: a library is missing
    """
    with _extra():
        from nbconvert.exporters import HTMLExporter
    exporter = HTMLExporter(
        template_name="basic",  # without the scripts and fonts of the others
        exclude_input=not code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    frame = (
        resources.files("etl")
        .joinpath("report/templates/notebook.html")
        .read_text(encoding="utf-8")
    )
    ran_at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    return Template(frame).substitute(title=escape(title), body=body, ran_at=ran_at)


def write(page: str, path: Path) -> None:
    """Write a page; who reads the file meanwhile finds the old one or the new one, never half.

    :raises SettingsError: it cannot be written
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise SettingsError(f"cannot write {str(path)!r}: {error.strerror}") from None


@contextmanager
def _extra() -> Iterator[None]:
    """Say what is missing where the libraries are not installed."""
    try:
        yield
    except ImportError:
        raise SettingsError(MISSING) from None


def _read(path: Path) -> Any:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        problem = error.strerror
    except Exception:  # noqa: BLE001  (whatever its parsers raise, and it quotes the file)
        problem = "not a notebook"
    raise SettingsError(f"cannot read {str(path)!r}: {problem}")


def _without_outputs(notebook: Any) -> Any:
    """Drop what cells said before, for those that are empty or skipped are not run."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _environment(given: Mapping[str, str], folder: str) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if not name.startswith(WITHHELD)}
    paths = [str(ROOT), *filter(None, [given.get("PYTHONPATH")])]
    # A profile of its own: no start-up files, and no history of commands left behind.
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "IPYTHONDIR": folder}


def _failure(path: Path, begun: list[Any], error: Any) -> NotebookError:
    """Say which cell failed, and how; in the error's own words only where they are ours."""
    number = sum(cell.cell_type == "code" for cell in begun)
    where = f"{path.name!r}, code cell {number}:"
    kind = getattr(error, "ename", type(error).__name__)
    # Our errors never carry a value from an event. Others do, so that only the kind is told.
    if isinstance(getattr(errors, kind, None), type):
        return NotebookError(f"{where} {error.evalue}")
    return NotebookError(f"{where} {kind}; what it says may quote data, so look in Jupyter")
