"""A systemd that manages nothing but the units of a test, in namespaces of its own.

It needs Linux, root and Debian's package ``systemd``. The real program runs the units, with its
credentials, users and limits. The network is that of the machine: the embedded services answer.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.acceptance.job_processes import until
from tests.conftest import ROOT

SYSTEMD = Path("/lib/systemd/systemd")
CGROUPS = Path("/sys/fs/cgroup")
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child")
# What a unit depends on by default, without the services of a machine behind it.
TARGETS = ("sysinit", "basic", "network-online", "timers", "shutdown", "umount")
# As an installation in /opt/etl would be: an environment that every user can read.
PROGRAM = f"""#!/bin/sh
export PYTHONPATH=/opt/etl/source:/opt/etl/packages LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/{Path(sys.executable).resolve().name} -m etl "$@"
"""
# Version 1 of cgroups, where each controller is mounted apart, or version 2.
INSIDE = """
set -e
mount --make-rprivate /
mount --make-rshared /
mount -t proc proc /proc
mount --bind /dev/null /dev/console
cp -a /etc "$SCRATCH/etc-copy"
mount --bind "$SCRATCH/etc-copy" /etc
for folder in /run /opt /var/lib /etc/systemd; do mount -t tmpfs -o mode=755 tmpfs $folder; done
controllers=$(awk '$1 == "cgroup" || $9 == "cgroup" {print}' /proc/mounts | wc -l)
umount --lazy /sys/fs/cgroup
if [ "$controllers" = 0 ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/memory /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
    mount -t cgroup -o memory cgroup /sys/fs/cgroup/memory
    mount -t cgroup -o name=systemd,none cgroup /sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
fi
mkdir -p /opt/python /opt/etl/bin /opt/etl/source/etl /opt/etl/packages
mount --bind "$PYTHON" /opt/python
mount --bind "$PACKAGES" /opt/etl/packages
mount --bind "$SOURCE" /opt/etl/source/etl
cp "$SCRATCH/program" /opt/etl/bin/etl
cp -a "$SCRATCH/etc/etl" /etc/etl
cp -a "$SCRATCH/units" /run/units
exec "$SYSTEMD" --system --unit=none.target --log-target=null --show-status=no
"""


def skip_unless_possible() -> None:
    """Skip the test on a machine that has no systemd, or does not allow namespaces."""
    if os.geteuid() != 0 or not SYSTEMD.exists():
        pytest.skip("a systemd of its own needs root and the package systemd")
    done = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a systemd of its own needs namespaces: {done.stderr.strip()}")


@dataclass(frozen=True)
class Systemd:
    """A running systemd."""

    pid: int

    def inside(self, *command: str, code: int | None = 0) -> str:
        """Run a command beside it; returns what it prints."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--mount", "--pid", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert code in (None, done.returncode), done.stderr
        return done.stdout

    def systemctl(self, *arguments: str, code: int | None = 0) -> str:
        """Run systemctl; returns what it prints."""
        return self.inside("systemctl", *arguments, code=code)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", unit, f"--property={name}", "--value").strip()


@contextmanager
def private_systemd(
    scratch: Path, units: Mapping[str, str], files: Mapping[str, str]
) -> Iterator[Systemd]:
    """Start it with these units, and with these files of mode 0600 in /etc/etl.

    :param scratch: an empty folder
    """
    for name in TARGETS:
        units = {f"{name}.target": "[Unit]\nDefaultDependencies=no\n", **units}
    write(scratch / "units", {"none.target": "[Unit]\nDefaultDependencies=no\n", **units}, 0o644)
    write(scratch / "etc" / "etl", files, 0o600)
    write(scratch, {"program": PROGRAM}, 0o755)
    group = f"etl-test-{uuid.uuid4().hex[:8]}"
    groups = [path / group for path in controllers()]
    join = [f"mkdir {path} && echo $$ > {path}/cgroup.procs" for path in groups]
    script = "\n".join(["set -e", *join, f"exec {shlex.join([*NAMESPACES, 'sh', '-c', INSIDE])}"])
    environment = {
        "PATH": os.environ["PATH"],
        "SCRATCH": str(scratch),
        "PYTHON": sys.base_prefix,
        "PACKAGES": sysconfig.get_path("purelib"),
        "SOURCE": str(ROOT / "etl"),
        "SYSTEMD": str(SYSTEMD),
        "SYSTEMD_UNIT_PATH": "/run/units",
        "container": "test",  # so that it leaves the kernel's settings alone
    }
    log = scratch / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            ["sh", "-c", script], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=2
        ) as process,
    ):
        try:
            until(lambda: process.poll() is not None or started(process.pid))
            assert process.poll() is None, log.read_text()
            systemd = Systemd(started(process.pid)[0])
            until(lambda: "active" in systemd.systemctl("is-active", "none.target", code=None))
            yield systemd
        finally:
            process.kill()  # and with it all processes in its namespaces
            process.wait()
            until(lambda: all(map(is_removed, groups)))


def started(pid: int) -> list[int]:
    """The systemd below a process, once it has taken the place of the shell that started it."""
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            found += [child.pid] if child.name() == "systemd" else []
    return found


def write(folder: Path, files: Mapping[str, str], mode: int) -> None:
    """Write files with this mode; a name may have a folder before it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)


def controllers() -> list[Path]:
    """The places where a cgroup is made: one, or with version 1 several."""
    if (CGROUPS / "cgroup.procs").exists():
        return [CGROUPS]
    return [path for name in ("memory", "systemd", "unified") if (path := CGROUPS / name).exists()]


def is_removed(group: Path) -> bool:
    """Remove a cgroup and those in it; false while a process is in it."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
