"""The sentences about settings that are missing, unknown or out of range.

They say what is allowed. What was given may be a secret in the wrong place, so only a short word
in place of another one, or a short number, is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from etl.config.conversion import NULL, fields, number, section_of, sections
from etl.config.places import at, columns_at, is_of_column, table_size, written
from etl.config.settings import Settings
from etl.config.yaml_text import Place, Scalar
from etl.errors import nearest, shown_name, suggestion

_WORD = re.compile(r"[A-Za-z]{1,16}")
MAX_NUMBER = 9  # characters of a number that is repeated
_INNER = ("column ", "routes.tables[")

# Settings that have another name now.
_RENAMED = {("queue", "receivers"): "queue.max_receivers"}


def sentence(problem: Any, tree: Mapping[str, Any], origins: Mapping[Place, str]) -> str:
    """Say which setting is wrong, what it must be, and which line or variable it is from.

    :param problem: one of pydantic's errors
    :param tree: the values from all sources
    :param origins: the line or the variable of each place in the tree
    """
    place: Place = tuple(problem["loc"])
    said = problem["msg"].removeprefix("Value error, ")
    if not place:
        # A check of several settings together; its message names them.
        return f"{said}{_origins_of_named(said, origins)}"
    subject, rest = _subject(place, tree)
    found = _origins_of_columns(said, place, tree, origins)
    return f"{_about(problem, subject, rest, tree, said)}{found or origin(place, origins)}"


def joined(sentences: Iterable[str]) -> str:
    """One problem as it is, several as a line each."""
    distinct = list(dict.fromkeys(sentences))
    if len(distinct) == 1:
        return distinct[0]
    return "\n  ".join([f"{len(distinct)} problems in the settings:", *distinct])


def origin(place: Place, origins: Mapping[Place, str]) -> str:
    """The line or the variable of a value, or of the nearest that it is in, in parentheses.

    Empty for a value from the command line.
    """
    for length in range(len(place), 0, -1):
        if place[:length] in origins:
            found = origins[place[:length]]
            return f" ({found})" if found else ""
    # A section of which only variables set something.
    within = [found for other, found in origins.items() if other[: len(place)] == place and found]
    return f" ({within[0]})" if within else ""


def _origins_of_named(text: str, origins: Mapping[Place, str]) -> str:
    named = [tuple(match) for match in re.findall(r"\b([a-z]+)\.([a-z_]+)\b", text)]
    found = [origins[place] for place in named if origins.get(place)]
    return f" ({', '.join(found)})" if found else ""


def _origins_of_columns(
    text: str, place: Place, tree: Mapping[str, Any], origins: Mapping[Place, str]
) -> str:
    """The lines of the columns that a text about several of them names."""
    named = set(re.findall("'([^']+)'", text))
    places = [found for found in columns_at(place, tree) if named & _names(at(tree, found))]
    found = list(dict.fromkeys(origins[place] for place in places if origins.get(place)))
    return f" ({', '.join(found)})" if found else ""


def _names(column: Mapping[str, Any]) -> set[str]:
    fields_read = column.get("field")
    listed = fields_read if isinstance(fields_read, list) else [fields_read]
    named = (column.get("name"), column.get("attribute"), *listed)
    return {name for name in named if isinstance(name, str)}


def _subject(place: Place, tree: Mapping[str, Any]) -> tuple[str, Place]:
    """Name the thing that a place is in, and return the rest of the place."""
    size = table_size(place)
    table = _name_of_table(place, tree) if size > 1 else ""
    if is_of_column(place):
        index = int(place[size + 1])
        # From 1, as people count.
        name = _name(at(tree, place[: size + 2])) or f"number {index + 1}"
        return f"{table and f'{table}: '}column {name}", place[size + 2 :]
    if table:
        return table, place[size:]
    if len(place) == 1:
        return f"section {shown_name(str(place[0]))}", ()
    if size and isinstance(place[-1], str):
        return f"setting {shown_name(written(place))}", ()
    return f"setting {shown_name('.'.join(map(str, place[:2])))}", place[2:]


def _name_of_table(place: Place, tree: Mapping[str, Any]) -> str:
    table = at(tree, place[:3])
    name = _name(table)
    return f"{written(place[:3])} ({name})" if name else written(place[:3])


def _name(part: Any) -> str:
    """The name of a column or a table, as it may be shown; empty if it has none."""
    name = part.get("name") if isinstance(part, dict) else None
    return shown_name(name) if isinstance(name, str) and name else ""


def _about(problem: Any, subject: str, rest: Place, tree: Mapping[str, Any], said: str) -> str:
    place: Place = tuple(problem["loc"])
    # Of a column, or of one of several tables, the subject leaves the key to be named.
    is_inner = subject.startswith(_INNER)
    is_column = is_of_column(place)
    key = str(place[-1])
    if is_inner and rest:
        key = str(rest[0]) if is_column else written(rest)
    if problem["type"] == "extra_forbidden":
        what = f"{subject}: unknown key {shown_name(key)}" if is_inner else f"unknown {subject}"
        if place in _RENAMED:
            return f"{what}; its name is now {_RENAMED[place]!r}"
        known = fields(_model(place[:-1]))
        given = str(place[-1])
        homes = [] if is_inner or nearest(given, known) else _sections_with(given)
        return f"{what}; it belongs to {homes[0]!r}" if homes else what + suggestion(given, known)
    if problem["type"] == "missing":
        or_routes = ", and so is 'routes'" if place == ("table",) else ""
        return f"{subject}: {key!r} is missing" if is_inner else f"{subject} is missing{or_routes}"
    named = f"{key!r} " if is_inner and rest else ""
    if problem["type"] == "model_type":
        keys = ", ".join(list(fields(_model(place)))[:3])
        return f"{subject}: {named}must hold keys such as {keys}"
    if problem["type"] == "value_error":
        return f"{subject}: {named if is_column or not named else f'{key!r}: '}{said}"
    facts = _facts(place)
    given = _given(place, tree)
    if words := facts.get("enum", [facts["const"]] if "const" in facts else []):
        shown = given if _WORD.fullmatch(given) else ""
        unknown = f"unknown {key if is_inner else 'value'}{f' {shown!r}' if shown else ''}"
        return f"{subject}: {unknown}{suggestion(shown, words)}"
    return f"{subject}: {named}must be {_allowed(facts)}{_but(given)}"


def _but(given: str) -> str:
    """Repeat what was given, if it is safe and tells more than its line does."""
    if number(given) is not None and len(given) <= MAX_NUMBER:
        return f", not {given}"
    return "; put a word in quotes that is meant as text" if given in NULL - {""} else ""


def _sections_with(key: str) -> list[str]:
    """The sections that have a setting of this name, if it is only one."""
    homes = [name for name, model in sections(Settings).items() if key in fields(model)]
    return homes if len(homes) == 1 else []


def _model(place: Place) -> Any:
    model: Any = Settings
    for part in place:
        if isinstance(part, str):
            model = section_of(fields(model)[part].annotation)
    return model


def _facts(place: Place) -> dict[str, Any]:
    """What the JSON schema of a setting says of its values, apart from null."""
    size = table_size(place) or 1
    if place[size] == "columns" and len(place) > size + 2:
        size += 2
    elif table_size(place):
        size = max(number for number, step in enumerate(place) if isinstance(step, str))
    owner, key = place[:size], place[size]
    facts: dict[str, Any] = _model(owner).model_json_schema()["properties"][key]
    items = facts.get("items", {})
    if isinstance(place[-1], int) and items.get("type") == "string":
        facts = items
    return next(
        (choice for choice in facts.get("anyOf", ()) if choice.get("type") != "null"), facts
    )


def _given(place: Place, tree: Mapping[str, Any]) -> str:
    """The text of what was given; empty if it is a list or a section."""
    value = at(tree, place)
    if isinstance(value, Scalar):
        return value.text
    return "" if isinstance(value, (dict, list)) else str(value)


def _allowed(facts: Mapping[str, Any]) -> str:
    kind = facts.get("type")
    if kind == "boolean":
        return "true or false"
    if kind == "array":
        in_lists = facts["items"].get("type") == "array"
        return "a list of lists of columns, such as [[a, b]]" if in_lists else "a list"
    if kind == "string":
        if "pattern" in facts:
            return "text, not empty and without NUL characters"
        length = facts.get("maxLength")
        return f"text of at most {length} characters" if length else "text, and not empty"
    noun = "a whole number" if kind == "integer" else "a number"
    low, high = facts.get("minimum"), facts.get("maximum")
    if low is not None:
        return (
            f"{noun} from {low:,} to {high:,}" if high is not None else f"{noun}, {low:,} or more"
        )
    if "exclusiveMinimum" in facts:
        above = f"{noun} above {facts['exclusiveMinimum']:,}"
        return f"{above}, at most {high:,}" if high is not None else above
    return noun
