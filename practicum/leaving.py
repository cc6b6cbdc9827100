"""The steps of `practicum node remove`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.model import Cluster

REASON = "practicum: leaves the cluster"
CANCELLED_SECONDS = 120.0  # for cancelled jobs to end, with their epilogs


def check_removal(cluster: Cluster, file: Path, names: Sequence[str]) -> None:
    """UsageError for machines that the cluster cannot be without, or a file that could not be."""
    from cluster.errors import UsageError
    from cluster.hostlist import fold
    from cluster.model import NodeRole
    from provisioning.power import is_compute_only

    for name in names:
        node = cluster.node(name)
        if not is_compute_only(node):
            roles = ", ".join(sorted(node.roles - {NodeRole.COMPUTE}))
            raise UsageError(
                f"{name} is also {roles}: give that to another machine first (docs/admin.md, "
                '"Moving the controller")'
            )
    if set(names) >= {node.name for node in cluster.with_role(NodeRole.COMPUTE)}:
        raise UsageError(f"without {fold(names)} no node is left that takes jobs: add others first")
    new_text(file, names)


def new_text(file: Path, names: Sequence[str]) -> str:
    """cluster.toml without them. ConfigError when the rest could not be: it says what to do."""
    from cluster.edit import without_nodes
    from cluster.errors import ConfigError
    from cluster.rewrite import tried

    try:
        text = without_nodes(file.read_text(encoding="utf-8"), names)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    try:
        tried(file, text)
    except ConfigError as error:
        raise ConfigError(f"without them, cluster.toml would be wrong:\n{error}") from None
    return text


def leave(
    cluster: Cluster,
    file: Path,
    names: Sequence[str],
    *,
    wait_seconds: float,
    now: bool,
    dead: bool,
) -> list[str]:
    """Do it; sentences (``NAME: ...``) of nodes that stay in the cluster."""
    from cluster.rewrite import rewrite
    from cluster.secrets import load_secrets, secrets_path
    from practicum.report import reporter
    from provisioning import engine, guards

    base = file.resolve().parent
    gone = list(names)
    failed: list[str] = []
    with reporter() as report:
        busy = _free(
            cluster, base, gone, CANCELLED_SECONDS if now else wait_seconds, report.line,
            now=now, dead=dead,
        )  # fmt: skip
        failed += [f"{name}: jobs still run there; it is drained and stays" for name in busy]
        gone = [name for name in gone if name not in busy]
        if gone and not dead:
            result = engine.apply(
                cluster,
                (),
                load_secrets(secrets_path(file), cluster),
                base=base,
                limit=gone,
                confirm=lambda _plan: True,
                reporter=report,
            )
            for name, error in result.errors.items():
                failed.append(f"{name}: {error} (if it will not come back: --dead)")
            gone = [name for name in gone if name not in result.errors]
    if gone:
        rewrite(file, new_text(file, gone))
        guards.forget(base, gone)
    return failed


def _free(
    cluster: Cluster,
    base: Path,
    names: list[str],
    wait_seconds: float,
    tell: Callable[[str], None],
    *,
    now: bool,
    dead: bool,
) -> list[str]:
    """Drain and wait; the nodes that are not free in time. With ``now`` jobs are ended: without
    slurmd they would run on with nobody to look after them, and start a second time elsewhere."""
    from provisioning.controller import Controller

    controller = Controller(cluster, base)
    known = [name for name in names if name in controller.views()]
    if not known:
        return []
    controller.drain(known, REASON)
    if dead:
        controller.gone(known, REASON)
    elif now:
        controller.cancel(known)
    return controller.wait_free(known, wait_seconds, tell, lambda _name: None)
