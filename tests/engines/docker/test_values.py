"""The driver's pure parts: names, references, patterns, streams, subnets, preludes and what is made of them."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import tarfile
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from muelle.engines.docker import context, prelude
from muelle.engines.docker.build_log import BuildLog
from muelle.engines.docker.firewall import rules
from muelle.engines.docker.ignore import Ignored, parse
from muelle.engines.docker.images import short
from muelle.engines.docker.names import Names, plain
from muelle.engines.docker.references import full, split
from muelle.engines.docker.sightings import brief, condition_of
from muelle.engines.docker.streams import LONGEST_MESSAGE_BYTES, Frames, Lines, Messages, Words, moment
from muelle.engines.docker.subnets import free, routed
from muelle.engines.protocol import LONGEST_LINE, BuildFailed, Condition, ImageMissing, Stream

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_names_of_two_installations_never_meet() -> None:
    assert Names("a").container("b-c") != Names("a-b").container("c")
    assert Names("a").container("X") != Names("a").container("x")
    assert len(Names("x" * 200).bridge("y" * 200)) == 15
    assert Names("a").bridge("y").startswith(Names("a").bridges())


@pytest.mark.parametrize("text", ["", "Ünï", "a" * 300, "..", "a/b", "-", "a_b", "tail-"])
def test_a_name_that_docker_would_not_take_is_told_apart_by_a_hash(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(?:[.-]+[a-z0-9]+)*", plain(text))
    assert len(plain(text)) <= 48
    assert plain(text) != plain(text + "x")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("ana/shop", "docker.io/ana/shop:latest"),
        ("ghcr.io/ana/shop:v1", "ghcr.io/ana/shop:v1"),
        ("localhost:5000/shop", "localhost:5000/shop:latest"),
        ("localhost/shop", "localhost/shop:latest"),
        (f"nginx:1@sha256:{'a' * 64}", f"docker.io/library/nginx@sha256:{'a' * 64}"),
        ("abc123", "docker.io/library/abc123:latest"),
    ],
)
def test_a_reference_is_written_out(reference: str, expected: str) -> None:
    assert full(reference) == expected
    assert full(expected) == expected


@pytest.mark.parametrize(
    "reference",
    ["", "UPPER", "a b", "a:b:c", "../x", "x/../y", "-x", "x@sha256:12", "http://x/y", "UP/x", "x" * 300, "a\n"],
)
def test_what_is_no_reference_is_missing(reference: str) -> None:
    with pytest.raises(ImageMissing):
        full(reference)


def test_a_reference_is_split_where_the_version_begins() -> None:
    assert split("localhost:5000/shop:v1") == ("localhost:5000/shop", "v1")
    assert split("a/b@sha256:00") == ("a/b", "sha256:00")


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        ("node_modules", "node_modules/a/b", True),
        ("node_modules", "sub/node_modules", False),
        ("**/node_modules", "sub/deep/node_modules/x", True),
        ("**/node_modules", "node_modules", True),
        ("*.log", "a.log", True),
        ("*.log", "sub/a.log", False),
        ("/a", "a", True),
        ("a/", "a/b", True),
        ("./a", "a", True),
        ("*\n!keep", "keep", False),
        ("*\n!keep", "other", True),
        ("*\n!keep\nkeep", "keep", True),
        ("docs/**/x", "docs/x", True),
        ("docs/**", "docs/a/b", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("# a", "# a", False),
        ("", "a", False),
        ("a+(b)", "a+(b)", True),
        ("../a", "a", True),
    ],
)
def test_patterns_are_read_as_docker_reads_them(patterns: str, path: str, expected: bool) -> None:
    assert (path in parse(patterns)) is expected


def test_frames_are_found_however_they_come() -> None:
    wire = b"".join(
        struct.pack(">BxxxL", number, len(text)) + text for number, text in ((1, b"out"), (2, b""), (2, b"err"))
    )
    frames = Frames()
    found = [frame for at in range(len(wire)) for frame in frames.feed(wire[at : at + 1])]
    assert found == [(Stream.OUT, b"out"), (Stream.ERR, b""), (Stream.ERR, b"err")]


def test_lines_are_whole_bounded_and_readable() -> None:
    lines = Lines()
    ship = "🚢".encode()
    fed = [*lines.feed(Stream.OUT, NOW, b"a\r\n" + ship[:2]), *lines.feed(Stream.OUT, NOW, ship[2:] + b"\n\n\xff\n")]
    assert [line.text for line in fed] == ["a", "🚢", "", "\ufffd"]
    long = list(lines.feed(Stream.ERR, NOW, b"x" * (2 * LONGEST_LINE + 1)))
    assert [len(line.text) for line in long] == [LONGEST_LINE, LONGEST_LINE]
    assert [line.text for line in lines.end()] == ["x"]
    assert list(lines.end()) == []


def test_a_line_of_just_the_greatest_length_is_one_line() -> None:
    lines = Lines()
    pieces = [b"x" * LONGEST_LINE, b"\n"]
    assert [len(line.text) for piece in pieces for line in lines.feed(Stream.OUT, NOW, piece)] == [LONGEST_LINE]


def test_messages_that_are_none_are_passed_over() -> None:
    messages = Messages()
    endless = b'{"a": "' + b"x" * (LONGEST_MESSAGE_BYTES + 1)
    assert list(messages.feed(b'{"a": 1}\r\nnonsense\n[]\n')) == [{"a": 1}]
    assert list(messages.feed(endless)) == []
    assert list(messages.feed(b'"}\n{"b": 2}\n{"c"')) == [{"b": 2}]
    assert list(messages.feed(b": 3}\n")) == [{"c": 3}]


def test_words_have_no_colours_and_do_not_overwrite() -> None:
    words = Words()
    told = [
        *words.feed("\x1b[31mred\x1b[0m\n 1%\r 2%\rdo"),
        *words.feed("ne\x1b]0;title\x07\x07\n"),
        *words.feed("rest"),
    ]
    assert [*told, *words.end()] == ["red", " 1%", " 2%", "done", "rest"]


def test_moments_are_aware() -> None:
    assert moment("2026-11-21T06:10:27.123456789Z") == datetime(2026, 11, 21, 6, 10, 27, 123456, UTC)
    assert moment("2026-11-21T08:10:27+02:00") == datetime(2026, 11, 21, 6, 10, 27, tzinfo=UTC)
    assert moment("0001-01-01T00:00:00Z") is None
    assert moment("") is None


def test_an_error_is_told_by_its_cause() -> None:
    long = 'OCI runtime create failed: runc create failed: unable to start container process: exec: "x": nope: unknown'
    assert brief(long) == 'exec: "x": nope'
    assert brief("network abc not found") == "network abc not found"


@pytest.mark.parametrize(
    ("status", "code", "error", "expected"),
    [
        ("created", 0, "", Condition.CREATED),
        ("created", 127, "no", Condition.EXITED),
        ("running", 0, "", Condition.RUNNING),
        ("paused", 0, "", Condition.RUNNING),
        ("exited", 0, "", Condition.EXITED),
        ("dead", 0, "", Condition.EXITED),
        ("removing", 0, "", Condition.EXITED),
    ],
)
def test_conditions(status: str, code: int, error: str, expected: Condition) -> None:
    assert condition_of({"Status": status, "ExitCode": code, "Error": error}) is expected


def test_a_thousand_owners_fit() -> None:
    taken: list[IPv4Network] = []
    whole = IPv4Network("10.213.0.0/16")
    for number in range(1000):
        taken.append(next(free(whole, taken[-50:], f"owner-{number}")))
    assert len(list(free(whole, [], "x"))) == 1024
    assert list(free(whole, [IPv4Network("10.0.0.0/8")], "x")) == []


def test_routes_of_this_machine_are_read() -> None:
    table = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "wg0\t0000D50A\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0\n"
    )
    assert list(routed(table)) == [IPv4Network("10.213.0.0/20")]


def test_rules_let_in_names_and_doors_and_nothing_else() -> None:
    text = rules("M", [7080])
    inward = [line for line in text.splitlines() if line.startswith("-A M-IN")]
    assert inward[-1] == "-A M-IN -j REJECT"
    assert sum("RETURN" in line for line in inward) == 4
    assert "-A M-OUT -d 169.254.0.0/16 -j REJECT" in text


def test_a_prelude_sets_what_it_carries_and_no_more(tmp_path: Path) -> None:
    environment = {"PIP_INDEX_URL": 'it\'s $x `y` "z"\nnext', "HTTP_PROXY": "http://proxy", "not a name": "x"}
    carried = prelude.arguments(environment, "")
    script = f'{prelude.CALL}printf "%s|" "$PIP_INDEX_URL" "$HTTP_PROXY" "${{FTP_PROXY-unset}}"'
    done = subprocess.run(["sh", "-euc", script], env=carried, capture_output=True, text=True, check=True)
    assert done.stdout == 'it\'s $x `y` "z"\nnext|http://proxy|unset|'


def test_without_anything_to_carry_there_is_no_prelude() -> None:
    assert prelude.arguments({}, " \n") == {}
    assert subprocess.run(["sh", "-euc", f"{prelude.CALL}echo fine"], env={}, check=True).returncode == 0


def test_many_certificates_go_in_pieces_and_endless_ones_are_refused() -> None:
    carried = prelude.arguments({}, "c" * 300_000)
    assert set(carried) == {"FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy"}
    with pytest.raises(BuildFailed):
        prelude.arguments({}, "c" * 400_000)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Get https://images.example/v2/: dial tcp: lookup x: no such host", "does not answer"),
        ("pull access denied for x, repository does not exist", "log-in"),
        ("manifest for x:y not found: manifest unknown", "none of that name"),
        ("", "no reason"),
    ],
)
def test_a_registrys_words_are_short(reason: str, words: str) -> None:
    assert words in short(reason)


def test_a_build_log_reads_well_and_knows_the_reason() -> None:
    said: list[str] = []
    log = BuildLog(said.append, "P; ", 64 * 2**20)
    streams = [
        'Step 1/2 : RUN ["/bin/sh", "-c", "P; pip install"]\n',
        " ---> Running in 0123456789ab\n",
        "\x1b[91mERROR: none\n\x1b[0m",
    ]
    containers = [one for text in streams for one in log.take({"stream": text})]
    assert list(log.take({"error": "The command '/bin/sh -c P; pip install' returned a non-zero code: 1"})) == []
    log.end()
    assert containers == ["0123456789ab"]
    assert said == ["Step 1/2: RUN pip install", "ERROR: none"]
    assert log.reason() == "RUN pip install ended with 1: ERROR: none"
    log.failure = "returned a non-zero code: 137"
    assert "64 MiB" in log.reason()


async def test_a_source_is_sent_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "program").write_bytes(os.urandom(3_000_000))
    (tmp_path / "sub" / "program").chmod(0o4755)
    (tmp_path / ("n" * 150)).write_text("long name")
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_text("no utf-8")
    (tmp_path / "out").symlink_to("/etc/shadow")
    (tmp_path / "folder").symlink_to(tmp_path.parent)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sub" / ".git").write_text("gitdir: elsewhere")
    (tmp_path / "app.py").write_text("theirs")
    sent = b"".join([block async for block in context.stream(tmp_path, Ignored(), {"app.py": b"ours"})])
    with tarfile.open(fileobj=io.BytesIO(sent), errors="surrogateescape") as archive:
        entries = {entry.name: entry for entry in archive}
        program = archive.extractfile("sub/program")
        ours = archive.extractfile("app.py")
        assert program is not None
        assert program.read() == (tmp_path / "sub" / "program").read_bytes()
        assert ours is not None
        assert ours.read() == b"ours"
    assert set(entries) == {"app.py", "folder", "n" * 150, "out", "sub", "sub/program", os.fsdecode(b"\xff\xfe")}
    assert entries["sub/program"].mode == 0o755
    assert entries["out"].linkname == "/etc/shadow"
    assert entries["folder"].issym()
