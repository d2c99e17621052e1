"""A server on this machine that gives one answer, and a client of it that tries once."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from etl.aws.access import destination, find_access, open_client
from etl.sqs.calls import Calls
from etl.sqs.client import over_curl
from etl.sqs.queue import Queue

SECRET = "Sw0rdfish"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/logins"


@contextmanager
def serve(
    status: int,
    body: str,
    headers: dict[str, str] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[str]:
    """Answer every request alike; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST  # noqa: N815 (the name that the server calls)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that does not trust the certificate ends the connection."""

    server = Server(("127.0.0.1", port), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def error(code: str, shape: str = "Error", status: int = 400) -> tuple[int, str, dict[str, str]]:
    """An error of SQS, as its JSON protocol gives it."""
    body = f'{{"__type": "com.amazonaws.sqs#{shape}", "message": "{SECRET}"}}'
    return status, body, {"x-amzn-query-error": f"{code};Sender"}


def queue(
    environment: dict[str, str], url: str = URL, transport: str = "boto3", read_timeout: int = 60
) -> Queue:
    """A queue of this environment, whose calls are not repeated by botocore."""
    access = find_access("sqs", environment, queue_url=url)
    config = Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout)
    client = open_client(access, config)
    to = destination(access, client, "SQS")
    return Queue(Calls(over_curl(client, access) if transport == "curl" else client, to), url)


def certificate(folder: Path, address: str = "127.0.0.1", days: int = 1) -> ssl.SSLContext:
    """A server's context, with a certificate that it has signed itself; also in ``ca.pem``.

    :param days: from now that the certificate is valid; negative for one that has expired
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sqs")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=9))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context
