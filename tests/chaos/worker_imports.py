"""What a worker's process has imported when it is born: all that a run needs."""

from __future__ import annotations

import boto3  # noqa: F401

from etl.terminal import output, progress  # noqa: F401
