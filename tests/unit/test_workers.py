"""The output of a worker process that meets a bug."""

from __future__ import annotations

import multiprocessing
import signal
from typing import Any

import pytest

from etl import config, logs, worker_pool
from etl.runs import Run, Share
from etl.sqs.limits import NoQuota
from tests.unit.builders import ROOT


def test_a_bug_in_a_worker_is_shown_without_its_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself, multiprocessing would print the whole traceback, with the values in it."""

    def buggy(*_: Any) -> None:
        raise ValueError("canary-value")

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(logs, "hide_values_in_tracebacks", lambda: None)
    monkeypatch.setattr(logs, "start", lambda *_: None)
    monkeypatch.setattr(worker_pool, "check_keys_and_queue", lambda *_: None)
    settings = config.load(ROOT / "config.yaml", {"ETL_QUEUE__URL": "http://127.0.0.1:1/0/q"})
    parent_end, worker_end = multiprocessing.Pipe()
    with parent_end, pytest.raises(SystemExit) as ended:
        worker_pool._run_worker(settings, Share(Run("run", "hash")), NoQuota(), worker_end, buggy)
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "canary" not in shown
