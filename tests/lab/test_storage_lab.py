"""Scratch with real jobs, and storage that a container cannot have."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from waiting import until

from cluster.load import load
from cluster.secrets import load_secrets, secrets_path
from practicum.rooms import ROLES
from provisioning import engine
from provisioning.planning import Result
from provisioning.report import Silent

pytestmark = pytest.mark.lab

EXTERNAL = 'provider = "external"'
JOB = """#!/bin/bash
echo "$SLURM_TMPDIR $TMPDIR $(stat -c '%U %a' $SLURM_TMPDIR)"
mkdir $SLURM_TMPDIR/deep && echo data > $SLURM_TMPDIR/deep/file
mktemp
srun --overlap bash -c 'echo "$SLURM_TMPDIR"'
"""


@pytest.fixture
def apply(lab) -> Iterator[Callable[..., Result]]:
    """Applies the lab's cluster.toml with other words instead of `provider = "external"`;
    afterwards file and nodes are as before."""
    path = lab.cluster_toml
    before = path.read_text()

    def work(words: str, *, good: bool = True) -> Result:
        path.write_text(before.replace(EXTERNAL, words, 1))
        cluster = load(path)
        secrets = load_secrets(secrets_path(path), cluster)
        result = engine.apply(
            cluster, ROLES, secrets, base=path.parent, confirm=lambda _plan: True, reporter=Silent()
        )
        assert result.ok == good, result.errors
        return result

    yield work
    work(EXTERNAL)


def until_empty(run_on, node: str, folder: str) -> None:
    until(lambda: run_on(node, ["ls", "-A", folder]).stdout, 60, wanted=lambda left: not left)


def test_a_job_has_a_folder_of_its_own_for_as_long_as_it_runs(lab, run_on, apply) -> None:
    compute = [node.name for node in lab.nodes if "compute" in node.roles]
    apply(f'{EXTERNAL}\nscratch = "/scratch"')
    assert run_on(compute[0], ["touch", "/scratch/17"], user="ada").returncode != 0
    words = ["sbatch", "--wait", "--parsable", "--chdir=/home/ada", "--output=out-%j", "--time=2"]
    done = run_on("login", words, user="ada", input=JOB)
    assert done.returncode == 0, done.stdout + done.stderr
    job = done.stdout.split()[0]
    lines = run_on("login", ["cat", f"/home/ada/out-{job}"]).stdout.splitlines()
    run_on("login", ["rm", f"/home/ada/out-{job}"])
    assert lines[0] == f"/scratch/{job} /scratch/{job} ada 700"
    assert lines[1].startswith(f"/scratch/{job}/tmp.")
    assert lines[2] == f"/scratch/{job}"
    for name in compute:
        until_empty(run_on, name, "/scratch")
    # what is left by a crash goes when the node starts, and nothing else
    run_on(compute[0], ["mkdir", "-p", "/scratch/17/deep", "/scratch/.gone-18-1", "/scratch/data"])
    boot = ["systemd-tmpfiles", "--create", "--remove", "--boot"]
    done = run_on(compute[0], [*boot, "/etc/tmpfiles.d/practicum-scratch.conf"])
    assert done.returncode == 0, done.stderr
    left = run_on(compute[0], ["ls", "-A", "/scratch"]).stdout.split()
    run_on(compute[0], ["rmdir", "/scratch/data"])
    assert left == ["data"]


def test_a_folder_with_other_things_is_no_scratch(lab, run_on, apply) -> None:
    """Nothing is done there: whoever works in it would be shut out, and lose what has a number."""
    name = next(node.name for node in lab.nodes if "compute" in node.roles)
    run_on(name, ["install", "-d", "-m", "1777", "/data", "/data/2024"])
    try:
        result = apply(f'{EXTERNAL}\nscratch = "/data"', good=False)
        assert list(result.errors) == [name]
        assert (
            "/data is to be practicum's own and has other things in it (2024)"
            in (result.errors[name])
        )
        mode = run_on(name, ["stat", "-c", "%a", "/data"]).stdout.strip()
        assert mode == "1777"
    finally:
        run_on(name, ["rm", "-r", "/data"])


def test_a_container_serves_no_files_and_says_so(lab) -> None:
    path = lab.cluster_toml
    before = path.read_text()
    served = 'provider = "nfs"\nquotas = true\ndisk = { serial = "ABC-123" }'
    try:
        path.write_text(before.replace(EXTERNAL, served, 1))
        cluster = load(path)
        made = engine.plan(
            cluster,
            ROLES,
            load_secrets(secrets_path(path), cluster),
            base=path.parent,
            reporter=Silent(),
        )
    finally:
        path.write_text(before)
    assert set(made.errors) == {node.name for node in lab.nodes}
    assert "login is a container, whose kernel serves no files" in made.errors["login"]
    for name, said in made.errors.items():
        assert 'set storage.provider = "external"' in said, name
        assert "\n" not in said
