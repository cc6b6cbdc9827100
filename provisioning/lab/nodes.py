"""Nodes: containers that boot a guest tree with systemd-nspawn, an overlay each."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import PracticumError
from provisioning.lab import network, settings, spawn
from provisioning.lab.model import LabNode
from provisioning.lab.system import (
    CACHE,
    Process,
    arguments,
    filesystem,
    mounts,
    parent,
    processes_with,
    remove_tree,
    run,
    tail,
    write,
)

BOOT_TIMEOUT = 240  # seconds until sshd answers
UNIT_TIMEOUT = 30  # seconds in which a unit that was stopped is forgotten
MUTE_TIMEOUT = 60  # seconds that a node which runs already is given
# Downloads of uv, pip and npm, run by root on the nodes, are kept between labs.
CACHES = (
    ("uv", "/var/cache/practicum/uv"),
    ("uv", "/root/.cache/uv"),
    ("pip", "/root/.cache/pip"),
    ("npm", "/root/.npm"),
    ("uv-build", "/var/cache/practicum-build"),  # of the account that builds kernels
)
_SYSTEMD = Path("/run/systemd/system")  # there when PID 1 is systemd (sd_booted(3))
_NSPAWN_RUN = Path("/run/systemd/nspawn")


@dataclass(frozen=True)
class Container:
    """One node of one lab, before or after it runs."""

    lab: str
    folder: Path  # the lab's own
    node: LabNode
    tree: Path
    subnet: ipaddress.IPv4Network

    @property
    def machine(self) -> str:
        """Its name for systemd-nspawn; a lab's name has no dots, so it is no other's prefix."""
        return machine(self.lab, self.node.name)

    @property
    def place(self) -> Path:
        return self.folder / "nodes" / self.node.name

    @property
    def upper(self) -> Path:
        """What the node changed in its tree."""
        return self.place / "upper"

    @property
    def log(self) -> Path:
        return self.place / "console.log"


def machine(lab: str, node: str) -> str:
    return f"practicum.{lab}.{node}"


def supervisors(lab: str, node: str = "") -> list[Process]:
    """systemd-nspawn and its keeper, of a node or of all nodes, found by the exact name they
    were given: no record of ours could be as true."""
    wanted = f"--machine={machine(lab, node)}"
    found = processes_with(wanted)
    return [one for one in found if not node or wanted.encode() in arguments(one.pid)]


def prepare(
    container: Container, *, host_key: tuple[str, str], authorized: str, names: Mapping[str, str]
) -> None:
    """Write what makes this node itself: name, address, keys. ``host_key`` = (private, public);
    ``names`` = addresses by node name."""
    upper = container.upper
    for folder in ("etc/ssh", "etc/systemd/network", "root/.ssh"):
        (upper / folder).mkdir(parents=True, exist_ok=True)
    for name in ("work", "root"):
        (container.place / name).mkdir(exist_ok=True)
    for folder in ("root", "root/.ssh"):
        (upper / folder).chmod(0o700)
    private, public = host_key
    prefix = container.subnet.prefixlen
    servers = "".join(f"nameserver {server}\n" for server in settings.nameservers())
    own_hosts = "".join(f"{where} {name}\n" for name, where in names.items())
    # Sorts before systemd's own 80-container-host0.network, which would ask for DHCP.
    link = (
        "[Match]\nName=host0\n\n[Network]\n"
        f"Address={container.node.address}/{prefix}\nGateway={network.gateway(container.subnet)}\n"
        "DHCP=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\nEmitLLDP=no\n"
    )
    env = settings.environment(os.environ, settings.has_own_certificates(), str(container.subnet))
    for name, text, mode in (
        ("etc/hostname", f"{container.node.name}\n", 0o644),
        ("etc/hosts", f"127.0.0.1 localhost\n{own_hosts}", 0o644),
        ("etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444),
        ("etc/environment", env, 0o644),
        ("etc/systemd/network/10-practicum.network", link, 0o644),
        ("etc/ssh/ssh_host_ed25519_key", private, 0o600),
        ("etc/ssh/ssh_host_ed25519_key.pub", public, 0o644),
        ("root/.ssh/authorized_keys", authorized, 0o600),
    ):
        if not (upper / name).exists():  # after a restart it is the node's own, and the roles'
            write(upper / name, text, mode)
    resolver = upper / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    write(resolver, servers)


def start(container: Container) -> None:
    """Start a prepared node; it goes on when we end. Does not wait for it to boot."""
    _remove_leftovers(container.machine, exactly=True)  # if it was killed, not stopped
    for shared in (container.folder / "shared/home", container.folder / "shared/nfs"):
        shared.mkdir(parents=True, exist_ok=True)
    binds = [(container.folder / "shared/home", "/home"), (container.folder / "shared/nfs", "/nfs")]
    for name, target in CACHES:
        (CACHE / name).mkdir(parents=True, exist_ok=True)
        binds.append((CACHE / name, target))
    root = container.place / "root"
    overlay = (
        f"lowerdir={container.tree},upperdir={container.upper},workdir={container.place / 'work'}"
    )
    nspawn = [
        "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
        f"--directory={root}", f"--machine={container.machine}",
        f"--hostname={container.node.name}", f"--network-bridge={network.bridge(container.lab)}",
        "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe",
        *(f"--bind={source}:{target}" for source, target in binds),
        # systemd ≥ 256 starts on cgroup v1 and hybrid hosts only when told to
        *(["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"] if legacy_cgroups() else []),
    ]  # fmt: skip
    spawner = [sys.executable, "-I", spawn.__file__, str(root), overlay]
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",  # /tmp as large as the disk: builds happen there
    }
    if _SYSTEMD.is_dir():
        _start_as_unit(container, [*spawner, "--", *nspawn], environment)
        return
    groups = [group / container.machine for group in hierarchies()]
    for group in groups:
        group.mkdir(exist_ok=True)
    with container.log.open("wb") as log:
        subprocess.Popen(
            [*spawner, *map(str, groups), "--", *nspawn],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True, env=environment, cwd="/",
        )  # fmt: skip


def _start_as_unit(
    container: Container, command: list[str], environment: Mapping[str, str]
) -> None:
    """Where systemd runs this machine: a unit of its own, which outlives the admin's session."""
    _unit_gone(f"{container.machine}.service")
    run(
        [
            "systemd-run", "--quiet", "--collect", f"--unit={container.machine}",
            "--property=Delegate=yes", "--property=KillMode=mixed", "--property=TimeoutStopSec=20",
            "--property=TasksMax=infinity", f"--property=StandardOutput=file:{container.log}",
            f"--property=StandardError=file:{container.log}",
            *(f"--setenv={key}={value}" for key, value in environment.items()),
            "--", *command,
        ],
        timeout=30,
    )  # fmt: skip


def _unit_gone(unit: str) -> None:
    """A container that has just ended leaves its unit for a moment, and systemd-run then refuses
    the name. PracticumError when it stays."""
    run(["systemctl", "--quiet", "stop", unit], timeout=60, check=False)  # it may be unknown
    deadline = time.monotonic() + UNIT_TIMEOUT
    shown = ["systemctl", "show", "--property=LoadState", "--value", unit]
    while (state := run(shown, timeout=30).stdout.strip()) != "not-found":
        if time.monotonic() > deadline:
            raise PracticumError(
                f"{unit} of an earlier start stays ({state}): systemctl stop {unit}"
            )
        time.sleep(0.1)


def hierarchies() -> list[Path]:
    """Control-group trees that systemd in a node will manage: cgroup v2 and v1's `name=systemd`."""
    found = []
    for where, kind, options in mounts():
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(where)
    return found


def legacy_cgroups() -> bool:
    """Is this machine's /sys/fs/cgroup something else than pure version 2?"""
    return (Path("/sys/fs/cgroup"), "cgroup2") not in [(where, kind) for where, kind, _ in mounts()]


def wait_for_ssh(containers: Iterable[Container], say: Callable[[str, str], None]) -> None:
    """Wait until every node's sshd answers. PracticumError names the node and quotes what it
    wrote on its console when it ends, or does not answer in time."""
    deadline = time.monotonic() + BOOT_TIMEOUT
    for container in containers:
        while not _ssh_answers(container.node.address):
            gone = not supervisors(container.lab, container.node.name)
            if gone and time.monotonic() > deadline - BOOT_TIMEOUT + 5:
                raise PracticumError(
                    f"node {container.node.name} did not boot: {_console(container)}"
                )
            if time.monotonic() > deadline:
                raise PracticumError(
                    f"node {container.node.name} did not answer at {container.node.address}:22 "
                    f"within {BOOT_TIMEOUT} s: {_console(container)}"
                )
            time.sleep(0.1)
        say(container.node.name, "booted")


def stop_mute(containers: Iterable[Container], say: Callable[[str, str], None]) -> None:
    """Stop those that run but whose sshd does not answer, for :func:`start` to do better:
    an ``up`` that was killed may have left a node half-started."""
    running = [one for one in containers if supervisors(one.lab, one.node.name)]
    deadline = time.monotonic() + MUTE_TIMEOUT
    for container in running:
        while not (answers := _ssh_answers(container.node.address)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if not answers:
            say(container.node.name, "does not answer: starting it again")
            stop(container.lab, container.node.name)


def _ssh_answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _console(container: Container) -> str:
    text = container.log.read_text(errors="replace") if container.log.exists() else ""
    return f"{tail(text)} (console: {container.log})"


def stop(lab: str, node: str = "", *, patience: float = 6) -> None:
    """Stop a lab's nodes (or one): ask politely, then end them; their control groups go too.

    Looks again until there is none: one may have been starting another as it ended.
    PracticumError when a process does not end even then.
    """
    asked: set[Process] = set()
    begun = time.monotonic()
    while running := supervisors(lab, node):
        waited = time.monotonic() - begun
        if waited > patience + 10:
            raise PracticumError(
                f"process {running[0].pid} of lab {lab} does not end (it hangs in the kernel): "
                "try again later, or restart this machine"
            )
        numbers = {process.pid for process in running}
        for process in running:
            if waited > patience:
                process.kill(signal.SIGKILL)  # a container's PID 1 dies with it, and all in it
            elif process not in asked and parent(process.pid) not in numbers:
                process.kill(signal.SIGTERM)  # once each: systemd-nspawn takes two for haste
            asked.add(process)
        time.sleep(0.1)
    _remove_leftovers(machine(lab, node), exactly=bool(node))
    if supervisors(lab, node):
        stop(lab, node, patience=0)


def _remove_leftovers(name: str, *, exactly: bool) -> None:
    """Control groups, links and systemd-nspawn's own files of that machine, or of all whose
    names begin so. Without its control group, a container that is only starting cannot go on."""
    pattern = name if exactly else f"{name}*"
    network.remove_links(f"vb-{name}", exactly=exactly)
    for hierarchy in hierarchies():
        for group in hierarchy.glob(pattern):
            _remove_group(group)
    for kind in ("propagate", "unix-export"):
        for left in (_NSPAWN_RUN / kind).glob(pattern):
            remove_tree(left)


def _remove_group(group: Path) -> None:
    """End what is still in a node's control group (it dies later than systemd-nspawn, under
    load) and remove it. PracticumError when a process does not end."""
    deadline = time.monotonic() + 20
    while group.is_dir():
        inside = [folder for folder in group.rglob("*") if folder.is_dir()]
        left: list[str] = []
        for folder in [*sorted(inside, reverse=True), group]:
            with contextlib.suppress(OSError):  # gone, or busy until its last process is reaped
                left += (folder / "cgroup.procs").read_text().split()
                folder.rmdir()
        if time.monotonic() > deadline:
            raise PracticumError(
                f"{group} cannot be removed (processes {', '.join(left) or 'unknown'} do not "
                "end): try again later, or restart this machine"
            )
        for number in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)
        time.sleep(0.02)


def check_storage(folder: Path) -> None:
    """PracticumError where an overlay's upper directory cannot be."""
    kind = filesystem(folder)
    if kind in {"overlay", "nfs", "nfs4", "fuse", "9p", "virtiofs"}:
        raise PracticumError(
            f"{folder} is on {kind}, which cannot hold the nodes' overlays: mount a local file "
            f"system (or a tmpfs) on {folder} and run this again"
        )
