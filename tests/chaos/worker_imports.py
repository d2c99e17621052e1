"""The modules that the fork server imports once for all workers: everything that a run needs."""

from __future__ import annotations

import boto3  # noqa: F401

from etl import batch  # noqa: F401
from etl.terminal import output, progress  # noqa: F401
