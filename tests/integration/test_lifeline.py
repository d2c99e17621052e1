"""Child processes that end when their parent ends, however it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from etl.embedded.lifeline import Child
from etl.errors import EmbeddedError
from tests.integration.waiting import gone, wait_until

ROOT = Path(__file__).parents[2]

# Reports, and writes a file when its parent has closed the lifeline.
OBEDIENT = """
import os, pathlib, signal, sys
from etl.embedded.lifeline import report, when_parent_ends

def leave():
    pathlib.Path(sys.argv[1]).write_text("left")
    os._exit(0)

when_parent_ends(leave)
report(pid=os.getpid(), arguments=sys.argv[2:])
signal.pause()
"""

# Starts the obedient child, prints its process id, and runs until it is killed.
LAUNCHER = """
import os, signal, sys
from etl.embedded.lifeline import Child

child = Child("obedient", sys.argv[1])
holder = 0
if sys.argv[2:] == ["fork"]:
    holder = os.fork()
    if holder == 0:
        signal.pause()
print(child.pid, holder, flush=True)
signal.pause()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Return a function that writes a module which ``python -m`` can run."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")

    def make(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return make


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Return the path of the file that the obedient child writes before it ends."""
    return tmp_path / "mark"


@pytest.fixture
def obedient(module: Callable[[str, str], str], mark: Path) -> Iterator[Child]:
    """Return a running child that ends when its lifeline is closed."""
    child = Child(module("obedient", OBEDIENT), str(mark), "a", "b")
    yield child
    child.kill()


@pytest.fixture
def launch(module: Callable[[str, str], str], mark: Path) -> Iterator[Callable[..., tuple]]:
    """Return a function that starts a launcher and returns it with the pids of child and fork."""
    module("obedient", OBEDIENT)
    name = module("launcher", LAUNCHER)
    launchers = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], int, int]:
        command = [sys.executable, "-m", name, str(mark), *arguments]
        launcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        launchers.append(launcher)
        child, fork = map(int, launcher.stdout.readline().split())
        return launcher, child, fork

    yield start
    for launcher in launchers:
        launcher.kill()
        launcher.wait()
        launcher.stdout.close()


def test_ready_holds_what_the_child_reported(obedient: Child) -> None:
    """All facts of the report arrive in the parent."""
    assert obedient.ready == {"pid": obedient.pid, "arguments": ["a", "b"]}


def test_stop_lets_the_child_leave_by_itself(obedient: Child, mark: Path) -> None:
    """The child cleans up before it ends."""
    obedient.stop()
    assert mark.read_text() == "left"
    assert gone(obedient.pid)


def test_stop_twice_does_nothing_more(obedient: Child) -> None:
    """The second stop finds that the child has ended."""
    obedient.stop()
    obedient.stop()
    assert gone(obedient.pid)


def test_kill_gives_the_child_no_time_to_clean_up(obedient: Child, mark: Path) -> None:
    """The child ends without writing its file."""
    obedient.kill()
    assert gone(obedient.pid)
    assert not mark.exists()


def test_stop_kills_a_child_that_ignores_its_lifeline(module: Callable[[str, str], str]) -> None:
    """Such a child is killed after the time that stop allows."""
    source = "import signal\nfrom etl.embedded.lifeline import report\nreport()\nsignal.pause()\n"
    child = Child(module("deaf", source))
    child.stop(seconds=0.2)
    assert gone(child.pid)


def test_child_leaves_when_its_launcher_is_killed(launch: Callable[..., tuple], mark: Path) -> None:
    """A launcher killed by SIGKILL can do nothing, yet its child cleans up and ends."""
    launcher, child, _ = launch()
    launcher.kill()
    launcher.wait()
    assert wait_until(lambda: gone(child))
    assert mark.read_text() == "left"


def test_child_leaves_although_a_fork_of_its_launcher_lives(launch: Callable[..., tuple]) -> None:
    """The fork keeps the pipe open, but it is not the child's parent."""
    launcher, child, fork = launch("fork")
    launcher.kill()
    launcher.wait()
    try:
        assert wait_until(lambda: gone(child))
    finally:
        os.kill(fork, signal.SIGKILL)


def test_child_outlives_the_thread_that_started_it(
    module: Callable[[str, str], str], mark: Path
) -> None:
    """The lifeline belongs to the process, not to one of its threads."""
    name = module("obedient", OBEDIENT)
    children = []
    thread = threading.Thread(target=lambda: children.append(Child(name, str(mark))))
    thread.start()
    thread.join()
    time.sleep(1.5)
    ended = gone(children[0].pid)
    children[0].kill()
    assert not ended


def test_child_runs_in_a_separate_session(obedient: Child) -> None:
    """Ctrl-C at the terminal does not reach the child."""
    assert os.getsid(obedient.pid) == obedient.pid


def test_child_that_ends_early_is_an_error(module: Callable[[str, str], str]) -> None:
    """The error names the module and its exit code."""
    with pytest.raises(EmbeddedError, match=r"'early' ended with 7 before it was ready"):
        Child(module("early", "raise SystemExit(7)"))


def test_child_that_says_nothing_is_killed(module: Callable[[str, str], str]) -> None:
    """A child that never reports is not left running."""
    name = module("silent", "import signal\nsignal.pause()\n")
    with pytest.raises(EmbeddedError, match=r"'silent' was not ready after 0.5 s"):
        Child(name, ready_seconds=0.5)
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if command[-2:] == ["-m", name]]


def test_child_that_prints_something_else_is_an_error(module: Callable[[str, str], str]) -> None:
    """A line that is not JSON is not accepted as the report."""
    with pytest.raises(EmbeddedError, match=r"'chatty' printed something before its report"):
        Child(module("chatty", "print('hello')"))


def test_child_may_print_much_after_its_report(
    module: Callable[[str, str], str], mark: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Later output goes to standard error and cannot fill the pipe."""
    talk = OBEDIENT.replace("signal.pause()", "print('x' * 1_000_000, flush=True); leave()")
    child = Child(module("talker", talk), str(mark))
    left = wait_until(mark.exists)
    child.kill()
    assert left
    assert "x" * 1_000_000 in capfd.readouterr().err


def test_child_is_found_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package need not be installed or be in the current folder."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    # A module of the package that ends at once with exit code 0.
    with pytest.raises(EmbeddedError, match="ended with 0"):
        Child("etl.errors")


def test_child_does_not_import_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook folder may contain a random.py without breaking the services."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(folder)
    with pytest.raises(EmbeddedError, match="ended with 0"):
        Child("etl.embedded.lifeline")
