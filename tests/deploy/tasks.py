"""The tasks of a stack: their definitions, their rights, and what their command does."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import sqlalchemy as sa

from tests import fork_server
from tests.deploy.cloudformation import actions
from tests.deploy.ministack import Stack

# In place of the database that the emulator does not start: one that knows no login by IAM.
OF_RDS = ("DATABASE_URL", "ETL_DATABASE__LOGIN")
QUICK = {"ETL_RUN__IDLE_SECONDS": "1", "ETL_QUEUE__WAIT_SECONDS": "1"}


def container(stack: Stack, task: str) -> dict[str, Any]:
    """The container of a task definition, as it was registered."""
    ecs = stack.aws.client("ecs")
    found = ecs.describe_task_definition(taskDefinition=stack.ids[task])["taskDefinition"]
    return dict(found["containerDefinitions"][0])


def variables(stack: Stack, task: str) -> dict[str, str]:
    """The variables of a container."""
    return {entry["name"]: entry["value"] for entry in container(stack, task)["environment"]}


def allow(stack: Stack, without: str = "", on: str = "") -> None:
    """Give the task its rights, in the emulator's words, or all but one of them.

    :param on: the statement from which to take it away; by default all
    """
    kept_statements = []
    for statement in stack.task_rights:
        kept = [a for a in actions(statement) if a != without or (on and statement["Sid"] != on)]
        kept += [
            f"{a}Batch" for a in kept if a in ("sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
        ]
        if kept:
            kept_statements.append({**statement, "Action": kept})
    stack.aws.client("iam").put_role_policy(
        RoleName=stack.ids["TaskRole"],
        PolicyName="job",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": kept_statements}),
    )


def run(stack: Stack, database: sa.URL, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the task's command with its variables and the keys of its role."""
    environment = {
        "PATH": os.environ["PATH"],
        **{k: v for k, v in variables(stack, "Task").items() if k not in OF_RDS},
        "DATABASE_URL": database.render_as_string(False),
        "AWS_ENDPOINT_URL": stack.aws.url,
        "AWS_CA_BUNDLE": str(stack.aws.authority),
        "AWS_EC2_METADATA_DISABLED": "true",
        **stack.aws.keys_of(stack.ids["TaskRole"]),
        **QUICK,
        **more,
    }
    return fork_server.run((*container(stack, "Task")["command"], "--json"), environment)


def send(stack: Stack, *bodies: str) -> None:
    """Send messages as a producer."""
    entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies)]
    stack.aws.client("sqs").send_message_batch(QueueUrl=stack.ids["Queue"], Entries=entries)


def counts(stack: Stack) -> tuple[int, int]:
    """How many messages are visible and in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = stack.aws.client("sqs").get_queue_attributes(
        QueueUrl=stack.ids["Queue"], AttributeNames=names
    )["Attributes"]
    return int(found[names[0]]), int(found[names[1]])
