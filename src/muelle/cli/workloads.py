"""Commands about workloads that are there: looking at them, and asking for another state of them.

What was asked for is waited for, unless `--no-wait` says otherwise, so that a script may rely on it.
"""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from muelle.cli import INTERRUPTED, showing
from muelle.cli.client import Client
from muelle.cli.listening import Patience, insist
from muelle.cli.naming import all_of, latest_deployment, named
from muelle.cli.wanted import variables
from muelle.cli.watching import Shown, Watch
from muelle.kit.errors import Conflict, Invalid

AWAY_SECONDS = 30.0
LOOK_SECONDS = 0.1
_OVER = frozenset({"released", "failed", "cancelled"})


class NothingUnderWay(Conflict):
    """{name}: there is no deployment under way{last}."""

    hint = "`muelle rollback {name}` goes back to the release before."


class TooLateToCancel(Conflict):
    """{name}: the deployment was over before it could be cancelled: {state}."""


class NotSure(Invalid):
    """There is no terminal to ask whether {name} shall be deleted."""

    hint = "Say so with --yes."


@dataclass(frozen=True)
class Waiting:
    """Whether, and how long."""

    wanted: bool
    seconds: float

    def patience(self, name: str) -> Patience:
        meanwhile = f"It goes on all the same: `muelle ps` shows how {name} is doing."
        return Patience(AWAY_SECONDS, time.monotonic() + self.seconds, self.seconds, meanwhile)


# --- looking


def list_workloads(*, as_json: bool) -> None:
    showing.ready()
    found = list(all_of(Client.here(), "/workloads"))
    if as_json:
        showing.print_json(found)
    elif not found:
        print("You have no workloads. `muelle deploy` makes one.")
    else:
        print(showing.table(("NAME", "KIND", "PHASE", "RELEASE", "URL", "WHY"), [_row(one) for one in found]))


def list_releases(name: str, *, as_json: bool) -> None:
    showing.ready()
    client = Client.here()
    workload = named(client, name)
    releases = client.ask("GET", f"/workloads/{workload['id']}/releases")
    if as_json:
        showing.print_json(releases)
    elif not releases:
        print(f"{name} has no release yet.")
    else:
        print(
            showing.table(
                ("RELEASE", "", "VERDICT", "MADE", "SOURCE", "REVISION", "WHY"),
                [_release_row(release, workload) for release in releases],
            )
        )


def show_history(name: str, number: int, *, as_json: bool) -> None:
    """The newest last, as in a log."""
    showing.ready()
    client = Client.here()
    path = f"/workloads/{named(client, name)['id']}/history"
    found = list(all_of(client, path, number))
    if as_json:
        showing.print_json(found)
        return
    rows = [
        (showing.local(one["at"]), one["what"], str(one["release"] or ""), showing.words(one["why"]))
        for one in reversed(found)
    ]
    print(showing.table(("WHEN", "WHAT", "RELEASE", "WHY"), rows))


def open_workload(name: str) -> None:
    url = named(Client.here(), name)["url"]
    print(url, flush=True)
    if _has_browser() and url.startswith(("http://", "https://")):
        webbrowser.open(url)


def list_variables(name: str, *, as_json: bool) -> None:
    showing.ready()
    client = Client.here()
    settings = client.ask("GET", f"/workloads/{named(client, name)['id']}/settings")
    if as_json:
        showing.print_json(settings["environment"])
        return
    for variable, value in sorted(settings["environment"].items()):
        print(f"{variable}={showing.harmless(value)}")


# --- asking for another state


def stop(name: str, waiting: Waiting, *, as_json: bool) -> None:
    def ask(client: Client, workload: Shown) -> Shown:
        asked = _post(client, workload, "stop")
        if waiting.wanted:
            return Watch(client, workload, waiting.patience(name), _say).until_stopped()
        return asked

    _carry_out(name, ask, as_json, lambda now: f"{name} is {now['phase']}.")


def start(name: str, waiting: Waiting, *, as_json: bool) -> None:
    _bring_up(name, waiting, as_json, lambda client, workload: _post(client, workload, "start"))


def restart(name: str, waiting: Waiting, *, as_json: bool) -> None:
    _bring_up(name, waiting, as_json, lambda client, workload: _post(client, workload, "restart"))


def roll_back(name: str, number: int | None, waiting: Waiting, *, as_json: bool) -> None:
    body = {} if number is None else {"release": number}
    _bring_up(name, waiting, as_json, lambda client, workload: _post(client, workload, "rollback", body))


def set_variables(name: str, texts: Sequence[str], waiting: Waiting, *, as_json: bool) -> None:
    """Makes a new release of the same image."""
    _change(name, {"environment": variables(texts, "env set")}, waiting, as_json)


def unset_variables(name: str, names: Sequence[str], waiting: Waiting, *, as_json: bool) -> None:
    _change(name, {"unset": list(names)}, waiting, as_json)


def rename(name: str, new: str, *, as_json: bool) -> None:
    def ask(client: Client, workload: Shown) -> Shown:
        renamed: Shown = client.ask("PUT", f"/workloads/{workload['id']}/name", {"name": new})
        return renamed

    _carry_out(name, ask, as_json, lambda now: f"{name} is called {now['name']} now, and is at {now['url']}")


def remove(name: str, waiting: Waiting, *, keep_volumes: bool, sure: bool, as_json: bool) -> None:
    showing.ready()
    client = Client.here()
    workload = named(client, name)
    if not sure and not _is_sure(name, keep_volumes):
        print("Nothing was deleted.")
        raise typer.Exit(1)
    query = "?keep_volumes=true" if keep_volumes else ""
    asked = client.ask("DELETE", f"/workloads/{workload['id']}{query}")
    if waiting.wanted:
        _unless_interrupted(name, Watch(client, workload, waiting.patience(name), _say).until_gone)
    if as_json:
        showing.print_json(asked)
    else:
        print(f"{name} is {'deleted' if waiting.wanted else 'being deleted'}.")


def cancel(name: str, *, as_json: bool) -> None:
    """The deployment that is under way, and nothing else; what serves goes on."""
    showing.ready()
    client = Client.here()
    workload = named(client, name)
    latest = latest_deployment(client, workload)
    if latest is None or latest["state"] in _OVER:
        raise NothingUnderWay(name=name, last=f"; the last one was {latest['state']}" if latest else "")
    now = client.ask("POST", f"/deployments/{latest['id']}/cancel")
    patience = Waiting(True, 30.0).patience(name)
    while now["state"] not in _OVER:
        patience.check(f"it is {now['state']}")
        time.sleep(LOOK_SECONDS)
        now = insist(client, f"/deployments/{latest['id']}", patience, _say)
    if now["state"] != "cancelled":
        raise TooLateToCancel(name=name, state=now["state"])
    if as_json:
        showing.print_json(now)
    else:
        print(f"{name}: the deployment is cancelled.")


def _change(name: str, body: Mapping[str, Any], waiting: Waiting, as_json: bool) -> None:
    def ask(client: Client, workload: Shown) -> Shown:
        changed: Shown = client.ask("PATCH", f"/workloads/{workload['id']}/settings", body)
        if changed["version"] == workload["version"]:
            _say("Nothing has changed.")
        return changed

    _bring_up(name, waiting, as_json, ask)


def _bring_up(name: str, waiting: Waiting, as_json: bool, verb: Callable[[Client, Shown], Shown]) -> None:
    """Asks for something that ends with a release that serves, if it shall run at all."""

    def ask(client: Client, workload: Shown) -> Shown:
        asked = verb(client, workload)
        if not waiting.wanted or asked["wish"] != "running" or not asked["release"]:
            return asked
        after = asked["version"] if asked["version"] != workload["version"] else 0
        watch = Watch(client, workload, waiting.patience(name), _say)
        return watch.until_serves(asked["release"], after)

    _carry_out(name, ask, as_json, _state)


def _carry_out(name: str, ask: Callable[[Client, Shown], Shown], as_json: bool, words: Callable[[Shown], str]) -> None:
    showing.ready()
    client = Client.here()
    workload = named(client, name)
    now = _unless_interrupted(name, lambda: ask(client, workload))
    if as_json:
        showing.print_json(now)
    else:
        print(words(now))


def _unless_interrupted(name: str, doing: Callable[[], Any]) -> Any:
    try:
        return doing()
    except KeyboardInterrupt:
        _say(f"\nIt goes on all the same: `muelle ps` shows how {name} is doing.")
        raise typer.Exit(INTERRUPTED) from None


def _post(client: Client, workload: Shown, verb: str, body: Mapping[str, Any] | None = None) -> Shown:
    answer: Shown = client.ask("POST", f"/workloads/{workload['id']}/{verb}", body)
    return answer


def _state(now: Shown) -> str:
    if now["phase"] == "running":
        return f"{now['name']} runs release {now['release']} at {now['url']}"
    return f"{now['name']} is {now['phase']}."


def _row(one: Shown) -> tuple[str, ...]:
    release = str(one["release"] or "")
    if one["serving"] and one["serving"] != one["release"]:
        release = f"{one['serving']} → {release}"
    return one["name"], one["kind"], one["phase"], release, one["url"], showing.words(one["why"])


def _release_row(release: Shown, workload: Shown) -> tuple[str, ...]:
    return (
        str(release["number"]),
        "serves" if release["number"] == workload["serving"] else "",
        release["verdict"],
        showing.ago(release["made_at"]),
        release["source"],
        release["revision"][:20],
        showing.words(release["why"]),
    )


def _is_sure(name: str, keep_volumes: bool) -> bool:
    if not sys.stdin.isatty():
        raise NotSure(name=name)
    what = "Its volumes stay." if keep_volumes else "Its volumes, and what is in them, go with it."
    return input(f"Delete {name}? {what} [y/N] ").strip().lower() in ("y", "yes")


def _has_browser() -> bool:
    """Whether there is one to be seen: a script, or a shell on another machine, has none."""
    if not sys.stdout.isatty():
        return False
    shown = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return sys.platform == "darwin" or any(os.environ.get(name) for name in shown)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
