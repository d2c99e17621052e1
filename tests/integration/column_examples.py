"""Draws columns of every type and source, and messages with good and odd values for them.

Hypothesis draws a seed for each column and each message, and makes both lists shorter when a test
has failed. What is made of a seed is plain Python, which is fast enough for thousands of values.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.integration.column_model import (
    ABSENT,
    LIMITS,
    NUMERIC,
    as_read,
    cleaned,
    decoded,
    names_of,
    plain_value,
    refused_by_type,
    steps_of,
    takes_text,
)

Column = dict[str, Any]

MASKABLE = ("text", "ip", "smallint", "integer", "bigint", "decimal", "uuid", "date")
ORDERED = ("version", *LIMITS, "number", "decimal", "date", "time", "timestamp", "datetime")
TYPES = (*dict.fromkeys([*MASKABLE, *ORDERED, "boolean", "bytes", "json"]),)
STEPS = ("strip", "nfc", "nfkc", "lower", "upper", "digits")
MISSING = ""  # in place of a JSON text
MAX_COLUMNS, MAX_MESSAGES = 5, 12


@dataclass(frozen=True)
class Example:
    """Columns, and for each message its event and the attributes that it is sent with."""

    columns: list[Column]
    events: list[str]
    attributes: list[dict[str, Any]]


def examples(
    *, only_events: bool = False, messages: int = MAX_MESSAGES
) -> st.SearchStrategy[Example]:
    """Draw columns, and messages for them.

    :param only_events: no column of what SQS or the run knows
    """
    seeds = st.integers(0, 2**64 - 1)
    return st.builds(
        lambda columns, events: example_of(columns, events, only_events),
        st.lists(seeds, min_size=1, max_size=MAX_COLUMNS),
        st.lists(seeds, min_size=messages // 2, max_size=messages),
    )


def example_of(column_seeds: list[int], message_seeds: list[int], only_events: bool) -> Example:
    """What is made of the seeds."""
    columns: list[Column] = []
    pools: dict[str, _Pool] = {}
    for number, seed in enumerate(column_seeds):
        random = _Random(seed)
        made = _columns(random, number, only_events)
        columns += made
        pools[made[0]["name"]] = _pool(random, made[0])
    columns = _without_conflicts(columns)
    sent = [_message(_Random(seed), columns, pools) for seed in message_seeds]
    return Example(columns, [event for event, _ in sent], [given for _, given in sent])


class _Random(Random):
    """Chooses among things."""

    def chance(self, of: int) -> bool:
        """Once in so many times."""
        return self.randrange(of) == 0

    def some(self, things: Any, most: int) -> list[Any]:
        """One or several different things, in any order."""
        return self.sample(list(things), self.randint(1, min(most, len(things))))


def json_text(value: Any) -> str:
    """A value as JSON."""
    return json.dumps(value)


# The JSON texts of good values

_TEXTS = [
    "", " ", "NULL", "\\N", "\\.", "NA", "a", "A-1", "AB-12", "abc-1 ", "Ä\u0308\t", "{a,b}", "5",
    "ﬁ１２", "\u00a8x", "١٢", "ß", "İ", "jo@Example.com", "a@b.c@x-y.example", "jo@x", "x\ry\n",
    "1234567890", "true", "'\"`$%s", "\ufeff", "🎈", "unknown", "x" * 160,
]  # fmt: skip
_LETTERS = "aAbz019 \t,.@-_:'\"\\äÄß\u0308\u00a0é漢🎈\u202e\x7f\x01\u0661ﬁ"
_SCALARS = ["null", "true", "false", "0", "-0", "1.10", "1e3", "-2.5E-3", '""', '"a"', '"NaN"',
            '"\\ud83c\\udf88"', "0.12345678901234567890", "12345678901234567890"]  # fmt: skip
_POWERS = ["", ".0", ".5", ".50", ".125", "e0", "E2", "e-2", ".75e+1"]
_FRACTIONS = ["", "", ".0", ".25", ".123456", ".1234560000", ".999999"]
_OFFSETS = ["Z", "z", "+00:00", "-00:00", "+05:30", "-11:00", "+14:00", "-23:59"]
_DAYS = ["2024-02-29", "0001-01-01", "9999-12-31", "1970-01-01", "2016-12-31"]


def _text(random: _Random) -> str:
    if random.chance(2):
        return str(random.choice(_TEXTS))
    return "".join(random.choices(_LETTERS, k=random.randrange(9)))


def _ip(random: _Random) -> str:
    if random.chance(6):
        return random.choice(["10.0.0.1", "::", "::1", "2001:db8::", "255.255.255.255"])
    if random.chance(2):
        address = IPv4Address(random.getrandbits(32))
        return random.choice([str(address), str(address), f"::FFFF:{address}"])
    groups = IPv6Address(random.getrandbits(128) & random.choice([2**128 - 1, 0xFFFF << 64, 255]))
    spelled = [groups.compressed, groups.exploded, groups.exploded.upper()]
    return random.choice(spelled)


def _version(random: _Random) -> str:
    if random.chance(5):
        return random.choice(["2147.483.647", "2147.483.648", "0.0", "1.1000"])
    width = random.randint(1, 3)
    parts = random.choices([0, 1, 2, 3, 10, 99, 999], k=random.randint(2, 3))
    return ".".join(f"{part:0{width}}" for part in parts)


def _day(random: _Random) -> str:
    if random.chance(4):
        return random.choice(_DAYS)
    return dt.date.fromordinal(random.randint(1, dt.date.max.toordinal())).isoformat()


def _clock(random: _Random) -> str:
    parts = random.randrange(24), random.randrange(60), random.randrange(60)
    return "{:02}:{:02}:{:02}".format(*parts) + random.choice(_FRACTIONS)


def _wall_clock(random: _Random) -> str:
    return _day(random) + random.choice("TTt ") + _clock(random)


def _moment(random: _Random) -> str:
    return _wall_clock(random) + random.choice(_OFFSETS)


def _uuid(random: _Random) -> str:
    text = str(uuid.UUID(int=random.getrandbits(128)))
    return text.upper() if random.chance(3) else text


def _bytes(random: _Random) -> str:
    return base64.b64encode(random.randbytes(random.randrange(20))).decode()


def _number(random: _Random) -> str:
    double = random.choice([random.uniform(-9, 9), random.expovariate(1e-9), 1 / 3, 5e-324, 1e300])
    return random.choice([repr(double), f"{double:.16e}", _short(random)])


def _short(random: _Random) -> str:
    digits = random.randrange(10 ** random.randint(1, 7))
    return f"{random.choice(['', '', '-'])}{digits}{random.choice(_POWERS)}"


def _json(random: _Random, depth: int = 0) -> str:
    kind = random.randrange(4 + depth)
    count = random.randrange(4)
    if kind == 0:
        return f"[{', '.join(_json(random, depth + 1) for _ in range(count))}]"
    if kind == 1:
        names = random.sample("abf", min(count, 3))
        members = [f'"{name}": {_json(random, depth + 1)}' for name in names]
        return f"{{{', '.join(members)}}}"
    return random.choice(_SCALARS)


def _epoch(random: _Random, unit: int) -> str:
    seconds = random.choice([random.randint(-(10**10), 10**11), random.randrange(10**10), 0, -1])
    return str(seconds * unit + random.randrange(unit))


_OF_TYPES: dict[str, Callable[[_Random], str]] = {
    "text": _text, "ip": _ip, "version": _version, "date": _day, "time": _clock, "uuid": _uuid,
    "bytes": _bytes, "timestamp": _moment, "datetime": _wall_clock,
}  # fmt: skip


def good_value(random: _Random, column: Column) -> str:
    """The JSON text of what nearly always is a value of the type, as it is taken by default."""
    kind, form = column["type"], column.get("format")
    if form == "seconds":
        return _epoch(random, 1) + random.choice(["", ".5", ".000001", ".1e1"])
    if form in ("milliseconds", "microseconds"):
        return _epoch(random, 1_000 if form == "milliseconds" else 1_000_000)
    if kind in LIMITS:
        limit = 2 ** LIMITS[kind]
        return str(random.choice([random.randrange(-limit, limit), random.randint(-3, 120)]))
    if kind == "number":
        return _number(random)
    if kind == "decimal":
        return random.choice([_short(random), f"-{random.randint(1, 10**22)}.25",
                              f"0.{random.randrange(10**19)}"])  # fmt: skip
    if kind == "boolean":
        return random.choice(["true", "false"])
    if kind == "json":
        return _json(random)
    return json_text(_moment(random) if form else _OF_TYPES[kind](random))


# Odd values

_ANY = [
    "null", "true", "0", "-0", "5.0", "-1", "1", '""', '" "', '"5"', '"5.0"', '"05"', '"1e2"',
    '"true"',
    '"True"', '"null"', '"a\\u0000b"', '"\\ud800"', "[]", "{}", '["x", "y"]', '{"f": 1}', "[null]",
    "9007199254740993", "1e400", "-1e400", "5e-400", "1" + "0" * 30, "0.12345678901234567890",
    "32768", "2147483648", "9223372036854775808", "-9223372036854775809", "123456789.005",
    '"1,000"', '", ,"', '"a, b"', '["a, b", "c,d"]', '"24:00:00"', '"2023-02-29"', '"01.2.3.4"',
    '"fe80::1%eth0"', '"1.2.3.4/24"', '"3q2+7w"', '"2.3-beta"', '"2016-12-31T23:59:60Z"',
    '"2017-01-01T05:29:60.5+0530"', '"2024-01-01T00:00:00.1234567Z"', '"0001-01-01T00:00:00+01:00"',
    '"9999-12-31T23:59:60Z"', '"08:30:00.123456789"', '"2024-02-30T00:00:00.1234567"', '"23:59:60"',
    '"2024-01-01T00:00:00"', "253402300800000", "1764360900.1234567", "-0.0000001",
    '"[::1]:80"', '"[2001:DB8::1]"', '"1.2.3.4:65536"', '"1.2.3.4:"', '"00000000-0000-0000-0000-0"',
    '"\\u0661\\u0662"', '"10.0.0.1, [::1]:80"', '["1.2.3.4:80"]', '"\\u0661.2.3.4"',
]  # fmt: skip


def _in_other_words(random: _Random, column: Column) -> str:
    """A good value as a column may also take it: in a list, with spaces, with a port, as text."""
    accepted = column.get("accept", ())
    text = good_value(random, column)
    if (nulls := column.get("null_values")) and random.chance(4):
        null = random.choice(nulls)
        is_other = column["type"] in (*NUMERIC, "boolean") and random.chance(2)
        text = null if is_other and null != "" and null != "unknown" else json_text(null)
    if "whole_float" in accepted and random.chance(2):
        text = random.choice([f"{random.randint(-9, 120)}.0", "5e2", "1.5"])
    if "nanoseconds" in accepted:
        text = text.replace(".123456", ".123456789")
    if "offset_without_colon" in accepted and random.chance(2):
        text = text.replace("+05:30", "+0530")
    if "port" in accepted and random.chance(2):
        address = _ip(random)
        port = random.choice([80, 80, 443, 65_535, 65_536])
        text = json_text(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
    if "text" in accepted and random.chance(2) and not text.startswith('"'):
        text = json_text(text)
    if column.get("clean") and random.chance(2):
        changes = [" {}\n".format, "\u00a8{}".format, str.upper, str.lower]
        text = _in_text(text, random.choice(changes))
    if "pick" in column and random.chance(2):
        lists = [f'["x", {text}]', f'[{text}, ""]', _in_text(text, lambda t: f"{t}, ,{t}")]
        text = random.choice(lists)
    return text


def _in_text(text: str, change: Callable[[str], str]) -> str:
    value = decoded(text)
    return json_text(change(value)) if isinstance(value, str) else text


def _value(random: _Random, column: Column, is_odd: bool) -> str:
    """The JSON text of a value for a column, or MISSING."""
    if is_odd and random.chance(2):
        return random.choice([MISSING, "null", *random.choices(_ANY, k=4)])
    if not column.get("array"):
        return _in_other_words(random, column)
    elements = []
    for _ in range(random.randrange(4)):
        text = good_value(random, {**column, "array": False})
        if is_odd and random.chance(4):
            text = random.choice(_ANY)
        if column.get("null_elements") and random.chance(4):
            text = "null"
        elements.append(text)
    return f"[{', '.join(elements)}]"


# Columns


def _type(random: _Random, can_be_array: bool) -> Column:
    kind = random.choice(TYPES)
    column: Column = {"type": kind}
    if can_be_array and kind != "json" and random.chance(5):
        column["array"] = True
        if random.chance(2):
            column["null_elements"] = True
    if kind == "decimal" and random.chance(2):
        column["precision"] = random.choice([3, 5, 10, 20])
        if random.chance(2):
            column["scale"] = random.randrange(4)
    if kind in ("timestamp", "datetime") and random.chance(2):
        forms = ["rfc3339", "seconds", "milliseconds", "microseconds"]
        column["format"] = random.choice(forms)
    return column


def _accepted_words(column: Column) -> list[str]:
    kind, is_array = column["type"], column.get("array", False)
    is_number = not takes_text({**column, "array": False}) and kind != "json"
    words = []
    if is_number and not is_array:
        words.append("text")
    if kind in LIMITS and not is_array:
        words.append("whole_float")
    if kind == "ip" and not is_array:
        words.append("port")
    if kind in ("timestamp", "datetime", "time"):
        words.append("nanoseconds")
        if not is_number and (kind == "timestamp" or "format" in column):
            words += ["leap_second", "offset_without_colon"]
    return words


def _reading(random: _Random, column: Column) -> Column:
    """The settings of how a value is read."""
    found: Column = {}
    words = _accepted_words(column)
    if words and random.chance(2):
        found["accept"] = random.some(words, 3)
    if column.get("array") or column["type"] in ("json", "bytes"):
        return found
    if random.chance(6):
        found["pick"] = random.choice(["first", "last"])
    if (takes_text(column) or "text" in found.get("accept", ())) and random.chance(3):
        chosen = random.some(STEPS if column["type"] == "text" else STEPS[:-1], 3)
        for pair in (("lower", "upper"), ("nfc", "nfkc")):
            if set(pair) <= set(chosen):
                chosen.remove(pair[1])
        found["clean"] = chosen
    if random.chance(4):
        texts = [_setting_text(random, column), random.choice(["", "unknown", "-1"])]
        steps = found.get("clean", ())
        if kept := [text for text in texts if cleaned(text, steps) == text]:
            found["null_values"] = kept
    return found


def _setting_text(random: _Random, column: Column) -> str:
    """A value of a column, as a configuration has it."""
    while True:
        text = good_value(random, {**column, "array": False})
        value = decoded(text) if takes_text({**column, "array": False}) else text
        if value.isprintable():
            return str(value)


def _source(random: _Random, number: int, only_events: bool) -> Column:
    paths = [f"f{number}", f"f{number}", f"o.f{number}", f"o.p.f{number}", f"l{number}[1]",
             f"l{number}[0].v", f'"a.b{number}"', f'q{number}."[0]"']  # fmt: skip
    choice = random.randrange(18 if only_events else 20)
    if choice < 12:
        return {"field": random.choice(paths)}
    if choice < 15:
        return {"field": [f"f{number}", random.choice([f"g{number}", f"o.f{number}"])]}
    if choice < 17:
        return {"message_attribute": f"m{number}"}
    if choice == 17:
        return {"constant": True}
    if choice == 18:
        names = ["SentTimestamp", "SenderId", "AWSTraceHeader", "MessageGroupId"]
        return {"attribute": random.choice(names)}
    return {"metadata": random.choice(["message_id", "run_id", "loaded_at"])}


def _columns(random: _Random, number: int, only_events: bool) -> list[Column]:
    """One column, or two that read the same field."""
    source = _source(random, number, only_events)
    column: Column = {"name": f"c{number}", **source}
    if set(source) & {"attribute", "metadata"}:
        return [{**column, **_of_the_job(random, source)}]
    column.update(_type(random, "field" in source or "constant" in source))
    if "constant" in source:
        return [_with_literal(random, column, "constant")]
    if column["type"] == "json" and "field" in source and random.chance(2):
        column["field"] = random.choice(["$", "o"])
    column.update(_reading(random, column))
    optional = {"required": False, "nullable": True}
    column.update(random.choice([{}, {"nullable": True}, optional]))
    other: list[Column] = []
    if column["type"] in MASKABLE and "array" not in column and random.chance(2):
        column.update(_mask(random, column))
        if column["type"] == "ip" and random.chance(2):
            hidden = ("mask", "max_length", "context")
            shared = {key: value for key, value in column.items() if key not in hidden}
            network = random.choice([24, 8, {"v4": 20, "v6": 32}])
            other = [{**shared, "name": f"n{number}", "network": network}]
    elif column["type"] == "ip":
        more = [{}, {}, {"canonical": False}, {"network": 31, "max_length": 43},
                {"network": {"v6": 127}}, {"max_length": 15}, {"max_length": 39}]  # fmt: skip
        column.update(random.choice(more))
    elif column["type"] == "text":
        column.update(random.choice([{}, {"max_length": 5}, {"max_length": 15}]))
    if column.get("required", True) and random.chance(4):
        column = _with_literal(random, column, "default")
    return [_with_checks(random, column), *other]


def _of_the_job(random: _Random, source: Column) -> Column:
    name = source.get("attribute") or source.get("metadata")
    if name in ("SentTimestamp", "loaded_at"):
        return {"type": random.choice(["date", "timestamp"])}
    if "metadata" in source:
        return {"type": random.choice(["text", "uuid"] if name == "run_id" else ["text"])}
    found: Column = {"type": "text", "nullable": True, "required": random.chance(2)}
    return {**found, **random.choice([{}, {"mask": True}, {"clean": ["lower"]}])}


def _mask(random: _Random, column: Column) -> Column:
    kinds: list[Column] = [{"mask": True}, {"mask": "siv"}, {"mask": "hmac"}]
    if column["type"] not in ("ip", "date"):
        kinds.append({"mask": "partial", "keep_last": random.randint(1, 8)})
    if column["type"] == "text":
        kinds.append({"mask": "partial", "keep_domain": True})
    found = random.choice(kinds)
    if found["mask"] != "partial" and random.chance(4):
        found["context"] = "people"
    if random.chance(2):
        # The narrowest that holds any token, and the usual one.
        lengths = [12, 100] if found["mask"] == "partial" else [60, 81, 256]
        found["max_length"] = random.choice(lengths)
    return found


def _with_literal(random: _Random, column: Column, key: str) -> Column:
    """The column with a constant or a default that passes its checks; else without a default."""
    for _ in range(4):
        text = _setting_text(random, column)
        if column.get("array"):
            elements = [good_value(random, {**column, "array": False}) for _ in range(2)]
            text = f"[{', '.join(elements[: random.randrange(3)])}]"
        made = {**column, key: text}
        value = as_read({**made, "default": text}, ABSENT)
        if text.isprintable() and text != "null" and not refused_by_type(made, value):
            return made
    return {"name": column["name"], "type": "text", key: "eu"} if key == "constant" else column


def _with_checks(random: _Random, column: Column) -> Column:
    if column.get("array") or column["type"] == "json" or random.chance(2):
        return column
    hidden = ("mask", "max_length")
    plain = {key: value for key, value in column.items() if key not in hidden}
    texts = [_setting_text(random, column) for _ in range(random.randint(2, 5))]
    read = {text: text if takes_text(plain) else decoded(text) for text in texts}
    texts = [text for text in texts if not refused_by_type(plain, read[text])]
    found: Column = {}
    if texts and "network" not in column and random.chance(4):
        found["in"] = texts
    if texts and column["type"] in ORDERED:
        low, *_, high = sorted([*texts, texts[0]], key=lambda text: plain_value(plain, read[text]))
        limits: list[Column] = [{"min": low}, {"max": high}, {"min": low, "max": high}, {}]
        found.update(random.choice(limits))
    if column["type"] == "text":
        more: list[Column] = [{}, {"matches": "[A-Za-z0-9@. -]*"}, {"min_length": 2}]
        found.update(random.choice(more))
    if random.chance(4):
        found["unique"] = True
    if found and random.chance(4):
        found["warn"] = [random.choice(sorted(found))]
    return {**column, **found}


def _without_conflicts(columns: list[Column]) -> list[Column]:
    """One column of `$` and of `o` at most, and one that is unique."""
    kept: list[Column] = []
    seen: set[str] = set()
    for column in columns:
        field = str(column.get("field"))
        if field in ("$", "o") and field in seen:
            continue
        if "unique" in column and "unique" in seen:
            checks = ("unique", "warn")
            column = {key: value for key, value in column.items() if key not in checks}
        seen |= {field, *column}
        kept.append(column)
    return kept


# Messages


@dataclass(frozen=True)
class _Pool:
    """Values of a column, of which messages take some: so some of them are equal."""

    good: list[str]
    odd: list[str]


def _pool(random: _Random, column: Column) -> _Pool:
    return _Pool(
        [_value(random, column, is_odd=False) for _ in range(5)],
        [_value(random, column, is_odd=True) for _ in range(5)],
    )


def _set(tree: dict[str, Any], path: str, text: str) -> None:
    """Put the JSON text of a value at a path of a tree of dicts and lists."""
    node: Any = tree
    steps = steps_of(path)
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        new: Any = text if after is None else [] if isinstance(after, int) else {}
        if isinstance(node, list):
            node.extend(["7"] * (int(step) + 1 - len(node)))
            node[int(step)] = new
        elif after is None or step not in node:
            node[step] = new
        node = node[step]


def _event_text(tree: Any) -> str:
    if isinstance(tree, dict):
        members = ", ".join(f"{json_text(name)}: {_event_text(v)}" for name, v in tree.items())
        return f"{{{members}}}"
    return f"[{', '.join(map(_event_text, tree))}]" if isinstance(tree, list) else str(tree)


def _attribute(text: str) -> dict[str, Any] | None:
    """A message attribute with a value; None if SQS would not take it."""
    value = decoded(text) if text else None
    if not isinstance(value, str):
        is_number = text and text[0] in "-0123456789"
        return {"DataType": "Number", "StringValue": text} if is_number else None
    if value.startswith("=="):
        return None
    if len(value) == 9 and value.isascii():
        return {"DataType": "Binary", "BinaryValue": value.encode()}
    return {"DataType": "String", "StringValue": value} if value and value.isprintable() else None


def _message(
    random: _Random, columns: list[Column], pools: dict[str, _Pool]
) -> tuple[str, dict[str, Any]]:
    tree: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    is_good = random.chance(2)
    for column in columns:
        pool, names = pools.get(column["name"]), names_of(column)
        if pool is None or names in (["$"], ["o"]):
            continue
        is_odd = not is_good and random.chance(3)
        text = random.choice(pool.odd if is_odd else pool.good)
        if "message_attribute" in column:
            if given := _attribute(text):
                attributes[column["message_attribute"]] = given
            continue
        many = [text] * len(names)
        if len(names) > 1:
            others = [MISSING, MISSING, "null", text, *(pool.odd if is_odd else [])]
            if re.fullmatch(r"-?[0-9]+\.[0-9]+", text):
                others += [f"{text}0", f"{text}000000000000001"]
            many[random.randrange(2)] = random.choice(others)
        for name, given_text in zip(names, many, strict=True):
            if given_text != MISSING:
                _set(tree, name, given_text)
    if not is_good and random.chance(4):
        inner = tree.get("o", {})
        odd = ["null", '"x"', "7", "{}", [inner, "null", "5"], [[inner]]]
        tree["o"] = random.choice(odd)
    if not is_good and random.chance(4):
        tree["extra"] = random.choice(_ANY)
    return _event_text(tree), attributes
