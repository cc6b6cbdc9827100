"""What runs around jobs, and what a change of cluster.toml may do to them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from student import no_jobs_left
from waiting import until

from cluster.load import load
from cluster.secrets import MAKERS, load_secrets, save_secrets, secrets_path
from provisioning.munge_key import KEY

pytestmark = pytest.mark.lab

LIB = "/usr/local/lib/practicum"
CONF = "/etc/slurm/slurm.conf"
SLOW = 180  # seconds for what Slurm does at its own intervals
WANTED = "/etc/practicum/accounting.json"


def submit(run_on, user: str, wrap: str, *options: str) -> str:
    words = ["sbatch", "--parsable", "-D", "/tmp", "-o", "/dev/null", "--mem=50", *options]
    done = run_on("login", [*words, f"--wrap={wrap}"], user=user)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def is_idle(run_on, node: str, seconds: float = SLOW) -> None:
    until(lambda: node_state(run_on, node), seconds, wanted=lambda text: text.startswith("idle"))


def wait_for(run_on, job: str, state: str) -> None:
    until(
        lambda: run_on("login", ["sacct", "-X", "-n", "-P", "-j", job, "-o", "State"]).stdout,
        SLOW,
        wanted=lambda text: state in text,
    )


def node_state(run_on, node: str) -> str:
    """state|reason"""
    return run_on("login", ["sinfo", "-h", "-N", "-n", node, "-p", "batch", "-o", "%T|%E"]).stdout


def test_the_last_job_of_a_user_takes_along_what_it_left_and_no_other_does(run_on) -> None:
    staying = submit(
        run_on, "ada", "touch /tmp/ada-stays; setsid sleep 4001 & sleep 600", "-w", "node01"
    )
    wait_for(run_on, staying, "RUNNING")
    leaving = submit(
        run_on, "ada", "touch /tmp/ada-left /dev/shm/ada-left; setsid sleep 4002 & sleep 1",
        "-w", "node01",
    )  # fmt: skip
    wait_for(run_on, leaving, "COMPLETED")
    left = ["ls", "/tmp/ada-stays", "/tmp/ada-left", "/dev/shm/ada-left"]
    busy = ["pgrep", "-u", "ada", "-f", "sleep 4001"]
    time.sleep(2)  # for an epilog that does too much
    assert run_on("node01", left).returncode == 0, "the files of a user with another job went"
    assert run_on("node01", busy).returncode == 0, "a process of another job went"
    run_on("login", ["scancel", staying])
    until(lambda: not run_on("node01", left).stdout, SLOW)
    assert run_on("node01", ["pgrep", "-u", "ada"]).returncode == 1


def test_slurmd_comes_though_systemd_reads_its_units_anew_meanwhile(run_on) -> None:
    """As an apply makes it do while a node that has just booted waits for slurmctld: systemd (252)
    then forgets to look for a pid file, and slurmd was "activating" until it was killed."""

    state = "systemctl is-active slurmd"
    # on the node in one go: it waits for slurmctld for a minute, no longer
    meanwhile = (
        "systemctl stop slurmd; systemctl start --no-block slurmd; "
        f"until pgrep -x slurmd >/dev/null; do sleep 0.1; done; systemctl daemon-reload; {state}"
    )
    run_on("login", ["systemctl", "stop", "slurmctld"])
    try:
        assert run_on("node02", ["sh", "-c", meanwhile]).stdout == "activating\n"
    finally:
        run_on("login", ["systemctl", "start", "slurmctld"])
    until(
        lambda: run_on("node02", state.split()).stdout, 60, wanted=lambda text: text == "active\n"
    )
    is_idle(run_on, "node02", 60)


def test_a_failing_prolog_drains_its_node_with_the_reason_and_the_job_stays(run_on) -> None:
    script = "/etc/slurm/prolog.d/50-test"
    text = "#!/bin/sh\n[ $SLURM_JOB_USER = ben ] || exit 0\necho scratch is broken; exit 3\n"
    run_on("node01", ["tee", script], input=text)
    run_on("node01", ["chmod", "755", script])
    try:
        job = submit(run_on, "ben", "true", "-w", "node01")
        reason = until(
            lambda: node_state(run_on, "node01"), SLOW, wanted=lambda text: "drain" in text
        )
        assert f"prolog 50-test failed for job {job}: scratch is broken" in reason
        asked = ["squeue", "-h", "-j", job, "-o", "%T %r"]
        waits = until(
            lambda: run_on("login", asked).stdout, SLOW, wanted=lambda text: "PENDING" in text
        )
        assert "held" not in waits.lower(), waits  # Slurm's own way is to hold it for the admin
    finally:
        run_on("node01", ["rm", script])
        run_on("login", ["scancel", "-u", "ben"])
        no_jobs_left(run_on, "ben")
        run_on("login", ["scontrol", "update", "nodename=node01", "state=resume"])
    is_idle(run_on, "node01")


def test_the_health_check_drains_and_takes_back_only_its_own(run_on) -> None:
    settings = "/etc/practicum/slurm-health.conf"
    before = run_on("node01", ["cat", settings]).stdout
    health = [f"{LIB}/slurm-health"]
    try:
        run_on("node01", ["tee", settings], input='FOLDERS="/home /not-there"\n')
        assert run_on("node01", health).returncode == 0
        assert "drained|health: /not-there does not answer" in node_state(run_on, "node01")
        run_on("node01", ["tee", settings], input=before)
        run_on("node01", health)
        is_idle(run_on, "node01")

        drain = ["scontrol", "update", "nodename=node01", "state=drain", "reason=new disk"]
        run_on("login", drain)
        run_on("node01", health)
        assert "drained|new disk" in node_state(run_on, "node01")
    finally:
        run_on("node01", ["tee", settings], input=before)
        run_on("login", ["scontrol", "update", "nodename=node01", "state=resume"])
    is_idle(run_on, "node01")


def test_a_node_that_is_not_well_looks_again_by_itself(run_on) -> None:
    """Not in three minutes, when Slurm would: after a power cut the file server comes up last."""
    settings, unit = "/etc/practicum/slurm-health.conf", "practicum-health-again"
    before = run_on("node01", ["cat", settings]).stdout

    def looks() -> bool:
        return run_on("node01", ["systemctl", "is-active", "--quiet", unit]).returncode == 0

    until(lambda: not looks(), SLOW)  # an earlier test's
    try:
        run_on("node01", ["tee", settings], input='FOLDERS="/home /tmp/late"\n')
        assert run_on("node01", [f"{LIB}/slurm-health"]).returncode == 0
        assert "drained|health: /tmp/late does not answer" in node_state(run_on, "node01")
        assert looks()
        assert run_on("node01", [f"{LIB}/slurm-health"]).returncode == 0  # one is enough
        run_on("node01", ["mkdir", "/tmp/late"])
        until(lambda: not looks(), SLOW)
        assert node_state(run_on, "node01").startswith("idle")
    finally:
        run_on("node01", ["rm", "-rf", "/tmp/late"])
        run_on("node01", ["tee", settings], input=before)
        run_on("login", ["scontrol", "update", "nodename=node01", "state=resume"])
    is_idle(run_on, "node01")


def test_a_configuration_that_would_end_jobs_or_the_controller_is_refused(run_on) -> None:
    conf = run_on("login", ["cat", CONF]).stdout

    def verdict(text: str) -> tuple[int, str]:
        run_on("login", ["tee", "/root/new.conf"], input=text)
        done = run_on("login", [f"{LIB}/check_slurm_conf.py", "/root/new.conf"])
        return done.returncode, done.stderr

    without = "\n".join(
        line for line in conf.splitlines() if not line.startswith("PartitionName=notebook")
    )
    job = submit(run_on, "ada", "sleep 600", "-w", "node01", "-p", "notebook")
    wait_for(run_on, job, "RUNNING")
    try:
        assert verdict(conf) == (0, "")
        code, said = verdict(without)
        assert code == 1
        assert f"partition notebook goes, with jobs {job} of ada" in said
        code, said = verdict(conf.replace("NodeName=node01", "NodeName=node91"))
        assert code == 1
        assert f"node01 leaves the cluster, with jobs {job} of ada" in said
    finally:
        run_on("login", ["scancel", job])
        wait_for(run_on, job, "CANCELLED")
    assert verdict(without + "\n") == (0, "")
    for wrong in ("SelectType=select/nonsense\n", "Blah=3\n"):
        code, said = verdict(conf.replace("SelectType=select/cons_tres\n", wrong))
        assert code == 1
        assert "slurmctld would not start with it" in said
        assert "nonsense" in said or "Blah" in said
    left = run_on("login", ["pgrep", "-fc", "slurm-trial"]).stdout.strip()
    assert left == "0", "a second controller was left behind"


def test_an_account_with_jobs_is_closed_named_and_removed_when_they_are_done(run_on) -> None:
    now = json.loads(run_on("login", ["cat", WANTED]).stdout)
    more = json.loads(json.dumps(now))
    more["qos"]["lab-long"] = {
        "priority": 5, "maxwall": 90, "maxjobspu": 3, "maxsubmitpu": 9, "cpus": 2, "nodes": 1,
        "memory": 512,
    }  # fmt: skip
    more["accounts"]["lab-course"] = {
        "share": 4, "cpu_minutes": 500, "qos": ["lab-long"], "coordinators": ["ines"],
    }  # fmt: skip
    more["users"]["ben"] = [*now["users"]["ben"], "lab-course"]
    more["users"]["ines"] = [*now["users"]["ines"], "lab-course"]

    def accounting(wanted: dict[str, object], *options: str) -> int:
        run_on("login", ["tee", "/root/wanted.json"], input=json.dumps(wanted))
        words = ["python3", "-I", f"{LIB}/accounting.py", *options, "/root/wanted.json"]
        done = run_on("login", words)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode

    tell = ["python3", "-I", f"{LIB}/accounting.py", "--tell"]
    try:
        assert accounting(more) == 0
        assert accounting(more, "--check") == 0
        assert accounting(now, "--check") == 1
        over = ["sbatch", "-D", "/tmp", "-A", "lab-course", "--time=02:00:00", "--wrap=true"]
        refused = run_on("login", over, user="ben")
        assert "MaxWall" in refused.stderr, refused.stderr
        job = submit(run_on, "ben", "sleep 600", "-A", "lab-course", "--time=5")

        assert accounting(now) == 0
        told = run_on("login", tell)
        assert told.returncode == 1
        assert f"ben has jobs in account lab-course ({job})" in told.stderr
        late = run_on("login", [*over[:5], "--wrap=true"], user="ben")
        assert late.returncode != 0, "a closed account takes new jobs"
        assert run_on("login", ["squeue", "-h", "-j", job]).stdout, "its job was ended"
        run_on("login", ["scancel", job])
        wait_for(run_on, job, "CANCELLED")
    finally:
        run_on("login", ["scancel", "-A", "lab-course"])
        no_jobs_left(run_on, "ben", "-A", "lab-course")  # while one ends it stays closed, no more
        until(lambda: accounting(now) == 0, SLOW)
    assert run_on("login", tell).returncode == 0
    assert accounting(now, "--check") == 0
    rows = run_on("login", ["sacctmgr", "-nP", "show", "assoc", "format=account"]).stdout
    assert "lab-course" not in rows
    assert "lab-long" not in run_on("login", ["sacctmgr", "-nP", "show", "qos"]).stdout


def test_job_mail_goes_to_plain_addresses_only(run_on) -> None:
    source = Path(__file__).parents[2] / "provisioning/roles/files/slurm-mail"
    sender = '#!/bin/sh\ncat >/root/mailed; echo "$@" >>/root/mailed\n'
    mail = source.read_text().replace("/usr/sbin/sendmail", "/root/sendmail")
    for name, text in (("sendmail", sender), ("slurm-mail", mail)):
        run_on("login", ["tee", f"/root/{name}"], input=text)
        run_on("login", ["chmod", "755", f"/root/{name}"])
    subject = "Slurm Job_id=1 Name=a\nBcc: x@y Began"
    for to in ("ada", "ada@example.org"):
        run_on("login", ["/root/slurm-mail", "-s", subject, to])
        mailed = run_on("login", ["cat", "/root/mailed"]).stdout
        assert mailed.startswith(f"To: {to}\nSubject: Slurm Job_id=1 Name=aBcc: x@y Began\n")
        assert mailed.endswith(f"-oi -- {to}\n")
    run_on("login", ["rm", "/root/mailed"])
    for to in ("-oQ/tmp", "|id", "/tmp/x", "a b", "ada\nBcc: x", "a@b@c", "a@", ""):
        assert run_on("login", ["/root/slurm-mail", "-s", "x", to]).returncode == 0
        assert run_on("login", ["ls", "/root/mailed"]).returncode != 0, shlex.quote(to)


def test_a_new_munge_key_loses_no_job(lab, run_on) -> None:
    practicum = Path(sys.executable).with_name("practicum")
    # what an earlier test left would be refused: the key must be all that changes
    done = subprocess.run(
        [practicum, "apply", "--yes", "--file", lab.cluster_toml],
        capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    key = ["sha256sum", "/etc/munge/munge.key"]
    before = {run_on(node.name, key).stdout for node in lab.nodes}
    assert len(before) == 1
    running = [submit(run_on, "ada", "sleep 600", "-p", "notebook") for _ in range(2)]
    across = submit(run_on, "ben", "srun sleep 600", "-N2")
    for job in (*running, across):
        wait_for(run_on, job, "RUNNING")
    brief = submit(run_on, "cleo", "sleep 3", "-p", "notebook", "--array=1-12%4", "--mem=20")
    waiting = submit(run_on, "ben", "true", "--begin=now+1hour")
    # closed by the admin, and by a rotation that was killed
    for name in ("batch", "notebook"):
        run_on("login", ["scontrol", "update", f"PartitionName={name}", "State=DOWN"])
    left_behind = lab.cluster_toml.parent / "state/closed.json"
    left_behind.write_text('{"notebook": "up"}')
    path = secrets_path(lab.cluster_toml)
    save_secrets(path, {**load_secrets(path, load(lab.cluster_toml)), KEY: MAKERS[KEY]()})
    try:
        done = subprocess.run(
            [practicum, "munge", "rotate", "--yes", "--file", lab.cluster_toml],
            capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        parts = run_on("login", ["sinfo", "-h", "-a", "-o", "%R %a"]).stdout
        states = dict(row.split() for row in parts.splitlines())
        assert states == {"batch": "down", "notebook": "up"}
        assert not left_behind.exists()
        told = subprocess.run(
            [practicum, "status", "--file", lab.cluster_toml],
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert "partition batch takes no jobs (state down)" in " ".join(told.stdout.split())
        after = {run_on(node.name, key).stdout for node in lab.nodes}
        assert len(after) == 1
        assert after != before
        states = ["squeue", "-h", "-o", "%i %T", "-j", ",".join((*running, across, waiting))]
        rows = dict(row.split() for row in run_on("login", states).stdout.splitlines())
        assert rows == {**dict.fromkeys((*running, across), "RUNNING"), waiting: "PENDING"}
        until(
            lambda: run_on("login", ["sacct", "-X", "-n", "-P", "-j", brief, "-o", "State"]).stdout,
            SLOW,
            wanted=lambda text: text.split() == ["COMPLETED"] * 12,
        )
    finally:
        left_behind.unlink(missing_ok=True)
        for name in ("batch", "notebook"):
            run_on("login", ["scontrol", "update", f"PartitionName={name}", "State=UP"])
        run_on("login", ["scancel", *running, across, brief, waiting])
    for user in ("ada", "ben", "cleo"):
        no_jobs_left(run_on, user)
