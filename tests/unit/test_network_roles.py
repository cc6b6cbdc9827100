"""Addresses for every manager, the router, Wi-Fi: pure functions."""

from __future__ import annotations

import json
from configparser import ConfigParser

import pytest
from test_roles import small

from cluster.checks import network as checks
from provisioning.agent.host import Host
from provisioning.agent.network import commands, without_interface
from provisioning.agent.surroundings import default_route
from provisioning.facts import Facts
from provisioning.resources import File, Network
from provisioning.role import Context, declare
from provisioning.roles import ROLES, network, wifi
from provisioning.roles.network import Settings

WANTED = Settings("eth0", "10.0.0.11/24", "10.0.0.1", ("10.0.0.1", "9.9.9.9"), "pi.example")
BARE = Settings("eth0", "10.0.0.11/24")


def on(net: dict[str, object], node: str = "node01", **facts: object) -> Context:
    table = {"subnet": "10.0.0.0/24", **net}
    cluster = small(network=table)
    return Context(cluster, cluster.node(node), {node: Facts(**facts)})  # type: ignore[arg-type]


# Addresses


def test_networkd() -> None:
    [(path, text, mode)] = network.networkd(WANTED)
    assert (path, mode) == ("/etc/systemd/network/05-practicum.network", 0o644)
    assert text == (
        "[Match]\nName=eth0\n\n[Network]\nDHCP=no\nAddress=10.0.0.11/24\nGateway=10.0.0.1\n"
        "DNS=10.0.0.1\nDNS=9.9.9.9\nDomains=pi.example\n"
    )
    assert "Gateway" not in network.networkd(BARE)[0][1]


def test_network_manager() -> None:
    [(path, text, mode)] = network.network_manager(WANTED)
    assert (path.rpartition(".")[2], mode) == ("nmconnection", 0o600)
    profile = ConfigParser()
    profile.read_string(text)
    assert dict(profile["ipv4"]) == {
        "method": "manual",
        "address1": "10.0.0.11/24,10.0.0.1",
        "dns": "10.0.0.1;9.9.9.9;",
        "dns-search": "pi.example;",
    }
    assert profile["connection"]["interface-name"] == "eth0"
    assert "address1=10.0.0.11/24\n" in network.network_manager(BARE)[0][1]


def test_netplan_is_yaml_by_being_json() -> None:
    [(path, text, mode)] = network.netplan(WANTED)
    assert (path, mode) == ("/etc/netplan/90-practicum.yaml", 0o600)
    assert json.loads(text)["network"]["ethernets"]["00-practicum"] == {
        "renderer": "networkd",
        "match": {"name": "eth0"},
        "dhcp4": False,
        "addresses": ["10.0.0.11/24"],
        "routes": [{"to": "default", "via": "10.0.0.1", "metric": 50}],
        "nameservers": {"addresses": ["10.0.0.1", "9.9.9.9"], "search": ["pi.example"]},
    }
    assert "routes" not in network.netplan(BARE)[0][1]
    [(again, other, _)] = network.RENDERERS["netplan-NetworkManager"](WANTED)
    assert again == path  # the same file, whichever of the two it is for
    ours = json.loads(other)["network"]["ethernets"]["00-practicum"]
    assert ours["renderer"] == "NetworkManager"
    assert ours["networkmanager"] == {"passthrough": {"connection.autoconnect-priority": "100"}}


def test_ifupdown() -> None:
    [(path, text, _mode)] = network.ifupdown(WANTED)
    assert path == "/etc/network/interfaces.d/practicum"
    assert text.splitlines() == [
        "auto eth0",
        "iface eth0 inet static",
        "    address 10.0.0.11/24",
        "    gateway 10.0.0.1",
        "    dns-nameservers 10.0.0.1 9.9.9.9",
        "    dns-search pi.example",
    ]


INTERFACES = """# the installer's
source /etc/network/interfaces.d/*

auto lo eth0
iface lo inet loopback

allow-hotplug eth0
iface eth0 inet dhcp
    hwaddress aa:bb

    mtu 1500
iface eth0 inet6 auto
"""


def test_an_interface_leaves_interfaces_once() -> None:
    text = without_interface(INTERFACES, "eth0")
    assert "dhcp" not in text
    assert "mtu" not in text
    assert "auto lo\n" in text
    assert "hotplug" not in text
    assert "iface eth0 inet6 auto" in text
    assert without_interface(text, "eth0") == text
    assert without_interface(INTERFACES, "eth1") == INTERFACES
    assert without_interface("auto lo\n", "eth0").endswith("source /etc/network/interfaces.d/*\n")


@pytest.mark.parametrize("manager", sorted(network.RENDERERS))
def test_every_manager_has_renderer_and_commands(manager: str) -> None:
    ways = commands(manager, "eth0")
    assert ways["after_new"]
    assert ways["after_old"]
    facts = {
        "interfaces": {"eth0": ["10.0.0.11/24"]},
        "managers": {"eth0": manager},
        "resolver": "file",
    }
    wanted = {"addresses": "static", "gateway": "10.0.0.1", "dns": ["9.9.9.9"]}
    made = network.static(on(wanted, **facts))
    [resource] = [one for one in made if isinstance(one, Network)]
    assert (resource.address, resource.gateway) == ("10.0.0.11/24", "10.0.0.1")
    paths = [path for path, _text, _mode in resource.files]
    assert ("/etc/resolv.conf" in paths) == (manager in ("networkd", "ifupdown"))
    json.dumps(resource.to_wire())


def test_unknown_facts_declare_nothing_and_keep_declares_nothing() -> None:
    assert network.static(on({"addresses": "static"})) == []
    context = on({}, interfaces={"eth0": []}, managers={"eth0": "networkd"})
    declared = declare(ROLES, context)
    assert not [one for _s, some in declared.stages for one in some if one.kind == "network"]


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ({"eth0": ["192.168.1.5/24"], "eth1": ["10.0.0.11/24"]}, "eth1"),
        ({"eth0": ["192.168.1.5/24"], "eth1": ["10.0.0.99/24"]}, "eth1"),
        ({"end0": ["169.254.3.3/16"]}, "end0"),
    ],
)
def test_the_private_interface_is_found(found: dict[str, list[str]], chosen: str) -> None:
    context = on({}, interfaces=found)
    assert network.interface(context.cluster, context.node, context.own) == chosen


def test_an_interface_that_cannot_be_told_is_asked_for() -> None:
    context = on({}, interfaces={"eth0": [], "eth1": []})
    with pytest.raises(ValueError, match=r"say which is the private network's with network\.inter"):
        network.interface(context.cluster, context.node, context.own)
    context = on({"interface": "eth7"}, interfaces={"eth0": []})
    with pytest.raises(ValueError, match=r"network\.interface is eth7, and this node has eth0"):
        network.interface(context.cluster, context.node, context.own)
    context = on({"addresses": "static"}, interfaces={"eth0": []}, managers={"eth0": ""})
    with pytest.raises(ValueError, match="configured by nothing that practicum knows"):
        network.static(context)


def test_the_router_is_the_others_gateway_and_not_its_own() -> None:
    context = on({"router": True})
    assert network.gateway(context.cluster, context.node) == "10.0.0.10"
    assert network.gateway(context.cluster, context.cluster.node("login")) is None


def test_default_route_with_the_least_metric() -> None:
    table = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        "eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert default_route(table) == ("eth0", "10.0.0.1")


def test_facts_of_this_very_machine() -> None:
    from provisioning.agent.surroundings import gather

    facts = gather(Host())
    assert set(facts["managers"]) == set(facts["interfaces"])
    assert all("/" in one for some in facts["interfaces"].values() for one in some)


# Wi-Fi (its text: no test machine has a radio)

RADIO = wifi.Radio("wlan0", 'Café "1"', "DE", "ab" * 32)


def test_the_key_is_what_the_standard_says() -> None:
    # IEEE 802.11i-2004, H.4.1
    assert wifi.key("password", "IEEE") == (
        "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
    )
    with pytest.raises(ValueError, match="8 to 63 plain characters"):
        wifi.key("short", "IEEE")
    with pytest.raises(ValueError, match="8 to 63 plain characters"):
        wifi.key("pass\nword1", "IEEE")


@pytest.mark.parametrize("manager", sorted(wifi.PROFILES))
def test_profiles_are_secrets_and_hold_no_password(manager: str) -> None:
    made = wifi.PROFILES[manager](RADIO)
    holders = [one for one in made if isinstance(one, File) and RADIO.key in one.content.decode()]
    assert [(one.secret, one.mode) for one in holders] == [(True, 0o600)]


def test_names_that_hold_anything_are_written_safely() -> None:
    assert "ssid=436166c3a920223122\n" in wifi.supplicant(RADIO)
    nm = wifi.network_manager(RADIO)[0]
    assert isinstance(nm, File)
    assert "ssid=67;97;102;195;169;32;34;49;34;\n" in nm.content.decode()
    plan = wifi.netplan(RADIO)[1]
    assert isinstance(plan, File)
    points = json.loads(plan.content)["network"]["wifis"]["wlan0"]["access-points"]
    assert list(points) == ['Café "1"']


def test_wifi_is_the_login_nodes_and_wants_its_password() -> None:
    net = {"router": True, "wifi": {"ssid": "campus", "country": "DE"}}
    facts = {"interfaces": {"wlan0": []}, "managers": {"wlan0": "NetworkManager"}}
    context = on(net, "login", **facts)
    with pytest.raises(ValueError, match="add wifi_password"):
        wifi.wifi(context)
    good = Context(context.cluster, context.node, context.facts, {"wifi_password": "long enough"})
    text = "".join(one.content.decode() for one in wifi.wifi(good) if isinstance(one, File))
    assert "long enough" not in text
    assert not wifi.has_wifi(context.cluster, context.cluster.node("node01"))
    with pytest.raises(ValueError, match=r"name its radio with network\.uplink"):
        wifi.wifi(on(net, "login", interfaces={"eth0": []}))


@pytest.mark.parametrize(
    ("net", "place", "sentence"),
    [
        ({"addresses": "static", "gateway": "10.0.0.1"}, ("network", "dns"), "no lease"),
        ({"dns": ["9.9.9.9"]}, ("network", "dns"), "counts only with"),
        ({"router": True, "uplink": "eth0", "interface": "eth0"}, ("network", "uplink"), "private"),
        ({"router": True, "subnet": "fd00::/64"}, ("network", "router"), "forwards IPv4 only"),
        ({"router": True, "gateway": "10.0.0.10"}, ("network", "gateway"), "leave this out"),
        ({"wifi": {"ssid": "x", "country": "DE"}}, ("network", "wifi"), "set router = true"),
        ({"outside": ["192.0.2.0/24"]}, ("network", "outside"), "firewall = true"),
    ],
)
def test_networks_that_cannot_work(
    net: dict[str, object], place: tuple[str, ...], sentence: str
) -> None:
    found = {
        one.place: one.text
        for one in checks.network(small(network={"subnet": "10.0.0.0/24", **net}))
    }
    assert sentence in found[place]
