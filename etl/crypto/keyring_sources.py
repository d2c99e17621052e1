"""Reads the text of a keyring from a file or from AWS Secrets Manager."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.errors import RESTORE, KeyringError
from etl.text import decoded


def read_file(path: Path) -> str:
    """Read a file that neither its group nor others may use.

    :raises KeyringError: it cannot be read, is not text (UTF-8, or UTF-16 with a mark), or has a
        mode that lets others use it
    """
    problem = f"is not UTF-8 text; {RESTORE}"
    try:
        with path.open("rb") as file:
            # The mode of the open file: by now the path may name another file.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                problem = f"has mode {mode:04o}, so other users can use it; run: chmod 600 {path}"
            else:
                text = decoded(file.read())
                if text is not None:
                    return text
    except FileNotFoundError as error:
        problem = f"cannot be read: {error.strerror}; correct the path, or {RESTORE}"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise KeyringError(f"keyring file {str(path)!r} {problem}")


def read_secret(secret_id: str, environment: Mapping[str, str]) -> str:
    """Read the string of a secret; the AWS variables say from which region and as which user.

    :raises KeyringError: it cannot be read, or holds bytes instead of a string
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    # boto3 itself reads AWS_DEFAULT_REGION only; the other AWS tools read AWS_REGION.
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    # With botocore's own limits an unreachable service takes five minutes to fail.
    limits = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
    answer: Mapping[str, Any] = {}
    problem = f"has no SecretString; {RESTORE}, as text"
    try:
        client: Any = boto3.client("secretsmanager", region_name=region, config=limits)
        answer = client.get_secret_value(SecretId=secret_id)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        missing = code == "ResourceNotFoundException"
        problem = f"cannot be read: {code}"
        problem += f"; correct the id or the region, or {RESTORE}" if missing else ""
    except (BotoCoreError, ValueError) as error:
        problem = f"cannot be read: {type(error).__name__}"
    if "SecretString" in answer:
        return str(answer["SecretString"])
    raise KeyringError(f"keyring secret {secret_id!r} {problem}")
