"""What there is to type about workloads. As in `commands`: the work is elsewhere, and loaded when it is asked for.

Annotations are not put off here: they are read at each start, of every command, and twice as slowly as texts.
"""
# ruff: noqa: PLC0415

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

PANEL = "Workloads"
LONGEST_SECONDS = 86_400.0
DEPLOY_SECONDS = 1800.0
CHANGE_SECONDS = 120.0
MOST_LINES = 1000


class Kind(StrEnum):
    CONTAINER = "container"
    PROJECT = "project"
    SERVICE = "service"
    POD = "pod"


class Template(StrEnum):
    AUTO = "auto"
    STATIC = "static"
    REACT = "react"
    FLASK = "flask"
    PYTHON = "python"
    NODEJS = "nodejs"
    PHP = "php"
    FUNCTION = "function"
    DOCKERFILE = "dockerfile"


class NameFirst(TyperGroup):
    """`muelle env NAME` lists: what is none of the commands is a name. (`muelle env list set` is for one called so.)"""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["list", *args]
        return super().parse_args(ctx, args)


workloads = typer.Typer()
env = typer.Typer(no_args_is_help=True, cls=NameFirst, help="Environment variables: muelle env NAME lists them.")
workloads.add_typer(env, name="env", rich_help_panel=PANEL)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Name = Annotated[str, typer.Argument(help="The workload's name, or its id.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Whether to wait until it is so.")]
Seconds = Annotated[float, typer.Option("--timeout", min=0.1, max=LONGEST_SECONDS, help="How many seconds to wait.")]


@workloads.command(rich_help_panel=PANEL)
def deploy(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[PATH|URL|IMAGE]", help="A folder, an archive, a file; a repository; the name of an image."
        ),
    ] = ".",
    name: Annotated[str, typer.Option(help="What it is called; else as the folder, repository or image is.")] = "",
    template: Annotated[Template | None, typer.Option(help="How it is built.", show_default=False)] = None,
    kind: Annotated[Kind | None, typer.Option(help="Of a new one.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Where it listens; 0: it does not.")] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option(
            "-e", "--env", metavar="NAME=VALUE", help="A variable; NAME alone takes it from here. Repeatable."
        ),
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, readable=True, help="Variables, a line each.")
    ] = None,
    memory: Annotated[str, typer.Option(help="Such as 512m or 2g.", show_default=False)] = "",
    cpu: Annotated[str, typer.Option(help="Such as 0.5 or 500m.", show_default=False)] = "",
    volume: Annotated[
        list[str] | None, typer.Option(metavar="NAME:/PATH", help="A disk that lasts. Repeatable.")
    ] = None,
    ref: Annotated[str, typer.Option(help="A repository's branch, tag or commit.")] = "",
    folder: Annotated[str, typer.Option(help="Where in the repository.")] = "",
    token: Annotated[
        str, typer.Option(metavar="VARIABLE", help="The variable that holds a repository's token; - asks for it.")
    ] = "",
    wait: Wait = True,
    timeout: Seconds = DEPLOY_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Brings something to run, and shows how it goes. What serves goes on until the new release has proved good."""
    from muelle.cli import wanted
    from muelle.cli.deploying import Wish
    from muelle.cli.deploying import deploy as do

    environment = wanted.variables_of_file(env_file) if env_file else {}
    options = wanted.Options(
        environment={**environment, **wanted.variables(variable or [])},
        port=port,
        memory_mib=wanted.mib(memory) if memory else None,
        cpu_millis=wanted.millis(cpu) if cpu else None,
        volumes=tuple(wanted.volume(text) for text in volume or []),
    )
    do(Wish(what, name, kind or "", template or "", ref, folder, token, options, wait, timeout, as_json))


@workloads.command(rich_help_panel=PANEL)
def ps(as_json: AsJson = False) -> None:
    """Your workloads, and how each is doing."""
    from muelle.cli.workloads import list_workloads

    list_workloads(as_json=as_json)


@workloads.command(rich_help_panel=PANEL)
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    number: Annotated[
        int | None, typer.Option("-n", min=1, max=MOST_LINES, help="The last so many; usually 100.")
    ] = None,
    since: Annotated[str, typer.Option(help="Only those of the last 30s, 10m, 2h or 1d.")] = "",
    grep: Annotated[str, typer.Option(help="Only lines with this text, in whatever case.")] = "",
    release: Annotated[int | None, typer.Option(min=0, help="Only those of this release.")] = None,
    build: Annotated[bool, typer.Option("--build", help="What the last build said.")] = False,
    times: Annotated[bool, typer.Option("--times", "-t", help="When each was written, and by which release.")] = False,
    as_json: AsJson = False,
) -> None:
    """What it has written, across all releases."""
    from muelle.cli.logs import Wanted, show_logs
    from muelle.cli.wanted import seconds_ago

    wanted = Wanted(number, seconds_ago(since) if since else None, grep, release, build, times, as_json)
    show_logs(name, wanted, follow=follow)


@workloads.command("open", rich_help_panel=PANEL)
def open_it(name: Name) -> None:
    """Prints where it is reached, and opens a browser where there is one."""
    from muelle.cli.workloads import open_workload

    open_workload(name)


@workloads.command(rich_help_panel=PANEL)
def stop(name: Name, wait: Wait = True, timeout: Seconds = CHANGE_SECONDS, as_json: AsJson = False) -> None:
    """Stops it, and what is on its way to it. Its volumes stay."""
    from muelle.cli import workloads as verbs

    verbs.stop(name, verbs.Waiting(wait, timeout), as_json=as_json)


@workloads.command(rich_help_panel=PANEL)
def start(name: Name, wait: Wait = True, timeout: Seconds = CHANGE_SECONDS, as_json: AsJson = False) -> None:
    """Starts it."""
    from muelle.cli import workloads as verbs

    verbs.start(name, verbs.Waiting(wait, timeout), as_json=as_json)


@workloads.command(rich_help_panel=PANEL)
def restart(name: Name, wait: Wait = True, timeout: Seconds = CHANGE_SECONDS, as_json: AsJson = False) -> None:
    """Starts it afresh; the old one serves until the new one answers."""
    from muelle.cli import workloads as verbs

    verbs.restart(name, verbs.Waiting(wait, timeout), as_json=as_json)


@workloads.command(rich_help_panel=PANEL)
def releases(name: Name, as_json: AsJson = False) -> None:
    """Its releases, the newest first."""
    from muelle.cli.workloads import list_releases

    list_releases(name, as_json=as_json)


@workloads.command(rich_help_panel=PANEL)
def rollback(
    name: Name,
    release: Annotated[
        int | None, typer.Argument(min=1, help="Which one; else the newest good one before the present.")
    ] = None,
    wait: Wait = True,
    timeout: Seconds = CHANGE_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Goes back to an earlier release."""
    from muelle.cli import workloads as verbs

    verbs.roll_back(name, release, verbs.Waiting(wait, timeout), as_json=as_json)


@workloads.command(rich_help_panel=PANEL)
def history(
    name: Name,
    number: Annotated[int, typer.Option("-n", min=1, max=MOST_LINES, help="The last so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """What happened to it, and why."""
    from muelle.cli.workloads import show_history

    show_history(name, number, as_json=as_json)


@workloads.command(rich_help_panel=PANEL)
def rename(
    name: Name, new: Annotated[str, typer.Argument(help="What it shall be called.")], as_json: AsJson = False
) -> None:
    """Gives it another name, and so another address."""
    from muelle.cli import workloads as verbs

    verbs.rename(name, new, as_json=as_json)


@workloads.command(rich_help_panel=PANEL)
def cancel(name: Name, as_json: AsJson = False) -> None:
    """Gives up the deployment that is under way. What serves goes on."""
    from muelle.cli import workloads as verbs

    verbs.cancel(name, as_json=as_json)


@workloads.command(rich_help_panel=PANEL)
def rm(
    name: Name,
    keep_volumes: Annotated[bool, typer.Option("--keep-volumes", help="Its disks stay.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = True,
    timeout: Seconds = CHANGE_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Deletes it, with its volumes."""
    from muelle.cli import workloads as verbs

    verbs.remove(name, verbs.Waiting(wait, timeout), keep_volumes=keep_volumes, sure=yes, as_json=as_json)


@env.command("list")
def env_list(name: Name, as_json: AsJson = False) -> None:
    """Its variables."""
    from muelle.cli.workloads import list_variables

    list_variables(name, as_json=as_json)


@env.command("set")
def env_set(
    name: Name,
    variable: Annotated[list[str], typer.Argument(metavar="NAME=VALUE…", help="NAME alone takes it from here.")],
    wait: Wait = True,
    timeout: Seconds = CHANGE_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Sets variables: a new release of the same image."""
    from muelle.cli import workloads as verbs

    verbs.set_variables(name, variable, verbs.Waiting(wait, timeout), as_json=as_json)


@env.command("unset")
def env_unset(
    name: Name,
    variable: Annotated[list[str], typer.Argument(metavar="NAME…", help="Which ones.")],
    wait: Wait = True,
    timeout: Seconds = CHANGE_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Takes variables away: a new release of the same image."""
    from muelle.cli import workloads as verbs

    verbs.unset_variables(name, variable, verbs.Waiting(wait, timeout), as_json=as_json)
