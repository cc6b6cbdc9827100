"""What stock nbgrader (0.9.6, as the course's grader on the login node) does with the attacks of
issue 7, and beside it what practicum does with the same texts. docs/testing.md has the table.

Stock's other results are beside ours in test_course_lab.py (the exchange), test_grading_lab.py
(asserts stripped, a killer) and test_course_browser_lab.py (links). On a lab that is up:

    PRACTICUM_LAB=lab .venv/bin/pytest -m slow tests/lab/test_stock_adversaries_slow.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from attacks import ATTACKS, GOOD, SPY
from courses import Course, courses
from test_browser_lab import browser
from test_course_lab import STOCK_SETUP, fetched, forge
from test_grading_lab import Grader

pytestmark = pytest.mark.slow
__all__ = ["browser"]

LIMIT = 580  # seconds for a hundred thousand files on a slow machine
NAMES = ("cracker", "forker", "hog", "leaver", "looker", "relabeller", "right", "stripper",
         "thief", "writer")  # fmt: skip
MANY = "seq -f file%.0f 100000 | xargs touch"

# ada's folder in inbound is made by hand, as anybody can: s1 to s9, too. Then a file of 90 MB
# without a block on the disk; then a link to what has no end, with a limit that stock has not.
STOCK_SIZES = """
inbound=/tmp/stock/exchange/x/inbound
as_ada truncate -s 1T ps1/sparse
as_ada "$nbgrader" submit ps1 $more 2>&1 | tail -n 1
as_ada rm ps1/sparse
for who in ada s1 s2 s3 s4 s5 s6 s7 s8 s9; do
  as_ada mkdir "$inbound/$who+ps1+2026-11-20 10:00:00 UTC+x"
done
as_ada truncate -s 1T "$inbound/ada+ps1+2026-11-20 10:00:00 UTC+x/sparse"
as_grader "$nbgrader" collect ps1 $more >/dev/null 2>&1 || echo "collecting failed"
echo in order: $(ls -U $inbound | sed 's/+.*//')
echo collected: $(ls -d stock/course/submitted/*/ps1 | cut -d / -f 4)
rm -r $inbound/* stock/course/submitted
as_ada truncate -s 90M ps1/sparse
as_ada "$nbgrader" submit ps1 $more
echo blocks: $(du -sk stock/ada/ps1 $inbound stock/ada/.local | cut -f 1)
there=$(echo $inbound/ada+ps1+*)
as_ada rm "$there/sparse"
as_ada ln -s /dev/zero "$there/endless"
as_grader prlimit --fsize=150000000 "$nbgrader" collect ps1 $more >/dev/null 2>&1 || true
stat -c 'copied: %s' stock/course/submitted/ada/ps1/endless
"""
# A pipe where stock copies: told as failed, and there is a submission all the same
STOCK_FIFO = """
as_ada mkfifo ps1/pipe
as_ada timeout 120 "$nbgrader" submit ps1 $more 2>&1 | tail -n 1
as_grader timeout 120 "$nbgrader" collect ps1 $more
ls stock/course/submitted/ada/ps1
there=$(echo /tmp/stock/exchange/x/inbound/ada+ps1+*)
as_ada mkfifo "$there/pipe"
as_grader timeout 120 "$nbgrader" collect ps1 $more --update 2>&1 | tail -n 1
"""
STOCK_MANY = """
as_ada sh -c 'cd ps1 && MANY'
as_ada "$nbgrader" submit ps1 $more
as_grader "$nbgrader" collect ps1 $more
find stock/course/submitted/ada/ps1 -name 'file*' | wc -l
""".replace("MANY", MANY)
# There is no credential: an old submission counts again under a later name, and for a course of
# which ada is no member. (`has_access` asks nobody, as stock is set up.)
STOCK_REPLAY = """
as_ada "$nbgrader" submit ps1 $more
as_grader "$nbgrader" collect ps1 $more
there=$(echo /tmp/stock/exchange/x/inbound/ada+ps1+*)
as_ada cp -r "$there" "/tmp/stock/exchange/x/inbound/ada+ps1+2030-01-01 00:00:00 UTC+x"
as_grader "$nbgrader" collect ps1 $more --update 2>&1 | tail -n 1
cp -rp stock/exchange/x stock/exchange/y && rm -r stock/exchange/y/inbound/*
more="--course=y --Exchange.root=/tmp/stock/exchange"
as_ada "$nbgrader" submit ps1 $more
as_grader "$nbgrader" collect ps1 $more --CourseDirectory.submitted_directory=of-y
ls stock/course/of-y
"""


@dataclass
class Side:
    """What one of the two made of all of them, by student."""

    score: dict[str, float] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    feedback: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def two(lab: Any, run_on: Any) -> Iterator[tuple[Course, Course]]:
    with courses(
        lab, run_on, ("hpc101", ["ines"], ["ada", "ben"]), ("phys", ["ines"], ["ben"])
    ) as made:
        made[0].write_assignment("ps1")
        yield made[0], made[1]


@pytest.fixture(scope="module")
def grader(two: tuple[Course, Course], run_on: Any) -> Iterator[Grader]:
    grader = Grader(two[0], run_on)
    grader.as_grader("tee", f"{grader.root}/grading.json", input='{"processes": 64}')
    yield grader
    run_on("login", ["pkill", "-u", "grader-hpc101", "-f", "sleep 98765"])
    run_on("login", ["rm", "-f", "/tmp/left", "/dev/shm/left"])


def page(grader: Grader, student: str, assignment: str) -> str:
    path = f"{grader.root}/feedback/{student}/{assignment}/hw.html"
    return str(grader.run_on("login", ["cat", path]).stdout)


@pytest.fixture(scope="module")
def ours(grader: Grader) -> Side:
    grader.hand_in("ours", {name: ATTACKS[name] for name in NAMES})
    found = grader.grade("ours", expect=None)["by"]
    side = Side({name: found[name]["score"] for name in NAMES})
    side.feedback["before"] = page(grader, "cracker", "ours")
    grader.stock("generate_feedback", "ours", "--force")  # as give-back has it
    for name in NAMES:
        side.said[name] = grader.autograded(name, "ours")
        side.feedback[name] = page(grader, name, "ours")
    return side


@pytest.fixture(scope="module")
def stock(grader: Grader, ours: Side) -> Side:
    """In one run. After ours, for what it leaves behind is everybody's."""
    grader.hand_in("stock", {name: ATTACKS[name] for name in NAMES})
    grader.stock("autograde", "stock")
    side = Side({name: grader.stored(name, "stock") for name in NAMES})
    grader.stock("generate_feedback", "stock")
    for name in NAMES:
        side.said[name] = grader.autograded(name, "stock")
        side.feedback[name] = page(grader, name, "stock")
    return side


def run_stock(course: Course, script: str) -> list[str]:
    """What it printed, after the setting-up of an exchange."""
    done = course.run_on("login", ["bash", "-c", STOCK_SETUP + script], timeout=LIMIT)
    course.run_on("login", ["rm", "-rf", "/tmp/stock"], timeout=LIMIT)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return str(done.stdout).splitlines()


def handed_in(course: Course, make: str, expect: int = 0) -> str:
    """What ada is told by ours, whose folder was made so."""
    folder = fetched(course, "ada")
    course.shell("ada", f"cd {folder} && {make}")
    said = course.student("ada", "submit", course.name, "ps1", expect=expect)
    course.shell("ada", f"rm -r {folder}")
    return said


def test_sizes(two: tuple[Course, Course]) -> None:
    """Stock refuses 1 TB where it is submitted; collecting ends at it, and those after it in the
    folder's order are not collected. Blocks are made of nothing, and a link has no size."""
    refused, failed, order, collected, blocks, copied = run_stock(two[0], STOCK_SIZES)
    assert "Directory size is too big" in refused
    assert failed == "collecting failed"
    names = order.removeprefix("in order: ").split()
    assert len(names) == 10
    before = names[: names.index("ada")]
    assert sorted(before) == collected.removeprefix("collected:").split()
    own, inbound, cache = map(int, blocks.removeprefix("blocks: ").split())
    assert own < 1000 and inbound > 90_000 and cache > 90_000
    assert int(copied.removeprefix("copied: ")) > 100_000_000, "more than its own limit"

    assert "more than 20 MB" in handed_in(two[0], "truncate -s 1T sparse", expect=1)
    assert "more than 20 MB" in handed_in(two[0], "truncate -s 90M sparse", expect=1)
    assert "is a link" in handed_in(two[0], "ln -s /dev/zero endless")


def test_a_pipe(two: tuple[Course, Course]) -> None:
    told, *there, again = run_stock(two[0], STOCK_FIFO)
    assert "is a named pipe" in told, "nothing is handed in, the student reads"
    assert there == ["ps1.ipynb"], "and it is collected"
    assert "is a named pipe" in again, "in the exchange, it ends the collecting"
    assert "no regular file" in handed_in(two[0], "mkfifo pipe")


def test_a_hundred_thousand_files(two: tuple[Course, Course]) -> None:
    assert run_stock(two[0], STOCK_MANY) == ["100000"]
    assert "more than 200 files" in handed_in(two[0], MANY, expect=1)


def test_handed_in_again_and_in_another_course(two: tuple[Course, Course]) -> None:
    updated, other = run_stock(two[0], STOCK_REPLAY)
    assert "Updating submission: ada ps1" in updated
    assert other == "ada"

    fetched(two[0], "ada")
    said = forge(two[0], "ada", """
data = body(("ps1.ipynb", b"{}"))
request = submit(data)
once = munge.close(request.text(), place.grader)
ask(request, data, once)
ask(request, data, once)
ask(submit(data, course="phys"), data)
""").splitlines()  # fmt: skip
    assert said[0] == "HANDED IN", said
    assert "used before" in said[1] and "not phys" in said[2], said


def test_marks_that_were_not_earned(stock: Side, ours: Side) -> None:
    """By stripped asserts, a neighbour's notebook, the gradebook."""
    assert (stock.score["stripper"], ours.score["stripper"]) == (2, 0)
    assert (stock.score["thief"], ours.score["thief"]) == (3.5, 0)
    assert stock.score["cracker"] >= 77 and ours.score["cracker"] == 0
    assert stock.score["right"] == ours.score["right"] == 3.5
    # what was to be graded by hand, declared a test
    assert (stock.score["relabeller"], ours.score["relabeller"]) == (10, 0)
    assert "<script>" in stock.said["relabeller"]
    assert "<script" not in ours.said["relabeller"]


def test_a_forged_feedback(stock: Side, ours: Side) -> None:
    """Stock's command (not formgrader's button) keeps the page that is there."""
    assert stock.feedback["cracker"] == "<p>full marks</p>"
    assert ours.feedback["before"] == ""
    assert "full marks</p>" not in ours.feedback["cracker"]


def test_network_munge_and_what_others_left(stock: Side, ours: Side) -> None:
    for line in ("network True True", "munge True", "processes False", "kept True True"):
        assert line in stock.said["looker"], stock.said["looker"]
    assert "/nfs/courses/hpc101" in stock.said["looker"]
    for line in ("network False False False", "munge False", "processes True",
                 "homes [] courses []", "kept False False"):  # fmt: skip
        assert line in ours.said["looker"], ours.said["looker"]


def test_a_process_is_left_behind(stock: Side, lab: Any, grader: Grader, run_on: Any) -> None:
    """By stock, for all that is graded later. Ours left none, though it ran first."""
    assert stock.score["leaver"] == 3.5
    left = ["pgrep", "-u", "grader-hpc101", "-f", "sleep 98765"]
    assert run_on("login", left).returncode == 0
    for node in lab.nodes:
        assert (
            run_on(node.name, ["pgrep", "-U", "gradebox-hpc101-01,gradebox-hpc101-02"]).stdout == ""
        )


def test_processes_and_memory(stock: Side, ours: Side) -> None:
    assert "forked 100" in stock.said["forker"]
    counted = re.search(r"forked (\d+)", ours.said["forker"])
    assert counted and int(counted[1]) < 64
    assert (stock.score["hog"], ours.score["hog"]) == (3.5, 0)
    assert "MemoryError" in ours.said["hog"] and "MemoryError" not in stock.said["hog"]


def test_a_stored_script(stock: Side, ours: Side, browser: Any, tmp_path: Path) -> None:
    """In the notebook that formgrader shows, and run by the page of feedback."""
    assert "<script>evil()" in stock.said["writer"]
    assert "<b>x</b>" in ours.said["writer"]

    def runs(html: str) -> bool:
        path = tmp_path / "feedback.html"
        path.write_text(html, encoding="utf-8")
        shown = browser.new_page()
        shown.route(re.compile("^https?:"), lambda route: route.abort())
        shown.add_init_script("window.called = 0; window.evil = () => { window.called += 1; };")
        shown.goto(path.as_uri(), wait_until="domcontentloaded")
        called = int(shown.evaluate("window.called"))
        shown.close()
        return called > 0

    assert "test-f" in ours.feedback["writer"]
    assert (runs(stock.feedback["writer"]), runs(ours.feedback["writer"])) == (True, False)


def test_an_old_grade(grader: Grader, stock: Side) -> None:
    """A later submission ends its kernel: stock keeps what the earlier one got."""
    worse = {"right": ATTACKS["quitter"]}
    grader.hand_in("stock", worse)
    grader.stock("autograde", "stock", "--student=right", "--force", expect=1)
    assert grader.stored("right", "stock") == 3.5
    grader.hand_in("ours", worse)
    found = grader.grade("ours", "--student", "right", expect=1)["by"]["right"]
    assert (found["status"], found["score"]) == ("failed", 0)
    assert grader.stored("right", "ours") == 0


def test_others_are_killed(grader: Grader, run_on: Any) -> None:
    """Stock: the run, the next student's, and whatever else is the grader's there. The last of
    these tests: formgrader is started anew after it."""
    both = {"a": {"answer": GOOD, "first": SPY}, "b": {"answer": GOOD}}
    bystander = ["systemd-run", "--quiet", "--unit=bystander", "--uid=grader-hpc101"]
    assert run_on("login", [*bystander, "sleep", "900"]).returncode == 0
    state = ["systemctl", "is-active", "bystander"]
    try:
        grader.hand_in("killed-ours", both)
        found = grader.grade("killed-ours")["by"]
        assert {name: one["score"] for name, one in found.items()} == {"a": 3.5, "b": 3.5}
        assert run_on("login", state).stdout.strip() == "active"
        grader.hand_in("killed", both)
        assert grader.stock("autograde", "killed", expect=None).returncode != 0
        assert grader.autograded("b", "killed") == ""
        assert run_on("login", state).stdout.strip() == "failed"
    finally:
        run_on("login", ["systemctl", "stop", "bystander"])
        run_on("login", ["systemctl", "reset-failed", "bystander"])
