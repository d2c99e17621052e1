"""What becomes of a value, by docs/columns.md alone: what test_any_column.py compares with.

It shares no code with the reading, the types, the checks and the masks of the program, and takes a
column as its settings are written in the configuration.
"""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import ipaddress
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from Crypto.Hash import SHA512
from Crypto.Protocol.KDF import HKDF
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

Config = Mapping[str, Any]  # a column, as the configuration has it
Reasons = set[tuple[str, str]]  # source and check

UTC = dt.UTC
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
LIMITS = {"smallint": 15, "integer": 31, "bigint": 63}
NUMERIC = {*LIMITS, "number", "decimal"}
UNITS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
DIGITS = 1_000  # of a decimal without a precision, on each side of the point
LONGEST_KEY_ID = 16


@dataclass(frozen=True)
class Number:
    """A number as the event writes it."""

    text: str

    @property
    def is_whole(self) -> bool:
        """Whether it is written without a point and an exponent."""
        return re.fullmatch("-?[0-9]+", self.text) is not None

    @property
    def value(self) -> Decimal:
        """All of its digits."""
        return Decimal(self.text)

    @property
    def digits_before(self) -> int:
        """How many digits it has before the point; 0 or less if it is less than 1."""
        return self.value.adjusted() + 1 if self.value else 0

    @property
    def digits_after(self) -> int:
        """How many digits it has after the point, without zeros at the end."""
        _, digits, exponent = self.value.as_tuple()
        kept = "".join(map(str, digits)).rstrip("0")
        return max(0, -(int(exponent) + len(digits) - len(kept))) if kept else 0


class Absent:
    """There is no value."""


ABSENT = Absent()


class TwoValuesError(Exception):
    """The names of a field have different values."""


@dataclass(frozen=True)
class Sent:
    """A message as it was sent, and what SQS knows of it."""

    event: str
    attributes: Mapping[str, Any]  # as SQS gives them: {name: {"DataType": …, "StringValue": …}}
    of_sqs: Mapping[str, str]
    message_id: str
    run_id: str


@dataclass
class Expected:
    """What becomes of one event: its plain values by column, or why it is refused."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: Reasons = field(default_factory=set)


def expected(columns: Sequence[Config], batch: Sequence[Sent]) -> list[Expected]:
    """What becomes of each event of a batch."""
    outcomes = [_outcome(columns, sent) for sent in batch]
    for column in columns:
        if column.get("unique") and "unique" not in column.get("warn", ()):
            seen: list[Any] = []
            for outcome in outcomes:
                value = outcome.values.get(column["name"])
                if outcome.reasons or value is None:
                    continue
                if value in seen:
                    outcome.reasons.add((source_of(column), "unique"))
                seen.append(value)
    return outcomes


def _outcome(columns: Sequence[Config], sent: Sent) -> Expected:
    found = Expected()
    read: dict[str, Any] = {}
    event = decoded(sent.event)
    for column in columns:
        try:
            read[column["name"]] = _sent_value(column, event, sent)
        except TwoValuesError:
            return Expected(reasons={(source_of(column), "two values")})
    for column in columns:
        value = read[column["name"]]
        if column["type"] == "json" and "field" in column:
            value = _without_hidden(columns, column, value)
        value = as_read(column, value)
        refusals = refused_by_type(column, value)
        found.reasons |= {(source_of(column), check) for check in refusals}
        if not refusals:
            found.values[column["name"]] = plain_value(column, value)
    # The checks of the configuration are about events whose values could be read.
    if not found.reasons:
        for column in columns:
            broken = set(broken_checks(column, found.values[column["name"]]))
            broken -= set(column.get("warn", ()))
            found.reasons |= {(source_of(column), check) for check in broken}
    return found


# Where a value comes from


def decoded(text: str) -> Any:
    """A JSON text, with its numbers as they are written."""
    return json.loads(text, parse_int=Number, parse_float=Number)


def source_of(column: Config) -> str:
    """The name of a column's source in the quarantine."""
    if "field" in column:
        return str(names_of(column)[0])
    for key in ("message_attribute", "attribute", "metadata"):
        if key in column:
            name = column[key]
            is_alone = name in ("SentTimestamp", "message_id")
            return name if is_alone else f"{key.replace('_', ' ')} {name}"
    return f"constant {column['name']}"


def names_of(column: Config) -> list[str]:
    """The paths of a column's field."""
    names = column.get("field", [])
    return [names] if isinstance(names, str) else list(names)


def steps_of(path: str) -> list[str | int]:
    """The names and positions of a path."""
    if path == "$":
        return []
    found = re.findall(r'"(?:[^"\\]|\\.)*"|\[[0-9]+\]|[^.\[\]"]+', path)
    return [
        int(step[1:-1]) if step[0] == "[" else json.loads(step) if step[0] == '"' else step
        for step in found
    ]


def _at(event: Any, path: str) -> Any:
    for step in steps_of(path):
        if isinstance(step, int):
            if not isinstance(event, list) or step >= len(event):
                return ABSENT
        elif not isinstance(event, dict) or step not in event:
            return ABSENT
        event = event[step]
    return event


def _same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same; 1, 1.0 and true are three values."""
    if isinstance(one, Number) and isinstance(other, Number):
        return one.is_whole == other.is_whole and one.value == other.value
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same_json(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same_json, one, other))
    return bool(one == other)


def _sent_value(column: Config, event: Any, sent: Sent) -> Any:
    if "field" in column:
        present = [v for name in names_of(column) if (v := _at(event, name)) is not ABSENT]
        values = [value for value in present if value is not None]
        if not all(_same_json(values[0], value) for value in values):
            raise TwoValuesError
        return values[0] if values else None if present else ABSENT
    if "constant" in column:
        return _written(column, column["constant"])
    if "message_attribute" in column:
        return _attribute(sent.attributes.get(column["message_attribute"]))
    if "attribute" in column:
        text = sent.of_sqs.get(column["attribute"], ABSENT)
        is_time = column["attribute"] == "SentTimestamp" and text is not ABSENT
        return EPOCH + dt.timedelta(milliseconds=int(text)) if is_time else text
    of_run = {"message_id": sent.message_id, "run_id": sent.run_id, "loaded_at": EPOCH}
    return of_run[column["metadata"]]


def _attribute(given: Any) -> Any:
    """Text, an integer if its type is Number and it is one, or base64 if it is Binary."""
    if given is None:
        return ABSENT
    if given["DataType"] == "Binary":
        return base64.b64encode(given["BinaryValue"]).decode()
    text = given["StringValue"]
    is_whole = given["DataType"] == "Number" and re.fullmatch("-?(0|[1-9][0-9]*)", text)
    return Number(text) if is_whole else text


def _written(column: Config, text: str) -> Any:
    """A value that the configuration has: a text as it is, another one as JSON."""
    return text if takes_text(column) else decoded(text)


def takes_text(column: Config) -> bool:
    """Whether the values of a column are texts in the event."""
    kind = column["type"]
    is_other = column.get("array") or kind in ("json", "boolean") or kind in NUMERIC
    return not is_other and column.get("format", "rfc3339") == "rfc3339"


def _without_hidden(columns: Sequence[Config], column: Config, value: Any) -> Any:
    """What is masked in other columns is taken out, from every item of a list."""
    outers = [_place(name) for name in names_of(column)]
    hidden = [
        place[len(outer) :]
        for masked in columns
        if masked.get("mask")
        for place in map(_place, names_of(masked))
        for outer in outers
        if place[: len(outer)] == outer and len(place) > len(outer)
    ]
    if value is ABSENT:
        return value
    for place in hidden:
        value = _take_out(value, place)
        if value is ABSENT:
            return None
    return value


def _place(path: str) -> list[str]:
    return [step for step in steps_of(path) if isinstance(step, str)]


def _take_out(value: Any, place: list[str]) -> Any:
    """A value without what is at a place; ABSENT where a text or a number is before its end."""
    if not place:
        return ABSENT
    if value is None:
        return None
    if isinstance(value, list):
        return [kept for v in value if (kept := _take_out(v, place)) is not ABSENT]
    if not isinstance(value, dict):
        return ABSENT
    kept = {name: v if name != place[0] else _take_out(v, place[1:]) for name, v in value.items()}
    return {name: v for name, v in kept.items() if v is not ABSENT}


# How it is read


def as_read(column: Config, value: Any) -> Any:
    """The value that is checked: picked, cleaned, made null, read from a text, or by default."""
    if value is ABSENT:
        if "default" not in column:
            return value
        value = _written(column, column["default"])
    accepted = column.get("accept", ())
    if "pick" in column:
        value = _picked(value, 0 if column["pick"] == "first" else -1)
    if isinstance(value, str):
        value = cleaned(value, column.get("clean", ()))
    if isinstance(value, str) and "port" in accepted:
        value = _without_port(value)
    if _counts_as_null(column, value):
        return None
    if isinstance(value, str) and "text" in accepted:
        value = _from_text(column, value)
    if isinstance(value, Number) and "whole_float" in accepted:
        value = _whole(value)
    return None if _counts_as_null(column, value) else value


def _picked(value: Any, position: int) -> Any:
    if isinstance(value, list):
        value = value[position] if value else None
    if isinstance(value, str) and "," in value:
        parts = [stripped for part in value.split(",") if (stripped := part.strip(" \t"))]
        value = parts[position] if parts else None
    return value


def cleaned(text: str, steps: Sequence[str]) -> str:
    """A text after the steps, which are repeated until they change nothing."""
    before = None
    while text != before:
        before = text
        for step in steps:
            if step == "strip":
                text = text.strip()
            elif step in ("nfc", "nfkc"):
                text = unicodedata.normalize(step.upper(), text)
            elif step == "digits":
                digits = [c for c in text if unicodedata.category(c) == "Nd"]
                text = "".join(str(int(c)) for c in digits) or text
            else:
                text = text.lower() if step == "lower" else text.upper()
    return text


def _without_port(text: str) -> str:
    address, colon, port = text.rpartition(":")
    if not text.endswith("]"):
        if not (colon and re.fullmatch("[0-9]{1,5}", port) and int(port) <= 65_535):
            return text
        if re.fullmatch(r"[0-9.]+", address) and _address(address):
            return address
    else:
        address = text
    inside = address[1:-1]
    is_bracketed = address.startswith("[") and address.endswith("]") and ":" in inside
    return inside if is_bracketed and _address(inside) else text


def _from_text(column: Config, text: str) -> Any:
    if column["type"] == "boolean":
        return {"true": True, "false": False}.get(text, text)
    is_number = re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", text)
    return Number(text) if is_number and len(text) <= DIGITS else text


def _whole(number: Number) -> Number:
    value = number.value
    if number.digits_before > DIGITS or value != value.to_integral_value():
        return number
    return Number(str(int(value)))


def _counts_as_null(column: Config, value: Any) -> bool:
    """Whether the value is one of the null values, in any notation that the column takes."""
    for text in column.get("null_values", ()):
        if value == text:
            return True
        if isinstance(value, str):
            if _is_null_notation(column, value, text):
                return True
        elif isinstance(value, (Number, bool)) and _is_null_number(column, value, text):
            return True
    return False


def _is_null_number(column: Config, value: Number | bool, text: str) -> bool:
    """Whether a number, or a boolean, is what a null value of such a column says."""
    try:
        null = decoded(text)
    except ValueError:
        return False
    if type(null) is not type(value) or "type" in _faults(column, null):
        return False
    return null is value if isinstance(value, bool) else bool(null.value == value.value)


def _is_null_notation(column: Config, value: str, text: str) -> bool:
    plain = {key: v for key, v in column.items() if key not in ("network", "max_length", "mask")}
    if plain["type"] == "text" or refused_by_type(plain, value) or refused_by_type(plain, text):
        return False
    return bool(plain_value(plain, value) == plain_value(plain, text))


# What its type takes


def refused_by_type(column: Config, value: Any) -> list[str]:
    """The checks of the type that a value breaks, with those of its presence."""
    if value is ABSENT and column.get("required", True):
        return ["missing"]
    if value is None or value is ABSENT:
        return [] if column.get("nullable") else ["null"]
    if isinstance(value, dt.datetime):
        return []
    if column.get("array"):
        return _refused_elements(column, value)
    faults = _faults(column, value)
    # The length of what is not a value of the type does not matter.
    if set(faults) <= {"NUL character", "lone surrogate"}:
        faults += _length_fault(column, value)
    return faults


def _refused_elements(column: Config, value: Any) -> list[str]:
    if not isinstance(value, list):
        return ["type"]
    element = {**column, "array": False, "nullable": False}
    found: list[str] = []
    for item in value:
        if item is None and column.get("null_elements"):
            continue
        found += refused_by_type(element, item)
    return [f"element {check}" for check in dict.fromkeys(found)]


def _faults(column: Config, value: Any) -> list[str]:
    kind = column["type"]
    if kind == "json":
        return _json_faults(value)
    if kind == "boolean":
        return [] if isinstance(value, bool) else ["type"]
    if kind in NUMERIC:
        return _number_faults(column, value) if isinstance(value, Number) else ["type"]
    if column.get("format", "rfc3339") != "rfc3339":
        return _epoch_faults(column, value)
    if not isinstance(value, str):
        return ["type"]
    found = []
    if "\0" in value:
        found.append("NUL character")
    if re.search("[\ud800-\udfff]", value):
        found.append("lone surrogate")
    return found + _form_faults(column, value)


def _json_faults(value: Any) -> list[str]:
    leaves = list(_leaves(value))
    texts = "".join(leaf for leaf in leaves if isinstance(leaf, str))
    found = []
    if "\0" in texts:
        found.append("NUL character")
    if re.search("[\ud800-\udfff]", " ".join(leaf for leaf in leaves if isinstance(leaf, str))):
        found.append("lone surrogate")
    return found


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *(leaf for member in value.values() for leaf in _leaves(member))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _number_faults(column: Config, number: Number) -> list[str]:
    kind = column["type"]
    if kind in LIMITS:
        if not number.is_whole:
            return ["type"]
        limit = 2 ** LIMITS[kind]
        return [] if -limit <= int(number.text) < limit else ["range"]
    if kind == "number":
        return _double_faults(number)
    scale = DIGITS if "precision" not in column else column.get("scale", 0)
    before = DIGITS if "precision" not in column else column["precision"] - scale
    faults = [] if number.digits_before <= before else ["range"]
    return faults if number.digits_after <= scale else [*faults, "precision"]


def _double_faults(number: Number) -> list[str]:
    double = float(number.text)
    if double in (float("inf"), float("-inf")):
        return ["range"]
    if number.is_whole:
        return [] if Decimal(double) == number.value else ["precision"]
    if not number.value:
        return []
    # Written with as many digits, the double must be the same number.
    digits = len("".join(map(str, number.value.as_tuple().digits)).strip("0"))
    written = Context(prec=digits).create_decimal(Decimal(double))
    return [] if double and number.value in (written, Decimal(repr(double))) else ["precision"]


def _epoch_faults(column: Config, value: Any) -> list[str]:
    is_number = isinstance(value, Number) and (value.is_whole or column["format"] == "seconds")
    if not is_number:
        return ["type"]
    if value.digits_before > 18:
        return ["range"]
    micros = Fraction(value.value) * UNITS[column["format"]]
    try:
        EPOCH + dt.timedelta(microseconds=micros // 1)
    except OverflowError:
        return ["range"]
    is_exact = micros.denominator == 1 or "nanoseconds" in column.get("accept", ())
    return [] if is_exact else ["precision"]


_CLOCK = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<part>[0-9]{1,18}))?"
_DAY = "(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_OFFSET = "(?P<zulu>[Zz])|(?P<sign>[+-])(?P<hours>[0-9]{2})(?P<colon>:?)(?P<minutes>[0-9]{2})"
_PATTERNS = {
    "date": _DAY,
    "time": _CLOCK,
    "datetime": f"{_DAY}[Tt ]{_CLOCK}",
    "timestamp": f"{_DAY}[Tt ]{_CLOCK}(?:{_OFFSET})",
}


def _time_kind(column: Config) -> str:
    return "timestamp" if column.get("format") == "rfc3339" else str(column["type"])


def _moment(column: Config, text: str) -> Any:
    """The date or time that a text names; what is less than a microsecond is cut.

    :raises ValueError: it names none that the column can hold
    """
    kind, accepted = _time_kind(column), column.get("accept", ())
    match = re.fullmatch(_PATTERNS[kind], text)
    if match is None:
        raise ValueError
    parts = match.groupdict()
    if kind == "date":
        return dt.date(*(int(parts[name]) for name in ("year", "month", "day")))
    clock = [int(parts[name]) for name in ("hour", "minute", "second")]
    micros = int(f"{parts['part'] or '':0<6}"[:6])
    if kind == "time":
        return dt.time(*clock, micros)
    day = [int(parts[name]) for name in ("year", "month", "day")]
    is_leap = kind == "timestamp" and clock[2] == 60
    second = 59 if is_leap else clock[2]
    moment = dt.datetime(*day, *clock[:2], second, micros)  # noqa: DTZ001 - a clock on the wall
    if kind == "datetime":
        return moment
    try:
        moment = _in_utc(moment, parts, accepted)
        if is_leap:
            moment += dt.timedelta(seconds=1)
    except OverflowError:
        raise ValueError from None
    # RFC 3339, section 5.7: it is the last second of a month.
    is_after_month = (moment.day, moment.hour, moment.minute, moment.second) == (1, 0, 0, 0)
    if is_leap and not (is_after_month and "leap_second" in accepted):
        raise ValueError
    return moment


def _in_utc(moment: dt.datetime, parts: Mapping[str, str], accepted: Sequence[str]) -> dt.datetime:
    if parts["zulu"]:
        return moment.replace(tzinfo=UTC)
    hours, minutes = int(parts["hours"]), int(parts["minutes"])
    if hours > 23 or minutes > 59 or not (parts["colon"] or "offset_without_colon" in accepted):
        raise ValueError
    offset = dt.timedelta(hours=hours, minutes=minutes)
    return (moment - offset if parts["sign"] == "+" else moment + offset).replace(tzinfo=UTC)


def _address(text: str) -> Any:
    """The address that a text names, IPv4 if it is a mapped one; None if it names none."""
    try:
        address = None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _version(text: str) -> list[int] | None:
    parts = text.split(".")
    is_version = len(parts) in (2, 3) and all(re.fullmatch("[0-9]+", part) for part in parts)
    return [*map(int, parts), 0][:3] if is_version else None


def _form_faults(column: Config, text: str) -> list[str]:
    kind = column["type"]
    if kind == "ip":
        return [] if _address(text) else ["IP address"]
    if kind == "uuid":
        is_uuid = re.fullmatch("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text)
        return [] if is_uuid else ["UUID"]
    if kind == "bytes":
        return [] if _bytes(text) is not None else ["base64"]
    if kind == "version":
        version = _version(text)
        if version is None:
            return ["version"]
        _, minor, patch = version
        is_large = max(minor, patch) > 999 or plain_value(column, text) >= 2**31
        return ["version range"] if is_large else []
    return _time_faults(column, text) if _time_kind(column) in _PATTERNS else []


def _time_faults(column: Config, text: str) -> list[str]:
    found = []
    try:
        _moment(column, text)
    except ValueError:
        found.append(column["type"])
    match = re.fullmatch(_PATTERNS[_time_kind(column)], text)
    smaller = (match.groupdict().get("part") or "")[6:] if match else ""
    is_clock = match is not None and _is_clock(match.groupdict())
    if is_clock and smaller.strip("0") and "nanoseconds" not in column.get("accept", ()):
        found.append("precision")
    return found


def _is_clock(parts: Mapping[str, str]) -> bool:
    limits = (("hour", 23), ("minute", 59), ("second", 60))
    return all(int(parts.get(name, 0)) <= most for name, most in limits)


def _bytes(text: str) -> bytes | None:
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return found if base64.b64encode(found).decode() == text else None


def _length_fault(column: Config, value: Any) -> list[str]:
    """A text that is longer than the column, or one whose token is."""
    limit, mask = column.get("max_length"), column.get("mask")
    if limit is None or mask == "hmac" or not (mask or takes_text(column)):
        return []
    text = masked_text(plain_value(column, value))
    size = len(text)
    if mask == "partial":
        size = len(shown(column, text))
    elif mask:
        size = LONGEST_KEY_ID + 1 + _token_characters(len(text.encode("utf-8", "surrogatepass")))
    return ["length"] if size > limit else []


def _token_characters(value_bytes: int) -> int:
    sealed = 16 + (value_bytes // 16 + 1) * 16
    return -(-sealed * 4 // 3)


# What is stored


def plain_value(column: Config, value: Any) -> Any:
    """The value that the table holds, or the one that is masked."""
    if value is None or value is ABSENT:
        return None
    kind = column["type"]
    if column.get("array"):
        return [plain_value({**column, "array": False}, item) for item in value]
    if isinstance(value, dt.datetime):
        return value if kind == "timestamp" else value.date()
    if kind == "json":
        return _plain_json(value)
    if isinstance(value, Number):
        return _plain_number(column, value)
    if kind in _PATTERNS:
        moment = _moment(column, value)
        return moment.replace(tzinfo=None) if kind == "datetime" else moment
    if kind == "version":
        major, minor, patch = _version(value) or (0, 0, 0)
        return major * 1_000_000 + minor * 1_000 + patch
    if kind == "bytes":
        return _bytes(value)
    if kind == "ip":
        return _plain_address(column, value)
    return value.lower() if kind == "uuid" else value


def _plain_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain_json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain_json(item) for item in value]
    return value.value if isinstance(value, Number) else value


def _plain_number(column: Config, number: Number) -> Any:
    if column.get("format") in UNITS:
        micros = Fraction(number.value) * UNITS[column["format"]] // 1
        moment = EPOCH + dt.timedelta(microseconds=micros)
        return moment.replace(tzinfo=None) if column["type"] == "datetime" else moment
    if column["type"] in LIMITS:
        return int(number.text)
    return float(number.text) if column["type"] == "number" else number.value


def _plain_address(column: Config, text: str) -> str:
    address = _address(text)
    if column.get("canonical") is False:
        return text
    if "network" not in column:
        return str(address)
    kept = {"v4": 24, "v6": 48}
    network = column["network"]
    kept.update(network if isinstance(network, dict) else {"v4": network})
    return str(ipaddress.ip_network(f"{address}/{kept[f'v{address.version}']}", strict=False))


def masked_text(plain: Any) -> str:
    """A value as it is masked: one text for equal values."""
    if not isinstance(plain, Decimal):
        return str(plain)
    text = format(plain, "f") if plain else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def broken_checks(column: Config, plain: Any) -> list[str]:
    """The configured checks that a value breaks, without `unique`; a null passes."""
    if plain is None:
        return []

    def limit(name: str) -> Any:
        return plain_value(column, _written(column, column[name]))

    allowed = [plain_value(column, _written(column, text)) for text in column.get("in", ())]
    broken = {
        "in": bool(allowed) and plain not in allowed,
        "matches": "matches" in column and not re.fullmatch(column["matches"], plain),
        "min": "min" in column and plain < limit("min"),
        "max": "max" in column and plain > limit("max"),
        "min_length": "min_length" in column and len(plain) < column["min_length"],
    }
    return [name for name, is_broken in broken.items() if is_broken]


# How it is masked


def shown(column: Config, text: str) -> str:
    """What `mask: partial` shows of a value."""
    if column.get("keep_domain"):
        name, _, domain = text.rpartition("@")
        labels = domain.lower().split(".")
        is_domain = (
            name
            and len(labels) > 1
            and all(re.fullmatch(r"[\w-]+", label) for label in labels)
            and len(labels[-1]) > 1
            and labels[-1].isalpha()
        )
        return f"****@{domain.lower()}" if is_domain else "****"
    last = column["keep_last"]
    return f"****{text[-last:]}" if len(text) >= max(2 * last, last + 4) else "****"


def context_of(column: Config) -> str:
    """What a column's tokens are bound to besides the key."""
    return str(column.get("context") or source_of(column))


def opened(column: Config, token: str, key_id: str, key: bytes) -> str:
    """The value in a token, as any RFC 5297 library reads it."""
    before, sealed = token.split(".")
    assert before == key_id
    data = [f"etl:v1:{key_id}:{context_of(column)}".encode()]
    padded = AESSIV(key).decrypt(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)), data)
    return padded.rstrip(b"\0").removesuffix(b"\x80").decode()


def one_way_token(column: Config, text: str, key_id: str, key: bytes) -> str:
    """The token that `mask: hmac` stores."""
    info = f"etl:v1:{key_id}:hmac:{context_of(column)}".encode()
    derived = HKDF(key, 64, b"", SHA512, context=info)
    mac = hmac.digest(derived, text.encode(), "sha256")  # type: ignore[arg-type]
    return f"{key_id}:{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
