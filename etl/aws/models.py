"""The files of botocore that describe services, read once in a process: 8 MB of objects for SQS."""

from __future__ import annotations

from functools import cache

from botocore import loaders


@cache
def loader(data_path: str | None) -> loaders.Loader:
    """Return what reads the files, and keeps them.

    :param data_path: further folders, as AWS_DATA_PATH has them, or None
    """
    return loaders.create_loader(data_path)


def read_models(service: str) -> None:
    """Read what a client of a service needs, so that forks of this process share it."""
    reader = loader(None)
    for kind in ("service-2", "endpoint-rule-set-1"):
        reader.load_service_model(service, kind)
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        reader.load_data(name)
