"""Gives each value the type of its setting: by what the setting is, never by how the value looks.

Numbers and null are written as in YAML 1.2.2, section 10.3 (core schema). A value that does not
fit is left as it is, so that the check of the settings refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from etl.config.yaml_text import Scalar

NULL = frozenset({"", "~", "null", "Null", "NULL"})
# Since the setting is known to be one of two values, nothing else can be meant by these.
WORDS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
MAX_DIGITS = 100  # Python refuses to read integers of more than 4,300

_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OTHER_BASES = {"0o": (8, re.compile(r"0o[0-7]+")), "0x": (16, re.compile(r"0x[0-9a-fA-F]+"))}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a section by the keys that name them."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a setting is, or that the items of its list are; None if there is none."""
    for kind in kinds(annotation):
        if _is_section(kind):
            return kind  # type: ignore[no-any-return]
        if _is_list(kind) and (section := section_of(get_args(kind)[0])):
            return section
    return None


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The sections of all settings, by their names."""
    found = {key: section_of(info.annotation) for key, info in fields(model).items()}
    return {key: section for key, section in found.items() if section}


def is_text(annotation: Any) -> bool:
    """Whether a setting is a text or a choice of words."""
    return any(kind is str or get_origin(kind) is Literal for kind in kinds(annotation))


def is_single(annotation: Any) -> bool:
    """Whether a setting is one value, not a list and not a section."""
    return not any(_is_list(kind) or _is_section(kind) for kind in kinds(annotation))


def kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types that a setting may have."""
    if get_origin(annotation) is Annotated:
        yield from kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for choice in get_args(annotation):
            yield from kinds(choice)
    else:
        yield annotation


def typed(value: Any, annotation: Any) -> Any:
    """Make of a value from YAML what a setting of this type holds."""
    known = list(kinds(annotation))
    if isinstance(value, Scalar):
        return _scalar(value, known)
    for kind in known:
        if isinstance(value, list) and _is_list(kind):
            return [typed(item, get_args(kind)[0]) for item in value]
        if isinstance(value, dict) and _is_section(kind):
            known_fields = fields(kind)
            return {
                key: _of_field(item, known_fields[key].annotation) if key in known_fields else item
                for key, item in value.items()
            }
    return value


def _of_field(value: Any, annotation: Any) -> Any:
    # A section with nothing in it, such as one whose lines are all comments.
    empty = isinstance(value, Scalar) and value.plain and value.text in NULL
    return {} if empty and _is_section(annotation) else typed(value, annotation)


def number(text: str) -> int | float | None:
    """Read a number of the core schema; None if it is none."""
    base, pattern = _OTHER_BASES.get(text[:2], (10, _DECIMAL))
    if pattern.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else None


def _scalar(value: Scalar, known: list[Any]) -> Any:
    if value.plain and value.text in NULL:
        return None if NoneType in known else value
    read: Any = None
    if any(map(is_text, known)):
        read = WORDS.get(value.text.lower(), value.text) if bool in known else value.text
    elif bool in known:
        read = WORDS.get(value.text.lower())
    elif int in known or float in known:
        read = number(value.text)
    return value if read is None else read


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
