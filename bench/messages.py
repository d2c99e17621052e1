"""The messages and rows to measure with."""

from __future__ import annotations

import itertools
import time
import uuid
from pathlib import Path

import pandas as pd

from etl import validate
from etl.batch import prepare
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.demo import samples
from etl.sqs.message import Message, body_md5

# More than the rows of a batch, so that values repeat in a batch as often as in the sample.
POOL = 50_000
SEED = 1


def write_bodies(path: Path, count: int) -> None:
    """Write good bodies, one per line; the stub repeats them with new message ids if it must."""
    bodies = samples.bodies(min(count, POOL), SEED, bad_share=0)
    path.write_text("\n".join(bodies), encoding="utf-8")


def masked_frame(count: int, settings: Settings, keyring: Keyring) -> pd.DataFrame:
    """Return *count* rows as masking returns them, with random message ids."""
    now_ms = time.time_ns() // 1_000_000
    bodies = itertools.islice(itertools.cycle(samples.bodies(POOL, SEED, bad_share=0)), count)
    received = [Message(str(uuid.uuid4()), body, "", now_ms, body_md5(body)) for body in bodies]
    frame_schema = validate.frame_schema(settings.table.columns)
    return prepare(received, settings, frame_schema, keyring, "run").masked


def new_ids(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with message ids that no ledger contains."""
    ids = pd.Series([str(uuid.uuid4()) for _ in range(len(frame))], index=frame.index, dtype=object)
    return frame.assign(message_id=ids)
