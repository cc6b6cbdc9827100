"""[network] and [ssh]: the cluster's own network, its way out, and how the admin comes in."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from cluster.values import NAME, TEXT, Model, Port

# a name that the kernel takes for an interface (dev_valid_name), without its odder characters
Interface = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,14}$")]
Domain = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
                      max_length=200),
]  # fmt: skip


class Wifi(Model):
    """[network.wifi]: the login node's way out by radio. Its password: secrets, wifi_password."""

    ssid: Annotated[str, StringConstraints(pattern=TEXT, min_length=1, max_length=32)]
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class Network(Model):
    """[network]: the private network that the nodes share, and its way out.

    ``addresses = "static"`` writes each node's address into whatever manages its network
    (systemd-networkd, NetworkManager, ifupdown); "keep" leaves that to the site (DHCP leases,
    an installer). With ``router`` the first login node forwards for the others through
    ``uplink``, and is their gateway unless ``gateway`` names another.
    """

    subnet: str
    gateway: str | None = None
    addresses: Literal["keep", "static"] = "keep"
    interface: Interface | None = None  # of the private network; None: found by the address
    dns: tuple[str, ...] = ()  # name servers; with static addresses alone
    domain: Domain | None = None
    router: bool = False
    uplink: Interface | None = None  # the login node's interface to the outside
    # Seconds in which a node must answer under a new address, or it takes the old one back
    confirm: Annotated[int, Field(ge=15, le=900)] = 60
    wifi: Wifi | None = None  # the uplink by radio
    package_cache: bool = False  # apt-cacher-ng on the login node
    firewall: bool = False  # nftables on every node: what its roles need, the rest closed
    # Networks outside that may come in by ssh and to the hub; empty: any
    outside: tuple[str, ...] = ()

    @field_validator("subnet")
    @classmethod
    def _subnet(cls, value: str) -> str:
        ipaddress.ip_network(value)  # its ValueError says what is wrong
        return value

    @field_validator("outside")
    @classmethod
    def _outside(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("dns")
    @classmethod
    def _dns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            ipaddress.ip_address(address)
        return value

    @field_validator("gateway")
    @classmethod
    def _gateway(cls, value: str | None, info: ValidationInfo) -> str | None:
        subnet = info.data.get("subnet")  # absent when it was wrong itself
        if value and subnet and ipaddress.ip_address(value) not in ipaddress.ip_network(subnet):
            raise ValueError(f"gateway {value} is not in {subnet}")
        return value

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network(self.subnet)


class SSH(Model):
    """[ssh]: how the admin's machine reaches the nodes. Paths are relative to cluster.toml."""

    user: Annotated[str, StringConstraints(pattern=NAME)] = "root"
    key: str = "secrets/ssh_key"
    known_hosts: str = "secrets/known_hosts"
    port: Port = 22
    connect_timeout: Annotated[int, Field(ge=1, le=300)] = 10  # seconds
    passwords: bool = False  # whether people may log in by SSH with their passwords


class Limits(Model):
    """[login]: what each person may use on a login node, so that nobody stops the hub there.

    None: three quarters of the machine for memory, all but one core for the CPU.
    """

    memory_mb: Annotated[int, Field(ge=64)] | None = None
    cpu_percent: Annotated[int, Field(ge=5)] | None = None  # 100 is one core
    processes: Annotated[int, Field(ge=32, le=100_000)] = 512
