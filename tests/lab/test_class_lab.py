"""What a class meets: places told, waits cancelled, a hub and a Slurm that come and go under
starting and running sessions, full homes, and a session on the login node itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from student import Student

pytestmark = pytest.mark.lab

LOGIN_PROFILE = "here"


@pytest.fixture
def student(lab: Any) -> Iterator[Callable[[str], Student]]:
    made: list[Student] = []

    def log_in(name: str) -> Student:
        made.append(Student(lab, name))
        return made[-1]

    yield log_in
    for one in made:
        one.stop()


def text(done: Any) -> str:
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def until(what: Callable[[], Any], limit: float = 90) -> Any:
    end = time.monotonic() + limit
    while not (found := what()):
        assert time.monotonic() < end, f"still not so after {limit} s"
        time.sleep(0.5)
    return found


def jobs(run_on: Any, user: str) -> list[list[str]]:
    """[number, state] of the sessions' jobs of a user."""
    rows = text(run_on("login", ["squeue", "-h", "-n", "practicum-hub", "-u", user, "-o", "%i %T"]))
    return [row.split() for row in rows.splitlines()]


@contextmanager
def notebooks_closed(run_on: Any) -> Iterator[Callable[[], None]]:
    """No notebook starts; call what is given to let them."""

    def change(state: str) -> None:
        text(run_on("login", ["scontrol", "update", "partitionname=notebook", f"state={state}"]))

    change("DOWN")
    try:
        yield lambda: change("UP")
    finally:
        change("UP")


def hub_is_back(one: Student) -> bool:
    try:
        return one.api("GET", "").status_code == 200
    except requests.RequestException:
        return False


def alive(one: Student) -> bool:
    """Its session answers through the proxy, to the browser that is logged in."""
    try:
        one.web.get(f"{one.hub}/user/{one.name}/lab", timeout=30)
        return one.web.get(f"{one.hub}/user/{one.name}/api/status", timeout=30).status_code == 200
    except requests.RequestException:
        return False


def test_what_is_free_is_told_for_each_profile(student: Any) -> None:
    ada = student("ada")
    free = ada.web.get(f"{ada.hub}/hub/api/practicum/free", timeout=30).json()
    assert set(free) == {"small", "medium", LOGIN_PROFILE}, free  # teaching is for instructors
    assert "cores" in free["small"] and "nodes" in free["small"], free
    assert "login node" in free[LOGIN_PROFILE]


def test_a_session_on_the_login_node_is_within_the_users_slice(student: Any, run_on: Any) -> None:
    ada = student("ada")
    last, _ = ada.outcome(profile=LOGIN_PROFILE)
    assert last.get("ready"), last
    uid = text(run_on("login", ["id", "-u", "ada"])).strip()
    unit = f"practicum-login-{LOGIN_PROFILE}@{uid}.service"
    shown = text(run_on("login", ["systemctl", "show", "-P", "ControlGroup", unit])).strip()
    assert f"/user-{uid}.slice/" in shown, shown
    owner = text(run_on("login", ["ps", "-o", "user=", "-u", "ada", "-C", "python"]))
    assert "ada" in owner
    assert jobs(run_on, "ada") == []
    assert alive(ada)

    ada.server_name = "second"
    refused = ada.start(profile=LOGIN_PROFILE)
    said = refused.text if refused.status_code == 503 else list(ada.events())[-1]["message"]
    assert "session on the login node already" in said

    ada.stop()
    assert run_on("login", ["systemctl", "is-active", unit]).stdout.strip() != "active"


def test_the_hub_starts_no_admins_session_on_the_login_node(run_on: Any) -> None:
    uid = text(run_on("login", ["id", "-u", "admin"])).strip()
    unit = f"practicum-login-{LOGIN_PROFILE}@{uid}.service"
    hub = ["sudo", "-u", "practicum-hub", "sudo", "-n", "systemctl"]
    assert run_on("login", [*hub, "start", unit]).returncode != 0
    for forbidden in (["start", "ssh.service"], ["stop", "practicum-hub.service"],
                      ["start", f"practicum-login-{LOGIN_PROFILE}@0.service"]):  # fmt: skip
        assert run_on("login", [*hub, *forbidden]).returncode != 0, forbidden
    run_on("login", ["systemctl", "reset-failed"])  # systemd remembers what was refused


def test_a_named_server_that_waits_is_cancelled(student: Any, run_on: Any) -> None:
    ben = student("ben")
    ben.server_name = "spare"
    with notebooks_closed(run_on):
        assert ben.start(profile="small").status_code == 202
        until(lambda: jobs(run_on, "ben"))
        page = ben.web.get(f"{ben.hub}/hub/spawn-pending/ben/spare", timeout=30).text
        assert 'const server = "spare"' in page
        assert ben.api("DELETE", "/servers/spare").status_code in (202, 204)
        until(lambda: not jobs(run_on, "ben"))


def test_a_restart_of_the_hub_finds_waiting_and_running_sessions(student: Any, run_on: Any) -> None:
    ada, ben = student("ada"), student("ben")
    last, _ = ada.outcome(profile="small")
    assert last.get("ready"), last
    with notebooks_closed(run_on) as let_go:
        assert ben.start(profile="small").status_code == 202
        before = until(lambda: jobs(run_on, "ben"))
        text(run_on("login", ["systemctl", "restart", "practicum-hub"]))
        until(lambda: hub_is_back(ben))
        let_go()
        until(lambda: alive(ben), 180)
    assert [number for number, _ in jobs(run_on, "ben")] == [number for number, _ in before]
    assert alive(ada)


def test_a_slurm_that_is_away_loses_nothing(student: Any, run_on: Any) -> None:
    """Longer than two looks of the watcher; one session runs, another waits."""
    ada, ben = student("ada"), student("ben")
    last, _ = ada.outcome(profile="small")
    assert last.get("ready"), last
    with notebooks_closed(run_on) as let_go:
        assert ben.start(profile="small").status_code == 202
        until(lambda: jobs(run_on, "ben"))
        text(run_on("login", ["systemctl", "stop", "slurmctld"]))
        try:
            time.sleep(25)
            assert ada.servers() == [""] and ben.servers() == [""]
            assert alive(ada)
        finally:
            text(run_on("login", ["systemctl", "start", "slurmctld"]))
        until(lambda: run_on("login", ["scontrol", "ping"]).stdout.count("UP"))
        let_go()
        until(lambda: alive(ben), 180)


def test_a_dead_node_is_told_and_an_accounting_that_is_away_does_no_harm(
    student: Any, run_on: Any
) -> None:
    cleo = student("cleo")
    text(run_on("login", ["systemctl", "stop", "slurmdbd"]))
    try:
        last, _ = cleo.outcome(profile="small")
    finally:
        text(run_on("login", ["systemctl", "start", "slurmdbd"]))
    assert last.get("ready"), last
    number = jobs(run_on, "cleo")[0][0]
    node = text(run_on("login", ["squeue", "-h", "-j", number, "-o", "%N"])).strip()
    text(run_on("login", ["scontrol", "update", f"nodename={node}", "state=down", "reason=test"]))
    try:
        until(lambda: not cleo.servers())
    finally:
        # refused when it has come back by itself
        run_on("login", ["scontrol", "update", f"nodename={node}", "state=resume"])
        until(lambda: not run_on("login", ["sinfo", "-h", "-t", "down", "-o", "%N"]).stdout.strip())
    log = text(run_on("login", ["journalctl", "-u", "practicum-hub", "-n", "300", "-o", "cat"]))
    assert "its node failed" in log


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_home_that_takes_nothing_still_has_a_session(
    lab: Any, student: Any, run_on: Any, how: str
) -> None:
    cleo = student("cleo")
    nodes = [node.name for node in lab.nodes if "compute" in node.roles]
    uid = text(run_on("login", ["id", "-u", "cleo"])).strip()
    options = "ro" if how == "read-only" else "size=64k"
    for node in nodes:
        text(run_on(node, ["mount", "-t", "tmpfs", "-o", f"{options},uid={uid},mode=700",
                           "tmpfs", "/home/cleo"]))  # fmt: skip
        if how == "full":
            run_on(node, ["dd", "if=/dev/zero", "of=/home/cleo/all", "bs=4k"])
    try:
        last, _ = cleo.outcome(profile="small")
        assert last.get("ready"), last
        assert alive(cleo)
        cleo.stop()
    finally:
        for node in nodes:
            text(run_on(node, ["umount", "--lazy", "/home/cleo"]))
