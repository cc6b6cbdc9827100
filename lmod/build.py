"""`practicum software build openmpi`: Open MPI with Slurm's PMI-2, from Debian's source package.

The distribution's Open MPI speaks PMIx. A site whose Slurm has no PMIx, or which wants PMI-2,
builds its own: the source is fetched on the login node, built by a Slurm job of somebody who is not
root, and then belongs to root. What was there before stays until the new one is whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError
from cluster.model import Cluster, NodeRole
from lmod.catalogue import system_gcc
from lmod.jobs import Person
from lmod.role import PYTHON, own_file
from lmod.shells import LIBRARY
from provisioning.facts import Facts
from provisioning.ssh import Remote, ssh_target

PACKAGES = ("libpmi2-0", "libpmi2-0-dev")
FETCH_SECONDS = 1500
OPTION = re.compile(r"--?[A-Za-z0-9][A-Za-z0-9_-]*(=[A-Za-z0-9_,./:+-]*)?")


@dataclass(frozen=True)
class Build:
    """One build. ``hours``: the job's limit."""

    user: str
    cores: int = 2
    hours: int = 6
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
    """Build it; the values of its entry in [[modules]]. PracticumError with the end of the log when
    the build fails; the log stays."""
    build.check()
    login = cluster.first(NodeRole.LOGIN)
    with Remote(ssh_target(cluster, login, base)) as remote:
        sources = f"{cluster.storage.apps}/src"
        version = _fetch(remote, f"{sources}/openmpi", tell)
        prefix = f"{cluster.storage.apps}/openmpi/{version}-pmi2"
        # built at its final path, for it cannot be moved; what is live has another owner: root
        _root(remote, "mkdir", "-p", f"{cluster.storage.apps}/openmpi")
        if _there(remote, prefix):
            raise PracticumError(
                f"{prefix} is there already: to build it anew, remove it and its module first"
            )
        _root(remote, "install", "-d", "-o", build.user, "-m", "755", prefix)
        try:
            _compile(remote, cluster, build, f"{sources}/openmpi", prefix, tell)
        except BaseException:
            _root(remote, "rm", "-rf", prefix)
            raise
        _root(remote, "chown", "-R", "root:root", prefix)
    gcc = system_gcc(cluster, facts)
    return entry(version, prefix, gcc.full)


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
        "--job-name=build-openmpi", "--nodes=1", "--ntasks=1", f"--cpus-per-task={build.cores}",
        f"--time={build.hours}:00:00", "--output=build-openmpi-%j.log", f"--chdir={person.home}",
        *([f"--partition={build.partition}"] if build.partition else []),
    ]  # fmt: skip
    script = f"{source}/build.sh"  # sbatch gives words to none from standard input
    remote.run(["tee", script], stdin=own_file("build_openmpi.sh"), check=True)
    job = person.submit("", *options, script, source, f"{source}/pmi", prefix, *build.options)
    log = f"{person.home}/build-openmpi-{job}.log"
    said: list[str] = []

    def look() -> None:
        done = remote.run(["grep", "-a", "^@step ", log], timeout=60)
        steps = done.out.splitlines()
        for step in steps[len(said) :]:
            tell(f"job {job}: {step.removeprefix('@step ')}")
        said[:] = steps

    try:
        person.wait(job, 3600, tell, seconds=build.hours * 3600, look=look)
    except BaseException:
        person.cancel(job)
        raise
    text = person.read(log, end="@done")
    if not text.rstrip().endswith("@done"):
        raise PracticumError(failure(text, job, log))


def failure(text: str, job: str, log: str) -> str:
    """Why a build failed, from its log."""
    steps = re.findall(r"^@step (\w+)", text, re.MULTILINE)
    errors = [
        line.strip()
        for line in text.splitlines()
        if re.search(r"\berror\b|\*\*\*|No space|Killed|slurmstepd", line, re.IGNORECASE)
    ]
    last = errors[-1] if errors else (text.strip().splitlines() or ["it wrote nothing"])[-1]
    where = f" at {steps[-1]}" if steps else ""
    return f"the build failed{where} (job {job}): {last[:300]}; all of it is in {log}"


def _there(remote: Remote, path: str) -> bool:
    return remote.run(["test", "-e", path]).code == 0


def _root(remote: Remote, *words: str) -> None:
    remote.run(list(words), timeout=120, check=True)
