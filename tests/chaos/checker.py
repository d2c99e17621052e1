"""What became of a campaign's messages, by its own history, the database and the queue alone.

Nothing that the program says of itself is asked: not its counts, not its ledger, not its cipher.
Tokens are opened with another library (`cryptography`), quarantined bodies too.
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

from tests.acceptance.leak_scan import spellings
from tests.acceptance.oracle import opened, primary_key
from tests.chaos.oracle import Fields, fields
from tests.chaos.producer import History

FETCH_ROWS = 5000
PIECE_BYTES = 1 << 20
EXAMPLES = 5  # message numbers kept of each finding, to look at

_ROWS = (
    "select user_id, device_type, masked_ip, masked_device_id, locale, app_version, create_date "
    "from user_logins"
)
# A tombstone has no body any more; no campaign makes one.
_QUARANTINE = "select message_id, body from etl.quarantine"
_TABLES = (
    "select format('%I.%I', schemaname, tablename) from pg_tables "
    "where schemaname not in ('pg_catalog', 'information_schema')"
)


@dataclass
class Findings:
    """What is not as it should be; all zero is what is promised."""

    lost: int = 0  # neither loaded nor quarantined
    duplicated: int = 0  # loaded or quarantined more than once, or both
    unexpected: int = 0  # rows and entries of nothing that was sent
    wrong: int = 0  # a field that differs; a good message quarantined; a bad one loaded
    leaked: int = 0  # places where a plain personal value stands
    left: int = 0  # messages still in the queue
    examples: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        """Whether all is as promised."""
        return not (
            self.lost or self.duplicated or self.unexpected
            or self.wrong or self.leaked or self.left
        )  # fmt: skip

    def add(self, what: str, example: Any) -> None:
        """Count one finding."""
        setattr(self, what, getattr(self, what) + 1)
        kept = self.examples.setdefault(what, [])
        if len(kept) < EXAMPLES:
            kept.append(example)


def verdict(findings: Findings, fired: Counter[str], planned: dict[str, int]) -> str:
    """Say pass, fail, or unknown: without the faults that were planned, a pass says nothing."""
    if not findings.nothing:
        return "fail"
    return "pass" if all(fired[kind] >= count for kind, count in planned.items()) else "unknown"


class Tokens:
    """Opens tokens of one keyring's primary key, by RFC 5297 as another library has it."""

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


def check(history: History, database_url: str, keyring: str, days: set[dt.date]) -> Findings:
    """Compare what was sent with what the database holds.

    :param days: on which the messages were sent, in UTC
    """
    findings = Findings()
    messages = history.messages
    times = bytearray(
        history.sent
    )  # handled, by number; a message handled 255 times is no surprise
    surplus: Counter[Fields] = Counter()  # rows that are no good message's
    with closing(psycopg2.connect(database_url)) as connection:
        tokens = Tokens(keyring)
        for *row, day in _stream(connection, _ROWS):
            got = _opened(row, tokens)
            number = _number(history, row[0])
            if day not in days:
                findings.add("wrong", number)
            elif number is None or not messages.is_good(number):
                surplus[got] += 1
            elif got == fields(messages.body(number)):
                times[number] += 1
            elif messages.mutated:
                surplus[got] += 1  # a mutation can make up a neighbour's user
            else:
                times[number] += 1
                findings.add("wrong", number)
        _quarantined(history, _stream(connection, _QUARANTINE), keyring, times, findings)
    for number, count in enumerate(times):
        _count(history, number, count, surplus, findings)
    findings.unexpected += surplus.total()
    return findings


def _quarantined(
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
            findings.add("wrong", number)  # nothing is wrong with it


def _count(
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


def _opened(row: Sequence[Any], tokens: Tokens) -> Fields:
    user, device_type, ip, device, locale, version = row
    return (
        user, device_type, tokens.open(ip, "ip"), tokens.open(device, "device_id"), locale, version,
    )  # fmt: skip


def _stream(connection: Any, statement: str) -> Iterator[Any]:
    with connection.cursor("stream") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(statement)
        yield from cursor


# Leaks


class Sieve:
    """Looks for values in what is written to it, however they are spelt there."""

    def __init__(self, values: Iterable[str]) -> None:
        self._wanted = {(v, how): spelt for v in values for how, spelt in spellings(v).items()}
        self._overlap = max(map(len, self._wanted.values())) - 1
        self._piece = b""
        self.found: set[tuple[str, str]] = set()  # values, and how they are spelt

    def write(self, data: bytes) -> int:
        """Take a piece of any length."""
        self._piece += data
        if len(self._piece) >= PIECE_BYTES:
            self.search()
        return len(data)

    def search(self) -> None:
        """Search what is not searched yet."""
        self.found |= {what for what, spelt in self._wanted.items() if spelt in self._piece}
        self._piece = self._piece[-self._overlap :]


def leaks(
    values: Sequence[str], database_url: str, files: Iterable[Path]
) -> set[tuple[str, str, str]]:
    """Where the values stand: in every table of the database, and in files; and how they are spelt.

    Binary columns are searched in hex, as Postgres writes them.
    """
    found: set[tuple[str, str, str]] = set()
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(_TABLES)
        for (table,) in cursor.fetchall():
            sieve = Sieve(values)
            cursor.copy_expert(f"copy (select t::text from {table} t) to stdout", sieve)
            sieve.search()
            found |= {(table, *what) for what in sieve.found}
    for path in files:
        sieve = Sieve(values)
        with path.open("rb") as file:
            while data := file.read(PIECE_BYTES):
                sieve.write(data)
        sieve.search()
        found |= {(path.name, *what) for what in sieve.found}
    return found
