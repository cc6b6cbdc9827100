"""[[courses]]."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.accounting import ROOT
from cluster.checks.problem import Problem, repeated, unknown
from cluster.courses import STEP, Course
from cluster.model import Cluster
from cluster.toml_lines import Place


def courses(cluster: Cluster) -> Iterator[Problem]:
    table = cluster.courses
    yield from repeated((course.name for course in table), ("courses",), "name", "the name")
    yield from repeated((course.uid for course in table), ("courses",), "uid", "uid")
    for index, course in enumerate(table):
        here: Place = ("courses", index)
        yield from _people(cluster, here, course)
        yield from _numbers(cluster, here, course)
        yield from _names(cluster, here, course)
        yield from _graded(cluster, here, course)
        yield from _offered(cluster, here, course)


def _people(cluster: Cluster, here: Place, course: Course) -> Iterator[Problem]:
    users = {user.name: user for user in cluster.users}
    admins = set(cluster.groups_with("admin"))
    students = set(cluster.groups_with("student"))
    for key, names in (("instructors", course.instructors), ("students", course.students)):
        if len(set(names)) < len(names):
            yield Problem((*here, key), "somebody is listed twice")
        for place, name in enumerate(names):
            if name not in users:
                yield Problem((*here, key, place), unknown(name, users, "user"))
            elif admins.intersection(users[name].groups):
                yield Problem(
                    (*here, key, place), f"{name} is an admin, and admins have no sessions"
                )
            elif key == "instructors" and students.intersection(users[name].groups):
                yield Problem(
                    (*here, key, place),
                    f"{name} is in a group of students: instructors see everybody's work",
                )
    for name in set(course.instructors) & set(course.students):
        yield Problem((*here, "students"), f"{name} teaches this course and cannot be a student")


def _numbers(cluster: Cluster, here: Place, course: Course) -> Iterator[Problem]:
    own = range(course.uid, course.uid + STEP)
    for user in cluster.users:
        if user.uid in own:
            yield Problem((*here, "uid"), f"{user.name} has uid {user.uid}, one of its hundred")
    for group in cluster.groups:
        if group.gid in own:
            yield Problem((*here, "uid"), f"{group.name} has gid {group.gid}, one of its hundred")


def _names(cluster: Cluster, here: Place, course: Course) -> Iterator[Problem]:
    taken = {user.name for user in cluster.users} | {group.name for group in cluster.groups}
    for name in (course.grader, course.group, course.teachers, *course.boxes):
        if name in taken:
            yield Problem((*here, "name"), f"{name} is a user or group already: choose another")
    accounts = {account.name for account in cluster.accounts} | {cluster.slurm.account, ROOT}
    if course.name in accounts:
        yield Problem(
            (*here, "name"), f"there is a Slurm account {course.name} already: choose another"
        )
    kernels = [kernel.name for kernel in cluster.kernels]
    if course.kernel and course.kernel not in kernels:
        yield Problem((*here, "kernel"), unknown(course.kernel, kernels, "kernel"))
    profiles = [profile.name for profile in cluster.profiles]
    if course.profile and course.profile not in profiles:
        yield Problem((*here, "profile"), unknown(course.profile, profiles, "profile"))
    partitions = [part.name for part in cluster.partitions]
    if course.partition and course.partition not in partitions:
        yield Problem((*here, "partition"), unknown(course.partition, partitions, "partition"))


def _graded(cluster: Cluster, here: Place, course: Course) -> Iterator[Problem]:
    """Submissions run under accounts of the course, which are in no group of people's: where and
    with what, they must be allowed."""
    for kernel in cluster.kernels:
        if kernel.name == course.kernel and kernel.group not in (None, course.group):
            yield Problem(
                (*here, "kernel"),
                f"submissions cannot be graded with {kernel.name}, which is for {kernel.group} "
                f'alone: let it be for everyone, or for group = "{course.group}"',
            )
    for part in cluster.partitions:
        if part.name == course.partition and part.groups:
            yield Problem(
                (*here, "partition"),
                f"submissions cannot be graded in {part.name}, which takes only "
                f"{', '.join(part.groups)}: name one that is for everyone",
            )


def _offered(cluster: Cluster, here: Place, course: Course) -> Iterator[Problem]:
    """Nobody is offered what their partition refuses."""
    closed = {part.name: part.groups for part in cluster.partitions if part.groups}
    for profile in cluster.profiles:
        if profile.name == course.profile and profile.partition in closed:
            yield Problem(
                (*here, "profile"),
                f"{profile.name} is in partition {profile.partition}, which takes only "
                f"{', '.join(closed[profile.partition])}: name one that is for everyone",
            )
