"""A draft as the two files that a person goes on with: config.yaml with comments, and table.sql."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from etl.config import Settings
from etl.operations.draft import Draft, DraftColumn
from etl.schema import target_table
from etl.text import counted

WIDTH = 80
_INDENT = "    "
_LAST = ("nullable", "required", "mask")

_HEAD = """\
# A draft, made from {events} by etl draft. It holds no value of them.
#
# 1. Read every column: what is personal and has no `mask: true` is stored in
#    plain.
# 2. Try it: etl check-config --config FILE --sample SAMPLE
# 3. Set ETL_QUEUE__URL, DATABASE_URL and a keyring, and look at the queue:
#    etl run --dry-run
#
# What else can be set: etl config show
"""


def config_text(draft: Draft) -> str:
    """The configuration as YAML, with what is known and doubtful of each column as comments."""
    lines = _HEAD.format(events=counted(draft.events, "event")).splitlines()
    for reason, count in draft.unread.items():
        lines += _comment(f"{count:,} of {draft.messages:,} messages failed {reason}", indent="")
    lines.append("")
    for section, settings in draft.reading.items():
        lines += [f"{section}:", *(f"  {key}: {_scalar(v)}" for key, v in settings.items()), ""]
    lines += ["table:", "  schema: public", f"  name: {_scalar(draft.table)}", "  columns:"]
    for column in draft.columns:
        lines += [*_comments(column), f"{_INDENT}- {{{_members(column.spec)}}}"]
    if draft.left_out:
        lines += ["", f"{_INDENT}# Left out:"]
        for path, reason in draft.left_out:
            lines += _comment(f"{path}: {reason}", "  ")
    return "\n".join(lines) + "\n"


def table_text(draft: Draft) -> str:
    """The statement that creates the table as ``etl init`` does."""
    table = target_table(Settings.model_validate(draft.settings).table)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    statement = str(CreateTable(table).compile(dialect=dialect)).strip()
    body = "\n".join(line.rstrip().replace("\t", "  ") for line in statement.splitlines())
    return f"-- What etl init creates for the config.yaml beside this file.\n{body};\n"


def _comments(column: DraftColumn) -> Iterator[str]:
    yield from _comment(column.seen)
    if column.personal:
        yield from _comment(f"personal: {column.personal}")
    if column.doubt:
        yield from _comment(f"doubtful: {column.doubt}")


def _comment(text: str, more: str = "", indent: str = _INDENT) -> Iterator[str]:
    first = f"{indent}# {more}"
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=f"{first}  ", break_long_words=False
    )


def _members(spec: dict[str, Any]) -> str:
    """The keys of a column, in the order in which a person reads them."""
    keys = sorted(spec, key=lambda key: _LAST.index(key) + 1 if key in _LAST else 0)
    return ", ".join(f"{key}: {_scalar(spec[key])}" for key in keys)


def _scalar(value: Any) -> str:
    """A value in YAML's flow style."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_scalar(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if value.replace("_", "a").isalnum() and value.isascii() and value[0].isalpha():
        return str(value)
    return _quoted(value)


def _quoted(text: str) -> str:
    """A scalar in double quotes (YAML 1.2.2, section 7.3.1)."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
