"""What a class meets: places told, waits cancelled, full homes, and a session on the login node
itself."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from gates import notebooks_closed
from student import alive, jobs, text
from waiting import until

pytestmark = pytest.mark.lab

LOGIN_PROFILE = "here"


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
    last, _ = ada.outcome(profile=LOGIN_PROFILE)
    assert last.get("failed") and "session on the login node already" in last["message"], last

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


@pytest.mark.parametrize("profile", ["small", LOGIN_PROFILE])
def test_whose_account_is_closed_starts_nothing(student: Any, run_on: Any, profile: str) -> None:
    """By the cookie of before, by a token, and past the hub; an instructor does not either."""
    ada, ines = student("ada"), student("ines")
    token = ada.api("POST", "/tokens", json={"note": "kept"}).json()["token"]
    url = f"{ada.hub}/hub/api/users/ada/server"
    close = ["usermod", "--expiredate"]
    text(run_on("login", [*close, "1970-01-02", "ada"]))
    try:
        assert ada.start(profile=profile).status_code == 403
        bearer = {"Authorization": f"token {token}"}
        by_token = requests.post(url, headers=bearer, json={"profile": profile}, timeout=60)
        assert by_token.status_code == 403, by_token.text
        by_ines = ines.web.post(url, params=ines.xsrf, json={"profile": profile}, timeout=60)
        assert by_ines.status_code >= 400, by_ines.text
        uid = text(run_on("login", ["id", "-u", "ada"])).strip()
        unit = f"practicum-login-{LOGIN_PROFILE}@{uid}.service"
        assert run_on("login", ["systemctl", "start", unit]).returncode != 0
        run_on("login", ["systemctl", "reset-failed", unit])
        assert jobs(run_on, "ada") == []
    finally:
        text(run_on("login", [*close, "", "ada"]))
    last, _ = student("ada").outcome(profile=profile)
    assert last.get("ready"), last


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
