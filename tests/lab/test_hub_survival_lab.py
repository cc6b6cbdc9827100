"""What sessions survive, and what the page says of those that do not: a hub, a Slurm and nodes that
come and go, jobs that are lost, and students who try each other's doors. All with internal TLS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests
from gates import FIRST_LOOK, WITH_SECRETS, held, notebooks_closed, says
from student import Student, alive, hub_is_back, jobs, page, text
from waiting import until

pytestmark = pytest.mark.lab

HUB = "practicum-hub"
DROP_IN = "/run/systemd/system/practicum-hub.service.d/test.conf"
DATABASE = "/var/lib/practicum-hub/hub.sqlite"
PYTHON = "/opt/practicum/current/bin/python"
# Ends what is lost in seconds, not in minutes.
QUICK = f"""[Service]
ExecStart=
ExecStart={PYTHON} -I -m hub.app -f /etc/practicum/jupyterhub_config.py \\
    --PracticumHub.look_seconds=2 --PracticumHub.grace_seconds=15
"""


def restart_hub(run_on: Any) -> None:
    text(run_on("login", ["systemctl", "daemon-reload"]))
    text(run_on("login", ["systemctl", "restart", HUB]))


@pytest.fixture(scope="module", autouse=True)
def quick_hub(lab: Any, run_on: Any) -> Iterator[None]:
    text(run_on("login", ["mkdir", "-p", DROP_IN.rpartition("/")[0]]))
    text(run_on("login", ["tee", DROP_IN], input=QUICK))
    restart_hub(run_on)
    until(lambda: answers(lab))
    yield
    text(run_on("login", ["rm", DROP_IN]))
    restart_hub(run_on)
    until(lambda: answers(lab))


def answers(lab: Any) -> bool:
    """The hub, through its proxy."""
    with requests.Session() as web:
        web.trust_env = False
        try:
            return web.get(f"{lab.hub_url.rstrip('/')}/hub/health", timeout=10).status_code == 200
        except requests.RequestException:
            return False


def started(one: Student) -> None:
    last, _ = one.outcome(profile="small")
    assert last.get("ready"), last
    assert alive(one)


def node_of(run_on: Any, one: Student) -> str:
    (number, _), *_ = jobs(run_on, one.name)
    return text(run_on("login", ["squeue", "-h", "-j", number, "-o", "%N"])).strip()


def ended(one: Student) -> str:
    """The sentence on the page, once the session is gone."""
    until(lambda: not one.servers())
    said = page(one)
    assert "Your last session ended: " in said, said
    return said.partition("Your last session ended: ")[2].partition(".")[0]


def kernel(one: Student) -> str:
    """A new kernel's number."""
    base = f"{one.hub}/user/{one.name}"
    one.web.get(f"{base}/lab", timeout=30)
    found = [
        item.value for item in one.web.cookies if item.name == "_xsrf" and "/user" in item.path
    ]
    answer = one.web.post(
        f"{base}/api/kernels", json={"name": "python3"}, timeout=60, params={"_xsrf": found[-1]}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def kernels(one: Student) -> list[str]:
    answer = one.web.get(f"{one.hub}/user/{one.name}/api/kernels", timeout=30)
    return [item["id"] for item in answer.json()]


# --- the hub ------------------------------------------------------------------------------------


def test_a_restart_of_the_hub_finds_waiting_starting_and_running_sessions(
    student: Any, run_on: Any
) -> None:
    """None is lost, none is killed, and kernels do not notice."""
    ada, ben, cleo = student("ada"), student("ben"), student("cleo")
    started(ada)
    before = kernel(ada)
    with held(run_on, WITH_SECRETS) as go_on, notebooks_closed(run_on) as let_start:
        let_start()
        assert cleo.start(profile="small").status_code == 202
        says(cleo, "starting the server")  # it has its secrets, and no server yet
        text(run_on("login", ["scontrol", "update", "partitionname=notebook", "state=DOWN"]))
        assert ben.start(profile="small").status_code == 202
        until(lambda: jobs(run_on, "ben"))
        numbers = {one.name: jobs(run_on, one.name)[0][0] for one in (ada, ben, cleo)}
        text(run_on("login", ["systemctl", "restart", HUB]))
        until(lambda: hub_is_back(ben))
        go_on()
        let_start()
        until(lambda: alive(cleo), 180)
        until(lambda: alive(ben), 180)
    assert alive(ada)
    assert kernels(ada) == [before]
    assert {one.name: jobs(run_on, one.name)[0][0] for one in (ada, ben, cleo)} == numbers


def test_a_job_that_the_hub_does_not_know_is_ended(student: Any, run_on: Any) -> None:
    """As a hub leaves it that dies between sbatch and its database; nobody's own job is touched."""
    ada = student("ada")
    sleep = ["--partition=notebook", "--parsable", "--output=/dev/null", "--wrap=sleep 600"]
    lost = ["sbatch", "--job-name=practicum-hub", "--comment=ada/", *sleep]
    own = ["sbatch", "--job-name=practicum-hub", *sleep]
    number, mine = (text(run_on("login", argv, user="ada")).strip() for argv in (lost, own))
    try:
        until(lambda: number not in [row[0] for row in jobs(run_on, "ada")], 120)
        assert mine in [row[0] for row in jobs(run_on, "ada")]
    finally:
        run_on("login", ["scancel", number, mine])
    assert ada.servers() == []


BACKDATE = f"""
import sqlite3
with sqlite3.connect({DATABASE!r}) as base:
    base.execute("update spawners set started = ?, last_activity = ?",
                 ["2020-01-01 00:00:00.000000"] * 2)
"""


def test_an_idle_session_is_stopped_unless_its_owner_waits_for_a_job(
    student: Any, run_on: Any
) -> None:
    ada, ben = student("ada"), student("ben")
    started(ada)
    started(ben)
    job = text(
        run_on("login", ["sbatch", "--hold", "--parsable", "--wrap=true"], user="ben")
    ).strip()
    try:
        text(run_on("login", ["systemctl", "stop", HUB]))
        text(run_on("login", [PYTHON, "-I", "-"], input=BACKDATE))
        text(run_on("login", ["systemctl", "start", HUB]))
        until(lambda: hub_is_back(ada))
        assert "nothing was done in it for 120 minutes" in ended(ada)
        assert ben.servers() == [""]
    finally:
        run_on("login", ["scancel", job])


# --- Slurm --------------------------------------------------------------------------------------


def test_a_slurm_that_is_away_loses_nothing(student: Any, run_on: Any) -> None:
    """One session runs, another waits, a third is asked for meanwhile."""
    ada, ben, cleo = student("ada"), student("ben"), student("cleo")
    started(ada)
    with notebooks_closed(run_on) as let_start:
        assert ben.start(profile="small").status_code == 202
        until(lambda: jobs(run_on, "ben"))
        text(run_on("login", ["systemctl", "stop", "slurmctld"]))
        try:
            says(ben, "Slurm does not answer at the moment")
            assert cleo.start(profile="small").status_code == 202
            assert ada.servers() == [""] and ben.servers() == [""]
            assert alive(ada)
        finally:
            text(run_on("login", ["systemctl", "start", "slurmctld"]))
        until(lambda: run_on("login", ["scontrol", "ping"]).stdout.count("UP"))
        let_start()
        until(lambda: alive(ben), 180)
        until(lambda: alive(cleo), 180)


def test_an_accounting_that_is_away_holds_up_nobody(student: Any, run_on: Any) -> None:
    cleo = student("cleo")
    text(run_on("login", ["systemctl", "stop", "slurmdbd"]))
    try:
        started(cleo)
        number = jobs(run_on, "cleo")[0][0]
        text(run_on("login", ["scancel", number]))
        until(lambda: not cleo.servers())  # told by the queue alone
    finally:
        text(run_on("login", ["systemctl", "start", "slurmdbd"]))
        until(lambda: run_on("login", ["sacctmgr", "-n", "show", "cluster"]).returncode == 0)
    # it hears of all that it missed before the next test asks it why a job ended
    row = ["sacct", "-X", "-n", "-P", "-j", number, "-o", "State"]
    until(lambda: run_on("login", row).stdout.startswith("CANCELLED"))


def test_a_job_that_dies_while_its_session_starts_is_told_at_once(
    student: Any, run_on: Any
) -> None:
    cleo = student("cleo")
    with held(run_on, FIRST_LOOK):
        assert cleo.start(profile="small").status_code == 202
        for event in cleo.events():  # one stream: a new one is refused once the start has failed
            if event["message"].startswith("Running on"):
                began = time.monotonic()
                text(run_on("login", ["scancel", jobs(run_on, "cleo")[0][0]]))
        assert event.get("failed") and "its job was cancelled" in event["message"], event
        assert time.monotonic() - began < 60  # the limit of a start is 300


def test_a_job_that_is_requeued_is_told_and_ended(student: Any, run_on: Any) -> None:
    ada = student("ada")
    started(ada)
    number = jobs(run_on, "ada")[0][0]
    assert run_on("login", ["scontrol", "requeue", number]).returncode != 0  # sessions are not
    assert alive(ada)
    text(run_on("login", ["scontrol", "update", f"jobid={number}", "requeue=1"]))
    text(run_on("login", ["scontrol", "requeue", number]))
    assert "put its job back into the queue" in ended(ada)
    until(lambda: not jobs(run_on, "ada"))


CONF = "/etc/slurm/slurm.conf"


@contextmanager
def urgent_partition(run_on: Any, node: str) -> Iterator[None]:
    """Jobs of partition urgent take the place of others on that node."""
    text(run_on("login", ["cp", "-p", CONF, f"{CONF}.away"]))
    more = "PreemptType=preempt/partition_prio\nPreemptMode=CANCEL\n"
    text(run_on("login", ["tee", "-a", CONF], input=more))
    try:
        text(run_on("login", ["systemctl", "restart", "slurmctld"]))
        until(lambda: run_on("login", ["scontrol", "ping"]).stdout.count("UP"))
        text(run_on("login", ["scontrol", "create", "partitionname=urgent", f"nodes={node}",
                              "prioritytier=60000", "state=UP"]))  # fmt: skip
        yield
    finally:
        text(run_on("login", ["mv", f"{CONF}.away", CONF]))
        run_on("login", ["scontrol", "delete", "partitionname=urgent"])
        text(run_on("login", ["systemctl", "restart", "slurmctld"]))
        until(lambda: run_on("login", ["scontrol", "ping"]).stdout.count("UP"))


def test_a_job_that_makes_room_for_another_is_told(student: Any, run_on: Any) -> None:
    ada = student("ada")
    started(ada)
    node = node_of(run_on, ada)
    with urgent_partition(run_on, node):
        job = ["sbatch", "--partition=urgent", "--exclusive", "--parsable", "--output=/dev/null"]
        text(run_on("login", [*job, "--wrap=true"], user="ben"))
        assert "made room for a more urgent one" in ended(ada)
        until(lambda: not text(run_on("login", ["squeue", "-h", "-p", "urgent"])).strip())


# --- nodes --------------------------------------------------------------------------------------


@contextmanager
def back_in_service(run_on: Any, node: str) -> Iterator[None]:
    try:
        yield
    finally:

        def idle() -> bool:
            # refused when it has come back by itself
            run_on("login", ["scontrol", "update", f"nodename={node}", "state=resume"])
            state = run_on("login", ["sinfo", "-h", "-N", "-n", node, "-o", "%T"]).stdout.split()
            return bool(state) and set(state) <= {"idle", "mixed", "allocated"}

        until(idle, 120)


def test_a_drained_node_keeps_its_sessions_and_gets_no_more(student: Any, run_on: Any) -> None:
    ada, ben = student("ada"), student("ben")
    started(ada)
    node = node_of(run_on, ada)
    with back_in_service(run_on, node):
        drain = ["scontrol", "update", f"nodename={node}", "state=drain", "reason=test"]
        text(run_on("login", drain))
        started(ben)
        assert node_of(run_on, ben) != node
        assert alive(ada)


def test_a_dead_node_is_told(student: Any, run_on: Any) -> None:
    cleo = student("cleo")
    started(cleo)
    node = node_of(run_on, cleo)
    with back_in_service(run_on, node):
        down = ["scontrol", "update", f"nodename={node}", "state=down", "reason=test"]
        text(run_on("login", down))
        assert ended(cleo) == "its node failed"


@contextmanager
def only(run_on: Any, node: str) -> Iterator[None]:
    """Sessions that start meanwhile find no other node."""
    names = text(run_on("login", ["sinfo", "-h", "-N", "-p", "notebook", "-o", "%N"])).split()
    others = ",".join(sorted(set(names) - {node}))
    change = ["scontrol", "update", f"nodename={others}"]
    text(run_on("login", [*change, "state=drain", "reason=test"]))
    try:
        yield
    finally:
        text(run_on("login", [*change, "state=resume"]))


LATE = 15  # seconds: more than MessageTimeout and the limit below


@contextmanager
def short_starts(run_on: Any) -> Iterator[None]:
    """A lab's node boots within seconds and has the host's uptime, so that Slurm would take a job
    that is gone for one that is about to start. A machine's own uptime tells."""

    def limit(seconds: int) -> None:
        words = f"s/^BatchStartTimeout=.*/BatchStartTimeout={seconds}/"
        text(run_on("login", ["sed", "-i", words, CONF]))
        text(run_on("login", ["scontrol", "reconfigure"]))

    limit(1)
    try:
        yield
    finally:
        limit(90)


def registers_until(run_on: Any, node: str, what: Callable[[], bool]) -> None:
    """The node tells Slurm again what runs there: whoever registers within LATE seconds of Slurm's
    last word of a job (a reconfiguration is one, too) is too early, for the same reason."""
    end = time.monotonic() + 180
    while not what():
        assert time.monotonic() < end, "Slurm does not notice"
        with suppress(AssertionError):
            until(what, LATE)
            return
        text(run_on(node, ["systemctl", "restart", "slurmd"]))


def test_a_node_that_reboots_is_told_and_takes_sessions_again(student: Any, run_on: Any) -> None:
    cleo = student("cleo")
    started(cleo)
    node = node_of(run_on, cleo)
    with short_starts(run_on), back_in_service(run_on, node):
        boot = ["cat", "/proc/sys/kernel/random/boot_id"]
        before = text(run_on(node, boot))
        run_on(node, ["systemctl", "reboot"])  # ends this connection too
        # at once: what its jobs ran does not hold up the node's end
        until(lambda: run_on(node, boot).stdout not in ("", before), 60)
        registers_until(run_on, node, lambda: not cleo.servers())
        assert ended(cleo) == "its node failed"
    with only(run_on, node):
        started(cleo)


# --- other people's doors -----------------------------------------------------------------------

# In a terminal of ada's session: her certificate and token, tried on others.
TRIES = """
import glob, json, os, ssl, sys, urllib.error, urllib.request
def call(url, body=None, cert=True):
    context = ssl._create_unverified_context()
    if cert:
        context.load_cert_chain(env["JUPYTERHUB_SSL_CERTFILE"], env["JUPYTERHUB_SSL_KEYFILE"])
    headers = {"Authorization": "token " + env["JUPYTERHUB_API_TOKEN"]}
    request = urllib.request.Request(url, body, headers)
    plain = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        return plain.open(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return "refused"
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        pairs = open(path).read().split("\\0")
    except OSError:
        continue
    env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if "JUPYTERHUB_SSL_KEYFILE" in env:
        break
hub = env["JUPYTERHUB_API_URL"]
print(json.dumps({name: call(*args) for name, args in %s.items()}))
"""


def test_a_students_token_and_certificate_open_no_other_door(
    lab: Any, student: Any, run_on: Any
) -> None:
    ada, ben, cleo = student("ada"), student("ben"), student("cleo")
    started(ada)
    started(ben)
    kernel(ada)  # a process whose environment is the session's
    there = f"https://{address(lab, run_on, ben)}"
    with notebooks_closed(run_on):
        assert cleo.start(profile="small").status_code == 202
        until(lambda: jobs(run_on, "cleo"))
        tries = {
            "own": '(hub + "/user",)',
            "the hub without a certificate": '(hub + "/user", None, False)',
            "ben's server": f'("{there}/user/ben/api/status",)',
            "ben's server by the proxy": f'("{ada.hub}/user/ben/api/status",)',
            "start ben's": '(hub + "/users/ben/servers/more", b"{}")',
            "start her own by her session": '(hub + "/users/ada/servers/more", b"{}")',
            "register for cleo": '(hub + "/batchspawner", json.dumps({"port": 20001}).encode())',
        }
        table = "{" + ", ".join(f"{name!r}: {value}" for name, value in tries.items()) + "}"
        done = run_on(node_of(run_on, ada), ["python3", "-"], user="ada", input=TRIES % table)
        found = json.loads(text(done))
        assert found.pop("own") == 200, found
        assert found.pop("the hub without a certificate") == "refused"
        assert found.pop("ben's server") == "refused"  # TLS: no session believes another
        assert found.pop("register for cleo") == 400
        assert set(found.values()) <= {403, 404}, found
        assert cleo.servers() == [""] and ben.servers() == [""]
        assert alive(ben)


def address(lab: Any, run_on: Any, one: Student) -> str:
    """ADDRESS:PORT of somebody's server, by the hub's own database."""
    ask = (
        "import sqlite3; rows = sqlite3.connect("
        f"{DATABASE!r}).execute('select servers.ip, servers.port from servers join spawners on "
        "servers.id = spawners.server_id join users on users.id = spawners.user_id "
        f"where users.name = ?', [{one.name!r}]); print(*(f'{{ip}}:{{port}}' for ip, port in rows))"
    )
    return text(run_on("login", [PYTHON, "-I", "-"], input=ask)).strip()


def test_the_hub_is_reached_by_any_name(student: Any) -> None:
    """By an SSH tunnel, a name of the school's, an address: TLS behind the proxy is not for them.
    Whoever has not logged in is told so by the session itself; the proxy's own word is 503."""
    ada = student("ada")
    started(ada)
    with requests.Session() as web:
        web.trust_env = False
        for name in ("class.example:8000", "localhost", ada.hub.partition("//")[2]):
            for path, status in (("hub/login", 200), ("user/ada/api/status", 403)):
                answer = web.get(f"{ada.hub}/{path}", headers={"Host": name}, timeout=30)
                assert answer.status_code == status, (name, path, answer.text[:200])
