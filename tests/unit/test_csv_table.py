"""A file of tokens is read as the programs of any country write CSV, or refused in words."""

from __future__ import annotations

import click
import pytest

from etl.commands.values import decode
from etl.errors import UsageError
from etl.mask import tokens
from etl.operations.csv_table import read_csv, token_columns
from tests.conftest import KEYRING
from tests.unit.builders import columns

COLUMNS = columns("ip", "device_id")
TOKEN = tokens(["192.0.2.1"], KEYRING, "ip")[0]


def read(text: str) -> tuple[list[str], list[list[object]], dict[str, str]]:
    """Read a text: its header, its rows, and the masked column of each column of tokens."""
    frame = read_csv(text, COLUMNS, 10)
    found = token_columns(list(frame.columns), COLUMNS)
    return list(frame.columns), frame.to_numpy().tolist(), {n: c.name for n, c in found.items()}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_any_usual_separator_is_read(separator: str, line_end: str, quote: str) -> None:
    """Also around empty cells, and with the other separators in quoted cells."""
    lines = [["masked_ip", "n", "device_id"], [TOKEN, "007", ""], ["", '"a;b,c\td|e"', TOKEN]]
    lines[0] = [f"{quote}{name}{quote}" for name in lines[0]]
    text = "".join(f"{separator.join(cells)}{line_end}" for cells in lines)
    assert read(text) == (
        ["masked_ip", "n", "device_id"],
        [[TOKEN, "007", None], [None, "a;b,c\td|e", TOKEN]],
        {"masked_ip": "masked_ip", "device_id": "masked_device_id"},
    )


@pytest.mark.parametrize(
    ("text", "header", "rows"),
    [
        ("masked_ip, n\nT, 1\n", ["masked_ip", "n"], [["T", "1"]]),
        ('n, masked_ip, m\n1, "T", "a, b"\n', ["n", "masked_ip", "m"], [["1", "T", "a, b"]]),
        ('n,masked_ip\n" 1", T\n', ["n", "masked_ip"], [[" 1", " T"]]),
        ("sep=;\r\nn;masked_ip\r\n1;T\r\n", ["n", "masked_ip"], [["1", "T"]]),
        ('"sep=|"\nn|masked_ip\n1|T\n', ["n", "masked_ip"], [["1", "T"]]),
        ("\n\nmasked_ip,n\n\nT,1\n\n", ["masked_ip", "n"], [["T", "1"]]),
        (";masked_ip\n0;T\n", ["", "masked_ip"], [["0", "T"]]),
        (",masked_ip\n0,T\n", ["", "masked_ip"], [["0", "T"]]),
        ("masked_ip\nT", ["masked_ip"], [["T"]]),
        ("masked_ip;\nT;\n", ["masked_ip", ""], [["T", None]]),
        ("a,b;masked_ip\n1,5;T\n", ["a,b", "masked_ip"], [["1,5", "T"]]),
        ('"masked_ip";"n"\n"T";"a ""b"""\n', ["masked_ip", "n"], [["T", 'a "b"']]),
    ],
)
def test_what_programs_write_around_cells_is_read(
    text: str, header: list[str], rows: list[list[str | None]]
) -> None:
    """The other cells stay as they are."""
    got = read(text)
    assert got[:2] == (header, rows)
    assert list(got[2].values()) == ["masked_ip"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TOKEN\nTOKEN\n", "the first row of the CSV file has a token in it: put a header"),
        ('1;"TOKEN"\n2;"TOKEN"\n', "the first row of the CSV file has a token in it"),
        ("masked_pi;n\nT;1\n", "did you mean 'masked_ip' by the name of column 1?"),
        ("n,DEVICE-ID\n1,T\n", "did you mean 'device_id' by the name of column 2?"),
        ("n:masked_ip\n1:T\n", "its header is one cell, with ':' in it: separate the names with"),
        ("n masked_ip\n1 T\n", "its header is one cell, with ' ' in it: separate the names with"),
        ("secret\nsecret\n", "expected one of 'masked_ip', 'masked_device_id', or its event field"),
        ("secret;b;c\nsecret;2;3\n", "no column of the CSV file is named like a masked column"),
        ("n;masked_ip\n1;T;secret\n", "row 1 has 3 cells, but the header has 2"),
        ("masked_ip;masked_ip\nT;secret\n", "the header must name every column"),
        ('n;masked_ip\n1;"secret', "line 3 is not CSV"),
        ("", "the header must name every column"),
        ("\n \n", "no column of the CSV file"),
        ('"', "line 2 is not CSV"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_explained(text: str, said: str) -> None:
    """No cell is shown: without a header, the first row has values."""
    with pytest.raises(UsageError) as caught:
        read(text.replace("TOKEN", TOKEN))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_reading_stops_after_the_limit() -> None:
    """One row more tells that there are too many."""
    assert len(read_csv("masked_ip\n" + "x\n" * 50, COLUMNS, 10)) == 11


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0"])
def test_a_workbook_is_told_from_text(start: bytes) -> None:
    """It would stay a workbook, however it is encoded."""
    with pytest.raises(click.UsageError, match="is a workbook; save the sheet as CSV"):
        decode(start + bytes(range(256)), "'x.xlsx'")
