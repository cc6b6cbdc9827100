"""Every role of every room on two virtual machines: file server with quotas, firewall, and hub."""

from __future__ import annotations

import re
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest
from vmkit.described import DATA_DISK, served
from vmkit.network import own_name
from vmkit.use import MANY, ROLES, Vms, changes

from provisioning.lab.network import bridge

pytestmark = pytest.mark.vm


LINES = """
[[quotas]]
group = "students"
hard_mb = 200

[login]
memory_mb = 150
processes = 100

[[profiles]]
name = "tiny"
title = "Tiny"
partition = "notebook"
cpus = 1
memory_mb = 150
"""


def whole(text: str) -> str:
    """cluster.toml with what an own cluster has: its own file server, quotas, a firewall."""
    text = served(text, "quotas = true", 'scratch = "/scratch"')
    text = text.replace("[network]", "[network]\nfirewall = true")
    return text + LINES


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


@pytest.fixture(scope="module")
def whole_vms(cluster_vms: Vms) -> Iterator[Vms]:
    """The pair with every role; afterwards it is as before."""
    with cluster_vms.whole(whole, format_=DATA_DISK):
        yield cluster_vms


def test_the_whole_set_of_roles(whole_vms: Vms) -> None:
    assert "practicum" in page(whole_vms.machines["head"].address, 300).lower()
    print(whole_vms.check_on("head", ["free", "-m"]))
    assert changes(whole_vms.plan(roles=ROLES)) == []


def test_a_job_finds_its_home_on_the_servers_disk(whole_vms: Vms) -> None:
    job = ["srun", "--chdir=/home/ada", "--time=5", "sh", "-c", "pwd; echo here > from-a-job; df ."]
    output = whole_vms.check_on("head", job, user="ada", timeout=300)
    assert "/home/ada" in output, output
    assert whole_vms.check_on("head", ["cat", "/home/ada/from-a-job"]) == "here\n"
    whole_vms.until_idle()


SERVING = ("slurmctld", "slurmdbd", "mariadb", "munge", "nfs-server", "practicum-hub")


def test_a_student_on_the_login_node_stops_nobody_else(whole_vms: Vms) -> None:
    """Neither by memory nor by processes: hub, Slurm and files stay."""
    show = ["systemctl", "show", "--property=Id,MainPID,ActiveState,NRestarts", *SERVING]
    before = whole_vms.check_on("head", show)
    assert before.count("ActiveState=active") == len(SERVING), before
    inside = whole_vms.on_login("cat", "/proc/self/cgroup")
    assert "/user-2101.slice/" in inside.stdout, inside.stderr
    over = whole_vms.on_login("python3", "-c", "b = bytearray(400 << 20); print(len(b))")
    assert over.returncode != 0, over.stdout
    many = whole_vms.on_login("python3", "-c", MANY)
    held = re.search(r"stopped at (\d+)", many.stdout)
    assert held, many.stdout + many.stderr
    assert int(held[1]) < 100
    assert whole_vms.check_on("head", show) == before
    assert "practicum" in page(whole_vms.machines["head"].address, 300).lower()


@pytest.fixture
def stranger(whole_vms: Vms) -> Iterator[tuple[str, str]]:
    """(network namespace, address) of a machine on the LAN that is none of the cluster's."""
    name = f"far-{secrets.token_hex(3)}"
    address = str(whole_vms.subnet[240])

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, timeout=20)

    ip("netns", "add", name)
    try:
        ip("link", "add", "far0", "netns", name, "type", "veth", "peer", "name", name)
        ip("link", "set", name, "master", bridge(own_name(whole_vms.name)), "up")
        ip("-n", name, "addr", "add", f"{address}/{whole_vms.subnet.prefixlen}", "dev", "far0")
        ip("-n", name, "link", "set", "far0", "up")
        yield name, address
    finally:
        ip("netns", "delete", name)


def guess(namespace: str, user: str, address: str) -> str:
    """What ssh says to a log-in from there; nothing, if whoever asks is banned in the middle of it:
    then no answer comes any more."""
    options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
               "ConnectTimeout=30")  # fmt: skip
    words = [word for option in options for word in ("-o", option)]
    try:
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, "ssh", "-F", "none", *words, f"{user}@{address}",
             "true"],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_who_guesses_is_banned_and_nobody_else(whole_vms: Vms, stranger: tuple[str, str]) -> None:
    namespace, address = stranger
    head = whole_vms.machines["head"].address
    assert "Permission denied" in guess(namespace, "guess", head)
    try:
        for number in range(7):
            if not guess(namespace, f"guess{number}", head):
                break
        asked = ["fail2ban-client", "get", "sshd", "banip"]
        whole_vms.until("head", asked, lambda text: address in text.split())
        assert "Permission denied" not in guess(namespace, "guess", head)
        assert whole_vms.on_login("echo", "in").stdout == "in\n"
    finally:
        whole_vms.check_on("head", ["fail2ban-client", "unban", "--all"])
    assert "Permission denied" in guess(namespace, "guess", head)


def test_strangers_see_the_hub_and_no_files(whole_vms: Vms, stranger: tuple[str, str]) -> None:
    """The file server is on their LAN, but not for them: nftables, and exports by address."""
    namespace, _address = stranger
    head = whole_vms.machines["head"].address

    def opens(port: int) -> bool:
        probe = f"import socket; socket.create_connection(({head!r}, {port}), 20)"
        words = ["ip", "netns", "exec", namespace, "python3", "-c", probe]
        done = subprocess.run(words, capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    assert opens(22)
    assert opens(8000)
    for port in (2049, 111, 6817, 6819):
        assert not opens(port), port


def test_removed_lines_take_away_what_they_made(whole_vms: Vms) -> None:
    """A group's quota, limits of the login node, a choice of the hub; and back again."""
    vms = whole_vms

    def made() -> tuple[str, bool, str]:
        """(the processes that ada may have on head, whether her quota is there, who knows the
        profile)"""
        slice_ = ["systemctl", "show", "-P", "TasksMax", "user-2101.slice"]
        limit = vms.on_login(*slice_).stdout.strip()
        quota = vms.run_on("node01", ["quota", "-w"], user="ada").stdout
        files = vms.run_on("head", ["grep", "-rlw", "tiny", "/etc/practicum"]).stdout
        return limit, "204800" in quota, files

    before = made()
    assert before[:2] == ("100", True), before
    assert before[2], "no file names the profile"
    vms.apply(lambda text: text.replace(LINES, ""), roles=ROLES)
    assert made() == ("512", False, "")
    assert changes(vms.plan(roles=ROLES)) == []
    vms.apply(lambda text: text + LINES, roles=ROLES)
    assert made() == before
    assert changes(vms.plan(roles=ROLES)) == []
