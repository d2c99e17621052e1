"""``etl check-config``: what a run would do with sample messages, offline, without a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etl import config
from etl.cli import main
from etl.commands.options import sample_format
from etl.errors import UsageError
from etl.operations.sample import FORMATS, read_sample
from tests.acceptance.leak_scan import search
from tests.unit.builders import EVENT, ROOT, event

SETTINGS = config.load(ROOT / "config.yaml", {})
PRETTY = json.dumps(EVENT, indent=2)


def entry(body: str, **more: Any) -> dict[str, Any]:
    """A message as ``aws sqs receive-message`` prints it."""
    return {
        "MessageId": f"id of {body}",
        "ReceiptHandle": "r",
        "MD5OfBody": "0",
        "Body": body,
    } | more


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        (PRETTY, [PRETTY]),
        ('{"a": 1.10}\n\n{"a": NaN}\r\n{"a"\n', ['{"a": 1.10}', '{"a": NaN}', '{"a"']),
        ('{"a": "\u2028"}\n{}', ['{"a": "\u2028"}', "{}"]),
        (
            ' [{"a": 1.10} , 5,"{\\"a\\": 2}",[1], null]',
            ['{"a": 1.10}', "5", '{"a": 2}', "[1]", "null"],
        ),
        ("[]", None),
        ('"a text"', ['"a text"']),
        ("null", ["null"]),
        (f"{PRETTY}\n{PRETTY}", [PRETTY, PRETTY]),
        ('{"a": 1,\n "b" 2}', ['{"a": 1,\n "b" 2}']),
        ("[" * 100_000, ["[" * 100_000]),
        ('{"a": ' + "9" * 5000 + "}", ['{"a": ' + "9" * 5000 + "}"]),
        (json.dumps({"Messages": [entry("{}"), entry("x")]}, indent=4), ["{}", "x"]),
        (json.dumps([entry("{}"), entry("x")]), ["{}", "x"]),
        ("\n".join(json.dumps(entry(body)) for body in "ab"), ["a", "b"]),
        ("".join(json.dumps({"Messages": [entry(b)]}, indent=4) for b in "ab"), ["a", "b"]),
        ("".join(json.dumps({"Messages": [entry("a")]}) for _ in "ab"), ["a"]),
        ('{"Messages": [{"Body": "{}"}]}', ['{"Messages": [{"Body": "{}"}]}']),
        ('{"Messages": []}', ['{"Messages": []}']),
        (json.dumps(entry("{}", Attributes=[])), [json.dumps(entry("{}", Attributes=[]))]),
        ("", None),
        (" \n", None),
    ],
)  # fmt: skip
def test_the_form_of_a_file_is_recognised(
    tmp_path: Path, text: str, bodies: list[str] | None
) -> None:
    """By what it is as JSON; each body keeps its exact text."""
    file = tmp_path / "sample"
    file.write_bytes(text.encode())
    if bodies is None:
        with pytest.raises(UsageError, match="holds no message"):
            read_sample(file, SETTINGS)
    else:
        sample = read_sample(file, SETTINGS)
        assert [message.body for message in sample.messages] == bodies
        assert len(sample.places) == len(bodies)


@pytest.mark.parametrize(
    ("form", "text", "bodies"),
    [
        ("body", '[{"a": 1}]', ['[{"a": 1}]']),
        ("body", "{}\n{}", ["{}\n{}"]),
        ("lines", '[{"a": 1}]', ['[{"a": 1}]']),
        ("lines", json.dumps(entry("{}")), [json.dumps(entry("{}"))]),
        ("array", json.dumps([entry("{}")]), [json.dumps(entry("{}"))]),
        ("array", "{}", "not a JSON array"),
        ("aws", "{}", "not what aws sqs receive-message prints"),
        ("aws", json.dumps(entry("x")), ["x"]),
    ],
)
def test_the_form_of_a_file_can_be_chosen(
    tmp_path: Path, form: str, text: str, bodies: list[str] | str
) -> None:
    """Where several readings are possible."""
    file = tmp_path / "sample"
    file.write_text(text)
    if isinstance(bodies, str):
        with pytest.raises(UsageError, match=bodies):
            read_sample(file, SETTINGS, form)
    else:
        assert [m.body for m in read_sample(file, SETTINGS, form).messages] == bodies


def test_the_command_offers_every_form() -> None:
    """The option has its own list, since help imports nothing."""
    option = sample_format(lambda: None).__click_params__[0]  # type: ignore[attr-defined]
    assert tuple(option.type.choices) == FORMATS


def test_a_folder_holds_a_file_for_each_message_or_more(tmp_path: Path) -> None:
    """In the order of the names, each file by its own form; a hidden file is none of them."""
    (tmp_path / "b.json").write_text(PRETTY)
    (tmp_path / "a.jsonl").write_text("{}\n{}", encoding="utf-16")
    (tmp_path / ".hidden").write_text("{}")
    sample = read_sample(tmp_path, SETTINGS)
    assert [message.body for message in sample.messages] == ["{}", "{}", PRETTY]
    assert [*sample.places.values()] == ["a.jsonl, line 1", "a.jsonl, line 2", "b.json"]


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Without a byte of it."""
    file = tmp_path / "sample"
    file.write_bytes(b"\xff\x00secret")
    with pytest.raises(UsageError, match=r"not text in UTF-8$"):
        read_sample(file, SETTINGS)


def check(*arguments: str, sample: str = "", **environment: str) -> Result:
    """Call the command with a sample on standard input; without a queue, a database and keys."""
    given = ("--sample", "-") if sample else ()
    command = ["check-config", "--config", str(ROOT / "config.yaml"), *given, *arguments]
    return CliRunner().invoke(main, command, input=sample, env=environment)


def test_a_file_alone_is_validated() -> None:
    """As a run does it before the first receive."""
    assert (done := check()).exit_code == 0
    assert done.stdout.endswith("is valid: table public.user_logins, 7 columns, 2 of them masked\n")
    bad = [{"name": "a", "field": "a", "type": "text", "mask": True, "max_length": 10}]
    assert "does not fit into 10 characters" in str(
        check(ETL_TABLE__COLUMNS=json.dumps(bad)).exception
    )


def test_all_events_that_would_load_end_with_0() -> None:
    """The rows are shown as a dry run shows them, and what is masked is not."""
    done = check(sample=event(ip="203.0.113.77", device_id="canary-1"), ETL_LOG__LEVEL="debug")
    assert done.exit_code == 0, done.output
    assert "1 of 1 events would load; 0 would be quarantined" in done.stdout
    assert EVENT["user_id"] in done.stdout
    assert "2003000" in done.stdout
    places = {"out": done.stdout.encode(), "err": done.stderr.encode()}
    assert search(places.items(), ("203.0.113.77", "canary-1")) == set()


@pytest.mark.parametrize("as_json", [False, True])
def test_events_that_would_not_load_end_with_1(as_json: bool) -> None:
    """Each with its checks, in the words of the quarantine, and without a value."""
    bad = event(ip="canary", app_version="canary", locale=None), "canary", event(device_type=7)
    lines = "\n".join([event(), *bad])
    done = check(*(["--json"] if as_json else []), sample=lines)
    assert done.exit_code == 1, done.output
    assert "canary" not in done.output
    if not as_json:
        assert "line 2   app_version: version, ip: IP address\n" in done.stdout
        assert "line 3   message: JSON\n" in done.stdout
        assert done.stdout.endswith("1 of 4 events would load; 3 would be quarantined\n")
        return
    found = json.loads(done.stdout)
    assert [len(outcome["failed"]) for outcome in found["outcomes"]] == [0, 2, 1, 1]
    assert found["outcomes"][0]["row"]["masked_ip"] == "(masked)"
    assert found["outcomes"][3]["failed"] == [{"column": "device_type", "check": "type"}]
    assert (found["would_load"], found["would_quarantine"]) == (1, 3)
    assert found["columns"][5] == {
        "table": "public.user_logins", "column": "app_version", "from": "app_version",
        "type": "INTEGER", "masked": False, "nullable": False, "looks": None, "values": 1,
    }  # fmt: skip


def test_a_null_is_shown_as_null() -> None:
    """Also in a masked column, whose other values are not shown."""
    columns = [
        {"name": "masked_a", "field": "a", "type": "text", "mask": True, "nullable": True},
        {"name": "b", "field": "b", "type": "integer", "nullable": True},
    ]
    done = check("--json", sample='{"a": null, "b": null}', ETL_TABLE__COLUMNS=json.dumps(columns))
    assert json.loads(done.stdout)["outcomes"][0]["row"] == {"masked_a": None, "b": None}


def test_an_event_with_the_ledger_key_of_an_earlier_one_would_not_load() -> None:
    """The ledger would take it for the same event."""
    lines = "\n".join([event(), event(locale="DE"), event(user_id="other")])
    done = check(sample=lines, ETL_LEDGER__KEY="field:user_id")
    assert done.exit_code == 1
    assert "1 would be skipped: the ledger key is that of an earlier event" in done.stdout
    assert "2 of 3 events would load; 0 would be quarantined" in done.stdout


def test_attributes_are_those_of_the_sample() -> None:
    """Where it has none, the command says how to receive it."""
    columns = [
        {"name": "sender", "attribute": "SenderId", "type": "text"},
        {"name": "kind", "message_attribute": "kind", "type": "text"},
        {"name": "day", "attribute": "SentTimestamp", "type": "date"},
    ]
    message = entry(
        "{}",
        Attributes={"SenderId": "AIDA", "SentTimestamp": "1700000000000"},
        MessageAttributes={"kind": {"DataType": "String", "StringValue": "k"}},
    )
    given = {"ETL_TABLE__COLUMNS": json.dumps(columns)}
    done = check("--json", sample=json.dumps({"Messages": [message]}), **given)
    row = {"sender": "AIDA", "kind": "k", "day": "2023-11-14"}
    assert json.loads(done.stdout)["outcomes"][0]["row"] == row
    done = check("--json", sample="{}", **given)
    assert "has the attribute 'SenderId', which column 'sender' reads" in done.stderr
    assert done.exit_code == 1


def test_fields_that_no_column_reads_are_counted() -> None:
    """By name, where the name cannot be personal."""
    lines = "\n".join(event(extra=1, **{f"k{n}@example.org": 1}) for n in range(6))
    done = check(sample=lines)
    assert "     6  no column reads the field 'extra'" in done.stdout
    assert "     6  no column reads a field whose name is not shown" in done.stdout
    assert "example.org" not in done.output


def test_few_events_are_shown_unless_asked() -> None:
    """A sample may hold thousands."""
    lines = "\n".join([event()] * 12)
    assert "line 12" not in (done := check(sample=lines)).stdout
    assert "some are not shown; --limit shows more, --json all" in done.stdout
    assert "line 12" in check("--limit", "12", sample=lines).stdout


def test_what_looks_personal_and_is_not_masked_is_named_and_not_shown() -> None:
    """Whoever forgot to mask a column would otherwise see its values first on a screen."""
    columns = [
        {"name": "a", "field": "customer.email", "type": "text"},
        {"name": "b", "field": "b", "type": "text"},
        {"name": "c", "field": "phone", "type": "bigint"},
        {"name": "d", "field": "phone_verified", "type": "boolean"},
    ]
    body = {
        "customer": {"email": "canary"}, "b": "from 203.0.113.77", "phone": 8675309867,
        "phone_verified": True,
    }  # fmt: skip
    for arguments in ([], ["--json"]):
        done = check(*arguments, sample=json.dumps(body), ETL_TABLE__COLUMNS=json.dumps(columns))
        assert done.exit_code == 0, done.output
        for value in ("canary", "203.0.113.77", "8675309867"):
            assert value not in done.output
        if not arguments:
            assert "column 'a' is not masked, and looks personal: an e-mail address" in done.stdout
            assert "column 'b' is not masked, and looks personal: a network addr" in done.stdout
    assert json.loads(done.stdout)["outcomes"][0]["row"] == {
        "a": "(not shown)", "b": "(not shown)", "c": "(not shown)", "d": True
    }  # fmt: skip


def test_what_is_changed_is_counted() -> None:
    """As in the notes of a run."""
    columns = [{"name": "a", "field": "a", "type": "text", "clean": ["strip"]}]
    given = {"ETL_TABLE__COLUMNS": json.dumps(columns)}
    done = check(sample='{"a": " x "}', **given)
    assert done.exit_code == 0, done.output
    assert "     1  a: " in done.stdout
    found = json.loads(check("--json", sample='{"a": " x "}', **given).stdout)
    assert list(found["notes"].values()) == [1]
    assert found["outcomes"][0]["row"] == {"a": "x"}


def test_each_event_of_a_split_message_is_one() -> None:
    """In the order of the message, with its place."""
    body = json.dumps([EVENT, {}, EVENT])
    done = check("--format", "body", "--json", sample=body, ETL_EVENT__SPLIT="array")
    found = json.loads(done.stdout)
    assert [bool(outcome["failed"]) for outcome in found["outcomes"]] == [False, True, False]
    assert (found["messages"], found["events"], found["would_load"]) == (1, 3, 2)
