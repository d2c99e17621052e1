"""A value or a token is read in the same careful way by every command, or refused in words."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from etl.cli import main
from etl.commands import values
from etl.mask import tokens, unmask
from etl.operations.lookup import tokens_of_spellings
from etl.operations.spellings import innermost, spellings, unwrapped
from tests.conftest import KEYRING
from tests.unit.builders import columns

IP, DEVICE = columns("ip", "device_id")
VALUE = 'Gerät "7"'

# What a shell, an editor, Windows or a spreadsheet makes of a value in a file.
FILES: dict[str, Any] = {
    "nothing": lambda value: value.encode(),
    "a line end": lambda value: f"{value}\n".encode(),
    "Windows": lambda value: f"{value}\r\n".encode(),
    "empty lines": lambda value: f"\n{value}\n\n\r\n".encode(),
    "UTF-8 mark": lambda value: f"\ufeff{value}\r\n".encode(),
    "PowerShell": lambda value: f"\ufeff{value}\r\n".encode("utf-16-le"),
    "big-endian UTF-16": lambda value: f"\ufeff{value}\n".encode("utf-16-be"),
    "UTF-32": lambda value: f"\ufeff{value}\n".encode("utf-32-le"),
    "DOS, with its end of file": lambda value: f"{value}\r\n\x1a".encode(),
    "blank lines": lambda value: f" \t\n{value}\n  \n\u00a0\r\n".encode(),
    "a mark at the end": lambda value: f"{value}\n\ufeff".encode(),
}
# What may also be part of the value, so that both are meant.
AROUND: dict[str, Any] = {
    "spaces": lambda value: f"  {value} \t",
    "no-break space": lambda value: f"\u00a0{value}\u202f",
    "zero width": lambda value: f"\u200b{value}\ufeff\u2060",
    "direction marks": lambda value: f"\u202d{value}\u202c",
    "DOS end of file": lambda value: f"{value}\x1a",
    "CSV": lambda value: '"' + value.replace('"', '""') + '"',
    "quotes": lambda value: f"'{value}'",
    "typed quotes": lambda value: f"\u201c{value}\u201d",
    "German quotes": lambda value: f"\u201e{value}\u201c",
    "empty cells": lambda value: f";{value};;",
    "quoted, with empty cells": lambda value: ',"' + value.replace('"', '""') + '", ,',
    "apostrophe": lambda value: f"'{value}",
    "formula": lambda value: '="' + value.replace('"', '""') + '"',
    "several": lambda value: "\u00a0' \"" + value.replace('"', '""') + "\" '\u200b",
}


def call(*arguments: str, text: bytes = b"", command: str = "token") -> Any:
    """Run a command with a keyring; its error, if any, is in ``exception`` or ``output``."""
    return CliRunner().invoke(
        main, [command, *arguments], input=text, env={"ETL_KEYRING": KEYRING.dump()}
    )


def problem(done: Any) -> str:
    """What a refused call printed or raised; it is wrong usage, and shows no value."""
    assert (getattr(done.exception, "exit_code", done.exit_code), done.stdout) == (2, "")
    shown = f"{done.exception} {done.output}"
    assert "Ger" not in shown
    assert "198" not in shown
    return shown


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("column", "value"), [("device_id", VALUE), ("ip", "198.51.100.7")])
def test_a_file_of_any_program_has_the_value(file: str, column: str, value: str) -> None:
    """Line ends and byte order marks are ignored."""
    done = call("-", "--column", column, text=FILES[file](value))
    assert done.exit_code == 0, done.output
    assert unmask(done.stdout.strip(), KEYRING, column) == value


@pytest.mark.parametrize("around", AROUND)
def test_what_is_around_a_value_is_searched_with_and_without(around: str) -> None:
    """Rows have either; a column of addresses can hold only the address."""
    given = AROUND[around](VALUE)
    assert {given, VALUE} <= set(spellings(given))
    found = set(tokens_of_spellings(given, DEVICE, KEYRING).values())
    assert set(tokens([given, VALUE], KEYRING, "device_id")) <= found
    of_address = tokens_of_spellings(AROUND[around]("2001:DB8::1"), IP, KEYRING)
    assert list(of_address.values()) == list(tokens(["2001:db8::1"], KEYRING, "ip"))
    assert innermost(given) == VALUE


@pytest.mark.parametrize("around", AROUND)
def test_a_token_is_of_one_text_only(around: str) -> None:
    """If what is around the value may be part of it, it must be said which is meant."""
    given = AROUND[around](VALUE)
    assert "--quoted" in problem(call("-", "--column", "device_id", text=given.encode()))
    assert "--quoted" in problem(call(given, "--column", "device_id"))
    for exact in (given, VALUE, "a\nb", "", " "):
        done = call(json.dumps(exact), "--quoted", "--column", "device_id")
        assert unmask(done.stdout.strip(), KEYRING, "device_id") == exact
    address = call(AROUND[around]("198.51.100.7"), "--column", "ip")
    assert unmask(address.stdout.strip(), KEYRING, "ip") == "198.51.100.7"


@pytest.mark.parametrize(
    "value", ["", "a", '"', "'", "''", '""', "x'", 'a"b', '5"', "=1", '="', " "]
)
def test_a_value_is_among_its_own_spellings(value: str) -> None:
    """It comes first, and nothing is made empty."""
    texts = unwrapped(value)
    assert texts[0] == value
    assert all(texts[1:])


def test_both_unicode_forms_are_searched() -> None:
    """A person cannot see which of them a row has."""
    composed, decomposed = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    both = set(tokens([composed, decomposed], KEYRING, "device_id"))
    assert "two Unicode forms" in call("-", "--column", "device_id", text=b"Zo\xc3\xab").stderr
    assert call("-", "--column", "device_id", text=b"Zoe").stderr == ""
    for given in (composed, decomposed):
        assert set(tokens_of_spellings(given, DEVICE, KEYRING).values()) == both
        exact = tokens_of_spellings(given, DEVICE, KEYRING, exact=True).values()
        assert list(exact) == list(tokens([given], KEYRING, "device_id"))


def test_every_notation_is_searched_in_a_column_that_keeps_them() -> None:
    """With ``canonical: false`` the rows have the notation that was sent."""
    column = IP.model_copy(update={"canonical": False})
    sent = ["2001:db8::a", "2001:DB8::A", "2001:0db8:0000:0000:0000:0000:0000:000a"]
    found = set(tokens_of_spellings("2001:db8:0::a", column, KEYRING).values())
    assert set(tokens(sent, KEYRING, "ip")) <= found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no value on standard input"),
        (b"\r\n\n", "no value on standard input"),
        (b" \t\n", "no value on standard input"),
        ("\ufeff\u00a0\u200b\n".encode(), "no value on standard input"),
        (b"198.51.100.7\n198.51.100.8\n", "several lines on standard input"),
        (b"ip\r\n198.51.100.7\r\n", "several lines on standard input"),
        (b"198.51.100.7\r198.51.100.8", "several lines on standard input"),
        ("Gerät".encode("latin-1"), "not text in UTF-8"),
        ("Gerät".encode("utf-16-le"), "not text in UTF-8"),
        (b"\xff\xfeG", "not text in UTF-8"),
        (b"Ger\0t", "not text in UTF-8"),
    ],
)
@pytest.mark.parametrize("command", ["token", "rows", "forget"])
def test_what_is_not_one_value_is_refused(command: str, text: bytes, words: str) -> None:
    """No command takes it for a value that is in no row; nothing needs a database yet."""
    for argument in (["-"], []):
        done = call(*argument, "--column", "device_id", text=text, command=command)
        assert words in problem(done)


@pytest.mark.parametrize("text", ["Ger", "7", '["Ger"]', '"Ger', "null", "[" * 99_999])
def test_a_quoted_value_is_a_json_string(text: str) -> None:
    """Anything else is refused."""
    done = call("-", "--quoted", "--column", "device_id", text=text.encode())
    assert "must be a JSON string" in problem(done)


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that reads tokens from standard input."""

    def read(data: bytes) -> list[str]:
        with CliRunner().isolation(input=data):
            return values.read_tokens(())

    yield read


def test_tokens_are_read_from_any_file(piped: Any) -> None:
    """No token has anything that a program puts around it."""
    lines = [
        "k1.AAAA",
        '"k1.BBBB"',
        " k1.CCCC ;",
        "'k1.DDDD",
        "\u00a0k1.EEEE\u200b",
        "k1.F,",
        '"k1.G";"k1.H"',
        "k1.I, k1.J\tk1.K|k1.L",
        "",
        " ",
    ]
    wanted = ["k1.AAAA", "k1.BBBB", "k1.CCCC", "k1.DDDD", "k1.EEEE", "k1.F"]
    wanted += ["k1.G", "k1.H", "k1.I", "k1.J", "k1.K", "k1.L"]
    text = "\ufeff" + "\r\n".join(lines)
    assert piped(text.encode()) == wanted
    assert piped(text.encode("utf-16-le")) == wanted


@pytest.mark.parametrize("data", [b"", b"\n\r\n", b" ; \n,\n", b"\xef\xbb\xbf", b"\xff\xfe", b'""'])
def test_no_token_is_wrong_usage(piped: Any, data: bytes) -> None:
    """An empty file is a mistake, and asks for nothing."""
    with pytest.raises(click.UsageError, match="no token on standard input"):
        piped(data)
