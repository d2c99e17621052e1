"""Whatever a message contains, it is loaded or quarantined, and the others are not affected."""

from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from etl import config, extract, mask, validate
from etl.reading.sources import values_of_messages
from tests.conftest import KEYRING, ROOT, Job
from tests.unit.builders import EVENT, FIELDS, event, message

pytestmark = pytest.mark.long

SETTINGS = config.load(ROOT / "config.yaml", {})
SCHEMA = validate.frame_schema(SETTINGS.table.columns)
PLAN = mask.masking_plan(SETTINGS.table)

# All of Unicode, with the unusual categories more often than at random.
characters = st.characters() | st.characters(categories=["Cs", "Cc", "Co", "Cn"])
ODD = [
    None, True, 0, 2**31, 2**63, -(2**63) - 1, 10**999, 10**1000, -(10**4200),
    0.1, -0.0, 5e-324, 1.8e308, float("nan"), [], {}, [[None]], {"": {}},
    "", "\0", "\ud800", "a\udfffb", "\ud83c\udf88", "x" * 300, "é" * 100, "1.2.3", "0.96",
    "\u0661.\u0662",
    "NaN", "NA", "null", "\\N", "192.0.2.7", "::1", "fe80::1%eth0", " ", "\u2028", "\ufeff",
]  # fmt: skip
texts = st.text(characters, max_size=40) | st.sampled_from([o for o in ODD if isinstance(o, str)])
scalars = st.booleans() | st.integers() | st.floats() | texts | st.sampled_from(ODD)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
# Events with a field replaced, removed or added come closest to good ones.
events = st.builds(
    lambda changes, removed, added: {
        **{k: v for k, v in {**EVENT, **changes}.items() if k not in removed},
        **added,
    },
    st.dictionaries(st.sampled_from(FIELDS), scalars | values, max_size=2),
    st.just(set()) | st.sets(st.sampled_from(FIELDS), max_size=1),
    st.dictionaries(texts, values, max_size=1),
)


def _serialize(value: Any, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only)


logins = st.builds(_serialize, events, st.booleans())
documents = st.builds(_serialize, values, st.booleans())
broken = (
    logins.map(lambda text: text[:-1])
    | logins.map(lambda text: f'{text[:-1]}, "ip": "192.0.2.1"}}')
    | texts
    | st.integers(90, 110).map(lambda depth: "[" * depth + "]" * depth)
)
# Most often something that gets as far as the checks.
bodies = st.sampled_from([logins, logins, logins, documents, broken]).flatmap(
    lambda strategy: strategy
)


# Each odd value once in each field, since random examples might miss some.
SYSTEMATIC = [event(**{field: odd}) for field in FIELDS for odd in ODD]


def process(message_bodies: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read, validate and mask the messages m0, m1, ...; returns masked rows and rejects."""
    messages = [message(body, number) for number, body in enumerate(message_bodies)]
    sources = values_of_messages(SETTINGS.table.columns, "run")
    raw, unreadable = extract.read(messages, FIELDS, of_messages=sources)
    valid, rejects = validate.split(raw, SCHEMA, SETTINGS.table.columns)
    return mask.columns(valid, KEYRING, PLAN), pd.concat([unreadable, rejects])


NEIGHBOURS = [event(user_id="first"), event(user_id="last", locale=None)]
MASKED_NEIGHBOURS = process(NEIGHBOURS)[0]


@example(SYSTEMATIC)
@given(st.lists(bodies, min_size=2, max_size=12))
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_message_is_valid_or_rejected_and_spares_its_neighbours(tested: list[str]) -> None:
    """No exception is raised, and the two good messages around the others are loaded unchanged."""
    masked, rejects = process([NEIGHBOURS[0], *tested, NEIGHBOURS[1]])
    ids = [f"m{number}" for number in range(len(tested) + 2)]
    assert sorted([*masked["message_id"], *set(rejects["message_id"])]) == sorted(ids)
    neighbours = masked[masked["message_id"].isin([ids[0], ids[-1]])].drop(columns="message_id")
    expected = MASKED_NEIGHBOURS.drop(columns="message_id")
    pd.testing.assert_frame_equal(neighbours.reset_index(drop=True), expected)


# API_SendMessage: the characters that SQS does not accept.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def generate_bodies(count: int) -> list[str]:
    """Generate up to *count* bodies that SQS accepts, the same ones every time."""
    sendable: list[str] = []

    @given(bodies)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def collect(body: str) -> None:
        cleaned = FORBIDDEN.sub("\ufffd", body)
        if cleaned:
            sendable.append(cleaned)

    collect()
    return sendable


def test_a_queue_of_anything_is_emptied(job: Job) -> None:
    """Each message is loaded or quarantined, and nothing stops the run."""
    sent = [*generate_bodies(800), *SYSTEMATIC, *NEIGHBOURS]
    assert len(sent) > 902
    job.send(*sent)
    summary = job.run(ETL_QUARANTINE__MAX_FRACTION="1")
    assert summary["loaded"] + summary["quarantined"] == len(sent)
    assert summary["loaded"] > 20
    assert summary["received"] == len(sent)
    assert job.left() == 0
