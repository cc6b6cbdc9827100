"""A node by SSH: one connection with a verified host key, and on it an agent or plain commands."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.hostkeys import HostKeys

from cluster.model import Cluster, Node
from provisioning import payload
from provisioning.transport import (
    Channel,
    Lines,
    Message,
    NoPythonError,
    TransportError,
    encode,
)

KEEPALIVE_SECONDS = 15
# A peer that has answered nothing for so long is gone (tcp(7), TCP_USER_TIMEOUT).
DEAD_SECONDS = 60
PYTHON = "python3"


@dataclass(frozen=True)
class SSHTarget:
    """A node by SSH. ``key`` and ``known_hosts`` are files; unknown and changed host keys are
    refused."""

    name: str
    address: str
    user: str
    key: Path
    known_hosts: Path
    port: int = 22
    timeout: int = 10  # seconds, for each part of connecting
    former: tuple[str, ...] = ()  # addresses by which its host key may be known, too

    def open(self) -> Channel:
        transport = self.connect()
        try:
            program, blob = payload.build({})
            command = f"{PYTHON} -ISc {shlex.quote(program)}"
            return SSHChannel(self, transport, self.rooted(command), blob)
        except BaseException:
            transport.close()
            raise

    def rooted(self, command: str) -> str:
        return command if self.user == "root" else f"sudo -n {command}"

    def connect(self) -> paramiko.Transport:
        """A connection with a verified host key, logged in."""
        known = self._known_keys()
        connection = self._socket()
        transport = paramiko.Transport(connection)
        # Somebody is there, who may be busy. paramiko's own limits are 15 and 30 s.
        limit = max(self.timeout, transport.handshake_timeout)
        transport.banner_timeout = transport.handshake_timeout = limit
        transport.auth_timeout = max(self.timeout, transport.auth_timeout)
        try:
            self._prefer(transport, known)
            transport.start_client(timeout=limit)
            self._verify(transport.get_remote_server_key(), known)
            self._log_in(transport)
            transport.set_keepalive(KEEPALIVE_SECONDS)
        except BaseException as error:
            transport.close()
            raise self._explained(error) from error
        return transport

    @property
    def _where(self) -> str:
        port = "" if self.port == 22 else f" port {self.port}"
        return f"{self.name} ({self.address}{port})"

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, (paramiko.SSHException, OSError, EOFError)):
            said = str(error) or type(error).__name__
            return TransportError(
                f"{self._where} does not finish an SSH connection ({said}): is it an SSH server, "
                "and not overloaded?"
            )
        return error

    def _socket(self) -> socket.socket:
        try:
            found = socket.create_connection((self.address, self.port), timeout=self.timeout)
        except socket.gaierror as error:
            raise TransportError(
                f"the address of {self._where} cannot be resolved ({error.strerror}): correct it "
                "in cluster.toml"
            ) from error
        except OSError as error:
            reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or error
            raise TransportError(
                f"{self._where} does not answer ({reason}): is it switched on, on this network, "
                "and its SSH server running?"
            ) from error
        # paramiko sends small packets and waits for each answer; Nagle's delay adds up.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_SECONDS * 1000)
        return found

    def known_as(self, host: str) -> str:
        """The name of a host on this target's port in a known_hosts file (sshd(8))."""
        return host if self.port == 22 else f"[{host}]:{self.port}"

    def _known_keys(self) -> dict[str, paramiko.PKey]:
        """Known host keys by type, looked up by address and by name."""
        table = HostKeys()
        try:
            table.load(str(self.known_hosts))
        except FileNotFoundError:
            return {}
        except (OSError, paramiko.SSHException) as error:
            raise TransportError(f"{self.known_hosts} cannot be read: {error}") from error
        keys: dict[str, paramiko.PKey] = {}
        for host in (*self.former, self.name, self.address):
            keys.update(table.lookup(self.known_as(host)) or {})
        return keys

    def _prefer(self, transport: paramiko.Transport, known: Mapping[str, paramiko.PKey]) -> None:
        """Ask for a kind of host key that we know, as OpenSSH does."""
        if not known:
            return
        options = transport.get_security_options()
        wanted = [kind for kind in options.key_types if kind in known]
        if "ssh-rsa" in known:
            wanted += [kind for kind in options.key_types if kind.startswith("rsa-sha2")]
        if wanted:
            options.key_types = tuple(wanted)

    def _verify(self, key: paramiko.PKey, known: Mapping[str, paramiko.PKey]) -> None:
        print_ = f"SHA256:{_fingerprint(key)}"
        if not known:
            raise TransportError(
                f"{self._where} is not in {self.known_hosts}: compare its host key {print_} with "
                "the node's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then add it "
                f"there: ssh-keyscan {self.address} >> {self.known_hosts}"
            )
        if known.get(key.get_name()) != key:
            raise TransportError(
                f"{self._where} shows another host key ({print_}) than {self.known_hosts} has for "
                "it: if it was set up anew, remove its old line there and add the new key; if "
                "not, somebody is in between"
            )

    def _log_in(self, transport: paramiko.Transport) -> None:
        private = self._private_key()
        try:
            left = transport.auth_publickey(self.user, private)
        except paramiko.BadAuthenticationType as error:
            raise TransportError(f"{self._where} does not allow keys: {error}") from error
        except paramiko.AuthenticationException as error:
            raise TransportError(
                f"{self._where} refuses the key {self.key} for user {self.user}: put "
                f"{self.key}.pub into that user's ~/.ssh/authorized_keys there"
            ) from error
        if left:
            raise TransportError(f"{self._where} asks for more than a key: {', '.join(left)}")

    def _private_key(self) -> paramiko.PKey:
        try:
            return paramiko.PKey.from_path(self.key)
        except FileNotFoundError as error:
            raise TransportError(
                f"the SSH key {self.key} is missing: `practicum init` makes one, or set ssh.key "
                "in cluster.toml"
            ) from error
        except paramiko.PasswordRequiredException as error:
            raise TransportError(
                f"the SSH key {self.key} has a passphrase: practicum needs one without"
            ) from error
        except (OSError, ValueError, paramiko.SSHException) as error:
            raise TransportError(f"the SSH key {self.key} cannot be read: {error}") from error

    def run(self, command: str, timeout: float) -> tuple[int, str]:
        """One plain shell command, for a node without Python; exit status and output."""
        transport = self.connect()
        try:
            channel = transport.open_session(timeout=self.timeout)
            channel.set_combine_stderr(True)
            channel.settimeout(timeout)
            channel.exec_command(command)
            pieces = []
            while piece := channel.recv(1 << 16):
                pieces.append(piece)
            return channel.recv_exit_status(), b"".join(pieces).decode("utf-8", "replace")
        except (paramiko.SSHException, OSError) as error:
            raise TransportError(f"{self._where}: the connection ended ({error})") from error
        finally:
            transport.close()


def _fingerprint(key: paramiko.PKey) -> str:
    return str(key.fingerprint).rpartition(":")[2]


class SSHChannel:
    """One exec channel of one connection."""

    def __init__(
        self, target: SSHTarget, transport: paramiko.Transport, command: str, blob: bytes
    ) -> None:
        self._target = target
        self._transport = transport
        self._lines = Lines()
        try:
            self._channel = transport.open_session(timeout=target.timeout)
            self._channel.settimeout(target.timeout)
            self._channel.exec_command(command)
        except (paramiko.SSHException, OSError) as error:
            raise TransportError(f"{target.name}: no session can be opened ({error})") from error
        try:
            self._channel.sendall(blob)
        except (paramiko.SSHException, OSError) as error:
            raise self._ended() from error

    def send(self, message: Mapping[str, Any]) -> None:
        self._channel.settimeout(DEAD_SECONDS)
        try:
            self._channel.sendall(encode(message))
        except (paramiko.SSHException, OSError) as error:
            # What the other side said last tells why, if it said anything.
            raise self._ended() from error

    def receive(self, timeout: float) -> Message:
        self._channel.settimeout(timeout)
        while True:
            message = self._lines.next()
            if message is not None:
                return message
            try:
                data = self._channel.recv(1 << 20)
            except TimeoutError as error:
                raise TransportError(
                    f"{self._target.name} has said nothing for {timeout:.0f} s: see what keeps it "
                    "busy, then apply again"
                ) from error
            except (paramiko.SSHException, OSError) as error:
                raise self._ended() from error
            if not data:
                raise self._ended()
            self._lines.feed(data)

    def _ended(self) -> TransportError:
        status, said = -1, b""
        if self._transport.is_active():
            self._channel.settimeout(2)
            try:
                while piece := self._channel.recv_stderr(1 << 16):
                    said += piece
                if self._channel.status_event.wait(2):
                    status = self._channel.recv_exit_status()
            except OSError:  # it has nothing more to say
                pass
        return _why_ended(self._target.name, status, said.decode("utf-8", "replace"))

    def close(self) -> None:
        self._channel.close()
        self._transport.close()


def _why_ended(name: str, status: int, said: str) -> TransportError:
    """The agent did not get as far as speaking: the reason from what the shell and sudo said."""
    last = "\n".join(line for line in said.splitlines()[-5:])
    if "sudo:" in said and "command not found" not in said:
        return TransportError(
            f"sudo refuses on {name}: give the user NOPASSWD there (in /etc/sudoers.d), or set "
            f"ssh.user to root ({last})"
        )
    if status == 127 or "No module named" in said or "command not found" in said:
        return NoPythonError(
            f"{name} lacks a whole Python 3: apply installs it, a plan cannot ({last})"
        )
    if status == -1:
        return TransportError(
            f"the connection to {name} was lost: what was begun there is finished, then it stops; "
            "apply again"
        )
    return TransportError(f"the agent on {name} ended with status {status}: {last}")


def ssh_target(cluster: Cluster, node: Node, base: Path) -> SSHTarget:
    """How a node is reached. Paths in cluster.toml are relative to it."""
    ssh = cluster.ssh
    return SSHTarget(
        name=node.name,
        address=node.address,
        user=ssh.user,
        key=base / ssh.key,
        known_hosts=base / ssh.known_hosts,
        port=ssh.port,
        timeout=ssh.connect_timeout,
    )
