"""Checks of the keyring: readable, of use, and the one that the database remembers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa

from etl.config import Settings
from etl.crypto import siv
from etl.crypto.keyring import SOURCES, Keyring, load_keyring
from etl.doctor.result import Result, asked, result_of
from etl.errors import DatabaseRefused, EtlError, UnmaskError
from etl.postgres import first_use, key_checks
from etl.postgres.engine import transaction
from etl.postgres.key_checks import KeyCheck

# Made up, and nobody's.
_VALUE = "192.0.2.1"
OF_THE_DATABASE = ("keyring.first_use", "keyring.primary", "keyring.keys")


def needs_aws(environment: Mapping[str, str]) -> bool:
    """Whether the keyring is read from Secrets Manager."""
    return bool(environment.get("ETL_KEYRING_SECRET"))


def readable(environment: Mapping[str, str]) -> tuple[Result, Keyring | None]:
    """Read the keyring; the result names its source and its key ids, and no key."""
    check = "keyring.readable"
    try:
        keyring = load_keyring(environment)
    except EtlError as error:
        return result_of(check, "fail", str(error)), None
    source = next(name for name in SOURCES if environment.get(name))
    ids = ", ".join(keyring.key_ids)
    return Result(check, "ok", f"{source} has key {ids}; primary {keyring.primary}"), keyring


def self_test(keyring: Keyring) -> Result:
    """Mask a made-up value with each key, and recover it."""
    from etl.mask import tokens, unmask

    check = "keyring.self_test"
    try:
        siv.check_vectors()
        for key_id in keyring.key_ids:
            of_key = keyring.with_primary(key_id)
            if unmask(str(tokens([_VALUE], of_key, check)[0]), of_key, check) != _VALUE:
                raise UnmaskError(f"key {key_id} recovers another value than it has masked")
    except EtlError as error:
        advice = "run no job here; install the libraries of requirements.txt"
        return Result(check, "fail", str(error), advice)
    return Result(check, "ok", "each key masks a made-up value and recovers it")


def results(engine: sa.Engine, settings: Settings, keyring: Keyring) -> Iterator[Result]:
    """Compare the keyring and the masked columns with what the database remembers of them."""

    def known() -> list[KeyCheck]:
        with transaction(engine) as connection:
            found = [key_checks.read(connection, view) for view in settings.of_each_table()]
        return [first for of_table in found for first in of_table]

    def same_as_at_first_use() -> Result:
        check = "keyring.first_use"
        try:
            first_use.check(engine, settings, keyring)
            first_use.check_recordable(engine, settings, keyring)
        except DatabaseRefused as error:  # what a run ends with before it receives anything
            return result_of(check, "fail", str(error))
        return Result(check, "ok", "keys and contexts are those of their first use")

    yield asked("keyring.first_use", same_as_at_first_use)
    yield asked("keyring.primary", lambda: primary(keyring, known()))
    yield asked("keyring.keys", lambda: keys(keyring, known()))


def primary(keyring: Keyring, known: Sequence[KeyCheck]) -> Result:
    """Whether the primary key is one under which the table has rows, if it has any."""
    check = "keyring.primary"
    used = sorted({first.key_id for first in known})
    if used and keyring.primary not in used:
        return Result(
            check,
            "warn",
            f"{keyring.primary} is not used yet; this job or one of its tables has used "
            f"{', '.join(used)}",
            "after a rotation, run: etl rekey; until then equal values have several tokens",
        )
    return Result(check, "ok", keyring.primary)


def keys(keyring: Keyring, known: Sequence[KeyCheck]) -> Result:
    """Whether the keyring has every key that the table has used."""
    check = "keyring.keys"
    used = {first.key_id for first in known}
    lacking = sorted(used - set(keyring.key_ids))
    if not lacking:
        return Result(check, "ok", "it has all that this job and its tables have used")
    found = f"it lacks {', '.join(lacking)}, which this job or one of its tables has used"
    advice = "see what needs it: etl keys list; restore the copy of the keyring that has it"
    # With none of the earlier keys, every value of the next run differs from its earlier tokens.
    return Result(check, "warn" if used & set(keyring.key_ids) else "fail", found, advice)
