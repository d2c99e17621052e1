"""The members of a request to the embedded SQS, checked for their types and ranges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from etl.embedded.sqs_model import Refusal, invalid, missing

MAXIMUM_ENTRIES = 10


class Parameters:
    """The members of a request, or of one entry of its batch, each checked for its type."""

    def __init__(self, members: object, path: str = "") -> None:
        """Take the decoded JSON; *path* stands before a member's name in a refusal."""
        if not isinstance(members, dict):
            raise Refusal("SerializationException", "A JSON object was expected.")
        self._members: dict[str, Any] = members
        self._path = path

    def _member(self, name: str, kind: type, default: Any) -> Any:
        value = self._members.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or isinstance(value, bool):
            raise Refusal("SerializationException", f"{self._path}{name} has the wrong type.")
        return value

    def has(self, name: str) -> bool:
        """Whether the member was given."""
        return self._members.get(name) is not None

    def text(self, name: str) -> str:
        """Return a string that must be there."""
        if not (value := self.optional_text(name)):
            raise missing(self._path + name)
        return value

    def optional_text(self, name: str) -> str:
        """Return a string, or "" without it."""
        value: str = self._member(name, str, "")
        return value

    def integer(self, name: str) -> int | None:
        """Return an integer, or None without it."""
        value: int | None = self._member(name, int, None)
        return value

    def required_integer(self, name: str) -> int:
        """Return an integer that must be there."""
        if (value := self.integer(name)) is None:
            raise missing(self._path + name)
        return value

    def ranged(self, name: str, default: int, low: int, high: int) -> int:
        """Return an integer from *low* to *high*, or *default* without it."""
        value = self.integer(name)
        if value is None:
            return default
        if not low <= value <= high:
            raise invalid(name, value, f"Must be between {low} and {high}, if provided")
        return value

    def names(self, name: str) -> list[str]:
        """Return a list of strings."""
        values: list[str] = self._member(name, list, [])
        if not all(isinstance(value, str) for value in values):
            raise Refusal("SerializationException", f"{self._path}{name} has the wrong type.")
        return values

    def mapping(self, name: str) -> dict[str, str]:
        """Return a map from string to string."""
        values: dict[str, str] = self._member(name, dict, {})
        if not all(isinstance(value, str) for value in values.values()):
            raise Refusal("SerializationException", f"{self._path}{name} has the wrong type.")
        return values

    def message_attributes(self) -> dict[str, dict[str, str]]:
        """Return the message attributes, with only the members that SQS stores."""
        values = self._member("MessageAttributes", dict, None)
        if not values:
            return {}
        wanted = ("DataType", "StringValue", "BinaryValue")
        stored = {}
        for name, value in values.items():
            members = Parameters(value, f"{self._path}MessageAttributes.{name}.")
            given = {member: members.optional_text(member) for member in wanted}
            stored[name] = {member: text for member, text in given.items() if text}
        return stored

    def entries(self, entry_name: str) -> list[Parameters]:
        """Return the batch's entries, after the checks that refuse a batch as a whole."""
        values = self._member("Entries", list, [])
        if not values:
            raise Refusal(
                "EmptyBatchRequest", f"There should be at least one {entry_name} in the request."
            )
        if len(values) > MAXIMUM_ENTRIES:
            raise Refusal(
                "TooManyEntriesInBatchRequest",
                f"Maximum number of entries per request are {MAXIMUM_ENTRIES}. "
                f"You have sent {len(values)}.",
            )
        entries = [Parameters(v, f"{entry_name}.{n}.") for n, v in enumerate(values, 1)]
        _check_entry_ids([entry.text("Id") for entry in entries])
        return entries


def _check_entry_ids(ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for entry_id in ids:
        plain = entry_id.replace("-", "").replace("_", "")
        if len(entry_id) > 80 or not (entry_id.isascii() and (plain.isalnum() or not plain)):
            raise Refusal(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and "
                "underscores. It can be at most 80 letters long.",
            )
        if entry_id in seen:
            raise Refusal("BatchEntryIdsNotDistinct", f"Id {entry_id} repeated.")
        seen.add(entry_id)
