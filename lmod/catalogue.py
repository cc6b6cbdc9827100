"""Every modulefile that practicum writes: which there are, and where in the hierarchy.

    Core/gcc/12.2.0.lua                          opens Compiler/gcc/12.2.0
    Compiler/gcc/12.2.0/openmpi/4.1.4.lua        opens MPI/gcc/12.2.0/openmpi/4.1.4
    MPI/gcc/12.2.0/openmpi/4.1.4/espresso/6.7.lua

The distribution's compilers and Open MPI, one for each shared kernel, and those of [[modules]]. One
of [[modules]] with the same place takes that of practicum's own. Modulefiles written by hand are
beside these, in Site.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.model import Cluster, Kernel
from cluster.software import Module
from lmod.modulefiles import Text, lua_string
from provisioning.facts import Facts

# Upstream versions in the distributions. A stable release keeps its own, and the packages are not
# installed yet when the first plan is made.
GCC = {"bookworm": "12.2.0", "trixie": "14.2.0", "noble": "13.3.0"}
OPENMPI = {"bookworm": "4.1.4", "trixie": "5.0.7", "noble": "4.1.6"}
TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
LEVELS = ("Core", "Compiler", "MPI")
GCC_HELP = """\
The distribution's C, C++ and Fortran compilers: gcc, g++, gfortran. Loading it shows the modules
of what was built with it, an MPI among them:

    module load gcc openmpi
"""
OPENMPI_HELP = """\
Compile with mpicc, mpicxx or mpifort. Inside a job srun starts one process for each task, and
mpirun does too:

    sbatch -N2 -n4 --wrap "srun ./a.out"
"""
PYTHON_HELP = """\
The same Python and packages as the notebook kernel, for terminals and batch jobs:

    python script.py
    srun python script.py

Packages: {packages}
"""


@dataclass(frozen=True)
class Entry:
    """One modulefile. ``under``: full names of what is loaded before it. ``origin``: where it comes
    from, in words. ``path`` is relative to the root of modulefiles."""

    text: Text
    under: tuple[str, ...] = ()
    origin: str = "practicum"
    default: bool = False
    hidden: bool = False
    deprecated: str = ""

    @property
    def name(self) -> str:
        return self.text.name

    @property
    def full(self) -> str:
        return f"{self.text.name}/{self.text.version}"

    @property
    def path(self) -> str:
        return f"{branch(self.under)}/{self.full}.lua"

    @property
    def before(self) -> tuple[str, ...]:
        """What Lmod must load first when it tries this one."""
        return (*self.under, *self.text.prereq)


def branch(under: Sequence[str]) -> str:
    """The folder of what is shown once these are loaded."""
    return "/".join((LEVELS[len(under)], *under))


def modulefiles(cluster: Cluster) -> str:
    """The root of the site's modulefiles, on shared storage."""
    return f"{cluster.storage.apps}/modulefiles"


def catalogue(cluster: Cluster, facts: Facts) -> tuple[Entry, ...]:
    """All of them, each after those that it is under or loads. ``facts`` are of the node whose
    distribution has the compilers."""
    gcc = system_gcc(cluster, facts)
    openmpi = system_openmpi(cluster, facts, gcc)
    own = [gcc, openmpi]
    own += [python_module(cluster, one, facts) for one in cluster.kernels if for_everyone(one)]
    names = {"gcc": gcc.full, "openmpi": openmpi.full}
    entries = {entry.path: entry for entry in own}
    for module in cluster.modules:
        entry = declared(cluster, module, names)
        entries[entry.path] = entry
    return tuple(_in_order(entries.values()))


def system_gcc(cluster: Cluster, facts: Facts) -> Entry:
    version = GCC.get(facts.os_codename, "system")
    text = Text(
        name="gcc",
        version=version,
        description="GNU compilers for C, C++ and Fortran, the distribution's own",
        keywords="compiler",
        help=GCC_HELP,
        family="compiler",
        env={"CC": "gcc", "CXX": "g++", "FC": "gfortran", "F77": "gfortran"},
        branch=f"{modulefiles(cluster)}/{branch((f'gcc/{version}',))}",
    )
    return Entry(text, origin="distribution", default=_default(cluster, "gcc"))


def system_openmpi(cluster: Cluster, facts: Facts, gcc: Entry) -> Entry:
    version = OPENMPI.get(facts.os_codename, "system")
    triplet = TRIPLETS.get(facts.arch, f"{facts.arch}-linux-gnu")
    under = (gcc.full, f"openmpi/{version}")
    text = Text(
        name="openmpi",
        version=version,
        description="Open MPI, message passing between nodes, the distribution's own",
        keywords="mpi, parallel",
        help=OPENMPI_HELP,
        family="mpi",
        env={
            "MPI_HOME": f"/usr/lib/{triplet}/openmpi",
            "MPICC": "/usr/bin/mpicc.openmpi",
            "MPICXX": "/usr/bin/mpicxx.openmpi",
            "MPIFC": "/usr/bin/mpifort.openmpi",
        },
        branch=f"{modulefiles(cluster)}/{branch(under)}",
    )
    default = _default(cluster, "openmpi")
    return Entry(text, under=(gcc.full,), origin="distribution", default=default)


def _default(cluster: Cluster, name: str) -> bool:
    """The distribution's own is the default, unless the admin chose another."""
    return not any(module.name == name and module.default for module in cluster.modules)


def for_everyone(kernel: Kernel) -> bool:
    """R is the distribution's own, and an environment for one group is nobody else's to load."""
    return getattr(kernel, "language", "python") != "r" and getattr(kernel, "group", None) is None


def python_module(cluster: Cluster, kernel: Kernel, facts: Facts) -> Entry:
    """A kernel's environment, for jobs."""
    # the kernel that notebooks ask for is python3; the module's version says the 3
    name = "python" if kernel.name == "python3" else kernel.name
    prefix = f"{cluster.storage.envs}/{kernel.name}/current"
    text = Text(
        name=name,
        version=facts.python or "3",
        description=f"Python of the shared kernel {kernel.title}",
        keywords="python, jupyter",
        help=PYTHON_HELP.format(packages=", ".join(kernel.packages)),
        family="python",
        load=kernel.modules,
        prefix=prefix,
        only_bin=True,
        by_arch=True,
        prefix_variable="VIRTUAL_ENV",
    )
    return Entry(text, origin="kernel")


def declared(cluster: Cluster, module: Module, names: dict[str, str]) -> Entry:
    """One of [[modules]]. ``names``: what a name without a version means."""
    under = tuple(_full(cluster, name, names) for name in module.under)
    opens = module.kind != "software"
    text = Text(
        name=module.name,
        version=module.version,
        description=module.description,
        help=module.help,
        family=module.family or (module.kind if opens else ""),
        conflict=module.conflict,
        prereq=module.prereq,
        load=module.load,
        prefix=module.prefix,
        env=module.env,
        paths=module.paths,
        branch=f"{modulefiles(cluster)}/{branch((*under, module.full))}" if opens else "",
    )
    return Entry(
        text, under, "cluster.toml", module.default, module.hidden, module.deprecated
    )  # fmt: skip


def _full(cluster: Cluster, name: str, names: dict[str, str]) -> str:
    """NAME/VERSION of a name in ``under``: practicum's own, else the default or the last one."""
    if "/" in name or name in names:
        return names.get(name, name)
    found = [module for module in cluster.modules if module.name == name]
    chosen = [module for module in found if module.default] or found
    return chosen[-1].full if chosen else name


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Each is tried by Lmod before it is published, so what it needs must be there before."""
    left = sorted(entries, key=lambda entry: (len(entry.under), entry.path))
    done: list[Entry] = []
    while left:
        waiting = {name for entry in left for name in (entry.full, entry.name)}
        ready = [
            entry
            for entry in left
            if not waiting.intersection((*entry.under, *entry.text.prereq, *entry.text.load))
        ] or left  # a cycle was refused before; nothing is left out whatever happens
        done += ready
        left = [entry for entry in left if entry not in ready]
    return done


def modulerc(cluster: Cluster, entries: Iterable[Entry]) -> str:
    """Defaults and hidden versions, for Lmod."""
    chosen = [entry.full for entry in entries if entry.default]
    hidden = [entry.full for entry in entries if entry.hidden]
    lines = ["-- Written by practicum: default and hidden versions."]
    for full in dict.fromkeys([*chosen, *cluster.software.defaults]):
        lines.append(f'module_version({lua_string(full)}, "default")')
    for full in dict.fromkeys([*hidden, *cluster.software.hidden]):
        lines.append(f"hide_version({lua_string(full)})")
    return "\n".join(lines) + "\n"


def admin_list(cluster: Cluster, entries: Iterable[Entry]) -> str:
    """What Lmod says when a deprecated version is loaded (its admin.list)."""
    said = {entry.full: entry.deprecated for entry in entries if entry.deprecated}
    said |= cluster.software.deprecated
    lines = ["# Written by practicum: what people read when they load one of these."]
    for full, text in said.items():
        lines += ["", f"{full}: {full} is deprecated: {text}"]
    return "\n".join(lines) + "\n\n"


def lmodrc(cluster: Cluster) -> str:
    """Where Lmod's cache is, and what makes it old."""
    folder = f"{modulefiles(cluster)}/cache"
    return (
        "-- Written by practicum: the spider cache.\n"
        f'scDescriptT = {{ {{ ["dir"] = "{folder}/current", '
        f'["timestamp"] = "{folder}/timestamp" }} }}\n'
    )
