"""Accounting: MariaDB and slurmdbd on the database node."""

from __future__ import annotations

from cluster.model import NodeRole
from provisioning.resources import Command, Directory, Package, Resource, Service, file
from provisioning.role import Context, Role
from provisioning.roles.own_files import FOLDER, own_file
from provisioning.roles.slurm_release import refuse_jump
from provisioning.roles.where import on_first

DATABASE = "slurm_acct_db"
RELEASE = f"{FOLDER}/slurm-database"
QUICK = f"{FOLDER}/slurm-quick-acks"
DROP_IN = "/etc/systemd/system/slurmdbd.service.d"

# Known by its socket, so there is no password to keep, leak or rotate: the daemon runs on the
# database's own machine as the account that owns the data.
_SETUP = f"""
CREATE DATABASE IF NOT EXISTS {DATABASE};
CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED VIA unix_socket;
GRANT ALL ON {DATABASE}.* TO 'slurm'@'localhost';
"""


def mariadb_conf(memory_mb: int) -> str:
    """Slurm's advice (innodb_lock_wait_timeout, a big enough log) within a small machine's means.

    The buffer pool is a tenth of the memory, 64 MB to 4 GB: accounting of a class is small.
    """
    pool = min(4096, max(64, memory_mb // 10))
    return (
        "[mysqld]\n"
        "bind-address = 127.0.0.1\n"
        f"innodb_buffer_pool_size = {pool}M\n"
        "innodb_log_file_size = 64M\n"
        "innodb_lock_wait_timeout = 900\n"
        "max_allowed_packet = 16M\n"
        "performance_schema = OFF\n"
    )


def slurmdbd_conf(context: Context) -> str:
    """slurmdbd.conf(5). Nobody but operators sees others' jobs."""
    cluster = context.cluster
    return (
        "AuthType=auth/munge\n"
        f"DbdHost={cluster.first(NodeRole.DATABASE).name}\n"
        f"DbdPort={cluster.slurm.database_port}\n"
        "SlurmUser=slurm\n"
        "LogFile=/var/log/slurm/slurmdbd.log\n"
        "PidFile=/run/slurmdbd.pid\n"
        "StorageType=accounting_storage/mysql\n"
        "StorageHost=localhost\n"
        "StorageUser=slurm\n"
        f"StorageLoc={DATABASE}\n"
        "PrivateData=jobs,usage\n"
    )


def unit(address: str) -> str:
    """Its drop-in. As root, and slurmdbd starts all the same where it fails."""
    return (
        "[Unit]\nWants=network-online.target\nAfter=network-online.target\n"
        f"[Service]\nExecStartPre=-+{QUICK} {address}\n"
    )


def database(context: Context) -> list[Resource]:
    """PracticumError when slurmdbd could not take over the records that are there."""
    refuse_jump(context.node.name, context.own)
    return [
        Package(package="mariadb-server"),
        Package(package="slurmdbd"),
        file(
            "/etc/mysql/mariadb.conf.d/60-practicum.cnf",
            mariadb_conf(context.own.memory_mb),
            notify=("restart:mariadb",),
        ),
        Service(service="mariadb", wait_port=3306),
        Command(
            id="accounting-database",
            check=("runuser", "-u", "slurm", "--", "mariadb", "-e", f"USE {DATABASE}"),
            run=("mariadb",),
            stdin=_SETUP,
            summary=f"make the database {DATABASE} and its account",
        ),
        file(
            "/etc/slurm/slurmdbd.conf",
            slurmdbd_conf(context),
            owner="slurm",
            group="slurm",
            mode=0o600,
            notify=("restart:slurmdbd",),
        ),
        file(QUICK, own_file("slurm-quick-acks"), mode=0o755),
        Directory(path=DROP_IN),
        file(
            f"{DROP_IN}/practicum.conf",
            unit(context.cluster.first(NodeRole.DATABASE).address),
            notify=("restart:slurmdbd",),
        ),
        Service(service="slurmdbd", wait_port=context.cluster.slurm.database_port),
        file(RELEASE, own_file("slurm-database"), mode=0o755),
        Command(
            id="slurm-database",
            check=(RELEASE, "--check"),
            run=(RELEASE,),
            summary="note which release of Slurm the accounting database is of",
        ),
    ]


ROLES = (Role("slurmdbd", "database", on_first(NodeRole.DATABASE), database),)
