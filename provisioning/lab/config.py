"""The files of a lab's cluster, as an admin would write them."""

from __future__ import annotations

from cluster.load import load
from cluster.model import Cluster
from cluster.secrets import (
    PASSWORD,
    generate,
    load_secrets,
    save_secrets,
    secrets_path,
    with_password,
)
from provisioning.lab.model import LabInfo
from provisioning.lab.network import gateway
from provisioning.lab.state import State
from provisioning.lab.system import write

SERVER_ROLES = ("login", "controller", "database", "storage")
# Who there is, and as what; ids are in the file itself.
ACCOUNTS = (
    ("ada", "student"),
    ("ben", "student"),
    ("cleo", "student"),
    ("ines", "instructor"),
    ("admin", "admin"),
)

_TEMPLATE = """\
# The lab {name}: {count} containers on this machine. Change it and run
# `practicum apply` in this folder, as with a real cluster.

[cluster]
name = "{name}"

[network]
subnet = "{subnet}"
gateway = "{gateway}"
firewall = true

[ssh]
user = "root"
key = "secrets/ssh_key"
known_hosts = "secrets/known_hosts"

# Every node has the same folders of this machine on /home and /nfs.
[storage]
provider = "external"
home = "/home"
shared = "/nfs"

[[nodes]]
name = "login"
address = "{login}"
roles = ["login", "controller", "database", "storage"]

# Declared larger than the containers are, so that a class fits.
[[nodes]]
name = "{computing}"
address = "{first}"
roles = ["compute"]
cpus = 4
memory_mb = 4000

[[groups]]
name = "students"
gid = 2000
role = "student"

[[groups]]
name = "instructors"
gid = 2001
role = "instructor"

[[groups]]
name = "admins"
gid = 2002
role = "admin"

[[users]]
name = "ada"
uid = 2101
groups = ["students"]
full_name = "Ada Lovelace"

[[users]]
name = "ben"
uid = 2102
groups = ["students"]
full_name = "Ben Alvarez"

[[users]]
name = "cleo"
uid = 2103
groups = ["students"]
full_name = "Cleo Martin"

[[users]]
name = "ines"
uid = 2201
groups = ["instructors"]
full_name = "Ines Okafor"

[[users]]
name = "admin"
uid = 2301
groups = ["admins"]
full_name = "The admin"

# Notebooks share cores: eight on each.
[[partitions]]
name = "notebook"
nodes = "ALL"
oversubscribe = 8
max_time = "08:00:00"
default_time = "04:00:00"
default_memory_per_cpu_mb = 300

[[partitions]]
name = "batch"
nodes = "ALL"
default = true
max_time = "1-00:00:00"
default_time = "01:00:00"
default_memory_per_cpu_mb = 500

[[profiles]]
name = "small"
title = "Small"
description = "1 shared core, 300 MB, 4 hours: for the course's notebooks"
partition = "notebook"
cpus = 1
memory_mb = 300

[[profiles]]
name = "medium"
title = "Medium"
description = "2 shared cores, 1 GB, 4 hours"
partition = "notebook"
cpus = 2
memory_mb = 1000

[[profiles]]
name = "teaching"
title = "Teaching"
description = "2 shared cores, 1 GB, 8 hours: for instructors"
partition = "notebook"
cpus = 2
memory_mb = 1000
time = "08:00:00"
groups = ["instructors", "admins"]

[[profiles]]
name = "here"
title = "On the login node"
description = "1 core, 600 MB, 2 hours: for when the cluster is full"
login = true
memory_mb = 600
time = "02:00:00"

[[kernels]]
name = "python3"
title = "Python (class)"
packages = ["numpy"]
"""


def node_plan(count: int) -> list[tuple[str, tuple[str, ...]]]:
    """(name, roles) of each node: one that serves, the others compute."""
    computing = [(f"node{number:02d}", ("compute",)) for number in range(1, count)]
    return [("login", SERVER_ROLES), *computing]


def cluster_toml(lab: State) -> str:
    """The cluster, described."""
    computing = [node for node in lab.nodes if "compute" in node.roles]
    names = computing[0].name
    if len(computing) > 1:
        names = f"node[01-{len(computing):02d}]"
    return _TEMPLATE.format(
        name=lab.name,
        count=len(lab.nodes),
        subnet=lab.subnet,
        gateway=gateway(lab.network),
        login=lab.login.address,
        computing=names,
        first=computing[0].address,
    )


def ensure(lab: State) -> tuple[Cluster, dict[str, str]]:
    """cluster.toml and the secrets, written where they are missing; what they say.

    A cluster.toml that is there stays: an admin may have changed it to try something.
    """
    info: LabInfo = lab.info
    path = info.cluster_toml
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        write(path, cluster_toml(lab))
    secret_file = secrets_path(path)
    known = load_secrets(secret_file) if secret_file.exists() else {}
    values = generate(known)
    for account in lab.accounts:
        if f"{PASSWORD}{account.name}" not in values:
            values = with_password(values, account.name, account.password)
    if values != known:
        save_secrets(secret_file, values)
    return load(path), values
