"""[[kernels]], [software] and [[modules]]."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from cluster.checks.problem import Problem, repeated, unknown
from cluster.model import Cluster, Kernel
from cluster.software import Module

R_PACKAGE = re.compile(r"r-(cran|bioc|other)-[a-z0-9.+-]+")
RESERVED_ENVIRONMENTS = frozenset({"server", "jupyter", "coursework"})  # folders beside the kernels
# The distribution's own, which open the branches of the hierarchy
COMPILER, MPI = "gcc", "openmpi"


def kernels(cluster: Cluster) -> Iterator[Problem]:
    yield from repeated(
        (kernel.name for kernel in cluster.kernels), ("kernels",), "name", "the name"
    )
    for index, kernel in enumerate(cluster.kernels):
        if kernel.name == "python":  # jupyter_client's manager renames it, and starts another
            yield Problem(
                ("kernels", index, "name"),
                "Jupyter reads python as python3: write python3, which notebooks ask for",
            )
        if kernel.name in RESERVED_ENVIRONMENTS:
            yield Problem(
                ("kernels", index, "name"), f"{kernel.name} is practicum's own: choose another"
            )
        yield from _kernel(cluster, index, kernel)


def _kernel(cluster: Cluster, index: int, kernel: Kernel) -> Iterator[Problem]:
    """What belongs to one language, and who may see it."""
    groups = [group.name for group in cluster.groups]
    groups += [name for course in cluster.courses for name, _ in course.groups]
    if kernel.group is not None and kernel.group not in groups:
        yield Problem(("kernels", index, "group"), unknown(kernel.group, groups, "group"))
    if kernel.channels and kernel.language != "conda":
        yield Problem(("kernels", index, "channels"), 'they are conda\'s: set language = "conda"')
    if kernel.python and kernel.language != "python":
        yield Problem(
            ("kernels", index, "python"),
            "only for language python; conda names python among its packages",
        )
    if kernel.lock and kernel.language == "r":
        yield Problem(("kernels", index, "lock"), "R's packages are Debian's: there is no lock")
    for place, package in enumerate(kernel.packages):
        if kernel.language == "r" and not R_PACKAGE.fullmatch(package):
            yield Problem(
                ("kernels", index, "packages", place),
                f"{package} is no package of Debian's for R: they are called r-cran-NAME",
            )


def modules(cluster: Cluster) -> Iterator[Problem]:
    """Places in the hierarchy, and what is loaded along."""
    places = (f"{module.full} under {', '.join(module.under) or 'nothing'}"
              for module in cluster.modules)  # fmt: skip
    yield from repeated(places, ("modules",), "version", "the module")
    yield from _defaults(cluster)
    for index, module in enumerate(cluster.modules):
        yield from _place(cluster, index, module)
        yield from _company(cluster, index, module)
    yield from _cycles(cluster)


def trees(cluster: Cluster) -> Iterator[Problem]:
    own = f"{cluster.storage.apps}/modulefiles"
    for index, tree in enumerate(cluster.software.module_trees):
        if ".." in tree.split("/"):
            yield Problem(("software", "module_trees", index), f"{tree} must not have .. in it")
        if tree == own or tree.startswith(f"{own}/"):
            yield Problem(
                ("software", "module_trees", index),
                f"{tree} is practicum's own: what you write by hand is in {own}/Site, which is "
                "looked at anyway",
            )
    for key in ("defaults", "hidden"):
        for index, name in enumerate(getattr(cluster.software, key)):
            if "/" not in name:
                yield Problem(("software", key, index), f"{name} needs a version: NAME/VERSION")
    for name in cluster.software.deprecated:
        if "/" not in name:
            yield Problem(("software", "deprecated", name), f"{name} needs a version: NAME/VERSION")


def _defaults(cluster: Cluster) -> Iterator[Problem]:
    seen: dict[tuple[str, tuple[str, ...]], str] = {}
    for index, module in enumerate(cluster.modules):
        if not module.default:
            continue
        first = seen.setdefault((module.name, module.under), module.version)
        if first != module.version:
            yield Problem(
                ("modules", index, "default"),
                f"{module.name}/{first} is the default already: one version can be",
            )


def _place(cluster: Cluster, index: int, module: Module) -> Iterator[Problem]:
    """``under`` names a compiler, then an MPI that is under that compiler."""
    if ".." in module.prefix.split("/"):
        yield Problem(("modules", index, "prefix"), f"{module.prefix} must not have .. in it")
    allowed = {"compiler": 0, "mpi": 1}.get(module.kind)
    if allowed is not None and len(module.under) != allowed:
        wanted = 'under = ["gcc"]' if allowed else "no under"
        yield Problem(("modules", index, "kind"), f"a module of kind {module.kind} has {wanted}")
    for name, kind, own in zip(module.under, ("compiler", "mpi"), (COMPILER, MPI), strict=False):
        found = [one for one in cluster.modules if one.kind == kind]
        known = {own, *(one.name for one in found), *(one.full for one in found)}
        if name not in known and not name.startswith(f"{own}/"):
            yield Problem(("modules", index, "under"), unknown(name, sorted(known), kind))


def _company(cluster: Cluster, index: int, module: Module) -> Iterator[Problem]:
    """What it asks for must go together."""
    families = _families(cluster)
    asked: dict[str, str] = {}
    for key in ("load", "prereq"):
        for name in getattr(module, key):
            if name in (module.full, module.name):
                yield Problem(("modules", index, key), f"{module.full} asks for itself")
            if name in module.conflict:
                yield Problem(
                    ("modules", index, key), f"{name} is in conflict as well: one of the two"
                )
    for name in (*module.under, *module.load, *module.prereq):
        family = families.get(name)
        if family is None:
            continue
        first = asked.setdefault(family, name)
        if first.partition("/")[0] != name.partition("/")[0]:
            yield Problem(
                ("modules", index, "load"),
                f"{first} and {name} are both of the family {family}: only one can be loaded",
            )
    own = module.family or (module.kind if module.kind != "software" else None)
    if own and own in asked:
        yield Problem(
            ("modules", index, "load"),
            f"{module.full} and {asked[own]} are both of the family {own}: only one can be loaded",
        )


def _families(cluster: Cluster) -> Mapping[str, str]:
    """{module, with and without its version: its family}"""
    known = {COMPILER: "compiler", MPI: "mpi"}
    for module in cluster.modules:
        family = module.family or (module.kind if module.kind != "software" else "")
        if family:
            known[module.name] = known[module.full] = family
    return known


def _cycles(cluster: Cluster) -> Iterator[Problem]:
    """Modules that need each other could never be loaded."""
    needs = {module.full: {*module.load, *module.prereq} for module in cluster.modules}
    names = {module.name: module.full for module in cluster.modules}
    for index, module in enumerate(cluster.modules):
        path = _way_back(module.full, needs, names)
        if path and len(path) > 2 and module.full == min(path):
            key = "load" if module.load else "prereq"
            yield Problem(("modules", index, key), f"these need each other: {' -> '.join(path)}")


def _way_back(
    start: str, needs: Mapping[str, set[str]], names: Mapping[str, str]
) -> list[str] | None:
    """start -> ... -> start, if there is such a way."""
    waiting = [[start]]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop(0)
        for name in sorted(needs.get(path[-1], ())):
            full = names.get(name, name)
            if full == start:
                return [*path, full]
            if full not in seen:
                seen.add(full)
                waiting.append([*path, full])
    return None
