"""What courses put onto the cluster's nodes: accounts, the session's part, the spoolers."""

from __future__ import annotations

import json
from pathlib import Path

from cluster.courses import Course
from cluster.model import Cluster, Node, NodeRole
from cluster.secrets import derived
from coursework.layout import ENVIRONMENT, LIBRARY, SECRETS, SESSION, Layout, layouts
from coursework.units import (
    as_grader,
    formgrader_socket,
    formgrader_unit,
    nbgrader_config,
    spool_socket,
    spool_unit,
    sudoers,
)
from kernels.build_env import Spec
from kernels.environments import GRAMMAR, builder, environment
from kernels.kernelspec import lab_config
from provisioning import wheel
from provisioning.resources import (
    Directory,
    Group,
    Image,
    Link,
    Package,
    Resource,
    Service,
    User,
    file,
)
from provisioning.role import Context
from provisioning.roles.where import homes_node

OWN = Path(__file__).parent
FILES = OWN / "files"
SESSION_PACKAGE = OWN / "session"
PACKAGE = "practicum_session"
JUPYTER = f"{LIBRARY}/coursework"  # on JUPYTER_PATH of people in courses
LABEXTENSION = "labextensions/@jupyter/nbgrader"
STUDENTS_PARTS = ("assignment-list", "course-list", "validate-assignment")
IMPORTS = ("nbgrader.apps", "jupyterhub.singleuser", "practicum_session.exchange")


def any_course(cluster: Cluster) -> bool:
    return bool(cluster.courses)


def sessions_here(cluster: Cluster, node: Node) -> bool:
    """Nodes on which students work or log in."""
    return any_course(cluster) and (node.has(NodeRole.COMPUTE) or node.has(NodeRole.LOGIN))


def login_here(cluster: Cluster, node: Node) -> bool:
    return any_course(cluster) and node.name == cluster.first(NodeRole.LOGIN).name


def accounts(context: Context) -> list[Resource]:
    """The grader and the accounts that submissions run under, everywhere: only numbers count
    over NFS and munge. The course's group is made with the people (provisioning.roles.identity)."""
    found: list[Resource] = []
    for places in layouts(context.cluster):
        course = places.course
        home = str(places.root)
        groups = graders_groups(context.cluster, course)
        found += [
            Group(group=course.grader, gid=course.uid),
            User(user=course.grader, uid=course.uid, group=course.grader, groups=groups, home=home,
                 full_name=f"Grader of {course.name}"),
        ]  # fmt: skip
        for name, uid in zip(course.boxes, course.box_uids, strict=True):
            found += [
                Group(group=name, gid=uid),
                User(user=name, uid=uid, group=name, groups=groups),
            ]
    return found


def graders_groups(cluster: Cluster, course: Course) -> tuple[str, ...]:
    """The course's own group, if a kernel is for it alone: submissions need that kernel. Else
    none. What else is open to that group is the class's, who wrote what runs; homes, /scratch and
    course folders are hidden where it runs."""
    return (course.group,) if any(one.group == course.group for one in cluster.kernels) else ()


def is_homes_node(cluster: Cluster, node: Node) -> bool:
    return any_course(cluster) and node.name == homes_node(cluster).name


def folders(context: Context) -> list[Resource]:
    """Each course's folder, where root may make it."""
    return [
        Directory(path=str(path), owner=places.course.grader, group=places.course.grader,
                  mode=0o700, image=Image.DEFER)
        for places in layouts(context.cluster)
        for path in (places.root, places.exchange, places.ledger)
    ]  # fmt: skip


def session_files() -> dict[str, bytes]:
    """practicum_session's modules by name."""
    return {path.name: path.read_bytes() for path in sorted(SESSION_PACKAGE.glob("*.py"))}


def session_places(cluster: Cluster) -> str:
    """/etc/practicum/session-courses.json: what sessions must know of courses. Of archived ones
    too: their feedback can still be read."""
    entries = [
        {
            "name": places.course.name,
            "title": places.course.title,
            "address": places.login,
            "port": places.spool_port,
            "grader": places.course.uid,
            "group": places.course.group,
            "max_bytes": places.course.max_submission_mb * 1_000_000,
            "max_files": places.course.max_files,
        }
        for places in layouts(cluster)
    ]
    return json.dumps(entries, indent=1) + "\n"


def session(context: Context) -> list[Resource]:
    """Files of the standard library's Python alone; the assignment list's page is a link into
    nbgrader's environment."""
    share = f"{context.cluster.storage.envs}/{ENVIRONMENT}/current/share/jupyter"
    return [
        Directory(path=LIBRARY),
        Directory(path=f"{LIBRARY}/bin"),
        Directory(path=SESSION),
        Directory(path=f"{SESSION}/{PACKAGE}"),
        *(file(f"{SESSION}/{PACKAGE}/{name}", data) for name, data in session_files().items()),
        file(f"{LIBRARY}/bin/assignment", (FILES / "assignment").read_text(), mode=0o755),
        Directory(path="/etc/practicum"),
        file("/etc/practicum/session-courses.json", session_places(context.cluster)),
        Directory(path=JUPYTER),
        Directory(path=f"{JUPYTER}/labextensions"),
        Directory(path=f"{JUPYTER}/labextensions/@jupyter"),
        Link(path=f"{JUPYTER}/{LABEXTENSION}", target=f"{share}/{LABEXTENSION}"),
    ]


def graders_page() -> str:
    """JupyterLab of formgrader: without the parts of nbgrader that are students'."""
    off = (
        "@jupyterlab/apputils-extension:announcements",
        "@jupyterlab/extensionmanager-extension",
        *(f"@jupyter/nbgrader:{name}" for name in STUDENTS_PARTS),
    )
    return json.dumps({"disabledExtensions": dict.fromkeys(off, True)}, indent=1) + "\n"


def graders_environment(context: Context) -> list[Resource]:
    """nbgrader, pinned with hashes, where all nodes see it."""
    pins = f"{LIBRARY}/coursework-requirements.txt"
    own = f"{LIBRARY}/wheels/{PACKAGE}-1-py3-none-any.whl"
    spec = Spec(
        name=ENVIRONMENT,
        root=f"{context.cluster.storage.envs}/{ENVIRONMENT}",
        requirements=pins,
        wheels=(own,),
        files=(
            ("etc/jupyter/labconfig/page_config.json", graders_page()),
            ("etc/jupyter/jupyter_lab_config.json", lab_config()),
        ),
        remove=(GRAMMAR,),
        imports=IMPORTS,
        keep=1,
    )
    packed = wheel.pack(
        PACKAGE, "1", {f"{PACKAGE}/{name}": data for name, data in session_files().items()}
    )
    contents = {pins: (FILES / "requirements.txt").read_bytes(), own: packed}
    return [*builder(), Directory(path=f"{LIBRARY}/wheels"), *environment(spec, contents)]


def login(context: Context) -> list[Resource]:
    """On the first login node: rights of instructors, and each course's services."""
    cluster = context.cluster
    found: list[Resource] = [
        Package(package="sudo"),
        file(f"{LIBRARY}/as-grader", as_grader(), mode=0o755),
        file("/etc/sudoers.d/practicum-courses", sudoers(cluster.courses), mode=0o440,
             validate=("visudo", "-cf", "{}")),
        Directory(path="/etc/practicum/courses"),
    ]  # fmt: skip
    for places in layouts(cluster):
        found += [*course(cluster, places), *formgrader(context, places)]
    return found


def roster(cluster: Cluster, course: Course) -> str:
    """Students' names and addresses, as nbgrader's gradebook has them. cluster.toml has full names
    only: the last word is taken for the last name."""
    known = {user.name: user for user in cluster.users}
    found = {}
    for name in course.students:
        first, _, last = known[name].full_name.strip().rpartition(" ")
        found[name] = {"first_name": first, "last_name": last, "email": known[name].email}
    return json.dumps(found, indent=1) + "\n"


def server_config(places: Layout) -> str:
    """The kernel of notebooks that the instructors write."""
    own = {"default_kernel_name": places.course.kernel} if places.course.kernel else {}
    return json.dumps({"MappingKernelManager": own}) + "\n"


def course(cluster: Cluster, places: Layout) -> list[Resource]:
    """One course's configuration and spooler. An archived one keeps it: for what is given back."""
    unit = places.spool_unit
    restart, formgrader = (f"restart:{unit}",), (f"restart:{places.formgrader_unit}",)
    state = places.course.model_dump_json()
    return [
        Directory(path=places.config),
        # formgrader reads these once: whom it collects from and shows, and its kernel
        file(f"{places.config}/nbgrader_config.py", nbgrader_config(places), notify=formgrader),
        file(f"{places.config}/jupyter_server_config.json", server_config(places),
             notify=formgrader),
        # addresses are nobody else's matter
        file(places.roster, roster(cluster, places.course), owner=places.course.grader, mode=0o400),
        # Jupyter's own mark, without which it writes one here once a kernel has run, and fails
        file(f"{places.config}/migrated", ""),
        # what it was started with: people and limits; a change starts it anew
        file(f"{places.config}/course.json", f"{state}\n", notify=restart),
        file(f"/etc/systemd/system/{unit}.socket", spool_socket(places)),
        file(f"/etc/systemd/system/{unit}.service", spool_unit(places), notify=restart),
        Service(service=f"{unit}.socket"),
        Service(service=unit),
    ]  # fmt: skip


def formgrader(context: Context, places: Layout) -> list[Resource]:
    """The service that instructors grade by, and its token, which systemd hands it."""
    cluster, unit = context.cluster, places.formgrader_unit
    restart = (f"restart:{unit}",)
    # through the proxy: with internal TLS the hub itself answers nobody without a certificate
    hub = f"http://{places.login}:{cluster.hub.port}"
    token = derived(context.secrets.get("hub_cookie_secret", ""), places.formgrader)
    return [
        Directory(path=SECRETS, mode=0o700),
        file(f"{SECRETS}/{places.formgrader}", f"{token}\n", secret=True, notify=restart),
        file(f"/etc/systemd/system/{unit}.socket", formgrader_socket(places)),
        file(f"/etc/systemd/system/{unit}.service", formgrader_unit(places, hub), notify=restart),
        Service(service=f"{unit}.socket"),
        Service(service=unit),
    ]
