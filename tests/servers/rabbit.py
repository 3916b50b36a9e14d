"""RabbitMQ for tests: a private broker with its own node name, ports, data, logs and cookie, and without plugins."""

import os
import secrets
import signal
import socket
from pathlib import Path

from tests.servers.private import PrivateServer, free_port
from tests.servers.run import Command, Run

AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"

CONFIGURATION = """[
  {{rabbit, [
    {{tcp_listeners, [{{"127.0.0.1", {port}}}]}},
    {{default_user, <<"muelle">>}},
    {{default_pass, <<"{password}">>}}
  ]}}
].
"""


class Rabbit(PrivateServer):
    """A RabbitMQ of our own, in a node that knows no other."""

    name = "rabbitmq"
    stop_by = signal.SIGTERM
    drop_by = signal.SIGKILL  # it would take a second to say goodbye

    def __init__(self, program: Path, folder: Path, run: Run) -> None:
        super().__init__(program, folder, run)
        self._node = f"muelle-{secrets.token_hex(4)}@localhost"
        self._password = secrets.token_hex(16)
        self._node_port = free_port()

    @property
    def url(self) -> str:
        return f"amqp://muelle:{self._password}@127.0.0.1:{self.port}/"

    def has_written_down(self, queue: str) -> bool:
        """Whether a new quorum queue would survive a kill.

        RabbitMQ leaves a queue's identity in memory for about a second after it has answered the declaration. Killed
        before, it comes up with an empty queue of that name that never finds a leader, confirmed messages or not.
        """
        return any(queue.encode() in names.read_bytes() for names in self.folder.glob("data/*/quorum/*/names.dets"))

    def _prepare(self) -> None:
        self.folder.chmod(0o700)
        for name in ("home", "data", "logs"):
            (self.folder / name).mkdir()
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "advanced.config").write_text(CONFIGURATION.format(port=self.port, password=self._password))

    def _command(self) -> Command:
        return Command((str(self.program),), inherited() | self._settings())

    def _settings(self) -> dict[str, str]:
        """All that would otherwise be read from, or written to, a place that the machine's own broker uses."""
        return {
            "HOME": str(self.folder / "home"),  # bears the Erlang cookie
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the server: one process to stop or kill
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_CONFIG_FILES": str(self.folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "data"),
            "RABBITMQ_SCHEMA_DIR": str(self.folder / "data"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": self._erlang_arguments(),
        }

    def _erlang_arguments(self) -> str:
        """The node is alone: it needs no port mapper, which would outlive it, and listens on loopback only.

        The short busy waits halve the start: RabbitMQ sets none, and booting reads a thousand small files, each
        waiting for a thread to be woken.
        """
        return (
            f"-sname {self._node} -start_epmd false -erl_epmd_port {self._node_port} "
            "-kernel inet_dist_use_interface {127,0,0,1} +sbwt very_short +sbwtdio very_short"
        )

    def _is_ready(self, pid: int) -> bool:
        """Whether it answers a client's greeting; it opens its port when all else is done."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(AMQP_GREETING)
                return connection.recv(1) == METHOD_FRAME
        except OSError:
            return False


def inherited() -> dict[str, str]:
    """Ours without what would make it join, or be taken for, another broker."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_", "NOTIFY_"))}
