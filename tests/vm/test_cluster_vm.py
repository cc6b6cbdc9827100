"""Two bare virtual machines taken to the cluster: what needs kernels of their own."""

from __future__ import annotations

import re

import pytest
from vmkit.use import Vms, changes

pytestmark = pytest.mark.vm

OUTPUTS = "/var/local/jobs"
STATE = "/var/lib/slurm/slurmctld"


def submit(vms: Vms, script: str, *options: str, user: str = "ada") -> tuple[str, str]:
    """(job, its output) of a script run through sbatch. The output is on the node, not in /tmp:
    what a user leaves there goes with their last job."""
    vms.check_on("node01", ["install", "-d", "-m", "1777", OUTPUTS])
    job = vms.check_on(
        "head",
        ["sbatch", "--parsable", "--chdir=/tmp", f"--output={OUTPUTS}/%j.out", *options],
        user=user,
        input=script,
    ).strip()
    # slurmctld first: after a power cut it may give a number again that sacct has ended
    shown = ["scontrol", "-o", "show", "job", job]
    vms.until("head", shown, lambda text: bool(re.search(r"JobState=(COMPLETED|FAILED)", text)))
    states = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "State"]
    vms.until("head", states, lambda text: text.strip() in ("COMPLETED", "FAILED"))
    return job, vms.check_on("node01", ["cat", f"{OUTPUTS}/{job}.out"])


def test_bare_machines_become_a_cluster(cluster_vms: Vms, first_apply) -> None:
    result, seconds = first_apply
    print(f"first apply: {result.changed} changes in {seconds:.0f} s")
    assert result.ok, result.errors
    cluster_vms.until_idle(120)


def test_a_second_apply_changes_nothing(cluster_vms: Vms) -> None:
    assert changes(cluster_vms.plan()) == []


def test_no_unit_has_failed(cluster_vms: Vms) -> None:
    for name in cluster_vms.machines:
        failed = cluster_vms.check_on(name, ["systemctl", "--failed", "--plain", "--no-legend"])
        assert not failed.strip(), f"{name}: {failed}"


def test_hardware_is_found_out(cluster_vms: Vms) -> None:
    row = cluster_vms.check_on("head", ["sinfo", "-h", "-p", "batch", "-o", "%c %m"])
    cores, memory = map(int, row.split())
    assert cores == 2
    real = cluster_vms.machines["node01"].memory_mb
    assert 0.7 * real < memory < real


def test_a_job_runs_in_a_cgroup_and_is_accounted_for(cluster_vms: Vms) -> None:
    script = (
        "#!/bin/bash\n#SBATCH --mem=150 --time=5\n"
        "cat /proc/self/cgroup\n"
        "cgroup=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)\n"
        "while [[ $cgroup != */job_* || $cgroup == */job_*/* ]]; do cgroup=${cgroup%/*}; done\n"
        "echo limit $(cat $cgroup/memory.max)\n"
        # long enough to be sampled, every 5 s
        "srun --overlap python3 -c "
        "'import time; held = b\"x\" * (40 << 20); time.sleep(12); print(len(held))'\n"
    )
    job, output = submit(cluster_vms, script)
    assert f"/job_{job}/" in output, output
    assert f"limit {150 << 20}" in output, output
    fields = ["sacct", "-n", "-P", "-j", job, "-o", "JobName,State,Account,User,MaxRSS"]
    rows = cluster_vms.check_on("head", fields).splitlines()
    assert rows[0].split("|")[1] == "COMPLETED", rows
    assert rows[0].split("|")[3] == "ada", rows
    assert any(re.search(r"\|\d+K$", row) for row in rows[1:]), rows


def test_clocks_follow_the_head_node(cluster_vms: Vms) -> None:
    """chrony on node01 takes its time from head, which has none better here."""
    head = cluster_vms.machines["head"].address
    cluster_vms.until(
        "node01", ["chronyc", "-n", "-c", "sources"],
        lambda text: any(row.split(",")[1:3] == ["*", head] for row in text.splitlines()),
    )  # fmt: skip


def test_logs_are_turned_over_under_running_daemons(cluster_vms: Vms) -> None:
    for name, units in (("head", ("slurmctld", "slurmdbd")), ("node01", ("slurmd",))):
        cluster_vms.check_on(name, ["logrotate", "--force", "/etc/logrotate.d/practicum-slurm"])
        for unit in units:
            log = f"/var/log/slurm/{unit}.log"
            assert cluster_vms.check_on(name, ["ls", f"{log}.1.gz"])
            pid = cluster_vms.check_on(name, ["systemctl", "show", "-P", "MainPID", unit]).strip()
            # it writes to the new file, and not on into the one that was put aside
            cluster_vms.until(
                name, ["find", f"/proc/{pid}/fd", "-printf", "%l\\n"],
                lambda text, log=log: log in text.split("\n"),
            )  # fmt: skip
    cluster_vms.until_idle(120)


def saved(vms: Vms) -> None:
    """slurmctld has written what it knows: a job that ended a moment before the power did would
    run for it until its time is up, and keep its node from being idle."""
    held = ["sbatch", "--parsable", "--hold", "--chdir=/tmp", "--output=/dev/null", "--wrap=true"]
    now = float(vms.check_on("head", ["date", "+%s.%N"]))
    number = vms.check_on("head", held, user="ada").strip()  # a change, which it then writes
    written = ["stat", "-c", "%.Y", f"{STATE}/job_state"]
    vms.until("head", written, lambda text: float(text or 0) > now)
    vms.check_on("head", ["scancel", number], user="ada")
    for name in vms.machines:
        vms.check_on(name, ["sync"])


def test_the_cluster_comes_back_by_itself_after_a_power_cut(cluster_vms: Vms) -> None:
    cluster_vms.until_idle(120)
    saved(cluster_vms)
    for name in cluster_vms.machines:
        cluster_vms.power_off(name)
    cluster_vms.power_on("node01", wait=False)  # it has to wait for its controller
    cluster_vms.power_on("head")
    cluster_vms.power_on("node01")
    cluster_vms.until_idle(240)
    # the held job may be back: its end may have been lost
    cluster_vms.check_on("head", ["scancel", "--user=ada"])
    cluster_vms.until("head", ["squeue", "-h", "-u", "ada"], lambda text: not text.strip())
    _, output = submit(cluster_vms, "#!/bin/bash\nhostname\n")
    assert output.strip() == "node01"


def test_a_line_removed_takes_away_what_it_made(cluster_vms: Vms, apply) -> None:
    text = cluster_vms.toml.read_text()
    more = (
        '\n[[partitions]]\nname = "short"\nnodes = "ALL"\nmax_time = "00:10:00"\n'
        'default_time = "00:05:00"\n'
        '\n[[users]]\nname = "cleo"\nuid = 2103\ngroups = ["students"]\n'
    )
    apply(lambda old: old + more)
    assert "short" in cluster_vms.check_on("head", ["sinfo", "-h", "-o", "%R"])
    assert cluster_vms.check_on("node01", ["id", "-u", "cleo"]).strip() == "2103"
    result = apply(lambda _old: text)
    assert "short" not in cluster_vms.check_on("head", ["sinfo", "-h", "-o", "%R"])
    # an account is closed, a person's data stay
    assert any("close user cleo" in change.summary for _, change in result.plan.changes())
    assert cluster_vms.check_on("node01", ["id", "-u", "cleo"]).strip() == "2103"
    assert changes(cluster_vms.plan()) == []
