"""The alarm of a failed run, in the deployed stack, from the log lines of real runs."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import Any

import pytest
import sqlalchemy as sa

from tests.deploy.ministack import ACCOUNT, REGION, Stack
from tests.deploy.tasks import allow, run, send
from tests.unit.builders import event

pytestmark = pytest.mark.long  # make deploy-test installs the emulator and runs them

WAIT_SECONDS = 120


def read_metrics(stack: Stack, log: str, age_seconds: int = 0) -> int:
    """Do what CloudWatch does with the log of a task; return how many metrics there were.

    :param age_seconds: of the log lines
    """
    data: dict[str, list[dict[str, Any]]] = {}
    for line in log.splitlines():
        document = json.loads(line)
        for directive in document.get("_aws", {}).get("CloudWatchMetrics", []):
            stamp = time.time() - age_seconds
            data.setdefault(directive["Namespace"], []).extend(
                {
                    "MetricName": metric["Name"],
                    "Dimensions": [{"Name": n, "Value": document[n]} for n in dimensions],
                    "Timestamp": dt.datetime.fromtimestamp(stamp, dt.UTC),
                    "Value": document[metric["Name"]],
                }
                for dimensions in directive["Dimensions"]
                for metric in directive["Metrics"]
            )
    for namespace, together in data.items():
        stack.aws.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=together)
    return sum(map(len, data.values()))


def state(stack: Stack) -> str:
    """The state of the alarm."""
    found = stack.aws.client("cloudwatch").describe_alarms(AlarmNames=[stack.ids["FailedRun"]])
    return str(found["MetricAlarms"][0]["StateValue"])


def listener(stack: Stack) -> str:
    """Subscribe a queue to the topic of the alarms; return its URL."""
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:alarms"
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    url = stack.aws.client("sqs").create_queue(
        QueueName="alarms", Attributes={"Policy": policy, "VisibilityTimeout": "3600"}
    )
    stack.aws.client("sns").subscribe(TopicArn=stack.ids["Alarms"], Protocol="sqs", Endpoint=arn)
    return str(url["QueueUrl"])


def heard(stack: Stack, url: str) -> list[str]:
    """The states of the alarm that were announced."""
    answer = stack.aws.client("sqs").receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=5
    )
    bodies = [json.loads(message["Body"]) for message in answer.get("Messages", [])]
    told = [json.loads(body["Message"]) for body in bodies]
    return [one["NewStateValue"] for one in told if one["AlarmName"] == stack.ids["FailedRun"]]


def test_a_failed_run_raises_the_alarm_until_one_ends_well(
    emptied: Stack, database: sa.URL
) -> None:
    """Both are announced. The emulator looks at the last five minutes as a whole.

    So the failed run is told as one of four and a half minutes ago.
    """
    url = listener(emptied)
    send(emptied, event())
    allow(emptied, without="sqs:ReceiveMessage")
    failed = run(emptied, database)
    assert failed.returncode == 1
    assert read_metrics(emptied, failed.stderr, age_seconds=270) > 5
    assert (state(emptied), heard(emptied, url)) == ("ALARM", ["ALARM"])
    allow(emptied)
    good = run(emptied, database)
    assert good.returncode == 0
    ends_at = time.monotonic() + WAIT_SECONDS
    while state(emptied) == "ALARM" and time.monotonic() < ends_at:
        read_metrics(emptied, good.stderr)
        time.sleep(1)
    assert (state(emptied), heard(emptied, url)) == ("OK", ["OK"])
