"""How the value of a column is read from the event."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from etl.config.conversion import number
from etl.config.section import Section
from etl.config.yaml_text import Scalar
from etl.errors import shown_name, suggestion

Accepted = Literal[
    "text", "whole_float", "port", "nanoseconds", "leap_second", "offset_without_colon"
]
Step = Literal["strip", "nfc", "nfkc", "lower", "upper", "digits"]

_WHOLE = ("smallint", "integer", "bigint")
_NUMBERS = (*_WHOLE, "number", "decimal")
_TIMES = ("timestamp", "datetime", "time")
# What each word is for, as errors say it.
_ACCEPTED_FOR = {
    "text": "numbers and booleans",
    "whole_float": "type 'smallint', 'integer' or 'bigint'",
    "port": "type 'ip'",
    "nanoseconds": "type 'timestamp', 'datetime' or 'time'",
    "leap_second": "timestamps as text",
    "offset_without_colon": "timestamps as text",
}
# Types without a text that could be cleaned, or whose text may not change.
_NOT_CLEANED = ("json", "bytes")
# Steps of which only the second would have an effect.
_OPPOSITES = (("lower", "upper"), ("nfc", "nfkc"))

# With this many bits or fewer, a network may come from a field that is masked elsewhere.
HIDING_V4, HIDING_V6 = 24, 48
MAX_V4, MAX_V6 = 31, 127  # one more would keep the whole address
LONGEST_NETWORK = len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127")
_NETWORK = (
    f"must be how many of the first bits are kept: 1 to {MAX_V4} of IPv4, such as 24, or also 1 to "
    f"{MAX_V6} of IPv6, such as {{v4: 24, v6: 48}}"
)


class Network(Section):
    """How many of an address's first bits are kept."""

    v4: int = HIDING_V4
    v6: int = HIDING_V6

    @property
    def hides_address(self) -> bool:
        """Whether so little is kept that the field may be masked in another column."""
        return self.v4 <= HIDING_V4 and self.v6 <= HIDING_V6


class ColumnReading(Section):
    """What is done to a value before it is checked."""

    pick: Literal["first", "last"] | None = Field(
        None,
        description="read one value of a list, which is a JSON array or a text with commas, as in "
        "X-Forwarded-For: there the first is what the client says, which anyone can forge",
    )
    clean: tuple[Step, ...] = Field(
        (),
        description="change a text before it is checked and masked, in this order: `strip` (spaces "
        "at its ends), `nfc`, `nfkc` (Unicode forms), `lower`, `upper`, `digits` (keep only those)",
    )
    null_values: tuple[str, ...] = Field(
        (), description="values that count as null; compared after `clean`"
    )
    accept: tuple[Accepted, ...] = Field(
        (),
        description="what is also taken: `text` (a number or boolean as text, `'5'`), "
        "`whole_float` (5.0 for an integer), `port` (an address with a port), and for times "
        "`nanoseconds`, `leap_second`, `offset_without_colon`",
    )
    canonical: bool = Field(
        True, description="type ip: store every notation of an address as the same value"
    )
    network: Network | None = Field(
        None,
        description="type ip: store only the network, by how many of the first bits are kept: `24` "
        "or `{v4: 24, v6: 48}`, the defaults of both",
    )

    @field_validator("accept", mode="before")
    @classmethod
    def _check_accept(cls, given: Any) -> Any:
        return _distinct_words(given, get_args(Accepted))

    @field_validator("clean", mode="before")
    @classmethod
    def _check_clean(cls, given: Any) -> Any:
        words = _distinct_words(given, get_args(Step))
        for pair in _OPPOSITES:
            if isinstance(words, (list, tuple)) and set(pair) <= set(words):
                raise ValueError(f"has both {pair[0]!r} and {pair[1]!r}; take one out")
        return words

    @field_validator("network", mode="before")
    @classmethod
    def _check_network(cls, given: Any) -> Any:
        if given is None or isinstance(given, Network):
            return given
        value = number(given.text) if isinstance(given, Scalar) else given
        bits = value if isinstance(value, dict) else {"v4": value}
        limits = {"v4": MAX_V4, "v6": MAX_V6}
        if not all(
            name in limits and type(kept) is int and 1 <= kept <= limits[name]
            for name, kept in bits.items()
        ):
            raise ValueError(_NETWORK)
        return Network(**bits)

    @property
    def is_read_leniently(self) -> bool:
        """Whether any value is changed before it is checked."""
        return bool(self.pick or self.clean or self.null_values or self.accept)


def reading_problem(column: Any, *, is_sent: bool) -> str | None:
    """What is wrong with these settings in a column with all of its settings; None if nothing is.

    :param is_sent: the value is from an event or its sender
    """
    settings = ("pick", "clean", "null_values", "accept", "network")
    used = [setting for setting in settings if getattr(column, setting)]
    if used and not is_sent:
        return f"has {used[0]!r}, which only a value of an event or of its sender can need"
    for setting in used[:3] if column.type in _NOT_CLEANED or column.array else ():
        if setting in ("pick", "clean", "null_values"):
            kind = "an array" if column.array else f"type {column.type!r}"
            return f"has {setting!r}, which {kind} cannot have; take it out"
    for word in column.accept:
        if problem := _accept_problem(column, word):
            return problem
    if column.clean and _is_number(column) and "text" not in column.accept:
        return "has 'clean', which numbers and booleans can have only with 'accept: [text]'"
    if "digits" in column.clean and column.type != "text":
        return "has the step 'digits', which is only for type 'text'; take it out"
    return _network_problem(column) if column.network else None


def _is_number(column: Any) -> bool:
    return column.type in (*_NUMBERS, "boolean") or (
        column.type in _TIMES and column.format not in (None, "rfc3339")
    )


def _accept_problem(column: Any, word: str) -> str | None:
    is_moment = column.type == "timestamp" or column.format is not None
    fits = {
        "text": _is_number(column),
        "whole_float": column.type in _WHOLE,
        "port": column.type == "ip",
        "nanoseconds": column.type in _TIMES,
        "leap_second": is_moment and not _is_number(column),
        "offset_without_colon": is_moment and not _is_number(column),
    }
    if not fits[word]:
        return f"accepts {word!r}, which is only for {_ACCEPTED_FOR[word]}; take it out"
    if column.array and column.type not in _TIMES:
        return f"accepts {word!r}, which an array cannot have; take it out"
    return None


def _network_problem(column: Any) -> str | None:
    if column.type != "ip":
        return "has a 'network', which is only for type 'ip'; take it out"
    if column.mask:
        return "has a 'network', which is stored in plain; take it out, or 'mask' out"
    if not column.canonical:
        return "has a 'network', which is always canonical; take 'canonical' out"
    if column.max_length is not None and column.max_length < LONGEST_NETWORK:
        return f"has a 'network', which has up to {LONGEST_NETWORK} characters"
    return None


def _distinct_words(given: Any, known: tuple[str, ...]) -> Any:
    """Check a list of words; what is no list is left to pydantic."""
    if not isinstance(given, (list, tuple)):
        return given
    for position, word in enumerate(given):
        if word not in known:
            text = word if isinstance(word, str) else ""
            raise ValueError(f"has the unknown word {shown_name(text)}{suggestion(text, known)}")
        if word in given[:position]:
            raise ValueError(f"has {word!r} twice")
    return given
