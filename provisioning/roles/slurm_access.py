"""Compute nodes that people log in to only while they have a job there (pam_slurm_adopt(8)).

What is added to sshd's account rules is one line that includes a file of ours, so that no order
of edits can put the refusal before the admins' exception. PAM is asked, with that file, whether
the admins get in, before sshd's rules name it.
"""

from __future__ import annotations

from cluster.model import Cluster, Node, NodeRole
from provisioning.resources import Command, Line, Package, Resource, file
from provisioning.role import Context, Role
from provisioning.roles.own_files import FOLDER, own_file
from provisioning.roles.slurm_conf import limits_by_cgroup, memory_is_off
from provisioning.roles.slurm_jobs import trusted
from provisioning.roles.timed import timed

CHECK = f"{FOLDER}/check_access.py"
ALLOWED = "/etc/security/practicum-access.conf"
ACCOUNT = "practicum-job-account"  # in /etc/pam.d; PAM can be asked about it as a service
SESSION = "practicum-job-session"
SSHD = "/etc/pam.d/sshd"

# A failure to find or join the job refuses: outside the job there would be no limits.
ACCOUNT_RULES = f"""\
account sufficient pam_access.so accessfile={ALLOWED} nodefgroup
account required pam_slurm_adopt.so action_adopt_failure=deny action_generic_failure=deny
"""
# Debian's common-session but for pam_systemd, which would move the session out of the job.
SESSION_RULES = """\
session required pam_unix.so
session optional pam_umask.so
"""


def access_conf(cluster: Cluster) -> str:
    """access.conf(5): who is admitted without a job. Everybody else is asked for one."""
    names = dict.fromkeys(["root", cluster.ssh.user])
    lines = [f"+:{name}:ALL" for name in names]
    lines += [f"+:({group}):ALL" for group in cluster.groups_with("admin")]
    return "\n".join([*lines, "-:ALL:ALL", ""])


def wanted(cluster: Cluster, node: Node) -> bool:
    """Where nothing else brings people. A log-in node's people have no job on it."""
    return (
        cluster.slurm.ssh_needs_job and node.has(NodeRole.COMPUTE) and not node.has(NodeRole.LOGIN)
    )


def access(context: Context) -> list[Resource]:
    """Nothing where jobs have no cgroup to join: in containers, and on cgroup v1."""
    cluster = context.cluster
    if not limits_by_cgroup(cluster, context.facts) or memory_is_off(context.own):
        return []
    users = trusted(cluster)
    return [
        Package(package="libpam-slurm-adopt"),
        file(CHECK, own_file("check_access.py"), mode=0o755),
        file(ALLOWED, access_conf(cluster)),
        file(f"/etc/pam.d/{ACCOUNT}", ACCOUNT_RULES),
        file(f"/etc/pam.d/{SESSION}", SESSION_RULES),
        Command(
            id="admin-gets-in",
            check=("python3", "-I", CHECK, ACCOUNT, *users),
            run=("python3", "-I", CHECK, ACCOUNT, *users),
            summary=f"ask PAM whether {' and '.join(users)} can still log in",
        ),
        Line(
            path=SSHD,
            line=f"@include {SESSION}",
            match=r"^@include\s+(common-session|practicum-job-session)\s*$",
        ),
        Line(path=SSHD, line=f"@include {ACCOUNT}"),
        *timed(cluster),
    ]


ROLES = (Role("ssh-needs-job", "compute", wanted, access),)
