"""Each resource of deploy/etl.yaml, deployed to an emulator of AWS."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.cloudformation import RESOURCES
from tests.deploy.conftest import S3_PREFIX_LIST
from tests.deploy.ministack import REGION, Ministack, Stack
from tests.deploy.tasks import OF_RDS, container, variables

pytestmark = pytest.mark.long  # make deploy-test installs the emulator and runs them


def is_right(stack: Stack, name: str) -> bool:
    """Whether a resource is there, with the properties that matter most."""
    kind = RESOURCES[name]["Type"].removeprefix("AWS::")
    return bool(CHECKS[kind](stack, name, stack.ids[name]))


def _queue(stack: Stack, name: str, url: str) -> bool:
    attributes = stack.aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])[
        "Attributes"
    ]
    (refusal,) = json.loads(attributes["Policy"])["Statement"]
    redrive = json.loads(attributes.get("RedrivePolicy", "{}"))
    return (
        attributes["KmsMasterKeyId"] == stack.outputs["KeyArn"]
        and attributes["MessageRetentionPeriod"] == "1209600"
        and refusal["Effect"] == "Deny"
        and refusal["Resource"] == attributes["QueueArn"]
        and (redrive.get("maxReceiveCount") == 5) == (name == "Queue")
    )


def _subnet(stack: Stack, name: str, subnet_id: str) -> bool:
    (subnet,) = stack.aws.client("ec2").describe_subnets(SubnetIds=[subnet_id])["Subnets"]
    return not subnet["MapPublicIpOnLaunch"] and subnet["VpcId"] == stack.ids["Vpc"]


def _vpc(stack: Stack, name: str, vpc_id: str) -> bool:
    ec2 = stack.aws.client("ec2")
    gateways = ec2.describe_internet_gateways()["InternetGateways"]
    attached = {place["VpcId"] for gateway in gateways for place in gateway["Attachments"]}
    nat = {gateway["VpcId"] for gateway in ec2.describe_nat_gateways()["NatGateways"]}
    return vpc_id not in attached | nat


def _routes(stack: Stack, name: str, table_id: str) -> bool:
    ec2 = stack.aws.client("ec2")
    (table,) = ec2.describe_route_tables(RouteTableIds=[table_id])["RouteTables"]
    subnets = {entry["SubnetId"] for entry in table["Associations"]}
    ways = {route.get("GatewayId") for route in table["Routes"]}
    return subnets == {stack.ids["SubnetA"], stack.ids["SubnetB"]} and ways == {"local"}


def _group(stack: Stack, name: str, group_id: str) -> bool:
    ec2 = stack.aws.client("ec2")
    (group,) = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    out = {
        address["CidrIp"] for rule in group["IpPermissionsEgress"] for address in rule["IpRanges"]
    }
    into = [rule["UserIdGroupPairs"][0]["GroupId"] for rule in group["IpPermissions"]]
    is_task = name == "TaskGroup"
    return out == {"10.20.0.0/24" if is_task else "127.0.0.1/32"} and into == (
        [] if is_task else [stack.ids["TaskGroup"]]
    )


def _endpoint(stack: Stack, name: str, endpoint_id: str) -> bool:
    ec2 = stack.aws.client("ec2")
    (endpoint,) = ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint_id])["VpcEndpoints"]
    service = RESOURCES[name]["Properties"]["ServiceName"]["Fn::Sub"].rpartition("}.")[2]
    places = endpoint["RouteTableIds"] if name == "S3Endpoint" else endpoint["SubnetIds"]
    wanted = ["Routes"] if name == "S3Endpoint" else ["SubnetA", "SubnetB"]
    return endpoint["ServiceName"] == f"com.amazonaws.{REGION}.{service}" and places == [
        stack.ids[place] for place in wanted
    ]


def _database(stack: Stack, name: str, instance: str) -> bool:
    (found,) = stack.aws.client("rds").describe_db_instances(DBInstanceIdentifier=instance)[
        "DBInstances"
    ]
    return (
        found["EngineVersion"].split(".")[0] == "18"
        and found["StorageEncrypted"]
        and found["KmsKeyId"] == stack.outputs["KeyArn"]
        and found["IAMDatabaseAuthenticationEnabled"]
        and found["DeletionProtection"]
        and found["MultiAZ"]
        and not found["PubliclyAccessible"]
        and found["DBSubnetGroup"]["DBSubnetGroupName"] == stack.ids["DatabaseSubnets"]
        and found["DBParameterGroups"][0]["DBParameterGroupName"] == stack.ids["DatabaseParameters"]
        and found["VpcSecurityGroups"][0]["VpcSecurityGroupId"] == stack.ids["DatabaseGroup"]
    )


def _parameters(stack: Stack, name: str, group: str) -> bool:
    found = stack.aws.client("rds").describe_db_parameters(DBParameterGroupName=group)
    values = {entry["ParameterName"]: entry.get("ParameterValue") for entry in found["Parameters"]}
    return values["rds.force_ssl"] == "1" and values["log_parameter_max_length"] == "0"


def _task(stack: Stack, name: str, arn: str) -> bool:
    ecs = stack.aws.client("ecs")
    task = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    only = task["containerDefinitions"][0]
    return (
        task["networkMode"] == "awsvpc"
        and only["readonlyRootFilesystem"]
        and only["user"] == "10001:10001"
        and only["image"] == f"{stack.outputs['RepositoryUri']}:1"
        and only["logConfiguration"]["options"]["awslogs-group"] == stack.ids["LogGroup"]
        and (name == "SetupTask" or only["stopTimeout"] == 120)
        and bool(task.get("taskRoleArn")) == (name == "Task")
    )


def _schedule(stack: Stack, name: str, schedule: str) -> bool:
    found = stack.aws.client("scheduler").get_schedule(Name=schedule)
    target = found["Target"]
    return (
        found["State"] == "DISABLED"
        and target["RetryPolicy"]["MaximumRetryAttempts"] == 5
        and target["DeadLetterConfig"]["Arn"].rpartition(":")[2]
        == stack.ids["ScheduleDeadLetters"].rpartition("/")[2]
        and target["EcsParameters"]["TaskDefinitionArn"] == stack.ids["Task"]
        and target["EcsParameters"]["TaskCount"] == 1
    )


def _alarm(stack: Stack, name: str, alarm: str) -> bool:
    (found,) = stack.aws.client("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    wanted = RESOURCES[name]["Properties"]
    return (
        found["MetricName"] == wanted["MetricName"]
        and found["TreatMissingData"] == wanted["TreatMissingData"]
        and found["AlarmActions"] == [stack.ids["Alarms"]]
    )


def _role(stack: Stack, name: str, role: str) -> bool:
    found = stack.aws.client("iam").list_role_policies(RoleName=role)["PolicyNames"]
    attached = stack.aws.client("iam").list_attached_role_policies(RoleName=role)
    names = [policy["PolicyName"] for policy in RESOURCES[name]["Properties"]["Policies"]]
    return found == names and attached["AttachedPolicies"] == []


def _topic(stack: Stack, name: str, arn: str) -> dict[str, str]:
    found = stack.aws.client("sns").get_topic_attributes(TopicArn=stack.ids["Alarms"])
    return dict(found["Attributes"])


CHECKS: dict[str, Callable[[Stack, str, str], Any]] = {
    "KMS::Key": lambda stack, _, key: stack.aws.client("kms").get_key_rotation_status(KeyId=key)[
        "KeyRotationEnabled"
    ],
    "SQS::Queue": _queue,
    "SQS::QueuePolicy": lambda stack, name, _: _queue(
        stack,
        queue := RESOURCES[name]["Properties"]["Queues"][0]["Ref"],
        stack.ids[queue],
    ),
    "SecretsManager::Secret": lambda stack, _, secret: (
        stack.aws.client("secretsmanager").describe_secret(SecretId=secret)["KmsKeyId"]
        == stack.outputs["KeyArn"]
    ),
    "EC2::VPC": _vpc,
    "EC2::Subnet": _subnet,
    "EC2::RouteTable": _routes,
    "EC2::SubnetRouteTableAssociation": lambda stack, *_: _routes(
        stack, "Routes", stack.ids["Routes"]
    ),
    "EC2::SecurityGroup": _group,
    "EC2::VPCEndpoint": _endpoint,
    "RDS::DBSubnetGroup": lambda stack, _, group: (
        len(
            stack.aws.client("rds").describe_db_subnet_groups(DBSubnetGroupName=group)[
                "DBSubnetGroups"
            ][0]["Subnets"]
        )
        == 2
    ),
    "RDS::DBParameterGroup": _parameters,
    "RDS::DBInstance": _database,
    "ECR::Repository": lambda stack, _, name: (
        (
            found := stack.aws.client("ecr").describe_repositories(repositoryNames=[name])[
                "repositories"
            ][0]
        )["imageTagMutability"]
        == "IMMUTABLE"
        and found["encryptionConfiguration"]["kmsKey"] == stack.outputs["KeyArn"]
    ),
    "Logs::LogGroup": lambda stack, _, name: (
        (
            found := stack.aws.client("logs").describe_log_groups(logGroupNamePrefix=name)[
                "logGroups"
            ][0]
        )["retentionInDays"]
        == 365
        and found["kmsKeyId"] == stack.outputs["KeyArn"]
    ),
    "ECS::Cluster": lambda stack, _, name: (
        stack.aws.client("ecs").describe_clusters(clusters=[name])["clusters"][0]["status"]
        == "ACTIVE"
    ),
    "ECS::TaskDefinition": _task,
    "IAM::Role": _role,
    "Scheduler::Schedule": _schedule,
    "CloudWatch::Alarm": _alarm,
    "SNS::Topic": lambda *found: _topic(*found)["TopicArn"] == found[0].ids["Alarms"],
    "SNS::TopicPolicy": lambda *found: '"aws:SecureTransport": false' in _topic(*found)["Policy"],
    "SNS::Subscription": lambda stack, _, arn: (
        stack.aws.client("sns").list_subscriptions_by_topic(TopicArn=stack.ids["Alarms"])[
            "Subscriptions"
        ][0]["Endpoint"]
        == "ops@example.com"
    ),
}


def test_every_resource_is_there_as_wanted(stack: Stack) -> None:
    """Each resource is asked for by its own service; a type without a check fails."""
    assert [name for name in stack.ids if not is_right(stack, name)] == []
    assert len(stack.ids) > 45


def test_an_existing_database_needs_none(aws: Ministack) -> None:
    """The task then has the address from the secret, and as a service no schedule."""
    secret = aws.client("secretsmanager").create_secret(Name="theirs", SecretString="postgresql:")
    other = Stack(
        aws,
        "other",
        S3PrefixList=S3_PREFIX_LIST,
        DatabaseUrlSecret=secret["ARN"],
        DatabaseCidr="10.9.0.0/16",
        Mode="service",
        MaxTasks="8",
    )
    assert not {"Database", "SetupTask", "Schedule", "Silence", "AlarmMail"} & set(other.ids)
    assert len(container(other, "Task")["secrets"]) == 1
    service = aws.client("ecs").describe_services(
        cluster=other.ids["Cluster"], services=[other.ids["Service"]]
    )["services"][0]
    assert service["desiredCount"] == 0
    assert service["deploymentConfiguration"]["maximumPercent"] == 100
    found = variables(other, "Task")
    assert not set(found) & {*OF_RDS, "ETL_RUN__MAX_SECONDS"}
    assert (found["ETL_RUN__FOREVER"], found["ETL_BATCH__ROWS"]) == ("true", "6000")
