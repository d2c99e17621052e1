"""The types that a column can have: what each of them checks, converts to, and stores."""

from etl.fieldtypes.addresses import canonical_ip
from etl.fieldtypes.fieldtype import FieldType, Values
from etl.fieldtypes.numbers import MAX_DIGITS, exact, pack_version
from etl.fieldtypes.real import Real
from etl.fieldtypes.texts import encodes
from etl.fieldtypes.times import utc
from etl.fieldtypes.types import TYPES, field_type, needs_exact_numbers

__all__ = [
    "MAX_DIGITS",
    "TYPES",
    "FieldType",
    "Real",
    "Values",
    "canonical_ip",
    "encodes",
    "exact",
    "field_type",
    "needs_exact_numbers",
    "pack_version",
    "utc",
]
