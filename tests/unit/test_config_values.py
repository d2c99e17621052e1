"""A value means what its setting says, in the file as in a variable, and a mistake has its line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl import config
from etl.config.conversion import typed
from etl.config.yaml_text import MAX_VALUES, read_yaml
from etl.errors import SettingsError
from tests.unit.builders import ROOT

COLUMN = "{name: a, field: a, type: text}"
TABLE = f"table: {{columns: [{COLUMN}]}}\n"
SECRET = "Hunter2"


def load(tmp_path: Path, text: str | bytes, **environment: str) -> config.Settings:
    """Load settings from the text of a file."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.load(path, environment)


def problem(tmp_path: Path, text: str | bytes, **environment: str) -> str:
    """Return the error message without the folder of the file."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    return str(caught.value).replace(f"{tmp_path}/", "")


WORDS = ["0100", "10:00", "no", "off", "y", "2024", "1.10", "2024-01-01", "1_000", "0x1F", "0o14",
         "0b1", ".5", "1e3", "true", "+1", ".inf", "1.", "=", "<<"]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_a_name_is_taken_as_it_is_written(tmp_path: Path, word: str) -> None:
    """In every place for a text, and from a variable too."""
    # A dot in the name of a field leads into an object, unless it is in quotes.
    field = f"'\"{word}\"'" if "." in word else word
    text = (
        f"job: {{name: {word}}}\nqueue: {{url: {word}}}\nreport: {{entity: {word}}}\n"
        f"table:\n  schema: {word}\n  name: {word}\n  indexes: [[{word}]]\n"
        f"  columns: [{{name: {word}, field: [{field}, x], context: {word}, type: text, "
        "mask: true}]\n"
    )
    settings = load(tmp_path, text)
    (column,) = settings.table.columns
    names = [settings.job.name, settings.queue.url, settings.report.entity, column.name]
    names += [
        settings.table.schema_name,
        settings.table.name,
        column.context,
        column.source.strip('"'),
    ]
    assert {*names, *settings.table.indexes[0]} == {word}
    given = load(tmp_path, TABLE, ETL_JOB__NAME=word, ETL_TABLE__NAME=word, ETL_QUEUE__URL=word)
    assert {given.job.name, given.table.name, given.queue.url} == {word}


@pytest.mark.parametrize(
    ("text", "value"),
    [("0100", 100), ("0o14", 12), ("0x1F", 31), ("+7", 7), ("1e3", 1000), ("'100'", 100),
     ("1000.0", 1000)],
)  # fmt: skip
def test_a_whole_number_is_read_as_yaml_12_has_it(tmp_path: Path, text: str, value: int) -> None:
    """A leading zero makes no octal number."""
    assert load(tmp_path, TABLE + f"batch: {{rows: {text}}}").batch.rows == value
    assert load(tmp_path, TABLE, ETL_BATCH__ROWS=f" {text}\n").batch.rows == value


@pytest.mark.parametrize("text", [".5", "0.5", "5e-1", "0.50", "'0.5'", "+.5"])
def test_a_number_is_read_as_yaml_12_has_it(tmp_path: Path, text: str) -> None:
    """All of these are one half."""
    assert load(tmp_path, TABLE + f"batch: {{seconds: {text}}}").batch.seconds == 0.5
    assert load(tmp_path, TABLE, ETL_BATCH__SECONDS=text).batch.seconds == 0.5


@pytest.mark.parametrize(
    "text",
    ["1_000", "0b1", "10:00", "many", "true", "5 rows", "''", "'1,000'", "[5]", "{a: 1}", "0o9",
     "1.5", ".inf", ".nan", "9" * 5000, "1e999", "null", "2024-01-01", "\u0665"],
)  # fmt: skip
@pytest.mark.parametrize("setting", ["batch.rows", "batch.bytes", "queue.max_receivers"])
def test_what_is_no_whole_number_is_refused(tmp_path: Path, text: str, setting: str) -> None:
    """The sentence says what is allowed, and where the value is."""
    section, key = setting.split(".")
    said = problem(tmp_path, TABLE + f"{section}:\n  {key}: {text}\n")
    assert said.startswith(f"setting '{setting}': must be a whole number")
    assert said.endswith("(config.yaml line 3)")
    variable = f"ETL_{section}__{key}".upper()
    if text != "''":
        assert problem(tmp_path, TABLE, **{variable: text}).endswith(f"({variable})")


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e999", "-1", "x"])
def test_a_number_is_finite_and_in_its_range(tmp_path: Path, text: str) -> None:
    """Infinity and NaN are numbers of YAML, and no share or time."""
    for key in ("quarantine: {max_fraction", "run: {max_seconds", "batch: {quiet_seconds"):
        assert "must be a number" in problem(tmp_path, f"{TABLE}{key}: {text}}}")


@pytest.mark.parametrize(
    ("words", "value"),
    [("true True TRUE yes Yes on ON 1 'true'", True), ("false False FALSE no NO off 0", False)],
)
def test_a_boolean_setting_takes_the_usual_words(tmp_path: Path, words: str, value: bool) -> None:
    """In a setting that is one or the other they have one meaning, in the file and a variable."""
    for word in words.split():
        assert load(tmp_path, TABLE + f"run: {{forever: {word}}}").run.forever == value
        assert load(tmp_path, TABLE, ETL_RUN__FOREVER=word).run.forever == value
        column = COLUMN.replace("}", f", mask: {word}}}")
        assert load(tmp_path, f"table: {{columns: [{column}]}}").table.columns[0].mask == value


@pytest.mark.parametrize("word", ["y", "n", "t", "2", "null", "1.0", "truth", "'  '", "01"])
def test_any_other_word_is_no_boolean(tmp_path: Path, word: str) -> None:
    """The sentence names the column."""
    said = problem(tmp_path, f"table:\n  columns:\n  - {COLUMN[:-1]}, mask: {word}}}\n")
    assert said.startswith("column 'a': 'mask' must be true, false, siv, hmac or partial")
    assert said.endswith("(config.yaml line 3)")


@pytest.mark.parametrize("text", ["~", "null", "Null", "NULL", ""])
def test_null_is_a_setting_that_is_not_set(tmp_path: Path, text: str) -> None:
    """In quotes it is a text."""
    settings = load(tmp_path, TABLE + f"job: {{name: {text}}}\nrun: {{max_messages: {text}}}")
    assert (settings.job.name, settings.run.max_messages) == (None, None)
    if text:
        assert load(tmp_path, TABLE + f"job: {{name: '{text}'}}").job.name == text
        assert load(tmp_path, TABLE, ETL_JOB__NAME=f"'{text}'").job.name == text
        assert load(tmp_path, TABLE + "job: {name: x}", ETL_JOB__NAME=text).job.name is None
    said = problem(tmp_path, TABLE.replace("columns", f"name: {text or '~'}\n , columns"))
    assert said.startswith("setting 'table.name': must be text, not empty and without NUL")


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_an_empty_variable_counts_as_unset(tmp_path: Path, text: str) -> None:
    """So a scheduler can pass on one that is not set; the file's value stays."""
    for variable, file in (("JOB__NAME", "job: {name: x}"), ("BATCH__ROWS", "batch: {rows: 5}")):
        unset = load(tmp_path, TABLE + file)
        assert load(tmp_path, TABLE + file, **{f"ETL_{variable}": text}) == unset


@pytest.mark.parametrize(
    ("text", "value"),
    [("field:x", "x"), ("field:a b", "a b"), ("'field:x'", "x"), ('"field:x"', "x"),
     ("field:x\n", "x"), ("field:#1", "#1"), ("field:a #1", "a #1"), ("field:'x'", "'x'")],
)  # fmt: skip
def test_a_variable_of_a_text_is_taken_as_it_is(tmp_path: Path, text: str, value: str) -> None:
    """A colon or a # has no meaning in it; only spaces and quotes around it are taken off."""
    assert load(tmp_path, TABLE, ETL_LEDGER__KEY=text).ledger.field == value
    url = text.replace("field:", "https://host/1/q?#")
    assert load(tmp_path, TABLE, ETL_QUEUE__URL=url).queue.url == f"https://host/1/q?#{value}"


@pytest.mark.parametrize(
    "text",
    ['[{"name": "0100", "field": "no", "type": "ip", "mask": true}]',
     """'[{"name": "0100", "field": "no", "type": "ip", "mask": true}]'\n""",
     "[{name: 0100, field: no, type: ip, mask: yes}]",
     "- name: 0100\n  field: no\n  type: ip\n  mask: on\n"],
)  # fmt: skip
def test_a_list_in_a_variable_is_yaml_or_json(tmp_path: Path, text: str) -> None:
    """Its values have the types of their settings too."""
    settings = load(tmp_path, TABLE, ETL_TABLE__COLUMNS=text, ETL_TABLE__INDEXES='[["0100"]]')
    (column,) = settings.table.columns
    assert (column.name, column.field, column.mask) == ("0100", "no", True)
    assert settings.table.indexes == (("0100",),)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ETL_TABLE__COLUMNS": "[{name: a"}, "'ETL_TABLE__COLUMNS' is not YAML at line 1"),
        ({"ETL_TABLE__COLUMNS": "a, b"}, "'table.columns': must be a list (ETL_TABLE__COLUMNS)"),
        ({"ETL_TABLE__COLUMNS": "[{name: a, field: a, type: texxt}]"},
         "column 'a': unknown type 'texxt'; did you mean 'text'? (ETL_TABLE__COLUMNS)"),
        ({"ETL_TABLE__COLUMNS": "[{name: a, field: a, type: ip, mask: no, mask: yes}]"},
         "key 'mask' appears twice, in line 1 of 'ETL_TABLE__COLUMNS'"),
        ({"ETL_TABLE__INDEXES": "[[aa, b]]"}, "not a column of the table; did you mean 'a'?"),
        ({"ETL_TABLE__INDEXES": "[a]"}, "a list of lists of columns, such as [[a, b]]"),
        ({"ETL_LOG__LEVEL": "inof"}, "unknown value 'inof'; did you mean 'info'? (ETL_LOG__LEVEL)"),
        ({"ETL_LOG__LEVEL": "INFO"}, "unknown value 'INFO'; did you mean 'info'? (ETL_LOG__LEVEL)"),
        ({"ETL_LOG__LEVEL": SECRET}, "unknown value; known are debug, info"),
        ({"ETL_BATCH__ROWS": SECRET}, "'batch.rows': must be a whole number from 1 to 50,000 ("),
        ({"ETL_RUN__FOREVER": SECRET}, "'run.forever': must be true or false (ETL_RUN__FOREVER)"),
        ({"ETL_QUEUE__URI": SECRET}, "unknown setting 'queue.uri'; did you mean 'url'? (ETL"),
        ({"ETL_QUEUE__URL": "x", "ETL_Queue__url": "y"}, "are the same setting"),
        ({"ETL_REPORT__ENTITY": "postgresql://u:Hunter2@h/d"}, "report.entity is (a name that is"),
        ({"ETL_REPORT__TIME": "tiem"}, "column of the table; known are a (ETL_REPORT__TIME)"),
        (
            {"ETL_QUEUE__RECEIVERS": "2"},
            "unknown setting 'queue.receivers'; its name is now 'queue.max_receivers' (ETL",
        ),
        ({"ETL_QUEUE__ROWS": "5"}, "unknown setting 'queue.rows'; it belongs to 'batch' (ETL"),
        ({"ETL_KEYRING_FLIE": "5"}, "did you mean 'ETL_KEYRING_FILE'?"),
        ({"ETL_BATCH_ROWS": "5"}, "did you mean 'ETL_BATCH__ROWS'?"),
        ({"ETL_LEDGER__KEY": "field: x"}, "(ETL_LEDGER__KEY)"),
        ({"ETL_DATABASE__URL": f"postgresql://u:{SECRET}@h/d"}, "is a secret"),
        ({"ETL_TABLE__SCHEMA_NAME": "x"}, "did you mean 'schema'"),
        ({"ETL_RUN__WORKERS": "64", "ETL_BATCH__ROWS": "50000"}, "(ETL_RUN__WORKERS, ETL_"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named(tmp_path: Path, variables: dict[str, str], said: str) -> None:
    """What it holds is not shown, since it may be a secret in the wrong place."""
    text = problem(tmp_path, TABLE, **variables)
    assert said in text
    assert SECRET not in text


LINES = f"""\
queue:
  url: x
table:
  columns:
    - {COLUMN}
    - name: email
      field: email
      type: texxt
      mask: true
      max_length: 0
    - name: b
      filed: b
      type: text
batch:
  rows: 0
loda: {{}}
"""


def test_every_problem_has_a_line_of_its_own_and_names_its_line(tmp_path: Path) -> None:
    """A column is named as the file names it."""
    assert problem(tmp_path, LINES, ETL_QUEUE_URL="x", ETL_LOG__FORMAT="yaml").splitlines() == [
        "7 problems in the settings:",
        (
            "  unknown variable 'ETL_QUEUE_URL': settings are named ETL_SECTION__KEY, with two "
            "underscores; did you mean 'ETL_QUEUE__URL'?"
        ),
        "  column 'email': unknown type 'texxt'; did you mean 'text'? (config.yaml line 8)",
        (
            "  column 'email': 'max_length' must be a whole number from 1 to 10,485,760, not 0 "
            "(config.yaml line 10)"
        ),
        "  column 'b': unknown key 'filed'; did you mean 'field'? (config.yaml line 12)",
        (
            "  setting 'batch.rows': must be a whole number from 1 to 50,000, not 0 "
            "(config.yaml line 15)"
        ),
        "  setting 'log.format': unknown value 'yaml'; known are text, json (ETL_LOG__FORMAT)",
        "  unknown section 'loda'; did you mean 'load'? (config.yaml line 16)",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("table:\n  columns:\n  - {name: a, field: a, type: ip, mask: true, mask: false}\n",
         "key 'mask' appears twice, in line 3 of"),
        (("table:\n  columns:\n  - name: a\n    field: a\n    type: ip\n    mask: true\n"
         '    "mask": false\n'), "key 'mask' appears twice, in lines 6 and 7 of"),
        (TABLE + "batch: {rows: 1}\n" + TABLE, "key 'table' appears twice, in lines 1 and 3 of"),
        (TABLE + "run:\n  forever: no\n\n  forever: no\n", "in lines 3 and 5 of"),
        (("table:\n  columns:\n  - &a {name: a, field: a, type: ip}\n  - <<: *a\n    name: b\n"
         "    <<: *a\n"), "key '<<' appears twice, in lines 4 and 6 of"),
        (("table:\n  columns:\n  - &a {name: a, field: a, type: ip, mask: true}\n"
         "  - &b {name: b, field: b, mask: false, type: ip}\n  - <<: [*a, *b]\n"),
         "key 'mask' appears twice, in lines 3 and 4 of"),
        (TABLE + f"queue:\n  {SECRET}://{SECRET}: 1\n  {SECRET}://{SECRET}: 1\n",
         "key (a name that is not shown) appears twice, in lines 3 and 4"),
    ],
)  # fmt: skip
def test_a_key_that_is_there_twice_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    """YAML readers take the last one in silence, and a masked column could become plain."""
    found = problem(tmp_path, text)
    assert said in found
    assert SECRET not in found


def test_what_columns_share_can_be_merged(tmp_path: Path) -> None:
    """A key of the column itself comes before a merged one."""
    text = (
        "table:\n  columns:\n  - &a {name: a, field: a, type: ip, mask: true}\n"
        "  - {name: b, field: b, <<: *a}\n  - {<<: [*a], name: c, field: c, type: text}\n"
    )
    columns = load(tmp_path, text).table.columns
    assert [(c.name, c.field, c.type, c.mask) for c in columns] == [
        ("a", "a", "ip", True), ("b", "b", "ip", True), ("c", "c", "text", True)
    ]  # fmt: skip


BOMB = "a: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, f"more than {MAX_VALUES:,} values"),
        (MERGES, f"more than {MAX_VALUES:,} values"),
        ("a: &a [*a]", "line 1 of 'config.yaml' has an anchor inside itself"),
        ("a: &a {b: *a}", "an anchor inside itself"),
        ("a: &a {<<: *a}", "an anchor inside itself"),
        ("a: " + "[" * 1500 + "]" * 1500, "nested too deeply"),
        ("a: " + "[" * 200 + "]" * 200, "unknown section 'a'"),
        (TABLE + "---\n" + TABLE, "holds a second document at line 2"),
        ("queue:\n\turl: x\n", "at line 2, column 1: there is a tab; indent with spaces"),
        ("queue: {url: *x}", "has an alias at line 1, column 14 without an anchor"),
        ("a: !!python/object:os.system x", "line 1 of 'config.yaml' has a tag"),
        ("a: 1\nb: !secret x", "line 2 of 'config.yaml' has a tag"),
        (TABLE + "batch: {rows: !!int 5}", "line 2 of 'config.yaml' has a tag"),
        (TABLE + "? [a, b]\n: 1", "line 2 of 'config.yaml' has a list or a mapping as a key"),
        (TABLE + "x: {<<: 1}", "merges something that is not a mapping"),
        (TABLE + "queue: {url: x\x07}", "it has a control character in line 2"),
        ("queue: x\0y", "cannot read 'config.yaml': not text in UTF-8"),
        (("table:\n  columns:\n  - {name: a, field: a, type: ip}\n"
         "  - {name: b, field: b, type: ip}\n  - {name: a, field: c, type: ip}\n"),
         "column 'a' is listed twice (config.yaml line 3, config.yaml line 5)"),
        (("table:\n  columns:\n  - {name: a, field: a, type: ip}\n"
         "  - {name: b, field: [c, a], type: ip}\n"),
         "(give both the same list) (config.yaml line 3, config.yaml line 4)"),
        ("queue: é".encode("latin-1"), "cannot read 'config.yaml': not text in UTF-8"),
        (TABLE + "5: 1\n", "unknown section '5'"),
        (TABLE + "~: 1\n", "unknown section '~'"),
        (TABLE + "queue: [a]\n", "section 'queue': must hold keys such as url, max_receivers"),
        (TABLE + "queue: text\n", "section 'queue': must hold keys such as url, max_receivers"),
        ("table:\n  columns:\n    email: {type: text}\n", "'table.columns': must be a list (con"),
        ("table:\n  columns:\n  - name: a\n  -\n", "column number 2: must hold keys such as name"),
        (TABLE + "database: 7\n", "section 'database': must hold keys such as"),
        ("table:\n", "setting 'table.columns' is missing (config.yaml line 1)"),
        ("", "section 'table' is missing"),
        ("# only a comment\n", "section 'table' is missing"),
        ("text", "must hold sections"),
        ("table:\n  schema_name: x\n  columns: []", "unknown setting 'table.schema_name'"),
        ('table: {columns: [], name: "a\\0"}', "text, not empty and without NUL"),
        ('table: {columns: [], name: "a\\ud800"}', "text, not empty and without NUL"),
        ("table: {columns: [{name: [a], field: a, type: text}]}", "'name' must be text"),
        ("table: {columns: [{name: a, field: [~], type: text}]}", "'field' must be a name"),
        ("table: {columns: [{name: a, field: {x: y}, type: text}]}", "'field' must be a name"),
        ("table: {columns: [{name: a, field: a, type: Hunter2}]}", "unknown type; known are text"),
        ("table: {columns: [{name: a, attribute: Sent, type: date}]}", "unknown attribute 'Sent'"),
    ],
    ids=range(39),
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_explained(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    """In one sentence, which names the line where there is one, and quotes none of it."""
    found = problem(tmp_path, text)
    assert said in found
    assert SECRET not in found
    assert "valid" not in found  # the word of pydantic's phrases


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file_of_windows_is_read(tmp_path: Path, encoding: str, line_end: str) -> None:
    """PowerShell writes UTF-16 with a mark, Notepad one before UTF-8."""
    text = (TABLE + "job:\n  name: né\nqueue:\nrun: # nothing\n").replace("\n", line_end)
    settings = load(tmp_path, text.encode(encoding))
    assert (settings.job_name, settings.queue) == ("né", config.QueueSettings())


def test_the_default_file_means_the_same_to_other_readers() -> None:
    """Nothing in it depends on the version of YAML."""
    text = (ROOT / "config.yaml").read_text()
    ours = typed(read_yaml(text, "config.yaml").tree, config.Settings)
    theirs: Any = yaml.safe_load(text)
    assert ours == theirs
    assert not math.isnan(theirs["quarantine"]["max_fraction"])


@pytest.mark.parametrize("code", [0xA0, 0x200B, 0xFEFF, 0xAD, 0x3000, 0x201C, 0x2019])
@pytest.mark.parametrize("line", ["mask: {0}true{0}", "{0}mask{0}: true", "context: {0}x{0}"])
def test_a_character_from_a_web_page_is_named(tmp_path: Path, code: int, line: str) -> None:
    """It would be a part of the name, or hide why the word is refused."""
    masked = "" if "mask" in line else "mask: true, "
    column = f"{{name: b, field: b, type: text, {masked}{line.format(chr(code))}}}"
    said = problem(tmp_path, f"table:\n  columns:\n    - {COLUMN}\n    - {column}\n")
    assert said.startswith("line 4 of 'config.yaml' has the ")
    assert f"U+{code:04X}" in said
    assert "\n" not in said
    quoted = f"job: {{name: 'a{chr(0x201C)}b'}}\n"
    assert load(tmp_path, TABLE + quoted).job.name == f"a{chr(0x201C)}b"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("url:https", "line 3 has no space after its colon"),
        ("url\uff1a https", ""),
        ("url: 'x", "the quote that is opened in line 3 is not closed"),
        ("url = x", "line 3 has '=' instead of ': '"),
        ("url: @x", "put the value in quotes"),
        ("url: a: b", "correct its indentation, or put a value with a colon in quotes"),
        ('url: "C:\\U"', "a backslash in double quotes begins an escape; use single quotes"),
        ("url:\u00a0x", "line 3 has the character U+00A0"),
    ],
)
def test_what_is_not_yaml_says_why(tmp_path: Path, line: str, hint: str) -> None:
    """The reader itself complains one line later."""
    said = problem(tmp_path, f"queue:\n  wait_seconds: 1\n  {line}\n  max_receivers: 1\n{TABLE}")
    assert said.startswith("'config.yaml' is not YAML at line ")
    assert hint in said


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("ETL_JOB__NAME", "a # prod", "has a comment after its value"),
        ("ETL_BATCH__ROWS", "'500' # prod", "has a comment after its value"),
        ("ETL_JOB__NAME", "a\u200b", "has the character U+200B"),
        ("ETL_JOB__NAME", "\u201ca\u201d", "has the typographic quote U+201C"),
        ("etl_job__name", "a", "is not read: name it 'ETL_JOB__NAME'"),
        ("Etl_Keyring_File", "a", "is not read: name it 'ETL_KEYRING_FILE'"),
    ],
)
def test_a_slip_in_a_variable_is_named(tmp_path: Path, variable: str, text: str, said: str) -> None:
    """Another job's name, for one, would have a ledger of its own."""
    found = problem(tmp_path, TABLE, **{variable: text})
    assert repr(variable) in found
    assert said in found
    assert "\n" not in found


def test_a_variable_of_two_quotes_is_unset(tmp_path: Path) -> None:
    """As Docker hands over what a shell would take for nothing."""
    assert load(tmp_path, TABLE, ETL_BATCH__ROWS='""').batch.rows == 10_000


def test_a_lost_mask_is_noticed(tmp_path: Path) -> None:
    """By what else the column says; nothing is loaded in plain because a line is gone."""
    column = "{{name: {}, field: b, type: text{}}}"
    said = problem(tmp_path, f"table: {{columns: [{column.format('Masked_b', '')}]}}")
    assert "is named as masked, and 'mask' is missing" in said
    said = problem(tmp_path, f"table: {{columns: [{column.format('b', ', context: b')}]}}")
    assert "has a 'context', which only a masked column has" in said
    (given,) = load(
        tmp_path, f"table: {{columns: [{column.format('masked_b', ', mask: false')}]}}"
    ).table.columns
    assert not given.mask


@pytest.mark.parametrize("default", ["[]", "[5]", "{}"])
def test_a_list_as_a_default_is_told_how_to_write_it(tmp_path: Path, default: str) -> None:
    """As JSON in quotes, which is accepted."""
    column = f"{{name: a, field: a, type: integer, array: true, default: {default}}}"
    text = f"table: {{columns: [{column}]}}"
    assert problem(tmp_path, text) == (
        "column 'a': 'default' must be one value; write a list or an object as JSON in quotes: "
        "'[]' (config.yaml line 1)"
    )
    quoted = text.replace(default, "'[]'")
    assert load(tmp_path, quoted).table.columns[0].default == "[]"
