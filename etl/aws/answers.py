"""What AWS's error codes mean: whether waiting helps, which right is missing, and what to do.

One error has several codes: with the prefix of the older protocol, of the JSON protocol or of KMS,
and with or without ``Exception`` at its end.
"""

from __future__ import annotations

import re

_PREFIX = re.compile(r"AWS\.SimpleQueueService\.|.*#")
_KMS = re.compile(r"(?:KMS\.?|Kms)(?P<name>[A-Z]\w*)")
_NO_CODE_OF_AWS = re.compile(r"3\d\d|4(?!08|29)\d\d")

_CREDENTIALS = {
    "ExpiredToken": "the session token has expired",
    "IncompleteSignature": "the credentials are incomplete",
    "InvalidAccessKeyId": "AWS does not know the access key id",
    "InvalidClientTokenId": "AWS does not know the access key id",
    "InvalidSecurity": "AWS does not accept the credentials",
    "InvalidSignature": "the secret key is not that of the access key id",
    "InvalidToken": "AWS does not accept the session token",
    "MissingAuthenticationToken": "the call had no credentials",
    "SignatureDoesNotMatch": "the secret key is not that of the access key id",
    "TokenRefreshRequired": "the session token has expired",
    "UnrecognizedClient": "AWS does not know the access key id or the session token",
}
_MISSING_RIGHT = {"AccessDenied", "AuthorizationError", "NotAuthorized"}
_KMS_REFUSALS = {
    "AccessDenied": "is not allowed to these credentials: allow {rights} on it, also in its policy",
    "Disabled": "is disabled: enable it",
    "InvalidKeyUsage": "is not made for encryption: give the queue another one",
    "InvalidState": "is not in a state to be used, for instance because its deletion is scheduled",
    "NotFound": "does not exist: restore it, or give the queue another one",
    "OptInRequired": "belongs to an account without a subscription to KMS",
}
_OTHERS = {
    "InvalidAction": "what answers does not know this call: check AWS_ENDPOINT_URL",
    "InvalidAddress": "check 'queue.url'",
    "MissingAction": "what answers does not know this call: check AWS_ENDPOINT_URL",
    "NonExistentQueue": "there is no such queue: check 'queue.url' and the region",
    "OptInRequired": "this account has no subscription to the service, or not in this region",
    "QueueDoesNotExist": "there is no such queue: check 'queue.url' and the region",
    "UnknownOperation": "what answers does not know this call: check AWS_ENDPOINT_URL",
    "UnsupportedOperation": "what answers does not know this call: check AWS_ENDPOINT_URL",
}
# Keys are read to receive, and made to send.
_KMS_RIGHTS = {"SendMessage": "kms:GenerateDataKey and kms:Decrypt"}


def short_code(code: str) -> str:
    """Bring the spellings of an error code into one: ``KMS.DisabledException`` is ``KmsDisabled``.

    The name that SQS's own documentation uses for a throttled KMS differs from that of KMS, but
    neither is a refusal.
    """
    name = _PREFIX.sub("", code).split(":")[0].removesuffix("Exception")
    kms = _KMS.fullmatch(name)
    return f"Kms{kms['name']}" if kms else name


def action_of(operation: str, service: str = "sqs") -> str:
    """The right that an operation of the API needs, such as ``sqs:DeleteMessage``."""
    return f"{service}:{operation.removesuffix('Batch')}"


def refusal(code: str, operation: str, service: str = "sqs", of: str = "") -> str | None:
    """What to do about an error code against which waiting does not help; None if it may pass.

    :param operation: of the API, such as ``ReceiveMessage``
    :param of: words that say which credentials were used
    """
    name = short_code(code)
    if name in _CREDENTIALS:
        return f"{_CREDENTIALS[name]}; renew or correct the credentials{of}"
    if name in _MISSING_RIGHT:
        return f"allow {action_of(operation, service)} to the credentials{of}"
    if name.startswith("Kms") and name.removeprefix("Kms") in _KMS_REFUSALS:
        rights = _KMS_RIGHTS.get(operation.removesuffix("Batch"), "kms:Decrypt")
        problem = _KMS_REFUSALS[name.removeprefix("Kms")]
        return f"the KMS key of the queue {problem.format(rights=rights)}"
    return _OTHERS.get(name)


def refuses_credentials(code: str) -> bool:
    """Whether an error code says that AWS accepts the credentials for no call at all."""
    return short_code(code) in _CREDENTIALS


def is_foreign(code: str) -> bool:
    """Whether a code is a bare HTTP status of 300 to 499: then it is not AWS that answers."""
    return _NO_CODE_OF_AWS.fullmatch(code) is not None


def is_missing_right(code: str) -> bool:
    """Whether an error code says that the credentials lack the right to a call."""
    return short_code(code) in _MISSING_RIGHT
