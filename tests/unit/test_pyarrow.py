"""The stages give the same frames with pyarrow, with which pandas stores text in another way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.builders import ROOT

# pyarrow is in a folder of its own, so that the job's tests run as the job does: without it.
WITH_PYARROW = Path(sys.prefix) / "report"

PROGRAM = r"""
import itertools, json, sys
import pandas as pd
from etl import config, dry_run, extract, fingerprints, load, mask, quarantine, validate
from etl.batch import prepare
from etl.crypto.keyring import Keyring
from etl.frames import rejects
from etl.reading.sources import values_of_messages
from etl.validate import frame_schema
from etl.terminal import output
from tests.unit.builders import EVENT, ROOT, event, message

KEYRING = Keyring("k1", {"k1": bytes(range(64))})
VALUES = ["x", "", "\ud800", "a\udfffb", "a\0b", None, 5, 2.5, 10**30, True, [], ["\ud800"], {},
          {"\ud800": "\0"}, "\u202e", "1.2.3.4", "2.3", "06.2"]
bodies = [event(**{field: value}) for field in EVENT for value in VALUES]
bodies += [event(**dict.fromkeys(EVENT, value)) for value in VALUES]
bodies += [event(), "{", "\ud800", "[]", '{"ip": NaN}', "{}"]


def shown(frame):
    return [list(map(str, frame.columns)), list(map(str, frame.dtypes)),
            [list(map(repr, row)) for row in frame.itertuples(index=False, name=None)]]


settings = config.load(ROOT / "config.yaml", {}, {"ledger.key": "field:user_id"})
columns = settings.table.columns
out = {}
batches = {"all": bodies, "good": [event()], "bad": ["{"], "surrogate": [bodies[2]]}
for name, chosen in batches.items():
    messages = [message(body, number) for number, body in enumerate(chosen)]
    raw, unreadable = extract.read(
        messages, settings.event_fields, of_messages=values_of_messages(columns, "run")
    )
    valid, invalid = validate.split(raw, frame_schema(columns), columns)
    batch = prepare(messages, settings, frame_schema(columns), KEYRING, "run")
    kept = batch.masked[~batch.masked["message_id"].isin(batch.rejects["message_id"])]
    frames = [raw, unreadable, valid, invalid, batch.masked, batch.rejects, kept,
              pd.concat([kept, kept])]
    out[name] = [shown(frame) for frame in frames]
    out[name].append(quarantine.reasons(quarantine.check_counts(batch.rejects)))
    out[name].append(quarantine.by_message(batch.rejects))
    out[name].append(list(mask.unmask_tokens(batch.masked["masked_ip"], KEYRING, "ip")))
    output.frame(raw, "raw")
print(json.dumps(out))
"""

pytestmark = pytest.mark.skipif(
    not WITH_PYARROW.exists(), reason=f"no {WITH_PYARROW}: make installs pyarrow there"
)


def run(*command: str, pyarrow: bool) -> subprocess.CompletedProcess[str]:
    """Run Python with or without pyarrow on its path."""
    paths = [str(ROOT), *([str(WITH_PYARROW)] if pyarrow else [])]
    return subprocess.run(
        [sys.executable, *command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(autouse=True)
def pyarrow_is_only_where_it_is_expected() -> None:
    """Otherwise the tests would compare like with like."""
    for wanted in (False, True):
        assert (run("-c", "import pyarrow", pyarrow=wanted).returncode == 0) == wanted


@pytest.mark.long
def test_the_stages_give_the_same_frames_with_pyarrow() -> None:
    """With lone surrogates, NUL and values of every kind in every field."""
    results = [run("-c", PROGRAM, pyarrow=pyarrow) for pyarrow in (False, True)]
    for result in results:
        assert result.returncode == 0, result.stderr
    assert results[0].stdout == results[1].stdout


@pytest.mark.long
@pytest.mark.parametrize(
    "file",
    ["test_validate.py", "test_extract.py", "test_mask.py", "test_fingerprints.py"],
)
def test_the_tests_of_the_stages_pass_with_pyarrow(file: str) -> None:
    """They say what the frames must be."""
    path = Path(__file__).parent / file
    result = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(path), pyarrow=True)
    assert result.returncode == 0, result.stdout
