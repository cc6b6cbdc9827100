"""What courses put onto nodes: pure functions, checked by the programs that will read them."""

from __future__ import annotations

import json
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from hub_sample import SECRETS, context, sample

from coursework import layout, nodes, units
from hub import config as hub_config
from practicum.rooms import ROLES
from provisioning.role import declare
from provisioning.roles.slurm_accounting import accounting
from spawners import handover

PEOPLE = [
    {"name": "ada", "uid": 2100, "groups": ["students"]},
    {"name": "ben", "uid": 2101, "groups": ["students"]},
    {"name": "ines", "uid": 2200, "groups": ["instructors"]},
]
COURSES = [
    {"name": "hpc", "uid": 50000, "instructors": ["ines"], "students": ["ada", "ben"]},
    {"name": "old", "uid": 50100, "instructors": ["ines"], "students": ["ben"],
     "state": "archived"},
]  # fmt: skip


@pytest.fixture
def cluster():
    return sample(users=PEOPLE, courses=COURSES)


def declared(cluster, node: str) -> dict[str, object]:
    made = declare(ROLES, context(node, cluster))
    return {one.key: one for _stage, found in made.stages for one in found}


def test_without_a_course_there_is_nothing_of_it() -> None:
    for node in ("login", "node01"):
        keys = declared(sample(), node)
        found = [key for key in keys if "grader" in key or "spool" in key or "course" in key]
        assert found in ([], ["directory:/nfs/courses"])  # of the shared folders


def test_accounts_are_everywhere_and_services_on_the_login_node(cluster) -> None:
    login, node = declared(cluster, "login"), declared(cluster, "node01")
    for key in ("user:grader-hpc", "user:gradebox-hpc-02", "group:course-hpc", "group:teach-hpc"):
        assert key in login and key in node, key
    assert login["user:ines"].groups == ("course-hpc", "teach-hpc", "course-old", "teach-old")
    assert login["user:ada"].groups == ("course-hpc",)
    services = {key for key in login if key.startswith("service:practicum-")}
    assert "service:practicum-spool-hpc.socket" in services
    assert "service:practicum-formgrader-hpc.socket" in services
    assert not [key for key in node if "spool" in key or "sudoers.d/practicum-courses" in key]
    assert login["directory:/nfs/courses/hpc"].mode == 0o700
    token = login["file:/etc/practicum/secrets/formgrader-hpc"]
    assert token.secret and token.mode == 0o600


def test_a_grader_is_in_its_courses_group_where_a_kernel_is_for_it_alone(cluster) -> None:
    assert declared(cluster, "node01")["user:gradebox-hpc-01"].groups == ()
    kernels = [{"name": "python3", "title": "Python"},
               {"name": "own", "title": "Own", "group": "course-hpc"}]  # fmt: skip
    made = declared(sample(users=PEOPLE, courses=COURSES, kernels=kernels), "node01")
    for name in ("grader-hpc", "gradebox-hpc-01", "gradebox-hpc-02"):
        assert made[f"user:{name}"].groups == ("course-hpc",)
    assert made["user:gradebox-old-01"].groups == ()


def test_sessions_are_told_of_archived_courses_too(cluster) -> None:
    """Their feedback is still to be had."""
    told = json.loads(nodes.session_places(cluster))
    assert [(one["name"], one["port"], one["grader"]) for one in told] == [
        ("hpc", 600, 50000), ("old", 601, 50100),
    ]  # fmt: skip
    assert handover.course_extensions(cluster, "ben") and not handover.course_extensions(
        cluster.model_copy(update={"courses": ()}), "ben"
    )
    only_old = cluster.model_copy(update={"courses": cluster.courses[1:]})
    assert handover.course_extensions(only_old, "ben")


def test_names_and_addresses_are_the_graders_alone() -> None:
    people = [
        {**PEOPLE[0], "full_name": "Ada King Lovelace", "email": "ada@school.example"},
        {**PEOPLE[1], "full_name": "Ben"},
        PEOPLE[2],
    ]
    found = declared(sample(users=people, courses=COURSES), "login")
    roster = found["file:/etc/practicum/courses/hpc/roster.json"]
    assert (roster.owner, roster.mode) == ("grader-hpc", 0o400)
    assert json.loads(roster.content) == {
        "ada": {"first_name": "Ada King", "last_name": "Lovelace", "email": "ada@school.example"},
        "ben": {"first_name": "", "last_name": "Ben", "email": ""},
    }
    config = found["file:/etc/practicum/courses/hpc/nbgrader_config.py"].content.decode()
    assert "c.CourseExchange.roster = '/etc/practicum/courses/hpc/roster.json'" in config
    assert "school.example" not in config


@pytest.mark.skipif(not shutil.which("visudo"), reason="needs sudo")
def test_sudo_reads_the_rules(cluster, tmp_path) -> None:
    rules = tmp_path / "rules"
    rules.write_text(units.sudoers(cluster.courses))
    done = subprocess.run(["visudo", "-cf", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_hub_lets_instructors_in_and_its_service_do_nothing(cluster) -> None:
    hub = SimpleNamespace(load_roles=[])
    hub_config._courses(SimpleNamespace(JupyterHub=hub), cluster, SECRETS["hub_cookie_secret"])
    service = hub.services[0]
    token = declared(cluster, "login")["file:/etc/practicum/secrets/formgrader-hpc"]
    assert (
        token.content.decode().strip() == service["api_token"] and len(service["api_token"]) == 64
    )
    assert hub.services[0]["api_token"] != hub.services[1]["api_token"]
    assert service["url"] == "http://127.0.0.1:800"
    assert hub.load_roles[0]["groups"] == ["teach-hpc"]
    scopes = hub.load_roles[0]["scopes"]
    assert [one for one in scopes if "access" in one] == ["access:services!service=formgrader-hpc"]
    assert "servers!group=students:hpc" in scopes
    # of an archived one there is formgrader, and nothing else
    assert hub.load_roles[1]["scopes"] == ["access:services!service=formgrader-old"]
    assert not [role for role in hub.load_roles if "services" in role]


def test_slurm_has_an_account_for_each_course(cluster) -> None:
    wanted = json.loads(accounting(cluster))
    assert wanted["accounts"]["hpc"]["coordinators"] == ["grader-hpc"]
    assert wanted["users"]["ada"] == ["class", "hpc"]
    assert wanted["users"]["grader-hpc"] == ["class", "hpc"]
    assert wanted["users"]["gradebox-hpc-01"] == ["hpc"]
    assert wanted["users"]["ben"] == ["class", "hpc"]  # of an archived course no more


def test_formgrader_begins_anew_with_its_people_and_kernel(cluster) -> None:
    made = declared(cluster, "login")
    for name in ("nbgrader_config.py", "jupyter_server_config.json"):
        one = made[f"file:/etc/practicum/courses/hpc/{name}"]
        assert one.notify == ("restart:practicum-formgrader-hpc",)
    kernels = [{"name": "python3", "title": "Python"}, {"name": "mpi", "title": "MPI"}]
    courses = [{**COURSES[0], "kernel": "mpi"}]
    made = declared(sample(users=PEOPLE, courses=courses, kernels=kernels), "login")
    text = made["file:/etc/practicum/courses/hpc/jupyter_server_config.json"].content
    assert json.loads(text) == {"MappingKernelManager": {"default_kernel_name": "mpi"}}


def test_units_name_the_course_and_no_secret(cluster) -> None:
    places = layout.find(cluster, "hpc")
    text = units.formgrader_unit(places, "http://10.80.0.10:8081")
    assert "User=grader-hpc\n" in text and "LoadCredential=token:" in text
    assert "access:services!service=formgrader-hpc" in text
    assert "TemporaryFileSystem=/nfs/courses/hpc:ro" in units.spool_unit(places)
    assert "ListenStream=10.80.0.10:600" in units.spool_socket(places)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_systemd_reads_the_units(cluster, tmp_path) -> None:
    places = layout.find(cluster, "hpc")
    texts = {
        f"{places.spool_unit}.socket": units.spool_socket(places),
        f"{places.spool_unit}.service": units.spool_unit(places),
        f"{places.formgrader_unit}.socket": units.formgrader_socket(places),
        f"{places.formgrader_unit}.service": units.formgrader_unit(places, "http://10.80.0.10:1"),
    }
    for name, text in texts.items():
        # who and what runs is not on this machine
        rows = [row for row in text.splitlines() if not row.startswith(("User=", "Group="))]
        program = "ExecStart=/bin/true"
        rows = [program if row.startswith("ExecStart=") else row for row in rows]
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    said = [
        line for line in done.stderr.splitlines() if str(tmp_path) in line or "practicum" in line
    ]
    assert not [line for line in said if "munge" not in line], said
