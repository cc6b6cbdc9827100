"""The MPI selftest's parts without a cluster, the build's words, and the examples."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli import practicum
from test_load import GOOD

from cluster.edit_modules import with_module
from cluster.errors import PracticumError
from cluster.load import load
from lmod import build, selftest
from lmod.jobs import Person
from lmod.selftest import Outcome, Plan
from provisioning.remote import Done

FILES = Path(build.__file__).parent / "files"
OUTPUT = """\
@run srun
rank 0 node01
rank 1 node02
latency_us 41.20
bandwidth_mb_s 812.5
allreduce_us 77.10
sum right
@status 0
@run mpirun
rank 0 node01
srun: error: node02: task 1: Killed
@status 137
@end
"""
PLAN = Plan("ines", ("node01", "node02"))


def test_the_jobs_output_is_read() -> None:
    found = selftest.read(OUTPUT)
    assert found["srun"] == Outcome(0, ("node01", "node02"), True, 41.2, 812.5, 77.1)
    assert found["mpirun"].status == 137
    assert list(selftest.troubles(PLAN, found, OUTPUT)) == [
        "mpirun failed with status 137: srun: error: node02: task 1: Killed"
    ]
    with pytest.raises(ValueError, match="ended before its time"):
        selftest.read(OUTPUT.replace("@end", ""))


@given(st.text(alphabet="@run srunmpistatuderlacy_0129.\n", max_size=200))
def test_any_output_is_read_or_refused(text: str) -> None:
    try:
        found = selftest.read(text + "\n@end\n")
    except ValueError:
        return
    assert set(found) <= {"srun", "mpirun"}


def test_what_hangs_and_what_ran_elsewhere_is_said() -> None:
    away = OUTPUT.replace("@status 137", "sum right\n@status 0").replace("rank 1 node02\n", "")
    said = list(selftest.troubles(PLAN, selftest.read(away), away))
    assert said == [
        "srun ran on node01 instead of node[01-02]", "mpirun ran on node01 instead of node[01-02]",
    ]  # fmt: skip
    late = OUTPUT.replace("137", "124")
    assert "mpirun did not end within 120 s" in "".join(
        selftest.troubles(PLAN, selftest.read(late), late)
    )
    lost = f"Lmod: Error: no gcc\n@failed the modules cannot be loaded\n{OUTPUT}"
    assert list(selftest.troubles(PLAN, selftest.read(lost), lost)) == [
        "the modules cannot be loaded (Lmod: Error: no gcc)"
    ]


def test_the_table_has_the_last_runs_figures_beside() -> None:
    found = selftest.read(OUTPUT)
    last = {"srun": {"latency_us": 40.0, "bandwidth_mb_s": None}}
    assert selftest.rows(found, last) == [
        ("srun", "2 on node[01-02]", "41.2 (40.0)", "812", "77.1"),
        ("mpirun", "1 on node01", "-", "-", "-"),
    ]
    assert json.loads(json.dumps(selftest.figures(found)))["srun"]["hosts"] == ["node01", "node02"]


def test_closed_ports_are_told_once_for_all_that_they_keep_out() -> None:
    ports = list(selftest.PORTS)
    said = list(selftest.closed_sentences(
        {"node01": {"node03": ports}, "node02": {"node03": ports, "login": [33017]}}
    ))  # fmt: skip
    assert said[0].startswith("login does not let node02 in on port 33017:")
    assert said[1].startswith("node03 does not let node[01-02] in on any port that programs get")
    assert len(said) == 2


def test_the_script_takes_only_plain_words() -> None:
    text = selftest.script(Plan("ines", ("node01",), ("gcc", "openmpi/4.1.4-pmi2"), "pmi2"))
    assert "srun --mpi=pmi2 ./selftest" in text and "--ntasks-per-node=2" in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for plan in (Plan("i", ("n",), ("$(id)",)), Plan("i", ("n",), mpi="x;id")):
        with pytest.raises(ValueError, match="is not the name of a module"):
            selftest.script(plan)


def free_ports(count: int) -> list[int]:
    """Ports of nobody's, far from those that tests of other modules count on being closed."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return sorted(found)


def test_the_probe_tells_open_from_closed() -> None:
    words = [sys.executable, "-I", str(FILES / "port_probe.py"), "--seconds", "3"]

    def closed(*hosts: str) -> tuple[list[int], dict[str, list[int]]]:
        ports = free_ports(2)
        done = subprocess.run([*words, "--ports", ",".join(map(str, ports)), *hosts],
                              capture_output=True, text=True, check=True, timeout=60)  # fmt: skip
        return ports, json.loads(done.stdout)["closed"]

    assert closed("127.0.0.1")[1] == {}
    ports, found = closed("127.0.0.1", "127.255.255.255")  # nobody's: connecting fails
    assert found == {"127.255.255.255": ports}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("selftest", "mpi", "--user", "nobody"), "cluster.toml has no account nobody"),
        (("selftest", "mpi"), "no admin and no instructor: say --user NAME"),
        (("software", "build", "openmp"), "did you mean openmpi?"),
        (("software", "build", "openmpi", "--user", "eve"), "cluster.toml has no account eve"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_sentence(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(GOOD)
    done = practicum(*words, "-f", str(path))
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        # the compiler's word, not make's many after it
        ("@step configure\nchecking for error: no\n@step make\nmpi.c:3: error: no such thing\n"
         "make: *** [all] Error 2\nmake: *** [all-recursive] Error 1\n",
         " at make (job 17): mpi.c:3: error: no such thing;"),
        ("@step make\nmake: *** [all] Error 2\n", " at make (job 17): make: *** [all] Error 2;"),
        ("@step configure\nconfigure: error: cannot find sources (VERSION) in /x\n",
         " at configure (job 17): configure: error: cannot find sources (VERSION) in /x;"),
        ("@step make\nmpi.c:3: error: x\nslurmstepd: error: *** JOB 17 ON n CANCELLED AT x DUE TO "
         "TIME LIMIT ***\n", "slurmstepd: error: *** JOB 17 ON n CANCELLED"),
        ("/x/build.sh: line 9: mktemp: No space left on device\n", " (job 17): /x/build.sh: line 9"),
        ("", " (job 17): it wrote nothing;"),
    ],
)  # fmt: skip
def test_a_build_that_fails_is_told_by_its_log(log: str, sentence: str) -> None:
    said = build.failure(log, "17", "/home/ines/build.log")
    assert said.startswith("the build failed") and sentence in said
    assert said.endswith("; all of it is in /home/ines/build.log")


@given(st.text())
def test_any_log_of_a_build_gives_one_line(log: str) -> None:
    assert len(build.failure(log, "17", "x").splitlines()) == 1


def test_a_build_that_cannot_be_is_refused() -> None:
    for word in ("--with-x=$(id)", "x", "--a b"):
        with pytest.raises(PracticumError, match="it must be like --enable-this=that"):
            build.Build("ines", options=(word,)).check()
    build.Build("ines", options=("--enable-mpi-fortran=no", "--disable-io-romio")).check()
    for version in ("", "4.1.4", "4.1.6"):
        build.speaks_pmi2(version)
    with pytest.raises(PracticumError, match=r"Open MPI 5\.0\.7, .* speaks PMIx alone"):
        build.speaks_pmi2("5.0.7")


class Answers:
    """A connection that has these answers to squeue."""

    def __init__(self, *answers: Done) -> None:
        self.answers = list(answers)

    def run(self, words: list[str], **_more: Any) -> Done:
        assert words[0] == "squeue"
        return self.answers.pop(0)


def test_a_job_is_not_over_because_slurm_does_not_answer() -> None:
    down = Done(1, "", "slurm_load_jobs error: Unable to contact slurm controller")
    answers = Answers(
        Done(0, "PENDING Resources\n", ""), down, Done(0, "RUNNING None\n", ""), down,
        Done(0, "COMPLETING None\n", ""), Done(1, "", "slurm_load_jobs error: Invalid job id specified"),
    )  # fmt: skip
    told: list[str] = []
    person = Person(answers, "ines", "/home/ines")  # type: ignore[arg-type]
    assert person.wait("17", 60, told.append, seconds=60, every=0) == "COMPLETED"
    assert [line.partition(" (")[0] for line in told] == [
        f"job 17: {word}" for word in ("pending", "unknown", "running", "unknown", "completing")
    ]
    assert answers.answers == []


def test_what_was_built_becomes_a_module_of_cluster_toml(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(
        with_module(GOOD, build.entry("4.1.4", "/nfs/apps/openmpi/4.1.4-pmi2", "gcc/12.2.0"))
    )
    module = load(path).modules[0]
    assert (module.full, module.kind, module.env["SLURM_MPI_TYPE"]) == (
        "openmpi/4.1.4-pmi2",
        "mpi",
        "pmi2",
    )


def tool() -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("fetch_source", FILES / "fetch_source.py")
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_sources_of_packages_become_those_of_source_packages() -> None:
    fetch = tool()
    old = (
        "# deb x\ndeb [arch=amd64] http://d/debian bookworm main\ndeb-src http://d/debian x main\n"
    )
    line = "[arch=amd64] http://d/debian bookworm main\n"
    assert fetch.sources(old, deb822=False) == old.replace(
        f"\ndeb {line}", f"\ndeb {line}deb-src {line}"
    )
    new = "Types: deb\nURIs: http://d\n\nTypes: deb-src deb\nURIs: http://e\n"
    assert fetch.sources(new, deb822=True).count("Types: deb deb-src\n") == 2


@pytest.mark.parametrize(
    "script", sorted((FILES / "examples").glob("*.sh")), ids=lambda one: one.name
)
def test_an_example_is_valid_and_told_in_the_readme(script: Path) -> None:
    text = script.read_text()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert script.name in (FILES / "examples/README").read_text()
    if script.name != "dependency.sh":
        assert "#SBATCH --time=" in text and "#SBATCH --mem" in text


CONFIGURE = """#!/bin/sh
echo checking
[ "{end}" != refuses ] || {{ echo "configure: error: no compiler"; exit 1; }}
echo "MCA_BUILD_opal_pmix_s2_DSO_TRUE='{pmi2}'" > config.log
echo "prefix = ${{1#--prefix=}}" > Makefile
printf 'all:\\n\\t@{all}\\ninstall:\\n\\tmkdir -p $(prefix)/etc $(prefix)/lib/openmpi\\n\\t{install}\\n' \\
    >> Makefile
"""
COMPONENT = "touch $(prefix)/lib/openmpi/mca_pmix_s2.so"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, ""),
        ({"end": "refuses"}, " at configure (job 17): configure: error: no compiler;"),
        ({"pmi2": "#"}, " at configure (job 17): error: configure leaves PMI-2 out;"),
        ({"all": "echo mpi.c:3: error: no; false"}, " at make (job 17): mpi.c:3: error: no;"),
        ({"install": "true"}, " at install (job 17): error: what was built has no PMI-2;"),
    ],
)
def test_the_builds_script_on_a_source_of_a_few_lines(
    tmp_path: Path, given: dict[str, str], sentence: str
) -> None:
    source, pmi, prefix = tmp_path / "openmpi", tmp_path / "pmi", tmp_path / "prefix"
    text = {"end": "", "pmi2": "", "all": "true", "install": COMPONENT, **given}
    for folder in (source, pmi / "lib", tmp_path / "work"):
        folder.mkdir(parents=True)
    (pmi / "lib/libpmi2.so.0").write_text("")
    configure = source / "configure"
    configure.write_text(CONFIGURE.format(**text))
    configure.chmod(0o755)
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "openmpi.tar", "openmpi"], check=True)
    done = subprocess.run(
        ["bash", FILES / "build_openmpi.sh", tmp_path, pmi, prefix],
        env={"PATH": "/usr/bin:/bin", "SLURM_TMPDIR": str(tmp_path / "work")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert list((tmp_path / "work").iterdir()) == []
    if sentence:
        assert done.returncode != 0 and not done.stdout.rstrip().endswith("@done")
        assert sentence in build.failure(done.stdout, "17", "x")
        return
    assert done.returncode == 0 and done.stdout.endswith("@done\n"), done.stdout
    assert (prefix / "lib/libpmi2.so.0").exists()
    settings = (prefix / "etc/openmpi-mca-params.conf").readlink()
    assert settings == Path("/etc/openmpi/openmpi-mca-params.conf")
