"""Sending mail: a protocol of one method, and three drivers: into a folder, onto the console, over SMTP."""

from __future__ import annotations

import ssl
import sys
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from muelle.kit.db import refuse_inside_transaction
from muelle.kit.errors import Unavailable
from muelle.kit.hosts import is_loopback
from muelle.kit.ids import is_id, made_at

if TYPE_CHECKING:
    import aiosmtplib

SMTP_SECONDS = 20.0
CHECK_SECONDS = 5.0


class MailNotTaken(Unavailable):
    """The mail server at {where} does not take our mail: {reason}."""

    hint = "See that MUELLE_MAIL is right, and that the server runs."


@dataclass(frozen=True)
class Mail:
    """A message. The id stays the same when it is sent again, so that a receiver can tell."""

    id: str
    to: str
    subject: str
    text: str


class Mailer(Protocol):
    async def send(self, mail: Mail) -> None: ...


class FileMailer:
    """Writes each message into a folder as an `.eml` file: the default, so that nothing is lost before SMTP is set."""

    def __init__(self, folder: Path, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    async def send(self, mail: Mail) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{mail.id}.eml"
        path.touch(mode=0o600)
        path.write_bytes(bytes(as_message(mail, self._sender)))


class ConsoleMailer:
    """Prints each message: for trying things out."""

    def __init__(self, sender: str) -> None:
        self._sender = sender

    async def send(self, mail: Mail) -> None:
        sys.stderr.write(f"\n{as_message(mail, self._sender)}\n")


class SmtpMailer:
    """`smtps://` speaks TLS from the start. `smtp://` changes to TLS where the server offers it, and sends a password
    over a network in no other way; on this machine itself there is no network, and no need."""

    def __init__(self, url: str, sender: str) -> None:
        parts = urlsplit(url)
        self._sender = sender
        self._tls = parts.scheme == "smtps"
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (465 if self._tls else 587)
        self._user = unquote(parts.username or "") or None
        self._password = unquote(parts.password or "") or None

    async def send(self, mail: Mail) -> None:
        refuse_inside_transaction("the mail server")
        await self._talk(SMTP_SECONDS, mail)

    async def check(self) -> None:
        """Raises where it could not send now."""
        await self._talk(CHECK_SECONDS)

    async def _talk(self, seconds: float, mail: Mail | None = None) -> None:
        import aiosmtplib  # noqa: PLC0415 - only where SMTP is set

        try:
            async with self._client(seconds) as client:
                if mail is not None:
                    sender = parseaddr(self._sender)[1]
                    await client.send_message(as_message(mail, self._sender), sender=sender, recipients=[mail.to])
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailNotTaken(where=f"{self._host}:{self._port}", reason=_reason(error)) from error

    def _client(self, seconds: float) -> aiosmtplib.SMTP:
        import aiosmtplib  # noqa: PLC0415

        must_be_private = self._user is not None and not is_loopback(self._host)
        start_tls = False if self._tls or is_loopback(self._host) else True if must_be_private else None
        return aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._tls,
            start_tls=start_tls,
            validate_certs=self._tls or must_be_private,
            timeout=seconds,
        )


def _reason(error: Exception) -> str:  # noqa: PLR0911 - a table
    """Why it did not go, in words that say what to look at."""
    import aiosmtplib  # noqa: PLC0415

    cause = error.__cause__
    match error:
        case _ if isinstance(error, ssl.SSLError) or isinstance(cause, ssl.SSLError):
            problem = error if isinstance(error, ssl.SSLError) else cause
            return f"TLS failed ({getattr(problem, 'verify_message', '') or getattr(problem, 'reason', '')})"
        case aiosmtplib.SMTPAuthenticationError():
            return "it refuses the user or the password"
        case aiosmtplib.SMTPRecipientRefused() | aiosmtplib.SMTPRecipientsRefused():
            return "it refuses the recipient"
        case aiosmtplib.SMTPResponseException(code=code, message=message):
            return f"it says {code} {message}"
        case TimeoutError():
            return "it does not answer in time"
        case ConnectionError():
            return "nothing answers there" if isinstance(cause, OSError) else "it broke the connection off"
        case aiosmtplib.SMTPException() if "STARTTLS" in str(error):
            return "it offers no TLS, and the password would travel in clear"
        case _:
            return str(error) or type(error).__name__


def as_message(mail: Mail, sender: str) -> EmailMessage:
    """Headers are built from parts, so that nothing in a name or a subject can become another header or recipient."""
    message = EmailMessage()
    user, _, domain = mail.to.rpartition("@")
    message["Message-ID"] = f"<{mail.id}@{parseaddr(sender)[1].rpartition('@')[2] or 'localhost'}>"
    if is_id(mail.id):
        message["Date"] = made_at(mail.id)
    message["From"] = sender
    message["To"] = Address(username=user, domain=domain)
    message["Subject"] = "".join(char if char.isprintable() else " " for char in mail.subject)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message


def mailer(setting: str, folder: Path, sender: str) -> Mailer:
    """The driver that the setting `mail` names."""
    match setting:
        case "file":
            return FileMailer(folder, sender)
        case "console":
            return ConsoleMailer(sender)
        case _:
            return SmtpMailer(setting, sender)
