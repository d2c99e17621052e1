"""Computes what the template costs in a month: list prices times what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bench import drain, night

ROOT = Path(__file__).resolve().parent.parent
MESSAGES_A_DAY = 1_000_000
DAYS = 30.4
HOURS = 24 * DAYS
ZONES = 2
# What 50,000 sample events took in an empty database, with indexes, bytes a message.
ROW_BYTES, LEDGER_BYTES = 190, 190
# What a message takes on its way: the body, its attributes, the receipt handle, twice.
WIRE_BYTES = 2_000
FARGATE_START_SECONDS = 60  # paid from the first byte of the image
METRICS = 17  # of a job, as docs/metrics.md says; one more for each check that messages failed

# US dollars in us-east-1, on demand, read in November 2026. AWS's pages have the current ones.
PRICES = {
    "request to SQS": 0.40e-6,
    "vCPU-hour": 0.04048,
    "GB-hour": 0.004445,
    "endpoint-hour": 0.01,
    "GB through an endpoint": 0.01,
    "db.t4g.medium, two zones, hour": 0.129,
    "GB of storage, two zones, month": 0.23,
    "secret, month": 0.40,
    "key, month": 1.00,
    "metric, month": 0.30,
    "alarm, month": 0.10,
    "GB of logs": 0.50,
}


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's tags as plain values."""


_Loader.add_multi_constructor("!", lambda *_: None)  # type: ignore[no-untyped-call]


def rows(template: Path, measured: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield what is paid for, the arithmetic and the dollars a month.

    :param measured: the results of the benchmarks
    """
    resources = yaml.load(template.read_text(), _Loader)["Resources"]  # noqa: S506  (a SafeLoader)
    # Of the mode that the table is about, a schedule.
    kinds = [each["Type"] for each in resources.values() if each.get("Condition") != "IsService"]
    interfaces = sum(
        resource["Type"] == "AWS::EC2::VPCEndpoint"
        and resource["Properties"]["VpcEndpointType"] == "Interface"
        for resource in resources.values()
    )
    costs = measured["parts"]["drain"]["table"][drain.COPY]
    calls = sum(costs[name]["median"] for name in ("receives", "deletes", "extends"))
    messages = MESSAGES_A_DAY * DAYS
    yield (
        "SQS, the job",
        f"{calls:.2f} requests a message",
        calls * messages * PRICES["request to SQS"],
    )
    yield "SQS, the producers", "1 request a message", messages * PRICES["request to SQS"]
    seconds = night.wall_at_15_ms(measured["parts"], MESSAGES_A_DAY) + FARGATE_START_SECONDS
    hour = PRICES["vCPU-hour"] + 2 * PRICES["GB-hour"]
    yield (
        "Fargate",
        f"1 task with 1 vCPU and 2 GB, {seconds:.0f} s a night",
        seconds / 3600 * hour * DAYS,
    )
    through = messages * WIRE_BYTES / 1e9 * PRICES["GB through an endpoint"]
    yield (
        "endpoints",
        f"{interfaces} in {ZONES} zones, {WIRE_BYTES / 1e3:.0f} kB a message",
        interfaces * ZONES * HOURS * PRICES["endpoint-hour"] + through,
    )
    yield (
        "RDS",
        "db.t4g.medium in two zones, 100 GB",
        HOURS * PRICES["db.t4g.medium, two zones, hour"]
        + 100 * PRICES["GB of storage, two zones, month"],
    )
    secrets, alarms = (
        kinds.count("AWS::SecretsManager::Secret") + 1,
        kinds.count("AWS::CloudWatch::Alarm"),
    )
    yield (
        "keys, secrets, alarms, metrics, logs",
        f"1 key, {secrets} secrets, {alarms} alarms, {METRICS} metrics, 1 GB",
        PRICES["key, month"] + secrets * PRICES["secret, month"] + alarms * PRICES["alarm, month"]
        + METRICS * PRICES["metric, month"] + PRICES["GB of logs"],
    )  # fmt: skip


def storage_days(gigabytes: int) -> int:
    """Return the days for which a database of that size has room, with a ledger of all days."""
    return int(gigabytes * 1e9 / (MESSAGES_A_DAY * (ROW_BYTES + LEDGER_BYTES)))
