"""CPU of reading, checking and masking an event, by what is configured."""

from __future__ import annotations

import gc
import itertools
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bench import markdown, paired_runs
from bench.messages import POOL, SEED
from bench.services import Options, WorkNotDone
from etl import config, validate
from etl.batch import prepare
from etl.crypto.keyring import Keyring
from etl.demo import samples
from etl.reading.reader import EventReader
from etl.sqs.message import Message, body_md5
from etl.workers.interpreter import COLLECT_AFTER

EVENTS, QUICK_EVENTS = 50_000, 500
CONFIGURATION = Path(__file__).parent.parent / "config.yaml"
DEFAULT = "the default configuration"
IN_A_MESSAGE = 10  # events, of the messages that hold several

Item = TypeVar("Item")
Event = dict[str, Any]
Tree = dict[str, Any]


def _unchanged(_: Tree) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """What is changed of the default configuration, and the event and the body that go with it."""

    change: Callable[[Tree], None] = _unchanged
    event: Callable[[Event], Event] = dict
    body: Callable[[Any], str] = json.dumps
    in_a_message: int = 1


def _with_column(**column: Any) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        tree["table"]["columns"].append(column)

    return change


def _with_keys(name: str, **keys: Any) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        (column,) = (c for c in tree["table"]["columns"] if c["name"] == name)
        column.update(keys)

    return change


def _with_paths(tree: Tree) -> None:
    for column in tree["table"]["columns"]:
        if "field" in column:
            column["field"] = f"login.{column['field']}"


def _with_checks(tree: Tree) -> None:
    kinds = [kind for kind, _ in samples.DEVICE_TYPES]
    _with_keys("device_type", **{"in": kinds})(tree)
    _with_keys("user_id", matches="[0-9a-f-]{36}", min_length=36)(tree)


def _with_expression(tree: Tree) -> None:
    check = {"name": "a country", "expression": "device_type == 'web' or locale != user_id"}
    tree["table"]["checks"] = [check]


def _with_routes(tree: Tree) -> None:
    table = tree.pop("table")
    kinds = [kind for kind, _ in samples.DEVICE_TYPES]
    tables = [
        {**table, "name": f"logins_{number}", "events": events}
        for number, events in enumerate((kinds[:1], kinds[1:]))
    ]
    tree |= {"job": {"name": "logins"}, "routes": {"by": "device_type", "tables": tables}}


def _in_section(section: str, **keys: Any) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        tree[section].update(keys)

    return change


def _notification(event: Any) -> str:
    head = {"Type": "Notification", "MessageId": str(uuid.UUID(int=1)), "TopicArn": "arn:aws:sns"}
    return json.dumps({**head, "Message": json.dumps(event), "Timestamp": "2026-11-29T00:00:00Z"})


def _with_price(event: Event) -> Event:
    return {**event, "price": len(event["user_id"]) + 0.25}


CASES = {
    DEFAULT: Case(),
    "paths: every field within an object": Case(_with_paths, lambda event: {"login": event}),
    "one more column: text with a default": Case(
        _with_column(name="shop", field="shop", type="text", default="none"),
    ),
    "one more column: decimal": Case(
        _with_column(name="price", field="price", type="decimal", precision=12, scale=2),
        _with_price,
    ),
    "one more column: the whole event as json": Case(
        _with_column(name="event", field="$", type="json"),
    ),
    "clean: strip, nfc, lower of one column": Case(
        _with_keys("masked_device_id", clean=["strip", "nfc", "lower"]),
    ),
    "accept: one number that comes as text": Case(
        _with_column(name="build", field="build", type="integer", accept=["text"]),
        lambda event: {**event, "build": str(len(event["user_id"]))},
    ),
    "checks: in, matches and min_length": Case(_with_checks),
    "checks: an expression of two columns": Case(_with_expression),
    "envelope: sns": Case(_in_section("queue", envelope="sns"), body=_notification),
    f"split: array, {IN_A_MESSAGE} events a message": Case(
        _in_section("event", split="array"), in_a_message=IN_A_MESSAGE
    ),
    "routes: two tables": Case(_with_routes),
}


def measure(options: Options) -> dict[str, Any]:
    """Prepare the same events by each configuration in turns."""
    count = options.messages or (QUICK_EVENTS if options.quick else EVENTS)
    keyring = Keyring.new("k1")
    bodies = samples.bodies(min(count, POOL), SEED, bad_share=0)
    events = list(itertools.islice(itertools.cycle(map(json.loads, bodies)), count))
    candidates = {name: partial(_cpu_us, case, events, keyring) for name, case in CASES.items()}
    with _collecting_as_the_job_does():
        runs = paired_runs.in_turns(candidates, options.runs)
    default = runs[DEFAULT]
    return {
        "events": count,
        "ratios": {"columns.default_cpu_us": paired_runs.spread(default)},
        "table": {
            name: {
                "cpu_us": paired_runs.spread(turns),
                "more_us": paired_runs.spread(
                    [us - of_default for us, of_default in zip(turns, default, strict=True)]
                ),
            }
            for name, turns in runs.items()
        },
        "runs": runs,
    }


@contextmanager
def _collecting_as_the_job_does() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _cpu_us(case: Case, events: Sequence[Event], keyring: Keyring) -> float:
    """Prepare the events; return the CPU of one, in microseconds.

    :raises WorkNotDone: an event would not be loaded
    """
    settings = _settings(case)
    schemas = validate.frame_schemas(settings)
    messages = _messages(case, events)
    prepared = 0
    began = time.process_time()
    reader = EventReader(settings)
    for some in _in_parts(messages, settings.batch.rows // case.in_a_message):
        for part in reader.parts(some, settings.batch.rows, settings.batch.bytes):
            batch = prepare(part, settings, schemas, keyring, "run")
            prepared += sum(len(of_table.masked) for of_table in batch.parts)
    seconds = time.process_time() - began
    if prepared != len(events):
        raise WorkNotDone(f"{prepared} of {len(events)} events would be loaded")
    return seconds / len(events) * 1e6


def _settings(case: Case) -> config.Settings:
    tree = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    case.change(tree)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(json.dumps(tree), encoding="utf-8")  # JSON is YAML
        return config.load(path, {})


def _messages(case: Case, events: Sequence[Event]) -> list[Message]:
    sent_ms = time.time_ns() // 1_000_000
    contents: list[Any] = list(map(case.event, events))
    if case.in_a_message > 1:
        contents = list(_in_parts(contents, case.in_a_message))
    bodies = map(case.body, contents)
    return [Message(str(uuid.uuid4()), body, "", sent_ms, body_md5(body)) for body in bodies]


def _in_parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


METHOD = """\
{count:,} good events of `etl.demo.samples`, prepared for the load in batches of 10,000, in one
thread and without a queue or a database. Each line changes one thing of `config.yaml`; the event
has what that needs. The last column is the cost over the default in the same turn."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    rows = [
        [name, markdown.shown(row["cpu_us"], 1), markdown.shown(row["more_us"], 1)]
        for name, row in part["table"].items()
    ]
    head = ["configuration", "µs an event", "more than the default"]
    return [METHOD.format(count=part["events"]), "", *markdown.table(head, rows)]
