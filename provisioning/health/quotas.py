"""Whether the file server counts and limits what people keep there."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.model import Cluster, Node, NodeRole
from provisioning.health.model import Ask, Check, Finding, Level, Picture, Question

ON = "quota.on"


def _server(cluster: Cluster) -> Node | None:
    if cluster.storage.provider != "nfs" or not cluster.storage.quotas:
        return None
    return next(iter(cluster.with_role(NodeRole.STORAGE)), None)


def ask(cluster: Cluster, node: Node) -> Ask:
    server = _server(cluster)
    if server is None or server.name != node.name:
        return Ask()
    return Ask(commands={ON: Question(("quotaon", "-pug", cluster.storage.folder))})


def quotas(picture: Picture) -> Iterator[Finding]:
    """quotaon(8) -p: "user quota on /srv (/dev/vdb) is on (enforced)". Its exit status says
    little, so its words count."""
    server = _server(picture.cluster)
    look = picture.look(server) if server else None
    answer = look.answers.get(ON) if look else None
    if server is None or answer is None:
        return
    folder = picture.cluster.storage.folder
    for kind in ("user", "group"):
        said = [line for line in answer.out.splitlines() if line.startswith(f"{kind} quota on ")]
        # Newer kernels tell counting (accounting) and limiting (enforced) apart.
        if not said or " is on" not in said[0] or "(accounting)" in said[0]:
            text = f"{kind} quotas are off on {server.name} ({folder}): nobody is stopped"
            yield Finding(server.name, "quota", Level.BAD, f"{text}; practicum apply")
            return
    yield Finding("", "quota", Level.OK, f"quotas are on, on {server.name}")


CHECKS = (Check("quota", quotas, ask),)
