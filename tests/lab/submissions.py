"""Run in nbgrader's environment as a course's grader: an assignment and hand-made submissions.

    python submissions.py COURSE_FOLDER < {"assignment": A, "submissions": {STUDENT: {...}}}

Each submission: "answer" (the exercise's code), "first" (a cell before it), "plot" and "essay" (to
be graded by hand), "about" (changes to cells' metadata, by grade_id), "at" (the minute of its
hour), "raw" (the file as it is, or null for none), "files".
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

KERNEL = {"display_name": "Python", "language": "python", "name": "python3"}
SOLUTION = {"grade": False, "solution": True, "locked": False}
TEST = {"grade": True, "solution": False, "locked": True}
ESSAY = {"grade": True, "solution": True, "locked": False}
CODE = "def f(x):\n    ### BEGIN SOLUTION\n    return x + 1\n    ### END SOLUTION"
PLOT = "### BEGIN SOLUTION\nplot()\n### END SOLUTION"
CLUSTER = """# practicum: cluster test
### BEGIN HIDDEN TESTS
verdict = best(
    work, "first", completed().needed(), cpu_time(at_least=2).needed(),
    script_has("^#SBATCH --job-name=first", "a name in the script"),
)
### END HIDDEN TESTS"""


def cell(made, name, kind, points=None):
    about = {"schema_version": 3, "task": False, "grade_id": name, **kind}
    if points is not None:
        about["points"] = points
    made.metadata["nbgrader"] = about
    return made


def source():
    return new_notebook(
        cells=[
            new_markdown_cell("# Exercise"),
            cell(new_code_cell(CODE), "f", SOLUTION),
            cell(
                new_code_cell(
                    "assert f(1) == 2\n### BEGIN HIDDEN TESTS\nassert f(5) == 6\n### END HIDDEN TESTS"
                ),
                "test-f",
                TEST,
                2,
            ),
            cell(new_code_cell("1.5 if f(0) == 1 else 0"), "partial", TEST, 3),
            cell(new_code_cell(CLUSTER), "jobs", TEST, 4),
            cell(new_code_cell(PLOT), "plot", ESSAY, 10),
            cell(new_markdown_cell("Why?"), "essay", ESSAY, 5),
        ],
        metadata={"kernelspec": KERNEL},
    )


def nbgrader(root, *words):
    command = [f"{sys.prefix}/bin/nbgrader", *words]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def main():
    os.umask(0o077)
    root = Path(sys.argv[1])
    wanted = json.load(sys.stdin)
    name = wanted["assignment"]
    if not (root / "release" / name).exists():
        (root / "source" / name).mkdir(parents=True)
        nbformat.write(source(), root / "source" / name / "hw.ipynb")
        nbgrader(root, "generate_assignment", name, "--create")
    for student, given in wanted["submissions"].items():
        notebook = nbformat.read(root / "release" / name / "hw.ipynb", 4)
        notebook.cells[1].source = given.get("answer", "")
        notebook.cells[5].source = given.get("plot", notebook.cells[5].source)
        notebook.cells[6].source = given.get("essay", "Because.")
        for one in notebook.cells:
            about = one.metadata.get("nbgrader", {})
            about.update(given.get("about", {}).get(about.get("grade_id"), {}))
        if given.get("first"):
            notebook.cells.insert(1, new_code_cell(given["first"]))
        folder = root / "submitted" / student / name
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, folder / "hw.ipynb")
        if given.get("raw", "") is None:
            (folder / "hw.ipynb").unlink()
        elif "raw" in given:
            (folder / "hw.ipynb").write_text(given["raw"])
        minute = given.get("at", 0)
        (folder / "timestamp.txt").write_text(f"2026-11-20 10:{minute:02}:00.000000 UTC\n")
        for path, text in given.get("files", {}).items():
            (folder / path).write_text(text)


main()
