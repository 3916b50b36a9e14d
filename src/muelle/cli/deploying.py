"""`muelle deploy`: from what is here, or named, to a URL that answers; and what is told on the way.

What is told goes to stderr, and the URL (or JSON) to stdout. Once the server has taken it, a deployment goes on whether
somebody waits for it or not, and each way to stop waiting says so.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import typer

from muelle.cli import INTERRUPTED, showing
from muelle.cli.brought import (
    FUNCTION_FILE,
    Archive,
    Brought,
    Folder,
    Function,
    ImageName,
    Repository,
    SingleFile,
    described,
    recognised,
    usual_kind,
    usual_name,
)
from muelle.cli.client import Client
from muelle.cli.listening import Patience, Told, events
from muelle.cli.naming import found_by_name, latest_deployment
from muelle.cli.packing import archive_pieces, file_packing, folder_packing
from muelle.cli.wanted import Options
from muelle.cli.watching import Shown, Watch, serving
from muelle.kit.errors import Conflict, Failure

AWAY_SECONDS = 30.0
"""How long a server may be away in the middle of it: it is started anew in less."""
PROGRESS_SECONDS = 0.2


class BuildRefused(Failure):
    """{name}: nothing came of the deployment. {why}"""

    hint = "{serving}"


class GivenUp(Conflict):
    """{name}: the deployment was cancelled{by}."""

    hint = "{serving}"


class OtherKind(Conflict):
    """{name} is a {kind} already, and stays one."""

    hint = "Leave --kind out, or give another --name."


@dataclass(frozen=True)
class Wish:
    """The command, as it was typed."""

    what: str
    name: str
    kind: str
    template: str
    ref: str
    folder: str
    token: str
    options: Options
    wait: bool
    seconds: float
    as_json: bool


def deploy(wish: Wish) -> None:
    showing.ready()
    client = Client.here()
    brought = recognised(wish.what)
    _refuse_what_only_git_has(wish, brought)
    name = wish.name or usual_name(brought)
    token = _token(wish.token)
    try:
        there = found_by_name(client, name)
        _say(f"Deploying {described(brought)} as {name}.")
        begun = _begin(client, wish, brought, there, name, token)
    except KeyboardInterrupt:
        _say("\nGiven up before the deployment was begun.")
        raise typer.Exit(INTERRUPTED) from None
    workload, deployment = begun["workload"], begun["deployment"]
    if not wish.wait:
        _show(wish, workload, deployment)
        return
    try:
        _see_through(client, wish, workload, deployment)
    except KeyboardInterrupt:
        _say(f"\nThe deployment goes on. {_meanwhile(name)}")
        raise typer.Exit(INTERRUPTED) from None


def _begin(
    client: Client, wish: Wish, brought: Brought, there: Shown | None, name: str, token: str
) -> Mapping[str, Any]:
    if there is not None and wish.kind and wish.kind != there["kind"]:
        raise OtherKind(name=name, kind=there["kind"])
    present = client.ask("GET", f"/workloads/{there['id']}/settings") if there and wish.options.needs_present else None
    body = wish.options.body(present) | _source(client, wish, brought, token)
    path = f"/workloads/{there['id']}/deploy" if there else "/workloads"
    if there is None:
        body |= {"name": name, "kind": wish.kind or usual_kind(brought)}
    begun: Mapping[str, Any] = client.ask("POST", path, body)
    return begun


def _source(client: Client, wish: Wish, brought: Brought, token: str) -> dict[str, Any]:
    template = {"template": wish.template} if wish.template else {}
    match brought:
        case Function(text=text):
            return {"file": {"name": FUNCTION_FILE, "text": text}} | ({"template": "function"} | template)
        case Repository(url):
            private = {"token": token} if token else {}
            return {"git": {"url": url, "ref": wish.ref, "folder": wish.folder} | private} | template
        case ImageName(reference):
            return {"image": reference}
    return {"upload": _upload(client, brought)} | template


def _upload(client: Client, brought: Folder | Archive | SingleFile) -> str:
    match brought:
        case Archive(path):
            pieces, what = archive_pieces(path), "the archive"
        case Folder(path):
            packing = folder_packing(path)
            pieces, what = packing.pieces(), packing.described
        case SingleFile(path):
            packing = file_packing(path)
            pieces, what = packing.pieces(), packing.described
    sending = _Sending(pieces)
    kept = client.send("/uploads", sending)
    sending.done(f"Sent {what} ({showing.size(kept['bytes'])} on the way).")
    return str(kept["id"])


class _Sending:
    """Counts what is sent, where somebody sees it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._seen = showing.is_terminal(sys.stderr)
        self._width = 0

    def __iter__(self) -> Iterator[bytes]:
        sent, told_at = 0, time.monotonic()
        for piece in self._pieces:
            yield piece
            sent += len(piece)
            if self._seen and time.monotonic() - told_at > PROGRESS_SECONDS:
                told_at = time.monotonic()
                self._write(f"Sending: {showing.size(sent)}")

    def done(self, text: str) -> None:
        if self._width:
            self._write("")
            print("\r", end="", file=sys.stderr)
        _say(text)

    def _write(self, text: str) -> None:
        print(f"\r{text.ljust(self._width)}", end="", file=sys.stderr, flush=True)
        self._width = len(text)


def _see_through(client: Client, wish: Wish, workload: Shown, deployment: Shown) -> None:
    until = time.monotonic() + wish.seconds
    patience = Patience(AWAY_SECONDS, until, wish.seconds, f"The deployment goes on. {_meanwhile(workload['name'])}")
    end = _follow_build(client, deployment, patience)
    if end["state"] != "released":
        raise _not_released(client, workload, end)
    now = Watch(client, workload, patience, _say).until_serves(end["release"])
    _say(f"Release {end['release']} serves.")
    _show(wish, now, end)


def _follow_build(client: Client, deployment: Shown, patience: Patience) -> Shown:
    """Tells what the build says; returns how it ended."""
    path = f"/deployments/{deployment['id']}/logs/stream"
    with closing(events(client, path, patience, _say)) as coming:
        for told in coming:
            if told.name == "end":
                end: Shown = told.data
                return end
            _say_line(told)
    raise AssertionError("a stream goes on until its end is told")


def _say_line(told: Told) -> None:
    if told.name == "line":
        text = showing.harmless(told.data["text"], sys.stderr)
        _say(showing.coloured(f"  {text}", showing.DIM, sys.stderr))
    elif told.name == "gap":
        _say(f"  … {told.data['lines']} lines are not kept any more.")


def _not_released(client: Client, workload: Shown, end: Shown) -> Failure | Conflict:
    now = client.ask("GET", f"/workloads/{workload['id']}")
    left = serving(now, failed=0) if now["release"] else ""
    if end["state"] == "cancelled":
        latest = latest_deployment(client, workload)
        newer = latest is not None and latest["id"] != end["id"]
        return GivenUp(name=now["name"], by=", because a newer one took its place" if newer else "", serving=left)
    return BuildRefused(name=now["name"], why=showing.words(end["why"]), serving=left)


def _show(wish: Wish, workload: Shown, deployment: Shown) -> None:
    if wish.as_json:
        showing.print_json({"workload": workload, "deployment": deployment})
    else:
        print(workload["url"], flush=True)


def _meanwhile(name: str) -> str:
    return f"`muelle cancel {name}` gives it up, `muelle logs {name} --build -f` shows its build."


def _token(given: str) -> str:
    """From the variable of that name, or asked for: what is typed on a command line is seen by everybody here."""
    if not given:
        return ""
    if given == "-":
        return getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not os.environ.get(given):  # it is not told back: it may be the token itself
        raise typer.BadParameter("--token takes the name of a variable that holds the token, or - to be asked for it.")
    return os.environ[given]


def _refuse_what_only_git_has(wish: Wish, brought: Brought) -> None:
    given = [f"--{name}" for name in ("ref", "folder", "token") if getattr(wish, name)]
    if given and not isinstance(brought, Repository):
        raise typer.BadParameter(f"{given[0]} is for a repository, and {described(brought)} is none.")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
