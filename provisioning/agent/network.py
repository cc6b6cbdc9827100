"""An interface's settings, changed so that a mistake does not cost the node.

The agent only arms it: a timer is set that puts the old files back, old and new ones go into one
record, and once the client has been told systemd starts the change a second later. Then the agent
ends, for its connection may not live on. Who applies connects again, under the new address, and
confirms; else the timer fires. A restart in between takes the change back too. What runs is
``roles/files/network-switch.py``, a unit of its own, so the agent's death changes nothing.
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

from provisioning.agent.files import unified
from provisioning.agent.host import AgentError, Host
from provisioning.agent.record import FOLDER
from provisioning.agent.work import Change, Run, Wire, Work

PLACE = f"{FOLDER}/network"
CHANGE = f"{PLACE}/change.json"
APPLIED = f"{PLACE}/applied"  # there once the new settings are in place
CONFIRMED = f"{PLACE}/confirmed.json"
TAKING = f"{PLACE}/taking-back.json"  # there while the old settings are put in place
SWITCH = "/usr/local/lib/practicum/network-switch.py"
BACK, APPLY = "practicum-network-back-timer", "practicum-network-apply"
INTERFACES = "/etc/network/interfaces"
SOURCE = "source /etc/network/interfaces.d/*"
GATEWAY_SECONDS = 10.0
SETTLE_SECONDS = 30.0  # for a network manager to take the old settings back
BUSY = (
    "a change of this node's network is waiting to be confirmed or taken back: "
    "apply again in a minute"
)
Command = list[str]
File = tuple[str, int]  # text, mode


class NetworkUnit:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.members = [wire]

    def examine(self, run: Run) -> Work | None:
        wire = self.wire
        old, new = self._differing(run.host)
        if not new:
            return self._tried(run)
        way = f", gateway {wire['gateway']}" if wire["gateway"] else ""
        summary = (
            f"give {wire['interface']} the address {wire['address']}{way} by {wire['manager']}; "
            f"taken back unless practicum reaches the node within {wire['seconds']} s"
        )
        diff = "\n".join(unified(path, (old[path] or ("", 0))[0], new[path][0]) for path in new)
        return Work(
            [Change(wire["key"], "update", summary, diff)],
            lambda: self._arm(run),
            lambda: None,
            wire["notify"],
        )  # fmt: skip

    def _tried(self, run: Run) -> Work | None:
        """Nothing is to be done, unless nobody has confirmed yet what is there: who made the change
        was interrupted, and it would be taken back behind the back of an apply that says all is
        well."""
        if run.host.exists(TAKING):
            raise AgentError(BUSY)
        if not run.host.exists(CHANGE):
            return None
        summary = f"keep the network settings that {self.wire['interface']} is being tried with"
        return Work([Change(self.wire["key"], "update", summary)], lambda: _move(run))

    def _differing(self, host: Host) -> tuple[dict[str, File | None], dict[str, File]]:
        """Of the files that are not as wanted: what they are, and what they should be."""
        new = self._new(host)
        old = {path: _old(host, path) for path in new}
        differ = [path for path in new if old[path] != new[path]]
        return {path: old[path] for path in differ}, {path: new[path] for path in differ}

    def _new(self, host: Host) -> dict[str, File]:
        new = {path: (text, mode) for path, text, mode in self.wire["files"]}
        if self.wire["manager"] == "ifupdown":
            text = without_interface(host.text(INTERFACES), self.wire["interface"])
            new[INTERFACES] = (text, host.look(INTERFACES, follow=True).mode or 0o644)
        return new

    def _arm(self, run: Run) -> None:
        host = run.host
        if host.exists(CHANGE) or not _settled(host):
            raise AgentError(BUSY)
        if host.exists(TAKING):
            raise AgentError(
                "this node's former network settings could not all be put back (is its disk "
                "full?): restart it, which tries again, then apply again"
            )
        old, new = self._differing(host)  # those of a change that was taken back meanwhile are back
        host.makedirs(FOLDER, 0o700)
        host.makedirs(PLACE, 0o700)
        ways = commands(self.wire["manager"], self.wire["interface"])
        for left in (APPLIED, CONFIRMED):  # of the change before
            host.remove(left)
        _start(host, BACK, self.wire["seconds"], "back")
        host.write(CHANGE, json.dumps({"old": old, "new": new, **ways}).encode(), 0o600, 0, 0)
        _move(run)

    @staticmethod
    def entry(_run: Run, wire: Wire) -> dict[str, Any]:
        return {"interface": wire["interface"]}


def _move(run: Run) -> None:
    run.moving = True


def go(host: Host) -> None:
    """Start the change that is armed; nothing when it was started before."""
    begun = host.exists(APPLIED) or _active(host, f"{APPLY}.timer", f"{APPLY}.service")
    if not host.exists(CHANGE) or begun:
        return
    try:
        _start(host, APPLY, 1, "apply")
    except AgentError:
        host.remove(CHANGE)  # nothing was changed: who asks to confirm is told at once
        raise


def _old(host: Host, path: str) -> File | None:
    seen = host.look(path, follow=True)
    if seen.kind != "file":
        return None
    return seen.content.decode("utf-8", "surrogateescape"), seen.mode


def _settled(host: Host) -> bool:
    """Whether the change before, which was confirmed or taken back, is over; its timer, which may
    have been set for longer, is not needed any more."""
    host.run(["systemctl", "stop", f"{BACK}.timer"], timeout=30)  # fails where there is none
    end = time.monotonic() + SETTLE_SECONDS
    while _active(host, f"{BACK}.service", f"{APPLY}.service"):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _active(host: Host, *units: str) -> bool:
    """Whether one of them is (systemctl(1), is-active)."""
    return host.run(["systemctl", "is-active", "--quiet", *units], timeout=30).code == 0


def _start(host: Host, unit: str, seconds: int, verb: str) -> None:
    argv = [
        "systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--on-active={seconds}s",
        "--timer-property=AccuracySec=100ms", "/usr/bin/python3", "-I", SWITCH, verb,
    ]  # fmt: skip
    outcome = host.run(argv, timeout=30)
    if outcome.code != 0:
        raise AgentError(f"systemd-run cannot arm a change of the network: {outcome.tail(3)}")


def commands(manager: str, interface: str) -> dict[str, list[Command]]:
    """What runs before the files change, after new ones and after old ones are in place, and after
    old ones while the node starts up."""
    if manager == "networkd":
        both = [["networkctl", "reload"], ["networkctl", "reconfigure", interface]]
        return {"before": [], "after_new": both, "after_old": both, "at_boot": []}
    if manager == "NetworkManager":
        reload = ["nmcli", "connection", "reload"]
        return {
            "before": [],
            "after_new": [reload, ["nmcli", "connection", "up", "practicum"]],
            "after_old": [reload, ["nmcli", "device", "connect", interface]],
            "at_boot": [],
        }
    if manager.startswith("netplan"):
        # before any unit starts, systemd has it write files for networkd or NetworkManager
        made = ["netplan", "generate"]
        apply = ["netplan", "apply"]
        return {"before": [], "after_new": [made, apply], "after_old": [apply], "at_boot": [made]}
    down = [
        ["ifdown", "--force", interface],
        ["ip", "address", "flush", "dev", interface, "scope", "global"],
    ]
    up = [["ifup", interface]]
    return {"before": down, "after_new": up, "after_old": up, "at_boot": []}


def without_interface(text: str, interface: str) -> str:
    """/etc/network/interfaces without the IPv4 stanza of an interface and the words that bring it
    up, and with the folder of further files read (interfaces(5)). Doing it twice changes nothing.
    """
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        words = line.split()
        first = words[0] if words else ""
        if first in ("iface", "mapping", "auto", "source", "source-directory", "rename",
                     "no-auto-down", "no-scripts") or first.startswith("allow-"):  # fmt: skip
            inside = first == "iface" and words[1:3] == [interface, "inet"]
            if (first == "auto" or first.startswith("allow-")) and interface in words[1:]:
                words.remove(interface)
                if len(words) > 1:
                    kept.append(" ".join(words))
                continue
        if not inside or first.startswith("#"):
            kept.append(line)
    if not any(
        line.split()[:1] in (["source"], ["source-directory"]) and "interfaces.d" in line
        for line in kept
    ):
        kept.append(SOURCE)
    return "\n".join(kept) + "\n"


def confirm(host: Host, gateway: str) -> bool:
    """Keep the new settings: practicum got here by them. False while they are not in place yet:
    a connection from before says nothing. AgentError when they were taken back already, or when
    the gateway is not there: then they are taken back at once."""
    if host.exists(CONFIRMED):  # by another apply, or the answer was lost
        return True
    if not host.exists(CHANGE):
        raise AgentError("the new network settings were taken back already: apply again")
    if not host.exists(APPLIED):
        return False
    if gateway and not answers(gateway):
        host.run(["systemctl", "start", "--no-block", f"{BACK}.service"], timeout=30)
        raise AgentError(
            f"the gateway {gateway} does not answer on this network: the old settings come back"
        )
    try:
        os.rename(host.at(CHANGE), host.at(CONFIRMED))
    except FileNotFoundError:
        raise AgentError("the new network settings were just taken back: apply again") from None
    host.run(["systemctl", "stop", f"{BACK}.timer"], timeout=30)
    return True


def answers(address: str, seconds: float = GATEWAY_SECONDS) -> bool:
    """Whether a neighbour tells its hardware address (/proc/net/arp). IPv6 is taken on trust."""
    if ":" in address:
        return True
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.sendto(b"", (address, 9))  # discard: only the question who it is matters
        except OSError:
            pass  # no route there, or not yet
        time.sleep(0.2)
        with open("/proc/net/arp", encoding="ascii") as table:
            for line in table.read().splitlines()[1:]:
                fields = line.split()
                if fields[0] == address and int(fields[2], 16) & 2:
                    return True
        if time.monotonic() > end:
            return False
