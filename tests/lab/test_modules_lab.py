"""Modules and MPI on a real cluster, as students and the admin use them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_session import Session
from student import Student, no_jobs_left
from waiting import until

from cluster.load import load
from cluster.secrets import load_secrets, secrets_path
from practicum.rooms import ROLES
from provisioning import engine
from provisioning.report import Silent

pytestmark = pytest.mark.lab
EXAMPLES = "/nfs/apps/examples"
SITE = "/nfs/apps/modulefiles/Site"
MORE = """
[software]
module_trees = ["/nfs/apps/easybuild/modules/all"]

[[modules]]
name = "tool"
version = "1"
prefix = "/nfs/apps/tool/1"
default = true

[[modules]]
name = "tool"
version = "2"
prefix = "/nfs/apps/tool/2"
under = ["gcc", "openmpi"]
deprecated = "take 3"

[[modules]]
name = "tool"
version = "3"
prefix = "/nfs/apps/tool/3"
hidden = true

[[kernels]]
name = "mpi"
title = "Python with MPI"
packages = ["mpi4py"]
modules = ["gcc", "openmpi"]
"""


def practicum(lab: Any, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "practicum", *words, "--file", str(lab.cluster_toml)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def bash(run_on: Any) -> Callable[..., str]:
    """A student's log-in shell on the login node; both of its outputs."""

    def run(script: str, user: str = "ada", node: str = "login") -> str:
        done = run_on(node, ["bash", "-lc", f"exec 2>&1; {script}"], user=user, timeout=300)
        return str(done.stdout + done.stderr)

    return run


def outputs(run_on: Any, folder: str, names: str) -> str:
    """The outputs of jobs, together."""
    return str(run_on("login", ["sh", "-c", f"cat {folder}/{names}"]).stdout)


def test_a_student_finds_loads_compiles_and_runs(bash: Any, run_on: Any) -> None:
    listed = bash("module avail")
    assert re.search(r"\bgcc/[\d.]+ +\(D\)|\bgcc/[\d.]+", listed), listed
    assert "openmpi" not in listed.replace("module", "")
    assert re.search(r"gcc/[\d.]+\s+", bash("module spider openmpi/4.1.4")), "no way is shown"
    ready = "module load gcc openmpi || exit; module -t list; echo $CC"
    assert re.search(r"gcc/\S+\s+openmpi/\S+\s+gcc$", bash(ready).strip())
    said = bash(
        f"rm -rf ~/mpi; mkdir ~/mpi; cd ~/mpi; cp {EXAMPLES}/mpi.* .; module load gcc openmpi; "
        "mpicc -o mpi mpi.c && srun -N2 -n2 ./mpi"
    )
    assert len(set(re.findall(r"process \d of 2 on (\S+)", said))) == 2, said
    # a batch script without -l, from a shell without modules
    done = bash("cd ~/mpi && sbatch --wait mpi.sh")
    text = outputs(run_on, "/home/ada/mpi", "mpi-*.out")
    assert len(set(re.findall(r"process \d of 4 on (\S+)", text))) == 2, done + text
    assert "pi is about 3.141593" in text
    no_jobs_left(run_on, "ada")  # an epilog would end her next command on that node


@pytest.mark.parametrize(
    "words",
    [["bash", "-lc"], ["bash", "-c"], ["bash", "-ic"], ["sh", "-lc"], ["sh", "-c"]],
    ids=" ".join,
)
def test_every_bash_and_sh_has_modules(run_on: Any, words: list[str]) -> None:
    # `bash -c` gets it by BASH_ENV, `sh -c` its own program, both from the shell around
    around = (
        "module() { :; }; unset -f module; " if words[0] == "sh" and "l" not in words[1] else ""
    )
    if around:
        words = ["env", "PATH=/usr/local/lib/practicum/bin:/usr/bin:/bin", *words]
    script = 'exec "$@"'
    done = run_on(
        "node01", ["bash", "-lc", script, "-", *words, "module -t avail 2>&1"], user="ada"
    )
    assert re.search(r"^gcc/[\d.]+$", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_what_is_not_there_or_does_not_go_together_is_said(bash: Any) -> None:
    assert re.search(r'module\(s\) are unknown:\s+"nosuch"', bash("module load nosuch"))
    # openmpi without its compiler: Lmod knows it, and says how to get there
    assert "module spider openmpi" in bash("module load openmpi")
    said = bash("module load gcc openmpi python; module purge; module -t list; echo [$MPI_HOME]")
    assert said.strip().endswith("[]"), said


@pytest.fixture(scope="module")
def session(lab: Any) -> Iterator[Session]:
    """Cleo's; a kernel's job is on a compute node."""
    cleo = Student(lab, "cleo")
    last, said = cleo.outcome(profile="small")
    assert last.get("ready"), (last, said)
    yield Session(cleo)
    cleo.stop()


def test_the_same_from_a_notebook(session: Session) -> None:
    kernel = session.kernel()
    assert "gcc/" in session.cell(kernel, "!module -t avail")
    said = session.cell(
        kernel,
        f"%%bash\nmkdir -p ~/mpi && cd ~/mpi && cp {EXAMPLES}/mpi.* .\n"
        "module load gcc openmpi && mpicc -o mpi mpi.c\n"
        "srun -N2 -n2 ./mpi 2>&1 </dev/null\n"  # the cell itself is bash's standard input
        "sbatch --wait --output=batch.out mpi.sh && cat batch.out\n",
    )
    assert len(set(re.findall(r"process \d of 2 on (\S+)", said))) == 2, said
    assert len(set(re.findall(r"process \d of 4 on (\S+)", said))) == 2, said


def test_modules_of_jupyterlab_hold_for_kernels_and_terminals(
    session: Session, run_on: Any
) -> None:
    known = session.api("GET", "/module/modules").json()
    assert any(name.startswith("gcc/") for name in known), known
    for name in ("gcc", "openmpi"):
        answer = session.api("POST", "/module", json={"modules": [name]})
        assert answer.status_code == 200, answer.text
    try:
        loaded = session.api("GET", "/module").json()
        assert len(loaded) == 2, loaded
        said = session.cell(session.kernel(), "!echo MPICC=$MPICC; module -t list 2>&1")
        assert "MPICC=/usr/bin/mpicc" in said and "openmpi/" in said, said
        mark = "/home/cleo/typed.txt"
        session.terminal(
            f"rm -f {mark}; (module -t list; echo $CC) > {mark}.new 2>&1; mv {mark}.new {mark};"
            " echo @typed"
        )
        text = until(lambda: run_on("login", ["cat", mark]).stdout)
        assert re.search(r"gcc/\S+\s+openmpi/\S+\s+gcc$", text.strip()), text
        missing = session.api("POST", "/module", json={"modules": ["nosuch"]}).json()
        assert "nosuch" in str(missing)
    finally:
        session.api("DELETE", "/module", json={"modules": ["openmpi", "gcc"]})


def test_the_admin_publishes_one_by_hand_and_takes_it_away(
    lab: Any, bash: Any, session: Session, tmp_path: Path
) -> None:
    file = tmp_path / "hello.lua"
    file.write_text('whatis("Description: by hand"\n')
    refused = practicum(lab, "module", "add", "hello/1.0", "--lua", str(file), code=1)
    assert "Lmod does not load hello/1.0" in refused and "expected" in refused
    assert "hello" not in bash("module avail")
    file.write_text('setenv("HELLO", "by hand")\nprepend_path("PATH", "/nfs/apps/hello")\n')
    said = practicum(lab, "module", "add", "hello/1.0", "--lua", str(file))
    assert "hello/1.0 is published; the cache of" in said
    assert "hello/1.0" in bash("module avail")
    assert re.search(r"^hello/1.0 +by hand +Site$", practicum(lab, "module", "list"), re.MULTILINE)
    assert bash("module load hello && echo $HELLO").strip() == "by hand"

    kernel = session.kernel()
    load_it = "%%bash\nmodule load hello && export -p > ~/loaded.sh; echo $HELLO"
    assert session.cell(kernel, load_it).strip() == "by hand"
    session.api("POST", "/module", json={"modules": ["hello"]})
    after = session.kernel()  # JupyterLab's tab has loaded it before
    assert "is gone" in practicum(lab, "module", "remove", "hello/1.0")
    assert "hello" not in bash("module avail")
    said = session.cell(after, "!echo $HELLO; bash -lc 'module -t list; module load hello'")
    assert said.startswith("by hand")
    assert "The module hello/1.0 was loaded, and is not any more" in said
    assert re.search(r'module\(s\)\s+are\s+unknown:\s+"hello"', said), said
    told = session.api("POST", "/module", json={"modules": ["hello"]}).json()
    assert "are unknown" in told, told  # what the tab shows
    session.api("DELETE", "/module", json={"modules": ["hello"]})
    # what was loaded before goes on, is unloaded, and does not keep others from being loaded
    said = session.cell(
        kernel,
        "%%bash\n. ~/loaded.sh; echo $HELLO; module load gcc 2>&1; echo $CC\n"
        "module unload hello 2>&1; module -t list 2>&1",
    )
    assert said.split("\n")[0] == "by hand"
    assert re.search(r"^gcc$", said, re.MULTILINE), said
    assert "hello" not in said.strip().split("\n")[-1], said


def test_a_modulefile_that_somebody_spoils_is_told_by_status(
    lab: Any, run_on: Any, bash: Any
) -> None:
    # the node looks by itself every five minutes: not within the next ones
    run_on("login", ["systemctl", "start", "practicum-modules.service"], timeout=300)
    run_on("login", ["sh", "-c", f"mkdir -p {SITE}/bad && echo 'whatis(' > {SITE}/bad/1.lua"])
    try:
        assert "the cache of modulefiles is older than" in practicum(lab, "status")
        assert f"Lmod cannot read {SITE}/bad/1.lua" in practicum(lab, "module", "refresh")
        said = practicum(lab, "status")
        assert f"Lmod cannot read {SITE}/bad/1.lua" in said
        assert "gcc/" in bash("module avail")
    finally:
        run_on("login", ["rm", "-r", f"{SITE}/bad"])
    run_on("login", ["systemctl", "start", "practicum-modules.service"], timeout=300)
    assert "as new as they are" in practicum(lab, "status")
    timer = run_on("login", ["systemctl", "is-active", "practicum-modules.timer"]).stdout
    assert timer.strip() == "active"


@pytest.fixture(scope="module")
def more(lab: Any) -> Iterator[None]:
    """Modules, a kernel with MPI, and two people with other shells. Taken back afterwards."""
    path: Path = lab.cluster_toml
    before = path.read_text()
    cluster = load(path)

    def apply() -> None:
        result = engine.apply(
            load(path), ROLES, load_secrets(secrets_path(path), cluster),
            base=path.parent, confirm=lambda _plan: True, reporter=Silent(),
        )  # fmt: skip
        assert result.ok, result.errors

    text = before
    for name, shell in (("ben", "/bin/zsh"), ("cleo", "/bin/tcsh")):
        text = text.replace(f'name = "{name}"\n', f'name = "{name}"\nshell = "{shell}"\n')
    path.write_text(text + MORE)
    try:
        apply()
        yield
    finally:
        path.write_text(before)
        apply()


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("ben", ["zsh", "-lc"]), ("ben", ["zsh", "-c"]), ("ben", ["zsh", "-ic"]),
        ("cleo", ["tcsh", "-c"]), ("cleo", ["csh", "-c"]), ("cleo", ["tcsh", "-ic"]),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else each,
)  # fmt: skip
def test_zsh_and_csh_have_modules(more: None, run_on: Any, user: str, words: list[str]) -> None:
    script = "module load gcc openmpi && echo CC=$CC && module -t list"
    done = run_on("node01", ["env", "-i", f"HOME=/home/{user}", "TERM=dumb", "PATH=/usr/bin:/bin",
                             *words, script], user=user)  # fmt: skip
    said = done.stdout + done.stderr
    assert "CC=gcc" in said and "openmpi/" in said, said


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_batch_scripts_of_other_shells_have_modules(more: None, run_on: Any, shell: str) -> None:
    script = f"#!/bin/{shell}\nmodule load gcc openmpi\necho CC=$CC\nsrun hostname\n"
    user = "ben" if shell == "zsh" else "cleo"
    done = run_on(
        "login", ["sbatch", "--wait", f"--output=/home/{user}/shell.out", f"--chdir=/home/{user}"],
        user=user, input=script,
    )  # fmt: skip
    text = run_on("login", ["cat", f"/home/{user}/shell.out"]).stdout
    assert "CC=gcc" in text, done.stderr + text
    assert len(re.findall(r"^node\d+$", text, re.MULTILINE)) >= 1, text


def test_modules_of_cluster_toml(more: None, lab: Any, bash: Any) -> None:
    listed = bash("module avail")
    assert "tool/1" in listed
    assert "tool/3" not in listed
    assert bash("module load tool; module -t list").strip() == "tool/1"
    said = bash("module load gcc openmpi; module load tool/2; module -t list")
    assert "tool/2 is deprecated: take 3" in said
    assert "tool/3" in bash("module load tool/3; module -t list")
    rows = json.loads(practicum(lab, "module", "list", "--json"))["modules"]
    tools = {
        row["module"]: (len(row["under"]), row["marks"]) for row in rows if "tool" in row["module"]
    }
    assert tools == {
        "tool/1": (0, ["default"]), "tool/2": (2, ["deprecated"]), "tool/3": (0, ["hidden"]),
    }  # fmt: skip


def test_a_tree_of_easybuild_stands_beside(more: None, lab: Any, run_on: Any, bash: Any) -> None:
    tree = "/nfs/apps/easybuild/modules/all"
    text = 'help([[EasyBuild]])\nsetenv("EBROOTZLIB", "/nfs/apps/easybuild/zlib")\n'
    run_on("login", ["mkdir", "-p", f"{tree}/zlib"])
    run_on("login", ["tee", f"{tree}/zlib/1.3.lua"], input=text)
    try:
        practicum(lab, "module", "refresh")
        assert "zlib/1.3" in bash("module avail")
        assert bash("module load zlib; echo $EBROOTZLIB").strip() == "/nfs/apps/easybuild/zlib"
    finally:
        run_on("login", ["rm", "-r", "/nfs/apps/easybuild"])


def test_python_with_mpi_over_two_nodes(more: None, bash: Any, session: Session) -> None:
    code = (
        "from mpi4py import MPI; c = MPI.COMM_WORLD; "
        "print(c.rank, MPI.Get_processor_name(), c.allreduce(c.rank), MPI.Get_library_version())"
    )
    said = bash(f"module load mpi && mpirun --version && srun -N2 -n2 python -c '{code}'")
    version = re.search(r"^mpirun \(Open MPI\) (\S+)$", said, re.MULTILINE)
    assert version, said
    # of the MPI that the kernel's modules load
    pattern = rf"^(\d) (\S+) 1 Open MPI v{re.escape(version[1])},"
    # the same from a notebook of that kernel: a process there is alone, srun has two nodes
    kernel = session.kernel("mpi")
    cell = session.cell(kernel, f"{code}\n!srun -N2 -n2 python -c '{code}' </dev/null")
    session.end(kernel)  # what it holds could not be removed when this file is done
    assert re.search(rf"^0 node\d+ 0 Open MPI v{re.escape(version[1])},", cell), cell
    for text in (said, cell):
        lines = sorted(re.findall(pattern, text, re.MULTILINE))
        assert [rank for rank, _ in lines] == ["0", "1"], text
        assert len({host for _, host in lines}) == 2, text


EXPECTED = {
    "serial": ("serial-*.out", r"pi is about 3\.1416", 1),
    "array": ("array-*.out", r"the square of \d+ is \d+", 10),
    "openmp": ("openmp-*.out", r"pi is about 3\.141593, by 4 threads", 1),
    "hybrid": ("hybrid-*.out", r"thread [01] of 2, process [01] on node\d+", 4),
}


def test_the_examples(bash: Any, run_on: Any) -> None:
    """mpi.sh ran above, silicon.sh has a test of its own."""
    folder = "/home/ben/examples"
    said = bash(
        f"rm -rf {folder}; cp -r {EXAMPLES} {folder}; cd {folder}; bash dependency.sh", "ben"
    )
    assert re.search(r"job \d+ waits for job \d+", said), said
    jobs = "; ".join(f"sbatch --wait {name}.sh & " for name in EXPECTED).replace("& ;", "&")
    said = bash(f"cd {folder}; {jobs} wait", "ben")
    for name, (files, pattern, count) in EXPECTED.items():
        text = outputs(run_on, folder, files)
        assert len(re.findall(pattern, text)) == count, f"{name}: {said}\n{text}"
    until(
        lambda: "5050" in outputs(run_on, folder, "sum-*.out"),
        120,
        why=lambda: run_on("login", ["squeue", "-a"]).stdout,
    )


def test_selftest_measures_and_says_which_ports_are_closed(lab: Any, run_on: Any) -> None:
    names = [node.name for node in lab.nodes if "compute" in node.roles][:2]
    words = ("selftest", "mpi", "--nodes", names[0], "--nodes", names[1])
    last = lab.cluster_toml.parent / "state/selftest-mpi.json"
    last.write_text(json.dumps({"srun": {"latency_us": 12345.6}}))
    said = practicum(lab, *words)
    assert re.search(r"srun +2 on \S+ +[\d.]+ \(12345\.6\)", said), said  # beside the last run's
    told = json.loads(last.read_text())
    for one in (told["srun"], told["mpirun"]):
        assert set(one["hosts"]) == set(names)
        assert 0 < one["latency_us"] < 1e6 and one["bandwidth_mb_s"] > 0 and one["right"]

    address = next(node.address for node in lab.nodes if node.name == names[0])
    table = f"table inet closed {{ chain c {{ type filter hook input priority -200; ip saddr {address} tcp dport 36000-49000 drop; }}; }}"
    done = run_on(names[1], ["nft", "-f", "-"], input=table)
    assert done.returncode == 0, done.stderr
    try:
        said = practicum(lab, *words, code=1)
        assert f"{names[1]} does not let {names[0]} in on ports 36901, 40637, 44371, 48109" in said
    finally:
        run_on(names[1], ["nft", "delete", "table", "inet", "closed"])
