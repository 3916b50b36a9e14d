"""Mail: into a folder, onto the console, over SMTP; under TLS where a network is between; and no headers but ours."""

from __future__ import annotations

import stat
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muelle.kit import mail as kit_mail
from muelle.kit.db import SlowCallInTransaction, open_database
from muelle.kit.ids import made_at, new_id
from muelle.kit.mail import ConsoleMailer, FileMailer, Mail, MailNotTaken, SmtpMailer, as_message, mailer
from tests.house.postman import Postman, at_work, certificate
from tests.servers.private import free_port

SENDER = "Muelle <muelle@cloud.example.com>"
TEXT = "Hello,\n\n.a line that begins with a dot\nand what is ñ or €\n"
HEADERS = [
    "Message-ID",
    "Date",
    "From",
    "To",
    "Subject",
    "Auto-Submitted",
    "Content-Type",
    "Content-Transfer-Encoding",
    "MIME-Version",
]


def letter(subject: str = "Confirm · Confirma", to: str = "ana@example.com") -> Mail:
    return Mail(new_id(), to, subject, TEXT)


@pytest.fixture
def beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the mail server, which is on this machine, were on another."""
    monkeypatch.setattr(kit_mail, "is_loopback", lambda host: False)


async def test_a_message_is_written_into_a_folder_for_its_owner_alone(tmp_path: Path) -> None:
    one = letter()
    await mailer("file", tmp_path / "mail", SENDER).send(one)
    await FileMailer(tmp_path / "mail", SENDER).send(one)  # again: it is the same one
    (file,) = (tmp_path / "mail").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    message = message_from_bytes(file.read_bytes(), policy=policy.default)
    assert message["Message-ID"] == f"<{one.id}@cloud.example.com>"
    assert (message["From"], message["To"], message["Subject"]) == (SENDER, one.to, one.subject)
    assert message["Date"].datetime == made_at(one.id).replace(microsecond=0)
    assert message.get_content() == TEXT


async def test_a_message_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    await mailer("console", tmp_path, SENDER).send(letter("A subject"))
    assert "Subject: A subject" in capsys.readouterr().err
    assert isinstance(mailer("console", tmp_path, SENDER), ConsoleMailer)


async def test_a_message_goes_over_smtp_to_one_recipient(tmp_path: Path) -> None:
    one = letter()
    async with at_work(Postman()) as postman:
        smtp = mailer(f"smtp://127.0.0.1:{postman.port}", tmp_path, SENDER)
        await smtp.send(one)
        ((sender, recipients, message),) = postman.taken
    assert (sender, recipients) == ("muelle@cloud.example.com", ["ana@example.com"])
    assert (message["Subject"], message.get_content().replace("\r\n", "\n")) == (one.subject, TEXT)


async def test_a_password_goes_over_a_network_under_tls_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beyond: None
) -> None:
    tls, trusted = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    for scheme, at_once in (("smtp", False), ("smtps", True)):
        async with at_work(Postman(tls=tls, at_once=at_once, account=("ana", "hush @/:"))) as postman:
            await SmtpMailer(f"{scheme}://ana:hush%20%40%2F%3A@127.0.0.1:{postman.port}", SENDER).send(letter())
            assert postman.encrypted
            assert len(postman.taken) == 1
            assert postman.said.index("AUTH") > postman.said.index("EHLO")


@pytest.mark.parametrize(
    ("postman", "url", "told"),
    [
        (Postman(), "smtp://ana:hush@", "it offers no TLS, and the password would travel in clear"),
        (Postman(), "smtps://", "TLS failed"),
        (Postman(refuses="RCPT"), "smtp://", "it refuses the recipient"),
        (Postman(refuses="MAIL"), "smtp://", "it says 550 not that"),
    ],
    ids=["no TLS", "no TLS at once", "recipient", "sender"],
)
async def test_why_a_message_does_not_go_is_told_without_secrets(
    postman: Postman, url: str, told: str, beyond: None
) -> None:
    async with at_work(postman):
        with pytest.raises(MailNotTaken, match=told) as refused:
            await SmtpMailer(f"{url}127.0.0.1:{postman.port}", SENDER).send(letter())
    assert f"The mail server at 127.0.0.1:{postman.port} does not take our mail: " in refused.value.message
    assert "hush" not in refused.value.message
    assert "AUTH" not in postman.said
    assert not postman.taken


async def test_a_certificate_that_nobody_vouches_for_is_told(tmp_path: Path, beyond: None) -> None:
    tls, _ = certificate(tmp_path)
    for url, postman in (("smtp://ana:hush@", Postman(tls=tls)), ("smtps://", Postman(tls=tls, at_once=True))):
        async with at_work(postman):
            with pytest.raises(MailNotTaken, match=r"TLS failed \(.*self.signed"):
                await SmtpMailer(f"{url}127.0.0.1:{postman.port}", SENDER).check()
        assert "AUTH" not in postman.said


async def test_without_a_password_tls_is_used_where_it_is_offered(tmp_path: Path, beyond: None) -> None:
    tls, _ = certificate(tmp_path)
    async with at_work(Postman(tls=tls)) as postman:
        await SmtpMailer(f"smtp://127.0.0.1:{postman.port}", SENDER).send(letter())
        assert postman.encrypted


async def test_a_server_on_this_machine_needs_no_tls() -> None:
    async with at_work(Postman(account=("ana", "hush"))) as postman:
        await SmtpMailer(f"smtp://ana:hush@127.0.0.1:{postman.port}", SENDER).check()
        with pytest.raises(MailNotTaken, match="it refuses the user or the password"):
            await SmtpMailer(f"smtp://ana:wrong@127.0.0.1:{postman.port}", SENDER).check()


async def test_a_server_that_is_away_or_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit_mail, "CHECK_SECONDS", 0.2)
    with pytest.raises(MailNotTaken, match="nothing answers there"):
        await SmtpMailer(f"smtp://127.0.0.1:{free_port()}", SENDER).check()
    async with at_work(Postman(silent=True)) as postman:
        with pytest.raises(MailNotTaken, match="it does not answer in time"):
            await SmtpMailer(f"smtp://127.0.0.1:{postman.port}", SENDER).check()


async def test_mail_is_not_sent_inside_a_transaction(tmp_path: Path) -> None:
    database = open_database("x", folder=tmp_path)
    async with database.transaction():
        with pytest.raises(SlowCallInTransaction):
            await SmtpMailer("smtp://127.0.0.1:1", SENDER).send(letter())
    await database.close()


@given(st.text(), st.emails())
def test_no_name_and_no_subject_can_add_a_header_or_a_recipient(subject: str, to: str) -> None:
    message = message_from_bytes(bytes(as_message(letter(subject, to), SENDER)), policy=policy.default)
    assert sorted(message.keys()) == sorted(HEADERS)
    assert len(message["To"].addresses) == 1
    assert message.get_content().replace("\r\n", "\n") == TEXT


@pytest.mark.parametrize("to", ["a@example.com\nBcc: b@example.com", "a@example.com\r\nBcc: b@example.com"])
def test_a_recipient_of_two_lines_is_refused(to: str) -> None:
    with pytest.raises(ValueError, match="CR or LF"):
        as_message(letter(to=to), SENDER)


def test_two_recipients_in_one_are_not_two() -> None:
    message = as_message(letter(to="b@example.com, a@example.com"), SENDER)
    assert len(message["To"].addresses) == 1


def test_a_subject_of_several_lines_becomes_one() -> None:
    message = as_message(letter("Hello\r\nBcc: b@example.com\0"), SENDER)
    assert message["Subject"] == "Hello  Bcc: b@example.com "
    assert "Bcc" not in message
