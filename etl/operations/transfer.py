r"""Exports open entries of the quarantine to a file and imports them; bodies stay sealed.

The file is JSON lines in UTF-8. The first line names the format and the key that authenticates it:

    {"format": "etl-quarantine", "version": 1, "key_id": "k1"}

One line follows for each entry, with the body as it is in the database (see seal.py), in base64:

    {"message_id": ..., "run_id": ..., "sent_at": ..., "quarantined_at": ..., "reasons": [...],
     "body": ...}

The last line shows whether the file was truncated or changed:

    {"entries": 2, "hmac": "<hex>"}

The HMAC-SHA-256 (RFC 2104) is over all bytes before the last line. Its key is derived from the
named key for the purpose `export`.
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
from etl.errors import UnmaskError, UsageError
from etl.operations.entries import (
    PAGE_ENTRIES,
    QuarantineEntry,
    Selection,
    id_pages,
    read_open,
)
from etl.operations.private_file import new_file
from etl.postgres.engine import transaction
from etl.postgres.queries import queries

_HEADER = {"format": "etl-quarantine", "version": 1}
_PURPOSE = "export"
# Lines of the file that are stored at a time: a parameter of type jsonb ends at 256 MB.
MAX_PAGE_BYTES = 8 * 1024 * 1024
_MEMBERS = ("message_id", "run_id", "sent_at", "quarantined_at", "reasons")


def export_entries(
    engine: sa.Engine, keyring: Keyring, selection: Selection, path: Path, max_bytes: int
) -> int:
    """Write the open entries to a new private file; they stay in the quarantine.

    :param max_bytes: maximum size of the bodies read at a time, unless it is only one
    :returns: the number of entries
    :raises UsageError: the file exists already, or cannot be created
    :raises DatabaseUnavailable: an outage
    """
    count = 0
    digest = _hmac(keyring, keyring.primary)
    with new_file(path) as file:
        for line in _lines(engine, keyring, selection, max_bytes):
            file.write(line)
            digest.update(line)
            count += 1
        count -= 1  # the header
        file.write(_line({"entries": count, "hmac": digest.hexdigest()}))
    return count


def _lines(
    engine: sa.Engine, keyring: Keyring, selection: Selection, max_bytes: int
) -> Iterator[bytes]:
    yield _line({**_HEADER, "key_id": keyring.primary})
    for page in id_pages(engine, selection, max_bytes):
        with transaction(engine) as connection:
            entries = read_open(connection, page)
        for entry in entries:
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


def import_entries(engine: sa.Engine, keyring: Keyring, path: Path) -> tuple[int, int]:
    """Add the entries of a file to the quarantine.

    Messages that are in the ledger of this database are skipped, so that none is handled twice.

    :returns: the number of entries that were new, and the number in the file
    :raises UsageError: the file cannot be read, or was not made by an export
    :raises UnmaskError: it was not written with this keyring, or was changed; nothing is imported
    :raises DatabaseUnavailable: an outage; start again
    """
    try:
        with path.open("rb") as file:
            _check_file(file, keyring)
            file.seek(0)
            return _store(engine, file)
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from None


def _check_file(file: BinaryIO, keyring: Keyring) -> None:
    header = _document(file.readline())
    if {name: header.get(name) for name in _HEADER} != _HEADER:
        raise UsageError("this is not a file made by 'quarantine export'")
    if header.get("key_id") not in keyring.key_ids:
        raise UnmaskError("the file was written with a key that is not in this keyring")
    file.seek(0)
    digest = _hmac(keyring, str(header["key_id"]))
    last_line = b""
    for line in file:
        digest.update(last_line)
        last_line = line
    if not hmac.compare_digest(str(_document(last_line).get("hmac")), digest.hexdigest()):
        raise UnmaskError("the file was not written with this keyring, or was truncated or changed")


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _store(engine: sa.Engine, file: BinaryIO) -> tuple[int, int]:
    new = 0
    seen = 0
    for page in _pages(file):
        with transaction(engine) as connection:
            result = connection.execute(queries()["import_entries"], {"entries": json.dumps(page)})
            new += result.rowcount
        seen += len(page)
    return new, seen


def _pages(file: BinaryIO) -> Iterator[list[dict[str, Any]]]:
    """Yield the entries of the file, as many at a time as one transaction may store."""
    page: list[dict[str, Any]] = []
    page_bytes = 0
    for line in file:
        document = _document(line)
        if "body" not in document:
            continue  # the first line or the last
        if page and (len(page) == PAGE_ENTRIES or page_bytes + len(line) > MAX_PAGE_BYTES):
            yield page
            page, page_bytes = [], 0
        page.append(document)
        page_bytes += len(line)
    if page:
        yield page
