"""[[courses]]: who teaches whom, and the hundred numbers that belong to a course.

Of the hundred, the first is grader-NAME's uid and gid, the next are gradebox-NAME-01 and so on,
and ``uid`` + 90 is the gid of the group course-NAME. So a course never needs another's numbers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cluster.values import Model, Name, Text

FIRST_UID = 50_000
LAST_UID = 59_900
STEP = 100
STUDENTS_OFFSET = 90
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
    kernel: Name | Literal[""] = ""  # of new notebooks; empty: the first of [[kernels]]
    max_submission_mb: Annotated[int, Field(ge=1, le=1000)] = 20
    max_files: Annotated[int, Field(ge=1, le=10_000)] = 200

    @property
    def people(self) -> tuple[str, ...]:
        return (*self.students, *self.instructors)

    @property
    def group(self) -> str:
        """The unix group of its students and instructors."""
        return f"course-{self.name}"

    @property
    def gid(self) -> int:
        return self.uid + STUDENTS_OFFSET

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
    def index(self) -> int:
        """0 to 99: what its ports are counted by."""
        return (self.uid - FIRST_UID) // STEP
