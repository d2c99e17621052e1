"""Dates and times: as text (RFC 3339), and as the time since 1970."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_FLOOR, Context
from typing import Any

import sqlalchemy as sa

from etl.fieldtypes.fieldtype import Check, FieldType, TypeSettings, distinct, each, keep, succeeds
from etl.fieldtypes.numbers import exact
from etl.fieldtypes.real import Real

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# The hour 24 would come back as the next day's 0.
_CLOCK = r"((?:[01][0-9]|2[0-3]):[0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]{1,18}))?"
_DAY = r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
_TIMESTAMP = re.compile(rf"{_DAY}[Tt ]{_CLOCK}([Zz]|[+-][0-9]{{2}}:?[0-9]{{2}})")
_DATETIME = re.compile(rf"{_DAY}[Tt ]{_CLOCK}")
_TIME = re.compile(_CLOCK)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SECOND = dt.timedelta(seconds=1)
_MICROSECOND = dt.timedelta(microseconds=1)
# Microseconds in a unit, by the format.
_UNITS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
_FIRST = (dt.datetime(1, 1, 1, tzinfo=dt.UTC) - _EPOCH) // _MICROSECOND
_LAST = (dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, dt.UTC) - _EPOCH) // _MICROSECOND
_MAX_DIGITS = 18  # of a number in the calendar, in microseconds
# The usual context would round to 28 digits.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)

Parse = Callable[[str], Any]


def utc(milliseconds: int) -> dt.datetime:
    """The time of a SentTimestamp, in UTC."""
    # Not fromtimestamp(), whose seconds are a double.
    return _EPOCH + dt.timedelta(milliseconds=milliseconds)


def date(_column: TypeSettings) -> FieldType:
    """A date, as RFC 3339 writes it."""
    return FieldType((str,), (("date", succeeds(_date)),), _date, keep, sa.Date(), distinct(_date))


def _date(text: str) -> dt.date:
    if _DATE.fullmatch(text) is None:
        raise ValueError("not a date")
    return dt.date.fromisoformat(text)


def time(column: TypeSettings) -> FieldType:
    """A time of day without an offset."""
    return _from_text("time", _TIME, _time, sa.Time(), column)


def _time(text: str) -> dt.time:
    match = _TIME.fullmatch(text)
    if match is None or match[2] == "60":
        raise ValueError("not a time")
    return dt.time.fromisoformat(_clock(*match.groups("")))


def datetime(column: TypeSettings) -> FieldType:
    """A date and time of day without an offset, or a moment, stored as its time in UTC."""
    sql = sa.DateTime()
    if column.format is None:
        return _from_text("datetime", _DATETIME, _datetime, sql, column)
    moment = timestamp(column)

    def stored(value: Any) -> dt.datetime:
        when: dt.datetime = moment.stored(value)
        return when.replace(tzinfo=None)

    checks = tuple(
        ("datetime" if name == "timestamp" else name, good) for name, good in moment.checks
    )
    return FieldType(moment.python, checks, stored, moment.text, sql, each(stored), moment.losses)


def _datetime(text: str) -> dt.datetime:
    match = _DATETIME.fullmatch(text)
    if match is None or match[3] == "60":
        raise ValueError("not a date and time without an offset")
    day, *clock = match.groups("")
    return dt.datetime.fromisoformat(f"{day}T{_clock(*clock)}")


def timestamp(column: TypeSettings) -> FieldType:
    """A moment: RFC 3339 with its offset, or a number since 1970 in UTC."""
    sql = sa.DateTime(timezone=True)
    if column.format in _UNITS:
        return _since_1970(column, sql)
    accepted = column.accept
    return _from_text("timestamp", _TIMESTAMP, lambda text: _timestamp(text, accepted), sql, column)


def _timestamp(text: str, accepted: Collection[str]) -> dt.datetime:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError("not a timestamp")
    day, minutes, second, fraction, offset = match.groups("")
    if len(offset) == 5 and "offset_without_colon" not in accepted:
        raise ValueError("an offset without a colon")
    is_leap = second == "60"
    clock = _clock(minutes, "59" if is_leap else second, fraction)
    try:
        moment = dt.datetime.fromisoformat(f"{day}T{clock}{offset.upper()}").astimezone(dt.UTC)
        if not is_leap:
            return moment
        after = moment + _SECOND
    except OverflowError:  # year 1 or 9999, moved out of the calendar by its offset
        raise ValueError("not a timestamp") from None
    # RFC 3339, section 5.7: leap seconds are at the end of a month in UTC.
    if "leap_second" not in accepted or (after.day, after.hour, after.minute) != (1, 0, 0):
        raise ValueError("not a leap second")
    return after  # as Postgres does: time that is counted since 1970 has no leap seconds


def _clock(minutes: str, second: str, fraction: str) -> str:
    return f"{minutes}:{second}.{fraction[:6]:0<6}"


def _from_text(
    name: str,
    pattern: re.Pattern[str],
    parse: Parse,
    sql: sa.types.TypeEngine[Any],
    column: TypeSettings,
) -> FieldType:
    """A type whose values are texts with fractions of a second."""
    fraction = pattern.groups - (pattern is _TIMESTAMP)  # the last group but an offset

    def is_whole(text: str) -> bool:
        # The database stores microseconds, and would round what is smaller.
        match = pattern.fullmatch(text)
        return match is None or not (match[fraction] or "")[6:].strip("0")

    def is_leap(text: str) -> bool:
        match = pattern.fullmatch(text)
        return match is not None and match[fraction - 1] == "60"

    precision, losses = _precision(column, is_whole)
    if "leap_second" in column.accept:
        losses = (*losses, ("leap_second", is_leap))
    return FieldType(
        (str,),
        ((name, succeeds(parse)), *precision),
        parse,
        lambda value: _written(parse(value)),
        sql,
        distinct(parse),
        losses,
    )


def _precision(
    column: TypeSettings, is_whole: Callable[[Any], bool]
) -> tuple[tuple[Check, ...], tuple[Check, ...]]:
    """The checks and the losses of a type whose values may be smaller than a microsecond."""
    if "nanoseconds" in column.accept:
        return (), (("nanoseconds", lambda value: not is_whole(value)),)
    return (("precision", is_whole),), ()


def _since_1970(column: TypeSettings, sql: sa.types.TypeEngine[Any]) -> FieldType:
    """A type whose values are numbers of a unit since 1970; a second may have a fraction."""
    unit = _UNITS[column.format or ""]

    def is_in_calendar(value: float) -> bool:
        # An exponent could make a number of any size, so that is looked at first.
        return exact(value).adjusted() < _MAX_DIGITS and (
            _FIRST <= _microseconds(value, unit)[0] <= _LAST
        )

    def is_whole(value: float) -> bool:
        return not is_in_calendar(value) or _microseconds(value, unit)[1]

    def stored(value: float) -> dt.datetime:
        return _EPOCH + dt.timedelta(microseconds=_microseconds(value, unit)[0])

    precision, losses = _precision(column, is_whole)
    return FieldType(
        (int, float, Real) if column.format == "seconds" else (int,),
        (("range", is_in_calendar), *precision),
        stored,
        lambda value: _written(stored(value)),
        sql,
        each(stored),
        losses,
    )


def _microseconds(value: float, unit: int) -> tuple[int, bool]:
    """Return whole microseconds, rounded down, and whether nothing was lost by that."""
    if type(value) is int:
        return value * unit, True
    number = _EXACT.multiply(exact(value), unit)
    whole = number.to_integral_value(ROUND_FLOOR)
    return int(whole), whole == number


def _written(value: dt.date | dt.time) -> str:
    return value.isoformat().replace("+00:00", "Z")
