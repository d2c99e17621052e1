"""What AWS's error codes mean, under each of their names."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from etl.aws.answers import action_of, is_foreign, refusal, short_code
from etl.crypto.keyring_sources import read_secret
from etl.errors import (
    ConfigurationError,
    KeyringError,
    QueueRefused,
    QueueUnavailable,
    SettingsError,
)
from etl.sqs.first_answer import first_answer
from etl.sqs.limits import Stop
from etl.sqs.message import Handle
from etl.sqs.send import send_bodies
from tests.unit.aws_server import KEYS, SECRET, error, queue, serve
from tests.unit.raw_server import reply, serve_raw


@pytest.mark.parametrize(
    ("code", "short"),
    [
        ("KMS.AccessDeniedException", "KmsAccessDenied"),
        ("KMSAccessDeniedException", "KmsAccessDenied"),
        ("KmsAccessDenied", "KmsAccessDenied"),
        ("AWS.SimpleQueueService.KmsAccessDenied", "KmsAccessDenied"),
        ("com.amazonaws.sqs#KmsAccessDenied", "KmsAccessDenied"),
        ("com.amazonaws.sqs#KmsAccessDenied:http://internal.amazon.com/", "KmsAccessDenied"),
        ("KMS.DisabledException", "KmsDisabled"),
        ("AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue"),
        ("com.amazonaws.sqs#QueueDoesNotExist", "QueueDoesNotExist"),
        ("AccessDeniedException", "AccessDenied"),
        ("ExpiredTokenException", "ExpiredToken"),
        ("Throttling", "Throttling"),
    ],
)
def test_an_error_has_one_code_for_all_its_names(code: str, short: str) -> None:
    """Protocols, KMS and SQS write the same error differently."""
    assert short_code(code) == short


KMS = {
    "AccessDenied": "the KMS key of the queue is not allowed to these credentials: allow "
    "kms:Decrypt on it, also in its policy",
    "Disabled": "the KMS key of the queue is disabled: enable it",
    "InvalidKeyUsage": "the KMS key of the queue is not made for encryption: give the queue "
    "another one",
    "InvalidState": "the KMS key of the queue is not in a state to be used, for instance because "
    "its deletion is scheduled",
    "NotFound": "the KMS key of the queue does not exist: restore it, or give the queue another "
    "one",
    "OptInRequired": "the KMS key of the queue belongs to an account without a subscription to KMS",
    "Throttled": None,
    "Throttling": None,
}


@pytest.mark.parametrize("spelling", ["KMS.{}Exception", "KMS.{}", "Kms{}"])
@pytest.mark.parametrize("name", KMS)
def test_a_refusal_by_kms_is_one_under_both_names(name: str, spelling: str) -> None:
    """A throttled KMS is an outage."""
    assert refusal(spelling.format(name), "ReceiveMessage") == KMS[name]


@pytest.mark.parametrize(
    ("operation", "rights"),
    [
        ("ReceiveMessage", "kms:Decrypt"),
        ("SendMessageBatch", "kms:GenerateDataKey and kms:Decrypt"),
    ],
)
def test_a_refusal_by_kms_names_the_right_of_the_call(operation: str, rights: str) -> None:
    """Who sends makes data keys; who receives needs them decrypted."""
    assert f"allow {rights} on it" in str(refusal("KMS.AccessDeniedException", operation))


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("ReceiveMessage", "sqs:ReceiveMessage"),
        ("DeleteMessageBatch", "sqs:DeleteMessage"),
        ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility"),
        ("SendMessageBatch", "sqs:SendMessage"),
    ],
)
def test_the_right_for_a_batch_is_that_for_one(operation: str, action: str) -> None:
    """IAM has no actions for batches."""
    assert action_of(operation) == action


@pytest.mark.parametrize(
    ("code", "foreign"),
    [("302", True), ("404", True), ("408", False), ("429", False), ("503", False)],
)
def test_a_bare_status_is_no_code_of_aws(code: str, foreign: bool) -> None:
    """Unless it may pass by itself."""
    assert is_foreign(code) == foreign


OF_KEYS = " in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("AccessDenied", f"allow sqs:ReceiveMessage to the credentials{OF_KEYS}"),
        ("ExpiredToken", "the session token has expired; renew or correct the credentials"),
        ("ExpiredTokenException", "the session token has expired; renew or correct the"),
        ("InvalidClientTokenId", "AWS does not know the access key id; renew or correct the"),
        ("AWS.SimpleQueueService.NonExistentQueue", "there is no such queue: check 'queue.url'"),
        ("KMS.NotFoundException", "the KMS key of the queue does not exist: restore it"),
    ],
)
def test_a_refusal_names_the_way_out(code: str, says: str) -> None:
    """And the call, but nothing that AWS has written."""
    with serve(*error(code)) as address:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": address})
        with pytest.raises(QueueRefused) as caught:
            asked.receive(10, 0)
    begin = f"SQS answered {code!r} (HTTP 400) to 'receive_message': "
    assert str(caught.value).startswith(begin + says)
    assert SECRET not in str(caught.value)


def test_a_queue_that_does_not_exist_is_named_with_the_place() -> None:
    """A leftover AWS_ENDPOINT_URL or another region shows there."""
    with serve(*error("AWS.SimpleQueueService.NonExistentQueue")) as address:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": address})
        with pytest.raises(QueueRefused) as caught:
            asked.state()
    assert str(caught.value).endswith(f"(asked at {address}, region 'eu-west-1')")


def test_each_call_names_its_own_right() -> None:
    """From the call that was made, not from the answer."""
    handle = Handle("m1", "receipt")
    with serve(*error("AccessDeniedException", status=403)) as address:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": address})
        calls = {
            "sqs:GetQueueAttributes": asked.state,
            "sqs:DeleteMessage": lambda: asked.acknowledge([handle]),
            "sqs:ChangeMessageVisibility": lambda: asked.release([handle]),
            "sqs:SendMessage": lambda: asked.send(["{}"]),
            "sqs:GetQueueUrl": lambda: asked.neighbour("dead", "123456789012"),
        }
        for right, call in calls.items():
            with pytest.raises(QueueRefused, match=f"allow {right} to the credentials"):
                call()


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalError", "RequestThrottled"])
def test_what_may_pass_is_an_outage(code: str) -> None:
    """Throttling and faults of the server."""
    with serve(*error(code)) as address:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": address})
        with pytest.raises(QueueUnavailable, match=f"^SQS answered '{code}'"):
            asked.state()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, "<html>no</html>", "SQS answered '404' (HTTP 404) to 'get_queue_attributes': what "),
        (200, "<html>hello</html>", "what answers is not SQS, as it gives no visibility timeout"),
        (200, "{}", "what answers is not SQS, as it gives no visibility timeout"),
        (200, "[]", "the answer to 'get_queue_attributes' cannot be read: what answers at http://"),
        (200, '{"Attributes": []}', "the answer to 'get_queue_attributes' cannot be read: what "),
        (200, '{"Attributes": {"VisibilityTimeout": "x"}}', "what answers is not SQS, as it gives"),
        (200, '{"Attributes": {"VisibilityTimeout": "30"}}', "what answers is not SQS, as it give"),
        (302, "<html>log in</html>", "SQS answered '302' (HTTP 302) to 'get_queue_attributes': "),
    ],
)
def test_what_is_not_sqs_is_named_at_once(status: int, body: str, says: str) -> None:
    """A wrong port, or the page of a proxy: nothing was received, so it is the configuration."""
    with serve(status, body) as address:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": address})
        with pytest.raises(ConfigurationError) as caught:
            first_answer(asked.state, 60, Stop())
    assert str(caught.value).startswith(says)
    assert "AWS_ENDPOINT_URL" in str(caught.value)


def test_a_compressed_answer_is_no_matter_of_the_credentials() -> None:
    """Botocore does not unpack it, and cannot decode it as UTF-8."""
    answer = reply(gzip.compress(b"{}"), Content_Encoding="gzip")
    with serve_raw(lambda _: answer) as server:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": server.url})
        with pytest.raises(QueueRefused, match="the answer to 'receive_message' cannot be read"):
            asked.receive(10, 0)


def test_what_is_not_sqs_any_more_is_an_outage() -> None:
    """During a run a proxy's page may pass."""
    with serve(200, '{"Attributes": {"VisibilityTimeout": "1", "ApproximateNumberOfMessages": "0", '
               '"ApproximateNumberOfMessagesNotVisible": "0"}}') as address:  # fmt: skip
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": address})
        asked.state()
    port = int(address.rpartition(":")[2])
    with serve(404, "<html>no</html>", port=port), pytest.raises(QueueUnavailable, match="'404'"):
        asked.state()


def test_a_refused_send_is_a_matter_of_the_configuration() -> None:
    """Nothing was sent, so the exit code is 2."""
    with serve(*error("AccessDenied")) as address:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": address})
        with pytest.raises(ConfigurationError, match="allow sqs:SendMessage"):
            send_bodies(asked, ["{}"], 2, 60)


def test_a_secret_is_asked_of_what_is_not_secrets_manager() -> None:
    """Such as the SQS emulator of AWS_ENDPOINT_URL, or the page of a proxy."""
    said = {
        (
            400,
            '{"__type": "MissingAction"}',
        ): "'MissingAction'; what answers does not know this call",
        (404, "<html>no</html>"): r"'404': what answers at http://\S+ may not be Secrets",
    }
    for (status, body), words in said.items():
        with serve(status, body) as address:
            environment = {**KEYS, "AWS_ENDPOINT_URL": address}
            with pytest.raises(KeyringError, match=words) as caught:
                read_secret("etl/keyring", environment)
        assert "check AWS_ENDPOINT_URL" in str(caught.value)


def test_a_token_service_that_is_none_is_named(tmp_path: Path) -> None:
    """An emulator of SQS, to which AWS_ENDPOINT_URL sends this call too."""
    (tmp_path / "token").write_text(SECRET)
    with serve(200, "<html>no</html>") as address:
        environment = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/loader",
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": address,
        }
        with pytest.raises(SettingsError, match="is not AWS: check AWS_ENDPOINT_URL_STS"):
            queue(environment)


def token_service_error(code: str) -> tuple[int, str]:
    """An error of STS."""
    error = f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>"
    return 403, f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("AccessDenied", "allow sts:AssumeRole on the role, and name who assumes it in its trust "),
        ("ExpiredToken", "the session token has expired; renew or correct the credentials"),
        ("InvalidClientTokenId", "AWS does not know the access key id; renew or correct the"),
    ],
)
def test_a_role_that_may_not_be_assumed_is_named(code: str, says: str, tmp_path: Path) -> None:
    """By its profile."""
    (tmp_path / "config").write_text(
        "[profile nightly]\nrole_arn = arn:aws:iam::123456789012:role/loader\n"
        "source_profile = b\n"
        f"[profile b]\naws_access_key_id = A\naws_secret_access_key = {SECRET}\n"
    )
    with serve(*token_service_error(code)) as address:
        environment = {
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_PROFILE": "nightly",
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL_STS": address,
        }
        with pytest.raises(SettingsError) as caught:
            queue(environment)
    assert str(caught.value).startswith(
        "no credentials for the role of profile 'nightly' or AWS_ROLE_ARN; AWS answered "
        f"'{code}' to 'AssumeRole': {says}"
    )
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("code", ["InvalidIdentityToken", "AccessDenied"])
def test_a_web_identity_that_is_refused_is_named(code: str, tmp_path: Path) -> None:
    """The role of an EKS pod."""
    (tmp_path / "token").write_text(SECRET)
    with serve(*token_service_error(code)) as address:
        environment = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/loader",
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL_STS": address,
        }
        with pytest.raises(
            SettingsError, match=f"'{code}' to 'AssumeRoleWithWebIdentity'"
        ) as caught:
            queue(environment)
    assert SECRET not in str(caught.value)
