"""Pointers to bodies in S3, as the Extended Client Library of SQS sends them.

A pointer is a JSON array: the name of a Java class, and an object with a bucket and a key. The
class has had several names (in version 1, in version 2, and repackaged), of which the end is the
same. See https://github.com/awslabs/amazon-sqs-java-extended-client-lib and
https://github.com/awslabs/amazon-sqs-python-extended-client-lib
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import NamedTuple

from etl.reading.spans import BOM
from etl.reading.unreadable import Unreadable

CHECKS = ("S3 pointer", "S3 bucket", "S3 object", "S3 object size")
MAX_KEY_BYTES = 1024  # of S3
_MAX_CHARACTERS = 8192  # a key in which each byte is escaped, and the rest

_BEGIN = re.compile(
    r'\ufeff?[ \t\r\n]*\[[ \t\r\n]*"[\w.$]{0,200}\.(?:PayloadS3Pointer|MessageS3Pointer)"', re.ASCII
)


class Pointer(NamedTuple):
    """Where the body of a message is. Its repr shows neither: both come from the message."""

    bucket: str
    key: str

    def __repr__(self) -> str:
        return "Pointer(...)"


def is_pointer(body: str) -> bool:
    """Whether the body of a message is a pointer, perhaps one with a mistake in it."""
    return _BEGIN.match(body) is not None


def read_pointer(body: str, buckets: Collection[str]) -> Pointer:
    """Read a pointer.

    :param buckets: those that it may name
    :raises Unreadable: it is not one, or names another bucket
    """
    pointer = _decoded(body)
    if pointer.bucket not in buckets:
        raise Unreadable("S3 bucket")
    return pointer


def _decoded(body: str) -> Pointer:
    try:
        if len(body) > _MAX_CHARACTERS:
            raise ValueError
        _, place = json.loads(body.removeprefix(BOM))
        bucket, key = place["s3BucketName"], place["s3Key"]
        is_key = 0 < len(key.encode()) <= MAX_KEY_BYTES
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Unreadable("S3 pointer") from None
    # In a path, whatever is between here and S3 could take dots for another folder or bucket.
    if type(bucket) is not str or not is_key or {".", ".."} & {*key.split("/")}:
        raise Unreadable("S3 pointer")
    return Pointer(bucket, key)
