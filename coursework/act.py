"""Verbs of ``practicum course`` that need the grader's rights: ``python -I -m coursework.act
VERB COURSE ...`` as grader-COURSE on the login node, by way of sudo (coursework.units.sudoers).

Reads the public cluster file alone. nbgrader runs in its own environment, as a command.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence, Sized
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from cluster.errors import PracticumError, UsageError
from cluster.load import load_public
from cluster.model import Cluster
from coursework import grade_course, grades, ledger, notebooks
from coursework.layout import Layout, find
from coursework.session import records, wire
from coursework.store import Store, files_of, write_file

CLUSTER = Path("/etc/practicum/cluster.json")
LIMIT = 600  # seconds for one nbgrader command
SETTINGS = ("nbgrader_config.py", "grading.json")  # a course's own, in its folder


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="practicum course", add_help=False)
    verbs = top.add_subparsers(dest="verb", required=True)
    for verb, more in VERBS.items():
        one = verbs.add_parser(verb)
        one.add_argument("course")
        for word in more[1]:
            if word.startswith("--"):
                one.add_argument(word, action="store_true")
            elif word == "names":
                one.add_argument(word, nargs="*")
            elif word == "when":
                one.add_argument(word, nargs="?", default="")
            else:
                one.add_argument(word)
    return top


def put(places: Layout, options: argparse.Namespace) -> str:
    """An assignment's files (a body on stdin, see coursework.session.wire) as source/ASSIGNMENT."""
    name = assignment(options.assignment)
    places.source.mkdir(mode=0o700, exist_ok=True)
    fresh, target = places.source / f".new-{os.getpid()}", places.source / name
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        wire.unpack(sys.stdin.buffer, int(options.size), options.sha256, fresh)
    except wire.WireError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise PracticumError(f"{name} was not copied: {error}") from None
    kept = ""
    if target.exists():
        old = places.source / f".{name}.{records.stamp(records.now())}"
        target.rename(old)
        kept = f"; what was there is now {old}"
    fresh.rename(target)
    return f"{name} is in {target}{kept}"


def bring(places: Layout, options: argparse.Namespace) -> str:
    """Assignments that come with practicum as source/NAME; those that are there stay."""
    places.source.mkdir(mode=0o700, exist_ok=True)
    done = {
        name: notebooks.write(name, places.source, places.course.name)
        for name in options.names or notebooks.names()
    }
    return "\n".join(
        f"{name}: {f'in {places.source}' if new else 'is there, and stays as it is'}"
        for name, new in done.items()
    )


def sources(places: Layout, _options: argparse.Namespace) -> str:
    """Names of the assignments that are written here, one a line."""
    return "\n".join(sorted(one.name for one in places.source.glob("[!.]*") if one.is_dir()))


def get(places: Layout, options: argparse.Namespace) -> str:
    """An assignment's files to standard output: a body in base64, its size and digest first."""
    folder = places.source / assignment(options.assignment)
    if not folder.is_dir():
        raise UsageError(f"there is no {folder}")
    stream = io.BytesIO()
    sha256, size = wire.write_body(files_of(folder), stream)
    return f"{size} {sha256}\n{base64.b64encode(stream.getvalue()).decode('ascii')}"


def release(places: Layout, options: argparse.Namespace) -> str:
    """Make the students' version of an assignment and hand it out."""
    name = written(places, assignment(options.assignment))
    nbgrader(places, "generate_assignment", name, "--force", "--create")
    nbgrader(places, "release_assignment", name, *(("--force",) if options.force else ()))
    return f"{name} is handed out to the {_students(places.course.students)} of {options.course}"


def collect(places: Layout, options: argparse.Namespace) -> str:
    """The last submissions, to where they are graded."""
    name = assignment(options.assignment)
    nbgrader(places, "collect", name, "--update")
    got = [one for one in places.course.students if (places.submitted / one / name).is_dir()]
    missing = [one for one in places.course.students if one not in got]
    lacks = f"; nothing from {', '.join(missing)}" if missing else ""
    return f"{len(got)} of {len(places.course.students)} collected{lacks}"


def give_back(places: Layout, options: argparse.Namespace) -> str:
    """Feedback of what is graded, made anew, each student's to that student alone."""
    name = assignment(options.assignment)
    if any(places.autograded.glob(f"*/{name}")):
        nbgrader(places, "generate_feedback", name, "--force")
    elif not any(places.feedback.glob(f"*/{name}")):
        raise UsageError(
            f"nothing of {name} is graded yet: practicum course grade {options.course} {name}"
        )
    nbgrader(places, "release_feedback", name)
    back = [one for one in places.course.students if (places.given_back / one / name).is_dir()]
    return f"feedback on {name} is there for {_students(back)}"


def _students(names: Sized) -> str:
    return f"{len(names)} student{'' if len(names) == 1 else 's'}"


def due(places: Layout, options: argparse.Namespace, zone: str) -> str:
    """Set, or with nothing take away, the due date of an assignment, in the gradebook."""
    name = assignment(options.assignment)
    until = when(options.when, zone)
    if not grades.set_due(places, name, until):
        written(places, name)
        nbgrader(places, "db", "assignment", "add", name)
        grades.set_due(places, name, until)
    known = Store(places).dates()
    kept = {key: value for key, value in known.due.items() if key != name}
    fresh = replace(known, due={**kept, **({name: records.stamp(until)} if until else {})})
    write_file(places.dates, fresh.text().encode())
    _share(places)
    return f"{name} is due {told(until, zone)}" if until else f"{name} has no due date"


def _share(places: Layout) -> None:
    """Extensions to the gradebook, which counts them from the due date on."""
    nbgrader(places, "list")


def extend(places: Layout, options: argparse.Namespace, zone: str) -> str:
    """A date of a student's own, or with nothing the common one again."""
    name, student = assignment(options.assignment), options.student
    if student not in places.course.students:
        raise UsageError(f"{student} is not a student of {options.course}")
    until = when(options.when, zone)
    known = Store(places).dates()
    own = {**known.extensions.get(name, {})}
    own.pop(student, None)
    if until:
        own[student] = records.stamp(until)
    extensions = {**known.extensions, name: own}
    write_file(places.dates, replace(known, extensions=extensions).text().encode())
    _share(places)
    if not until:
        return f"for {student} the common date of {name} counts"
    return f"{name} is due {told(until, zone)} for {student}"


def receipt(places: Layout, _options: argparse.Namespace) -> str:
    """Whether a receipt (on stdin) is genuine, and the submission still what it says."""
    try:
        shown = records.read_receipt(sys.stdin.read(1_000_000))
    except ValueError as error:
        raise UsageError(f"this is no receipt: {error}") from None
    if not ledger.genuine(shown, ledger.key(places.ledger)):
        raise PracticumError("this receipt is not genuine: it was made or changed by somebody else")
    changed = Store(places).changed(shown)
    if changed:
        raise PracticumError(f"the receipt is genuine, but here {changed[0]} is not what it says")
    return (
        f"genuine: {shown.student} handed in {shown.assignment} "
        f"{records.timestamp(shown.submitted)}, {len(shown.digests)} files, number {shown.number}"
    )


def students(places: Layout, _options: argparse.Namespace) -> str:
    """Who has fetched and handed in what, as JSON."""
    return json.dumps(Store(places).overview())


def export(places: Layout, options: argparse.Namespace) -> str:
    """All grades as nbgrader's CSV, lateness and hand marking counted."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "grades.csv"
        _share(places)  # names of who came since
        nbgrader(places, "export", "--to", str(made))
        table = made.read_text(encoding="utf-8")
    if options.all:
        return table.rstrip("\n")
    table, gone = grades.of_students(table, places.course.students)
    if gone:
        sys.stderr.write(
            f"left out, for they are not in {options.course} any more: {', '.join(gone)}; their "
            "marks are kept, and --all exports them, too\n"
        )
    return table.rstrip("\n")


def settings(places: Layout, _options: argparse.Namespace) -> str:
    """The course's own settings as JSON, {file: text}."""
    there = [one for one in SETTINGS if (places.root / one).is_file()]
    return json.dumps({one: (places.root / one).read_text(encoding="utf-8") for one in there})


def take_settings(places: Layout, _options: argparse.Namespace) -> str:
    """Another course's settings (on stdin), where this one has none of its own."""
    given = json.loads(sys.stdin.read(1_000_000))
    lines = []
    for name in SETTINGS:
        path = places.root / name
        if name in given and path.exists():
            lines.append(f"{path} is there, and stays as it is")
        elif name in given:
            write_file(path, str(given[name]).encode())
            lines.append(f"{name} is in {places.root}")
    return "\n".join(lines)


def written(places: Layout, name: str) -> str:
    """The name again. UsageError when no such assignment was written."""
    if not (places.source / name).is_dir():
        there = sorted(path.name for path in places.source.glob("[!.]*") if path.is_dir())
        raise UsageError(
            f"there is no {places.source / name}: write the assignment there (or in formgrader); "
            f"there are: {', '.join(there) or 'none'}"
        )
    return name


def assignment(name: str) -> str:
    if not records.ASSIGNMENT.fullmatch(name):
        raise UsageError(
            f"{name[:60]!r} cannot be an assignment's name: letters, digits, _ . - and blanks"
        )
    return name


def when(text: str, zone: str) -> datetime | None:
    """A date and time in the cluster's zone; "" is none."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text[:40]!r} is not a time like 2026-03-01T23:59") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.astimezone(UTC)


def told(moment: datetime, zone: str) -> str:
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M %Z")


def environment(places: Layout) -> dict[str, str]:
    """For nbgrader: the course's configuration, and nothing of whoever called."""
    return {
        "PATH": f"{places.environment}/bin:/usr/bin:/bin",
        "HOME": str(places.root),
        "LC_ALL": "C.UTF-8",
        "JUPYTER_CONFIG_DIR": places.config,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def nbgrader(places: Layout, *words: str) -> str:
    """Run it in the course's folder; what it said. PracticumError with its last words."""
    argv = [str(places.nbgrader), *words]
    try:
        done = subprocess.run(
            argv, cwd=places.root, env=environment(places), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            timeout=LIMIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PracticumError(f"nbgrader {words[0]} did not end within {LIMIT} s") from None
    except OSError as error:
        raise PracticumError(f"nbgrader cannot be started: {error}") from None
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        worst = [line for line in lines if "CRITICAL]" in line]
        worst = worst or [line for line in lines if "ERROR]" in line] or lines[-1:]
        told = " ".join(line.partition("] ")[2] or line for line in worst)
        raise PracticumError(f"nbgrader {words[0]}: {told[:600] or 'it failed'}")
    return done.stdout


VERBS = {
    "put": (put, ("assignment", "size", "sha256")),
    "bring": (bring, ("names",)),
    "sources": (sources, ()),
    "get": (get, ("assignment",)),
    "release": (release, ("assignment", "--force")),
    "collect": (collect, ("assignment",)),
    "give-back": (give_back, ("assignment",)),
    "due": (due, ("assignment", "when")),
    "extend": (extend, ("assignment", "student", "when")),
    "receipt": (receipt, ()),
    "students": (students, ()),
    "export": (export, ("--all",)),
    "settings": (settings, ()),
    "take-settings": (take_settings, ()),
}
DATED = ("due", "extend")


def main(argv: Sequence[str]) -> int:
    grading = argv[:1] == ["grade"]
    options = (grade_course.parser() if grading else parser()).parse_args(argv[int(grading) :])
    os.umask(0o077)
    try:
        cluster = load_public(CLUSTER)
        places = own(cluster, options.course)
        os.chdir(places.root)
        if grading:
            return grade_course.grade(cluster, places, options)
        work = VERBS[options.verb][0]
        more = (cluster.cluster.timezone,) if options.verb in DATED else ()
        sys.stdout.write(f"{work(places, options, *more)}\n")  # type: ignore[operator]
    except (PracticumError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code if isinstance(error, PracticumError) else 1
    return 0


def own(cluster: Cluster, name: str) -> Layout:
    """The course, if this process is its grader. UsageError otherwise."""
    try:
        places = find(cluster, name)
    except KeyError:
        raise UsageError(f"there is no course {name[:40]}") from None
    if os.geteuid() != places.course.uid:
        raise UsageError(f"this is {places.course.grader}'s: run practicum course")
    return places


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
