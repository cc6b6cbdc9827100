"""What nodes need to grade submissions, beside the accounts (coursework.nodes).

On every compute node: bubblewrap, the task's program, and a firewall table that drops whatever
the grading accounts send. On the first login node: the gradebook's writer and the right of each
grader to submit and cancel jobs as its grading accounts. Where folders are made: one for each
slot, the grader's, with the group of the slot's account.
"""

from __future__ import annotations

from pathlib import Path

from cluster.courses import Course
from cluster.model import Cluster, Node, NodeRole
from coursework.layout import LIBRARY, Layout, layouts
from coursework.units import PYTHON
from provisioning.resources import (
    Command,
    Directory,
    Image,
    Package,
    Resource,
    Service,
    file,
)
from provisioning.role import Context, Role
from provisioning.roles.firewall import table_unit
from provisioning.roles.slurm import conf_server, is_client
from provisioning.roles.where import homes_node

FILES = Path(__file__).parent / "files"
TASK = f"{LIBRARY}/grade_task.py"
BOOK = f"{LIBRARY}/grade_book.py"
CELLS = f"{LIBRARY}/grade_cells.py"  # beside it
TABLE = "inet practicum_grading"
RULES = "/etc/practicum/grading.nft"
UNIT = "practicum-grading-network"
SLURM_ENVIRONMENT = "/etc/practicum/grading-slurm-environment"
SUDOERS = "/etc/sudoers.d/practicum-grading"

UNIT_TEXT = table_unit(
    "practicum: no network for submissions under grading", TABLE, RULES, before="slurmd.service"
)


def wanted_path(places: Layout) -> str:
    """Starts the unit below while formgrader's button has left something."""
    return f"""# Written by practicum.
[Unit]
Description=practicum: what formgrader of {places.course.name} wants graded
RequiresMountsFor={places.root}

[Path]
DirectoryNotEmpty={places.grading}/wanted

[Install]
WantedBy=multi-user.target
"""


def wanted_unit(places: Layout) -> str:
    """Outside formgrader's own unit, which may not use sudo."""
    return f"""# Written by practicum.
[Unit]
Description=practicum: grading for formgrader of {places.course.name}
RequiresMountsFor={places.root}
# a start that fails is tried again, after a pause of its own
StartLimitIntervalSec=0

[Service]
Type=oneshot
User={places.course.grader}
Group={places.course.grader}
UMask=0077
Environment=LC_ALL=C.UTF-8 HOME={places.root}
EnvironmentFile=-{SLURM_ENVIRONMENT}
ExecStart={PYTHON} -I -m coursework.grade_wanted {places.course.name}
TimeoutStartSec=infinity
"""


def any_course(cluster: Cluster) -> bool:
    return bool(cluster.courses)


def graded_here(cluster: Cluster, node: Node) -> bool:
    return any_course(cluster) and node.has(NodeRole.COMPUTE)


def login_here(cluster: Cluster, node: Node) -> bool:
    return any_course(cluster) and node.name == cluster.first(NodeRole.LOGIN).name


def folders_here(cluster: Cluster, node: Node) -> bool:
    return any_course(cluster) and node.name == homes_node(cluster).name


def staging(cluster: Cluster) -> str:
    return f"{cluster.storage.courses}/.grading"


def rules(cluster: Cluster, node: Node) -> str:
    """nft's file. Where jobs are submitted from, sbatch reaches the controller, and only it."""
    uids = ", ".join(str(uid) for course in cluster.courses for uid in course.box_uids)
    allowed = []
    if node.has(NodeRole.LOGIN):
        controller = cluster.first(NodeRole.CONTROLLER)
        family = "ip6" if ":" in controller.address else "ip"
        port = cluster.slurm.controller_port
        addresses = f"{{ {controller.address}, {'::1' if family == 'ip6' else '127.0.0.1'} }}"
        allowed = [
            f"    meta skuid {{ {uids} }} {family} daddr {addresses} tcp dport {port} accept"
        ]
    return "\n".join(
        [
            "# Written by practicum: submissions under grading have no network.",
            f"table {TABLE}",
            f"delete table {TABLE}",
            f"table {TABLE} {{",
            "  chain output {",
            "    type filter hook output priority -10; policy accept;",
            *allowed,
            f"    meta skuid {{ {uids} }} reject",
            "  }",
            "}",
            "",
        ]
    )


def sudoers(courses: tuple[Course, ...], *, slurm_environment: bool) -> str:
    """Graders as their own course's grading accounts: sbatch (script on stdin) and scancel.

    A grading account owns nothing and what it writes is not believed, so sbatch's options are
    the grader's to choose.
    """
    lines = ["# Written by practicum."]
    for course in courses:
        boxes = ", ".join(course.boxes)
        lines.append(
            f"Defaults:{course.grader} !requiretty, !pam_session, !use_pty, env_reset, !setenv, "
            "!lecture"
        )
        if slurm_environment:
            lines.append(f"Defaults:{course.grader} env_file = {SLURM_ENVIRONMENT}")
        lines.append(
            f"{course.grader} ALL = ({boxes}) NOPASSWD: NOSETENV: "
            "/usr/bin/sbatch, /usr/bin/scancel ^[0-9]+$"
        )
    return "\n".join(lines) + "\n"


def compute(context: Context) -> list[Resource]:
    return [
        Package(package="bubblewrap"),
        Package(package="nftables"),
        Directory(path=LIBRARY),
        Directory(path="/etc/practicum"),
        file(TASK, (FILES / "grade_task.py").read_bytes(), mode=0o755),
        file(
            RULES,
            rules(context.cluster, context.node),
            validate=("nft", "-c", "-f", "{}"),
            notify=(f"reload:{UNIT}",),
        ),
        file(f"/etc/systemd/system/{UNIT}.service", UNIT_TEXT),
        Service(service=UNIT),
        # Somebody may have flushed all tables by hand since.
        Command(
            id="grading-network",
            check=("nft", "list", "chain", *TABLE.split(), "output"),
            run=("systemctl", "restart", UNIT),
            summary="load the table that keeps submissions off the network",
        ),
    ]


def login(context: Context) -> list[Resource]:
    client = is_client(context.cluster, context.node)
    found: list[Resource] = [
        Package(package="sudo"),
        Directory(path=LIBRARY),
        file(CELLS, (FILES / "grade_cells.py").read_bytes()),
        file(BOOK, (FILES / "grade_book.py").read_bytes(), mode=0o755),
        file(
            SUDOERS,
            sudoers(context.cluster.courses, slurm_environment=client),
            mode=0o440,
            validate=("visudo", "-cf", "{}"),
        ),
    ]
    for places in layouts(context.cluster):
        unit = f"practicum-grade-{places.course.name}"
        found += [
            file(f"/etc/systemd/system/{unit}.service", wanted_unit(places)),
            file(f"/etc/systemd/system/{unit}.path", wanted_path(places)),
            Service(service=f"{unit}.path"),
        ]
    if client:
        server = f"SLURM_CONF_SERVER={conf_server(context.cluster)}\n"
        found.insert(0, file(SLURM_ENVIRONMENT, server))
    return found


def folders(context: Context) -> list[Resource]:
    """Passable for all, so that a slot's account comes to its own; readable for nobody else."""
    top = staging(context.cluster)
    found = [Directory(path=top, mode=0o711, image=Image.DEFER)]
    for places in layouts(context.cluster):
        found += [
            Directory(path=f"{top}/{box}", owner=places.course.grader, group=box, mode=0o2750,
                      image=Image.DEFER)
            for box in places.course.boxes
        ]  # fmt: skip
    return list(found)


ROLES = (
    Role("grading-folders", "trust", folders_here, folders),
    Role("grading-nodes", "compute", graded_here, compute),
    Role("grading", "hub", login_here, login),
)
