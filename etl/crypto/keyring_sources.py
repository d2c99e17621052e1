"""Reads the text of a keyring from a file or from AWS Secrets Manager."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.errors import KeyringError

# What to do about a keyring that cannot be used. Nobody may be led to replace one that was in use,
# because no other key opens its tokens.
RESTORE = "restore the copy of the keyring"

_MOUNT_ADVICE = (
    "for a secret mounted by Kubernetes, set defaultMode: 0400 on the volume and, if the job does "
    "not run as root, fsGroup on the pod; for one of Docker, set its mode to 0400 and its uid; or "
    "pass the keyring in ETL_KEYRING"
)


def read_file(path: Path) -> str:
    """Read a file that neither its group nor others may use.

    On a read-only mount the group may read it, see docs/decisions/0017-secret-mounts.md.

    :raises KeyringError: it cannot be read, is not UTF-8, or has a mode that lets others use it
    """
    problem = f"is not UTF-8 text; {RESTORE}"
    try:
        with path.open("rb") as file:
            mode_problem = _mode_problem(file.fileno(), path)
            if mode_problem is None:
                return file.read().decode()
            problem = mode_problem
    except FileNotFoundError as error:
        problem = f"cannot be read: {error.strerror}; correct the path, or {RESTORE}"
    except PermissionError as error:
        problem = f"cannot be read: {error.strerror}; {_who_reads()}"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        pass
    # Raised here and not in a handler: the decoder's exception carries the bytes that it read.
    raise KeyringError(f"keyring file {str(path)!r} {problem}")


def _mode_problem(descriptor: int, path: Path) -> str | None:
    """What is wrong with the mode of an open file; by now its path may name another one."""
    status = os.fstat(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    if not mode & 0o077:
        return None
    is_read_only = bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
    if is_read_only and not mode & 0o037 and status.st_uid in (0, os.geteuid()):
        return None
    problem = f"has mode {mode:04o}, so other users can use it"
    if is_read_only:
        return f"{problem}, and is on a read-only mount; {_MOUNT_ADVICE}"
    if os.geteuid() in (0, status.st_uid):
        return f"{problem}; run: chmod 600 {path}"
    return (
        f"{problem}, and belongs to another user; let root run: chown {os.geteuid()} {path} && "
        f"chmod 600 {path}"
    )


def _who_reads() -> str:
    return f"this process runs as user {os.geteuid()}, group {os.getegid()}; {_MOUNT_ADVICE}"


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
