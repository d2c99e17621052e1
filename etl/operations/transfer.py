r"""Open entries of the quarantine as a file, and back: bodies stay sealed all the way.

JSON lines in UTF-8. The first one says what the file is and whose key vouches for it:

    {"format": "etl-quarantine", "version": 1, "key_id": "k1"}

then one for each entry, with the body as it stands in the database (see seal.py), in base64:

    {"message_id": ..., "run_id": ..., "sent_at": ..., "quarantined_at": ..., "reasons": [...],
     "body": ...}

and a last one, by which a file that was cut or changed is told:

    {"entries": 2, "hmac": "<hex>"}

The HMAC-SHA-256 (RFC 2104) is over all bytes before the last line, under the key that the keyring
derives from the named one for the purpose `export`.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa

from etl.crypto.keyring import Keyring
from etl.errors import SettingsError, UnmaskError
from etl.operations import entries
from etl.operations.entries import QuarantineEntry, Selection
from etl.operations.private_file import new_file
from etl.postgres.engine import transaction
from etl.postgres.queries import queries

_HEADER = {"format": "etl-quarantine", "version": 1}
_PURPOSE = "export"
_MEMBERS = ("message_id", "run_id", "sent_at", "quarantined_at", "reasons")


def write(
    engine: sa.Engine, keyring: Keyring, chosen: Selection, path: Path, max_bytes: int
) -> int:
    """Write the open entries to a new private file; returns how many. They stay where they are.

    :raises SettingsError: the file is there already, or cannot be made
    :raises DatabaseUnavailable: an outage
    """
    with new_file(path) as file:
        count, seal = 0, _hmac(keyring, keyring.primary)
        for line in _lines(engine, keyring, chosen, max_bytes):
            file.write(line)
            seal.update(line)
            count += 1
        file.write(_line({"entries": count - 1, "hmac": seal.hexdigest()}))
    return count - 1


def _lines(
    engine: sa.Engine, keyring: Keyring, chosen: Selection, max_bytes: int
) -> Iterator[bytes]:
    yield _line({**_HEADER, "key_id": keyring.primary})
    for page in entries.pages(engine, chosen, max_bytes):
        with transaction(engine) as connection:
            found = entries.read(connection, page)
        for entry in found:
            yield _line(_members(entry))


def _members(entry: QuarantineEntry) -> dict[str, Any]:
    facts = entry.facts
    return {name: facts[name] for name in _MEMBERS} | {
        "body": base64.b64encode(entry.body).decode()
    }


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _hmac(keyring: Keyring, key_id: str) -> hmac.HMAC:
    return hmac.new(keyring.derive(_PURPOSE, key_id), digestmod="sha256")


def read(engine: sa.Engine, keyring: Keyring, path: Path) -> tuple[int, int]:
    """Take the entries of a file into the quarantine.

    :returns: how many were new, and how many stood in the file

    Whatever message the ledger of this database knows is left out, so that nothing comes twice.

    :raises SettingsError: the file cannot be read, or is no such file
    :raises UnmaskError: it was not written with this keyring, or was changed; nothing is taken
    :raises DatabaseUnavailable: an outage; start again
    """
    try:
        with path.open("rb") as file:
            _verify(file, keyring)
            file.seek(0)
            return _take(engine, file)
    except OSError as error:
        raise SettingsError(f"cannot read {str(path)!r}: {error.strerror}") from None


def _verify(file: BinaryIO, keyring: Keyring) -> None:
    header = _document(file.readline())
    if {name: header.get(name) for name in _HEADER} != _HEADER:
        raise SettingsError("this is no file of 'quarantine export'")
    if header.get("key_id") not in keyring.key_ids:
        raise UnmaskError("the file was written with a key that is not in this keyring")
    file.seek(0)
    seal, before = _hmac(keyring, str(header["key_id"])), b""
    for line in file:
        seal.update(before)
        before = line
    if not hmac.compare_digest(str(_document(before).get("hmac")), seal.hexdigest()):
        raise UnmaskError("the file was not written with this keyring, or was cut or changed")


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _take(engine: sa.Engine, file: BinaryIO) -> tuple[int, int]:
    new, seen, page = 0, 0, list[dict[str, Any]]()
    for line in file:
        document = json.loads(line)
        if "body" in document:
            page.append(document)
        if len(page) == entries.PAGE_ENTRIES or "hmac" in document:
            with transaction(engine) as connection:
                answer = connection.execute(
                    queries()["import_entries"], {"entries": json.dumps(page)}
                )
                new += answer.rowcount
            seen += len(page)
            page.clear()
    return new, seen
