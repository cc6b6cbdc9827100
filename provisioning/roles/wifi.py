"""The login node's way out by radio, in the words of whatever manages its network.

The password never leaves the login node's root: what is written is the key that WPA makes of it
and of the network's name (IEEE 802.11i: PBKDF2, 4096 rounds), which opens this one network.
Untried with a radio: no test machine has one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cluster.model import Cluster, Node, NodeRole
from provisioning.resources import Command, Directory, Package, Resource, Service, file
from provisioning.role import Context, Role

INTERFACE = "wlan0"
SECRET = "wifi_password"  # noqa: S105  the name of the secret


@dataclass(frozen=True)
class Radio:
    """What a profile says."""

    interface: str
    ssid: str
    country: str
    key: str  # 64 hexadecimal digits


def key(password: str, ssid: str) -> str:
    """The pre-shared key. ValueError for a password that WPA does not allow."""
    if not 8 <= len(password) <= 63 or not all(" " <= char <= "~" for char in password):
        raise ValueError(
            f"{SECRET} in the secrets file must be 8 to 63 plain characters, as on the access point"
        )
    return hashlib.pbkdf2_hmac("sha1", password.encode(), ssid.encode(), 4096, 32).hex()


def supplicant(radio: Radio) -> str:
    """wpa_supplicant.conf(5); the name in hexadecimal digits, so that it may hold anything."""
    return f"""ctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev
country={radio.country}
network={{
    ssid={radio.ssid.encode().hex()}
    psk={radio.key}
}}
"""


def _by_supplicant(radio: Radio) -> list[Resource]:
    unit = f"wpa_supplicant@{radio.interface}"
    return [
        Package(package="wpasupplicant"),
        Directory(path="/etc/wpa_supplicant"),
        file(
            f"/etc/wpa_supplicant/wpa_supplicant-{radio.interface}.conf",
            supplicant(radio),
            secret=True,
            notify=(f"restart:{unit}",),
        ),
        Service(service=unit),
    ]


def networkd(radio: Radio) -> list[Resource]:
    text = f"[Match]\nName={radio.interface}\n\n[Network]\nDHCP=yes\n"
    return [
        file("/etc/systemd/network/06-practicum-wifi.network", text,
             notify=("reload:systemd-networkd",)),
        *_by_supplicant(radio),
    ]  # fmt: skip


def ifupdown(radio: Radio) -> list[Resource]:
    """ifupdown's own hook starts wpa_supplicant (wpa-conf)."""
    conf = f"/etc/wpa_supplicant/wpa_supplicant-{radio.interface}.conf"
    stanza = (
        f"allow-hotplug {radio.interface}\niface {radio.interface} inet dhcp\n    wpa-conf {conf}\n"
    )
    return [
        Package(package="wpasupplicant"),
        Directory(path="/etc/wpa_supplicant"),
        file(conf, supplicant(radio), secret=True, notify=("run:wifi-up",)),
        file("/etc/network/interfaces.d/practicum-wifi", stanza, notify=("run:wifi-up",)),
        Command(
            id="wifi-up",
            run=("ifup", "--force", radio.interface),
            on_notify=True,
            summary=f"bring {radio.interface} up",
        ),
    ]


def network_manager(radio: Radio) -> list[Resource]:
    """A keyfile; the name as a list of bytes (nm-settings-keyfile(5))."""
    name = "".join(f"{byte};" for byte in radio.ssid.encode())
    text = f"""[connection]
id=practicum-wifi
type=wifi
interface-name={radio.interface}

[wifi]
mode=infrastructure
ssid={name}

[wifi-security]
key-mgmt=wpa-psk
psk={radio.key}

[ipv4]
method=auto

[ipv6]
method=auto
"""
    path = "/etc/NetworkManager/system-connections/practicum-wifi.nmconnection"
    return [
        file(path, text, secret=True, notify=("run:wifi-up",)),
        Command(
            id="wifi-up",
            run=("nmcli", "connection", "load", path),
            on_notify=True,
            summary="load the Wi-Fi profile",
        ),
    ]


def netplan(radio: Radio, renderer: str = "networkd") -> list[Resource]:
    point = {"auth": {"key-management": "psk", "password": radio.key}}
    wifi: dict[str, object] = {
        "renderer": renderer,
        "dhcp4": True,
        "regulatory-domain": radio.country,
        "access-points": {radio.ssid: point},
    }
    tree = {"network": {"version": 2, "wifis": {radio.interface: wifi}}}
    return [
        Package(package="wpasupplicant"),
        file(
            "/etc/netplan/91-practicum-wifi.yaml",
            json.dumps(tree, indent=2, ensure_ascii=False) + "\n",
            secret=True,
            notify=("run:wifi-up",),
        ),
        Command(
            id="wifi-up", run=("netplan", "apply"), on_notify=True, summary="apply netplan's files"
        ),
    ]


PROFILES: dict[str, Callable[[Radio], list[Resource]]] = {
    "networkd": networkd,
    "NetworkManager": network_manager,
    "netplan": netplan,
    "netplan-NetworkManager": partial(netplan, renderer="NetworkManager"),
    "ifupdown": ifupdown,
}


def has_wifi(cluster: Cluster, node: Node) -> bool:
    return cluster.network.wifi is not None and node.name == cluster.first(NodeRole.LOGIN).name


def wifi(context: Context) -> list[Resource]:
    """The profile, and the country that the radio obeys. Nothing before facts are known."""
    wanted = context.cluster.network.wifi
    facts = context.own
    if wanted is None or not facts.interfaces:
        return []
    interface = context.cluster.network.uplink or INTERFACE
    if interface not in facts.interfaces:
        raise ValueError(
            f"network.wifi is for {interface}, and this node has {', '.join(facts.interfaces)}: "
            "name its radio with network.uplink"
        )
    password = context.secrets.get(SECRET, "")
    if not password:
        raise ValueError(f'the Wi-Fi password is missing: add {SECRET} = "..." to the secrets file')
    manager = facts.managers.get(interface) or next(
        (one for one in facts.managers.values() if one), "networkd"
    )
    radio = Radio(interface, wanted.ssid, wanted.country, key(password, wanted.ssid))
    return [
        file("/etc/modprobe.d/practicum-wifi.conf",
             f"options cfg80211 ieee80211_regdom={radio.country}\n"),
        *PROFILES[manager](radio),
    ]  # fmt: skip


ROLES = (Role("wifi", "base", has_wifi, wifi),)
