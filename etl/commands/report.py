"""``report``: what analysts look at, for a schedule or a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options
from etl.commands.groups import Group
from etl.errors import EtlError, NotebookError, SettingsError

if TYPE_CHECKING:
    from etl.report.build import Report

TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Group)
def report() -> None:
    """Report duplicates; make pages of notebooks."""


@report.command(
    "duplicates",
    epilog="""\b
Examples:
  python -m etl report duplicates
  python -m etl report duplicates --by masked_device_id --min-users 3 --exclude-shared 50
  python -m etl report duplicates --since 2026-11-01 --until 2026-12-01 --html duplicates.html
""",
)
@options.config
@click.option("--by", metavar="COLUMN", help="Go by this column; by default by each masked one.")
@click.option("--since", type=TIME, metavar="TIME", help="Rows of this time (UTC) or later only.")
@click.option("--until", type=TIME, metavar="TIME", help="Rows before this time (UTC) only.")
@click.option("--min-users", type=click.IntRange(min=2), default=2, show_default=True,
              help="Leave out values and groups of fewer users.")  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True,
              help="Show so many rows of each table, of each column.")  # fmt: skip
@click.option("--exclude-shared", type=click.IntRange(min=2), metavar="N",
              help="A value that N users or more share ties nobody: an office, a mobile network. "
              "By default every value ties.")  # fmt: skip
@click.option("--within", "within_seconds", type=click.FloatRange(min=0), metavar="SECONDS",
              help="Longest pause between two repeats of a login.  [default: 60, or the same day "
              "where the table knows only dates]")  # fmt: skip
@click.option("--html", type=FILE, help="Write one self-contained page.")
@click.option("--csv", type=FOLDER, help="Write a file for each table, and report.json.")
@click.option("--parquet", type=FOLDER, help="Write a file for each table; needs pyarrow.")
@click.option("--xlsx", type=FILE, help="Write a workbook; needs XlsxWriter.")
def report_duplicates(
    config_path: Path,
    by: str | None,
    since: datetime | None,
    until: datetime | None,
    min_users: int,
    top: int,
    exclude_shared: int | None,
    within_seconds: float | None,
    **files: Path | None,
) -> None:
    """Report duplicates: equal rows, shared values, repeats, and groups of linked users.

    Needs no key, and no right but to read the table. Redeliveries are not among the duplicates:
    those never become rows. Prints tables, or writes the files that are named.
    """
    settings = options.load_settings(config_path)
    from etl.analysis.source import Source
    from etl.postgres.engine import open_engine
    from etl.report.build import Choice, build_report
    from etl.report.files import WRITERS
    from etl.terminal import output

    source = Source(open_engine(settings.database), settings).between(since, until)
    choice = Choice(by, min_users, top, exclude_shared, within_seconds)
    made = build_report(source, choice)
    wanted = {kind: path for kind, path in files.items() if path}
    for kind, path in wanted.items():
        _write(WRITERS[kind], made, path)
    if not wanted:
        output.report(made)


def _write(write: Callable[[Report, Path], None], made: Report, path: Path) -> None:
    try:
        write(made, path)
    except OSError as error:
        raise SettingsError(f"cannot write {str(path)!r}: {error.strerror}") from None
    click.echo(f"wrote {path}", err=True)


@report.command(
    "notebook",
    epilog="""\b
Examples:
  python -m etl report notebook notebooks/04_quality.ipynb
  python -m etl report notebook notebooks/*.ipynb --folder reports
""",
)
@options.config
@click.argument(
    "paths",
    metavar="NOTEBOOK...",
    nargs=-1,
    required=True,
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Write the pages there, each under the name of its notebook; made if absent.  "
    "[default: the working directory]",
)
@click.option("--code", is_flag=True, help="Show the code of the cells too.")
@click.option(
    "--cell-seconds",
    type=click.IntRange(min=1),
    default=600,
    show_default=True,
    help="Give up when a cell takes longer than so many seconds.",
)
def report_notebook(
    config_path: Path, paths: tuple[Path, ...], folder: Path, code: bool, cell_seconds: int
) -> None:
    """Run notebooks and write each as one self-contained HTML page, for a schedule.

    They run from top to bottom in a process of their own, which gets DATABASE_URL and no key. When
    a cell fails no page is written, the others are, and the exit code is 1.
    """
    from etl.report import notebook

    # Absolute, for a notebook runs in its own folder.
    environment = {**os.environ, "ETL_CONFIG": str(config_path.absolute())}
    failed = []
    for path in paths:
        try:
            done = notebook.run(path, environment, cell_seconds=cell_seconds)
        except NotebookError as error:
            failed.append(str(error))
            continue
        page = folder / f"{path.stem}.html"
        notebook.write(notebook.html(done, path.stem, code=code), page)
        click.echo(f"wrote {page}", err=True)
    if failed:
        raise EtlError("; ".join(failed))
