"""The fate of a campaign's messages, according to its own history, the database and the queue.

The checker uses nothing that the program reports about itself: not its counts, not its ledger, not
its cipher. It decrypts tokens and quarantined bodies with another library (`cryptography`).
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tests.acceptance.expected_rows import opened, primary_key
from tests.acceptance.leak_scan import spellings
from tests.chaos.oracle import Fields, fields
from tests.chaos.producer import History

FETCH_ROWS = 5000
CHUNK_BYTES = 1 << 20
MAX_EXAMPLES = 5  # message numbers kept of each kind of finding

TABLE = "public.user_logins"
_ROWS = (
    "select user_id, device_type, masked_ip, masked_device_id, locale, app_version, create_date "
    "from {table}"
)
# A tombstone has no body any more, but no campaign creates one.
_QUARANTINE = "select message_id, body from etl.quarantine where job = '{table}'"
_TABLES = (
    "select format('%I.%I', schemaname, tablename) from pg_tables "
    "where schemaname not in ('pg_catalog', 'information_schema')"
)


@dataclass
class Findings:
    """The deviations from what is promised; every count must be zero."""

    lost: int = 0  # neither loaded nor quarantined
    duplicated: int = 0  # loaded or quarantined more than once, or both
    unexpected: int = 0  # rows and quarantine entries of messages that were never sent
    wrong: int = 0  # a field that differs; a good message quarantined; a bad one loaded
    leaked: int = 0  # places that contain a plain personal value
    left: int = 0  # messages still in the queue
    dead: int = 0  # messages in the dead-letter queue, though each could have been handled
    examples: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        problems = self.lost + self.duplicated + self.unexpected + self.wrong
        return problems + self.leaked + self.left + self.dead == 0

    def plus(self, other: Findings) -> Findings:
        """Add the findings of another job."""
        counts = [name for name in vars(self) if name != "examples"]
        examples = {**self.examples}
        for kind, found in other.examples.items():
            examples[kind] = [*examples.get(kind, []), *found][:MAX_EXAMPLES]
        return Findings(
            **{name: getattr(self, name) + getattr(other, name) for name in counts},
            examples=examples,
        )

    def add(self, kind: str, example: Any) -> None:
        """Count one finding."""
        setattr(self, kind, getattr(self, kind) + 1)
        examples = self.examples.setdefault(kind, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(example)


def verdict(findings: Findings, fired: Counter[str], planned: dict[str, int]) -> str:
    """Say pass or fail; unknown if too few faults fired, since a pass would prove nothing then."""
    if not findings.is_clean:
        return "fail"
    return "pass" if all(fired[kind] >= count for kind, count in planned.items()) else "unknown"


class TokenOpener:
    """Decrypts tokens of a keyring's primary key with another library's RFC 5297."""

    def __init__(self, keyring: str) -> None:
        self._key_id, key = primary_key(keyring)
        self._cipher = AESSIV(key)

    def open(self, token: str, context: str) -> str | None:
        """The value, or None if the token is not genuine."""
        key_id, _, text = token.partition(".")
        bound_to = [f"etl:v1:{self._key_id}:{context}".encode()]
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            padded = self._cipher.decrypt(sealed, bound_to)
        except (ValueError, InvalidTag):
            return None
        value, mark, rest = padded.rpartition(b"\x80")
        genuine = key_id == self._key_id and mark and not rest.strip(b"\x00")
        return value.decode() if genuine else None


def check(
    history: History, database_url: str, keyring: str, days: set[dt.date], table: str = TABLE
) -> Findings:
    """Compare what was sent with what the database holds.

    :param days: the days, in UTC, on which the messages were sent
    :param table: schema and name of the job's table, which are also the job's name
    """
    findings = Findings()
    # How often each message was handled, by its number; a campaign stays far below 255 times.
    times = bytearray(history.sent)
    with closing(psycopg2.connect(database_url)) as connection:
        rows = _stream(connection, _ROWS.format(table=table))
        surplus = _check_rows(history, rows, TokenOpener(keyring), days, times, findings)
        entries = _stream(connection, _QUARANTINE.format(table=table))
        _check_quarantine(history, entries, keyring, times, findings)
    for number, count in enumerate(times):
        _check_count(history, number, count, surplus, findings)
    findings.unexpected += surplus.total()
    return findings


def _check_rows(
    history: History,
    rows: Iterable[Sequence[Any]],
    tokens: TokenOpener,
    days: set[dt.date],
    times: bytearray,
    findings: Findings,
) -> Counter[Fields]:
    """Count the rows of good messages in *times*; returns the rows that belong to none."""
    messages = history.messages
    surplus: Counter[Fields] = Counter()
    for *masked, day in rows:
        row = _unmasked(masked, tokens)
        number = _number(history, masked[0])
        if day not in days:
            findings.add("wrong", number)
        elif number is None or not messages.is_good(number):
            surplus[row] += 1
        elif row == fields(messages.body(number)):
            times[number] += 1
        elif messages.mutated:
            surplus[row] += 1  # a mutation can produce the user of another message
        else:
            times[number] += 1
            findings.add("wrong", number)
    return surplus


def _check_quarantine(
    history: History,
    entries: Iterable[tuple[str, Any]],
    keyring: str,
    times: bytearray,
    findings: Findings,
) -> None:
    for message_id, sealed in entries:
        number = history.numbers.get(message_id)
        if number is None:
            findings.add("unexpected", message_id)
            continue
        body = history.messages.body(number)
        times[number] += 1
        if opened(keyring, message_id, bytes(sealed)) != body:
            findings.add("wrong", number)
        if fields(body) is not None:
            findings.add("wrong", number)  # it is a good message


def _check_count(
    history: History, number: int, count: int, surplus: Counter[Fields], findings: Findings
) -> None:
    if count == 0 and not history.messages.is_good(number):
        # It is not in the quarantine, so its row must be among those of no good message.
        row = fields(history.messages.body(number))
        if row is not None and surplus[row] > 0:
            surplus[row] -= 1
            count = 1
    if count == 0:
        findings.add("lost", number)
    elif count > 1:
        findings.add("duplicated", number)


def _number(history: History, user: str) -> int | None:
    digits = user.rpartition("-")[2]
    if not re.fullmatch("[0-9]{8}", digits) or int(digits) >= history.sent:
        return None
    return int(digits) if history.messages.user(int(digits)) == user else None


def _unmasked(row: Sequence[Any], tokens: TokenOpener) -> Fields:
    user, device_type, masked_ip, masked_device, locale, version = row
    ip = tokens.open(masked_ip, "ip")
    device = tokens.open(masked_device, "device_id")
    return (user, device_type, ip, device, locale, version)


def _stream(connection: Any, statement: str) -> Iterator[Any]:
    with connection.cursor("stream") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(statement)
        yield from cursor


class StreamSearch:
    """Searches whatever is written to it for values, in all their encodings."""

    def __init__(self, values: Iterable[str]) -> None:
        self._wanted = {
            (value, encoding): encoded
            for value in values
            for encoding, encoded in spellings(value).items()
        }
        self._overlap = max(map(len, self._wanted.values())) - 1
        self._chunk = b""
        self.found: set[tuple[str, str]] = set()  # values, and their encodings

    def write(self, data: bytes) -> int:
        """Take a piece of data of any length."""
        self._chunk += data
        if len(self._chunk) >= CHUNK_BYTES:
            self.search()
        return len(data)

    def search(self) -> None:
        """Search the data that has not been searched yet."""
        self.found |= {key for key, encoded in self._wanted.items() if encoded in self._chunk}
        self._chunk = self._chunk[-self._overlap :]


def leaks(
    values: Sequence[str], database_url: str, files: Iterable[Path]
) -> set[tuple[str, str, str]]:
    """Search every table of the database, and files; returns places, values and encodings.

    Binary columns are searched in hex, as Postgres writes them.
    """
    found: set[tuple[str, str, str]] = set()
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(_TABLES)
        for (table,) in cursor.fetchall():
            search = StreamSearch(values)
            cursor.copy_expert(f"copy (select t::text from {table} t) to stdout", search)
            search.search()
            found |= {(table, *match) for match in search.found}
    for path in files:
        search = StreamSearch(values)
        with path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                search.write(data)
        search.search()
        found |= {(path.name, *match) for match in search.found}
    return found
