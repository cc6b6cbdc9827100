"""Plays an assignment as a student would, on a real cluster, and keeps what the cluster saw.

A notebook's code cells are run in order by a short program that is sent to the login node:
``%%writefile`` and ``%%bash`` as Jupyter does them, Python cells in one namespace. With overlays
(``tests/assignments/NAME/half.md``, ``cheat.md``) some cells are replaced: a submission that is half
right, and one that cheats. What is recorded are the student's jobs and the files of the folder.

    python tests/playing.py LAB STUDENT right|half|cheat NAME...     record on a running lab
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.slurm import Query, SlurmError
from coursework import notebooks, snapshot
from coursework import recording as records
from coursework.accounting import Accounting, Job, Window
from coursework.clustertests import Verdict, Work
from coursework.notebooks import Cell, Source

DATA = Path(__file__).parent / "assignments"
ACCOUNT = "class"  # every student of a lab is in it
KINDS = ("right", "half", "cheat")
EXAMPLE = "pi-by-chance"
LIMIT = 3000  # seconds for one assignment; the seventh took 1140 at a load of 30
# What half of the work earns, by test; those that are not named here earn all.
HALF: dict[str, dict[str, float]] = {
    "1-first-job": {"hello": 3, "two": 0, "accounting": 1.5},
    "2-ask": {"fit": 4, "wide": 1, "pair": 2},
    "3-break": {"slow-mended": 1.5, "hungry-mended": 1.5, "careful": 2.25, "repaired": 0},
    "4-arrays": {"throttle": 0, "rest": 0},
    "5-pipeline": {"simulate": 2, "never": 0},
    "6-parallel": {"threads": 2.14, "ranks": 3.75, "hybrid": 2.55},
    "7-scaling": {"scale": 3, "measured": 1.5, "gbm": 0, "gbm-ranks": 0},
    "8-real-code": {"steps": 2.5, "filler": 0},
    EXAMPLE: {"darts": 3},
}
_HEAD = "title: -\ngoal: -\nminutes: -\nneeds: -\ngraded: -\n---\n"
_PLAYER = r"""
import base64, getpass, json, os, pathlib, shutil, subprocess, sys
folder = pathlib.Path.home() / FOLDER
if FILES:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
os.chdir(folder)
sys.path.insert(0, str(folder))
for name, text in FILES.items():
    pathlib.Path(name).write_text(text)
book = folder / f"{ASSIGNMENT}.ipynb"
if book.exists():
    value = json.loads(book.read_text())
    for cell in value["cells"]:
        cell["source"] = dict(CELLS).get(cell["id"], cell["source"])
    book.write_text(json.dumps(value))
names = {}
for cell, text in CELLS:
    print("==", cell, flush=True)
    first, _, rest = text.partition("\n")
    if first.startswith("%%writefile "):
        pathlib.Path(first.split()[1]).write_text(rest)
    elif first.startswith("%%bash"):
        done = subprocess.run(["bash"], input=rest, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        print(done.stdout, flush=True)
    else:
        exec(compile(text, cell, "exec"), names)
kept = {}
for path in sorted(folder.iterdir()):
    if path.is_file() and path.stat().st_size < 300_000 and not path.match("part-*.csv"):
        try:
            kept[path.name] = path.read_text()
        except UnicodeDecodeError:
            pass
print("HANDED IN " + json.dumps(kept))
"""


def loaded(name: str) -> Source:
    """One of practicum's own, or the example that docs/instructor.md tells how to write."""
    if name == EXAMPLE:
        path = DATA.parents[1] / "docs" / "example-assignment.md"
        return notebooks.parse(path.read_text(encoding="utf-8"))
    return notebooks.load(name)


def submission(name: str, kind: str) -> Source:
    """The instructor's notebook, or with the cells that an overlay replaces."""
    source = loaded(name)
    if kind == "right":
        return source
    overlay = notebooks.parse(_HEAD + (DATA / name / f"{kind}.md").read_text(encoding="utf-8"))
    new = {cell.name: cell for cell in overlay.cells}
    unknown = set(new) - {cell.name for cell in source.cells}
    if unknown:
        raise ValueError(f"{kind}.md of {name} replaces cells that are not there: {unknown}")
    return replace(source, cells=tuple(new.get(cell.name, cell) for cell in source.cells))


def program(name: str, source: Source, course: str = ACCOUNT, *, fetched: bool = False) -> str:
    """Python that plays it in ~/play/NAME and prints the files as its last line; ``fetched``: in
    ~/COURSE/NAME as it was handed out, and the notebook there is filled in."""

    def text(cell: Cell) -> str:
        raw = notebooks.NUMBER if cell.kind == "number" else cell.text
        return raw.replace("@COURSE@", course).replace("@ASSIGNMENT@", name)

    cells = [
        (cell.name, text(cell))
        for cell in source.cells
        if cell.kind in ("code", "number", "solution")
    ]
    files = {file: content.decode() for file, content in notebooks.handed_out(name).items()}
    folder = f"{course}/{name}" if fetched else f"play/{name}"
    head = (
        f"ASSIGNMENT = {name!r}\nFOLDER = {folder!r}\nFILES = {{}} if {fetched} else {files!r}\n"
        f"CELLS = {cells!r}\n"
    )
    return head + _PLAYER


def play(run_on: Any, student: str, name: str, kind: str, course: str = ACCOUNT) -> Work:
    """Play it as that student on the login node, and read the accounting afterwards."""
    opens = now(run_on)
    text = program(name, submission(name, kind), course)
    done = run_on("login", ["python3", "-"], user=student, input=text, timeout=LIMIT)
    *said, last = done.stdout.rstrip("\n").split("\n")
    print("\n".join(said), done.stderr, sep="\n")
    if done.returncode or not last.startswith("HANDED IN "):
        raise AssertionError(f"{name} ({kind}) did not end well: {last}\n{done.stderr}")
    files = json.loads(last.removeprefix("HANDED IN "))
    window = Window(opens, now(run_on) + 3600)
    accounting = settled(lambda: snapshot.take(student, course, window, ask=asker(run_on)))
    # played side by side with others, as here, each keeps the jobs of its own folder
    own = tuple(job for job in accounting.jobs if job.work_dir.endswith(f"/play/{name}"))
    accounting = only(accounting, own)
    handed_in = {file: content.encode() for file, content in files.items()}
    return Work(student, name, accounting, handed_in)


def only(accounting: Accounting, jobs: tuple[Job, ...]) -> Accounting:
    return replace(accounting, jobs=jobs)


def now(run_on: Any) -> int:
    return int(run_on("login", ["date", "+%s"]).stdout)


def settled(take: Callable[[], Accounting]) -> Accounting:
    """The database is told a moment after the queue: ask until every job is over there."""
    end = time.monotonic() + 120
    while True:
        found = take()
        if all(job.ended is not None for job in found.jobs) or time.monotonic() > end:
            return found
        time.sleep(2)


def asker(run_on: Any) -> Any:
    """Asks Slurm on the lab's login node, as root."""

    def ask(query: Query[Any]) -> tuple[Any, ...]:
        env = [f"{key}={value}" for key, value in query.env.items()]
        done = run_on("login", ["env", *env, *query.argv], timeout=120)
        if done.returncode:
            raise SlurmError(done.stderr.strip() or f"exit status {done.returncode}")
        return query.read(done.stdout)

    return ask


def expected(name: str, kind: str) -> dict[str, float]:
    """Points of each test of an assignment that such a submission earns."""
    full = {cell.name: float(cell.points) for cell in loaded(name).tests}
    return {"right": full, "half": {**full, **HALF[name]}, "cheat": dict.fromkeys(full, 0.0)}[kind]


def recording(name: str, kind: str) -> Path:
    return DATA / name / f"{kind}.json"


def load(name: str, kind: str) -> Work:
    return records.load(recording(name, kind))


def graded(name: str, work: Work) -> dict[str, tuple[float, Verdict]]:
    """Points of each test of an assignment, and why."""
    notebook = json.loads(notebooks.build(loaded(name), name, ACCOUNT))
    return {one.cell: (one.earned, one.verdict) for one in records.grade(notebook, work)}


def told(found: dict[str, tuple[float, Verdict]]) -> str:
    """For a person who asks why."""
    return "\n".join(
        f"{cell}: {points}\n{verdict.text}" for cell, (points, verdict) in found.items()
    )


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent / "lab"))
    from run_in_lab import run_in

    from provisioning import lab as labs

    lab, student, kind, *wanted = sys.argv[1:]
    run_on = run_in(labs.info(lab))
    for name in wanted or (*notebooks.names(), EXAMPLE):
        started = time.monotonic()
        try:
            work = play(run_on, student, name, kind)
        except (AssertionError, SlurmError, subprocess.TimeoutExpired) as error:
            print(f"{name} {kind}: {error}", file=sys.stderr)
            continue
        recording(name, kind).parent.mkdir(parents=True, exist_ok=True)
        recording(name, kind).write_text(records.dump(work), encoding="utf-8")
        print(f"#### {name} {kind} ({time.monotonic() - started:.0f} s)")
        print(told(graded(name, work)), flush=True)


if __name__ == "__main__":
    main()
