r"""Exports open entries of the quarantine to a file and imports them; bodies stay sealed.

The file is JSON lines in UTF-8. The first line names the format, the job whose entries they are,
and the key that authenticates the file:

    {"format": "etl-quarantine", "version": 2, "job": "public.user_logins", "key_id": "k1"}

One line follows for each entry, with the body as it is in the database (see seal.py), in base64:

    {"message_id": ..., "run_id": ..., "sent_at": ..., "quarantined_at": ..., "reasons": [...],
     "masked_fields": [...], "body": ...}

The last line shows whether the file was truncated or changed:

    {"entries": 2, "hmac": "<hex>"}

The HMAC-SHA-256 (RFC 2104) is over all bytes before the last line. Its key is derived from the
named key for the purpose `export`.

Version 1 has neither the job nor the masked fields. Its entries become entries of the job that
imports them, and count as masked in every field that this job masks or has masked earlier.
"""

from __future__ import annotations

import base64
import codecs
import hmac
import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa

from etl.config import MASKED_MESSAGE, Settings
from etl.crypto.keyring import Keyring
from etl.errors import UnmaskError, UsageError
from etl.operations.entries import (
    PAGE_ENTRIES,
    QuarantineEntry,
    Selection,
    check_job,
    id_pages,
    read_open,
)
from etl.operations.private_file import new_file
from etl.postgres import jobs
from etl.postgres.engine import transaction
from etl.postgres.queries import queries

_FORMAT = "etl-quarantine"
_VERSION = 2
_PURPOSE = "export"
# Lines of the file that are stored at a time: a parameter of type jsonb ends at 256 MB.
MAX_PAGE_BYTES = 8 * 1024 * 1024
_MEMBERS = ("message_id", "run_id", "sent_at", "quarantined_at", "reasons", "masked_fields")


def export_entries(
    engine: sa.Engine, keyring: Keyring, settings: Settings, selection: Selection, path: Path
) -> int:
    """Write the job's open entries to a new private file; they stay in the quarantine.

    :returns: the number of entries
    :raises UsageError: the file exists already, or cannot be created, or an entry or a run belongs
        to another job
    :raises DatabaseUnavailable: an outage
    """
    # The message of a sample is still in the queue, and a run will load it from there.
    selection = replace(selection, job=settings.job_name, samples=False)
    check_job(engine, selection)
    count = 0
    digest = _hmac(keyring, keyring.primary)
    with new_file(path) as file:
        for line in _lines(engine, keyring, selection, settings.batch.bytes):
            file.write(line)
            digest.update(line)
            count += 1
        count -= 1  # the header
        file.write(_line({"entries": count, "hmac": digest.hexdigest()}))
    return count


def _lines(
    engine: sa.Engine, keyring: Keyring, selection: Selection, max_bytes: int
) -> Iterator[bytes]:
    header = {"format": _FORMAT, "version": _VERSION, "job": selection.job}
    yield _line({**header, "key_id": keyring.primary})
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


def import_entries(
    engine: sa.Engine,
    keyring: Keyring,
    settings: Settings,
    path: Path,
    from_job: str | None = None,
) -> tuple[int, int]:
    """Add the entries of a file to the quarantine, as entries of this job.

    Messages that this job has in the ledger are skipped, so that none is handled twice.

    :param from_job: the job that exported the file, if it is not this one
    :returns: the number of entries that were new, and the number in the file
    :raises UsageError: the file cannot be read, was not made by an export, or is from another job
    :raises UnmaskError: it was not written with this keyring, or was changed; nothing is imported
    :raises DatabaseUnavailable: an outage; start again
    """
    try:
        with path.open("rb") as file:
            _check_origin(_check_file(file, keyring), settings.job_name, from_job)
            file.seek(0)
            return _store(engine, settings, file)
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from None


def _check_file(file: BinaryIO, keyring: Keyring) -> dict[str, Any]:
    """Check that the file is what was exported; returns its header."""
    first_line = file.readline()
    if first_line.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(
            "the file was saved again in another encoding; import the file that 'quarantine "
            "export' wrote"
        )
    header = _document(first_line)
    if header.get("format") != _FORMAT or header.get("version") not in (1, _VERSION):
        raise UsageError("this is not a file made by 'quarantine export'")
    if header.get("key_id") not in keyring.key_ids:
        raise UnmaskError("the file was written with a key that is not in this keyring")
    file.seek(0)
    digest = _hmac(keyring, str(header["key_id"]))
    last_line = b""
    for line in file:
        digest.update(last_line)
        last_line = line
    # As bytes: of two texts it compares only those in ASCII.
    written = str(_document(last_line).get("hmac")).encode(errors="replace")
    if not hmac.compare_digest(written, digest.hexdigest().encode()):
        raise UnmaskError("the file was not written with this keyring, or was truncated or changed")
    return header


def _check_origin(header: dict[str, Any], job: str, from_job: str | None) -> None:
    """Check that the file is from this job, or from the other job that the user has named.

    :raises UsageError: it is not, or, with a version 1, does not say
    """
    origin = header.get("job")
    if origin is None:
        if from_job is None:
            raise UsageError(
                "the file is from an earlier version and does not name its job; if its entries are "
                f"for {job!r}, say so with: --from-job {shlex.quote(job)}"
            )
    elif origin != (from_job or job):
        raise UsageError(
            f"the file holds entries of the job {origin!r}, not of {from_job or job!r}; to make "
            f"them entries of {job!r}, add: --from-job {shlex.quote(origin)}"
        )


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _store(engine: sa.Engine, settings: Settings, file: BinaryIO) -> tuple[int, int]:
    new = 0
    with transaction(engine) as connection:
        jobs.register(connection, settings)
        masked = settings.masked_fields.union(jobs.masked_fields(connection, settings.job_name))
    if "Message" in masked:
        masked |= {MASKED_MESSAGE}  # it may be from a time in which that was a field
    own = {"job": settings.job_name, "masked_fields": sorted(masked)}
    seen = 0
    for page in _pages(file):
        with transaction(engine) as connection:
            result = connection.execute(
                queries()["import_entries"], {"entries": json.dumps(page), **own}
            )
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
