"""[network] and [ssh]: the cluster's own network, its way out, and how the admin comes in."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from cluster.values import NAME, Model, Port


class Network(Model):
    """[network]: the private network that the nodes share."""

    subnet: str
    gateway: str | None = None

    @field_validator("subnet")
    @classmethod
    def _subnet(cls, value: str) -> str:
        ipaddress.ip_network(value)  # its ValueError says what is wrong
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
