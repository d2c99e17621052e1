"""The form of a key id, which every token of the key begins with.

It has a module of its own because making keys needs it and must not load numpy.
"""

from __future__ import annotations

MAX_KEY_ID_CHARACTERS = 16

KEY_ID = rf"[A-Za-z0-9_-]{{1,{MAX_KEY_ID_CHARACTERS}}}"  # a regular expression
