"""A new munge key for a running cluster: no job is lost, none starts while nodes disagree.

munged alone holds the key; Slurm's daemons ask it for each message, so nothing but munge is
restarted. For the moment in which some nodes have the old key and some the new one, messages
between them are refused, and senders try again. A job that started then would fail, so the
partitions take no jobs for that moment; what runs goes on, and new jobs can be handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster.errors import PracticumError
from cluster.hostlist import fold
from cluster.model import Cluster, NodeRole
from cluster.secrets import MAKERS
from provisioning import engine
from provisioning.closing import no_new_starts, patiently
from provisioning.controller import Controller
from provisioning.planning import Plan, Result
from provisioning.remote import Remote
from provisioning.report import Reporter
from provisioning.role import Role
from provisioning.ssh import ssh_target

KEY = "munge_key"
OF_THE_KEY = ("file:/etc/munge/munge.key", "service:munge")
TRUST_SECONDS = 60
UNTIL = "until practicum munge rotate, or apply, has gone through: nodes may have different keys"


def refuse_unready(plan: Plan) -> None:
    """PracticumError unless every node answers and is as cluster.toml says: the key must be the
    one thing that changes, and must reach all."""
    if plan.errors:
        names = sorted(plan.errors)
        first = plan.errors[names[0]]
        raise PracticumError(
            f"{fold(names)} would keep the old key and trust nobody: mend that first ({first})"
        )
    waiting = [
        f"{node}: {one.summary}"
        for node, one in plan.changes()
        if one.action != "list" and one.key not in OF_THE_KEY  # left by a run that was cut off
    ]
    if waiting:
        more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
        raise PracticumError(
            f"changes wait to be applied ({'; '.join(waiting[:3])}{more}): run practicum apply "
            "first, so that the key is all that changes"
        )


def rotate(
    cluster: Cluster,
    roles: Sequence[Role],
    secrets: Mapping[str, str],
    save: Callable[[Mapping[str, str]], None],
    *,
    base: Path,
    reporter: Reporter,
) -> Result:
    """Make a new key, keep it by ``save``, bring it to all nodes, and see that they agree.

    PracticumError when the cluster is not ready for it (nothing was changed then), or when the
    nodes do not trust each other afterwards. A node that fails is in the result: `practicum
    apply` brings it the key. Cut off, it leaves the partitions closed: nodes may disagree then.
    """
    fresh = {**secrets, KEY: MAKERS[KEY]()}
    refuse_unready(engine.plan(cluster, roles, secrets, base=base, reporter=reporter))
    with no_new_starts(Controller(cluster, base), base, reporter) as closing:
        save(fresh)  # first: what is on a node must never be unknown here
        with closing.left_closed(UNTIL):
            result = engine.apply(
                cluster, roles, fresh, base=base, confirm=lambda _plan: True, reporter=reporter
            )
    if result.ok:
        patiently(lambda: _agree(cluster, base), "see practicum status", TRUST_SECONDS)
    return result


def _agree(cluster: Cluster, base: Path) -> None:
    """The controller reads what every other node seals."""
    controller = cluster.first(NodeRole.CONTROLLER)
    with Remote(ssh_target(cluster, controller, base)) as judge:
        for node in cluster.machines:
            if node.name == controller.name:
                continue
            with Remote(ssh_target(cluster, node, base)) as remote:
                sealed = remote.run(["munge", "-n"], check=True).out
            if judge.run(["unmunge"], stdin=sealed).code != 0:
                raise PracticumError(
                    f"{controller.name} does not trust {node.name}: run practicum apply"
                )
