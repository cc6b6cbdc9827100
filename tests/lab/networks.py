"""Two bare nodes whose network a test may describe as it likes, and machines beside them."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from bare_nodes import Nodes, bare_lab

from cluster.load import load
from cluster.model import Cluster
from provisioning import lab as labs
from provisioning.lab import network as lab_network
from provisioning.lab import nodes as lab_nodes


class Networked(Nodes):
    def described(self, node01: str = "", **net: object) -> Cluster:
        """The lab's cluster with another address of node01, and other words of [network]."""
        wanted = self.cluster.network.model_copy(update=net)
        entries = tuple(
            entry.model_copy(update={"address": node01}) if node01 and entry.name == "node01"
            else entry
            for entry in self.cluster.nodes
        )  # fmt: skip
        return self.cluster.model_copy(update={"network": wanted, "nodes": entries})

    def inside(self, node: str, *argv: str) -> str:
        """A command in a node by way of the host's kernel: whatever its network is like."""
        leader = lab_nodes.supervisors(self.info.name, node)
        inits = [child for one in leader for child in _children(one.pid) if _is_init(child)]
        done = subprocess.run(
            ["nsenter", "--target", str(inits[0]), "--all", "--", *argv],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def bare() -> Iterator[Networked]:
    """A lab of the file's own, for its addresses change."""
    with bare_lab("net") as info:
        yield Networked(info)


def _children(pid: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


def _is_init(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as stream:
        return any(line.split()[0] == "NSpid:" and line.split()[-1] == "1" for line in stream)


@contextmanager
def on_network(lab: labs.LabInfo) -> Iterator[str]:
    """A machine on the lab's network that is none of its nodes: the name of its namespace."""
    name = f"far-{secrets.token_hex(3)}"
    subnet = load(lab.cluster_toml).network.network
    address = f"{subnet[240]}/{subnet.prefixlen}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, timeout=20)

    ip("netns", "add", name)
    try:
        ip("link", "add", "far0", "netns", name, "type", "veth", "peer", "name", name)
        ip("link", "set", name, "master", lab_network.bridge(lab.name), "up")
        ip("-n", name, "addr", "add", address, "dev", "far0")
        ip("-n", name, "link", "set", "far0", "up")
        yield name
    finally:
        ip("netns", "delete", name)
