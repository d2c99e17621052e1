"""The messages and rows that are measured with."""

from __future__ import annotations

import itertools
import time
import uuid
from pathlib import Path

import pandas as pd

from etl import pipeline, schema
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.demo import samples
from etl.extract import body_md5
from etl.sqs.message import Message

# More than a batch holds, so that within a batch values repeat as they do in the sample itself.
POOL = 50_000
SEED = 1


def write_bodies(path: Path, count: int) -> None:
    """Write good bodies, one a line; the stub repeats them, under new message ids, as needed."""
    bodies = samples.bodies(min(count, POOL), SEED, bad_share=0)
    path.write_text("\n".join(bodies), encoding="utf-8")


def masked_frame(count: int, settings: Settings, keyring: Keyring) -> pd.DataFrame:
    """Make *count* rows as they come out of masking, with random message ids."""
    now_ms = time.time_ns() // 1_000_000
    bodies = itertools.islice(itertools.cycle(samples.bodies(POOL, SEED, bad_share=0)), count)
    made = [Message(str(uuid.uuid4()), body, "", now_ms, body_md5(body)) for body in bodies]
    checked = schema.frame_schema(settings.table.columns)
    return pipeline.prepare(made, settings, checked, keyring).masked


def new_ids(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the rows message ids that no ledger has."""
    ids = pd.Series([str(uuid.uuid4()) for _ in range(len(frame))], index=frame.index, dtype=object)
    return frame.assign(message_id=ids)
