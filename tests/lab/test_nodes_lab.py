"""Nodes come and go: drained, rebooted, renamed, taken out, added again, switched off."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from test_commands_lab import practicum
from typer.testing import CliRunner
from waiting import until

from cluster.edit import without_nodes
from practicum.cli import app
from practicum.rooms import ROLES
from provisioning import lab as labs
from provisioning import power
from provisioning.lab import nodes as containers
from provisioning.remote import Remote
from provisioning.report import Silent

pytestmark = pytest.mark.lab

LAST = -1  # the node that these tests play with: the others' tests like the first ones


@pytest.fixture
def file(lab) -> str:
    return str(lab.cluster_toml)


@pytest.fixture
def own(lab):
    """The lab's folder with a cluster.toml that a test may change; in the end the nodes are as
    the lab declares them."""
    original = lab.cluster_toml.read_text()
    assert practicum("apply", "-y", "--file", str(lab.cluster_toml)).returncode == 0
    yield lab.cluster_toml
    lab.cluster_toml.write_text(original)
    done = practicum("apply", "-y", "--file", str(lab.cluster_toml))
    assert done.returncode == 0, done.stdout + done.stderr


def states(file: str) -> dict[str, dict[str, object]]:
    told = json.loads(practicum("node", "list", "--json", "--file", file).stdout)
    return {node["node"]: node for node in told["nodes"]}


def submit(run_on, node: str, command: str) -> str:
    done = run_on(
        "login",
        ["sbatch", "--parsable", f"--nodelist={node}", "--chdir=/tmp", "--output=/dev/null",
         f"--wrap={command}"],
        user="ada",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def running(run_on, job: str) -> None:
    asked = ["squeue", "-h", "-j", job, "-o", "%T"]
    until(lambda: run_on("login", asked).stdout, 60, wanted=lambda state: state == "RUNNING\n")


def a_step_runs(run_on, node: str) -> None:
    """slurmd 22.05 dies of a reconfiguration that no longer has its name, systemd starts it anew
    after 5 s, and what a step says in that slurmd's first second may be lost."""
    srun = ["timeout", "60", "srun", "-w", node, "hostname"]
    until(lambda: run_on("login", srun, user="ada").stdout.strip() == node)


def takes_jobs(file: str, node: str) -> None:
    """Once the epilog of its last job is over."""
    until(lambda: states(file)[node]["state"], wanted=("idle", "mixed").__contains__)


def test_drained_and_resumed(lab, file: str) -> None:
    name = lab.nodes[LAST].name
    done = practicum("node", "drain", name, "--reason", "fan is loud; $(reboot)", "--file", file)
    assert (done.returncode, done.stdout) == (0, f"{name}: no new jobs\n"), done.stderr
    listed = states(file)[name]
    assert (listed["state"], listed["reason"]) == ("drained", "fan is loud; $(reboot)")
    assert listed["jobs"] == 0
    shown = practicum("node", "list", "--file", file).stdout
    assert "takes no jobs (drained): fan is loud" in shown
    done = practicum("node", "resume", name, "--file", file)
    assert (done.returncode, done.stdout) == (0, f"{name}: takes jobs\n"), done.stderr


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["drain", "login", "--reason", "x"], "login takes no jobs: it has not the role compute"),
        (["drain", "node77", "--reason", "x"], "NODES: there is no node node77; there are login"),
        (["drain", "node01", "--reason", "a\nb"], "--reason must be one line of plain text"),
        (["reboot", "login"], "while it reboots, the whole cluster waits"),
        (["remove", "node01"], "node remove asks first, and here is no terminal: add --yes"),
        (["remove", "login", "-y"], "login takes no jobs"),
    ],
)
def test_refused_in_one_sentence(file: str, arguments: list[str], sentence: str) -> None:
    done = practicum("node", *arguments, "--file", file)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert sentence in done.stderr


def test_a_reboot_waits_for_the_job(lab, run_on, file: str) -> None:
    name = lab.nodes[LAST].name
    job = submit(run_on, name, "until rm ~/go 2>/dev/null; do sleep 0.2; done")
    running(run_on, job)
    refused = practicum("node", "reboot", name, "--wait", "0", "--file", file)
    assert refused.returncode == 1
    assert f"jobs still run on {name}: it stays drained" in refused.stdout
    # The same command again takes the drain for its own, and goes on.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(practicum, "node", "reboot", name, "--file", file)
        time.sleep(3)  # for one that does not wait
        assert not asked.done(), asked.result()
        assert run_on("login", ["touch", "/home/ada/go"], user="ada").returncode == 0
        done = asked.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "takes jobs again" in done.stdout
    takes_jobs(file, name)
    query = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "State"]
    assert run_on("login", query).stdout.strip() == "COMPLETED"


def test_shutdown_refuses_while_jobs_run(lab, run_on, file: str) -> None:
    name = lab.nodes[LAST].name
    job = submit(run_on, name, "sleep 600")  # longer than an apply takes
    try:
        running(run_on, job)
        done = practicum("shutdown", "--only", name, "-y", "--file", file)
        assert done.returncode == 2
        assert f"1 job ({job} of ada) would be lost" in done.stderr
        assert "drain" not in str(states(file)[name]["state"])
        # Nor is the node dropped from cluster.toml under it.
        text = Path(file).read_text()
        assert practicum("apply", "-y", "--file", file).returncode == 0
        Path(file).write_text(without_nodes(text, [name]))
        done = practicum("plan", "--file", file)
        Path(file).write_text(text)
        assert done.returncode == 2
        assert f"{name} is no longer in cluster.toml, but 1 job ({job} of ada)" in done.stderr
    finally:
        run_on("login", ["scancel", job])


def test_taken_out_and_added_again(lab, run_on, own: Path) -> None:
    name, file = lab.nodes[LAST].name, str(own)
    before = own.read_text()
    job = submit(run_on, name, "sleep 4003")
    running(run_on, job)
    done = practicum("node", "remove", name, "--now", "-y", "--file", file)
    assert done.returncode == 0, done.stdout + done.stderr
    query = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "State"]
    assert run_on("login", query).stdout.startswith("CANCELLED")
    assert run_on(name, ["pgrep", "-f", "sleep 4003"]).stdout == ""
    assert f"{name}: out of {file}. Now run practicum apply" in done.stdout
    assert own.read_text() == without_nodes(before, [name])
    gone = ["systemctl", "is-active", "slurmd", "munge"]
    assert run_on(name, gone).stdout.split() == ["inactive", "inactive"]
    assert run_on(name, ["test", "-e", "/etc/munge/munge.key"]).returncode != 0
    assert practicum("apply", "-y", "--file", file).returncode == 0
    # (the lab gave its nodes a line of its own for each, with a space)
    known = run_on("login", ["cat", "/etc/hosts", "/etc/slurm/slurm.conf"]).stdout
    assert f"\t{name}" not in known and f"NodeName={name}" not in known
    assert name not in states(file)
    # Back: the limit names it alone, and the others hear of it.
    own.write_text(before)
    done = practicum("apply", "-y", "--limit", name, "--file", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name} is new, and the others must know it" in done.stdout
    assert f"\t{name}" in run_on("login", ["cat", "/etc/hosts"]).stdout
    run_on("login", ["scontrol", "update", f"NodeName={name}", "State=RESUME"])
    a_step_runs(run_on, name)
    assert practicum("plan", "--file", file).returncode == 0


def test_a_dead_node_holds_up_nobody(lab, run_on, own: Path) -> None:
    """With all roles: the others take the change, the sentence says what to do about the one."""
    name, file = lab.nodes[LAST].name, str(own)
    text = own.read_text()
    old = 'default_time = "01:00:00"'
    assert text.count(old) == 1
    known = own.parent / "state/cluster.json"
    known.unlink()
    containers.stop(lab.name, name, patience=0)
    try:
        own.write_text(text.replace(old, 'default_time = "00:07:00"'))
        done = practicum("apply", "-y", "--file", file)
        assert done.returncode == 1, done.stdout + done.stderr
        said = " ".join((done.stdout + done.stderr).split())
        assert f"{name} ({lab.nodes[LAST].address}) does not answer" in said
        assert "run practicum apply again" in said
        shown = run_on("login", ["scontrol", "show", "partition", "batch"]).stdout
        assert "DefaultTime=00:07:00" in shown
        until(lambda: "DefaultTime=0-00:07:00" in run_on(
            "node01", ["cat", "/run/slurm/conf/slurm.conf"]).stdout)  # fmt: skip
        # the guard knows the others
        assert set(json.loads(known.read_text())["nodes"]) == {
            node.name for node in lab.nodes if node.name != name
        }
    finally:
        labs.up(lab.name, roles=(), reporter=Silent())
    done = practicum("apply", "-y", "--file", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert practicum("plan", "--file", file).returncode == 0
    assert name in json.loads(known.read_text())["nodes"]
    until(lambda: "DefaultTime=0-00:07:00" in run_on(
        name, ["cat", "/run/slurm/conf/slurm.conf"]).stdout)  # fmt: skip


def test_a_node_gets_another_name(lab, run_on, own: Path) -> None:
    name, file = lab.nodes[LAST].name, str(own)
    text = without_nodes(own.read_text(), [name])
    address = lab.nodes[LAST].address
    own.write_text(f'{text}\n[[nodes]]\nname = "oven"\naddress = "{address}"\n'
                   'roles = ["compute"]\ncpus = 2\nmemory_mb = 2000\n')  # fmt: skip
    done = practicum("apply", "-y", "--file", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name} is now called oven" in done.stdout
    a_step_runs(run_on, "oven")


def test_a_controller_does_not_move_unnoticed(lab, own: Path) -> None:
    text, last = own.read_text(), lab.nodes[LAST]
    own.write_text(
        without_nodes(text, [last.name]).replace('"controller", ', "", 1)
        + f'\n[[nodes]]\nname = "{last.name}"\naddress = "{last.address}"\n'
        'roles = ["compute", "controller"]\n'
    )
    done = practicum("apply", "-y", "--file", str(own))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"moves the role controller from login to {last.name}" in done.stderr
    assert "--moved controller" in done.stderr
    own.write_text(text.replace('"controller", ', "", 1))
    done = practicum("apply", "-y", "--file", str(own))
    assert "no node has the role controller" in done.stderr


def test_one_node_is_switched_off_and_comes_back(lab, run_on, file: str) -> None:
    """A container is switched on by its lab, as a machine by its button."""
    name = lab.nodes[LAST].name
    done = practicum("shutdown", "--only", name, "-y", "--file", file)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{name}: off"), done.stderr
    # Slurm knows at once: no job is sent to a machine that is off
    assert states(file)[name]["state"] == "down"
    job = submit(run_on, name, "true")
    told = json.loads(practicum("status", "--json", "--file", file).stdout)
    bad = [one["text"] for one in told["findings"] if one["level"] == "bad"]
    assert len(bad) == 1 and f"{name} (" in bad[0] and "does not answer" in bad[0]
    assert practicum("shutdown", "--only", name, "-y", "--file", file).returncode == 0
    labs.up(lab.name, roles=ROLES, reporter=Silent())
    until(lambda: practicum("status", "--file", file).returncode == 0, 60)
    # and by itself it takes jobs again
    query = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "State"]
    until(lambda: run_on("login", query).stdout.strip() == "COMPLETED")
    takes_jobs(file, name)


def test_jobs_that_wait_do_not_start_while_all_goes_off(
    lab, run_on, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed before anybody looks for jobs; a machine that does not go off opens all again."""
    ask = ["sinfo", "-h", "-a", "-o", "%a"]
    seen: list[set[str]] = []

    def stays(_cluster, _base, nodes, _report, _witnesses) -> dict[str, str]:
        seen.append(set(run_on("login", ask).stdout.split()))
        return {node.name: f"{node.name} still answers" for node in nodes}

    monkeypatch.setattr(power, "switch_off", stays)
    done = CliRunner().invoke(app, ["shutdown", "-y", "--file", file])
    assert done.exit_code == 1, done.output
    assert seen == [{"down"}]
    assert set(run_on("login", ask).stdout.split()) == {"up"}


def test_a_network_that_is_lost_is_no_cluster_that_is_off(
    lab, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop that loses its network while machines go off: none of them is called off."""
    name, order, switch_off = lab.nodes[LAST].name, power.order, power.switch_off

    def network(verb: str) -> None:
        for node in lab.nodes:
            way = ["ip", "route", verb, "unreachable", f"{node.address}/32"]
            subprocess.run(way, check=verb == "add", stderr=subprocess.DEVNULL)

    def and_lost(remote: Remote, verb: str) -> None:
        order(remote, verb)
        network("add")

    def and_back(*args: Any) -> dict[str, str]:
        failed = switch_off(*args)
        network("delete")
        return failed

    monkeypatch.setattr(power, "order", and_lost)
    monkeypatch.setattr(power, "switch_off", and_back)
    try:
        done = CliRunner().invoke(app, ["shutdown", "-y", "--only", name, "--file", file])
    finally:
        network("delete")
        until(lambda: not containers.supervisors(lab.name, name))  # it did go off
        labs.up(lab.name, roles=(), reporter=Silent())
    assert done.exit_code == 1, done.output
    assert f"{name} does not answer any more, and neither does login" in done.output
    assert "is this machine still on the cluster's network?" in done.output
    assert f"{name}: off" not in done.output
    until(lambda: practicum("status", "--file", file).returncode == 0)
    takes_jobs(file, name)


def test_a_machine_without_its_ssh_is_not_called_off(
    lab, run_on, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, gate = lab.nodes[LAST].name, "/home/ada/ssh-again"  # all nodes share homes
    monkeypatch.setattr(power, "STOPPING_SECONDS", 1)
    again = f"until rm {gate}; do sleep 0.2; done; systemctl start ssh"
    run_on(name, ["systemd-run", "--quiet", "sh", "-c", again])
    try:
        run_on(name, ["systemctl", "stop", "ssh"])  # ends this connection too
        done = CliRunner().invoke(app, ["shutdown", "-y", "--only", name, "--file", file])
    finally:
        run_on("login", ["touch", gate])
    assert done.exit_code == 1, done.output
    assert f"{name} is on, but its SSH server does not answer: switch it off by hand" in done.output
    until(lambda: run_on(name, ["true"]).returncode == 0)
    takes_jobs(file, name)


def test_partitions_are_open_when_the_controller_starts(run_on, file: str) -> None:
    """Whatever closed them: after the whole cluster was off nobody has to open them."""
    ask = ["sinfo", "-h", "-a", "-o", "%a"]
    for name in ("batch", "notebook"):
        run_on("login", ["scontrol", "update", f"PartitionName={name}", "State=DOWN"])
    assert set(run_on("login", ask).stdout.split()) == {"down"}
    run_on("login", ["systemctl", "restart", "slurmctld"])
    until(lambda: set(run_on("login", ask).stdout.split()) == {"up"})
    # slurmctld has yet to hear from the nodes; the next test may look at them
    until(lambda: practicum("status", "--file", file).returncode == 0)
