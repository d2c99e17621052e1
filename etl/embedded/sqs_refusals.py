"""The errors that AWS answers with, in AWS's words."""

from __future__ import annotations

# Shape name -> the code of the older query protocol, which boto3 shows as Error.Code (awsQueryError
# in the service's Smithy model). The Failed entries of a batch's answer carry the same code.
QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    **{
        name: f"AWS.SimpleQueueService.{name}"
        for name in (
            "BatchEntryIdsNotDistinct",
            "BatchRequestTooLong",
            "EmptyBatchRequest",
            "InvalidBatchEntryId",
            "MessageNotInflight",
            "TooManyEntriesInBatchRequest",
            "UnsupportedOperation",
        )
    },
}


class Refusal(Exception):  # noqa: N818  (an answer of the service, not a failure of it)
    """The answer of AWS to a request that it refuses; *code* is the shape name of the error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def query_code(self) -> str:
        """The code of the older query protocol."""
        return QUERY_CODES.get(self.code, self.code)


def invalid(parameter: str, value: object, reason: str) -> Refusal:
    """Return the refusal of a parameter's value."""
    return Refusal(
        "InvalidParameterValue",
        f"Value {value} for parameter {parameter} is invalid. Reason: {reason}.",
    )


def missing(parameter: str) -> Refusal:
    """Return the refusal of a request that lacks a parameter."""
    return Refusal("MissingParameter", f"The request must contain the parameter {parameter}.")
