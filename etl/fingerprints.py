"""Fingerprints of events, for jobs whose ``ledger.key`` is more than the message id.

A fingerprint is the HMAC-SHA-256 (RFC 2104) of the whole body or of one field's value, so that the
ledger holds no value and nobody without the keyring can test values against it. The job's name is
part of the input: order 7 of one job is not login 7 of another that shares its database. So is the
table's name if the job has several.

A message has one fingerprint for each key of the keyring, and is new only if all of them are new.
Two workers therefore recognise each other's messages as long as their keyrings have one key in
common, and after a rotation every event is recognised while the old key stays in the keyring. In
the same way it has one for each name of a field that has several, in whatever order they are
listed.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from etl.config import LedgerSettings
from etl.crypto.keyring import Keyring
from etl.frames import Reject, rejects
from etl.sqs.message import Message

_PURPOSE = "ledger"
_CHECK = "ledger key"

Fingerprints = tuple[str, ...]


def make(
    messages: Sequence[Message],
    raw: pd.DataFrame,
    settings: LedgerSettings,
    keyring: Keyring,
    *,
    job: str,
    table: str | None = None,
    other_names: Sequence[str] = (),
    unwrap: Callable[[Message], str] | None = None,
) -> tuple[dict[str, Fingerprints], pd.DataFrame]:
    """Fingerprint the readable messages, if the setting asks for it.

    :param job: the name of the job, within which a key identifies an event
    :param table: name of the table, if the job has several, within each of which it does
    :param unwrap: as of :func:`etl.extract.read`
    :param other_names: further names of the field that identifies an event

    Columns in: ``message_id`` and, in the mode ``field:``, that field, as
    :func:`etl.extract.read` returns them.

    :returns: the fingerprints by message id, empty in the mode ``message_id``; and as
        rejects (``message_id``, ``column``, ``check``) the messages whose field cannot identify
        them, because it is absent, null, blank, or neither text nor an integer
    """
    if settings.key == "message_id":
        return {}, rejects(())
    ids = raw["message_id"].tolist()
    texts: list[str | None]
    if settings.field is None:
        by_id = {message.message_id: message for message in messages}
        readable = [by_id[message_id] for message_id in ids]
        texts = [unwrap(message) if unwrap else message.body for message in readable]
    else:
        texts = [_identifier(value) for value in raw[settings.field].tolist()]
    keys = [(key_id, keyring.derive(_PURPOSE, key_id)) for key_id in keyring.key_ids]
    within = [job] if table is None else [job, table]
    # JSON escapes quotes and NUL, so job, key and value cannot run into one another.
    names = [settings.key, *(f"field:{name}" for name in other_names)]
    heads = [json.dumps([*within, name]).encode() + b"\0" for name in names]
    fingerprints: dict[str, Fingerprints] = {}
    unidentified: list[Reject] = []
    for message_id, text in zip(ids, texts, strict=True):
        if text is None:
            unidentified.append((message_id, str(settings.field), _CHECK))
        else:
            data = text.encode("utf-8", "surrogatepass")
            fingerprints[message_id] = tuple(
                _fingerprint(key_id, key, head + data) for key_id, key in keys for head in heads
            )
    return fingerprints, rejects(unidentified)


def _identifier(value: Any) -> str | None:
    """Write an identifier so that 5 and "5" differ; None if the value cannot identify an event."""
    # type() and not isinstance(): True is an instance of int.
    if type(value) is int:
        return f"i{value}"
    if type(value) is str and value.strip():
        return f"t{value}"
    return None


def _fingerprint(key_id: str, key: bytes, data: bytes) -> str:
    # A colon, not the dot of a token, because a fingerprint can never be opened.
    digest = base64.urlsafe_b64encode(hmac.digest(key, data, "sha256"))
    return f"{key_id}:{digest.decode().rstrip('=')}"
