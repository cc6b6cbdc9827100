"""Rebooting and switching off machines: what one does, told and waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import PracticumError
from cluster.hostlist import fold
from cluster.model import Cluster, Node, NodeRole
from cluster.sinfo import NodeState
from provisioning.controller import Controller
from provisioning.remote import Remote
from provisioning.report import Reporter
from provisioning.ssh import ssh_target
from provisioning.transport import TransportError

THREADS = 32
BOOT_SECONDS = 900  # a Pi that checks its card takes minutes
OFF_SECONDS = 300
SILENT_PROBES = 3
STOPPING_SECONDS = 90  # until what stops is off (systemd kills what has not ended by then)
READY_SECONDS = 180  # until slurmd has registered
POLL_SECONDS = 2.0
REASON = "practicum: reboot"  # a drain of ours, also of a run that was interrupted
DRAINED = (NodeState.DRAINED, NodeState.DRAINING)


def is_here(node: Node) -> bool:
    """Whether that node is the machine we run on: only an own address can be bound to."""
    kind = socket.AF_INET6 if ":" in node.address else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((node.address, 0))
        except OSError:
            return False
    return True


def is_compute_only(node: Node) -> bool:
    return node.roles == frozenset({NodeRole.COMPUTE})


@dataclass
class Outcome:
    """What became of each node: a sentence, and whether it is a failure."""

    said: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Rebooting:
    """Drain, wait for jobs, reboot, wait for the node, give it jobs again."""

    def __init__(self, cluster: Cluster, base: Path, reporter: Reporter) -> None:
        self.cluster = cluster
        self.base = base
        self.reporter = reporter
        self.controller = Controller(cluster, base)
        self.outcome = Outcome()
        self._ours: set[str] = set()
        self._asking = threading.Lock()  # one question to the controller at a time is enough

    def run(self, nodes: Sequence[Node], *, wait_seconds: float, now: bool = False) -> Outcome:
        """All at once; machines that are more than compute nodes last, one by one. With ``now``
        jobs are not waited for."""
        compute = [node for node in nodes if node.has(NodeRole.COMPUTE)]
        self._drain([node.name for node in compute])
        by_name = {node.name: node for node in nodes}
        with ThreadPoolExecutor(THREADS) as pool:

            def freed(name: str) -> None:
                if is_compute_only(by_name[name]):
                    pool.submit(self._one, by_name[name])

            names = [node.name for node in compute]
            left: list[str] = []
            if now:
                for name in names:
                    freed(name)
            else:
                left = self.controller.wait_free(names, wait_seconds, self.reporter.line, freed)
        for name in left:
            self.outcome.failed[name] = (
                f"jobs still run on {name}: it stays drained; wait longer with --wait, or end "
                "them with --now"
            )
        for node in nodes:
            if not is_compute_only(node) and node.name not in left:
                self._one(node)
        return self.outcome

    def _drain(self, names: Sequence[str]) -> None:
        """Nodes that somebody else drained stay so in the end."""
        if not names:
            return
        views = self.controller.views()
        free = []
        for name in names:
            view = views.get(name)
            if view is None:
                continue
            if view.state not in DRAINED:
                free.append(name)
            if view.state not in DRAINED or view.reason == REASON:
                self._ours.add(name)
        if free:
            self.controller.drain(free, REASON)

    def _one(self, node: Node) -> None:
        try:
            self.outcome.said[node.name] = self._reboot(node)
        except PracticumError as error:
            text = str(error)
            if node.name in self._ours and "node resume" not in text:
                text += f"; it stays drained: practicum node resume {node.name} when it is back"
            self.outcome.failed[node.name] = text

    def _reboot(self, node: Node) -> str:
        began = time.monotonic()
        with Remote(ssh_target(self.cluster, node, self.base)) as remote:
            before = boot_mark(remote)
            self.reporter.node_state(node.name, "rebooting")
            order(remote, "reboot")
        wait_for_boot(self.cluster, node, self.base, before)
        took = f"rebooted in {time.monotonic() - began:.0f} s"
        if not node.has(NodeRole.COMPUTE):
            self.reporter.node_state(node.name, "is back")
            return took
        self.reporter.node_state(node.name, "waiting for slurmd")
        with self._asking:
            if self.controller.wait_ready(node.name, READY_SECONDS) is None:
                raise PracticumError(
                    f"{node.name} is back, but Slurm does not hear of it: see practicum status"
                )
            if node.name not in self._ours:
                return f"{took}; it stays drained, as it was before"
            self.controller.resume([node.name])
        self.reporter.node_state(node.name, "is back")
        return f"{took}, takes jobs again"


def boot_mark(remote: Remote) -> str:
    """Another after every boot: the kernel's id of it, and (in containers, which share that) the
    start time of the first process (proc(5), stat, field 22)."""
    done = remote.run(["cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat"], check=True)
    boot, _, stat = done.out.partition("\n")
    return f"{boot.strip()} {stat.rpartition(')')[2].split()[19]}"


def order(remote: Remote, verb: str) -> None:
    """Tell systemd. The connection may end before it has said that it will."""
    try:
        done = remote.run(["systemctl", "--no-block", verb], timeout=30)
    except TransportError:
        return
    if done.code not in (0, -1):
        raise PracticumError(f"{remote.target.name} does not {verb}: {done.said}")


def wait_for_boot(cluster: Cluster, node: Node, base: Path, before: str) -> None:
    """PracticumError when the node has not come back in BOOT_SECONDS."""
    end = time.monotonic() + BOOT_SECONDS
    said = "it does not answer"
    while time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        try:
            with Remote(ssh_target(cluster, node, base)) as remote:
                if boot_mark(remote) != before:
                    return
                said = "it still runs as before"
        except TransportError as error:
            said = str(error)
    raise PracticumError(
        f"{node.name} has not come back within {BOOT_SECONDS // 60} minutes ({said}): look at its "
        "screen; then practicum node reboot again, or node resume"
    )


def is_up(node: Node, port: int) -> bool:
    """Whether its kernel still answers: with "refused" too, while it stops what it runs and
    unmounts what others serve."""
    try:
        socket.create_connection((node.address, port), timeout=2).close()
    except ConnectionError:
        return True
    except OSError:  # nobody there
        return False
    return True


def which_are_up(nodes: Sequence[Node], port: int) -> list[Node]:
    """Those of them whose kernel answers."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda node: is_up(node, port), nodes))
    return [node for node, up in zip(nodes, found, strict=True) if up]


def _is_silent(node: Node, port: int) -> bool:
    """For some seconds: a packet may be lost, and a switch may need a moment."""
    for _ in range(SILENT_PROBES):
        if is_up(node, port):
            return False
        time.sleep(1)
    return True


def _takes_ssh(node: Node, port: int) -> bool:
    try:
        with socket.create_connection((node.address, port), timeout=2) as connection:
            return bool(connection.recv(4))
    except OSError:
        return False


def switch_off(
    cluster: Cluster,
    base: Path,
    nodes: Sequence[Node],
    reporter: Reporter,
    witnesses: Sequence[Node],
) -> dict[str, str]:
    """Switch several machines off and wait until all are; sentences of what failed.

    A machine that is silent counts as off only as long as something else shows that this one still
    has its network: one of ``witnesses``, which were up and stay so for now; where there is none,
    that it, or another of ``nodes``, was heard a moment before. The machine we run on is told, and
    not waited for.
    """
    failed: dict[str, str] = {}
    heard: set[str] = set()
    port = cluster.ssh.port

    def one(node: Node) -> None:
        try:
            if _is_silent(node, port):
                return
            heard.add(node.name)
            if _takes_ssh(node, port):
                with Remote(ssh_target(cluster, node, base)) as remote:
                    reporter.node_state(node.name, "switching off")
                    order(remote, "poweroff")
                if not is_here(node):  # which ends this command, too
                    late = f"still answers after {OFF_SECONDS} s: look at it"
                    _until_silent(node, port, OFF_SECONDS, late)
            else:  # an earlier run may have told it
                reporter.node_state(node.name, "takes no SSH; waiting whether it goes off")
                late = "is on, but its SSH server does not answer: switch it off by hand"
                _until_silent(node, port, STOPPING_SECONDS, late)
        except PracticumError as error:
            failed[node.name] = str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, nodes))
    silent = [node for node in nodes if node.name not in failed]
    failed |= _doubted(cluster, silent, heard, witnesses)
    for node in silent:
        if node.name not in failed:
            reporter.node_state(node.name, "is off")
    return failed


def _doubted(
    cluster: Cluster, silent: Sequence[Node], heard: Collection[str], witnesses: Sequence[Node]
) -> dict[str, str]:
    """Which silent machines may still be on, with the reason."""
    if witnesses:
        if which_are_up(witnesses, cluster.ssh.port):
            return {}
        names = fold(node.name for node in witnesses)
        return {
            node.name: f"{node.name} does not answer any more, and neither does {names}, which was "
            "not to go off yet: is this machine still on the cluster's network?"
            for node in silent
        }
    if heard or any(is_here(node) for node in cluster.machines):
        return {}
    return {
        node.name: f"{node.name} does not answer, and no other machine does: it is off, or this "
        "machine is not on the cluster's network"
        for node in silent
    }


def _until_silent(node: Node, port: int, seconds: float, late: str) -> None:
    """PracticumError, that it is ``late``, when it answers after that time."""
    end = time.monotonic() + seconds
    while not _is_silent(node, port):
        if time.monotonic() > end:
            raise PracticumError(f"{node.name} {late}")
        time.sleep(0.5)


def tiers(nodes: Sequence[Node]) -> list[list[Node]]:
    """In which order machines go off: compute nodes, then what they rest on, storage last, and
    the machine we run on after all others."""
    first: list[Node] = []
    second: list[Node] = []
    third: list[Node] = []
    for node in nodes:
        if is_here(node):
            continue
        place = third if node.has(NodeRole.STORAGE) else first if is_compute_only(node) else second
        place.append(node)
    here = [node for node in nodes if is_here(node)]
    return [tier for tier in (first, second, third, here) if tier]
