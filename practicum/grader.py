"""Verbs that run as a course's grader on the login node, by sudo (coursework.units.sudoers)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.model import Cluster

AS_GRADER = Path("/usr/local/lib/practicum/as-grader")
PUBLIC = Path("/etc/practicum/cluster.json")
LIMIT = 1800  # seconds


def argv(course: str, verb: str, *words: str) -> list[str]:
    """The command. UsageError where it cannot be run, or for no course's name."""
    from cluster.checks.problem import unknown
    from cluster.errors import UsageError
    from cluster.load import load_public

    if not PUBLIC.exists() or not AS_GRADER.exists():
        raise UsageError("this works on the first login node: log in there")
    known = {one.name: one.grader for one in load_public(PUBLIC).courses}
    if course not in known:
        raise UsageError(unknown(course, list(known), "course"))
    account = known[course]
    return ["sudo", "-n", "-u", account, "--", str(AS_GRADER), verb, course, *words]


def refused(course: str, said: str) -> str:
    """What sudo and the grader said, as a sentence for a person; "" when they said nothing."""
    said = said.strip()
    if "password is required" in said or "not allowed" in said:
        return f"you do not teach {course}"
    return said


def by_admin(cluster: Cluster, file: Path, name: str, verb: str) -> str:
    """What the verb says, asked over SSH by whoever may apply, from wherever that is.
    PracticumError with its reason."""
    from cluster.errors import PracticumError
    from cluster.model import NodeRole
    from provisioning.remote import Remote
    from provisioning.ssh import ssh_target

    course = next(one for one in cluster.courses if one.name == name)
    target = ssh_target(cluster, cluster.first(NodeRole.LOGIN), file.resolve().parent)
    with Remote(target) as remote:
        words = ["runuser", "-u", course.grader, "--", str(AS_GRADER), verb, name]
        done = remote.run(words, timeout=LIMIT)
    if done.code:
        raise PracticumError(done.said or f"{verb} failed")
    return done.out.rstrip("\n")


def ask(verb: str, course: str, *words: str, stdin: bytes = b"") -> str:
    """What the verb says. PracticumError or UsageError with its reason."""
    from cluster.errors import PracticumError, UsageError

    command = argv(course, verb, *filter(None, words))
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        raise PracticumError(f"{verb} did not end within half an hour: look at the node") from None
    if done.returncode:
        said = refused(course, done.stderr.decode(errors="replace"))
        failure = UsageError if done.returncode == UsageError.exit_code else PracticumError
        raise failure(said or f"{verb} failed")
    sys.stderr.write(done.stderr.decode(errors="replace"))  # what is to be known beside it
    return done.stdout.decode(errors="replace").rstrip("\n")
