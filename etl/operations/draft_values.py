"""What the values of a field look like: an address, a phone number, the number of a card, a name.

A date, an amount and the number of an order have the digits of a phone number, too. So a likeness
that is weak counts only if the name of the field does not say that it is about something else.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from typing import Any

from etl.operations.draft_words import (
    CODES,
    IDS,
    PERSONS,
    QUANTITIES,
    THINGS,
    listed,
    words_of,
)

EMAIL = "an e-mail address"
PHONE = "a phone number"
NETWORK = "a network address"
POSTAL = "a postal address"
DEVICE = "the id of a device or a browser"
NAME = "the name of a person"
OFFICIAL = "an official or a bank's number of a person"
BIRTH = "a date of birth"


# An address is found anywhere in a text, as in X-Forwarded-For or in a line of a log.
_EMAIL = re.compile(r"[^\s@<>,;]@[^\s@<>,;]+\.[^\W\d_]{2,}")
_IPV4 = re.compile(
    r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])"
)
_MAC = re.compile(r"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f])")
_BETWEEN = re.compile(r"[\s,;\"'\[\]()=]+")
_PHONE = re.compile(r"\(?\+?[0-9(][0-9 ()./-]{5,22}[0-9]")
_DATE = re.compile(r"[0-9]{4}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]{1,2}[-./][0-9]{1,2}[-./][0-9]{4}")
_CARD = re.compile(r"[0-9]{14,19}")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9 ]{11,38}")
_INTERNATIONAL = re.compile(r"(?<!\w)\+[1-9][0-9 ()./-]{5,20}[0-9]")
# A number as JSON writes it. One with a zero before it may be a phone number.
_DECIMAL = re.compile(r"(?:0|[1-9][0-9]*)\.[0-9]+")
_VERSION = re.compile(r"(?:\A|[A-Za-z]/)v?[0-9.]+")
_OF_PROGRAMS = listed("version build firmware release agent")
MIN_PHONE = 7  # digits
SMALL = 1000


def kind_by_shape(values: Sequence[Any], name: str = "") -> str | None:
    """What one of the values looks like; None if none of them looks personal.

    :param name: of the field
    """
    words = words_of(name)
    texts = [value for value in values if isinstance(value, str)]
    for text in texts:
        if kind := _kind_of(text, words):
            return kind
    numbers = [str(value) for value in values if type(value) in (int, str)]
    return OFFICIAL if _are_cards(numbers) else None


def are_small_numbers(values: Sequence[Any]) -> bool:
    """Whether all values are numbers that are a count or a share, and no id of anything."""
    numbers = [value for value in values if value is not None]
    are_numbers = all(isinstance(v, (int, float)) for v in numbers)
    return bool(numbers) and are_numbers and all(v < SMALL or v % 1 for v in numbers)


def _kind_of(text: str, words: Sequence[str]) -> str | None:
    if "@" in text and _EMAIL.search(text):
        return EMAIL
    # "Chrome/120.0.0.0" in a user agent, and a version of four parts.
    plain = _VERSION.sub("", text) if _OF_PROGRAMS & {*words} else text
    if _IPV4.search(plain) or _MAC.search(text) or _has_ipv6(text):
        return NETWORK
    if _IBAN.fullmatch(text) and _is_iban(text.replace(" ", "")):
        return OFFICIAL
    if _is_phone(text, words):
        return PHONE
    if words and words[-1] in PERSONS and _is_full_name(text):
        return NAME
    return None


def _is_phone(text: str, words: Sequence[str]) -> bool:
    if _INTERNATIONAL.search(text):
        return True
    if _are_cards([text]) or sum(map(str.isdigit, text)) < MIN_PHONE or not _PHONE.fullmatch(text):
        return False
    is_number = text.isdigit() or _DECIMAL.fullmatch(text) or _DATE.match(text)
    return not is_number and not _is_of_a_thing(words)


def _is_of_a_thing(words: Sequence[str]) -> bool:
    """Whether the name says that the digits are of an amount or a thing, as "order_no" does."""
    if words and words[-1] in QUANTITIES | CODES:
        return True
    return bool(THINGS & {*words} and IDS & {*words})


def _is_full_name(text: str) -> bool:
    """Whether it is two to four words of letters, each with a capital or in a script without."""
    parts = text.split()
    return 2 <= len(parts) <= 4 and all(
        re.sub("['\\u2019.-]", "", part).isalpha() and not part[0].islower() for part in parts
    )


def _are_cards(texts: Sequence[str]) -> bool:
    """Whether the check digits are right in half of the numbers that are as long as a card's.

    By chance they are right in one of ten.
    """
    numbers = [bare for text in texts if _CARD.fullmatch(bare := text.replace(" ", ""))]
    return bool(numbers) and 2 * sum(map(_is_luhn, numbers)) >= len(numbers)


def _has_ipv6(text: str) -> bool:
    return text.count(":") > 1 and any(map(_is_ipv6, _BETWEEN.split(text)))


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0].partition("/")[0])
    except (OSError, ValueError):
        return False
    return True


def _is_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: card numbers, and IMEIs too."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 7064, MOD 97-10."""
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1
