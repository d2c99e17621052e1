"""Reads YAML 1.2 without guessing: a value stays text until its setting says what it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from etl.config import slips
from etl.errors import SettingsError, shown_name

# A position in a tree: keys, and positions in lists from 0.
Place = tuple[str | int, ...]

# More than any configuration has. Aliases of aliases could name billions.
MAX_VALUES = 100_000

_PLAIN = "plain"
_TEXT, _LIST, _MAPPING = (f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map"))
_MERGE = "<<"


@dataclass(frozen=True)
class Scalar:
    """A single value as it is written; its repr does not show it, since it may be a secret."""

    text: str = field(repr=False)
    plain: bool = True  # written without quotes


@dataclass(frozen=True)
class Document:
    """What a text in YAML holds.

    :param tree: dicts, lists and :class:`Scalar`
    :param lines: the line, from 1, of each value
    :param problems: sentences about keys that appear twice, and the like
    """

    tree: Any
    lines: dict[Place, int]
    problems: list[str]


class _Loader(yaml.SafeLoader):
    """Composes nodes, and tells plain scalars from quoted ones."""

    yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}  # noqa: RUF012 (as in its base)


def read_yaml(text: str, origin: str) -> Document:
    """Read one document; keys are texts as they are written.

    :param origin: where the text came from, for errors
    :raises SettingsError: it is not YAML, or more than one document
    """
    problem: str
    try:
        node = yaml.compose(text, Loader=_Loader)
        reader = _Nodes(origin)
        tree = reader.value(node, (), ())
        return Document(tree, reader.lines, list(dict.fromkeys(reader.problems)))
    except yaml.YAMLError as error:
        problem = _not_yaml(error, text, origin)
    except RecursionError:
        problem = f"{origin!r} is nested too deeply"
    # Raised here and not in the handler, so that it does not carry an exception with the text.
    raise SettingsError(problem)


def _not_yaml(error: yaml.YAMLError, text: str, origin: str) -> str:
    # The mark quotes the line, which may hold a secret; its position is safe to show.
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        # A character that no YAML has: the reader counts from the start.
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        return f"{origin!r} is not YAML: it has a control character in line {line}"
    where = f"at line {mark.line + 1}, column {mark.column + 1}"
    problem = getattr(error, "problem", None) or ""
    if mark.buffer is not None and mark.buffer[mark.pointer : mark.pointer + 1] == "\t":
        return f"{origin!r} is not YAML {where}: there is a tab; indent with spaces"
    if problem == "but found another document":
        return f"{origin!r} holds a second document {where}; keep one"
    if "undefined alias" in problem:
        return f"{origin!r} has an alias {where} without an anchor before it"
    context = getattr(error, "context", None) or ""
    if "double-quoted" in context:
        where += ": a backslash in double quotes begins an escape; use single quotes"
    elif "quoted scalar" in context and (opened := getattr(error, "context_mark", None)):
        where += f": the quote that is opened in line {opened.line + 1} is not closed"
    elif problem.startswith("found character"):
        where += ": put the value in quotes"
    elif found := slips.in_lines(text.split("\n"), mark.line + 1):
        where += f": {found}"
    elif problem.startswith("mapping values"):
        where += ": correct its indentation, or put a value with a colon in quotes"
    return f"{origin!r} is not YAML {where}"


class _Nodes:
    """Makes values from nodes, and remembers their lines."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.lines: dict[Place, int] = {}
        self.problems: list[str] = []
        self._count = 0

    def value(self, node: yaml.Node | None, place: Place, above: tuple[yaml.Node, ...]) -> Any:
        """Make the value of a node.

        :param above: the nodes that it is in, of which an alias could name one again
        """
        if node is None:
            return None
        self._check_size(node, above)
        self.lines.setdefault(place, _line(node))
        if node.tag not in (_PLAIN, _TEXT, _LIST, _MAPPING):
            self.problems.append(
                f"line {_line(node)} of {self.origin!r} has a tag, which begins with '!': take it "
                "out, since the setting says what its value is"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place, (*above, node))
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(item, (*place, index), (*above, node))
                for index, item in enumerate(node.value)
            ]
        return Scalar(self._text(node), plain=node.tag == _PLAIN)

    def _text(self, node: yaml.Node) -> str:
        text = str(node.value)
        if node.tag != _PLAIN or not (found := slips.slip(text)):
            return text
        self.problems.append(f"line {_line(node)} of {self.origin!r} {found}")
        return slips.corrected(text)

    def _mapping(
        self, node: yaml.MappingNode, place: Place, above: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, key, item in self._pairs(node, above):
            self.lines[*place, name] = _line(key)
            values[name] = self.value(item, (*place, name), above)
        return values

    def _pairs(
        self, node: yaml.MappingNode, above: tuple[yaml.Node, ...]
    ) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield each key once: its text, its node and its value's.

        A key of the mapping itself comes before one that is merged into it.
        """
        first: dict[str, yaml.Node] = {}
        merged: list[yaml.Node] = []
        for key, item in node.value:
            name = self._text(key) if isinstance(key, yaml.ScalarNode) else None
            if name is None:
                self.problems.append(
                    f"line {_line(key)} of {self.origin!r} has a list or a mapping as a key; a key "
                    "must be a word"
                )
            elif self._is_new(name, key, first) and name == _MERGE and key.tag == _PLAIN:
                merged += item.value if isinstance(item, yaml.SequenceNode) else [item]
            elif first[name] is key:
                yield name, key, item
        yield from self._merged(merged, first, above)

    def _merged(
        self, nodes: list[yaml.Node], own: dict[str, yaml.Node], above: tuple[yaml.Node, ...]
    ) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        found: dict[str, yaml.Node] = {}
        for node in nodes:
            if not isinstance(node, yaml.MappingNode):
                self.problems.append(
                    f"line {_line(node)} of {self.origin!r} merges something that is not a mapping"
                )
                continue
            self._check_size(node, above)
            for name, key, item in self._pairs(node, (*above, node)):
                if name not in own and self._is_new(name, key, found):
                    yield name, key, item

    def _check_size(self, node: yaml.Node, above: tuple[yaml.Node, ...]) -> None:
        """Count a node; refuse one that is in itself, and more than any configuration has."""
        self._count += 1
        if any(node is outer for outer in above):
            raise SettingsError(
                f"line {_line(node)} of {self.origin!r} has an anchor inside itself"
            )
        if self._count > MAX_VALUES:
            raise SettingsError(f"{self.origin!r} has more than {MAX_VALUES:,} values and aliases")

    def _is_new(self, name: str, key: yaml.Node, first: dict[str, yaml.Node]) -> bool:
        known = first.setdefault(name, key)
        if known is not key:
            lines = sorted({_line(known), _line(key)})
            where = f"line{'s' if len(lines) > 1 else ''} {' and '.join(map(str, lines))}"
            self.problems.append(
                f"key {shown_name(name)} appears twice, in {where} of {self.origin!r}: take one "
                "of them out"
            )
        return known is key


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
