"""Log-in by PAM, for students and instructors of this cluster and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pamela
from jupyterhub.auth import PAMAuthenticator
from tornado import web
from traitlets import Dict, List, Unicode

from spawners.options import groups_of


@dataclass(frozen=True)
class Admission:
    """Whether someone may have sessions. ``groups``: those of cluster.toml that they are in."""

    groups: tuple[str, ...]
    refusal: str = ""  # a sentence for the person, "" = welcome


def admission(
    name: str, groups: Iterable[str], *, welcome: Iterable[str], kept_out: Iterable[str]
) -> Admission:
    """Decides by group names. Who is in a kept-out group stays out, whatever else they are in:
    the hub can act as anyone it lets in, so it must not be able to act as an admin."""
    mine = set(groups)
    welcome = tuple(welcome)
    if mine.intersection(kept_out):
        who = " or ".join(kept_out)
        text = f"{name} is in the group {who}: admins work on the cluster by SSH, not in notebooks."
        return Admission(groups=tuple(sorted(mine)), refusal=text)
    if not mine.intersection(welcome):
        asked = " or ".join(welcome) or "(none is declared)"
        text = (
            f"{name} has no place on this cluster yet: ask your instructor to add you to {asked}."
        )
        return Admission(groups=tuple(sorted(mine)), refusal=text)
    return Admission(groups=tuple(sorted(mine)))


NO_COURSE = "students::none"  # no unix group, and no course, is called like this


def students_of(course: str) -> str:
    """The hub's own group of a course's students, without its instructors."""
    return f"students:{course}"


def as_student(
    groups: Iterable[str], students: Iterable[str], courses: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """The hub's own groups of somebody in these of the system's: by them instructors are given
    students. ``courses``: {course: (its group, its teachers' group)} of those that are open."""
    mine = set(groups)
    learns = [
        students_of(name)
        for name, (everyone, teachers) in courses.items()
        if everyone in mine and teachers not in mine
    ]
    return tuple(learns) or ((NO_COURSE,) if mine.intersection(students) else ())


class ClusterAuthenticator(PAMAuthenticator):  # type: ignore[misc]
    """PAM says whether the password is right, the groups say whether there is a place.

    The groups come from the system each time, so a change by ``practicum apply`` counts at the
    next log-in or start without a restart of the hub. Only groups of cluster.toml are handed on
    (profiles are offered by them).
    """

    known_groups = List(Unicode(), help="Groups of cluster.toml").tag(config=True)
    welcome_groups = List(Unicode(), help="Their members may have sessions").tag(config=True)
    kept_out_groups = List(Unicode(), help="Their members may not").tag(config=True)
    student_groups = List(Unicode(), help="Groups of students").tag(config=True)
    courses = Dict(help="Open courses: {name: [its group, its teachers']}").tag(config=True)

    def admission(self, name: str) -> Admission:
        """KeyError when there is no such account."""
        groups = [group for group in groups_of(name) if group in self.known_groups]
        return admission(name, groups, welcome=self.welcome_groups, kept_out=self.kept_out_groups)

    def groups_on_hub(self, decided: Admission) -> list[str]:
        """The system's, and what the hub makes of them."""
        return [*decided.groups, *as_student(decided.groups, self.student_groups, self.courses)]

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """None for a wrong name or password: the form says so. Raises HTTPError 403, with the
        reason, for a right password of someone who has no place here: nobody else learns it."""
        name = await super().authenticate(handler, data)
        if name is None:
            return None
        try:
            decided = self.admission(name)
        except KeyError as error:
            raise web.HTTPError(403, f"{name} has no account on the login node") from error
        if decided.refusal:
            self.log.warning("Refused: %s", decided.refusal)
            raise web.HTTPError(403, decided.refusal)
        return {"name": name, "groups": self.groups_on_hub(decided)}

    async def _is_open(self, name: str) -> bool:
        """Whether PAM still lets the account in: one that is closed keeps its groups, and the hub's
        cookie and tokens."""
        ask = partial(pamela.check_account, name, service=self.service, encoding=self.encoding)
        try:
            await asyncio.get_running_loop().run_in_executor(self.executor, ask)
        except pamela.PAMError as error:
            self.log.warning("%s is not let in any more: %s", name, error)
            return False
        return True

    async def refresh_user(
        self,
        user: Any,
        handler: Any = None,
    ) -> bool | dict[str, Any]:
        """Asked again before each start: whose account was closed, or who was taken out of a group,
        does not start anything."""
        try:
            decided = self.admission(user.name)
        except KeyError:
            decided = None
        if decided is None or decided.refusal or not await self._is_open(user.name):
            if handler is not None and not hasattr(handler, "_token_authenticated"):
                # JupyterHub 6.1.1 asks for it next, and sets it for tokens alone
                handler._token_authenticated = False
            return False
        return {"name": user.name, "groups": self.groups_on_hub(decided)}
