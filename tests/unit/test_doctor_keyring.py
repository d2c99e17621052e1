"""``etl doctor`` about the keyring: each check as it should be, and not."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from etl.crypto.keyring import Keyring
from etl.doctor import keyring as checks
from etl.errors import EtlError
from etl.postgres.key_checks import KeyCheck

WHEN = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
ONE = Keyring.new("k1")
TWO = ONE.with_new("k2")


def uses(*key_ids: str) -> list[KeyCheck]:
    """What the database remembers of these keys."""
    return [KeyCheck("job", "public.t", key_id, "", WHEN) for key_id in key_ids]


def test_a_keyring_that_can_be_read_is_shown_by_its_key_ids() -> None:
    """And by its source; no key is in it."""
    result, keyring = checks.readable({"ETL_KEYRING": TWO.dump()})
    assert (result.status, result.found) == ("ok", "ETL_KEYRING has key k1, k2; primary k2")
    assert keyring is not None


@pytest.mark.parametrize(
    ("variables", "found"),
    [({}, "no keyring: set one of"), ({"ETL_KEYRING": "{"}, "keyring in ETL_KEYRING")],
)
def test_a_keyring_that_cannot_be_read_fails(variables: dict[str, str], found: str) -> None:
    """The error's way out is the advice."""
    result, keyring = checks.readable(variables)
    assert (result.status, keyring) == ("fail", None)
    assert result.found.startswith(found)
    assert result.advice


def test_a_keyring_file_that_others_can_read_fails(tmp_path: Path) -> None:
    """As it does for a run."""
    path = tmp_path / "keyring.json"
    path.write_text(ONE.dump())
    path.chmod(0o644)
    result, _ = checks.readable({"ETL_KEYRING_FILE": str(path)})
    assert (result.status, "chmod 600" in result.advice) == ("fail", True)


def test_every_key_recovers_what_it_masks() -> None:
    """Also the keys that are not the primary one."""
    assert checks.self_test(TWO).status == "ok"


@pytest.mark.parametrize("recovered", ["192.0.2.2", EtlError("the cipher fails its test vectors")])
def test_a_cipher_that_does_not_recover_a_value_fails(
    recovered: str | EtlError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whatever reason."""

    def unmask(*_: object) -> str:
        if isinstance(recovered, EtlError):
            raise recovered
        return recovered

    monkeypatch.setattr("etl.mask.unmask", unmask)
    result = checks.self_test(ONE)
    assert (result.status, bool(result.advice)) == ("fail", True)


@pytest.mark.parametrize(
    ("used", "status"), [((), "ok"), (("k1", "k2"), "ok"), (("k2",), "ok"), (("k1",), "warn")]
)
def test_a_primary_key_that_is_not_used_yet_is_a_warning(
    used: tuple[str, ...], status: str
) -> None:
    """A table with rows then has two tokens for equal values."""
    assert checks.primary(TWO, uses(*used)).status == status


@pytest.mark.parametrize(
    ("used", "status", "found"),
    [
        ((), "ok", "it has all"),
        (("k1",), "ok", "it has all"),
        (("k1", "k0"), "warn", "it lacks k0,"),
        (("k0", "k9"), "fail", "it lacks k0, k9,"),
    ],
)
def test_keys_that_were_used_and_are_not_in_the_keyring_are_named(
    used: tuple[str, ...], status: str, found: str
) -> None:
    """With none of them left, it is the keyring of something else."""
    result = checks.keys(ONE, uses(*used))
    assert result.status == status
    assert result.found.startswith(found)


def test_a_keyring_in_secrets_manager_needs_aws() -> None:
    """So it is left out offline."""
    assert checks.needs_aws({"ETL_KEYRING_SECRET": "etl/keyring"})
    assert not checks.needs_aws({"ETL_KEYRING": "{}"})
