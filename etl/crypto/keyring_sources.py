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

    :raises SettingsError: the AWS configuration cannot be used
    :raises KeyringError: it cannot be read, or holds bytes instead of a string
    """
    from botocore.exceptions import ClientError

    from etl.aws import answers
    from etl.aws.access import destination, find_access, open_client
    from etl.aws.faults import explain

    access = find_access("secretsmanager", environment, secret_id=secret_id)
    client = open_client(access)
    answer: Mapping[str, Any] = {}
    problem = f"has no SecretString; {RESTORE}, as text"
    try:
        answer = client.get_secret_value(SecretId=secret_id)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        problem = f"cannot be read: {code}"
        words = answers.refusal(code, error.operation_name, "secretsmanager", access.credentials)
        if code == "ResourceNotFoundException":
            words = f"correct the id or the region ({access.region!r}), or {RESTORE}"
        problem += f"; {words}" if words else ""
    except Exception as error:  # noqa: BLE001 (not all that botocore raises is its own)
        to = destination(access, client, "Secrets Manager")
        problem = f"cannot be read: {explain(error, 'get_secret_value', to).text}"
    finally:
        client.close()
    if "SecretString" in answer:
        return str(answer["SecretString"])
    raise KeyringError(f"keyring secret {secret_id!r} {problem}")
