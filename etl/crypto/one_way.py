"""One-way tokens: equal for equal values, and nothing recovers a value from one.

    <key id>:<base64url without padding of HMAC-SHA-256>

The MAC (RFC 2104) is of the value as UTF-8, under a key that is derived for the context alone:
`Keyring.derive` with the purpose of this module.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from etl.crypto.tokens import ONE_WAY_MARK, write_tokens

_MAC_BYTES = 32


def purpose(context: str) -> str:
    """The purpose of the key that is derived for a context."""
    return f"hmac:{context}"


def one_way_tokens(texts: Iterable[str], key_id: str, key: bytes) -> list[str]:
    """Return the token of each text.

    :param key: derived from the key of this id, for the context
    :raises UnicodeEncodeError: a text holds a lone surrogate
    """
    macs = [hmac.digest(key, text.encode(), "sha256") for text in texts]
    if not macs:
        return []
    rows: NDArray[np.uint8] = np.frombuffer(b"".join(macs), np.uint8).reshape(-1, _MAC_BYTES)
    return write_tokens(rows, key_id, ONE_WAY_MARK)
