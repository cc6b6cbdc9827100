"""Slurm as a whole: the controller, accounting, and the state of each node."""

from __future__ import annotations

from collections.abc import Iterator

from cluster import node_words
from cluster.model import Cluster, Node, NodeRole
from cluster.sinfo import (
    NodeState,
    PartitionState,
    partitions_query,
    read_partitions,
    read_sinfo,
    sinfo_query,
)
from cluster.text import clean
from provisioning.health.model import Answer, Ask, Check, Finding, Level, Picture, Question

NODES, PARTITIONS, DATABASE = "slurm.nodes", "slurm.partitions", "slurm.database"


def ask(cluster: Cluster, node: Node) -> Ask:
    if node.name != cluster.first(NodeRole.CONTROLLER).name:
        return Ask()
    query, parts = sinfo_query(), partitions_query()
    # sacctmgr asks slurmdbd, and slurmdbd the database
    database = Question(("sacctmgr", "--noheader", "--parsable2", "show", "cluster"), query.env)
    return Ask(
        commands={
            NODES: Question(query.argv, query.env),
            PARTITIONS: Question(parts.argv, parts.env),
            DATABASE: database,
        }
    )


def node_views(picture: Picture) -> dict[str, node_words.NodeView] | str:
    """Slurm's nodes, or a sentence why they are not known."""
    controller = picture.cluster.first(NodeRole.CONTROLLER)
    look = picture.look(controller)
    answer = look.answers.get(NODES) if look else None
    if answer is None:
        return f"{controller.name} does not answer, so Slurm's state is not known"
    if answer.code != 0:
        return f"Slurm does not answer on {controller.name}: {_said(answer)}"
    try:
        # The separator is the answer's own: two fields of the first row have it between them.
        return node_words.views(read_sinfo(answer.out, _separator(answer.out)))
    except ValueError as error:
        return f"sinfo gave an answer that cannot be read: {error}"


def _separator(text: str) -> str:
    start = text.find("\x1f")
    end = text.find("\x1f", start + 1)
    return text[start : end + 1] if start >= 0 else "\x1f\x1f"


def _said(answer: Answer) -> str:
    lines = [line for line in (answer.error or answer.out).splitlines() if line.strip()]
    return clean(lines[-1], 200) if lines else f"exit status {answer.code}"


def nodes(picture: Picture) -> Iterator[Finding]:
    views = node_views(picture)
    controller = picture.cluster.first(NodeRole.CONTROLLER)
    if isinstance(views, str):
        look = picture.look(controller)
        # A stopped daemon is told already.
        if look is not None and look.runs("slurmctld") and look.runs("munge"):
            yield Finding(controller.name, "slurm", Level.BAD, views)
        return
    good = True
    for node in picture.cluster.with_role(NodeRole.COMPUTE):
        view, look = views.get(node.name), picture.look(node)
        stopped = look is not None and not (look.runs("slurmd") and look.runs("munge"))
        known = look is None or stopped  # told already
        drained = view and view.state in (NodeState.DRAINED, NodeState.DRAINING)
        if view is None:
            text = f"Slurm does not know {node.name}: practicum apply (without --limit) adds it"
        elif view.well or (known and not drained):
            good = good and not stopped  # Slurm may not have noticed yet
            continue
        else:
            text = f"{node.name} {node_words.state(view)}"
            if drained:
                text += f"; practicum node resume {node.name} gives it jobs again"
        good = False
        yield Finding(node.name, "slurm", Level.BAD, text)
    if good and not picture.errors:
        count = f"{len(views)} nodes take" if len(views) != 1 else "1 node takes"
        yield Finding("", "slurm", Level.OK, f"Slurm: {count} jobs")


def partitions(picture: Picture) -> Iterator[Finding]:
    """Closed by an admin, or by a command of ours that was killed. Whether Slurm answers at all is
    told of its nodes."""
    controller = picture.cluster.first(NodeRole.CONTROLLER)
    look = picture.look(controller)
    answer = look.answers.get(PARTITIONS) if look else None
    if answer is None or answer.code != 0:
        return
    try:
        rows = read_partitions(answer.out, _separator(answer.out))
    except ValueError as error:
        text = f"sinfo gave an answer about partitions that cannot be read: {error}"
        yield Finding(controller.name, "slurm", Level.BAD, text)
        return
    for row in rows:
        if row.state is not PartitionState.UP:
            new = "no new jobs" if row.state is PartitionState.DRAIN else "no jobs"
            yield Finding(
                controller.name,
                "slurm",
                Level.BAD,
                f"partition {row.partition} takes {new} (state {row.state}): scontrol update "
                f"PartitionName={row.partition} State=UP on {controller.name} opens it",
            )


def database(picture: Picture) -> Iterator[Finding]:
    look = picture.look(picture.cluster.first(NodeRole.CONTROLLER))
    answer = look.answers.get(DATABASE) if look else None
    holder = picture.cluster.first(NodeRole.DATABASE)
    other = picture.look(holder)
    if answer is None or look is None or other is None:
        return
    if answer.code != 0 and other.runs("slurmdbd") and look.runs("munge") and other.runs("munge"):
        text = f"Slurm's accounting on {holder.name} does not answer: {_said(answer)}"
        yield Finding(holder.name, "slurm", Level.BAD, text)


CHECKS = (
    Check("slurm", nodes, ask),
    Check("partitions", partitions),
    Check("accounting", database),
)
