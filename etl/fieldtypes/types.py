"""Every type by its name in the configuration."""

from __future__ import annotations

from collections.abc import Callable

from etl.fieldtypes import addresses, json_values, numbers, texts, times
from etl.fieldtypes.arrays import array_of
from etl.fieldtypes.fieldtype import FieldType, TypeSettings
from etl.fieldtypes.real import Real

TYPES: dict[str, Callable[[TypeSettings], FieldType]] = {
    "text": texts.text,
    "ip": addresses.ip,
    "version": numbers.version,
    "smallint": numbers.smallint,
    "integer": numbers.integer,
    "bigint": numbers.bigint,
    "number": numbers.number,
    "decimal": numbers.decimal,
    "boolean": numbers.boolean,
    "date": times.date,
    "time": times.time,
    "timestamp": times.timestamp,
    "datetime": times.datetime,
    "uuid": texts.uuid,
    "bytes": texts.base64_bytes,
    "json": json_values.json,
}


def field_type(column: TypeSettings) -> FieldType:
    """The type of a column, with its settings."""
    kind = TYPES[column.type](column)
    return array_of(kind, column) if column.array else kind


def needs_exact_numbers(column: TypeSettings) -> bool:
    """Whether the column needs the text of a number, and not only the nearest double."""
    return Real in TYPES[column.type](column).python or "whole_float" in column.accept
