"""A network of its own, in which the addresses that a document shows are the embedded services.

It needs Linux and root: ``unshare`` gives a process its own loopback interface, its own /etc/hosts
and its own certificates. So a command runs with exactly the variables of a document, also with a
host such as sqs.eu-west-1.amazonaws.com, and reaches nothing outside of this machine.

This file is both sides: :func:`run_in_private_network` starts it as a program in the namespaces.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import fcntl
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 400
_NAMESPACES = ("unshare", "--mount", "--net")
_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 1


@dataclass(frozen=True)
class Network:
    """The addresses of a document, and what is behind them."""

    hosts: tuple[str, ...]  # names that lead to this machine
    user: str
    password: str
    database: str
    sqs_port: int
    queue: str
    postgres_port: int = 5432
    events: int = 0  # sample events that are in the queue at the start


@dataclass(frozen=True)
class Finished:
    """How a script ended."""

    code: int
    output: str  # standard output and standard error, as a terminal shows them
    rows: int | None  # in public.user_logins; None without the table


def skip_unless_possible() -> None:
    """Skip the test on a machine that does not allow namespaces."""
    try:
        allowed = subprocess.run([*_NAMESPACES, "true"], capture_output=True, check=False)
        problem = allowed.stderr.decode().strip()
    except OSError as error:
        problem = str(error)
    if problem or os.geteuid() != 0:
        pytest.skip(f"a network of its own needs root and unshare: {problem or 'not root'}")


def run_in_private_network(
    network: Network, script: str, environment: Mapping[str, str], folder: Path
) -> Finished:
    """Run a script of bash in the namespaces, with these variables and no other."""
    request = {
        "network": asdict(network),
        "script": script,
        "environment": dict(environment),
        "folder": str(folder),
    }
    done = subprocess.run(
        [*_NAMESPACES, sys.executable, "-m", __name__],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Finished(**json.loads(done.stdout))


def _main() -> None:
    from etl.embedded.postgres import EmbeddedPostgres
    from etl.embedded.sqs import EmbeddedSqs

    request = json.load(sys.stdin)
    network = Network(**request["network"])
    _loopback_up()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _name_hosts(network.hosts, scratch)
        postgres = stack.enter_context(EmbeddedPostgres())
        sqs = stack.enter_context(EmbeddedSqs())
        url = sqs.create_queue(network.queue)
        _create_database(postgres, network)
        if network.events:
            _send(sqs, url, network.events)
        context = _certificate(network.hosts, scratch) if network.sqs_port == 443 else None
        _forward(network.postgres_port, postgres.port, None)
        _forward(network.sqs_port, int(sqs.endpoint_url.rpartition(":")[2]), context)
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", request["script"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=request["environment"],
            cwd=request["folder"],
            text=True,
            check=False,
        )
        rows = _count_rows(postgres, network)
    sys.stdout.write(json.dumps(asdict(Finished(done.returncode, done.stdout, rows))))


def _loopback_up() -> None:
    # A new network namespace has a loopback interface that is down.
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _name_hosts(hosts: tuple[str, ...], scratch: Path) -> None:
    path = scratch / "hosts"
    path.write_text("127.0.0.1 localhost\n" + "".join(f"127.0.0.1 {host}\n" for host in hosts))
    path.chmod(0o644)
    _mount("--bind", str(path), "/etc/hosts")


def _create_database(postgres: Any, network: Network) -> None:
    import psycopg2
    from psycopg2 import sql

    connection = psycopg2.connect(postgres.superuser_url)
    connection.autocommit = True
    names = {"user": sql.Identifier(network.user), "database": sql.Identifier(network.database)}
    login = "alter role {user}" if network.user == "etl" else "create role {user} login"
    with connection.cursor() as cursor:
        password = sql.Literal(network.password)
        cursor.execute(sql.SQL(login + " password {}").format(password, **names))
        if network.database != "etl":
            cursor.execute(sql.SQL("create database {database} owner {user}").format(**names))
    connection.close()


def _count_rows(postgres: Any, network: Network) -> int | None:
    import psycopg2

    url = postgres.superuser_url.rpartition("/")[0] + f"/{network.database}"
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute("select to_regclass('public.user_logins')")
        found = cursor.fetchone()
        if not found or found[0] is None:
            return None
        cursor.execute("select count(*) from public.user_logins")
        counted = cursor.fetchone()
    connection.close()
    return int(counted[0]) if counted else None


def _send(sqs: Any, url: str, events: int) -> None:
    subprocess.run(
        [sys.executable, "-m", "etl", "send", "--sample", str(events), "--bad-share", "0"],
        env={"PATH": os.environ["PATH"], **sqs.environment, "ETL_QUEUE__URL": url},
        check=True,
        stdout=sys.stderr,
    )


def _certificate(hosts: tuple[str, ...], scratch: Path) -> ssl.SSLContext:
    """Make a certificate for the hosts that every library in the namespace trusts."""
    import botocore
    import certifi
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the tests")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    both = scratch / "server.pem"
    both.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    trusted = scratch / "trusted.pem"
    trusted.write_bytes(pem)
    trusted.chmod(0o644)
    for bundle in (Path(certifi.where()), Path(botocore.__file__).parent / "cacert.pem"):
        _mount("--bind", str(trusted), str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context


def _forward(port: int, to_port: int, context: ssl.SSLContext | None) -> None:
    """Pass on what comes to a port, after TLS if there is a context; until this process ends."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_service, to_service = await asyncio.open_connection("127.0.0.1", to_port)
        await asyncio.gather(copy(reader, to_service), copy(from_service, writer))

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
        is_ready.set()
        await server.serve_forever()

    is_ready = threading.Event()
    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    assert is_ready.wait(30)


if __name__ == "__main__":
    _main()
