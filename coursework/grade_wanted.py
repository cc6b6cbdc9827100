"""``python -I -m coursework.grade_wanted COURSE``: grades what formgrader's button asked for.

Started by practicum-grade-COURSE.path as grader-COURSE while grading/wanted holds something. A
wish is removed once it is graded, so that one that was interrupted is taken up again, or once its
page tells why it cannot be: then it may be asked for again. What fails before that is tried again
after a while, without an end, for nobody would think of resetting a unit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cluster.errors import PracticumError
from cluster.load import load_public
from cluster.model import Cluster
from coursework import grade_course
from coursework.act import CLUSTER, own
from coursework.grade_state import BusyError
from coursework.layout import Layout
from coursework.session import records

GATHER = 1.0  # seconds: "autograde all" asks once for each student
BUSY = 5.0  # seconds until it is tried again when the command grades in the same course
PATIENCE = 3600.0
PAUSE = 5.0  # seconds after what failed altogether: systemd starts it again at once


def wishes(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """{assignment: {student: files}}, student "" for all that is new; what cannot be read is
    removed."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            value = json.loads(path.read_text())
            assignment, student = str(value["assignment"]), str(value["student"])
        except (OSError, ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
            continue
        if records.ASSIGNMENT.fullmatch(assignment):
            found[assignment][student].append(path)
        else:
            path.unlink(missing_ok=True)
    return found


def runs(assignment: str, students: Iterable[str]) -> Iterator[argparse.Namespace]:
    """What is new, if that was asked for, then each that was named, again."""
    named = sorted(set(students) - {""})
    asked: list[list[str]] = [[]] if "" in students else []
    for who in [*asked, named] if named else asked:
        yield argparse.Namespace(
            assignment=assignment, student=who, again=bool(who), status=False, events=False
        )


def main(argv: Sequence[str]) -> int:
    os.umask(0o077)
    try:
        cluster = load_public(CLUSTER)
        layout = own(cluster, argv[0])
        os.chdir(layout.root)
        take_up(cluster, layout)
    except (PracticumError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        time.sleep(PAUSE)
        return 1
    return 0


def take_up(cluster: Cluster, layout: Layout) -> None:
    """Grade all that is asked for, until nothing is."""
    folder = layout.grading / "wanted"
    began = time.monotonic()
    while found := wishes(folder):
        time.sleep(GATHER)
        for assignment, students in wishes(folder).items() or found.items():
            try:
                for options in runs(assignment, students):
                    grade_course.grade(cluster, layout, options)
            # whatever it is: the page tells it, and the other assignments are graded
            except Exception as error:  # noqa: BLE001
                sys.stderr.write(f"{assignment}: {grade_course.why(error)}\n")
                if isinstance(error, BusyError) and time.monotonic() - began < PATIENCE:
                    time.sleep(BUSY)
                    continue
            for paths in students.values():
                for path in paths:
                    path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
