"""A shape shows no character of a value, and nothing else that tells it from others."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import config
from etl.config import Settings
from etl.operations.peek import Look, describe
from etl.operations.shapes import MAX_SHAPE, read_json, shape_of, shape_of_text
from etl.sqs.message import Message, body_md5
from etl.sqs.queue import QueueState
from etl.terminal.peek_page import as_json, page
from tests.unit.builders import ROOT

SETTINGS = config.load(ROOT / "config.yaml", {})

# Characters that a shape may not tell apart. Whether all letters of a run are hex digits may show.
ALIKE = (
    string.digits,
    "abcdef",
    "ghijklmnopqrstuvwxyzéßłüộ\u0301",
    "ABCDEF",
    "GHIJKLMNOPQRSTUVWXYZÉØŁÜỘ",
    "жя漢字\u0661\u202e\U0001f600\ud800",
    "!\"#$%&'()*;<=>?[\\]^`{|}~\t\n\r\x00\x1b\x7f",
    *".-:/@_+, ",
)
GROUP = {character: group for group in ALIKE for character in group}

texts = st.text(st.sampled_from("".join(ALIKE)), max_size=60)
# Letters that no word of the output has, and none of a shape's own.
foreign = st.text(st.sampled_from("BEFGHKLMPQRTUVWXYZéж字.-:/@_+, !?#\n"), max_size=60)
values: st.SearchStrategy[Any] = st.one_of(
    texts, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(texts, max_size=3)
)


@st.composite
def text_and_twin(draw: st.DrawFn) -> tuple[str, str]:
    """A text, and another one of the same kinds of characters."""
    text = draw(texts)
    return text, "".join(draw(st.sampled_from(GROUP[character])) for character in text)


def windows(text: str) -> set[str]:
    """All runs of three characters."""
    return {text[i : i + 3] for i in range(len(text) - 2)}


def look_at(*bodies: str, settings: Settings = SETTINGS) -> Look:
    """What a look at these bodies finds."""
    messages = [
        Message(str(number), body, "handle", 0, body_md5(body), receive_count=1)
        for number, body in enumerate(bodies)
    ]
    return describe(Look(QueueState(30, len(bodies), 0)), messages, settings)


def printed(*bodies: str) -> str:
    """What a look at these bodies prints, in both forms."""
    look = look_at(*bodies)
    return "\n".join([*page(look), json.dumps(as_json(look))])


@given(text_and_twin())
def test_texts_of_the_same_kinds_have_the_same_shape(pair: tuple[str, str]) -> None:
    """So no character of either is in it."""
    text, twin = pair
    assert shape_of_text(text) == shape_of_text(twin)


@given(texts)
def test_no_three_characters_of_a_text_are_in_its_shape(text: str) -> None:
    """Apart from letters that a shape is made of, where the test above applies."""
    shape = shape_of_text(text.translate(dict.fromkeys(map(ord, "aAdmsx"), "q")))
    assert (
        windows(text.translate(dict.fromkeys(map(ord, "aAdmsx"), "q"))) & windows(shape.text)
        == set()
    )


@settings(max_examples=40)
@given(st.dictionaries(foreign, st.one_of(foreign, st.lists(foreign)), max_size=4), foreign)
def test_no_three_characters_of_a_message_are_printed(event: dict[str, Any], body: str) -> None:
    """Neither of a value nor of a name, nor of a body that is not JSON."""
    found = windows(printed(json.dumps(event), json.dumps({"ip": body}), body))
    for text in (*event, *(value for value in event.values() if isinstance(value, str)), body):
        # Marks are also those of the page; the test above has them.
        assert {window for window in windows(text) & found if re.search(r"\w", window)} == set()


@settings(max_examples=40)
@given(text_and_twin(), text_and_twin())
def test_what_is_printed_is_the_same_for_other_values_of_the_same_shape(
    name: tuple[str, str], value: tuple[str, str]
) -> None:
    """Names that the configuration does not have are as secret as values."""
    names = [f"q{name[0]}", f"q{name[1]}"]
    first, second = (
        printed(json.dumps({names[i]: value[i], "ip": value[i], "a": [value[i]]}), f"<{value[i]}")
        for i in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("yes", "no"),
        ("true", "false"),
        ("male", "female"),
        ("married", "divorced"),
        ("Ja", "Nein"),
        ("männlich", "weiblich"),
        ("féminin", "masculin"),
        ("si\u0301", "no"),
        ("HIV+", "HIV-"),
        ("+", "-"),
        ("1+", "1-"),
        ("-1", "+1"),
        (True, False),
        (1, -1),
        ("424cdd21-063a-43a7-b91b-7ca1a833afae", "00000000-ffff-abcd-1234-a00000000000"),
        ("1:a:2:f:33:b:c", "a:f:1:2:ab:3:4"),
        ("Anna Schmidtke", "Kim Featherly"),
        ("anna.schmidt99@example.com", "kimberley.lee1@exampl.org"),
        ("Jürgen Schäfer", "Muller Xavero"),
        ("..-. .", ".-.. ."),
        ([1, "a"], ["b", None]),
        ({"a": 1}, {"anna@example.com": "x"}),
    ],
)
def test_values_that_a_guess_could_tell_apart_look_alike(one: Any, other: Any) -> None:
    """A flag, a word from a short list, an id, a name."""
    shapes = [shape_of(read_json(json.dumps(value))) for value in (one, other)]
    assert len({(shape.type, shape.text) for shape in shapes}) == 1


@pytest.mark.parametrize(
    ("value", "words", "text"),
    [
        ("199.172.111.135", "string of 15", "ddd.ddd.ddd.ddd"),
        ("2001:db8::42:8329", "string of 17", "mmmm:mmm::mm:mmmm"),
        ("593-47-5928", "string of 11", "ddd-dd-dddd"),
        ("2.3.0-beta", "string of 10", "d.d.d-a"),
        ("+49 170 1234567", "string of 15", "*dsdsd"),
        ("kim.lee@example.com", "string of 19", "a.a@a.a"),
        ("RU", "string of 1 to 12", "[A]"),
        (" ru", "string of 1 to 12", "[as]"),
        ("n/a", "string of 1 to 12", "[a/]"),
        ("<1\x00>", "string of 4", "*d**"),
        ("-.-7", "string of 4", "***d"),
        ("7" * 1234, "string of 1,234", "d" * MAX_SHAPE + "~"),
        ("", "string of 0", ""),
        (12345, "integer of 5", ""),
        (-12.5, "decimal of 3", ""),
        (float("nan"), "NaN or Infinity", ""),
        (None, "null", ""),
        ([1, 2], "list of 2", ""),
        ({"a": 1}, "object of 1", ""),
    ],
)
def test_what_a_shape_shows(value: Any, words: str, text: str) -> None:
    """Enough to see what is wrong with a field."""
    shape = shape_of(read_json(json.dumps(value)))
    assert (shape.words, shape.text) == (words, text)


@pytest.mark.parametrize("body", ["[" * 100_000, "9" * 10_000, '{"ip": ' + "9" * 10_000 + "}"])
def test_a_body_that_no_parser_likes_is_described(body: str) -> None:
    """It is why somebody looks."""
    assert look_at(body).messages == 1


def test_the_page_says_in_how_many_events_a_field_is() -> None:
    """Also of fields that none has; other names are counted by their shapes."""
    bodies = [
        '{"ip": null, "ip": "1.2.3.4", "anna": 1, "kim": 2}',
        '{"locale": "RU"}',
        "[1]",
        "<no>",
    ]
    look = look_at(*bodies)
    text = "\n".join(page(look))
    assert "JSON objects: 2; other JSON: 1; not JSON: 1" in text
    assert "ip: in 1 of 2\n       1  null\n       1  string of 7          d.d.d.d\n" in text
    assert "user_id: in 0 of 2\n" in text
    assert "[a]: 2 names, in 1 of 2\n       2  integer of 1\n" in text
    assert max(map(len, page(look))) <= 80


def test_a_damaged_message_and_an_envelope_are_seen() -> None:
    """Of a damaged body, not even the shape is right."""
    sns = SETTINGS.queue.model_copy(update={"envelope": "sns"})
    wrapped = json.dumps({"Type": "Notification", "Message": '{"ip": "1.2.3.4"}'})
    messages = [
        Message("1", wrapped, "handle", 0, body_md5(wrapped)),
        Message("2", '{"ip": 1}', "handle", 0, body_md5('{"ip": 1}')),
        Message("3", "{}", "handle", 0, "no MD5"),
    ]
    look = describe(
        Look(QueueState(30, 3, 0)), messages, SETTINGS.model_copy(update={"queue": sns})
    )
    assert look.bodies == {"JSON objects": 1, "no SNS notifications": 1, "damaged": 1}
    assert [shape.text for shape in look.fields["ip"].shapes] == ["d.d.d.d"]


def test_a_field_inside_others_is_found_at_its_path(tmp_path: Path) -> None:
    """As a run reads it; a list on the way has items only where the path says so."""
    paths = ["user.email", "tags[1]", "$", "a.b.c", '"x.y"', "user.absent"]
    columns = [
        {"name": f"column_{number}", "field": path, "type": "json"}
        for number, path in enumerate(paths)
    ]
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"table": {"columns": columns}}))
    event = {"user": {"email": "xyz"}, "tags": [1, True], "a": [{"b": 1}], "x.y": None}
    look = look_at(json.dumps(event), "{}", settings=config.load(file, {}))
    found = {path: [shape.type for shape in look.fields[path].shapes] for path in paths}
    assert found == {
        "user.email": ["string"],
        "tags[1]": ["boolean"],
        "$": ["object", "object"],
        "a.b.c": [],
        '"x.y"': ["null"],
        "user.absent": [],
    }
    assert [look.fields[path].events for path in paths] == [1, 1, 2, 0, 1, 0]
