"""Assignments as a class meets them, in a course that was made with them: handed out, played by
three students at once (right, half right, cheating), handed in, graded by what the cluster saw,
given back.

Everybody's jobs are in the queue together, so that their waits overlap. With PRACTICUM_RECORD=1 what
the cluster saw is kept in tests/assignments, for the unit tests.
"""

from __future__ import annotations

import csv
import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import playing
from courses import Course

from coursework import notebooks, snapshot
from coursework import recording as records
from coursework.accounting import Window
from coursework.clustertests import Work

KINDS = {"ada": "right", "ben": "half", "cleo": "cheat"}
AT_ONCE = 32  # a thread only waits for what happens on the lab


@dataclass
class Played:
    """What came of it, by assignment and student."""

    graded: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    feedback: dict[str, dict[str, str]] = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Right earns all that is not marked by hand, half its part, cheating nothing."""
        found = self.graded[name]
        told = "\n\n".join(f"{who}\n{page}" for who, page in self.feedback[name].items())
        assert {one["status"] for one in found.values()} == {"graded"}, found
        scores = {who: found[who]["score"] for who in KINDS}
        expected = {
            who: round(sum(playing.expected(name, kind).values()), 2) for who, kind in KINDS.items()
        }
        assert {who: round(score, 2) for who, score in scores.items()} == expected, told
        assert "[--] Expected:" in self.feedback[name]["ben"], "half is told what is missing"
        assert "[--]" not in self.feedback[name]["ada"], told


def played(course: Course, *names: str) -> Played:
    """All of it, for these assignments."""
    work: list[Future[None]] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name in names:  # the first are played while the others are made
            if name == playing.EXAMPLE:
                _written(course)
            assert "handed out to the 3" in course.teach("release", course.name, name)
            work += [pool.submit(play, course, name, who) for who in KINDS]
        for one in work:
            one.result()
    result = Played()
    for name in names:
        assert "3 of 3 collected" in course.teach("collect", course.name, name)
        found = json.loads(course.teach("grade", course.name, name, "--json"))["graded"]
        result.graded[name] = {one["student"]: one for one in found}
        assert "for 3 students" in course.teach("give-back", course.name, name)
        with ThreadPoolExecutor() as pool:
            pages = pool.map(lambda who, name=name: feedback(course, name, who), KINDS)
            result.feedback[name] = dict(zip(KINDS, pages, strict=True))
    return result


def play(course: Course, name: str, who: str) -> None:
    """Fetch, fill in and run on the login node, hand in."""
    kind = KINDS[who]
    course.student(who, "fetch", course.name, name, node="login")
    book = course.shell(who, f"cat ~/{course.name}/{name}/{name}.ipynb", node="login").stdout
    assert "BEGIN HIDDEN TESTS" not in book and "BEGIN SOLUTION" not in book
    source = playing.submission(name, kind)
    program = playing.program(name, source, course.name, fetched=True)
    opens = playing.now(course.run_on)
    done = course.run_on("login", ["python3", "-"], user=who, input=program, timeout=playing.LIMIT)
    *said, last = done.stdout.rstrip("\n").split("\n")
    print(f"######## {name} {who} ({kind})", *said, done.stderr, sep="\n")
    assert done.returncode == 0 and last.startswith("HANDED IN "), (name, who, done.stderr)
    course.student(who, "submit", course.name, name, node="login")
    if os.environ.get("PRACTICUM_RECORD") == "1":
        _record(course, name, who, opens, json.loads(last.removeprefix("HANDED IN ")))


def _record(course: Course, name: str, who: str, opens: int, files: dict[str, str]) -> None:
    window = Window(opens, playing.now(course.run_on) + 3600)
    accounting = playing.settled(
        lambda: snapshot.take(who, course.name, window, ask=playing.asker(course.run_on))
    )
    place = f"/{course.name}/{name}"
    own = tuple(job for job in accounting.jobs if job.work_dir.endswith(place))
    handed_in = {file: text.encode() for file, text in files.items() if not file.endswith(".ipynb")}
    work = Work(who, name, playing.only(accounting, own), handed_in)
    path = playing.recording(name, KINDS[who])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(records.dump(work), encoding="utf-8")


def _written(course: Course) -> None:
    """The example, which docs/instructor.md tells how to write: in the instructor's home first."""
    name = playing.EXAMPLE
    files = {file: content.decode() for file, content in notebooks.handed_out(name).items()}
    files[f"{name}.ipynb"] = notebooks.build(playing.loaded(name), name, course.name)
    folder = f"/home/ines/own/{name}"
    _as_instructor(course, "mkdir", "-p", folder)
    for file, text in files.items():
        course.run_on("login", ["tee", f"{folder}/{file}"], user="ines", input=text)
    course.teach("put", course.name, name, folder)


def _as_instructor(course: Course, *argv: str) -> str:
    done = course.run_on("login", argv, user="ines", timeout=300)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def feedback(course: Course, name: str, who: str) -> str:
    """The page that a student gets back."""
    course.student(who, "feedback", course.name, name, node="login")
    page = f"cat ~/{course.name}/{name}/feedback/*/{name}.html"
    return str(course.shell(who, page, node="login").stdout)


def gradebook(course: Course) -> dict[tuple[str, str], float]:
    """(assignment, student): score, as the instructor takes it home."""
    rows = csv.DictReader(course.teach("grades", course.name).splitlines())
    return {(row["assignment"], row["student_id"]): float(row["score"]) for row in rows}
