"""Slurm as practicum sets it up: MPI across nodes, privacy, accounting, modules in batch jobs."""

from __future__ import annotations

import json
import re

import pytest
from waiting import until

pytestmark = pytest.mark.lab


def submit(run_on, user: str, script: str, *options: str) -> str:
    """sbatch --wait as that user; the text of the job's output."""
    done = run_on(
        "login",
        [
            "sbatch",
            "--wait",
            "--parsable",
            f"--chdir=/home/{user}",
            "--output=job-%j.out",
            *options,
        ],
        user=user,
        input=script,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    job = done.stdout.split()[0]
    return run_on("login", ["cat", f"/home/{user}/job-{job}.out"]).stdout


def test_every_node_is_up_and_has_its_declared_cores(lab, run_on) -> None:
    asked = ["sinfo", "-h", "-N", "-p", "batch", "-o", "%N %T %c %m"]
    compute = {node.name for node in lab.nodes if "compute" in node.roles}
    # a job of another test may be ending
    until(
        lambda: run_on("login", asked).stdout,
        wanted=lambda rows: (
            compute
            == set(re.findall(r"^(\S+) (?:idle|mixed|allocated) 4 4000", rows, re.MULTILINE))
        ),
    )


def test_ids_are_the_same_everywhere(lab, run_on) -> None:
    for user in ("ada", "munge", "slurm"):
        ids = {run_on(node.name, ["id", user]).stdout for node in lab.nodes}
        assert len(ids) == 1, ids


def test_a_credential_of_one_node_is_good_on_another(run_on) -> None:
    credential = run_on("node01", ["munge", "-n"], user="ada").stdout
    answer = run_on("login", ["unmunge"], input=credential)
    assert answer.returncode == 0
    assert "ada" in answer.stdout


def test_mpi_over_two_nodes_with_pmix(run_on) -> None:
    source = (
        "#include <mpi.h>\n#include <stdio.h>\n"
        "int main(int c,char**v){int r,s,t=0,l;char n[256];MPI_Init(&c,&v);"
        "MPI_Comm_rank(MPI_COMM_WORLD,&r);MPI_Comm_size(MPI_COMM_WORLD,&s);"
        "MPI_Get_processor_name(n,&l);MPI_Allreduce(&r,&t,1,MPI_INT,MPI_SUM,MPI_COMM_WORLD);"
        'printf("%d/%d %s %d\\n",r,s,n,t);MPI_Finalize();return 0;}\n'
    )
    run_on("login", ["tee", "/home/ada/sum.c"], user="ada", input=source)
    script = (
        "#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=2 --time=00:03:00\n"
        "mpicc -o sum sum.c && srun ./sum && mpirun ./sum\n"
        "ompi_info --parsable --all | grep -E 'param:(mtl|btl_tcp_if_include):value:'\n"
        "cat /run/slurm/conf/mpi.conf\n"
    )
    output = submit(run_on, "ada", script)
    lines = re.findall(r"(\d)/4 (node\d+) 6", output)
    assert sorted(rank for rank, _host in lines) == sorted("01230123"), output
    assert len({host for _rank, host in lines}) == 2, output
    # over the cluster's network, not by libfabric, which loses messages of ranks that end
    assert re.search(r"mtl:value:\^ofi$", output, re.MULTILINE), output
    assert re.search(r"btl_tcp_if_include:value:[\d.]+/\d+$", output, re.MULTILINE), output
    # by Slurm's own choice one step in 200 dies on busy nodes
    assert output.endswith("PMIxCollFence=ring\n"), output


def test_modules_in_a_batch_job(run_on) -> None:
    output = submit(
        run_on, "ada", "#!/bin/bash\nmodule load gcc openmpi && module -t list && mpicc -v"
    )
    assert "openmpi" in output
    assert "gcc version" in output


def test_students_do_not_see_each_others_jobs_and_the_hub_sees_all(run_on) -> None:
    job = run_on(
        "login", ["sbatch", "--parsable", "--chdir=/tmp", "--wrap=sleep 60"], user="ben"
    ).stdout.strip()
    try:
        assert job not in run_on("login", ["squeue", "-h", "-o", "%i"], user="ada").stdout.split()
        hub = ("runuser", "-u", "practicum-hub", "--")  # it has no shell
        seen = run_on("login", [*hub, "squeue", "-h", "-o", "%i"]).stdout.split()
        assert job in seen
        refused = run_on("login", ["scancel", job], user="ada")
        assert "denied" in (refused.stdout + refused.stderr).lower()
    finally:
        run_on("login", ["scancel", job])


def test_only_people_with_an_association_may_submit(run_on) -> None:
    stranger = ("runuser", "-u", "nobody", "--")
    done = run_on("login", [*stranger, "sbatch", "--chdir=/tmp", "--wrap=true"])
    assert done.returncode != 0
    assert "Invalid account" in done.stderr


def test_accounting_keeps_the_script_and_never_the_environment(lab, run_on) -> None:
    conf = run_on("login", ["cat", "/etc/slurm/slurm.conf"]).stdout
    assert "AccountingStoreFlags=job_script\n" in conf
    wanted = json.loads(run_on("login", ["cat", "/etc/practicum/accounting.json"]).stdout)
    people = {account.name for account in lab.accounts}
    assert people <= set(wanted["users"])


def test_slurmdbd_is_not_kept_waiting_by_acknowledgements(lab, run_on) -> None:
    """Set anew by each start of slurmdbd, so also after a boot."""
    address = next(node.address for node in lab.nodes if "database" in node.roles)
    shown = ["ip", "route", "show", "table", "local", "exact", f"{address}/32"]
    assert "quickack 1" in run_on("login", shown).stdout
    run_on("login", ["systemctl", "restart", "slurmdbd"])
    assert "quickack 1" in run_on("login", shown).stdout
    said = run_on("login", ["systemctl", "show", "slurmdbd", "--property=ExecStartPre"]).stdout
    assert "status=0" in said, said
    until(lambda: run_on("login", ["sacctmgr", "-n", "show", "cluster"]).returncode == 0)
