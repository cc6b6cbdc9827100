"""`practicum software build openmpi`: Open MPI with Slurm's PMI-2, from Debian's source package.

The distribution's Open MPI speaks PMIx. A site whose Slurm has no PMIx, or which wants PMI-2,
builds its own: the source is fetched on the login node, built by a Slurm job of somebody who is not
root at its final path, and then belongs to root. What belongs to somebody else is a build that was
cut short, and is made anew. Open MPI 5 has no PMI-2 any more (its NEWS), so Debian 13 cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError
from cluster.model import Cluster, NodeRole
from lmod.catalogue import OPENMPI, system_gcc
from lmod.jobs import Person
from lmod.role import PYTHON, own_file
from lmod.shells import LIBRARY
from provisioning.facts import Facts
from provisioning.remote import Remote
from provisioning.ssh import ssh_target

PACKAGES = ("libpmi2-0", "libpmi2-0-dev")
FETCH_SECONDS = 1500
LOOK_SECONDS = 5.0
LAST = 4  # the last Open MPI with PMI-2
JOB = "build-openmpi"
OPTION = re.compile(r"--?[A-Za-z0-9][A-Za-z0-9_-]*(=[A-Za-z0-9_,./:+-]*)?")


@dataclass(frozen=True)
class Build:
    """One build. ``hours`` and ``memory_mb`` (a core) are the job's limits."""

    user: str
    cores: int = 2
    hours: int = 6
    memory_mb: int = 600
    partition: str = ""
    options: tuple[str, ...] = ()  # more words for configure

    def check(self) -> None:
        """PracticumError for an option that is no plain word."""
        for word in self.options:
            if not OPTION.fullmatch(word):
                raise PracticumError(f"--configure {word}: it must be like --enable-this=that")


def openmpi(
    cluster: Cluster, base: Path, facts: Facts, build: Build, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Build it; the values of its entry in [[modules]]. PracticumError with the cause from the log
    when the build fails; the log stays."""
    build.check()
    speaks_pmi2(OPENMPI.get(facts.os_codename, ""))
    gcc = system_gcc(cluster, facts).full
    login = cluster.first(NodeRole.LOGIN)
    with Remote(ssh_target(cluster, login, base)) as remote:
        sources = f"{cluster.storage.apps}/src"
        version = _fetch(remote, f"{sources}/openmpi", tell)
        speaks_pmi2(version)
        prefix = f"{cluster.storage.apps}/openmpi/{version}-pmi2"
        # built at its final path, for it cannot be moved; what is live has another owner: root
        _root(remote, "mkdir", "-p", f"{cluster.storage.apps}/openmpi")
        if _whole(remote, cluster, prefix):
            tell(f"{prefix} is there from an earlier run")
            return entry(version, prefix, gcc)
        _root(remote, "install", "-d", "-o", build.user, "-m", "755", prefix)
        try:
            _compile(remote, cluster, build, f"{sources}/openmpi", prefix, tell)
        except BaseException:
            _root(remote, "rm", "-rf", prefix)
            raise
        _root(remote, "chown", "-R", "root:root", prefix)
    return entry(version, prefix, gcc)


def speaks_pmi2(version: str) -> None:
    """PracticumError when that version of Open MPI cannot be built with PMI-2."""
    if version and int(version.partition(".")[0]) > LAST:
        raise PracticumError(
            f"Open MPI {version}, which this distribution has, speaks PMIx alone: take its own "
            f"package (module load gcc openmpi); with PMI-2 there is Open MPI {LAST}, of Debian 12 "
            "and Ubuntu 24.04"
        )


def _whole(remote: Remote, cluster: Cluster, prefix: str) -> bool:
    """Whether a build is there that only lacks its module. PracticumError when its module is there
    too, or while somebody's job makes it; what is left of one that was cut short is removed."""
    owner = remote.run(["stat", "-c", "%U", prefix]).out.strip()
    if not owner:
        return False
    if owner == "root":
        found = [module.full for module in cluster.modules if module.prefix == prefix]
        if found:
            raise PracticumError(
                f"{prefix} is there already: to build it anew, remove it and its module "
                f"(practicum module remove {found[0]}) first"
            )
        return True
    words = ["squeue", "-h", "-n", JOB, "-u", owner, "-o", "%i"]
    jobs = remote.run(words, check=True).out.split()
    if jobs:
        raise PracticumError(
            f"job {jobs[0]} of {owner} builds {prefix} now: wait for it, or scancel {jobs[0]}"
        )
    _root(remote, "rm", "-rf", prefix)
    return False


def entry(version: str, prefix: str, gcc: str) -> dict[str, Any]:
    """Its table in [[modules]]. srun speaks PMI-2 with it by itself."""
    return {
        "name": "openmpi",
        "version": f"{version}-pmi2",
        "kind": "mpi",
        "under": [gcc],
        "prefix": prefix,
        "description": "Open MPI built on this cluster, with Slurm's PMI-2",
        "env": {"MPI_HOME": prefix, "SLURM_MPI_TYPE": "pmi2"},
    }


def _fetch(remote: Remote, folder: str, tell: Callable[[str], None]) -> str:
    """The source on shared storage; its upstream version."""
    tell("fetching Debian's source package of Open MPI")
    script = f"{LIBRARY}/fetch_source.py"
    words = [PYTHON, "-I", script, folder, "openmpi", "openmpi", *PACKAGES]
    done = remote.run(words, timeout=FETCH_SECONDS)
    if done.code:
        raise PracticumError(f"the source of Open MPI cannot be fetched: {done.said}")
    pmi = f"{folder}/pmi"
    _root(remote, "rm", "-rf", pmi)
    _root(remote, "mkdir", "-p", f"{pmi}/include")
    _root(remote, "cp", "-a", f"{folder}/packages/usr/include/slurm", f"{pmi}/include/")
    found = remote.run(
        ["find", f"{folder}/packages/usr/lib", "-name", "libpmi2.so", "-printf", "%h"]
    )
    _root(remote, "cp", "-a", found.out.strip(), f"{pmi}/lib")
    # libtool's own notes say that it is in /usr
    _root(remote, "find", f"{pmi}/lib", "-name", "libpmi2.*a", "-delete")
    version = re.match(r"(?:\d+:)?(\d[\d.]*\d)", done.out.strip().splitlines()[-1])
    if not version:
        raise PracticumError(f"{done.out.strip()!r} is no version of Open MPI")
    return version[1]


def _compile(
    remote: Remote,
    cluster: Cluster,
    build: Build,
    source: str,
    prefix: str,
    tell: Callable[[str], None],
) -> None:
    person = Person(remote, build.user, f"{cluster.storage.home}/{build.user}")
    options = [
        f"--job-name={JOB}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={build.cores}",
        f"--mem-per-cpu={build.memory_mb}M", f"--time={build.hours}:00:00",
        f"--output={JOB}-%j.log", f"--chdir={person.home}",
        *([f"--partition={build.partition}"] if build.partition else []),
    ]  # fmt: skip
    script = f"{source}/build.sh"  # sbatch gives words to none from standard input
    remote.run(["tee", script], stdin=own_file("build_openmpi.sh"), check=True)
    job = person.submit("", *options, script, source, f"{source}/pmi", prefix, *build.options)
    log = f"{person.home}/{JOB}-{job}.log"
    said: list[str] = []

    def look() -> None:
        done = remote.run(["grep", "-a", "^@step ", log], timeout=60)
        steps = done.out.splitlines()
        for step in steps[len(said) :]:
            tell(f"job {job}: {step.removeprefix('@step ')}")
        said[:] = steps

    try:
        person.wait(job, 3600, tell, seconds=build.hours * 3600, look=look, every=LOOK_SECONDS)
    except BaseException:
        person.cancel(job)
        person.gone(job)  # before its folder is removed under it
        raise
    text = person.read(log, end="@done")
    if not text.rstrip().endswith("@done"):
        raise PracticumError(failure(text, job, log))


def failure(text: str, job: str, log: str) -> str:
    """Why a build failed, from its log: what Slurm said in the end, else the first error of the
    last step (make's own come after it), else the last line."""
    steps = re.findall(r"^@step (\w+)", text, re.MULTILINE)
    last = [line.strip() for line in text.rpartition("@step ")[2].splitlines() if line.strip()]
    ended = [line for line in last if line.startswith("slurmstepd: error:")][-1:]
    errors = [line for line in last if re.search(r"\berror: ", line, re.IGNORECASE)]
    stops = [line for line in last if re.search(r"\*\*\*|No space|Killed", line)]
    said = (ended or errors or stops or last[-1:] or ["it wrote nothing"])[0]
    where = f" at {steps[-1]}" if steps else ""
    return f"the build failed{where} (job {job}): {said[:300]}; all of it is in {log}"


def _root(remote: Remote, *words: str) -> None:
    remote.run(list(words), timeout=120, check=True)
