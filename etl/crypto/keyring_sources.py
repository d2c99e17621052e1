"""Reads the text of a keyring from a file or from AWS Secrets Manager."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.errors import RESTORE, KeyringError
from etl.text import decoded, read_at_most

MAX_BYTES = 1_000_000  # of a file: some thousand keys

_MOUNT_ADVICE = (
    "for a secret mounted by Kubernetes, set defaultMode: 0400 on the volume and, if the job does "
    "not run as root, fsGroup on the pod; for one of Docker, set its mode to 0400 and its uid; or "
    "pass the keyring in ETL_KEYRING"
)


def read_file(path: Path) -> str:
    """Read a file that neither its group nor others may use.

    On a read-only mount the group may read it, see docs/decisions/0020-secret-mounts.md.

    :raises KeyringError: it cannot be read, is not text (UTF-8, or UTF-16 with a mark), or has a
        mode that lets others use it
    """
    problem = f"is not UTF-8 text; {RESTORE}"
    try:
        with path.open("rb") as file:
            mode_problem = _mode_problem(file.fileno(), path)
            text = decoded(read_at_most(file, MAX_BYTES)) if mode_problem is None else None
            if text is not None:
                return text
            problem = mode_problem or problem
    except FileNotFoundError as error:
        problem = f"cannot be read: {error.strerror}; correct the path, or {RESTORE}"
    except PermissionError as error:
        problem = f"cannot be read: {error.strerror}; {_who_reads()}"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
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


def read_secret(
    secret_id: str,
    environment: Mapping[str, str],
    name: str = "keyring secret",
    way_out: str = RESTORE,
) -> str:
    """Read the string of a secret; the AWS variables say from which region and as which user.

    :param name: what an error calls it
    :param way_out: what an error advises if it is missing or holds something else
    :raises SettingsError: the AWS configuration cannot be used
    :raises KeyringError: it cannot be read, or holds bytes instead of a string
    """
    from botocore.exceptions import ClientError

    from etl.aws import answers
    from etl.aws.access import destination, find_access, open_client
    from etl.aws.connections import foreign_answer
    from etl.aws.faults import explain

    access = find_access("secretsmanager", environment, secret_id=secret_id)
    client = open_client(access)
    to = destination(access, client, "Secrets Manager")
    answer: Mapping[str, Any] = {}
    problem = f"has no SecretString; {way_out}, as text"
    try:
        answer = client.get_secret_value(SecretId=secret_id)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        problem = f"cannot be read: Secrets Manager answered {code!r}"
        words = answers.refusal(code, error.operation_name, "secretsmanager", access.credentials)
        if code == "ResourceNotFoundException":
            words = f"correct the id or the region ({access.region!r}), or {way_out}"
        if answers.is_foreign(code):
            problem = foreign_answer("get_secret_value", to, problem).text
        problem += f"; {words}" if words else ""
    except Exception as error:  # noqa: BLE001 (not all that botocore raises is its own)
        problem = f"cannot be read: {explain(error, 'get_secret_value', to).text}"
    finally:
        client.close()
    if "SecretString" in answer:
        return str(answer["SecretString"])
    raise KeyringError(f"{name} {secret_id!r} {problem}")
