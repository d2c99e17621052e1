"""Messages from files: what a person kept of a queue, or wrote by hand.

A file may hold one message body, a body in each line, a JSON array of bodies, or what
``aws sqs receive-message`` prints. Bodies keep their exact text, since 1.10 is not 1.1.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from etl.config import Settings
from etl.errors import UsageError
from etl.sqs.attributes import wanted_attributes
from etl.sqs.message import Message, read_message
from etl.text import decoded, read_at_most

MAX_BYTES = 256 * 1024 * 1024  # of a file; a sample is not an archive

STDIN = Path("-")

FORMATS = ("auto", "body", "lines", "array", "aws")

# Only where each thing begins and ends matters here. int() would refuse thousands of digits.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_OF_SQS = ("MessageId", "ReceiptHandle", "Body")


@dataclass(frozen=True)
class Sample:
    """Messages, and where each of them is in the files."""

    messages: list[Message] = field(repr=False)
    places: dict[str, str]  # by message id
    read_as: list[str]  # how each file was read, in words


@dataclass(frozen=True)
class _Entry:
    """A message of a file: its body, or an entry of SQS's answer."""

    place: str
    body: str = ""
    of_sqs: Any = None


def read_sample(path: Path, settings: Settings, form: str = "auto") -> Sample:
    """Read the messages of a file, or of the files of a folder in the order of their names.

    A file named - is standard input.

    A message without a time counts as sent now. One without an id gets one that is made up.

    :param form: how a file is read; ``auto`` takes one message for each file, line, item or entry
        of SQS, by what the file is as JSON
    :raises UsageError: a file cannot be read, is not of this form, or there is no message
    """
    wanted = wanted_attributes(settings.tables)
    now_ms = time.time_ns() // 1_000_000
    messages: dict[str, Message] = {}
    places: dict[str, str] = {}
    read_as = []
    files = _files(path)
    for file in files:
        entries, how = _entries(_text(file), form, file)
        name = "standard input" if file == STDIN else file.name
        read_as.append(f"{name}: {how}")
        for entry in entries:
            made_up = str(uuid.UUID(int=len(messages) + 1))
            source = entry.of_sqs or {"MessageId": made_up, "ReceiptHandle": "", "Body": entry.body}
            # Somebody may have edited the body, which a checksum of SQS would not fit.
            message = read_message({**source, "MD5OfBody": None}, wanted)
            if message.sent_ms is None:
                message.sent_ms = now_ms
            messages[message.message_id] = message  # the newest delivery
            before = f"{name}, " if len(files) > 1 and entry.place else ""
            places[message.message_id] = f"{before}{entry.place}" or name
    if not messages:
        raise UsageError(f"{str(path)!r} holds no message")
    return Sample(list(messages.values()), places, read_as)


def attributes_it_lacks(sample: Sample, settings: Settings) -> Iterator[str]:
    """Say which columns read an attribute that no message of the sample has."""
    for column in (column for table in settings.tables for column in table.columns):
        name = column.message_attribute or (None if column.is_sent_time else column.attribute)
        if name and not any(column.source in (m.attributes or {}) for m in sample.messages):
            yield (
                f"no message of the sample has the attribute {name!r}, which column "
                f"{column.name!r} reads; receive the sample with --attribute-names All "
                "--message-attribute-names All"
            )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))


def _text(file: Path) -> str:
    try:
        if file == STDIN:
            text = decoded(read_at_most(sys.stdin.buffer, MAX_BYTES))
        else:
            with file.open("rb") as opened:
                text = decoded(read_at_most(opened, MAX_BYTES))
    except OSError as error:
        raise UsageError(f"cannot read {str(file)!r}: {error.strerror}") from None
    if text is None:
        raise UsageError(f"cannot read {str(file)!r}: not text in UTF-8")
    return text


def _entries(text: str, form: str, file: Path) -> tuple[list[_Entry], str]:
    """The messages of a text, and how it was read."""
    if not text.strip():
        return [], "nothing"
    if form == "body":
        return [_Entry("", text)], "one message body"
    if form == "lines":
        return list(_lines(text)), "a message body in each line"
    documents = _documents(text)
    is_array = len(documents) == 1 and type(documents[0][0]) is list
    if form == "array":
        if not is_array:
            raise UsageError(f"{str(file)!r} is not a JSON array")
        return list(_items(text)), "a message body in each item of the array"
    if of_sqs := _messages_of_sqs([value for value, _ in documents]):
        return of_sqs, "messages as SQS gives them"
    if form == "aws":
        raise UsageError(
            f"{str(file)!r} is not what aws sqs receive-message prints: messages with MessageId, "
            "ReceiptHandle and Body"
        )
    # From here on, by what the text is as JSON.
    if is_array:
        how = "a message body in each item of the array; if the array is one body: --format body"
        return list(_items(text)), how
    if len(documents) == 1:
        return [_Entry("", text)], "one message body"
    first = next(line for line in text.splitlines() if line.strip())
    if len(_documents(first)) == 1:
        return list(_lines(text)), "a message body in each line; if it is one body: --format body"
    if documents:
        entries = [
            _Entry(f"document {number}", part) for number, (_, part) in enumerate(documents, 1)
        ]
        return entries, "several JSON documents, a message body each"
    return [_Entry("", text)], "one message body, which is not JSON"


def _messages_of_sqs(documents: list[Any]) -> list[_Entry]:
    """The messages that documents hold if all of them come from SQS; otherwise none."""
    found: list[Any] = []
    for document in documents:
        inner = document.get("Messages") if type(document) is dict else document
        listed = inner if type(inner) is list else [document]
        if not all(map(_is_of_sqs, listed)):
            return []
        found += listed
    return [_Entry(f"message {number}", of_sqs=entry) for number, entry in enumerate(found, 1)]


def _is_of_sqs(value: Any) -> bool:
    """Whether a value is an entry of SQS's answer; no event has these three names by chance."""
    if type(value) is not dict or not all(type(value.get(name)) is str for name in _OF_SQS):
        return False
    of_sqs, of_sender = value.get("Attributes", {}), value.get("MessageAttributes", {})
    if not isinstance(of_sqs, Mapping) or not isinstance(of_sender, Mapping):
        return False
    return all(isinstance(attribute, Mapping) for attribute in of_sender.values())


def _lines(text: str) -> Iterator[_Entry]:
    # Not splitlines(), which also ends a line at characters that JSON may hold in a text.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _Entry(f"line {number}", line.strip("\r"))


def _items(text: str) -> Iterator[_Entry]:
    """The items of an array: of a text in quotes what it says, of all others their JSON."""
    position = _gap(text, _gap(text, 0) + 1)
    number = 0
    while text[position] != "]":
        value, end = _DECODER.raw_decode(text, position)
        number += 1
        is_text = text[position] == '"'
        yield _Entry(f"item {number}", value if is_text else text[position:end])
        position = _gap(text, end)
        if text[position] == ",":
            position = _gap(text, position + 1)


def _documents(text: str) -> list[tuple[Any, str]]:
    """The JSON documents that follow one another, each with its text; none if one is broken."""
    found = []
    position = _gap(text, 0)
    while position < len(text):
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return []
        found.append((value, text[position:end]))
        position = _gap(text, end)
    return found


def _gap(text: str, position: int) -> int:
    """The end of the blanks that begin at a position."""
    return int(WHITESPACE.match(text, position).end())
