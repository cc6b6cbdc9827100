"""Whether the cache of modulefiles is as new as they are, and which of them Lmod cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cluster.model import Cluster, Node, NodeRole
from lmod.catalogue import modulefiles
from lmod.role import PYTHON, TOOL
from provisioning.health.model import Answer, Ask, Check, Finding, Level, Picture, Question

STATE = "modules.state"
SHOWN = 3  # broken modulefiles that are named


def ask(cluster: Cluster, node: Node) -> Ask:
    if node.name != cluster.first(NodeRole.LOGIN).name:
        return Ask()
    return Ask(commands={STATE: Question((PYTHON, "-I", TOOL, "state"))})


def judge(picture: Picture) -> Iterator[Finding]:
    node = picture.cluster.first(NodeRole.LOGIN)
    look = picture.look(node)
    if look is None:
        return
    answer = look.answers.get(STATE, Answer(-1))
    root = modulefiles(picture.cluster)
    try:
        told = json.loads(answer.out) if answer.code == 0 else None
    except ValueError:
        told = None
    if told is None:
        said = (answer.error or answer.out).strip().splitlines()
        yield Finding(
            node.name, "modules", Level.WARN,
            f"{node.name} cannot tell how the modulefiles in {root} are"
            f" ({said[-1][:200] if said else 'no answer'}): run practicum apply",
        )  # fmt: skip
        return
    if not told["current"]:
        yield Finding(
            node.name, "modules", Level.WARN,
            f"the cache of modulefiles is older than {root}: within five minutes it is made anew, "
            "at once with practicum module refresh",
        )  # fmt: skip
    for path, said in sorted(told["broken"].items())[:SHOWN]:
        yield Finding(
            node.name, "modules", Level.WARN, f"Lmod cannot read {path}: {said}: mend or remove it"
        )
    if told["current"] and not told["broken"]:
        yield Finding("", "modules", Level.OK, "the cache of modulefiles is as new as they are")


CHECKS = (Check("modules", judge, ask),)
