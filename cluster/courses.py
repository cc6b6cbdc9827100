"""[[courses]]: who teaches whom, and the hundred numbers that belong to a course.

Of the hundred, the first is grader-NAME's uid and gid, the next are gradebox-NAME-01 and so on,
and ``uid`` + 90 and 91 are the gids of the groups course-NAME and teach-NAME. So a course never
needs another's numbers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cluster.values import Model, Name, Text

FIRST_UID = 50_000
LAST_UID = 59_900
STEP = 100
GROUP_OFFSET = 90  # course-NAME
TEACHERS_OFFSET = 91  # teach-NAME
SPOOL_PORT = 600  # + index: below 1024, so that nobody but root can listen there
FORMGRADER_PORT = 800  # + index, on the loopback
MAX_SLOTS = 64
# 19, so that gradebox-NAME-NN is an account's name of at most 31
COURSE_NAME = r"^[a-z][a-z0-9_-]{0,18}$"

CourseName = Annotated[str, StringConstraints(pattern=COURSE_NAME)]


class Course(Model):
    """One of [[courses]]. ``slots``: how many submissions are graded at once, each under an
    account of its own. Sizes are limits of one submission."""

    name: CourseName
    uid: Annotated[int, Field(ge=FIRST_UID, le=LAST_UID, multiple_of=STEP)]
    title: Text = ""
    instructors: Annotated[tuple[Name, ...], Field(min_length=1)]
    students: tuple[Name, ...] = ()
    state: Literal["open", "archived"] = "open"
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)] = 2
    partition: Name | Literal[""] = ""  # where submissions are graded; empty: the default one
    kernel: Name | Literal[""] = ""  # of its people's new notebooks; empty: the usual one
    profile: Name | Literal[""] = ""  # offered to its people, before others
    max_submission_mb: Annotated[int, Field(ge=1, le=1000)] = 20
    max_files: Annotated[int, Field(ge=1, le=2000)] = 200

    @property
    def people(self) -> tuple[str, ...]:
        return (*self.students, *self.instructors)

    @property
    def group(self) -> str:
        """The unix group of its students and instructors."""
        return f"course-{self.name}"

    @property
    def gid(self) -> int:
        return self.uid + GROUP_OFFSET

    @property
    def teachers(self) -> str:
        """The unix group of its instructors."""
        return f"teach-{self.name}"

    @property
    def teachers_gid(self) -> int:
        return self.uid + TEACHERS_OFFSET

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Its two groups, with their gids."""
        return ((self.group, self.gid), (self.teachers, self.teachers_gid))

    def groups_of(self, user: str) -> tuple[str, ...]:
        """Those of its groups that this person is in."""
        if user in self.instructors:
            return (self.group, self.teachers)
        return (self.group,) if user in self.students else ()

    @property
    def grader(self) -> str:
        return f"grader-{self.name}"

    @property
    def boxes(self) -> tuple[str, ...]:
        """The accounts under which submissions are executed; they own nothing."""
        return tuple(f"gradebox-{self.name}-{number:02d}" for number in range(1, self.slots + 1))

    @property
    def box_uids(self) -> tuple[int, ...]:
        return tuple(self.uid + number for number in range(1, self.slots + 1))

    @property
    def spool_port(self) -> int:
        return SPOOL_PORT + self.index

    @property
    def formgrader_port(self) -> int:
        return FORMGRADER_PORT + self.index

    @property
    def formgrader(self) -> str:
        """The service's name on the hub, and that of its credential."""
        return f"formgrader-{self.name}"

    @property
    def index(self) -> int:
        """0 to 99: what its ports are counted by."""
        return (self.uid - FIRST_UID) // STEP
