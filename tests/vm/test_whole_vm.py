"""Every role of every room on two virtual machines: file server with quotas, firewall, and hub."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator

import pytest
from vmkit.described import DATA_DISK
from vmkit.use import ROLES, Vms, changes

pytestmark = pytest.mark.vm


def whole(text: str) -> str:
    """cluster.toml with what an own cluster has: its own file server, quotas, a firewall."""
    text = text.replace(
        'provider = "external"',
        'provider = "nfs"\nquotas = true\nscratch = "/scratch"\n'
        f'disk = {{ serial = "{DATA_DISK}", format = true }}',
    )
    text = text.replace("[network]", "[network]\nfirewall = true")
    return text + '\n[[quotas]]\ngroup = "students"\nhard_mb = 200\n'


def page(address: str, timeout: float) -> str:
    """The hub's log-in page; OSError when it does not answer in time."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}:8000/hub/login", timeout=60) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(2)


@pytest.fixture
def homes_away(cluster_vms: Vms) -> Iterator[None]:
    """A file server's /home is not put over homes that are in use; they come back in the end."""
    cluster_vms.check_on("head", ["sh", "-c", "mkdir -p /root/away && mv /home/* /root/away/"])
    yield
    cluster_vms.check_on("head", ["sh", "-c", "cp -a /root/away/. /home/ && rm -r /root/away"])


def test_the_whole_set_of_roles(cluster_vms: Vms, homes_away: None, apply) -> None:
    apply(whole, format_=DATA_DISK)
    begun = time.monotonic()
    cluster_vms.place_environments(print)
    placed = time.monotonic()
    result = cluster_vms.apply(roles=ROLES)
    print(f"environments {placed - begun:.0f} s, whole set {time.monotonic() - placed:.0f} s")
    built = [line for line in changes(result) if "command:environment-" in line]
    assert not built, f"built again by an emulated processor: {built}"
    assert "practicum" in page(cluster_vms.machines["head"].address, 300).lower()
    memory = cluster_vms.check_on("head", ["free", "-m"])
    print(memory)
    assert changes(cluster_vms.plan(roles=ROLES)) == []
    # a job finds its home on the server's disk
    job = ["srun", "--chdir=/home/ada", "--time=2", "sh", "-c", "pwd; echo here > from-a-job; df ."]
    output = cluster_vms.check_on("head", job, user="ada")
    assert "/home/ada" in output, output
    assert cluster_vms.check_on("head", ["cat", "/home/ada/from-a-job"]) == "here\n"
