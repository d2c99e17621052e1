"""The emulator of AWS, the stack in it, and a database that its setup task has set up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from etl.postgres.engine import driver_url
from tests.conftest import KEYRING
from tests.deploy.ministack import ACCOUNT, REGION, Ministack, Stack, running
from tests.deploy.tasks import OF_RDS, allow, container, variables
from tests.unit.builders import ROOT

S3_PREFIX_LIST = "pl-6da54004"
PAYLOAD_BUCKET = "etl-payloads"
PASSWORD = "of-etl-job"
OWNER_PASSWORD = "a:b/c@d?e#f%20'g"
# Of rds_iam the owner may only grant membership. RDS permits that by itself.
MASTER_USER = """
    create role rds_iam;
    create role etl_owner login createrole createdb password 'a:b/c@d?e#f%20''g';
    grant rds_iam to etl_owner with admin true, inherit false, set false;
    alter database {database} owner to etl_owner;
"""


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """Start the emulator."""
    with running(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(scope="session")
def stack(aws: Ministack) -> Stack:
    """Deploy the template with a bucket of bodies, the keyring and a trust for these tests."""
    place = {"LocationConstraint": REGION}
    aws.client("s3").create_bucket(Bucket=PAYLOAD_BUCKET, CreateBucketConfiguration=place)
    deployed = Stack(
        aws,
        "etl",
        S3PrefixList=S3_PREFIX_LIST,
        AlarmEmail="ops@example.com",
        PayloadBucket=PAYLOAD_BUCKET,
    )
    aws.client("secretsmanager").put_secret_value(
        SecretId=deployed.outputs["KeyringSecret"], SecretString=KEYRING.dump()
    )
    # The tests take the place of ECS.
    aws.client("iam").update_assume_role_policy(
        RoleName=deployed.ids["TaskRole"],
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                        "Action": "sts:AssumeRole",
                    }
                ],
            }
        ),
    )
    return deployed


@pytest.fixture(scope="session")
def database(postgres: EmbeddedPostgres, aws: Ministack, stack: Stack) -> Iterator[sa.URL]:
    """Run the setup task's script on an empty database; yield its address for the job's role.

    It runs twice, as an owner who may do what the master user of RDS may and is no superuser.
    """
    superuser = sa.make_url(postgres.superuser_url)
    new = sa.make_url(postgres.new_database())
    url = superuser.set(database=new.database)
    engine = sa.create_engine(driver_url(url.render_as_string(False)))
    with engine.begin() as connection:
        connection.execute(sa.text(MASTER_USER.format(database=new.database)))
    (script,) = container(stack, "SetupTask")["command"]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **{k: v for k, v in variables(stack, "SetupTask").items() if k not in OF_RDS},
        "DATABASE_URL": url._replace(username="etl_owner", password=None).render_as_string(False),
        "PGPASSWORD": OWNER_PASSWORD,
    }
    for _ in range(2):
        done = subprocess.run(
            ["sh", "-ec", script], env=environment, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    with engine.begin() as connection:
        connection.execute(sa.text(f"alter role etl_job password '{PASSWORD}'"))
    engine.dispose()
    yield url.set(username="etl_job", password=PASSWORD)
    postgres.drop_database(url.render_as_string(False))


@pytest.fixture
def emptied(stack: Stack, database: sa.URL) -> Iterator[Stack]:
    """The stack, with an empty queue before and after."""
    stack.aws.client("sqs").purge_queue(QueueUrl=stack.ids["Queue"])
    allow(stack)
    yield stack
    stack.aws.client("sqs").purge_queue(QueueUrl=stack.ids["Queue"])
    allow(stack)
