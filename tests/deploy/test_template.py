"""deploy/etl.yaml agrees with the code, and nothing in it is open."""

from __future__ import annotations

import re

import pytest

from etl import config
from etl.config.settings import MAX_IN_FLIGHT
from etl.monitoring.emf import NAMESPACE
from etl.monitoring.metrics import METRICS
from tests.deploy import aws_calls
from tests.deploy.cloudformation import (
    FUNCTION,
    PATH,
    RESOURCES,
    TEMPLATE,
    actions,
    branches,
    container,
    environment,
    of_type,
    statements,
)
from tests.unit.builders import ROOT

TASKS = list(of_type("ECS::TaskDefinition"))
ROLES = list(of_type("IAM::Role"))
QUEUES = list(of_type("SQS::Queue"))
SECRET = re.compile(r"PASSWORD|SECRET|KEYRING|TOKEN|ACCESS_KEY")
# Rights of the job that are no operation of a client.
NO_OPERATIONS = {
    "kms:Decrypt",  # SQS and Secrets Manager use it for the job
    "rds-db:connect",  # Postgres asks for it at a login by IAM
}
# Operations that the job does not make, or that need no right.
NOT_OF_THE_JOB = {
    "sqs:SendMessage",  # etl send, of a producer
    "sts:GetCallerIdentity",  # everybody may ask it
}
# Services without an endpoint here.
NO_ENDPOINT = {
    "rds",  # is not called: a token is signed for it
    "sts",  # only the doctor asks it, and goes on without an answer
}


def test_the_task_may_do_what_the_code_calls_and_no_more() -> None:
    """A new call without its right is seen here, and so is a right that nothing needs."""
    allowed = {action for statement in statements("TaskRole") for action in actions(statement)}
    assert allowed - NO_OPERATIONS == aws_calls.calls() - NOT_OF_THE_JOB


def test_the_function_may_do_what_the_code_calls_and_no_more() -> None:
    """The same, in AWS Lambda; it gets its database by a secret and writes its own log."""
    named = {
        a for statement in statements("Role", FUNCTION["Resources"]) for a in actions(statement)
    }
    of_lambda = {"kms:Decrypt", "logs:CreateLogStream", "logs:PutLogEvents"}
    assert named - of_lambda == aws_calls.calls() - NOT_OF_THE_JOB


def test_an_alarm_of_the_function_tells_somebody() -> None:
    """An alarm without an action is seen by nobody."""
    alarm = FUNCTION["Resources"]["FailedRuns"]["Properties"]
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopicArn"}]


def test_every_service_that_the_code_calls_has_an_endpoint() -> None:
    """There is no other way out of the subnets: those of ECS itself come in addition."""
    names = {
        properties["ServiceName"]["Fn::Sub"].removeprefix("com.amazonaws.${AWS::Region}.")
        for properties in of_type("EC2::VPCEndpoint").values()
    }
    assert names == (aws_calls.services() - NO_ENDPOINT) | {"logs", "ecr.api", "ecr.dkr", "s3"}


@pytest.mark.parametrize("role", ROLES)
def test_no_role_has_a_wildcard(role: str) -> None:
    """Each right names its action and its resource; only the login to ECR has no resource."""
    for statement in statements(role):
        assert "*" not in str(statement["Action"])
        if statement["Action"] != "ecr:GetAuthorizationToken":
            assert "'*'" not in str(statement["Resource"]), statement
            assert isinstance(statement["Resource"], (dict, list)), statement


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_for_one_service_of_this_account(role: str) -> None:
    """No other account can have the service take it."""
    (statement,) = RESOURCES[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    service = "scheduler" if role == "SchedulerRole" else "ecs-tasks"
    assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    }


def test_nothing_leads_to_the_internet() -> None:
    """The subnets have no gateway and no public address, and no rule names every address."""
    kinds = {resource["Type"].removeprefix("AWS::EC2::") for resource in RESOURCES.values()}
    ways_out = {"InternetGateway", "NatGateway", "EIP", "VPCGatewayAttachment", "Route"}
    assert not kinds & {*ways_out, "EgressOnlyInternetGateway", "TransitGatewayAttachment"}
    assert not re.search(r"0\.0\.0\.0/0|::/0", PATH.read_text())
    subnets = of_type("EC2::Subnet").values()
    assert [subnet["MapPublicIpOnLaunch"] for subnet in subnets] == [False, False]
    assert re.findall(r"AssignPublicIp: (\w+)", PATH.read_text()) == ["DISABLED", "DISABLED"]
    assert RESOURCES["Database"]["Properties"]["PubliclyAccessible"] is False


@pytest.mark.parametrize("group", list(of_type("EC2::SecurityGroup")))
def test_every_group_says_where_it_leads(group: str) -> None:
    """A group without a rule for what goes out lets everything out."""
    assert RESOURCES[group]["Properties"]["SecurityGroupEgress"]


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_is_encrypted_and_refuses_plain_http(queue: str) -> None:
    """That holds for dead letters too, which are events."""
    assert RESOURCES[queue]["Properties"]["KmsMasterKeyId"] == {"Fn::GetAtt": "Key.Arn"}
    (policy,) = (
        properties["PolicyDocument"]["Statement"]
        for properties in of_type("SQS::QueuePolicy").values()
        if properties["Queues"] == [{"Ref": queue}]
    )
    (refusal,) = policy
    assert (refusal["Effect"], refusal["Principal"], refusal["Action"]) == ("Deny", "*", "sqs:*")
    assert refusal["Condition"] == {"Bool": {"aws:SecureTransport": False}}
    assert refusal["Resource"] == {"Fn::GetAtt": f"{queue}.Arn"}


def test_what_holds_events_or_keys_outlives_the_stack() -> None:
    """Deleting the stack deletes no message, key, keyring or row."""
    kept = {name: resource.get("DeletionPolicy") for name, resource in RESOURCES.items()}
    for name in ("Queue", "DeadLetters", "Key", "Keyring", "Repository"):
        # With Retain, a stack that could not be created would leave them, and their names taken.
        assert kept[name] == "RetainExceptOnCreate"
        assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    assert kept["Database"] == "Snapshot"


def test_the_first_cluster_of_an_account_can_be_made() -> None:
    """With capacity providers, ECS needs a role that it makes only beside the first cluster."""
    assert "CapacityProviders" not in RESOURCES["Cluster"]["Properties"]
    assert RESOURCES["Schedule"]["Properties"]["Target"]["EcsParameters"]["LaunchType"] == "FARGATE"
    assert RESOURCES["Service"]["Properties"]["LaunchType"] == "FARGATE"


def test_no_secret_is_in_the_template() -> None:
    """A secret has no value here, and what refers to one is a reference."""
    for properties in of_type("SecretsManager::Secret").values():
        assert not {"SecretString", "GenerateSecretString"} & set(properties)
    assert "MasterUserPassword" not in RESOURCES["Database"]["Properties"]
    for task in TASKS:
        for name, value in environment(task):
            assert not (SECRET.search(name) and isinstance(value, str)), name
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), name
        for entry in branches(container(task)["Secrets"]):
            assert isinstance(entry["ValueFrom"], dict)
    secrets = {name for name in TEMPLATE["Parameters"] if SECRET.search(name.upper())}
    assert secrets == {"DatabaseUrlSecret"}  # an ARN


@pytest.mark.parametrize("task", TASKS)
def test_a_container_has_few_rights(task: str) -> None:
    """It runs as the image's user, writes no file, and keeps no capability."""
    user = re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
    properties = container(task)
    assert properties["User"] == user
    assert properties["ReadonlyRootFilesystem"] is True
    assert properties["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}


def test_a_stop_leaves_time_for_the_batch_in_hand() -> None:
    """Fargate's maximum, after which the task is killed."""
    assert container("Task")["StopTimeout"] == 120


def test_the_rows_of_a_batch_follow_from_the_tasks() -> None:
    """All tasks together hold no more than a run may; more rows would be too many."""
    parameter = TEMPLATE["Parameters"]["MaxTasks"]
    counts = range(parameter["MinValue"], parameter["MaxValue"] + 1)
    default = config.load(ROOT / "config.yaml", {}).batch.rows
    rows = TEMPLATE["Mappings"]["BatchRows"]
    assert list(rows) == [str(tasks) for tasks in counts]
    for tasks in counts:
        chosen = int(rows[str(tasks)]["Rows"])
        assert 2 * tasks * chosen <= MAX_IN_FLIGHT
        assert chosen == default or 2 * tasks * (chosen + 500) > MAX_IN_FLIGHT


def test_a_deployment_of_the_service_has_no_more_tasks() -> None:
    """Or else twice the messages would be in flight."""
    deployment = RESOURCES["Service"]["Properties"]["DeploymentConfiguration"]
    assert deployment["MaximumPercent"] == 100
    assert TEMPLATE["Parameters"]["Mode"]["AllowedValues"] == ["schedule", "service"]


def test_a_failed_start_is_retried_and_kept() -> None:
    """The scheduler sees no exit code, so it cannot retry a failed run."""
    target = RESOURCES["Schedule"]["Properties"]["Target"]
    assert target["RetryPolicy"] == {
        "MaximumRetryAttempts": 5,
        "MaximumEventAgeInSeconds": 3600,
    }
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": "ScheduleDeadLetters.Arn"}}


def test_silence_is_an_alarm() -> None:
    """An hour without data is as bad as one with failed runs only."""
    alarm = RESOURCES["Silence"]["Properties"]
    assert alarm["TreatMissingData"] == "breaching"
    assert (alarm["Statistic"], alarm["Threshold"]) == ("Minimum", 0)
    # The longest that CloudWatch looks back is a week.
    assert alarm["Period"] * TEMPLATE["Parameters"]["SilenceHours"]["MaxValue"] == 7 * 86_400


def test_the_alarms_are_on_metrics_that_exist() -> None:
    """They have the names and the dimensions that the job writes to its log."""
    alarms = [
        alarm
        for alarm in of_type("CloudWatch::Alarm").values()
        if alarm.get("Namespace") == NAMESPACE
    ]
    metrics = {metric.name: metric.all_labels for metric in METRICS}
    assert len(alarms) == 3
    for alarm in alarms:
        names = tuple(dimension["Name"] for dimension in alarm["Dimensions"])
        assert metrics[alarm["MetricName"]] == names


@pytest.mark.parametrize("alarm", list(of_type("CloudWatch::Alarm")))
def test_every_alarm_does_something(alarm: str) -> None:
    """It tells a person, or scales."""
    (action,) = RESOURCES[alarm]["Properties"]["AlarmActions"]
    scales = {"MessagesWait": "MoreTasks", "QueueIsEmpty": "NoTasks"}
    assert action == {"Ref": scales.get(alarm, "Alarms")}


def test_the_runbook_names_every_alarm_that_reaches_a_person() -> None:
    """A person who is woken finds the cause and the command."""
    of_people = {
        name
        for name, alarm in of_type("CloudWatch::Alarm").items()
        if alarm["AlarmActions"] == [{"Ref": "Alarms"}]
    }
    runbook = (ROOT / "docs/runbook.md").read_text()
    own_sections = set(re.findall(r"^## (?!Etl)(\w+)$", runbook, re.MULTILINE))
    shared = set(re.findall(r"\*\*(\w+)\*\*", runbook))
    assert own_sections | shared == of_people


def test_the_tests_that_it_names_exist() -> None:
    """A reader of a comment finds them."""
    named = re.findall(r"tests/[\w/]+\.py", PATH.read_text())
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_skipped_check_is_explained() -> None:
    """The reason is beside it."""
    skips = [
        skip
        for resource in (*RESOURCES.values(), *FUNCTION["Resources"].values())
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]
    assert [skip["id"] for skip in skips] == [
        "CKV_AWS_23", "CKV_AWS_118", "CKV_AWS_116", "CKV_AWS_173", "CKV_AWS_158"
    ]  # fmt: skip
    assert all(len(skip["comment"]) > 40 for skip in skips)


def test_the_template_fits_into_a_call() -> None:
    """Larger ones must be in a bucket of S3 first."""
    assert len(PATH.read_bytes()) <= 51_200


def test_the_setup_is_shell_and_python() -> None:
    """Both are in a YAML file, which no linter checks."""
    (script,) = container("SetupTask")["Command"]
    program = re.search(r"python -c '\n(.*?)\n'", script, re.DOTALL)
    assert program is not None
    compile(program[1], "setup", "exec")
    assert script.startswith("etl init --roles\n")


@pytest.mark.parametrize("task", TASKS)
def test_the_variables_of_a_task_are_settings(task: str) -> None:
    """Loading what has a value here checks it, and the names of the others."""
    values = {name: value for name, value in environment(task) if isinstance(value, str)}
    settings = config.load(ROOT / "config.yaml", values)
    for name, _ in environment(task):
        if "__" in name:
            section, key = name.removeprefix("ETL_").lower().split("__")
            assert hasattr(getattr(settings, section), key), name
