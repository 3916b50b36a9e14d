"""What there is to type. The work is in the modules beside this one, loaded when their command is used.

Annotations are not put off here: they are read at each start, of every command, and twice as slowly as texts.
"""
# ruff: noqa: PLC0415

from typing import Annotated

import typer

from muelle import __version__
from muelle.cli.workload_commands import workloads

cli = typer.Typer(
    name="muelle",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Turns one Linux box into a cloud that its owner can hand to other people.",
)
admin = typer.Typer(no_args_is_help=True, help="Administrators, from the machine itself.")
config = typer.Typer(no_args_is_help=True, help="Settings.")
audit = typer.Typer(no_args_is_help=True, help="The audit log.")
keys = typer.Typer(no_args_is_help=True, help="Your API keys.")
bus = typer.Typer(no_args_is_help=True, help="Facts on their way between rooms.")
cli.add_typer(workloads)
cli.add_typer(admin, name="admin")
cli.add_typer(config, name="config")
cli.add_typer(audit, name="audit")
cli.add_typer(keys, name="keys")
cli.add_typer(bus, name="bus")

LONGEST_DAYS = 3650
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Server = Annotated[str, typer.Option("--server", help="Where Muelle listens.", envvar="MUELLE_SERVER")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"muelle {__version__}")
        raise typer.Exit


@cli.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None: ...


@cli.command()
def up() -> None:
    """Starts everything in one process and stays in the foreground. Ctrl-C ends it."""
    from muelle.cli.run import run_up

    run_up()


@cli.command()
def serve(rooms: Annotated[list[str], typer.Argument(help="Which rooms: identity, audit.")]) -> None:
    """Starts some rooms as a service of their own: the split shape, with RabbitMQ between the services."""
    from muelle.cli.run import run_serve

    run_serve(rooms)


@cli.command()
def migrate() -> None:
    """Upgrades the databases to what this version expects; `up` and `serve` do it by themselves."""
    from muelle.cli.upkeep import migrate_all

    migrate_all()


@cli.command()
def doctor(as_json: AsJson = False) -> None:
    """Says what works, what does not, and the command that mends it."""
    from muelle.cli.doctor import examine

    raise typer.Exit(examine(as_json=as_json))


@admin.command("create")
def admin_create(
    email: Annotated[str, typer.Argument(help="The address to log in with.")],
    name: Annotated[str, typer.Option(help="What to call them.")] = "Administrator",
) -> None:
    """Makes an administrator, or makes an existing account one; prints a fresh password, once."""
    from muelle.cli.upkeep import create_administrator

    create_administrator(email, name)


@config.command("show")
def config_show(as_json: AsJson = False) -> None:
    """The settings in force, and where each comes from. Secrets are not shown."""
    from muelle.cli.settings import show_settings

    show_settings(as_json=as_json)


@config.command("docs")
def config_docs() -> None:
    """Every setting there is, as Markdown."""
    from muelle.config import documentation

    print(documentation(), end="")


@audit.command("verify")
def audit_verify(
    expect: Annotated[str, typer.Option(help="The head's hash as you noted it: it has to be in the chain.")] = "",
    as_json: AsJson = False,
) -> None:
    """Re-computes the whole audit chain; names the first entry that was changed, and then ends with exit code 1."""
    from muelle.cli.upkeep import verify_audit

    raise typer.Exit(verify_audit(expect, as_json=as_json))


@bus.command("deliveries")
def bus_deliveries(as_json: AsJson = False) -> None:
    """What is parked (tried again by itself) or dead (not any more)."""
    from muelle.cli.upkeep import list_deliveries

    list_deliveries(as_json=as_json)


@bus.command("redrive")
def bus_redrive(
    room: Annotated[str, typer.Argument(help="Whose consumer it is, such as audit.")],
    consumer: Annotated[str, typer.Argument(help="Such as audit.record; `all` for all dead ones of the room.")],
    event_id: Annotated[str, typer.Argument(help="Which fact, by the id that `muelle bus deliveries` shows.")] = "",
) -> None:
    """Tries a dead delivery again, with all attempts ahead of it."""
    from muelle.cli.upkeep import redrive

    redrive(room, consumer, event_id)


@cli.command()
def login(
    email: Annotated[str, typer.Argument(help="The address to log in with.")] = "",
    server: Server = "",
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")] = False,
    code: Annotated[str, typer.Option(help="The second factor's code.")] = "",
) -> None:
    """Logs in and remembers it, for the commands that talk to a server."""
    from muelle.cli.remote import log_in

    log_in(email, server, password_stdin=password_stdin, code=code)


@cli.command()
def logout() -> None:
    """Closes the session and forgets it."""
    from muelle.cli.remote import log_out

    log_out()


@cli.command()
def whoami(as_json: AsJson = False) -> None:
    """Who the server takes you for."""
    from muelle.cli.remote import who_am_i

    who_am_i(as_json=as_json)


@cli.command("verify-email")
def verify_email(token: Annotated[str, typer.Argument(help="The code from the letter.")]) -> None:
    """Confirms your address with the code from the letter."""
    from muelle.cli.remote import confirm_email

    confirm_email(token)


@keys.command("list")
def keys_list(as_json: AsJson = False) -> None:
    """Your API keys, without their secrets."""
    from muelle.cli.remote import list_keys

    list_keys(as_json=as_json)


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="What to call it, such as what it is for.")],
    scope: Annotated[list[str], typer.Option(help="What it may do; several times for several.")] = ["*"],  # noqa: B006
    days: Annotated[int, typer.Option(min=0, max=LONGEST_DAYS, help="After how many days it expires; 0: never.")] = 365,
    as_json: AsJson = False,
) -> None:
    """Makes an API key and prints it, once."""
    from muelle.cli.remote import make_key

    make_key(name, scope, days, as_json=as_json)


@keys.command("revoke")
def keys_revoke(key: Annotated[str, typer.Argument(help="Its id, or how it begins.")]) -> None:
    """Revokes an API key."""
    from muelle.cli.remote import revoke_key

    revoke_key(key)


@cli.command("exec", rich_help_panel="Workloads")
def execute(
    name: Annotated[str, typer.Argument(help="The workload's name, or its id.", show_default=False)],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND…", help="Put -- before it.", show_default=False)],
    terminal: Annotated[
        bool | None,
        typer.Option(
            "--terminal/--no-terminal", "-t", help="Whether it gets a terminal; else as it is here.", show_default=False
        ),
    ] = None,
) -> None:
    """Runs a command in what runs already: `muelle exec shop -- sh`. Its exit code is the command's."""
    from muelle.cli.executing import execute as do

    do(name, command, terminal)
