"""Sending mail: a protocol of one method, and three drivers: into a folder, onto the console, over SMTP."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from muelle.kit.db import refuse_inside_transaction
from muelle.kit.errors import Unavailable

SMTP_SECONDS = 20.0


class MailNotTaken(Unavailable):
    """The mail server did not take a message: {reason}"""


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
    def __init__(self, url: str, sender: str) -> None:
        parts = urlsplit(url)
        self._sender = sender
        self._tls = parts.scheme == "smtps"
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (465 if self._tls else 587)
        self._user = unquote(parts.username or "") or None
        self._password = unquote(parts.password or "") or None

    async def send(self, mail: Mail) -> None:
        import aiosmtplib  # noqa: PLC0415 - only where SMTP is set

        refuse_inside_transaction("the mail server")
        try:
            await aiosmtplib.send(
                as_message(mail, self._sender),
                hostname=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                use_tls=self._tls,
                timeout=SMTP_SECONDS,
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailNotTaken(reason=f"{type(error).__name__} from {self._host}:{self._port}") from error


def as_message(mail: Mail, sender: str) -> EmailMessage:
    message = EmailMessage()
    message["Message-ID"] = f"<{mail.id}@{_domain(sender)}>"
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message.set_content(mail.text)
    return message


def _domain(sender: str) -> str:
    found = re.search(r"@([A-Za-z0-9.-]+)", sender)
    return found[1] if found else "localhost"


def mailer(setting: str, folder: Path, sender: str) -> Mailer:
    """The driver that the setting `mail` names."""
    match setting:
        case "file":
            return FileMailer(folder, sender)
        case "console":
            return ConsoleMailer(sender)
        case _:
            return SmtpMailer(setting, sender)
