"""Slurm: controller, compute nodes and login nodes."""

from __future__ import annotations

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
from provisioning.roles import boot_line, slurm_access, slurm_jobs
from provisioning.roles.own_files import FOLDER, own_file
from provisioning.roles.slurm_accounting import declared_accounting
from provisioning.roles.slurm_conf import MAIL, MPI_CONF, cgroup_conf, memory_is_off, slurm_conf
from provisioning.roles.slurm_release import refuse_mixture
from provisioning.roles.where import everywhere, on, on_first

CHECK_CONF = f"{FOLDER}/check_slurm_conf.py"

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
        Directory(path=FOLDER),
        Package(package="logrotate"),  # a minimal system has none
        file("/etc/logrotate.d/practicum-slurm", LOGROTATE),
    ]


def mail(context: Context) -> list[Resource]:
    """Job mail goes to people's mailboxes on the controller; further on if its mail system does."""
    if not context.cluster.slurm.mail:
        return []
    return [
        Package(package="bsd-mailx"),  # brings a mail system, if the node has none
        file(MAIL, own_file("slurm-mail"), mode=0o755),
    ]


def mpi_conf(cluster: Cluster) -> list[Resource]:
    """Where PMIx is what steps start with; nodes get the file with slurm.conf."""
    if cluster.slurm.mpi_default != "pmix":
        return []
    return [file("/etc/slurm/mpi.conf", MPI_CONF, notify=("run:slurm-reconfigure",))]


def controller(context: Context) -> list[Resource]:
    cluster = context.cluster
    changed = ("restart:slurmctld", "run:slurm-reconfigure")
    return [
        Package(package="slurmctld"),
        Package(package="slurm-client"),
        Directory(path="/var/lib/slurm/slurmctld", owner="slurm", group="slurm", mode=0o700),
        *mail(context),
        file("/etc/slurm/cgroup.conf", cgroup_conf(cluster, context.facts), notify=changed),
        *mpi_conf(cluster),
        file(CHECK_CONF, own_file("check_slurm_conf.py"), mode=0o755),
        file(
            "/etc/slurm/slurm.conf",
            slurm_conf(cluster, context.facts),
            notify=changed,
            validate=(CHECK_CONF, "{}"),
        ),
        *declared_accounting(context),
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
# away at boot is waited for rather than given up on; homes are mounted before jobs start, and
# taken off after the jobs of a node that goes down have ended. Debian's PIDFile= is not waited for:
# systemd (252) does not see it any more after a daemon-reload in between, as apply does one, and
# slurmd stays "activating" until it is killed after five minutes. slurmd-registered waits instead.
SLURMD_UNIT = f"""[Unit]
ConditionPathExists=
After=munge.service remote-fs.target network-online.target
Wants=network-online.target

[Service]
PIDFile=
ExecStartPost=-{FOLDER}/slurmd-registered
ExecStopPost=-{FOLDER}/slurmd-stopped
Restart=on-failure
RestartSec=5
"""


def compute(context: Context) -> list[Resource]:
    """A board whose memory limits are still off cannot run slurmd: it starts with the board."""
    cluster = context.cluster
    refuse_mixture(cluster, context.node.name, context.facts)
    ready = not memory_is_off(context.own)
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
        Service(
            service="slurmd",
            running=ready,
            wait_port=cluster.slurm.node_port if ready else 0,
        ),
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
    *boot_line.ROLES,
    Role("slurm-folders", "trust", everywhere, folders),
    *slurm_jobs.ROLES,
    Role("slurmctld", "controller", on_first(NodeRole.CONTROLLER), controller),
    Role("slurmd", "compute", on(NodeRole.COMPUTE), compute),
    Role("slurm-client", "compute", is_client, client),
    *slurm_access.ROLES,
)
