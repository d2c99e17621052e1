"""The duplicate report in a terminal."""

from __future__ import annotations

from rich.text import Text

from etl.logs import visible
from etl.report.build import Report
from etl.terminal import output

# The sections that are printed. The others are for the charts of the page and for further work.
SECTIONS = (
    "columns",
    "exact_rows",
    "shared_values",
    "users_with_many",
    "repeats",
    "groups",
    "ties",
)
MAX_PRINTED_TIES = 3  # of each group


def print_report(report: Report, *, wide: bool = False) -> None:
    """Print the headline, the notes and the tables of a report.

    :param wide: print tables in full, however wide they are
    """
    console = output.console()
    place = f" in {visible(report.table)}, {report.time:%Y-%m-%d %H:%M:%S} UTC"
    console.print(Text.assemble(("duplicates", "bold"), place))
    console.print(
        f"  rows {report.rows:,}, users {report.users:,}, surplus rows {report.surplus_rows:,}"
    )
    for note in report.notes:
        console.print(Text(f"  {visible(note)}"))
    printed = []
    for name in SECTIONS:
        section = report.sections[name]
        rows = section.frame
        if name == "ties":
            rows = rows.groupby("group").head(MAX_PRINTED_TIES)
        printed.append(output.frame(rows, section.title.lower(), wide=wide))
    output.say_what_is_missing(printed)
