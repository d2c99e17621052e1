"""What the exceptions of botocore mean, above all that there are no credentials.

The texts of the exceptions can quote what a program printed, so only those with names are shown.
"""

from __future__ import annotations

import json
import subprocess

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from etl.aws import answers
from etl.aws.connections import (
    CHECK,
    Destination,
    Fault,
    Kind,
    connection_fault,
    final_cause,
    foreign_answer,
    is_of_connection,
    shown,
)

# All other exceptions of botocore are refusals: they come from the configuration, and come again.
# ConnectionError and HTTPClientError include their subclasses.
OUTAGES = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.CapacityNotAvailableError,
    boto.ChecksumError,
    boto.IncompleteReadError,
)
# What gave credentials before may give them again.
FINAL_AT_START = (
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.NoCredentialsError,
    boto.TokenRetrievalError,
    ResponseParserError,
)
# What botocore's parsers raise for an answer of another shape, or no JSON or XML, or no UTF-8.
UNREADABLE = (ResponseParserError, AttributeError, TypeError, UnicodeDecodeError)
_SERVER_FAULT = 500  # and above: HTTP statuses


def explain(error: Exception, call: str, to: Destination) -> Fault:
    """Explain what a call raised, if it is not an error that the service has answered.

    :param call: its name
    """
    if isinstance(error, UNREADABLE):
        return foreign_answer(call, to)
    if is_of_connection(error, to):
        return connection_fault(error, call, to)
    return credentials_fault(error, to.profile)


def may_come_later(error: Exception) -> bool:
    """Whether the service that gives credentials does not answer, or not yet."""
    if isinstance(error, boto.ClientError):
        code = answers.short_code(str(error.response.get("Error", {}).get("Code")))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= _SERVER_FAULT or "Throttl" in code
    return isinstance(error, OUTAGES) and final_cause(error) is None


def credentials_fault(error: Exception, profile: str) -> Fault:
    """Explain why there are no credentials, in words without a secret.

    :param profile: the one in use
    """
    is_refusal = isinstance(error, boto.BotoCoreError) and not isinstance(
        error, FINAL_AT_START + OUTAGES
    )
    if may_come_later(error):
        kind = Kind.OUTAGE
    else:
        kind = Kind.REFUSAL if is_refusal else Kind.FINAL_AT_START
    return Fault(_credentials_words(error, profile), kind)


def _credentials_words(error: Exception, profile: str) -> str:
    if isinstance(error, boto.ClientError):
        return _token_service_words(error, profile)
    if isinstance(error, boto.SSOError | boto.TokenRetrievalError):
        return (
            f"the SSO login of profile {profile!r} has expired or was never made: run "
            f"'aws sso login --profile {profile}'"
        )
    if isinstance(error, boto.LoginInsufficientPermissions):
        return f"the login of profile {profile!r} needs the right signin:CreateOAuth2Token"
    if isinstance(error, boto.LoginError):
        return (
            f"the login of profile {profile!r} has expired or was never made: run "
            f"'aws login --profile {profile}'"
        )
    if isinstance(error, boto.CredentialRetrievalError):
        return _retrieval_words(str(error.kwargs.get("provider")), profile)
    if isinstance(error, boto.PartialCredentialsError):
        missing = error.kwargs.get("cred_var")
        return f"profile {profile!r} has incomplete AWS credentials: {missing} is missing"
    if isinstance(error, boto.RefreshWithMFAUnsupportedError):
        return (
            f"the role of profile {profile!r} asks for an MFA code: use credentials that a program "
            "can renew"
        )
    if isinstance(error, boto.InvalidConfigError):
        return f"profile {profile!r} cannot be used: {_one_line(error)}"  # has names only
    if isinstance(error, boto.MissingDependencyException):
        return f"profile {profile!r} needs more of botocore: pip install 'botocore[crt]'"
    if isinstance(error, boto.ParamValidationError):
        return (
            f"the role of profile {profile!r} or AWS_ROLE_ARN cannot be assumed as it is written: "
            "correct its ARN, its session name and its token file, which may be empty"
        )
    if isinstance(error, (*UNREADABLE, KeyError)):
        return (
            f"what answers in place of the service that gives the credentials of profile "
            f"{profile!r} is not AWS: check AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL and the proxy"
        )
    if isinstance(error, boto.MetadataRetrievalError):
        return "the metadata service of this machine gave no credentials of its role"
    if isinstance(error, boto.InvalidIMDSEndpointError | boto.InvalidIMDSEndpointModeError):
        return "AWS_EC2_METADATA_SERVICE_ENDPOINT, or its mode, cannot be used: correct or unset it"
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError):
        url = shown(str(error.kwargs.get("endpoint_url", "")))
        return (
            f"no answer from {url}, which gives the AWS credentials of profile {profile!r} "
            f"({type(error).__name__}); {CHECK}"
        )
    return f"the AWS credentials of profile {profile!r} cannot be loaded ({type(error).__name__})"


def _token_service_words(error: boto.ClientError, profile: str) -> str:
    """A refusal by STS or SSO, which give credentials for a role."""
    code, operation = str(error.response.get("Error", {}).get("Code")), error.operation_name
    service = "sso" if operation == "GetRoleCredentials" else "sts"
    words = answers.refusal(code, operation, service)
    if answers.short_code(code) in ("AccessDenied", "Forbidden", "Unauthorized"):
        words = (
            f"allow {answers.action_of(operation, service)} on the role, and name who assumes it "
            "in its trust policy"
        )
    hint = f": {words}" if words else ""
    return (
        f"no credentials for the role of profile {profile!r} or AWS_ROLE_ARN; AWS answered "
        f"{code!r} to {operation!r}{hint}"
    )


def _retrieval_words(provider: str, profile: str) -> str:
    if provider == "custom-process":
        return (
            f"the credential_process of profile {profile!r} failed, or printed something else than "
            "credentials: run its command to see why"
        )
    if provider == "container-role":
        return (
            "the credentials of this container's role cannot be read from the address in "
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or AWS_CONTAINER_CREDENTIALS_FULL_URI"
        )
    return f"no credentials for profile {profile!r} from {provider!r}"


def process_fault(error: Exception, profile: str) -> str:
    """Explain what was raised for a credential_process that is not an exception of botocore."""
    command = f"the credential_process of profile {profile!r}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{command} cannot be run: {error.filename!r}: {error.strerror}"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return f"{command} did not print JSON: run its command to see what it prints"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{command} did not end: run its command to see what it waits for"
    return f"{command} is not a command, or does not print credentials as JSON"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".").replace('"', "'")
