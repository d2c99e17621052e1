"""Mistakes in the configuration, and what is said of each: for the tests and for the document."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from etl import config
from etl.errors import SettingsError

HEAD = "table:\n  columns:\n    - {name: user_id, field: user_id, type: text}\n"


@dataclass(frozen=True)
class Mistake:
    """A mistake in the file, after the lines of a good table, or in a variable."""

    what: str
    text: str = ""
    variables: dict[str, str] = field(default_factory=dict)


MISTAKES = (
    Mistake("a misspelt type", "    - {name: email, field: email, type: texxt}\n"),
    Mistake("a misspelt key of a column", "    - {name: ip, field: ip, type: ip, maks: true}\n"),
    Mistake(
        "a key that appears twice",
        "    - name: ip\n      field: ip\n      type: ip\n      mask: true\n      mask: false\n",
    ),
    Mistake("a column that appears twice", "    - {name: user_id, field: uid, type: text}\n"),
    Mistake("a misspelt setting", "queue:\n  ulr: https://sqs.eu-west-1.amazonaws.com/1/q\n"),
    Mistake("a setting in the wrong section", "queue:\n  rows: 500\n"),
    Mistake("a misspelt section", "qeue:\n  url: https://sqs.eu-west-1.amazonaws.com/1/q\n"),
    Mistake("a number of YAML 1.1", "batch:\n  rows: 10_000\n"),
    Mistake("a number out of its range", "batch:\n  rows: 0\n"),
    Mistake("a word of another kind", "run:\n  forever: maybe\n"),
    Mistake("a tab", "queue:\n\turl: x\n"),
    Mistake("a second document", "---\nqueue: {}\n"),
    Mistake("a tag", "batch:\n  rows: !!int 500\n"),
    Mistake("a password in the file", "database:\n  url: postgresql://etl:pw@host/etl\n"),
    Mistake("one underscore", variables={"ETL_QUEUE_URL": "https://host/1/q"}),
    Mistake("a word in capitals", variables={"ETL_LOG__LEVEL": "INFO"}),
    Mistake("two mistakes", "log:\n  levle: info\n", variables={"ETL_RUN__MAX_SECONDS": "an hour"}),
)


def said(mistake: Mistake) -> str:
    """What the program says of a mistake, without the folder of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(HEAD + mistake.text)
        try:
            config.load(path, mistake.variables)
        except SettingsError as error:
            return str(error).replace(f"{folder}/", "")
    raise AssertionError(mistake.what)
