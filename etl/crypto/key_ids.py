"""Key ids: their form, with which every token of the key begins, and new ones.

It is a module of its own because making keys needs it and must not load numpy.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Collection

MAX_KEY_ID_CHARACTERS = 16

KEY_ID = rf"[A-Za-z0-9_-]{{1,{MAX_KEY_ID_CHARACTERS}}}"  # a regular expression

_RANDOM_BYTES = 2


def new_key_id(taken: Collection[str] = ()) -> str:
    """Make an id for a new key: today's date in UTC and four random digits, as in k261127-a3f9.

    Two keys that are made apart from each other so have different ids. A token names its key by
    the id only, so a second key under the id of another could not be told from it.

    :param taken: ids that other keys have
    """
    today = dt.datetime.now(dt.UTC)
    while True:
        key_id = f"k{today:%y%m%d}-{secrets.token_hex(_RANDOM_BYTES)}"
        if key_id not in taken:
            return key_id
