"""What only a kernel of one's own shows: memory limits by cgroup v2, of jobs and of who is logged in
on the login node; log-ins that need a job; and a clock that munge does not trust."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from vmkit.use import MANY, Vms

pytestmark = pytest.mark.vm

STATE = ["sacct", "-n", "-P", "-o", "JobID,State,ExitCode", "-j"]
SINFO = ["sinfo", "-h", "-N", "-p", "batch", "-o", "%N %T %E"]
# Touches every page, so that it is really used.
HOG = "/usr/bin/python3 -c 'b = bytearray({mb} << 20); print(len(b))'"


def sbatch(vms: Vms, wrap: str, *options: str, user: str = "ada") -> str:
    return vms.check_on(
        "head",
        ["sbatch", "--parsable", "-D", "/tmp", "-o", "/tmp/limits-%j.out", *options,
         f"--wrap={wrap}"],
        user=user,
    ).strip()  # fmt: skip


def ended(vms: Vms, job: str) -> str:
    done = {"COMPLETED", "FAILED", "OUT_OF_MEMORY", "CANCELLED", "NODE_FAIL", "TIMEOUT"}
    # the job itself: its batch step has ended a moment before
    over = tuple(f"{job}|{state}" for state in done)
    return vms.until(
        "head", [*STATE, job], lambda text: any(row.startswith(over) for row in text.splitlines())
    )


def running(vms: Vms, job: str) -> None:
    vms.until("head", ["squeue", "-h", "-j", job, "-o", "%T"], lambda text: "RUNNING" in text)


@pytest.fixture
def swap(cluster_vms: Vms) -> Iterator[None]:
    """200 MB of swap on the node, as Raspberry Pi OS has it."""
    for words in (
        ["dd", "if=/dev/zero", "of=/swapfile", "bs=1M", "count=200"],
        ["chmod", "600", "/swapfile"],
        ["mkswap", "/swapfile"],
        ["swapon", "/swapfile"],
    ):
        cluster_vms.check_on("node01", words)
    yield
    cluster_vms.check_on("node01", ["swapoff", "/swapfile"])
    cluster_vms.check_on("node01", ["rm", "/swapfile"])


def test_a_job_over_its_memory_dies_alone(cluster_vms: Vms) -> None:
    """Its neighbour lives, and so does the node."""
    boot = cluster_vms.boot_id("node01")
    other = sbatch(cluster_vms, "sleep 600", "--mem=50", user="ben")
    running(cluster_vms, other)
    job = sbatch(cluster_vms, HOG.format(mb=300), "--mem=100")
    text = ended(cluster_vms, job)
    assert f"{job}|OUT_OF_MEMORY|0:125" in text, text
    assert cluster_vms.boot_id("node01") == boot
    running(cluster_vms, other)
    cluster_vms.check_on("head", ["scancel", other])
    assert "node01" in cluster_vms.check_on("head", SINFO)


def test_swap_does_not_stretch_the_limit(cluster_vms: Vms, swap: None) -> None:
    """Slurm's own setting would let a job of 100 MB have 100 MB of swap as well."""
    job = sbatch(cluster_vms, HOG.format(mb=150), "--mem=100")
    text = ended(cluster_vms, job)
    assert f"{job}|OUT_OF_MEMORY" in text, text


def test_a_job_that_leaves_processes_and_files_leaves_nothing(cluster_vms: Vms) -> None:
    wrap = "setsid sleep 3000 & touch /dev/shm/left-by-ada /tmp/left-by-ada; sleep 1"
    ended(cluster_vms, sbatch(cluster_vms, wrap, "--mem=50"))
    cluster_vms.until_idle()  # the epilog is over
    assert cluster_vms.run_on("node01", ["pgrep", "-u", "ada"]).stdout == ""
    gone = cluster_vms.run_on("node01", ["ls", "/dev/shm/left-by-ada", "/tmp/left-by-ada"])
    assert not gone.stdout, gone.stdout


def ssh(vms: Vms, user: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A real log-in through sshd and PAM, from head to node01, with a key of that user's."""
    return vms.run_on(
        "head",
        ["ssh", "-i", f"/root/key-{user}", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes",
         f"{user}@node01", *words],
    )  # fmt: skip


@pytest.fixture
def keys(cluster_vms: Vms) -> None:
    """Root on head may log in to node01 as any of these; homes are node01's own here."""
    for user in ("ada", "ben", "admin", "root"):
        cluster_vms.run_on("head", ["rm", "-f", f"/root/key-{user}"])
        cluster_vms.check_on("head", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                                      f"/root/key-{user}"])  # fmt: skip
        public = cluster_vms.check_on("head", ["cat", f"/root/key-{user}.pub"])
        home = cluster_vms.check_on("node01", ["getent", "passwd", user]).split(":")[5]
        cluster_vms.check_on("node01", ["install", "-d", "-m", "700", "-o", user, f"{home}/.ssh"])
        cluster_vms.check_on("node01", ["tee", "-a", f"{home}/.ssh/authorized_keys"], input=public)
        cluster_vms.check_on("node01", ["chown", user, f"{home}/.ssh/authorized_keys", home])


def test_people_log_in_only_where_they_have_a_job(cluster_vms: Vms, keys: None, apply) -> None:
    assert ssh(cluster_vms, "ada", "true").returncode == 0, "without the setting anybody gets in"
    rules = cluster_vms.check_on("node01", ["cat", "/etc/pam.d/sshd"])
    before = cluster_vms.toml.read_text()
    apply(lambda text: text + "\n[slurm]\nssh_needs_job = true\n")

    # What the apply asked of PAM before it changed sshd's rules
    ask = ["python3", "-I", "/usr/local/lib/practicum/check_access.py", "practicum-job-account"]
    assert cluster_vms.run_on("node01", [*ask, "root", "admin"]).returncode == 0
    for who, why in (("ben", "ben would be locked out"), ("gone", "gone has no account here")):
        asked = cluster_vms.run_on("node01", [*ask, "root", who])
        assert asked.returncode == 1
        assert why in asked.stderr

    refused = ssh(cluster_vms, "ada", "true")
    assert refused.returncode != 0
    assert "no active jobs on this node" in refused.stderr, refused.stderr
    for who in ("root", "admin"):
        assert ssh(cluster_vms, who, "true").returncode == 0, who

    job = sbatch(cluster_vms, "sleep 600", "--mem=100")
    running(cluster_vms, job)
    # Slurm calls it that while the prolog runs, before there is anything to let her into
    step = f"ls -d /sys/fs/cgroup/system.slice/*slurmstepd.scope/job_{job}/step_extern"
    cluster_vms.until("node01", ["sh", "-c", step], lambda text: text.strip() != "")
    place = ssh(cluster_vms, "ada", "cat", "/proc/self/cgroup").stdout
    assert f"/job_{job}/step_extern/" in place, place
    over = ssh(cluster_vms, "ada", HOG.format(mb=300))
    assert over.returncode != 0, "the job's memory limit holds for who logs in"
    assert ssh(cluster_vms, "ben", "true").returncode != 0, "it is not ben's job"
    cluster_vms.check_on("head", ["scancel", job])
    cluster_vms.until("head", ["squeue", "-h"], lambda text: not text.strip())
    assert ssh(cluster_vms, "ada", "true").returncode != 0

    apply(lambda _text: before)
    assert cluster_vms.check_on("node01", ["cat", "/etc/pam.d/sshd"]) == rules


DAEMONS = ("mariadb", "munge", "slurmctld", "slurmdbd", "ssh")
# A process for each processor; what they got, how often they were stopped, how long they tried.
SPIN = """
import json, os, time
def now():
    with open("/sys/fs/cgroup/user.slice/user-2101.slice/cpu.stat") as file:
        told = dict(line.split() for line in file)
    return int(told["usage_usec"]) / 1e6, int(told["nr_throttled"]), time.monotonic()
before, first = now(), os.getpid()
children = [os.fork() for _ in range(os.cpu_count() - 1) if os.getpid() == first]
while time.monotonic() < before[2] + 10:
    pass
if os.getpid() == first:
    for _ in children:
        os.wait()
    print(json.dumps([now()[i] - before[i] for i in range(3)]))
"""


def main_pids(vms: Vms) -> str:
    return vms.check_on("head", ["systemctl", "show", "--property=Id,MainPID", *DAEMONS])


def test_nobody_who_is_logged_in_stops_the_login_node(cluster_vms: Vms, apply) -> None:
    """First by the limits that it has by itself, then by those of cluster.toml."""
    vms = cluster_vms

    def held(share: float) -> None:
        """To that part of one processor's time, and not a tenth more."""
        used, stopped, wall = json.loads(vms.on_login("python3", "-c", SPIN).stdout)
        assert stopped > 0
        assert used < wall * share * 1.1

    before = main_pids(vms)
    assert "MainPID=0" not in before
    assert vms.on_login("sh", "-c", HOG.format(mb=900)).returncode != 0
    assert main_pids(vms) == before, "the kernel ended what the node is there for"
    cores = int(vms.check_on("head", ["nproc"]))
    held(cores - 1 if cores > 1 else 0.75)

    apply(lambda text: text + "\n[login]\nmemory_mb = 200\nprocesses = 40\ncpu_percent = 40\n")
    assert vms.on_login("sh", "-c", HOG.format(mb=100)).returncode == 0
    vms.check_on("head", ["dmesg", "--clear"])
    assert vms.on_login("sh", "-c", HOG.format(mb=300)).returncode != 0
    assert "oom_memcg=/user.slice/user-2101.slice" in vms.check_on("head", ["dmesg"])
    held(0.4)
    stopped = re.search(r"stopped at (\d+)", vms.on_login("python3", "-c", MANY).stdout)
    assert stopped
    assert 10 < int(stopped[1]) < 40
    assert main_pids(vms) == before


def test_a_clock_beyond_munges_tolerance_is_seen(cluster_vms: Vms) -> None:
    cluster_vms.set_clock("node01", 900)
    try:
        answer = cluster_vms.practicum("status", "--json")
        found = json.loads(answer.stdout)
        texts = json.dumps(found)
        assert "munge" in texts, texts
        assert "15 min" in texts, texts
        assert "ahead of" in texts, texts
        job = cluster_vms.run_on(
            "head", ["srun", "--immediate=20", "-D", "/tmp", "true"], user="ada", timeout=300
        )
        assert job.returncode != 0, "Slurm trusts a clock that munge does not"
    finally:
        cluster_vms.mend_clock("node01")
        cluster_vms.check_on("node01", ["systemctl", "restart", "slurmd"])
        cluster_vms.until_idle()  # slurmctld asks again at its own intervals for the step's end
