"""What people may choose, on a real cluster: bad options by REST, modules, limits of Slurm told
plainly, the last choice, and an instructor's start for a student."""

from __future__ import annotations

from typing import Any

import pytest
from student import Student, no_jobs_left, text
from waiting import until

pytestmark = pytest.mark.lab

QOS = "test-limits"


def own_jobs(run_on: Any, user: str) -> list[str]:
    """NUMBER/CORES/MEMORY/STATE of a person's sessions."""
    argv = ["squeue", "-h", "-n", "practicum-hub", "-u", user, "-o", "%i/%C/%m/%T"]
    return text(run_on("login", argv)).split()


def refused(one: Student, options: Any) -> str:
    """What is said of a start that must not be."""
    last, _ = one.outcome(**options)
    assert last.get("failed"), last
    return str(last["message"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"profile": "small\n#SBATCH --uid=0"}, "There is no profile"),
        ({"profile": "teaching"}, "There is no profile 'teaching' for you"),
        ({"profile": "small", "cpus": "$(id)"}, "cannot be had"),
        ({"profile": "small", "cpus": 1.5}, "cannot be had"),
        ({"profile": "small", "memory": 10**9}, "cannot be had"),
        ({"profile": "small", "time": "99:00"}, "cannot be had"),
        ({"profile": "small", "kernel": "../../x"}, "There is no kernel"),
        ({"profile": "small", "modules": ["`id`"]}, "There is no module"),
        ({"profile": "here", "cpus": 1}, "On the login node cpus cannot be chosen"),
        ({"partition": "batch"}, "There is no option 'partition'"),
    ],
)
def test_a_bad_option_is_told_and_no_job_made(
    student: Any, run_on: Any, options: dict[str, Any], sentence: str
) -> None:
    cleo = student("cleo")
    assert sentence in refused(cleo, options)
    assert own_jobs(run_on, "cleo") == []


def test_chosen_modules_are_in_cells_and_terminals(student: Any, run_on: Any) -> None:
    cleo = student("cleo")
    last, _ = cleo.outcome(profile="small", memory=200, modules=[module(run_on)])
    assert last.get("ready"), last
    (number, _cores, memory, _state) = own_jobs(run_on, "cleo")[0].split("/")
    assert memory == "200M"
    node = text(run_on("login", ["squeue", "-h", "-j", number, "-o", "%N"])).strip()
    pid = text(run_on(node, ["pgrep", "-u", "cleo", "-f", "launcher.py"])).split()[0]
    # what kernels inherit is not in /proc/PID/environ of the server: a child of it tells
    cleo.web.get(f"{cleo.hub}/user/cleo/lab", timeout=60)
    made = cleo.web.post(
        f"{cleo.hub}/user/cleo/api/terminals",
        headers={"X-XSRFToken": session_xsrf(cleo)},
        timeout=60,
    )
    assert made.status_code == 200, made.text

    def children() -> list[str]:
        return str(run_on(node, ["pgrep", "-u", "cleo", "-P", pid]).stdout).split()

    shells = until(children)
    environment = text(run_on(node, ["cat", f"/proc/{shells[0]}/environ"])).split("\0")
    loaded = [line for line in environment if line.startswith("LOADEDMODULES=")]
    assert loaded == [f"LOADEDMODULES={module(run_on)}"], loaded


def module(run_on: Any) -> str:
    """One of the first level that loads no other: the shared Python's."""
    names = text(run_on("login", ["sh", "-c", "cd /nfs/apps/modulefiles/Core && ls python/*.lua"]))
    return names.split()[0].removesuffix(".lua")


def session_xsrf(one: Student) -> str:
    found = [
        item.value for item in one.web.cookies if item.name == "_xsrf" and "/user/" in item.path
    ]
    return found[-1] if found else ""


def test_a_limit_of_slurm_is_told_in_a_sentence(student: Any, run_on: Any) -> None:
    """A QOS of the partition, as [[qos]] and `qos` of [[partitions]] make one."""
    cleo = student("cleo")
    manager = ["sacctmgr", "-i", "-Q"]
    limits = ["maxtresperuser=cpu=1", "maxsubmitjobsperuser=2", "flags=DenyOnLimit"]
    run_on("login", [*manager, "delete", "qos", QOS])  # left by a run that was broken off
    text(run_on("login", [*manager, "add", "qos", QOS, *limits]))
    partition = ["scontrol", "update", "partitionname=notebook"]
    try:
        until(lambda: run_on("login", [*partition, f"qos={QOS}"]).returncode == 0, 60)
        no_jobs_left(run_on, "cleo")
        last, _ = cleo.outcome(profile="small")
        assert last.get("ready"), last
        cleo.server_name = "second"
        assert cleo.start(profile="small").status_code in (201, 202)
        waits = "all the cores that one person may have at a time"
        for event in cleo.events():
            if waits in event["message"]:
                break
        assert waits in event["message"], event
        cleo.server_name = "third"
        said = refused(cleo, {"profile": "small"})
        assert "as many jobs as one person may have" in said, said
        assert len(own_jobs(run_on, "cleo")) == 2
    finally:
        cleo.stop()
        text(run_on("login", [*partition, "qos="]))
        run_on("login", [*manager, "delete", "qos", QOS])


def test_the_last_choice_is_had_again_as_far_as_it_can_be(student: Any, run_on: Any) -> None:
    cleo = student("cleo")
    last, _ = cleo.outcome(profile="medium", memory=400)
    assert last.get("ready"), last
    cleo.stop()
    no_jobs_left(run_on, "cleo")
    last, _ = cleo.outcome()
    assert last.get("ready"), last
    assert [job.split("/")[1:3] for job in own_jobs(run_on, "cleo")] == [["2", "400M"]]


def test_an_instructor_starts_what_the_student_chose_and_cannot_enter_it(
    student: Any, run_on: Any
) -> None:
    cleo, ines = student("cleo"), student("ines")
    last, _ = cleo.outcome(profile="small", memory=250)
    assert last.get("ready"), last
    cleo.stop()
    no_jobs_left(run_on, "cleo")
    url = f"{ines.hub}/hub/api/users/cleo"
    started = ines.web.post(f"{url}/server", params=ines.xsrf, timeout=60)
    assert started.status_code in (201, 202), started.text
    until(lambda: [job for job in own_jobs(run_on, "cleo") if job.endswith("/RUNNING")], 180)
    assert own_jobs(run_on, "cleo")[0].split("/")[2] == "250M"
    until(lambda: cleo.api("GET", "").json().get("server"), 180)
    entered = ines.web.get(f"{ines.hub}/user/cleo/api/status", timeout=30)
    assert entered.status_code in (403, 404), entered.text[:200]
    for path in ("/tokens", "/servers/x/shares"):
        assert ines.web.post(url + path, params=ines.xsrf, json={}, timeout=30).status_code in (
            403,
            404,
        )
    other = ines.web.post(f"{ines.hub}/hub/api/users/admin/server", params=ines.xsrf, timeout=30)
    assert other.status_code in (403, 404)
    stopped = ines.web.delete(f"{url}/server", params=ines.xsrf, timeout=60)
    assert stopped.status_code in (202, 204), stopped.text
    until(lambda: not own_jobs(run_on, "cleo"))
