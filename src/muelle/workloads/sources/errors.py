"""What can be wrong with what a person brings, each with the words that they read."""

from __future__ import annotations

from muelle.kit.errors import Denied, Invalid, Missing, Unavailable

LONGEST_SHOWN = 120


def shown(text: str) -> str:
    """A stranger's text, such as a path of their archive, fit for one line of a message or a log."""
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return clean if len(clean) <= LONGEST_SHOWN else clean[: LONGEST_SHOWN - 1] + "…"


class SourceUnreadable(Invalid):
    """That is no source: {reason}."""


class UrlRefused(Invalid):
    """The repository's address cannot be used: {reason}."""

    hint = "It has to look like https://github.com/ana/app."


class PasswordInUrl(Invalid):
    """The repository's address holds a name or a password."""

    hint = "Take it out of the address, and give the token as the token: it is kept sealed then."


class RefRefused(Invalid):
    """ "{ref}" cannot be the name of a branch, tag or commit."""


class FolderRefused(Invalid):
    """ "{folder}" cannot be a folder of the source: {reason}."""

    hint = "Give it as it is seen from the top of the source, such as services/web."


class NameRefused(Invalid):
    """ "{name}" cannot be the name of a file: {reason}."""


class ReferenceRefused(Invalid):
    """ "{reference}" cannot be the name of an image."""

    hint = "It has to look like nginx:1.27 or ghcr.io/ana/app:2."


class SourceTooLarge(Invalid):
    """The source is larger than {limit} bytes."""

    hint = "Leave out what the program does not need, such as data, videos and installed packages."


class TooManyEntries(Invalid):
    """The source has more than {limit} files and folders."""

    hint = "Leave out what the program does not need, such as installed packages."


class SourceTookTooLong(Unavailable):
    """The source was not there within {seconds} seconds."""

    hint = "Try again. If it takes as long every time, it is too large, or its server too slow."


class LinkOut(Invalid):
    """The link {path} leads out of the source."""

    hint = "A link may lead to a file of the same source alone."


class DiskRefused(Unavailable):
    """The source could not be written down: {reason}."""


class GitMissing(Unavailable):
    """The program git is not installed on the server."""

    hint = "Its operator can mend that: `apt install git`."


class RepositoryMissing(Missing):
    """There is no repository at {where}, or it is private."""

    hint = "Check the address. For a private one, give a token that may read it."


class TokenRefused(Invalid):
    """{host} does not accept the token for {where}."""

    hint = "It may have expired, or may not read this repository. Make a new one and give that."


class RepositoryEmpty(Missing):
    """The repository at {where} has no commit yet."""

    hint = "Push something first."


class NoSuchRef(Missing):
    """The repository has no branch, tag or commit "{ref}"."""

    hint = "{known}"


class NoSuchFolder(Missing):
    """The source has no folder "{folder}"."""


class HostRefused(Denied):
    """{host} is not fetched from: it leads to {address}, {what}."""

    hint = "The operator can allow it by naming the host in MUELLE_GIT_PRIVATE_HOSTS."


class HostUnreachable(Unavailable):
    """{host} cannot be reached: {reason}."""


class CertificateRefused(Invalid):
    """{host} shows a certificate that is not trusted."""

    hint = "Behind a proxy of a company, or with a certificate of one's own: the operator can trust its authority."


class ProtocolRefused(Invalid):
    """A repository or submodule is to be fetched over {protocol}: only https is allowed."""

    hint = "Give its https address; for a submodule in the file .gitmodules."


class RepositoryRefused(Invalid):
    """The repository holds what git itself calls damaged or dangerous: {reason}."""


class SubmodulesFailed(Invalid):
    """The submodules could not be fetched: {reason}."""

    hint = "Each has to be readable over https, with the same token where it is private."


class FetchFailed(Invalid):
    """The repository could not be fetched: {reason}."""


class ArchiveUnreadable(Invalid):
    """The archive cannot be read: {reason}."""

    hint = "Pack the folder anew, as .zip or .tar.gz."


class ArchiveEncrypted(Invalid):
    """The archive needs a password."""

    hint = "Pack it without one."


class ArchiveEmpty(Invalid):
    """There is nothing in the archive."""


class ArchiveBomb(Invalid):
    """The archive grows more than {ratio} times when it is unpacked: that is no program."""


class UnsafeEntry(Invalid):
    """The archive holds "{path}", which is refused: {reason}."""


class NothingRecognised(Invalid):
    """It is not clear how this is to be run. Looked for: {looked}."""

    hint = "Choose a template, or bring a Dockerfile."


class TemplateUnfit(Invalid):
    """This does not fit the template {template}: {reason}."""

    hint = "Choose another template, or auto."
