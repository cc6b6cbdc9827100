"""Where everything of a course lies and what it is called: pure, said once for every module.

A course NAME has (numbers: :mod:`cluster.courses`)

- ``grader-NAME``: owns the course folder, runs formgrader and the spooler, is coordinator of the
  Slurm account NAME. Instructors act as it, by sudo or by formgrader; students never.
- ``gradebox-NAME-01`` ...: own nothing, may submit jobs nowhere; students' notebooks run as them.
- the groups ``course-NAME``, its students and instructors, and ``teach-NAME``, its instructors.

The folder, /nfs/courses/NAME, is grader-NAME's, mode 0700. Inside, nbgrader's own folders
(source, release, submitted, autograded, feedback, gradebook.db) and these::

    exchange/outbound/ASSIGNMENT/...               as released: what students fetch
    exchange/inbound/STUDENT/ASSIGNMENT/STAMP/     one submission, never changed
        receipt.json                               records.Receipt: server's time, digests, seal
        files/...                                  as handed in: regular files only, 0600
    exchange/feedback/STUDENT/ASSIGNMENT/STAMP/NOTEBOOK.html    that student's alone
    exchange/incoming/                             being received; cleared at start
    exchange/dates.json                            records.Dates: due dates and extensions
    exchange/fetched.json                          {assignment: {student: stamp}}
    exchange/released.json                         {assignment: stamp}, when first handed out
    ledger/nonces                                  of credentials that were used
    ledger/key                                     seals receipts; 32 bytes, 0600
    grading/                                       helper modules of grading keep their state here

``collect`` copies a submission into ``submitted/STUDENT/ASSIGNMENT`` with its ``timestamp.txt``,
as nbgrader wants it, and receipt.json beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster.courses import Course
from cluster.model import Cluster, NodeRole

ENVIRONMENT = "coursework"  # nbgrader, pinned, below storage.envs
LIBRARY = "/usr/local/lib/practicum"
SESSION = f"{LIBRARY}/session"  # holds practicum_session on nodes with sessions
ETC = "/etc/practicum/courses"
SECRETS = "/etc/practicum/secrets"

RECEIPT = "receipt.json"
FILES = "files"


@dataclass(frozen=True)
class Layout:
    """A course's places."""

    course: Course
    root: Path  # the course folder
    environment: Path  # nbgrader's environment, the link ``current``
    login: str  # the login node's address: spooler and hub

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def release(self) -> Path:
        return self.root / "release"

    @property
    def submitted(self) -> Path:
        return self.root / "submitted"

    @property
    def autograded(self) -> Path:
        return self.root / "autograded"

    @property
    def feedback(self) -> Path:
        return self.root / "feedback"

    @property
    def gradebook(self) -> Path:
        return self.root / "gradebook.db"

    @property
    def exchange(self) -> Path:
        return self.root / "exchange"

    @property
    def outbound(self) -> Path:
        return self.exchange / "outbound"

    @property
    def inbound(self) -> Path:
        return self.exchange / "inbound"

    @property
    def given_back(self) -> Path:
        """Feedback as released."""
        return self.exchange / "feedback"

    @property
    def incoming(self) -> Path:
        return self.exchange / "incoming"

    @property
    def dates(self) -> Path:
        return self.exchange / "dates.json"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def grading(self) -> Path:
        return self.root / "grading"

    @property
    def config(self) -> str:
        """Folder of nbgrader_config.py: root's, JUPYTER_CONFIG_DIR of whatever runs nbgrader."""
        return f"{ETC}/{self.course.name}"

    @property
    def roster(self) -> str:
        """Students' names and addresses, for the grader alone."""
        return f"{self.config}/roster.json"

    @property
    def spool_port(self) -> int:
        return self.course.spool_port

    @property
    def formgrader_port(self) -> int:
        return self.course.formgrader_port

    @property
    def formgrader(self) -> str:
        return self.course.formgrader

    @property
    def formgrader_prefix(self) -> str:
        return f"/services/{self.formgrader}/"

    @property
    def formgrader_unit(self) -> str:
        return f"practicum-{self.formgrader}"

    @property
    def spool_unit(self) -> str:
        return f"practicum-spool-{self.course.name}"

    @property
    def account(self) -> str:
        """Slurm's."""
        return self.course.name

    @property
    def nbgrader(self) -> Path:
        return self.environment / "bin" / "nbgrader"

    def submission(self, student: str, assignment: str, submitted: str) -> Path:
        """Names must have been checked (records.STUDENT, ASSIGNMENT, STAMP_PATTERN)."""
        return self.inbound / student / assignment / submitted


def layout(cluster: Cluster, course: Course) -> Layout:
    storage = cluster.storage
    return Layout(
        course,
        Path(f"{storage.courses}/{course.name}"),
        Path(f"{storage.envs}/{ENVIRONMENT}/current"),
        cluster.first(NodeRole.LOGIN).address,
    )


def layouts(cluster: Cluster) -> tuple[Layout, ...]:
    """Of every course, archived ones too."""
    return tuple(layout(cluster, course) for course in cluster.courses)


def find(cluster: Cluster, name: str) -> Layout:
    """The course of that name. KeyError if there is none."""
    for course in cluster.courses:
        if course.name == name:
            return layout(cluster, course)
    raise KeyError(name)
