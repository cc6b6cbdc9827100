"""Slurm: controller, compute nodes and login nodes; accounting's clusters, accounts and users."""

from __future__ import annotations

import json
from importlib import resources as package_files

from cluster.model import Cluster, Node, NodeRole
from provisioning.resources import (
    Command,
    Directory,
    Line,
    Package,
    Resource,
    Service,
    WaitPort,
    file,
)
from provisioning.role import Context, Role
from provisioning.roles.slurm_conf import cgroup_conf, slurm_conf
from provisioning.roles.where import everywhere, on, on_first

HUB_USER = "practicum-hub"
ACCOUNTING = "/usr/local/lib/practicum/accounting.py"
WANTED = "/etc/practicum/accounting.json"


def own_file(name: str) -> str:
    return package_files.files("provisioning.roles").joinpath("files", name).read_text()


# Slurm's daemons reopen their logs on SIGUSR2.
LOGROTATE = """/var/log/slurm/*.log {
    weekly
    rotate 4
    compress
    missingok
    notifempty
    sharedscripts
    postrotate
        for unit in slurmctld slurmdbd slurmd; do
            systemctl kill --signal=SIGUSR2 --kill-who=main $unit.service 2>/dev/null || true
        done
    endscript
}
"""


def folders(_context: Context) -> list[Resource]:
    return [
        Directory(path="/etc/slurm"),
        Directory(path="/var/log/slurm", owner="slurm", group="slurm"),
        Directory(path="/var/lib/slurm", owner="slurm", group="slurm"),
        Directory(path="/etc/practicum"),
        Directory(path="/usr/local/lib/practicum"),
        file("/etc/logrotate.d/practicum-slurm", LOGROTATE),
    ]


def accounting(cluster: Cluster) -> str:
    """The associations that should exist, as the node's script reads them.

    The hub's user is an operator: with PrivateData nobody else sees others' jobs.
    """
    people = [user.name for user in cluster.users]
    wanted = {
        "cluster": cluster.cluster.name,
        "accounts": [cluster.slurm.account],
        "users": {name: [cluster.slurm.account] for name in [*people, HUB_USER]},
        "operators": [HUB_USER],
    }
    return json.dumps(wanted, indent=1, sort_keys=True) + "\n"


def controller(context: Context) -> list[Resource]:
    cluster = context.cluster
    changed = ("restart:slurmctld", "run:slurm-reconfigure")
    database = cluster.first(NodeRole.DATABASE)
    return [
        Package(package="slurmctld"),
        Package(package="slurm-client"),
        Directory(path="/var/lib/slurm/slurmctld", owner="slurm", group="slurm", mode=0o700),
        file("/etc/slurm/cgroup.conf", cgroup_conf(cluster, context.facts), notify=changed),
        file("/etc/slurm/slurm.conf", slurm_conf(cluster, context.facts), notify=changed),
        WaitPort(host=database.address, port=cluster.slurm.database_port),
        file(ACCOUNTING, own_file("accounting.py"), mode=0o755),
        file(WANTED, accounting(cluster)),
        Command(
            id="slurm-accounting",
            check=("python3", "-I", ACCOUNTING, "--check", WANTED),
            run=("python3", "-I", ACCOUNTING, WANTED),
            summary="bring Slurm's accounts, users and operators up to date",
        ),
        Service(service="slurmctld", wait_port=cluster.slurm.controller_port),
        Command(
            id="slurm-reconfigure",
            run=("scontrol", "reconfigure"),
            on_notify=True,
            summary="tell the nodes to fetch the new configuration",
        ),
    ]


def conf_server(cluster: Cluster) -> str:
    controller_node = cluster.first(NodeRole.CONTROLLER)
    return f"{controller_node.name}:{cluster.slurm.controller_port}"


# Debian's unit waits for a slurm.conf that a configless node never has. A controller that is
# away at boot is waited for rather than given up on; homes are mounted before jobs start.
SLURMD_UNIT = """[Unit]
ConditionPathExists=
After=munge.service remote-fs.target network-online.target
Wants=network-online.target

[Service]
Restart=on-failure
RestartSec=5
"""


def compute(context: Context) -> list[Resource]:
    cluster = context.cluster
    controller_node = cluster.first(NodeRole.CONTROLLER)
    return [
        Package(package="slurmd"),
        Package(package="slurm-client"),
        Directory(path="/var/lib/slurm/slurmd"),
        Directory(path="/etc/systemd/system/slurmd.service.d"),
        file(
            "/etc/default/slurmd",
            f"SLURMD_OPTIONS='--conf-server {conf_server(cluster)}'\n",
            notify=("restart:slurmd",),
        ),
        file(
            "/etc/systemd/system/slurmd.service.d/practicum.conf",
            SLURMD_UNIT,
            notify=("restart:slurmd",),
        ),
        WaitPort(host=controller_node.address, port=cluster.slurm.controller_port),
        Service(service="slurmd", wait_port=cluster.slurm.node_port),
    ]


def is_client(cluster: Cluster, node: Node) -> bool:
    """A login node that neither has slurm.conf nor a slurmd that fetches it."""
    return (
        node.has(NodeRole.LOGIN)
        and not node.has(NodeRole.COMPUTE)
        and node.name != cluster.first(NodeRole.CONTROLLER).name
    )


def client(context: Context) -> list[Resource]:
    """SLURM_CONF_SERVER rather than sackd: 22.05 has none. PAM reads /etc/environment, for
    sudo too."""
    line = f"SLURM_CONF_SERVER={conf_server(context.cluster)}"
    return [
        Package(package="slurm-client"),
        Line(path="/etc/environment", line=line, match=r"^SLURM_CONF_SERVER="),
    ]


ROLES = (
    Role("slurm-folders", "trust", everywhere, folders),
    Role("slurmctld", "controller", on_first(NodeRole.CONTROLLER), controller),
    Role("slurmd", "compute", on(NodeRole.COMPUTE), compute),
    Role("slurm-client", "compute", is_client, client),
)
