"""A value is found in a message body however it is written there, and no other value is."""

from __future__ import annotations

import base64
import gzip
import html
import json
import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from etl.config import Column
from etl.operations.body_search import BodySearch
from tests.unit.builders import columns, event

IP, DEVICE = columns("ip", "device_id")
V6 = "2001:db8::1"
V4 = "198.51.100.7"
NAME = "Gerät Ü/7"


def found(column: Column, value: str, body: str) -> bool:
    """Whether the search for a value of a column finds it in a body."""
    return BodySearch(column, [value]).finds(body)


def escaped(text: str) -> str:
    """Every character as a JSON escape, with digits in upper case."""
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02X}{units[i + 1]:02X}" for i in range(0, len(units), 2))


def base64_of(text: str) -> str:
    """The text in base64."""
    return base64.b64encode(text.encode()).decode()


def zipped(*texts: str) -> str:
    """The texts in gzip in base64, each as a member."""
    return base64.b64encode(b"".join(gzip.compress(text.encode()) for text in texts)).decode()


def base64url_of(text: str) -> str:
    """The text in the base64 of URLs, without padding."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def sns(text: str) -> str:
    """An SNS notification with the text."""
    return json.dumps({"Type": "Notification", "Message": text})


def octal(text: str) -> str:
    """The bytes of a text as a C program and bytea_output write them."""
    return "".join(f"\\{byte:03o}" for byte in text.encode())


def javascript(text: str) -> str:
    """A text as JavaScript's escape() writes it."""
    units = [text[i].encode("utf-16-be") for i in range(len(text))]
    halves = [unit[i : i + 2] for unit in units for i in range(0, len(unit), 2)]
    return "".join(f"%{h[1]:02X}" if not h[0] else f"%u{h[0]:02X}{h[1]:02X}" for h in halves)


# Ways in which a producer can write an event with a value into a body.
WAYS: dict[str, Callable[[str], str]] = {
    "in its field": lambda value: event(device_id=value),
    "in another field": lambda value: event(device_id="x", user_id=value),
    "in an unknown field": lambda value: event(device_id="x", note=value),
    "in a list": lambda value: event(device_id=[[value]]),
    "deep": lambda value: event(device_id={"a": [{"b": {"c": value}}]}),
    "as a key": lambda value: event(locale={value: None}),
    "as a field's name": lambda value: json.dumps({value: 1}),
    "in a list of events": lambda value: f"[{event()}, {event(user_id=value)}]",
    "as the whole body": lambda value: json.dumps(value),
    "with spaces around": lambda value: event(device_id=f" \t{value}\u3000\n"),
    "with invisible characters": lambda value: event(device_id=f"\ufeff{value}\u200b"),
    "in a sentence": lambda value: event(note=f"device ({value}), seen again."),
    "as key=value": lambda value: event(note=f"a=1;id={value};b=2"),
    "unescaped": lambda value: json.dumps({"device_id": value}, ensure_ascii=False),
    "fully escaped": lambda value: f'{{"device_id": "{escaped(value)}"}}',
    "slashes escaped": lambda value: event(device_id=value).replace("/", "\\/"),
    "in SNS": lambda value: sns(event(user_id=value)),
    "in SNS twice": lambda value: sns(sns(event(user_id=value))),
    "JSON in a field": lambda value: event(note=json.dumps({"a": [value]})),
    "JSON of JSON of JSON": lambda value: json.dumps(json.dumps(json.dumps([value]))),
    "first of two equal keys": lambda value: f'{{"a": {json.dumps(value)}, "a": 1}}',
    "with NaN": lambda value: f'{{"a": NaN, "b": {json.dumps(value)}}}',
    "with a long integer": lambda value: f'{{"a": {"9" * 9_000}, "b": {json.dumps(value)}}}',
    "nested too deeply": lambda value: "[" * 99_999 + json.dumps(value) + "]" * 99_999,
    "two documents": lambda value: f"{event()}\n{event(user_id=value)}",
    "rubbish after it": lambda value: event(user_id=value) + "}}, x",
    "rubbish before it": lambda value: f"INFO got {event(user_id=value)}",
    "after a BOM": lambda value: "\ufeff" + event(user_id=value),
    "a line break in a text": lambda value: f'{{"a": "x\n", "b": {json.dumps(value)}}}',
    "truncated": lambda value: '{"a": {"device_id": ' + json.dumps(value),
    "truncated in the text": lambda value: '{"device_id": ' + json.dumps(value)[:-1],
    "truncated, fully escaped": lambda value: f'{{"device_id": "{escaped(value)}',
    "truncated SNS": lambda value: sns(event(user_id=value))[:-2],
    "truncated SNS of SNS": lambda value: sns(sns(event(user_id=value)))[:-2],
    "Python": lambda value: repr({"device_id": value}),
    "Python, ASCII": lambda value: ascii({"device_id": value}),
    "percent": lambda value: f"/login?device={quote(value, safe='')}&x=1",
    "form": lambda value: urlencode({"a": "b c", "device_id": value}),
    "form in a field": lambda value: event(query=urlencode({"a": "ä", "device_id": value})),
    "HTML": lambda value: f"<p>{html.escape(value).replace('Ü', '&Uuml;')}</p>",
    "HTML, numbers": lambda value: "".join(f"&#{ord(c)};" for c in value),
    "base64": lambda value: base64.b64encode(event(user_id=value).encode()).decode(),
    "gzip in base64": lambda value: zipped(event(user_id=value)),
    "gzip in a notification": lambda value: sns(zipped(f'{{"Records": [{event(a=value)}]}}')),
    "gzip, truncated": lambda value: zipped(event(a=value, b=[*range(1000, 1999)]))[:-40],
    "gzip with two members": lambda value: zipped(event(), event(a=value)),
    "base64url in a field": lambda value: event(data=base64url_of(event(user_id=value))),
    "short base64": lambda value: event(data=base64_of(value)),
    "base64 in a header": lambda value: event(note=f"Basic {base64_of(f'{value} password')}"),
    "base64 in a data URL": lambda value: event(note=f"data:text/plain;base64,{base64_of(value)}"),
    "base64 in a path": lambda value: f"GET /a/b1/{base64url_of(f'[{value}]')}/c HTTP/1.1",
    "base64, truncated": lambda value: '{"data": "' + base64_of(event(a=value, b="cdefg"))[:-5],
    "base64 in truncated JSON": lambda value: '{"data": "' + base64_of(value).replace("/", "\\/"),
    "base64 of base64": lambda value: event(data=base64_of(f"a {base64_of(event(a=value))}")),
    "a signed token": lambda value: ".".join(
        base64url_of(part) for part in ('{"alg": "none"}', json.dumps({"sub": value}), "signature")
    ),
    "JSON in a form": lambda value: urlencode({"payload": json.dumps({"d": value})}),
    "form in a form": lambda value: urlencode({"next": f"/login?{urlencode({'d': value})}"}),
    "form in JSON in a form, in a field": lambda value: event(
        query=urlencode({"payload": json.dumps({"q": urlencode({"d": value})})})
    ),
    "octal": lambda value: "".join(c if c.isascii() else octal(c) for c in value),
    "JavaScript": lambda value: event(query=javascript(value)),
    "NFD": lambda value: event(device_id=unicodedata.normalize("NFD", value)),
    "NULs between": lambda value: event(device_id=value).encode("utf-16-le").decode("latin-1"),
    "beside a lone surrogate": lambda value: event(device_id=f"\ud800 {value}"),
    "between NULs": lambda value: event(device_id=f"\0{value}\0"),
    "CSV": lambda value: f'a,"{value}",b',
    "XML": lambda value: f"<device>{value}</device>",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("column", "value"),
    [(DEVICE, NAME), (DEVICE, "593-47-5928"), (DEVICE, "Zoë 🚀 7"), (IP, V4), (IP, V6)],
)
def test_a_value_is_found_however_it_is_written(way: str, column: Column, value: str) -> None:
    """In any place of the event, in any escapes, in text that is not JSON."""
    assert found(column, value, WAYS[way](value))


@pytest.mark.parametrize("way", WAYS)
def test_another_value_is_not_found(way: str) -> None:
    """The same bodies with a similar value do not have it."""
    for column, value, other in (
        (DEVICE, NAME, "Gerät Ü/70"),
        (DEVICE, NAME, "Gerat U/7"),
        (DEVICE, "593-47-5929", "593-47-5929-1"),
        (DEVICE, "593-47-5929", "1593-47-5929"),
        (DEVICE, "47", "593-47-5928"),
        (IP, V4, "198.51.100.70"),
        (IP, V4, "1.198.51.100.7"),
        (IP, V4, "198.51.100.7.1"),
        (IP, V6, "2001:db8::12"),
        (IP, V6, "2001:db8::1:1"),
        (IP, V6, "1:2001:db8::1"),
        (IP, V6, "x2001:db8::1"),
        (IP, V6, "2001:db8::1g"),
    ):
        assert not found(column, value, WAYS[way](other)), other


@pytest.mark.parametrize(
    ("value", "spellings"),
    [
        (
            V6,
            ["2001:DB8:0::1", "2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8:0:0::0:0.0.0.1"],
        ),
        (V4, ["::ffff:198.51.100.7", "::FFFF:c633:6407", "198.051.100.007", "198.51.100.7:443"]),
        ("::ffff:198.51.100.7", [V4]),
        ("fe80::1", ["fe80::1%eth0", "[FE80::1]:443", "fe80::1/64", "ip:fe80::1", "(fe80::1)."]),
        (V4, ["198.51.100.7/32", "ip:198.51.100.7", "x@198.51.100.7.", "-198.51.100.7-"]),
    ],
)
def test_an_address_is_found_in_every_notation(value: str, spellings: list[str]) -> None:
    """In a field and in text."""
    for spelling in spellings:
        assert found(IP, value, event(device_id=spelling)), spelling
        assert found(IP, value, f"got {spelling} {{"), spelling
        assert found(IP, value, event(note=f"got {spelling}, 1")), spelling


@pytest.mark.parametrize(
    ("column", "value", "number", "expected"),
    [
        (DEVICE, "4711", "4711", True),
        (DEVICE, "4711", "4711.0", True),
        (DEVICE, "4711", "4.711e3", True),
        (DEVICE, "12345678901234567891", "12345678901234567891", True),
        (DEVICE, "12345678901234567891", "12345678901234567892", False),
        (DEVICE, "0.1", "0.10000000000000000001", False),
        (DEVICE, "4711", "47110", False),
        (DEVICE, "4711", "1e999999999", False),
        (IP, V4, "3325256711", True),
        (IP, V4, "3325256712", False),
        (IP, "0.0.0.1", "1", False),
    ],
)
def test_a_number_counts_as_its_digits(
    column: Column, value: str, number: str, expected: bool
) -> None:
    """Digits are compared exactly, and as a number."""
    assert found(column, value, f'{{"device_id": [{number}]}}') == expected
    assert found(column, value, f'{{"Message": "{{\\"device_id\\": {number}}}"}}') == expected


def test_garbled_text_is_recognised() -> None:
    """UTF-8 that was read as Latin-1 or as Windows-1252, once or twice."""
    for encoding in ("latin-1", "cp1252"):
        once = NAME.encode().decode(encoding)
        twice = once.encode().decode(encoding)
        for garbled in (once, twice):
            assert found(DEVICE, NAME, event(device_id=garbled))


def test_latin_1_in_a_url_is_recognised() -> None:
    """Old forms are sent so."""
    assert found(DEVICE, NAME, event(query=urlencode({"d": NAME}, encoding="latin-1")))


@pytest.mark.parametrize("value", ["{}", "[4711]", '{"vendor": "x", "id": 7}', '["a", "b"]', '"x"'])
def test_a_value_that_is_itself_json_is_found(value: str) -> None:
    """A whole text is decoded, but not a part of a document."""
    for body in (event(device_id=value), sns(event(device_id=f" {value}")), value, f"x {value} {{"):
        assert found(DEVICE, value, body), body
    assert not found(DEVICE, value, event(device_id=[value[1:-1] + "x"]))


@pytest.mark.parametrize(("value", "joined"), [(V4, "ip_{}_x"), (V6, "ip_{}"), (V6, "a_{}_b")])
def test_an_address_is_found_between_underscores(value: str, joined: str) -> None:
    """As in the name of a session or a file."""
    for body in (event(note=joined.format(value)), joined.format(value) + " {"):
        assert found(IP, value, body), body


def wide(text: str) -> str:
    """A text in the full-width characters of East Asian keyboards."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("Zoë 7", "Zoë\u00a07"),
        ("Zoë\u00a07", "Zoë 7"),
        ("Zoe\u20097", "Zoe\u30007"),
        ("a\r\nb", "a\nb"),
        ("a\nb", "a\r\nb"),
        ("a\nb", "a\rb"),
        ("4711", wide("4711")),
        ("593-47-5928", wide("593-47-5928")),
        (wide("4711"), "4711"),
        ("O'Neil", "O''Neil"),
        ('a "b" c', 'a ""b"" c'),
    ],
)
def test_a_difference_that_nobody_sees_is_none(value: str, written: str) -> None:
    """Kinds of spaces and line breaks, full-width characters, quotes within quotes."""
    for body in (event(device_id=written), event(note=f"got <{written}>"), f"'{written}', {{"):
        assert found(DEVICE, value, body), body


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (V4, "-969710585"),
        (V4, "3325256711.0"),
        (V4, "'3325256711'"),
        (V4, "ip=3325256711;"),
        (V4, "0xC6336407"),
        (V4, "'0xc6336407'"),
        (V4, "x'c6336407'"),
        (V4, "C6336407"),
        (V4, wide(V4)),
        (V4, "00000000000000000000ffffc6336407"),
        (V6, "20010DB8000000000000000000000001"),
        (V6, "0x20010db8000000000000000000000001"),
        (V6, "42540766411282592856903984951653826561"),
    ],
)
def test_an_address_is_found_as_a_number(value: str, written: str) -> None:
    """Signed, as a float, in hex, as databases write it."""
    for body in (event(device_id=written), event(note=f"got {written}, 1"), f"({written}) {{"):
        assert found(IP, value, body), body


@pytest.mark.parametrize(
    "written",
    ["-969710584", "3325256711.5", "1.3325256711", "33252567110", "C63364071", "xC633-6407"],
)
def test_another_number_is_no_address(written: str) -> None:
    """Neither a part of a longer one."""
    assert not found(IP, V4, event(device_id=written, note=f"got {written}, 1"))
    assert not found(IP, "32.36.1.1", event(note="20240101"))  # in hex


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("value", ["Gerät Ü/7", "593-47-5928-x"])
def test_base64_of_other_encodings_is_read(value: str, encoding: str) -> None:
    """As Windows and older systems make it."""
    text = base64.b64encode(f"id={value}; more".encode(encoding)).decode()
    for body in (event(data=text), event(note=f"Basic {text}."), text):
        assert found(DEVICE, value, body), body


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_base64_of_utf_16_has_all_letters(encoding: str) -> None:
    """Those beyond Latin-1 too."""
    text = base64.b64encode("user: Łukasz Żak.".encode(encoding)).decode()
    assert found(DEVICE, "Łukasz Żak", event(data=text))
    assert not found(DEVICE, "Aukasz {ak", event(data=text))


def test_the_case_of_letters_counts() -> None:
    """Except in an address, a different case is a different value."""
    assert not found(DEVICE, "abC", event(device_id="abc"))


CLEANED = DEVICE.model_copy(update={"clean": ("strip", "nfkc", "lower")})
DIGITS = DEVICE.model_copy(update={"clean": ("digits",)})


@pytest.mark.parametrize("way", WAYS)
def test_what_cleaning_makes_equal_is_found(way: str) -> None:
    """However the value is written into a body; except garbled and in another case."""
    more = "" if way == "octal" else "/µς"
    assert found(CLEANED, f"abc-1{more.upper()}", WAYS[way](f"ABC-1{more}"))
    assert not found(CLEANED, "abc-1", WAYS[way]("ABC-12"))


@pytest.mark.parametrize(
    "written", ["+49 170 1234", "(49)170-12/34", "٤٩170 1234", "1 49 170 1234"]
)
def test_digits_are_found_however_they_are_grouped(written: str) -> None:
    """As a person writes a telephone number, in a field and in text; and as a number."""
    for body in (event(device_id=written), event(note=f"call {written}, or 5"), f"{written} {{"):
        assert found(DIGITS, "+491701234", body), body
        assert not found(DIGITS, "49170123", body), body
    assert found(DIGITS, "+49 (170) 1234", '{"device_id": 491701234}')
    assert found(DIGITS, "+49 170", event(device_id="49 extension 170"))


def test_a_last_letter_that_depends_on_what_follows_is_found() -> None:
    """The capital sigma is another small letter at the end of a word."""
    assert found(CLEANED, "\u0391\u03a3", event(note="\u0391\u03a3:\u0392"))


@pytest.mark.parametrize("value", ["", " ", "\u200b"])
def test_an_empty_value_is_nowhere(value: str) -> None:
    """It would be in every body."""
    assert not found(DEVICE, value, event(device_id=""))


def nested_base64() -> str:
    """Base64 in base64, which is another one in each reading."""
    text = ""
    while len(text) < 300_000:
        text = f"{base64_of(f'{text} {len(text)}%25252541 x')} {'%2525252541' * 50}"
    return text


@pytest.mark.long
@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 1_000_000,
        "1." * 500_000,
        "1:" * 500_000,
        "\\" * 1_000_000,
        "%25" * 300_000,
        "&amp;" * 200_000,
        "\\u005c" * 170_000,
        '["' * 400_000,
        "[" * 1_000_000,
        '"' * 1_000_000,
        "{}" * 300_000,
        "A" * 999_999 + "=",
        "".join(f"{base64_of(str(n))} " for n in range(100_000)),
        " ".join(base64_of(f"{n}%2{n % 10}5+") for n in range(50_000)),
        nested_base64(),
    ],
    ids=lambda text: text[:8],
)
def test_a_hostile_body_takes_no_longer_than_others(hostile: str) -> None:
    """A time that grew with the square of the length would exceed the limit of a test."""
    for text in (hostile, event(device_id=hostile)):
        assert not found(DEVICE, NAME, text)
        assert not found(IP, V6, text)


def test_a_body_of_any_shape_is_searched() -> None:
    """Nothing in a body stops the search."""
    shapes: list[Any] = [
        "",
        " ",
        "{",
        "null",
        "true",
        '"',
        "\\",
        "\\u",
        "\\uD800",
        "%",
        "%ff",
        "&#x;",
        "\ud800",
        "\0",
    ]
    for shape in [*shapes, "&#1114112;", "\\U00110000", "==", "1e5", "-", "\ufeff"]:
        assert not found(DEVICE, NAME, shape)
        assert not found(IP, V4, shape)
