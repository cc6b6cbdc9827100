"""Nodes whose addresses change: reached where they were, followed to where they go.

See :mod:`provisioning.agent.network` for the node's side.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from paramiko.hostkeys import HostKeys

from cluster.errors import PracticumError
from cluster.model import Cluster
from provisioning.facts import Facts
from provisioning.resources import Declared, Network
from provisioning.session import Session
from provisioning.ssh import SSHTarget
from provisioning.transport import Target, TransportError

PAUSE = 0.5  # seconds between two tries
TRY = 3  # seconds for one
LATE = 30  # seconds after the timer within which the old settings are back


def former(target: Target, cluster: Cluster, known: Mapping[str, Any]) -> Iterator[SSHTarget]:
    """The same node at the addresses that it told last; not at what is another node's now."""
    if not isinstance(target, SSHTarget):
        return
    taken = {node.address for node in cluster.machines}
    for addresses in known.get("interfaces", {}).values():
        for one in addresses:
            address = one.partition("/")[0]
            if address not in taken:
                yield replace(target, address=address)


def follow(session: Session, target: SSHTarget, declared: Declared, seconds: int) -> Facts:
    """Connect ``session`` to ``target``, where the node should be by now, and have it keep its
    new settings. Its facts; PracticumError when it went back to the old ones."""
    old = session.target
    if not isinstance(old, SSHTarget):
        raise PracticumError(f"{session.name}: only a node reached by SSH can change its network")
    session.close()
    session.reporter.step(session.name, f"its network changes: looking for it at {target.address}")
    began = time.monotonic()
    session.target = replace(target, former=(old.address,), timeout=TRY)
    said = "no answer"
    gateway = _gateway(declared)
    while time.monotonic() < began + seconds:
        time.sleep(PAUSE)
        try:
            facts = session.open()
            if session.confirm(gateway):
                if told := _learn(target.known_hosts, old.address, target):
                    session.reporter.line(f"{session.name}: {told}")
                return facts
        except TransportError as error:
            said = str(error)
        except PracticumError as error:  # the node's own word: no use in asking again
            said = str(error)
            break
        session.close()
    session.close()
    raise PracticumError(_outcome(session, old, target, said, began + seconds + LATE))


def _outcome(
    session: Session, old: SSHTarget, target: SSHTarget, said: str, deadline: float
) -> str:
    """Wait until the node is back where it was, and tell."""
    text = f"the new network settings of {session.name} do not work ({said})"
    session.reporter.step(session.name, "waiting for its old network settings")
    session.target = replace(old, timeout=TRY)
    while time.monotonic() < deadline:
        try:
            session.open()
            waiting = not session.taken_back()
        except TransportError:
            waiting = True
        session.close()
        if not waiting:
            return (
                f"{text}, so it took the old ones back and answers at {old.address}: correct "
                "address, gateway or interface in cluster.toml and apply again"
            )
        time.sleep(PAUSE)
    return (
        f"{text}, and it does not answer at {old.address} either: give it a minute, then look at "
        f"its console (it should have gone back from {target.address} by itself)"
    )


def _gateway(declared: Declared) -> str:
    for _stage, resources in declared.stages:
        for resource in resources:
            if isinstance(resource, Network):
                return resource.gateway
    return ""


def _learn(known_hosts: Path, old: str, target: SSHTarget) -> str:
    """The host keys under the new address as well. A sentence when they cannot be written."""
    was, now = target.known_as(old), target.known_as(target.address)
    try:
        known = HostKeys(str(known_hosts))
        keys = (known.lookup(was) or {}).values()
        new = [f"{now} {key.get_name()} {key.get_base64()}\n" for key in keys
               if not known.check(now, key)]  # fmt: skip
        if new:
            ended = known_hosts.read_bytes()[-1:] in (b"", b"\n")
            with known_hosts.open("a", encoding="utf-8") as stream:
                stream.write(("" if ended else "\n") + "".join(new))
    except OSError as error:
        return f"the host key of {now} cannot be added to {known_hosts}: {error.strerror}"
    return ""
