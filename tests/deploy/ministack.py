"""An emulator of AWS that checks every call against the caller's policies, and the stack in it.

It differs from AWS in what this template needs at a few points:

* it authorizes a batch call by the name of the operation (``sqs:DeleteMessageBatch``), where AWS
  goes by ``sqs:DeleteMessage``;
* an RDS instance has no ``MasterUserSecret.SecretArn``;
* it has no Application Auto Scaling, and no alarm on an expression;
* the secrets of a container lose their names;
* it does not ask for ``kms:Decrypt`` when a queue or a secret is encrypted.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import http.client
import ipaddress
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import WaiterError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.deploy.cloudformation import TEMPLATE
from tests.integration.debian_services import free_port
from tests.unit.builders import ROOT

PROGRAM = ROOT / ".venv-ministack" / "bin" / "ministack"
ACCOUNT = "123456789012"
REGION = "eu-west-1"
START_SECONDS = 60
OWNER_SECRET = "Database.MasterUserSecret.SecretArn"


def make_certificate(folder: Path) -> None:
    """Write ``ca.pem``, a certificate for 127.0.0.1 that signs itself, and ``key.pem``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ministack")])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


class Ministack:
    """A running emulator."""

    def __init__(self, port: int, authority: Path) -> None:
        self.url = f"https://127.0.0.1:{port}"
        self.authority = authority
        # What the owner of the account may do is not checked.
        self.owner = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, keys: dict[str, str] | None = None) -> Any:
        """A client of a service, as the owner of the account or with other keys."""
        keys = keys or self.owner
        place = (service, keys["AWS_ACCESS_KEY_ID"])
        if place not in self._clients:
            self._clients[place] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name=REGION,
                verify=str(self.authority),
                aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
                aws_session_token=keys.get("AWS_SESSION_TOKEN"),
            )
        return self._clients[place]

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            client.close()

    def keys_of(self, role: str) -> dict[str, str]:
        """Temporary keys of a role, as ECS gives them to a task."""
        found = self.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName="task"
        )["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["SessionToken"],
        }


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Ministack]:
    """Start the emulator; skip the test where it is not installed.

    :param folder: for its certificate and its files
    """
    if not PROGRAM.exists():
        pytest.skip("no ministack: make deploy-test installs it")
    make_certificate(folder)
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder),
        "AUTH": "true", "USE_SSL": "1", "CLOUDTRAIL_RECORDING": "1",
        "MINISTACK_SSL_CERT": str(folder / "ca.pem"), "MINISTACK_SSL_KEY": str(folder / "key.pem"),
        "MINISTACK_ACCOUNT_ID": ACCOUNT, "MINISTACK_REGION": REGION,
        "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1",
        "S3_DATA_DIR": str(folder / "s3"), "LOG_LEVEL": "WARNING",
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM], env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        _wait_until_healthy(port, folder, process)
        with contextlib.closing(Ministack(port, folder / "ca.pem")) as server:
            yield server
    finally:
        process.kill()
        process.wait()


def _wait_until_healthy(port: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
    trusting = ssl.create_default_context(cafile=folder / "ca.pem")
    ends_at = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < ends_at:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=trusting)
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            connection.request("GET", "/_ministack/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise AssertionError((folder / "log").read_text())


class Stack:
    """A stack that was deployed, and its resources by their names in the template."""

    def __init__(self, aws: Ministack, name: str, **parameters: str) -> None:
        self.aws = aws
        self.name = name
        client = aws.client("cloudformation")
        client.create_stack(
            StackName=name,
            TemplateBody=json.dumps(adapted()),
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            Capabilities=["CAPABILITY_IAM"],
        )
        with contextlib.suppress(WaiterError):
            client.get_waiter("stack_create_complete").wait(
                StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
            )
        (stack,) = client.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE", [
            event["ResourceStatusReason"]
            for event in client.describe_stack_events(StackName=name)["StackEvents"]
            if event["ResourceStatus"] == "CREATE_FAILED"
        ]
        self.outputs = {out["OutputKey"]: out["OutputValue"] for out in stack["Outputs"]}
        found = client.describe_stack_resources(StackName=name)["StackResources"]
        self.ids = {entry["LogicalResourceId"]: entry["PhysicalResourceId"] for entry in found}
        role = aws.client("iam").get_role_policy(RoleName=self.ids["TaskRole"], PolicyName="job")
        # As they were deployed; a test may take one away.
        self.task_rights: list[dict[str, Any]] = role["PolicyDocument"]["Statement"]


def adapted() -> dict[str, Any]:
    """The template as the emulator can have it, in the long forms of JSON."""
    template = copy.deepcopy(TEMPLATE)
    resources = template["Resources"]
    for name, resource in TEMPLATE["Resources"].items():
        if (
            resource["Type"].startswith("AWS::ApplicationAutoScaling")
            or "Metrics" in resource["Properties"]
        ):
            del resources[name]
    for resource in resources.values():
        wanted = resource["Properties"].get("AlarmActions", [])
        if wanted and wanted[0]["Ref"] not in resources:
            resource["Properties"]["AlarmActions"] = []
    adapted_template: dict[str, Any] = _long_forms(template)
    return adapted_template


def _long_forms(value: Any) -> Any:
    if isinstance(value, list):
        return [_long_forms(element) for element in value]
    if isinstance(value, str):
        return value.replace(f"${{{OWNER_SECRET}}}", "${Keyring.Id}")
    if not isinstance(value, dict):
        return value
    if set(value) == {"Fn::GetAtt"}:
        name = "Keyring.Id" if value["Fn::GetAtt"] == OWNER_SECRET else value["Fn::GetAtt"]
        return {"Fn::GetAtt": name.split(".", 1)}
    return {key: _long_forms(element) for key, element in value.items()}
