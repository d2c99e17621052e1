"""The parameters of a request to the embedded SQS, with checks of their types and ranges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from etl.embedded.sqs_refusals import Refusal, invalid, missing

MAX_ENTRIES = 10
STORED_MEMBERS = ("DataType", "StringValue", "BinaryValue")  # of a message attribute


class Parameters:
    """The members of a request, or of one batch entry; each is checked when it is read."""

    def __init__(self, members: object, path: str = "") -> None:
        """Take the decoded JSON; a refusal names a member with *path* in front."""
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
        """Whether the request has this member."""
        return self._members.get(name) is not None

    def check_text(self, name: str) -> None:
        """Refuse a request without this string."""
        if not self.optional_text(name):
            raise missing(self._path + name)

    def text(self, name: str) -> str:
        """Return a required string."""
        self.check_text(name)
        return self.optional_text(name)

    def optional_text(self, name: str) -> str:
        """Return a string, or "" when the member is absent."""
        value: str = self._member(name, str, "")
        return value

    def integer(self, name: str) -> int | None:
        """Return an integer, or None when the member is absent."""
        value: int | None = self._member(name, int, None)
        return value

    def required_integer(self, name: str) -> int:
        """Return a required integer."""
        if (value := self.integer(name)) is None:
            raise missing(self._path + name)
        return value

    def ranged(self, name: str, default: int, low: int, high: int) -> int:
        """Return an integer from *low* to *high*, or *default* when the member is absent."""
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
        values = self._member("MessageAttributes", dict, {})
        stored = {}
        for name, value in values.items():
            members = Parameters(value, f"{self._path}MessageAttributes.{name}.")
            texts = {key: members.optional_text(key) for key in STORED_MEMBERS}
            stored[name] = {key: text for key, text in texts.items() if text}
        return stored

    def entries(self, entry_name: str) -> list[Parameters]:
        """Return the entries of a batch.

        :raises Refusal: AWS would refuse the batch as a whole.
        """
        values = self._member("Entries", list, [])
        if not values:
            raise Refusal(
                "EmptyBatchRequest", f"There should be at least one {entry_name} in the request."
            )
        if len(values) > MAX_ENTRIES:
            raise Refusal(
                "TooManyEntriesInBatchRequest",
                f"Maximum number of entries per request are {MAX_ENTRIES}. "
                f"You have sent {len(values)}.",
            )
        entries = [
            Parameters(value, f"{entry_name}.{number}.") for number, value in enumerate(values, 1)
        ]
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
