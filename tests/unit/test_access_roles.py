"""Firewall, SSH, limits of each user, the package cache: pure functions, and nft's own opinion."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_network_roles import on
from test_roles import small

from cluster.model import Cluster
from provisioning.facts import Facts
from provisioning.resources import File
from provisioning.role import Context, Opening, declare, opening
from provisioning.roles import firewall, limits, router, ssh

# Firewall


def nft_accepts(text: str) -> bool:
    """nft's own check, in a network of its own: nothing of this machine's is looked at."""
    done = subprocess.run(
        ["unshare", "-rn", "nft", "-c", "-f", "-"],
        input=text, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + text
    return True


def walled(**net: object) -> Cluster:
    return small(network={"subnet": "10.0.0.0/24", "firewall": True, **net})


def test_what_is_open_on_the_login_node() -> None:
    cluster = walled(outside=["192.168.0.0/16", "fd00::/8"])
    text = firewall.rules(cluster, cluster.node("login"), [opening(8000, "outside")])
    lines = [line.strip() for line in text.splitlines()]
    assert "type filter hook input priority filter; policy drop;" in lines
    assert "ip saddr { 10.0.0.0/24, 192.168.0.0/16 } tcp dport 22 accept" in lines
    assert "ip6 saddr { fd00::/8 } tcp dport 8000 accept" in lines
    assert "ip saddr { 10.0.0.10/31, 10.0.0.12 } accept" in lines
    assert lines.index("ct state established,related accept") < lines.index("ct state invalid drop")


def test_sessions_are_for_the_login_node_before_nodes_are_let_in() -> None:
    cluster = walled()
    wanted = [Opening((20000, 29999), "login")]
    text = firewall.rules(cluster, cluster.node("node01"), wanted)
    login = text.index("ip saddr { 10.0.0.10 } tcp dport 20000-29999 accept")
    closed = text.index("    tcp dport 20000-29999 drop")
    nodes = text.index("ip saddr { 10.0.0.10/31, 10.0.0.12 } accept")
    assert login < closed < nodes


def test_a_router_translates_and_lets_nothing_in() -> None:
    cluster = walled(router=True, uplink="wlan0", firewall=False)
    text = firewall.rules(cluster, cluster.node("login"), [])
    assert 'oifname "wlan0" masquerade' in text
    assert "ip daddr 10.0.0.0/24 drop" in text
    assert "hook input" not in text
    assert not firewall.has_table(cluster, cluster.node("node01"))


OUTER = {"router": True, "uplink": "eth1"}


def table(net: dict[str, object], node: str = "login", **facts: object) -> list[str]:
    context = on(net, node, **facts)
    made = [one for one in firewall.firewall(context) if isinstance(one, File)]
    [text] = [one.content.decode() for one in made if one.path == firewall.RULES]
    return [line.strip() for line in text.splitlines()]


def test_an_address_of_the_cluster_is_not_believed_from_outside() -> None:
    forged = 'iifname "eth1" ip saddr { 10.0.0.0/24 } drop'
    world = {"eth0": ["10.0.0.10/24"], "eth1": ["192.0.2.7/24"]}
    lines = table({"firewall": True, **OUTER}, interfaces=world)
    for chain in ("chain input {", "chain forward {"):
        assert lines[lines.index(chain) + 2] == forged  # after its hook: before any accept
    assert table(OUTER, interfaces=world).count(forged) == 1
    # one cable for both: there the cluster's own packets come in
    one = {"eth1": ["192.0.2.7/24", "10.0.0.10/24"]}
    assert forged not in table({"firewall": True, **OUTER}, interfaces=one)
    assert forged not in table({"firewall": True, **OUTER}, "node01")


@pytest.mark.skipif(not shutil.which("nft"), reason="no nft")
@pytest.mark.parametrize(
    "net",
    [
        {"firewall": True},
        {"firewall": True, "outside": ["192.0.2.0/24"], "router": True, "uplink": "eth1"},
        {"firewall": True, "outside": ["10.0.0.0/25", "fd00::/8"], "router": True},
        {"router": True, "uplink": "eth1"},
    ],
)
def test_nft_takes_it(net: dict[str, object]) -> None:
    cluster = small(network={"subnet": "10.0.0.0/24", **net})
    wanted = [
        Opening((20000, 29999), "login"),
        opening(8000, "outside"),
        opening(67, "network", "udp"),
    ]
    for node in cluster.machines:
        text = firewall.rules(cluster, node, wanted, outer="eth1", ssh_ports=(22, 2222))
        assert nft_accepts(text)


def test_rooms_openings_reach_the_firewall() -> None:
    from practicum.rooms import ROLES as ALL

    def rules_of(node: str) -> str:
        context = on({"firewall": True}, node)
        declared = declare([role for role in ALL if role.name != "hub"], context)
        texts = [
            one.content.decode()
            for _stage, some in declared.stages
            for one in some
            if isinstance(one, File) and one.path == firewall.RULES
        ]
        return texts[0]

    assert "tcp dport 20000-29999 drop" in rules_of("node01")
    assert "20000" not in rules_of("login")
    hub = next(role for role in ALL if role.name == "hub")
    assert hub.openings(small()) == [opening(8000, "outside")]


def test_an_admin_is_not_shut_out() -> None:
    walled_in = {"firewall": True, "outside": ["192.0.2.0/24"]}
    firewall.firewall(on(walled_in, ssh_from="192.0.2.7"))
    firewall.firewall(on(walled_in, ssh_from="10.0.0.200"))
    firewall.firewall(on({"firewall": True}, ssh_from="203.0.113.9"))
    with pytest.raises(ValueError, match=r"would shut you out: you reach this node from 203\.0"):
        firewall.firewall(on(walled_in, ssh_from="203.0.113.9"))
    # the port that sshd really listens on stays open, whatever the way to it is called
    assert "tcp dport { 22, 2022 } accept" in firewall.rules(
        walled(), walled().node("login"), [], ssh_ports=(22, 2022)
    )


# SSH


def test_ssh_takes_its_file(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(ssh.ssh_config(small()))
    done = subprocess.run(
        ["ssh", "-G", "-F", str(config), "node01"], text=True, capture_output=True, check=False
    )
    assert "enablesshkeysign yes" in done.stdout
    assert "hostbasedauthentication yes" in done.stdout


def test_passwords_only_if_asked_for() -> None:
    assert "PasswordAuthentication no" in ssh.sshd_config(small())
    assert "PasswordAuthentication yes" in ssh.sshd_config(small(ssh={"passwords": True}))
    exempt = "PerSourcePenaltyExemptList 10.0.0.10,10.0.0.11,10.0.0.12\n"
    for version in ("1:10.0p1-7", "1:9.8p1-1"):
        assert exempt in ssh.sshd_config(small(), version)
    for version in ("1:9.2p1-2+deb12u3", "1:9.6p1-3ubuntu13.5", ""):  # which do not know it
        assert "PerSource" not in ssh.sshd_config(small(), version)


def test_keys_only_is_what_sshd_itself_says(tmp_path: Path) -> None:
    """By a stand-in for sshd -T: to stop it from reading a folder takes a machine of its own."""
    from provisioning.roles.own_files import own_file

    config, main, sshd = tmp_path / "d/00-practicum.conf", tmp_path / "main", tmp_path / "sshd"
    config.parent.mkdir()
    config.write_text(ssh.sshd_config(small()))
    script = own_file("check_sshd.py").replace('"/etc/ssh/sshd_config"', f'"{main}"')
    (tmp_path / "check.py").write_text(script)

    def ask(says: str, reads: str) -> tuple[int, str]:
        main.write_text(reads)
        sshd.write_text(f"#!/bin/sh\n{says}\n")
        sshd.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-I", tmp_path / "check.py", config],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, text=True, capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    include = f"Include {config.parent}/*.conf"
    good = (
        "passwordauthentication no\nhostbasedauthentication yes\npermitrootlogin without-password"
    )
    assert ask(f"echo '{good}'", include) == (0, "")
    bad = good.replace("no", "yes", 1)
    code, said = ask(f"echo '{bad}'", "Port 22\n#Include x\n")
    assert code == 1
    assert "(PasswordAuthentication is yes and not no)" in said
    assert f"write {include} as its first line" in said
    code, said = ask(f"echo '{bad}'", f"PasswordAuthentication yes\n{include}\n")
    assert (code, "move it below that line" in said) == (1, True)
    code, said = ask("echo 'line 3: Bad configuration' >&2; exit 255", include)
    assert (code, said) == (1, "sshd refuses its settings: line 3: Bad configuration\n")
    assert ask("echo 'Missing privilege separation directory' >&2; exit 255", include)[0] == 0


def test_both_files_of_keys_that_sshd_knows_stay() -> None:
    assert f"AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2 {ssh.KEYS}/%u" in (
        ssh.sshd_config(small())
    )


def test_keys_of_admins_are_everywhere_and_students_on_login_nodes() -> None:
    cluster = small(
        groups=[
            {"name": "students", "gid": 2000, "role": "student"},
            {"name": "admins", "gid": 2002, "role": "admin"},
        ],
        users=[
            {"name": "ada", "uid": 3001, "groups": ["students"], "ssh_keys": ["ssh-ed25519 AAAA"]},
            {
                "name": "root2",
                "uid": 3002,
                "groups": ["admins"],
                "ssh_keys": ["ssh-ed25519 BBBB x"],
            },
        ],
    )

    def keys(node: str) -> dict[str, str]:
        made = ssh.ssh(Context(cluster, cluster.node(node), {}))
        return {
            one.path.rpartition("/")[2]: one.content.decode()
            for one in made
            if isinstance(one, File) and one.path.startswith(ssh.KEYS)
        }

    assert keys("login") == {
        "ada": "ssh-ed25519 AAAA\n",
        "root2": "ssh-ed25519 BBBB x\n",
        "root": "ssh-ed25519 BBBB x\n",
    }
    assert set(keys("node01")) == {"root2", "root"}


def test_known_hosts_are_of_nodes_that_told_their_keys() -> None:
    cluster = small()
    facts = {"login": Facts(host_keys=["ssh-ed25519 AAAA"]), "node01": Facts()}
    text = ssh.known_hosts(Context(cluster, cluster.node("node02"), facts))
    assert text == "login,10.0.0.10 ssh-ed25519 AAAA\n"


# Limits


@pytest.mark.parametrize(
    ("login", "facts", "lines"),
    [
        ({}, Facts(cpus=4, memory_mb=4000), ["MemoryMax=3000M", "CPUQuota=300%", "TasksMax=512"]),
        ({}, Facts(cpus=1, memory_mb=900), ["MemoryMax=675M", "CPUQuota=75%"]),
        ({"memory_mb": 256, "cpu_percent": 50, "processes": 64}, Facts(cpus=4, memory_mb=4000),
         ["MemoryMax=256M", "CPUQuota=50%", "TasksMax=64"]),
    ],
)  # fmt: skip
def test_limits_of_each_user(login: dict[str, int], facts: Facts, lines: list[str]) -> None:
    text = limits.slice_text(small(login=login), facts)
    assert set(lines) <= set(text.splitlines())


def test_without_facts_only_what_is_declared() -> None:
    assert limits.slice_text(small(), Facts()) == "[Slice]\nTasksMax=512\n"
    assert limits.together_text(small(login={"memory_mb": 256}), Facts()) == "[Slice]\n"


@pytest.mark.parametrize(("each", "most"), [(None, 3000), (256, 3000), (3500, 3500)])
def test_people_together_leave_memory_for_the_system(each: int | None, most: int) -> None:
    login = {"memory_mb": each} if each else {}
    cluster = small(login=login)
    facts = {"login": Facts(cpus=4, memory_mb=4000)}
    made = limits.limits(Context(cluster, cluster.node("login"), facts))
    files = {one.path: one.content.decode() for one in made if isinstance(one, File)}
    units = "/etc/systemd/system"
    assert files[f"{units}/user.slice.d/50-practicum.conf"] == f"[Slice]\nMemoryMax={most}M\n"
    for name in ("practicum-hub", "slurmctld", "slurmdbd", "mariadb", "munge"):
        drop_in = files[f"{units}/{name}.service.d/60-practicum-memory.conf"]
        assert drop_in == "[Service]\nOOMScoreAdjust=-500\n"
    assert not any("slurmd.service.d" in path for path in files)  # jobs would inherit it


# Packages


def test_apt_goes_straight_when_the_cache_is_away(tmp_path: Path) -> None:
    from provisioning.roles.own_files import own_file

    script = tmp_path / "apt-proxy.py"
    script.write_text(
        own_file("apt-proxy.py").replace("@SERVER@", "127.0.0.1").replace("@PORT@", "9")
    )

    def ask(uri: str) -> str:
        done = subprocess.run(
            ["python3", "-I", str(script), uri], text=True, capture_output=True, check=False
        )
        return done.stdout.strip()

    assert ask("http://deb.debian.org/debian") == "DIRECT"
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = (
            own_file("apt-proxy.py").replace("@SERVER@", "127.0.0.1").replace("@PORT@", str(port))
        )
        script.write_text(text)
        assert ask("http://deb.debian.org/debian") == f"http://127.0.0.1:{port}"
        assert ask("https://deb.debian.org/debian") == "DIRECT"


def test_the_cache_is_on_the_login_node_and_used_by_all() -> None:
    cluster = small(network={"subnet": "10.0.0.0/24", "package_cache": True})
    assert router.has_cache(cluster, cluster.node("login"))
    assert not router.has_cache(cluster, cluster.node("node01"))
    assert router.uses_cache(cluster, cluster.node("node01"))


def test_the_cache_is_nobodys_proxy_outside() -> None:
    made = router.cache(on({"package_cache": True}, "login"))
    conf = next(
        one
        for one in made
        if isinstance(one, File) and one.path == "/etc/apt-cacher-ng/zz_practicum.conf"
    )
    assert "BindAddress: 10.0.0.10 127.0.0.1" in conf.content.decode().splitlines()
    assert "restart:apt-cacher-ng" in conf.notify


def test_students_do_not_let_practicum_in() -> None:
    from cluster.checks.people import way_in

    assert not list(way_in(small()))
    [problem] = way_in(small(ssh={"user": "ada"}))
    assert "ada is a student" in problem.text
