"""A whole run with pyarrow, and every command on its results, gives what a run without it gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Job
from tests.unit.builders import event

PYARROW = Path(sys.prefix) / "report"
pytestmark = pytest.mark.skipif(
    not PYARROW.exists(), reason=f"no {PYARROW}: make installs pyarrow there"
)


@pytest.mark.long
@pytest.mark.parametrize("method", ["multi", "copy"])
def test_lone_surrogates_stop_no_run(job: Job, method: str) -> None:
    """They go to the quarantine, in whatever field they are, and everything else is loaded."""
    bad = [event(**{field: "a\ud800"}) for field in ("user_id", "ip", "locale", "device_id")]
    job.send(event(locale=None), event(user_id="ö\u202e"), *bad, event(device_id="a\0"))
    job.environment |= {"PYTHONPATH": str(PYARROW), "ETL_QUARANTINE__MAX_FRACTION": "1"}
    summary = job.run(ETL_LOAD__METHOD=method)
    assert (summary["loaded"], summary["quarantined"]) == (2, 5)
    surrogates = [f"{field}: lone surrogate" for field in ("device_id", "ip", "locale", "user_id")]
    assert summary["reasons"] == dict.fromkeys(
        ["device_id: NUL character", "ip: IP address", *surrogates], 1
    )
    rows = job.rows("select user_id, locale, app_version from user_logins order by locale")
    assert rows[0][0] == "ö\u202e"
    assert rows[1][1:] == (None, 2_003_000)
    for command in (
        ("quarantine", "list"),
        ("quarantine", "replay", "--all"),
        ("history",),
        ("keys", "list"),
        ("report", "duplicates"),
        ("unmask", "--where", "true", "--reason", "x"),
    ):
        done = job.command(*command)
        assert done.returncode == 0, done.stderr
