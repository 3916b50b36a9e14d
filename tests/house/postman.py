"""A mail server that takes everything down: SMTP as far as a client needs it, with TLS and log-in where told to."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Postman:
    tls: ssl.SSLContext | None = None
    at_once: bool = False
    account: tuple[str, str] | None = None
    refuses: str = ""
    """A command that it answers with a refusal."""
    silent: bool = False
    port: int = 0
    said: list[str] = field(default_factory=list)
    taken: list[tuple[str, list[str], EmailMessage]] = field(default_factory=list)
    encrypted: bool = False

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            if self.silent:
                await reader.read()
            await self._talk(reader, writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, recipients = "", list[str]()
        self.encrypted = self.at_once
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            command, _, rest = line.decode().strip().partition(" ")
            self.said.append(command.upper())
            answer = b"250 well"
            match command.upper():
                case refused if refused == self.refuses:
                    answer = b"550 not that"
                case "EHLO":
                    offers = [b"250-here", b"250-STARTTLS"] if self.tls and not self.encrypted else [b"250-here"]
                    answer = b"\r\n".join([*offers, b"250 AUTH PLAIN"])
                case "STARTTLS":
                    writer.write(b"220 go on\r\n")
                    assert self.tls is not None
                    await writer.start_tls(self.tls)
                    self.encrypted = True
                    continue
                case "AUTH":
                    given = base64.b64decode(rest.split()[1]).decode().split("\0")[1:]
                    answer = b"235 welcome" if tuple(given) == self.account else b"535 unknown"
                case "MAIL":
                    sender, recipients = rest.split("<")[1].split(">")[0], []
                case "RCPT":
                    recipients.append(rest.split("<")[1].split(">")[0])
                case "DATA":
                    writer.write(b"354 go on\r\n")
                    body = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
                    message = message_from_bytes(body, policy=policy.default)
                    self.taken.append((sender, recipients, message))
            writer.write(answer + b"\r\n")


@asynccontextmanager
async def at_work(postman: Postman) -> AsyncIterator[Postman]:
    server = await asyncio.start_server(postman.talk, "127.0.0.1", 0, ssl=postman.tls if postman.at_once else None)
    postman.port = server.sockets[0].getsockname()[1]
    try:
        yield postman
    finally:
        server.close()


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for this machine's names, and the file that makes a client trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = folder / "key.pem"
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, secret)
    return context, file
