"""The job in a place like a small container: a read-only root with next to nothing in it.

There is no /dev/shm, no HOME, no folder for temporary files, and no name for the user. The root is
made of mounts that only the job's process sees. Where the machine does not allow that, the tests
are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import KEYRING, ROOT, Job
from tests.unit.builders import EVENT

USER, GROUP = 23456, 34567
BODIES = [json.dumps({**EVENT, "user_id": f"u{number}"}) for number in range(4)]
# What Python, its libraries and this project are made of; all of it can be read only.
SHOWN = ("/usr", "/etc/ld.so.cache", sys.base_prefix, str(ROOT))
SCRIPT = r"""
set -e
root=$1; secret=$2; mode=$3; owner=$4; shift 4
mount --make-rprivate / 2>/dev/null || true
mount -t tmpfs -o size=1m,mode=755 tmpfs "$root"
show() {
    if test -d "$1"; then mkdir -p "$root$1"; else mkdir -p "$root${1%/*}"; touch "$root$1"; fi
    mount --bind "$1" "$root$1"
}
for link in /bin /lib /lib64; do test -L $link && cp -d $link "$root$link" || show $link; done
for path in $SHOWN; do
    case $path in /usr/*) continue;; esac
    show "$path"
    mount -o remount,ro,bind "$root$path"
done
for device in null urandom; do show /dev/$device; done
mkdir "$root/proc" "$root/run" "$root/scratch"
mount --rbind /proc "$root/proc"
if test -n "$secret"; then
    printf %s "$secret" > "$root/run/keyring.json"
    chmod "$mode" "$root/run/keyring.json"
    test -z "$owner" || chown "$owner" "$root/run/keyring.json"
fi
mount -o remount,ro "$root"
test -z "$SCRATCH" || mount -t tmpfs -o "size=$SCRATCH,mode=1777" tmpfs "$root/scratch"
folder=$PWD
test -z "$AS" || AS="setpriv --reuid $AS --regid $AS --groups $GROUPS_OF_USER --inh-caps=-all"
exec chroot "$root" $AS sh -c 'cd "$1"; shift; unset PWD OLDPWD; exec "$@"' sh "$folder" "$@"
"""


def unshare() -> list[str]:
    """The command that makes a process with mounts of its own."""
    return (
        ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    )


@cache
def why_not() -> str | None:
    """Why this machine has no such places, or None if it has."""
    if not all(map(shutil.which, ("unshare", "setpriv", "chroot"))):
        return "unshare, setpriv or chroot is not installed"
    script = (
        'mount -t tmpfs tmpfs "$1" && mkdir "$1/usr" && mount --bind /usr "$1/usr" && '
        'mount -o remount,ro,bind "$1/usr"'
    )
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(
            [*unshare(), "sh", "-c", script, "sh", folder], capture_output=True, text=True
        )
    return None if tried.returncode == 0 else tried.stderr.strip() or "unshare fails"


def inside(
    root: str,
    command: list[str],
    environment: Mapping[str, str],
    secret: tuple[str, str, str] = ("", "", ""),
    scratch: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a command in such a place.

    :param root: an empty folder
    :param secret: a keyring for ``/run/keyring.json``, its mode and its owner
    :param scratch: the size of ``/scratch``, a folder that can be written
    """
    variables = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "SHOWN": " ".join(SHOWN),
        "AS": str(USER) if os.geteuid() == 0 else "",
        "GROUPS_OF_USER": str(GROUP),
        "SCRATCH": scratch,
    }
    return subprocess.run(
        [
            *unshare(),
            "sh",
            "-c",
            SCRIPT,
            "sh",
            root,
            *secret,
            "env",
            "-i",
            *command_environment(environment),
            *command,
        ],
        env=variables,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )


def command_environment(environment: Mapping[str, str]) -> list[str]:
    """The variables, as arguments of env."""
    return [f"{name}={value}" for name, value in environment.items()]


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Return an empty folder, or skip the test where it cannot become a container's root."""
    if reason := why_not():
        pytest.skip(f"no container-like environment on this machine: {reason}")
    return str(tmp_path)


def etl(
    place: str,
    job: Job,
    *arguments: str,
    secret: tuple[str, str, str] = ("", "", ""),
    scratch: str = "",
    shown: str = "",
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """Run the command line there.

    :param shown: files to print afterwards
    """
    # pandera imports hypothesis where it finds it, whose plug-ins want to write temporary files.
    # What production installs has neither.
    environment = {**job.environment, "HYPOTHESIS_NO_PLUGINS": "1", **more}
    if secret[0]:
        del environment["ETL_KEYRING"]
        environment["ETL_KEYRING_FILE"] = "/run/keyring.json"
    command = [sys.executable, "-W", "error", "-m", "etl", *arguments]
    if shown:
        command = ["sh", "-c", f'"$@" && cat {shown}', "sh", *command]
    return inside(place, command, environment, secret, scratch)


def test_the_place_is_as_bare_as_it_says(place: str) -> None:
    """Or else the other tests would prove nothing."""
    code = (
        "import os, pwd, tempfile\n"
        "try: tempfile.gettempdir(); print('a temporary folder')\n"
        "except FileNotFoundError: pass\n"
        "try: pwd.getpwuid(os.geteuid()); print('a name')\n"
        "except KeyError: pass\n"
        "print(os.path.exists('/dev/shm'), 'HOME' in os.environ, sorted(os.listdir('/dev')))\n"
        "try: import multiprocessing; multiprocessing.Lock(); print('a semaphore')\n"
        "except OSError: pass"
    )
    done = inside(place, [sys.executable, "-c", code], {})
    assert (done.stdout, done.stderr) == ("False False ['null', 'urandom']\n", "")


def test_a_run_loads_everything_in_a_bare_container(place: str, job: Job) -> None:
    """With max_messages, which several receivers count together."""
    job.send(*BODIES)
    done = etl(place, job, "run", "--max-messages", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loaded"] == 4
    assert job.left() == 0


@pytest.mark.long
def test_workers_share_a_quota_in_a_bare_container(place: str, job: Job) -> None:
    """Each is a process of its own, and there is no place for a semaphore."""
    job.send(*BODIES)
    done = etl(place, job, "run", "--max-messages", "3", "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loaded"] == 3
    assert job.left() == 1


@pytest.mark.long
def test_the_other_commands_work_in_a_bare_container(place: str, job: Job) -> None:
    """Or say in one line what is missing."""
    job.send(*BODIES)
    looked = etl(place, job, "run", "--dry-run", "--max-messages", "2", "--json")
    assert (looked.returncode, json.loads(looked.stdout)["would_load"]) == (0, 2)
    assert etl(place, job, "run", "--max-messages", "4").returncode == 0
    report = etl(place, job, "report", "duplicates")
    assert (report.returncode, report.stderr) == (0, "")
    token = job.rows("select masked_ip from user_logins limit 1")[0][0]
    plain = etl(place, job, "unmask", token, "--reason", "a test")
    assert (plain.returncode, plain.stdout) == (0, f"{EVENT['ip']}\n")
    if os.geteuid() == 0:
        assert job.rows("select os_user from etl.unmask_audit") == [(str(USER),)]
    tables = ("report", "duplicates", "--csv", "/scratch/tables", "--html", "/scratch/p.html")
    made = etl(place, job, *tables, scratch="1m")
    assert made.stderr == "wrote /scratch/tables\nwrote /scratch/p.html\n"
    page = etl(place, job, "report", "duplicates", "--html", "page.html")
    assert page.returncode == 2
    assert page.stderr == "error: cannot write 'page.html': Read-only file system\n"
    file = etl(place, job, "unmask", token, "--reason", "a test", "--out", "plain.txt")
    assert file.returncode == 2
    assert file.stderr == "error: 'plain.txt' cannot be written: Read-only file system\n"


@pytest.mark.long
@pytest.mark.parametrize(
    ("mode", "owner", "words"),
    [
        ("0440", f"0:{GROUP}", ""),
        ("0400", f"{USER}:0", ""),
        ("0440", "0:0", "cannot be read: Permission denied; this process runs as user 23456"),
        ("0444", "0:0", "has mode 0444, so other users can use it, and is on a read-only mount"),
    ],
)
def test_a_secret_mount_is_read_or_says_what_to_do(
    place: str, job: Job, mode: str, owner: str, words: str
) -> None:
    """As Kubernetes mounts it, with and without fsGroup."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to other users")
    secret = (KEYRING.dump(), mode, owner)
    done = etl(place, job, "run", "--idle-seconds", "1", "--json", secret=secret)
    assert done.returncode == (2 if words else 0), done.stderr
    assert words in done.stderr
    assert ("set defaultMode: 0400" in done.stderr) == bool(words)


@pytest.mark.long
def test_a_notebook_needs_a_folder_for_temporary_files_and_no_home(place: str, job: Job) -> None:
    """Jupyter and the plotting libraries would like a home, and leave warnings on the page."""
    job.send(*BODIES)
    job.run("--max-messages", "4")
    notebook = ("report", "notebook", "notebooks/01_first_look.ipynb", "--folder", "/scratch")
    refused = etl(place, job, *notebook)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: a notebook needs a folder for temporary files, and there is none: No usable "
        "temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp', "
        f"{str(ROOT)!r}]; let TMPDIR name one that can be written\n"
    )
    made = etl(place, job, *notebook, scratch="9m", shown="/scratch/*", TMPDIR="/scratch")
    assert (made.returncode, made.stderr) == (0, "wrote /scratch/01_first_look.html\n")
    assert "writable" not in made.stdout


def test_a_url_without_a_user_fails_at_once_where_the_user_has_no_name(
    place: str, job: Job
) -> None:
    """Libpq would ask the system, and the refusal would look like an outage."""
    url = job.environment["DATABASE_URL"]
    login = url.partition("//")[2].rpartition("@")[0]
    done = etl(place, job, "history", DATABASE_URL=url.replace(f"{login}@", ""))
    user = USER if os.geteuid() == 0 else 0
    assert done.returncode == 2
    assert done.stderr == (
        f"error: DATABASE_URL names no user, and user {user} of this process has no name; write "
        "postgresql://user@host:5432/name\n"
    )
