"""Fingerprints for the ledger: when two are equal, when they differ, and which events have none."""

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
from tests.unit.builders import message, reader

KEYRING = Keyring.new("k1")
ROTATED = Keyring("k2", {"k1": KEYRING.key("k1"), "k2": Keyring.new("k1").key("k1")})


def fingerprints_of(
    key: str,
    *bodies: str,
    keyring: Keyring = KEYRING,
    unwrap: Any = None,
    job: str = "public.orders",
) -> tuple[list[fingerprints.Fingerprints | None], list[list[str]]]:
    """The fingerprints of the bodies, in order, and the rejects."""
    settings = LedgerSettings(key=key)
    messages = [message(body, number) for number, body in enumerate(bodies)]
    fields = [settings.field] if settings.field else []
    raw, _ = extract.read(messages, fields, unwrap=unwrap)
    keys, rejected = fingerprints.make(messages, raw, settings, keyring, job=job, unwrap=unwrap)
    return [keys.get(message.message_id) for message in messages], rejected.to_numpy().tolist()


def identified(value: Any, **more: Any) -> str:
    """The body of an event with this business id."""
    return json.dumps({"order": value, **more})


def test_the_default_makes_none() -> None:
    """A ledger of message ids needs no fingerprints."""
    assert fingerprints_of("message_id", "{}", "[") == ([None, None], [])


def test_equal_business_ids_have_one_fingerprint_whatever_else_the_events_say() -> None:
    """Other ids have other fingerprints, and 5 and "5" are two ids."""
    (first, same, other, number, text), _ = fingerprints_of(
        "field:order",
        *(identified("a", x=1), identified("a", x=2), identified("b")),
        *(identified(5), identified("5")),
    )
    assert first == same
    assert len({first, other, number, text}) == 4


@pytest.mark.parametrize("value", [None, "", " \t", True, 1.5, [], ["a"], {"a": 1}])
def test_what_identifies_nothing_is_a_reject(value: Any) -> None:
    """Above all an empty id would merge all the events that have it into one."""
    keys, rejected = fingerprints_of("field:order", identified(value), identified("a"))
    assert keys[0] is None
    assert keys[1] is not None
    assert rejected == [["m0", "order", "ledger key"]]


def test_an_absent_business_id_is_a_reject() -> None:
    """An absent field counts as a null one."""
    assert fingerprints_of("field:order", "{}") == ([None], [["m0", "order", "ledger key"]])


def test_bodies_are_compared_byte_by_byte() -> None:
    """Other white space makes another body, and an unreadable body has no fingerprint."""
    (first, same, other, broken), rejected = fingerprints_of(
        "body", '{"a":1}', '{"a":1}', '{"a": 1}', "{"
    )
    assert first == same != other
    assert broken is None
    assert rejected == []


def test_the_envelope_is_not_part_of_the_body() -> None:
    """SNS gives each publication an id and a time, which would make equal bodies differ."""

    def published(number: int, text: str) -> str:
        return json.dumps({"Type": "Notification", "MessageId": str(number), "Message": text})

    (first, again, other), _ = fingerprints_of(
        "body",
        published(1, "{}"),
        published(2, "{}"),
        published(3, "{ }"),
        unwrap=reader("sns").unwrap,
    )
    assert first == again != other


def test_each_mode_and_field_has_fingerprints_of_its_own() -> None:
    """After a change of the setting no event is taken for another one."""
    text = '"a"'
    both = json.dumps({"order": "a", "login": "a"})
    fingerprints = [
        fingerprints_of(key, both)[0][0] for key in ("field:order", "field:login", "body")
    ]
    assert len(set(fingerprints)) == 3
    assert text not in str(fingerprints)


def test_each_job_has_fingerprints_of_its_own() -> None:
    """Order 7 of one job is not login 7 of another that shares its database."""
    for key in ("field:order", "body"):
        made = [
            fingerprints_of(key, identified("a"), job=job)[0][0]
            for job in ("public.orders", "public.logins", "public.orders")
        ]
        assert made[0] == made[2] != made[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b c", "d"), ("a b", "c", "d")),
        (("a.b", "c", "d"), ("a", "b.c", "d")),
        (('a", "field:b', "c", "d"), ("a", "b", 'c", "d')),
        (("a", "b", "c\0d"), ("a", "b\0c", "d")),
        (("a", "b", "0tc"), ("a", "b\0t0", "c")),
        (("a\0", "b", "c"), ("a", "\0b", "c")),
    ],
)
def test_job_key_and_value_do_not_run_into_one_another(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    """Wherever the border between them is, the fingerprint is another."""
    made = []
    for job, name, value in (one, other):
        settings = LedgerSettings(key=f"field:{json.dumps(name)}")
        body = json.dumps({name: value})
        messages = [message(body)]
        raw, _ = extract.read(messages, [str(settings.field)])
        keys, _ = fingerprints.make(messages, raw, settings, KEYRING, job=job)
        made.append(keys["m0"])
    assert made[0] != made[1]


def test_a_fingerprint_is_an_hmac_under_a_derived_key() -> None:
    """Another library computes the same one, even for a value with a lone surrogate."""
    value = "\ud800 order"
    info = b"etl:v1:k1:ledger"
    derived = HKDF(SHA512(), 64, salt=None, info=info).derive(KEYRING.key("k1"))
    data = b'["public.orders", "field:order"]\0t' + value.encode("utf-8", "surrogatepass")
    digest = base64.urlsafe_b64encode(hmac.digest(derived, data, "sha256")).decode().rstrip("=")
    assert fingerprints_of("field:order", identified(value))[0] == [(f"k1:{digest}",)]


def test_keyrings_with_a_key_in_common_have_a_fingerprint_in_common() -> None:
    """Thus a rotation forgets nothing while the old key stays in the keyring."""
    ((before,), _), ((after,), _) = (
        fingerprints_of("body", "{}", keyring=keyring) for keyring in (KEYRING, ROTATED)
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
        ("field:a..b", "field 'a..b' is not a path"),
    ],
)
def test_a_setting_that_names_no_key_is_refused(key: str, words: str) -> None:
    """The settings refuse it, before any message is received."""
    with pytest.raises(ValueError, match=words):
        LedgerSettings(key=key)
