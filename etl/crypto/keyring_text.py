"""Decodes the JSON of a keyring, also as shells, env files and secret stores hand it over."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator

from etl.crypto.key_ids import KEY_ID
from etl.errors import RESTORE, KeyringError

_KEY_ID = re.compile(KEY_ID)
# A key ends in '=', and is longer.
_PATH = re.compile(r"(?:[\w.~-]*/)+[\w.-]+|[\w.-]+\.json", re.ASCII)
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?ETL_KEYRING\s*=")
_MARK = "\ufeff"


def decode(text: str) -> object:
    """Decode the JSON, without a mark, quotes or backslashes that were put around and into it.

    No key id and no key has any of these, so that there is one way to read the text.

    :raises KeyringError: it is not JSON, or has a name twice; the error holds nothing of the text
    """
    for candidate in _candidates(text):
        # Suppressed and not caught: the decoder's exception carries the whole text.
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(candidate, strict=False, object_pairs_hook=_without_duplicates)
            return decode(document) if isinstance(document, str) else document
    hint = " (it is empty)" if not text.strip() else ""
    if _is_base64(text):
        hint = ", but base64 of it: decode it once"
    elif _PATH.fullmatch(text.strip()):
        hint = ", but like the name of a file: a file is named by ETL_KEYRING_FILE"
    elif _ASSIGNMENT.match(text):
        hint = ", but a whole assignment: take out the name of the variable and the '='"
    raise KeyringError(f"not JSON{hint}; {RESTORE}")


def shown(name: str) -> str:
    """Quote a name that looks like a key id or a member; any other name may be a key."""
    return repr(name) if _KEY_ID.fullmatch(name) else "(a name that is not shown)"


def _candidates(text: str) -> Iterator[str]:
    bare = text.strip().strip(_MARK).strip()
    yield bare
    yield bare.strip("'\"").replace('\\"', '"').replace("\\n", "\n").replace("\\r", "")


def _is_base64(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return base64.b64decode(text.strip(), validate=True).lstrip().startswith(b"{")
    return False


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise KeyringError(f"{shown(name)} appears twice; {RESTORE}")
        members[name] = value
    return members
