"""The buckets of large bodies: whether they exist, and whether the job may read their objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from etl.aws.objects import NoSuchObjectError, ObjectRefused, ObjectStore, open_store
from etl.config import Settings
from etl.doctor.result import Result, asked, result_of
from etl.errors import PayloadsRefused, SettingsError


def results(settings: Settings, variables: Mapping[str, str]) -> Iterator[Result]:
    """Ask each bucket for an object that does not exist. Reads and changes nothing.

    Who may list a bucket is told that there is no such object. Who may only read its objects gets
    the answer of those who may do nothing, so this cannot be found out.
    """
    try:
        store = open_store(settings.queue.url or "", variables)
    except SettingsError as error:
        yield result_of("rights.payloads", "fail", str(error))
        return
    for bucket in settings.queue.payload_buckets:
        yield asked("rights.payloads", partial(_bucket, store, bucket))


def _bucket(store: ObjectStore, bucket: str) -> Result:
    check = "rights.payloads"
    try:
        store.check_bucket(bucket)
    except NoSuchObjectError:
        return Result(
            check, "ok", f"s3:GetObject and s3:ListBucket are allowed on bucket {bucket!r}"
        )
    except ObjectRefused:
        return Result(
            check,
            "unknown",
            f"S3 does not say whether s3:GetObject is allowed on the objects of bucket {bucket!r}: "
            "it refuses an object that does not exist in the same way",
            "allow s3:ListBucket on the bucket, and ask again",
        )
    except PayloadsRefused as error:
        return result_of(check, "fail", str(error))
    return Result(check, "ok", f"s3:GetObject is allowed on the objects of bucket {bucket!r}")
