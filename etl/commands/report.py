"""``report``: duplicates and notebooks, in a terminal or as files for a schedule."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options
from etl.commands.groups import Group
from etl.errors import EtlError, NotebookError, UsageError
from etl.terminal import lines

if TYPE_CHECKING:
    from etl.report.build import Report

TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Group)
def report() -> None:
    """Report duplicates, or render notebooks as pages."""


@report.command(
    "duplicates",
    short_help="Report equal rows, shared values, repeats and linked users.",
    epilog="""\b
Examples:
  etl report duplicates
  etl report duplicates --by masked_device_id --exclude-shared 50
  etl report duplicates --since 2026-11-01 --html duplicates.html
""",
)
@options.config
@options.table
@click.option(
    "--by",
    metavar="COLUMN",
    help="Compare the values of this column.  [default: every masked column]",
)
@click.option(
    "--since",
    type=TIME,
    metavar="TIME",
    help="Use only rows at or after this time (UTC), such as 2026-01-31 or 2026-01-31T12:00:00.",
)
@click.option(
    "--until",
    type=TIME,
    metavar="TIME",
    help="Use only rows before this time (UTC), such as 2026-01-31 or 2026-01-31T12:00:00.",
)
@click.option(
    "--min-users",
    type=click.IntRange(min=2),
    metavar="N",
    default=2,
    show_default=True,
    help="Leave out values and groups with fewer than N users.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="N",
    default=20,
    show_default=True,
    help="Show at most N rows of each table, for each column.",
)
@click.option(
    "--exclude-shared",
    type=click.IntRange(min=2),
    metavar="N",
    help="Do not link users by a value that N or more of them share, such as the address of an "
    "office or a mobile network.  [default: every shared value links its users]",
)
@click.option(
    "--within",
    "within_seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Count a row as a repeat if it comes at most SECONDS after the same user's previous "
    "matching row.  [default: 60, or the same day if the table has only dates]",
)
@options.wide
@click.option("--html", type=FILE, help="Write one self-contained page.")
@click.option("--csv", type=FOLDER, help="Write a file for each table, and report.json.")
@click.option("--parquet", type=FOLDER, help="Write a file for each table; needs pyarrow.")
@click.option("--xlsx", type=FILE, help="Write a workbook; needs XlsxWriter.")
def report_duplicates(
    config_path: Path,
    table_name: str | None,
    by: str | None,
    since: datetime | None,
    until: datetime | None,
    min_users: int,
    top: int,
    exclude_shared: int | None,
    within_seconds: float | None,
    wide: bool,
    **files: Path | None,
) -> None:
    """Report duplicates: equal rows, shared values, repeats, and groups of linked users.

    Prints tables, or writes the files that you name. Needs no key, only the right to read the
    table. A message that SQS delivered twice is not a duplicate: it was loaded once.
    """
    settings = options.load_one_table(config_path, table_name)
    from etl.analysis.source import Source
    from etl.commands.signals import cancel_on_signals
    from etl.postgres.engine import open_engine
    from etl.report.build import Choice, build_report
    from etl.terminal.report_tables import print_report

    source = Source(open_engine(settings.database), settings).between(since, until)
    choice = Choice(by, min_users, top, exclude_shared, within_seconds)
    with cancel_on_signals(source.engine):
        duplicates = build_report(source, choice)
    paths = {file_format: path for file_format, path in files.items() if path}
    for file_format, path in paths.items():
        _write(file_format, duplicates, path)
    if not paths:
        print_report(duplicates, wide=wide)


def _writers() -> dict[str, Callable[[Report, Path], None]]:
    """The function that writes the file, by option."""
    from etl.report import files, html

    return {
        "html": html.write_page,
        "csv": files.write_csv,
        "parquet": files.write_parquet,
        "xlsx": files.write_workbook,
    }


def _in_one_step(write: Callable[[Report, Path], None], duplicates: Report, path: Path) -> None:
    """Leave the file of an earlier report as it is until the new one is complete."""
    path = path.resolve()  # a link stays
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(duplicates, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(file_format: str, duplicates: Report, path: Path) -> None:
    write = _writers()[file_format]
    try:
        if file_format in ("html", "xlsx") and (path.is_file() or not path.exists()):
            _in_one_step(write, duplicates, path)
        else:
            write(duplicates, path)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UsageError(f"cannot write {str(path)!r}: {why}") from None
    lines.say(f"wrote {path}")


@report.command(
    "notebook",
    epilog="""\b
Examples:
  etl report notebook notebooks/04_quality.ipynb
  etl report notebook notebooks/*.ipynb --folder reports
  etl report notebook notebooks/01_first_look.ipynb --table orders
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
@options.table
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Write the pages to this folder, each under the name of its notebook. The folder is made "
    "if it is missing.  [default: the working directory]",
)
@click.option("--code", is_flag=True, help="Show the code of the cells too.")
@click.option(
    "--cell-seconds",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    default=600,
    show_default=True,
    help="Fail when a cell runs for more than SECONDS.",
)
def report_notebook(
    config_path: Path,
    paths: tuple[Path, ...],
    table_name: str | None,
    folder: Path,
    code: bool,
    cell_seconds: int,
) -> None:
    """Run notebooks and write each as one self-contained page.

    Each notebook runs from top to bottom in a process of its own, which gets DATABASE_URL and no
    key. If a cell fails, no page is written for that notebook, the others are still rendered, and
    the exit code is 1.
    """
    from etl.analysis.opening import TABLE_VARIABLE
    from etl.report import notebook

    failures = []
    with notebook.home():
        # Absolute, because a notebook runs in its own folder.
        environment = {**os.environ, "ETL_CONFIG": str(config_path.absolute())}
        if table_name is not None:
            environment[TABLE_VARIABLE] = table_name
        for path in paths:
            try:
                result = notebook.run(path, environment, cell_seconds=cell_seconds)
            except NotebookError as error:
                failures.append(str(error))
                continue
            page = folder / f"{path.stem}.html"
            notebook.write(notebook.render(result, path.stem, code=code), page)
            lines.say(f"wrote {page}")
    if failures:
        raise EtlError("; ".join(failures))
