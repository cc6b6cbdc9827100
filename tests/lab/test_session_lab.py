"""Sessions on a real cluster, without a browser: what Slurm holds of them, and how faults are told."""

from __future__ import annotations

import re
from typing import Any

import pytest
from gates import WITH_SECRETS, held, notebooks_closed
from student import text
from waiting import until

pytestmark = pytest.mark.lab


def test_a_session_is_a_job_that_holds_no_secret(student: Any, run_on: Any) -> None:
    ada = student("ada")
    said: list[str] = []
    # each gate is opened when the page has told that the start stands before it
    with held(run_on, WITH_SECRETS) as go_on, notebooks_closed(run_on) as let_start:
        assert ada.start(profile="small").status_code == 202
        for last in ada.events():
            said.append(last["message"])
            if said[-1].startswith("Waiting: the partition is closed to jobs"):
                let_start()
            if re.fullmatch(r"Running on node\d+, starting the server", said[-1]):
                go_on()
    assert last.get("ready"), said
    row = text(
        run_on(
            "login",
            ["squeue", "-h", "-n", "practicum-hub", "-u", "ada", "-t", "R", "-o", "%i %T %B %k"],
        )
    )
    number, state, node, comment = row.split()
    assert (state, comment) == ("RUNNING", "ada/") and node.startswith("node")

    script = text(run_on("login", ["scontrol", "write", "batch_script", number, "-"]))
    assert "launcher.py" in script and "TOKEN" not in script
    pids = text(run_on(node, ["pgrep", "-u", "ada", "-f", "launcher.py"])).split()
    first = text(run_on(node, ["cat", f"/proc/{pids[0]}/environ", f"/proc/{pids[0]}/cmdline"]))
    assert "SLURM_JOB_ID" in first and "TOKEN" not in first
    log = text(run_on(node, ["sh", "-c", "cat /tmp/practicum-*/session.log"]))
    assert not re.search(r"token=?\s*[0-9a-f]{32}", log)
    others = run_on(node, ["sh", "-c", "ls /tmp/practicum-*/"], user="ben")
    assert others.returncode != 0  # 0700

    ada.stop()
    assert text(run_on("login", ["squeue", "-h", "-u", "ada", "-t", "RUNNING"])).strip() == ""


def test_a_job_cancelled_by_hand_is_noticed(student: Any, run_on: Any) -> None:
    ben = student("ben")
    last, _ = ben.outcome()
    assert last.get("ready"), last
    text(run_on("login", ["scancel", "--name=practicum-hub", "-u", "ben"]))
    until(lambda: not ben.api("GET", "").json().get("server"), 60)


def test_options_outside_the_profiles_are_refused(student: Any, run_on: Any) -> None:
    cleo = student("cleo")
    for options, sentence in (
        ({"partition": "batch"}, "There is no option 'partition'"),
        ({"profile": "small\n#SBATCH --uid=0"}, "There is no profile"),
        ({"profile": "small", "memory": 10**9}, "cannot be had"),
    ):
        last, _ = cleo.outcome(**options)
        assert last.get("failed") and sentence in last["message"], last
    assert text(run_on("login", ["squeue", "-h", "-u", "cleo"])).strip() == ""


@pytest.mark.parametrize(
    ("breaks", "mends", "sentence"),
    [
        (["mv", "/nfs/envs/server/current", "/nfs/envs/server/away"],
         ["mv", "/nfs/envs/server/away", "/nfs/envs/server/current"],
         "the server environment /nfs/envs/server/current is missing"),
        (["mv", "/home/cleo", "/home/cleo.away"], ["mv", "/home/cleo.away", "/home/cleo"],
         "your home folder /home/cleo cannot be opened"),
    ],
)  # fmt: skip
def test_the_sessions_own_fault_is_told(
    student: Any, run_on: Any, breaks: list[str], mends: list[str], sentence: str
) -> None:
    cleo = student("cleo")
    text(run_on("login", breaks))
    try:
        last, _ = cleo.outcome()
    finally:
        text(run_on("login", mends))
    assert last.get("failed") and sentence in last["message"], last


def computing(lab: Any) -> list[str]:
    return [node.name for node in lab.nodes if "compute" in node.roles]


def test_an_account_that_the_nodes_do_not_have_is_told(lab: Any, student: Any, run_on: Any) -> None:
    """The log-in works, for the login node knows her; no node can run her job."""
    cleo = student("cleo")
    nodes = computing(lab)
    for node in nodes:
        text(run_on(node, ["sed", "-i.away", "/^cleo:/d", "/etc/passwd"]))
    try:
        last, _ = cleo.outcome()
    finally:
        for node in nodes:
            text(run_on(node, ["mv", "/etc/passwd.away", "/etc/passwd"]))
    assert last.get("failed") and "account" in last["message"], last
    drained = text(run_on("login", ["sinfo", "-h", "-N", "-t", "drain,down", "-o", "%N"]))
    assert drained.strip() == "", "a missing account took a node out of service"


def test_munge_that_is_down_on_a_node_is_told(lab: Any, student: Any, run_on: Any) -> None:
    """Then nobody believes a word of the session, and its exit code tells. Slurm itself needs
    munge to start a job there, so it goes away after the start of the job."""
    cleo = student("cleo")
    nodes = computing(lab)
    for node in nodes:
        text(run_on(node, ["mv", "/usr/bin/munge", "/usr/bin/munge.away"]))
    try:
        last, _ = cleo.outcome()
    finally:
        for node in nodes:
            text(run_on(node, ["mv", "/usr/bin/munge.away", "/usr/bin/munge"]))
    assert last.get("failed") and "munge does not work on its node" in last["message"], last
