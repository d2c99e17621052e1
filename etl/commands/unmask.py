"""``unmask``: recover plain values."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options, values

if TYPE_CHECKING:
    import pandas as pd

    from etl.config import Column, Settings
    from etl.operations.unmask import UnmaskRequest


@click.command(
    epilog="""\b
Examples:
  etl unmask k1.Zm9vYmFy... --column ip --reason "ticket 4711"
  etl unmask --reason "ticket 4711" < tokens.txt
  etl unmask --in masked.csv --out plain.csv --reason "ticket 4711"
  etl unmask --where "user_id = 'u1'" --out plain.csv --reason "ticket 4711"
"""
)
@options.config
@options.reason()
@click.argument("tokens", nargs=-1, metavar="[TOKEN]...")
@click.option(
    "--column",
    help="Recover this column only, named as in the table or as the field.  [default: every masked "
    "column]",
)
@click.option(
    "--in",
    "in_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Recover the tokens in this CSV file, whose columns are named as in the table or as the "
    "field.",
)
@click.option(
    "--where",
    "condition",
    metavar="CONDITION",
    help="Recover the rows of the table that meet this SQL condition, as CSV. The query is read "
    "only and has your rights in the database. Time limit: unmask.statement_seconds, default 30.",
)
@click.option(
    "--out",
    "out_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this new file instead of standard output; only its owner can read it.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Refuse to recover more than N tokens or rows.  [env var: ETL_UNMASK__MAX_ROWS; "
    "default: 1000]",
)
def unmask(
    config_path: Path,
    reason: str,
    tokens: tuple[str, ...],
    column: str | None,
    in_path: Path | None,
    condition: str | None,
    out_path: Path | None,
    limit: int | None,
) -> None:
    """Recover the plain values of tokens.

    The tokens are arguments, lines of standard input, the columns of a CSV file, or rows of the
    table. Either all values are shown or none. Before the first one, a row in etl.unmask_audit
    records who asked, when, why, for which columns and how many. If that row cannot be written,
    nothing is shown. Needs the keyring.
    """
    if sum((bool(tokens), in_path is not None, condition is not None)) > 1:
        raise click.UsageError("give one of TOKEN, --in and --where")
    settings = options.load_settings(config_path, {"unmask.max_rows": limit})
    from etl.operations.private_file import check_new_file
    from etl.operations.unmask import UnmaskRequest

    columns = _columns(settings, column)
    if out_path is not None:
        check_new_file(out_path)
    engine, keyring = options.open_with_keys(settings)
    request = UnmaskRequest(engine, keyring, reason, settings.unmask.max_rows)
    if in_path is not None:
        text = _csv(_from_file(in_path, columns, request))
    elif condition is not None:
        text = _csv(_from_table(settings, condition, columns, request))
    else:
        text = _lines(tokens, columns, request)
    _write(text, out_path)


def _columns(settings: Settings, name: str | None) -> list[Column]:
    """Return the masked column of this name, or all of them if there is no name."""
    from etl.schema import masked_column, masked_columns

    return masked_columns(settings.table) if name is None else [masked_column(settings.table, name)]


def _lines(tokens: tuple[str, ...], columns: list[Column], request: UnmaskRequest) -> str:
    from etl.operations.unmask import unmask_values

    return "".join(
        f"{value}\n" for value in unmask_values(values.read_tokens(tokens), columns, request)
    )


def _from_file(path: Path, columns: list[Column], request: UnmaskRequest) -> pd.DataFrame:
    from etl.errors import UsageError
    from etl.operations.unmask import read_csv, token_columns, unmask_frame

    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from None
    # Keeps the line ends as they are: a cell may hold some.
    lines = io.StringIO(values.decode(data, repr(str(path))), newline="")
    masked = read_csv(lines, request.max_rows)
    if masked.empty:
        raise UsageError(f"{str(path)!r} has no rows")
    found = token_columns(list(masked.columns), columns)
    return unmask_frame(masked, found, "file", request)


def _from_table(
    settings: Settings, condition: str, columns: list[Column], request: UnmaskRequest
) -> pd.DataFrame:
    from etl.operations.condition import rows_where
    from etl.operations.unmask import unmask_frame

    masked = rows_where(request.engine, settings.table, condition, settings.unmask)
    scope = f"rows of {settings.table.schema_name}.{settings.table.name}"
    return unmask_frame(masked, {column.name: column for column in columns}, scope, request)


def _csv(plain: pd.DataFrame) -> str:
    import csv

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(plain.columns)
    writer.writerows(plain.itertuples(index=False))
    return text.getvalue()


def _write(text: str, out_path: Path | None) -> None:
    from etl.operations.private_file import new_file
    from etl.terminal import output

    if out_path is None:
        click.echo(output.visible(text), nl=False)
        return
    with new_file(out_path) as file:
        file.write(text.encode())
    click.echo(f"wrote {out_path}", err=True)
