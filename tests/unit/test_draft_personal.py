"""What a draft takes for personal in events of eight kinds: all that is, and little that is not.

A field that is masked without need costs a look; one that is not masked is stored in plain.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from etl.operations.draft import Draft, draft
from etl.operations.draft_personal import why_personal
from etl.operations.draft_values import NAME, NETWORK, OFFICIAL, PHONE, kind_by_shape
from tests.unit.builders import message


class Kind(NamedTuple):
    """An event, and which of its fields are proposed as personal, or as doubtful."""

    event: dict[str, Any]
    personal: str
    too_much: str = ""  # masked without need
    doubtful: str = ""


KINDS = {
    "orders": Kind(
        {
            "order_id": 4500001234567, "order_no": "4500 1234 567", "number": "2026-1128-0042",
            "amount": 1299950, "total": "1299950.00", "subtotal": "1 299 950.00",
            "net_price": 1234567.89, "tax": "0012345.50", "invoice_number": "20261128-000123",
            "customer": {
                "id": 77123456789, "name": "Ann Lee", "email": "ann@example.org",
                "phone": "+49 151 2345678", "mobile": 491512345678,
            },
            "shipping": {
                "name": "Ann Lee", "method": "express", "street": "Main 1", "zip": "89073",
                "tracking_number": "00340434161094012345",
            },
            "items": [{"sku": "100-200-3000", "name": "Lamp", "price": "1299950.00", "qty": 3}],
            "ean": "4006381333931", "card": {"last4": "4242", "exp_month": 12},
            "iban": "DE89370400440532013000", "discount_code": "SAVE-2026-1000",
        },
        personal="customer.name customer.email customer.phone customer.mobile shipping.name "
        "shipping.street shipping.zip iban",
        too_much="number",
        doubtful="customer.id",
    ),
    "clicks": Kind(
        {
            "url": "https://example.org/a?x=1", "ip": "203.0.113.7", "mobile": True,
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0.0.0 Safari/537.36",
            "anonymousId": "a1b2c3", "session_id": "1764324000.1234567", "_ga": "1234567.1764324",
            "timestamp": 1764324000123, "viewport": "1920x1080", "mobile_views": 1500,
            "is_mobile": 1, "scroll": "1234.5678", "page": {"name": "home"},
            "campaign": {"name": "Spring", "id": 12345678}, "duration_ms": "1234567.25",
            "adid": "38400000-8cf0-11bd-b23e-10b96e40000d",
        },
        personal="ip anonymousId _ga adid",
        doubtful="page.name campaign.name session_id",
    ),
    "audit trail": Kind(
        {
            "eventVersion": "1.08", "eventTime": "2026-11-28T10:00:00Z", "eventName": "CreateUser",
            "userIdentity": {
                "type": "IAMUser", "principalId": "AIDAEXAMPLE", "accountId": "123456789012",
                "userName": "Alice", "sessionContext": {"mfaAuthenticated": "false"},
            },
            "sourceIPAddress": "203.0.113.7", "userAgent": "tool/10.2.3.4",
            "requestParameters": {"host": "s3.example.com"}, "recipientAccountId": "123456789012",
            "additionalEventData": {"bytesTransferredIn": 1234567}, "apiVersion": "2012-10-17",
        },
        personal="userIdentity.userName sourceIPAddress",
        doubtful="userIdentity.principalId userIdentity.accountId userAgent",
    ),
    "sensors": Kind(
        {
            "deviceId": "pump-7", "serial_number": "SN-2026-0001", "firmware": "10.2.3.4",
            "ts": 1764324000, "pressure": "1013.250", "energy_wh": "1234567.890",
            "counter": 12345678901234, "rssi": -70, "mac": "00:1B:44:11:3a:b7",
            "gps": {"lat": 48.4011, "lon": 9.9876}, "readings": [{"t": 1764324000, "v": 20.50}],
            "coords": "48.4011 9.9876000", "mobile_signal": -70, "modbus_address": 40001,
            "range": "10.0000-20.0000",
        },
        personal="deviceId serial_number mac",
        too_much="modbus_address",
        doubtful="gps.lat gps.lon coords",
    ),
    "chat": Kind(
        {
            "ts": "1764324000.123456", "channel": {"id": "C123", "name": "general"},
            "user": {"id": "U123", "name": "ann", "display_name": "Ann"}, "seq": 123456789,
            "text": "please call me at +49 151 23456789", "mentions": ["U124"],
            "reactions": [{"name": "smile", "count": 3}], "sender": "Ann Lee",
            "file": {"name": "x.pdf", "size": 1234567}, "recipients": ["ann@example.org"],
        },
        personal="user.name user.display_name text sender recipients",
        doubtful="user.id channel.name",
    ),
    "payments": Kind(
        {
            "id": "pi_3N", "amount": 1299950, "amount_received": "1299950",
            "total_amount": "1.299.950", "amount_fr": "1 299 950", "balance": "1234567.89",
            "card_number": "4111111111111111", "pan": "4111 1111 1111 1111",
            "card": {"bin": "41111111", "last4": "1111", "holder": "Ann Lee"},
            "account_number": "123456789", "reference": "12345678-0001", "created": 1764324000,
            "transaction_id": "12345678901234567890", "exchange_rate": "1.23456789",
            "payer": {"email": "a@b.org", "tel": "030 1234567"}, "beneficiary_name": "Bob",
            "merchant": {"name": "Shop", "id": "123456789012345"},
        },
        personal="card_number pan card.holder account_number payer.email payer.tel "
        "beneficiary_name",
        too_much="amount_fr reference",
        doubtful="merchant.name",
    ),
    "logistics": Kind(
        {
            "shipment_id": "1Z999AA10123456784", "weight_kg": "1234.5670", "volume": "12 345 678",
            "dimensions": "100-200-3000", "route_no": "12-345-6789", "customs_value": "1299950.00",
            "depot": {"name": "Ulm", "address": {"street": "Main 1", "zip": "89073"}},
            "driver": {"name": "Bob", "phone": "0151/2345678", "license_number": "B123"},
            "recipient": {"name": "Ann", "contact": "0151 2345678"}, "distance_m": 1234567,
            "stops": [{"eta": "2026-11-28T10:00:00+01:00"}], "license_plate": "UL-AB 123",
        },
        personal="depot.address.street depot.address.zip driver.name driver.phone "
        "driver.license_number recipient.name recipient.contact license_plate",
        doubtful="depot.name",
    ),
    "staff": Kind(
        {
            "employee_id": "E-000123", "first_name": "Ann", "last_name": "Lee", "fte": 0.8,
            "birth_date": "1980-01-02", "ssn": "593-47-5928", "salary": 1299950,
            "annual_salary": "1 299 950", "department": {"cost_center": "4711-0001-000"},
            "manager": "Bob", "approver": "Bob Ray", "home_address": "Main 1, Ulm",
            "private_phone": "0301234567", "tax_id": "12 345 678 901", "gender": "female",
            "emergency_contact": {"name": "Joe", "number": "030 1234567"}, "religion": "none",
            "email_count": 5, "vacation_days": "25.0000000", "hired": "2020-01-01",
        },
        personal="first_name last_name birth_date ssn approver home_address private_phone tax_id "
        "emergency_contact.name emergency_contact.number",
        too_much="department.cost_center",
        doubtful="employee_id manager gender religion",
    ),
}  # fmt: skip


def drafted(*events: dict[str, Any]) -> Draft:
    """A draft from events, each in a message."""
    return draft([message(json.dumps(each), number) for number, each in enumerate(events)], "t")


def personal_fields(result: Draft) -> set[str]:
    """The fields that are masked, or left out because no column can mask them."""
    masked = {c.spec["field"] for c in result.columns if c.personal}
    return masked | {path for path, why in result.left_out if "can mask such a" in why}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_personal_in_events_of_a_kind(kind: str) -> None:
    """All of it is found, and amounts, ids and counters seldom are."""
    event, personal, too_much, doubtful = KINDS[kind]
    result = drafted(*[event] * 5)
    assert personal_fields(result) == {*personal.split(), *too_much.split()}
    doubted = {c.spec.get("field") for c in result.columns if c.doubt and not c.personal}
    assert {*doubtful.split()} <= doubted


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("amount", "1.299.950", None), ("contact", "1.299.950", PHONE),
        ("x", "1299950.00", None), ("x", "089.1234567", PHONE), ("x", "030 1234567", PHONE),
        ("amount", "+49 151 2345678", PHONE), ("text", "ring +1 (555) 010-9999 now", PHONE),
        ("order_no", "4500 1234 567", None), ("order", "4500 1234 567", PHONE),
        ("message", "030 1234567", PHONE), ("offset", "10:00+01:00", None),
        ("version", "10.2.3.4", None), ("x", "10.2.3.4", NETWORK),
        ("user_agent", "Chrome/120.0.0.0 for 203.0.113.7", NETWORK),
        ("user_agent", "Chrome/120.0.0.0", None), ("x", "localhost/127.0.0.1", NETWORK),
        ("sender", "Ann Lee", NAME), ("sender", "Renée O'Neil-Ray", NAME),
        ("sender", "李 明", NAME), ("sender", "in transit", None), ("sender", "ACME", None),
        ("title", "Ann Lee", None),
    ],
)  # fmt: skip
def test_name_and_shape_agree(name: str, text: str, kind: str | None) -> None:
    """A weak likeness gives way to a name that says otherwise; a strong one does not."""
    assert kind_by_shape([text], name) == kind


@pytest.mark.parametrize("kind", [int, str])
def test_check_digits_that_are_right_by_chance_are_no_cards(kind: type) -> None:
    """Those of one in ten are, and those of every card."""
    by_chance = [kind(10**14 + n) for n in range(50)]
    assert kind_by_shape(by_chance) is None
    cards = [n for n in range(4111111111111000, 4111111111111200) if kind_by_shape([str(n)])]
    assert len(cards) == 20
    assert kind_by_shape([kind(n) for n in cards]) == OFFICIAL


def test_a_small_number_is_no_phone_number() -> None:
    """Nor is a share; a large number may be one, and so may any text."""
    path = ("by_phone",)
    assert why_personal({path: [5, 0.25, None]}) is None
    assert why_personal({path: [2.0e9 + 0.5]}) is None
    for value in (4711, "5", 491512345678.0):
        assert why_personal({path: [5, value]}) == f"{PHONE} (by the field's name)"
    assert why_personal({path: [None]}) == f"{PHONE} (by the field's name)"


def test_what_is_inside_of_a_value_is_looked_at_with_its_own_name() -> None:
    """So an amount in a list of items is none of a person, and a phone number beside it is."""
    item = {"price": "1.299.950", "qty": 1}
    assert personal_fields(drafted(*[{"items": [item], "n": 1}] * 5)) == set()
    item["note"] = "030 1234567"
    assert personal_fields(drafted(*[{"items": [item], "n": 1}] * 5)) == {"items"}
