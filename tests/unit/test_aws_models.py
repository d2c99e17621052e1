"""The files of botocore that all clients of a process share."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from etl.aws import models
from etl.aws.session import EnvironmentSession


def test_a_client_reads_no_file_that_was_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the forks of a process that has read them share them."""
    models.read_models("sqs")
    found: list[str] = []
    read = JSONFileLoader.load_file

    def note(self: JSONFileLoader, path: str) -> Any:
        content = read(self, path)
        if content is not None:
            found.append(path)
        return content

    monkeypatch.setattr(JSONFileLoader, "load_file", note)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    EnvironmentSession({}).create_client("sqs", region_name="eu-west-1", **keys)
    assert found == []
