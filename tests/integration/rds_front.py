"""A server that logs in as RDS does, in front of a real Postgres: TLS, and a token that it checks.

with RdsFront(database_url, authority, folder) as front:
    run(DATABASE_URL=front.url, **front.settings)
    print(front.logins)
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import sqlalchemy as sa
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.chaos.proxy import Fault, Proxy

REGION = "eu-central-1"
HOST = f"events.c9akciq32abc.{REGION}.rds.amazonaws.com"
VALID_SECONDS = 900
SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST, STARTUP = 80877103, 80877104, 80877102, 196608
ASKS_CLEARTEXT, IS_OK = 3, 0
NOT_TAKEN = ("28000", 'PAM authentication failed for user "{user}"')
NOT_GRANTED = ("28P01", 'password authentication failed for user "{user}"')


def certificates(folder: Path, host: str = HOST) -> tuple[Path, Path]:
    """Make an authority and the certificate of a host; return the files; the second has a key."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, n)]) for n in ("CA", host)]
    files = folder / "authority.pem", folder / "server.pem"
    now = dt.datetime.now(dt.UTC)
    for is_host, file in enumerate(files):
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[is_host])
            .issuer_name(names[0])
            .public_key(keys[is_host].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=not is_host, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        )
        text = builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        if is_host:
            text += keys[1].private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        file.write_bytes(text)
    return files


def problem(token: str, address: str, user: str, keys: Mapping[str, str], now: float) -> str | None:
    """What RDS would have against a token, or None."""
    parts = urlsplit(f"https://{token}")
    given = dict(parse_qsl(parts.query, strict_parsing=True))
    when = given["X-Amz-Date"]
    signed_at = dt.datetime.strptime(f"{when}+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
    scope = f"{when[:8]}/{REGION}/rds-db/aws4_request"
    expected = {
        "Action": "connect", "DBUser": user, "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{keys['AWS_ACCESS_KEY_ID']}/{scope}", "X-Amz-Date": when,
        "X-Amz-Expires": str(VALID_SECONDS), "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": signature(token, when, keys),
    }  # fmt: skip
    if (parts.netloc, parts.path, given) != (address, "/", expected):
        return "it is another token"
    return None if 0 <= int(now) - signed_at < VALID_SECONDS else "it has expired"


def signature(token: str, when: str, keys: Mapping[str, str]) -> str:
    """The signature of a token, as botocore computes it."""
    credentials = Credentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    signer: Any = SigV4QueryAuth(credentials, "rds-db", REGION, expires=VALID_SECONDS)
    request: Any = AWSRequest("GET", f"https://{token.partition('&X-Amz-Signature=')[0]}")
    request.context["timestamp"] = when
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(text, request))


@dataclass(frozen=True)
class SeenLogin:
    """A login: its password, and what is wrong with it."""

    token: str
    problem: str | None

    @property
    def date(self) -> str:
        """The time from which on its token is valid."""
        return dict(parse_qsl(urlsplit(f"https://{self.token}").query))["X-Amz-Date"]


class RdsFront:
    """Terminates TLS, checks the token of each login, and then logs in to the real server.

    Clients come through the proxy of the tests. ``wire`` is all that they have sent there.
    """

    def __init__(
        self,
        server_url: str,
        folder: Path,
        keys: Mapping[str, str],
        *,
        now: Callable[[], float] = time.time,
        certificate_host: str = HOST,
    ) -> None:
        """Start to listen.

        :param server_url: of the real database, with its password
        :param folder: for the certificates
        :param keys: the AWS variables whose tokens are taken
        :param now: the clock of AWS, in seconds since 1970 UTC
        """
        self._server = sa.make_url(server_url)
        self._keys = keys
        self._now = now
        self.authority, own = certificates(folder, certificate_host)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(own)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.wire = bytearray()
        self.proxy = Proxy(self._listener.getsockname()[1], self._listen)
        self.address = f"{HOST}:{self.proxy.port}"
        self.logins: list[SeenLogin] = []
        self.without_tls = 0
        self.refusals: list[tuple[str, str]] = []  # of the next logins, whatever their tokens
        self.on_request: Callable[[bytes], None] = lambda _: None
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The address for a client: it names the endpoint, and finds it on this machine."""
        login = f"{self._server.username}@{self.address}"
        return f"postgresql://{login}/{self._server.database}?hostaddr=127.0.0.1"

    @property
    def settings(self) -> dict[str, str]:
        """The variables with which a job uses it."""
        return {
            "DATABASE_URL": self.url,
            "ETL_DATABASE__LOGIN": "rds-iam",
            "ETL_DATABASE__RDS_CA_FILE": str(self.authority),
            "AWS_REGION": REGION,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.proxy.__exit__()

    def _listen(self, request: bytes) -> Fault:
        self.wire += request
        return Fault.NONE

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client:
            code, rest = _first_message(client)
            if code == CANCEL_REQUEST:
                with self._connect() as server:
                    server.sendall(struct.pack("!ii", len(rest) + 8, code) + rest)
                return
            if code != SSL_REQUEST:
                self.without_tls += 1
                return
            client.sendall(b"S")
            with self._context.wrap_socket(client, server_side=True) as tls:
                self._serve_with_tls(tls)

    def _serve_with_tls(self, client: ssl.SSLSocket) -> None:
        _, startup = _first_message(client)
        words = startup.rstrip(b"\0").split(b"\0")
        user = dict(zip(words[::2], words[1::2], strict=False))[b"user"].decode()
        client.sendall(_message(b"R", struct.pack("!i", ASKS_CLEARTEXT)))
        kind, body = _read_message(client)
        assert kind == b"p"
        token = body.rstrip(b"\0").decode()
        seen = SeenLogin(token, problem(token, self.address, user, self._keys, self._now()))
        self.logins.append(seen)
        refusal = self.refusals.pop(0) if self.refusals else seen.problem and NOT_TAKEN
        if refusal:
            code, text = refusal
            fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": text.format(user=user)}
            said = b"".join(f"{key}{value}\0".encode() for key, value in fields.items())
            client.sendall(_message(b"E", said + b"\0"))
            return
        with self._connect() as server:
            _log_in(server, startup, str(self._server.password))
            client.sendall(_message(b"R", struct.pack("!i", IS_OK)))
            self._relay(client, server)

    def _connect(self) -> socket.socket:
        return socket.create_connection((str(self._server.host), int(self._server.port or 0)))

    def _relay(self, client: ssl.SSLSocket, server: socket.socket) -> None:
        while True:
            ready = [client] if client.pending() else select.select([client, server], [], [])[0]
            if client in ready:
                data = client.recv(65536)
                self.on_request(data)
                server.sendall(data)
            else:
                data = server.recv(65536)
                client.sendall(data)
            if not data:
                return


def _read(source: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = source.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _first_message(client: socket.socket) -> tuple[int, bytes]:
    length, code = struct.unpack("!ii", _read(client, 8))
    return code, _read(client, length - 8)


def _read_message(source: socket.socket) -> tuple[bytes, bytes]:
    kind, length = struct.unpack("!ci", _read(source, 5))
    return kind, _read(source, length - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _log_in(server: socket.socket, startup: bytes, password: str) -> None:
    """Log in with SCRAM-SHA-256 (RFC 5802, RFC 7677)."""
    server.sendall(struct.pack("!ii", len(startup) + 8, STARTUP) + startup)
    _read_message(server)
    first = f"n=,r={base64.b64encode(os.urandom(18)).decode()}"
    hello = f"n,,{first}".encode()
    body = b"SCRAM-SHA-256\0" + struct.pack("!i", len(hello)) + hello
    server.sendall(_message(b"p", body))
    challenge = _read_message(server)[1][4:].decode()
    given = dict(part.split("=", 1) for part in challenge.split(","))
    salted = hashlib.pbkdf2_hmac(
        "sha256", password.encode(), base64.b64decode(given["s"]), int(given["i"])
    )
    key = hmac.digest(salted, b"Client Key", "sha256")
    last = f"c=biws,r={given['r']}"
    signed = hmac.digest(
        hashlib.sha256(key).digest(), f"{first},{challenge},{last}".encode(), "sha256"
    )
    proof = bytes(a ^ b for a, b in zip(key, signed, strict=True))
    server.sendall(_message(b"p", f"{last},p={base64.b64encode(proof).decode()}".encode()))
    kind, final = _read_message(server)
    assert kind == b"R", final
    kind, ok = _read_message(server)
    assert (kind, ok) == (b"R", struct.pack("!i", IS_OK)), ok
