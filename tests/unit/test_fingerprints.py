"""Fingerprints for the ledger: what makes them equal, what makes them differ, what has none."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from etl import extract, fingerprints
from etl.config import LedgerSettings
from etl.crypto.keyring import Keyring
from tests.unit.builders import message

KEYRING = Keyring.new("k1")
ROTATED = Keyring("k2", {"k1": KEYRING.key("k1"), "k2": Keyring.new().key("k1")})


def made(
    key: str, *bodies: str, keyring: Keyring = KEYRING, envelope: Any = "none"
) -> tuple[list[fingerprints.Fingerprints | None], list[list[str]]]:
    """The fingerprints of bodies in their order, and the rejects."""
    ledger = LedgerSettings(key=key)
    messages = [message(body, number) for number, body in enumerate(bodies)]
    fields = [ledger.field] if ledger.field else []
    raw, _ = extract.read(messages, fields, envelope=envelope)
    keys, nameless = fingerprints.make(messages, raw, ledger, keyring, envelope=envelope)
    return [keys.get(one.message_id) for one in messages], nameless.to_numpy().tolist()


def identified(value: Any, **more: Any) -> str:
    """The body of an event with this business id."""
    return json.dumps({"order": value, **more})


def test_the_default_makes_none() -> None:
    """Message ids need no fingerprint."""
    assert made("message_id", "{}", "[") == ([None, None], [])


def test_equal_business_ids_have_one_fingerprint_whatever_else_the_events_say() -> None:
    """Other ids have others; a number and its spelling are two ids."""
    (one, same, other, number, text), _ = made(
        "field:order",
        *(identified("a", x=1), identified("a", x=2), identified("b")),
        *(identified(5), identified("5")),
    )
    assert one == same
    assert len({one, other, number, text}) == 4


@pytest.mark.parametrize("value", [None, "", " \t", True, 1.5, [], ["a"], {"a": 1}])
def test_what_identifies_nothing_is_a_reject(value: Any) -> None:
    """An empty id above all: it would make one event of all that have it."""
    keys, nameless = made("field:order", identified(value), identified("a"))
    assert keys[0] is None
    assert keys[1] is not None
    assert nameless == [["m0", "order", "ledger key"]]


def test_an_absent_business_id_is_a_reject() -> None:
    """As a null one is."""
    assert made("field:order", "{}") == ([None], [["m0", "order", "ledger key"]])


def test_bodies_are_compared_to_the_letter() -> None:
    """Other white space is another body; what cannot be read has no fingerprint."""
    (one, same, other, broken), nameless = made("body", '{"a":1}', '{"a":1}', '{"a": 1}', "{")
    assert one == same != other
    assert broken is None
    assert nameless == []


def test_the_envelope_is_no_part_of_the_body() -> None:
    """SNS gives each publication an id and a time."""

    def published(number: int, text: str) -> str:
        return json.dumps({"Type": "Notification", "MessageId": str(number), "Message": text})

    (one, again, other), _ = made(
        "body", published(1, "{}"), published(2, "{}"), published(3, "{ }"), envelope="sns"
    )
    assert one == again != other


def test_each_mode_and_field_has_fingerprints_of_its_own() -> None:
    """A change of the setting makes no event look like another."""
    text = '"a"'
    both = json.dumps({"order": "a", "login": "a"})
    fingerprints = [made(key, both)[0][0] for key in ("field:order", "field:login", "body")]
    assert len(set(fingerprints)) == 3
    assert text not in str(fingerprints)


def test_a_fingerprint_is_an_hmac_under_a_derived_key() -> None:
    """Computed here with another library; a lone surrogate breaks nothing."""
    value = "\ud800 order"
    info = b"etl:v1:k1:ledger"
    derived = HKDF(SHA512(), 64, salt=None, info=info).derive(KEYRING.key("k1"))
    data = b"field:order\0t" + value.encode("utf-8", "surrogatepass")
    digest = base64.urlsafe_b64encode(hmac.digest(derived, data, "sha256")).decode().rstrip("=")
    assert made("field:order", identified(value))[0] == [(f"k1:{digest}",)]


def test_keyrings_with_a_key_in_common_have_a_fingerprint_in_common() -> None:
    """So a rotation forgets nothing while the old key stays."""
    ((before,), _), ((after,), _) = (
        made("body", "{}", keyring=keyring) for keyring in (KEYRING, ROTATED)
    )
    assert before is not None
    assert after is not None
    assert len(after) == 2
    assert set(before) < set(after)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("order_id", "must be 'message_id', 'body' or 'field:<event field>'"),
        ("field:", "must be 'message_id', 'body' or 'field:<event field>'"),
        ("body:x", "must be 'message_id', 'body' or 'field:<event field>'"),
        ("field:SentTimestamp", "reserved for the job"),
    ],
)
def test_a_key_that_is_none_is_refused(key: str, words: str) -> None:
    """At the start."""
    with pytest.raises(ValueError, match=words):
        LedgerSettings(key=key)
