"""Labs come and go: side by side, killed half-way, rebooted, and nothing left of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from run_in_lab import run_in
from waiting import until

from cluster.load import load
from cluster.secrets import load_secrets, secrets_path
from practicum.report import Plain
from practicum.rooms import ROLES
from provisioning import engine
from provisioning import lab as labs
from provisioning.lab import nodes, system

pytestmark = pytest.mark.lab

COMMAND = [sys.executable, "-m", "practicum", "lab"]


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


def leftovers(name: str) -> list[str]:
    """Whatever of a lab this machine still has."""
    found = [f"mount {where}" for where, _, _ in system.mounts() if f"/labs/{name}/" in str(where)]
    found += [line for line in output("ip", "-brief", "link").splitlines() if f"pr-{name} " in line]
    found += [line for line in output("ip", "route").splitlines() if f"pr-{name} " in line]
    table = f"practicum_{name.replace('-', '_')}"
    found += [
        line for line in output("nft", "list", "tables").splitlines() if table in line.split()
    ]
    found += [f"process {process.pid}" for process in nodes.supervisors(name)]
    for folder in (*nodes.hierarchies(), Path("/run/systemd/nspawn/propagate")):
        found += [str(path) for path in folder.glob(f"practicum.{name}.*")]
    if (system.STATE / name).exists():
        found.append(str(system.STATE / name))
    return found


def up(name: str, *more: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "up", "--name", name, "--bare", "--nodes", "2", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
    )


def status_of(url: str) -> int:
    """Of its answer; 0 when there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except OSError:
        return 0


def finished(process: subprocess.Popen[str], timeout: float = 600) -> str:
    text = process.communicate(timeout=timeout)[0]
    assert process.returncode == 0, text
    return text


def test_two_labs_side_by_side(made_labs) -> None:
    one, other = made_labs(), made_labs()
    for process in (up(one), up(other)):
        finished(process)
    first, second = labs.info(one), labs.info(other)
    assert first.nodes[0].address != second.nodes[0].address
    assert {one, other} <= set(labs.names())
    for info in (first, second):
        assert run_in(info)("node01", ["hostname"]).stdout == "node01\n"
    (Path(first.cluster_toml).parents[1] / "shared/home/mark").write_text("one")
    assert run_in(first)("node01", ["cat", "/home/mark"]).stdout == "one"
    assert run_in(second)("node01", ["ls", "/home"]).stdout == ""

    labs.down(one, reporter=Plain())
    assert leftovers(one) == []
    assert run_in(second)("login", ["hostname"]).stdout == "login\n"
    labs.down(other, reporter=Plain())
    assert leftovers(other) == []
    labs.down(other, reporter=Plain())  # once more: nothing to do, and no error


@pytest.mark.parametrize("moment", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2])
def test_killed_up_leaves_nothing_after_down_and_the_next_up_finishes(made_labs, moment) -> None:
    name = made_labs()
    for command in ("down", "up"):
        process = up(name)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        if command == "down":
            labs.down(name, reporter=Plain())
            assert leftovers(name) == []
        else:
            finished(up(name))
            assert run_in(labs.info(name))("node01", ["true"]).returncode == 0


def test_killed_while_the_tree_is_made(made_labs, tmp_path) -> None:
    """A cache of its own, so that there is no tree yet."""
    env = {"PRACTICUM_CACHE": str(tmp_path)}
    name = made_labs()
    process = up(name, env=env)
    log = tmp_path / "logs/debian12.log"
    until(  # every package of it comes over the network first
        lambda: process.poll() is not None or (log.exists() and "Unpacking" in log.read_text()), 600
    )
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    until(
        lambda: [one for one in system.processes_with(str(tmp_path)) if one.pid != os.getpid()],
        10,
        wanted=lambda outlived: not outlived,
    )
    assert not [where for where, _, _ in system.mounts() if tmp_path in where.parents]
    done = subprocess.run(
        [*COMMAND, "down", "--name", name], env={**os.environ, **env}, timeout=60, check=False
    )
    assert done.returncode == 0
    assert leftovers(name) == []
    assert list((tmp_path / "trees").iterdir()) == []


def test_a_node_that_dies_or_reboots_comes_back(made_labs) -> None:
    name = made_labs()
    finished(up(name))
    run_on = run_in(labs.info(name))
    run_on("node01", ["touch", "/root/kept"])
    boot = run_on("node01", ["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    run_on("node01", ["systemctl", "reboot"])
    until(
        lambda: run_on("node01", ["cat", "/proc/sys/kernel/random/boot_id"]).stdout,
        60,
        wanted=lambda text: text not in ("", boot),
    )
    for process in nodes.supervisors(name, "node01"):
        process.kill(signal.SIGKILL)
    finished(up(name))
    assert run_on("node01", ["ls", "/root/kept"]).returncode == 0
    run_on("node01", ["systemctl", "stop", "ssh"])  # ends this connection too
    finished(up(name))
    assert run_on("node01", ["ls", "/root/kept"]).returncode == 0


def test_commands_pass_arguments_status_input_and_user(made_labs) -> None:
    name = made_labs()
    finished(up(name))
    strange = ["a b", "", "$HOME", "`id`", "'", '"', "a\nb", "*", "\\", "--", "-n", "é;|&"]
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    for user in ("root", "nobody"):
        run_on = run_in(labs.info(name))
        if user == "nobody":
            run_on("login", ["usermod", "--shell", "/bin/bash", "nobody"])
        done = run_on("login", ["python3", "-c", code, *strange], user=user)
        import json

        assert json.loads(done.stdout) == strange, done.stderr
        assert run_on("login", ["id", "-un"], user=user).stdout == f"{user}\n"
    assert run_on("login", ["cat"], input="in and out").stdout == "in and out"
    done = subprocess.run(
        [*COMMAND, "exec", "login", "--name", name, "--", "sh", "-c", "exit 7"],
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 7


def test_the_hub_port_of_this_machine_leads_to_the_login_node(made_labs) -> None:
    name = made_labs()
    port = 8767
    finished(up(name, "--hub-port", str(port)))
    info = labs.info(name)
    assert info.hub_url == f"http://127.0.0.1:{port}"
    serve = ["systemd-run", "--quiet", "--", "python3", "-m", "http.server", "8000"]
    assert run_in(info)("login", [*serve, "--directory", "/usr/share/doc"]).returncode == 0
    host = re.search(r"src (\S+)", output("ip", "route", "get", "192.0.2.250"))
    assert host
    for address in ("127.0.0.1", host[1]):
        assert until(partial(status_of, f"http://{address}:{port}/"), 20) == 200
    labs.down(name, reporter=Plain())
    assert leftovers(name) == []


def test_second_up_of_the_whole_cluster_changes_nothing(lab) -> None:
    again = labs.up(lab.name, roles=ROLES, reporter=Plain())
    assert again == lab
    path = lab.cluster_toml
    plan = engine.plan(
        load(path), ROLES, load_secrets(secrets_path(path)), base=path.parent, reporter=Plain()
    )
    assert [node.error for node in plan.nodes if node.error] == []
    assert plan.pending == 0


def test_secrets_are_for_root_only(lab) -> None:
    folder = lab.cluster_toml.parents[1]
    assert folder.stat().st_mode & 0o077 == 0
    for path in (lab.ssh_key, secrets_path(lab.cluster_toml), folder / "lab.json"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_all_services_of_all_nodes_are_up(lab, run_on) -> None:
    for node in lab.nodes:
        state = run_on(node.name, ["systemctl", "is-system-running"]).stdout.strip()
        failed = run_on(node.name, ["systemctl", "list-units", "--failed", "--no-legend"]).stdout
        assert (state, failed.strip()) == ("running", ""), node.name


def test_purge_removes_what_is_kept_for_the_next_lab(tmp_path: Path) -> None:
    """In folders of its own: the trees of the labs that run beside it stay."""
    kept, tree = tmp_path / "cache", tmp_path / "cache" / "trees" / "debian12-0"
    (tree / "usr").mkdir(parents=True)
    (tree / "usr" / "file").write_text("x")
    env = {**os.environ, "PRACTICUM_CACHE": str(kept), "PRACTICUM_LABS": str(tmp_path / "labs")}
    command = [sys.executable, "-m", "practicum", "lab", "down", "--name", "t-none", "--purge"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "and what was kept for the next one" in done.stdout
    assert not kept.exists()
