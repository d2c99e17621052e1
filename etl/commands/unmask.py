"""``unmask``: recover plain values."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl.commands import options, values
from etl.commands.groups import ValueCommand
from etl.logs import to_json, visible
from etl.terminal import lines

if TYPE_CHECKING:
    import pandas as pd

    from etl.config import Column, Settings
    from etl.operations.unmask import UnmaskRequest


@click.command(
    cls=ValueCommand,
    epilog="""\b
Examples:
  etl unmask k1.Zm9vYmFy... --column ip --reason "ticket 4711"
  etl unmask --reason "ticket 4711" < tokens.txt
  etl unmask --in masked.csv --out plain.csv --reason "ticket 4711"
  etl unmask --where "user_id = 'u1'" --out plain.csv --reason "ticket 4711"
""",
)
@options.config
@options.reason()
@options.table
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
    "field. Cells are separated by commas, semicolons or tabs; the output has commas.",
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
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON lines with the exact text: of each token with its value, or of each row.",
)
def unmask(
    config_path: Path,
    reason: str,
    table_name: str | None,
    tokens: tuple[str, ...],
    column: str | None,
    in_path: Path | None,
    condition: str | None,
    out_path: Path | None,
    limit: int | None,
    as_json: bool,
) -> None:
    r"""Recover the plain values of tokens.

    The tokens are arguments, lines of standard input, the columns of a CSV file, or rows of the
    table. Either all values are shown or none. Before the first one, a row in etl.unmask_audit
    records who asked, when, why, for which columns and how many. If that row cannot be written,
    nothing is shown. Needs the keyring.

    Each value or row is one line: line breaks and other characters that cannot be seen are escapes
    such as \n. The exact text is in the output of --json, and for rows in the file of --out.
    """
    if sum((bool(tokens), in_path is not None, condition is not None)) > 1:
        raise click.UsageError("give one of TOKEN, --in and --where")
    settings = options.load_one_table(config_path, table_name, {"unmask.max_rows": limit})
    from etl.operations.private_file import check_new_file
    from etl.operations.unmask import UnmaskRequest, unmask_values

    columns = _columns(settings, column)
    if out_path is not None:
        check_new_file(out_path)
    given = values.read_tokens(tokens) if in_path is None and condition is None else []
    engine, keyring = options.open_with_keys(settings)
    request = UnmaskRequest(engine, keyring, reason, settings.unmask.max_rows)
    exact = out_path is not None
    if in_path is not None:
        plain = _from_file(in_path, columns, request)
        written = _table(plain, as_json=as_json, exact=exact)
    elif condition is not None:
        plain = _from_table(settings, condition, columns, request)
        written = _table(plain, as_json=as_json, exact=exact)
    else:
        written = _lines(given, unmask_values(given, columns, request), as_json=as_json)
    _write(written, out_path)


def _columns(settings: Settings, name: str | None) -> list[Column]:
    """Return the masked column of this name, or all that can be recovered if there is no name."""
    from etl.errors import UsageError
    from etl.schema import masked_column, recoverable_columns

    if name is None:
        return recoverable_columns(settings.table)
    column = masked_column(settings.table, name)
    if column.is_one_way:
        raise UsageError(
            f"column {column.name!r} has one-way tokens ('mask: hmac'), from which nothing "
            "recovers the values"
        )
    return [column]


def _from_file(path: Path, columns: list[Column], request: UnmaskRequest) -> pd.DataFrame:
    from etl.errors import UsageError
    from etl.operations.csv_table import read_csv, token_columns
    from etl.operations.spellings import innermost
    from etl.operations.unmask import unmask_frame

    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from None
    masked = read_csv(values.decode(data, repr(str(path))), columns, request.max_rows)
    found = token_columns(list(masked.columns), columns)
    if masked.empty:
        raise UsageError(f"{str(path)!r} has no rows")
    for name in found:
        # As read_tokens does it: a spreadsheet puts spaces and quotes around a token.
        masked[name] = masked[name].map(innermost, na_action="ignore")
    return unmask_frame(masked, found, "file", request)


def _from_table(
    settings: Settings, condition: str, columns: list[Column], request: UnmaskRequest
) -> pd.DataFrame:
    from etl.operations.condition import rows_where
    from etl.operations.unmask import unmask_frame

    masked = rows_where(request.engine, settings.table, condition, settings.unmask)
    scope = f"rows of {settings.table.schema_name}.{settings.table.name}"
    return unmask_frame(masked, {column.name: column for column in columns}, scope, request)


def _lines(tokens: list[str], plain: list[str], *, as_json: bool) -> Iterator[str]:
    """Write one line for each token, whatever its value holds."""
    for token, value in zip(tokens, plain, strict=True):
        yield to_json({"token": token, "value": value}) if as_json else visible(value)


def _table(plain: pd.DataFrame, *, as_json: bool, exact: bool) -> Iterator[str]:
    """Write a frame as JSON lines, or as lines of CSV, with the cells' exact text if asked for."""
    import csv

    if as_json:
        for row in plain.astype(object).where(plain.notna(), None).to_dict(orient="records"):
            yield to_json({str(name): value for name, value in row.items()})
        return
    rows: list[list[Any]] = [list(plain.columns), *map(list, plain.itertuples(index=False))]
    for values_of_row in rows:
        line = [to_json(cell) if isinstance(cell, list) else cell for cell in values_of_row]
        cells = line if exact else [None if cell is None else visible(str(cell)) for cell in line]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        yield text.getvalue().removesuffix("\n")


def _write(written: Iterable[str], out_path: Path | None) -> None:
    from etl.operations.private_file import new_file

    if out_path is None:
        for text in written:
            lines.line(text)
        return
    with new_file(out_path) as file:
        file.writelines(f"{text}\n".encode() for text in written)
    lines.say(f"wrote {out_path}")
