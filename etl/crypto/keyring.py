"""Keys by id, read from their JSON and checked.

A keyring is JSON, `{"primary": "k1", "keys": {"k1": "<base64 of 64 bytes>"}}`. The primary key
makes new tokens, and every key opens its own. One-way tokens are all made by one key, so that equal
values have equal ones before and after a rotation: the first key, or that of a member `hmac`. Key
material leaves a keyring through `key`, `derive` and `dump` only, never through repr, pickling or
an error. An error repeats a name only if it looks like a key id or a member of the JSON, because
any other name may be a key that was pasted in the wrong place.
"""

import base64
import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from etl.crypto.key_ids import KEY_ID, MAX_KEY_ID_CHARACTERS, new_key_id
from etl.crypto.keyring_sources import read_file, read_secret
from etl.crypto.keyring_text import decode, shown
from etl.errors import RESTORE, KeyringError, may_be_secret
from etl.text import unquoted

KEY_BYTES = 64  # AES-256-SIV: two AES-256 keys, RFC 5297, section 2.2
SOURCES = ("ETL_KEYRING", "ETL_KEYRING_FILE", "ETL_KEYRING_SECRET")

_KEY_ID = re.compile(KEY_ID)
_NONE = (
    "if the job has run before, restore the copy of its keyring, since a new key cannot read what "
    "an earlier one masked; for a first set-up, make one with: etl keys new"
)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Keyring:
    """Keys of 64 bytes by key id, one of them the primary key.

    :raises KeyringError: a key or a key id must not be used
    """

    primary: str
    _keys: Mapping[str, bytes]
    _one_way: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keys", MappingProxyType(dict(self._keys)))
        _check_ids(self.primary, self._keys, self._one_way)
        for key_id, key in self._keys.items():
            _check_key(key_id, key)
        if len(set(self._keys.values())) < len(self._keys):
            raise KeyringError(f"two key ids have the same key; {RESTORE}")

    @classmethod
    def new(cls, key_id: str | None = None) -> "Keyring":
        """Make a keyring of one new random key.

        :param key_id: id of the key; by default one that no other key has
        """
        name = key_id or new_key_id()
        return cls(name, {name: os.urandom(KEY_BYTES)})

    @classmethod
    def parse(cls, text: str, *, source: str) -> "Keyring":
        """Read a keyring from its JSON.

        :param source: where the text came from, for errors
        :raises KeyringError: names the source and what is wrong, and never what it read
        """
        problem: str
        try:
            return cls(*_members(text))
        except KeyringError as error:
            problem = str(error)
        # Raised here and not in the handler, so that it does not carry an exception with the text.
        raise KeyringError(f"keyring in {source}: {problem}")

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Every key id, in the keyring's order."""
        return tuple(self._keys)

    @property
    def one_way(self) -> str:
        """The id of the key that makes one-way tokens, now and after every rotation."""
        return self._one_way or next(iter(self._keys))

    def with_new(self, key_id: str | None = None) -> "Keyring":
        """Return a keyring with one more random key, which is its primary key.

        :param key_id: id of the new key; by default one that no other key has
        :raises KeyringError: the key id is taken or malformed
        """
        name = key_id or new_key_id(self._keys)
        if name in self._keys:
            raise KeyringError(
                f"key id {name!r} is taken; tokens name their key, so choose a new id"
            )
        return Keyring(name, {**self._keys, name: os.urandom(KEY_BYTES)}, self._one_way)

    def with_primary(self, key_id: str) -> "Keyring":
        """Return a keyring of the same keys with this one as its primary key.

        :raises KeyringError: no key has this id
        """
        return Keyring(key_id, self._keys, self._one_way)

    def key(self, key_id: str) -> bytes:
        """Return the 64 bytes of a key.

        :raises KeyringError: no key has this id
        """
        if key_id not in self._keys:
            raise KeyringError(f"no key {shown(key_id)} in the keyring")
        return self._keys[key_id]

    def derive(self, purpose: str, key_id: str | None = None) -> bytes:
        """Derive a 64-byte key for a purpose other than masking, from the primary or a named key.

        HKDF with SHA-512 and no salt (RFC 5869); the info is `etl:v1:<key id>:<purpose>`.

        :raises KeyringError: no key has this id
        """
        from Crypto.Hash import SHA512
        from Crypto.Protocol.KDF import HKDF

        name = self.primary if key_id is None else key_id
        info = f"etl:v1:{name}:{purpose}".encode()
        derived: bytes = HKDF(self.key(name), KEY_BYTES, b"", SHA512, context=info)
        return derived

    def dump(self) -> str:
        """Return the keyring's JSON, including the keys."""
        keys = {key_id: base64.b64encode(key).decode() for key_id, key in self._keys.items()}
        one_way = {"hmac": self._one_way} if self._one_way else {}
        return json.dumps({"primary": self.primary, **one_way, "keys": keys})

    def __repr__(self) -> str:
        return f"Keyring(primary={self.primary!r}, keys={list(self._keys)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring cannot be pickled or copied; its keys would go with it")


def load_keyring(environment: Mapping[str, str]) -> Keyring:
    """Read the keyring from the one source that the environment names.

    ETL_KEYRING holds the JSON itself, ETL_KEYRING_FILE the path of a file that only its owner may
    use, ETL_KEYRING_SECRET the id of an AWS Secrets Manager secret. An empty variable counts as
    unset. Quotes and spaces around a value are taken off.

    :raises KeyringError: none is set, or more than one, or the source cannot be read or used
    """
    named = [source for source in SOURCES if environment.get(source)]
    if not named:
        raise KeyringError(f"no keyring: set one of {', '.join(SOURCES)}; {_NONE}")
    if len(named) > 1:
        raise KeyringError(f"more than one keyring: unset all but one of {', '.join(named)}")
    source = named[0]
    if source == "ETL_KEYRING":
        return Keyring.parse(environment[source], source=source)
    name = unquoted(environment[source])
    if not name:
        raise KeyringError(f"{source} is blank: set it to what it was, or unset it")
    if may_be_secret(name):
        # Not asked for by this name either: AWS would log it.
        raise KeyringError(
            f"{source} must name a file or a secret; what it holds may be a key or a password, so "
            "it is not shown; the keyring itself belongs in ETL_KEYRING"
        )
    if source == "ETL_KEYRING_FILE":
        path = Path(name)
        return Keyring.parse(read_file(path), source=f"{source} {str(path)!r}")
    text = read_secret(name, environment)
    return Keyring.parse(text, source=f"{source} {name!r}")


def _members(text: str) -> tuple[str, dict[str, bytes], str | None]:
    document = decode(text)
    if not isinstance(document, dict):
        raise KeyringError(f"not a JSON object; {RESTORE}")
    for member in ("primary", "keys"):
        if member not in document:
            raise KeyringError(f"member {member!r} is missing; {RESTORE}")
    unknown = [member for member in document if member not in ("primary", "keys", "hmac")]
    if unknown:
        raise KeyringError(
            f"unknown member {shown(unknown[0])}; only 'primary', 'keys' and 'hmac' are allowed"
        )
    primary, keys, one_way = document["primary"], document["keys"], document.get("hmac")
    if not isinstance(primary, str):
        raise KeyringError(f"member 'primary' must be a key id; {RESTORE}")
    if not isinstance(one_way, str | None):
        raise KeyringError(f"member 'hmac' must be a key id; {RESTORE}")
    if not isinstance(keys, dict):
        raise KeyringError(f"member 'keys' must be an object of key ids and keys; {RESTORE}")
    _check_ids(primary, keys, one_way)
    return primary, {key_id: _key_bytes(key_id, key) for key_id, key in keys.items()}, one_way


def _key_bytes(key_id: str, text: object) -> bytes:
    key = b""
    if isinstance(text, str):
        joined = "".join(text.split())  # base64 writes lines of 76 characters
        with contextlib.suppress(ValueError):
            key = base64.b64decode(joined, validate=True)
        # The decoder ignores surplus bits in the last character; a key has only one encoding.
        if key and base64.b64encode(key).decode() == joined:
            return key
    raise KeyringError(f"key {key_id!r} is not base64 of {KEY_BYTES} bytes; {RESTORE}")


def _check_ids(primary: str, keys: Mapping[str, object], one_way: str | None) -> None:
    for number, key_id in enumerate(keys, start=1):
        if not _KEY_ID.fullmatch(key_id):
            raise KeyringError(
                f"the key id in position {number} must have 1 to {MAX_KEY_ID_CHARACTERS} "
                "characters from A-Z a-z 0-9 _ -"
            )
    if primary not in keys:
        raise KeyringError(f"primary {shown(primary)} is not among its keys; {RESTORE}")
    if one_way is not None and one_way not in keys:
        raise KeyringError(f"hmac {shown(one_way)} is not among its keys; {RESTORE}")


def _check_key(key_id: str, key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise KeyringError(f"key {key_id!r} has {len(key)} bytes, must have {KEY_BYTES}; {RESTORE}")
    if len(set(key)) == 1:
        raise KeyringError(f"key {key_id!r} is one byte repeated; {RESTORE}")
    if key[: KEY_BYTES // 2] == key[KEY_BYTES // 2 :]:
        raise KeyringError(f"key {key_id!r} has two equal halves; {RESTORE}")
