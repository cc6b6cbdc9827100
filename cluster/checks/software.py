"""[[kernels]]."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.problem import Problem, repeated
from cluster.model import Cluster

RESERVED_ENVIRONMENTS = frozenset({"server", "jupyter", "coursework"})  # folders beside the kernels


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
