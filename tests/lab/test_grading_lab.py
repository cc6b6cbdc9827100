"""Submissions graded on a real cluster: right ones, wrong ones, and those that attack. What stock
nbgrader does with the same is in test_stock_adversaries_slow.py, but for two that are here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attacks import ATTACKS, GOOD, NEIGHBOURS
from courses import Course, courses
from waiting import until

pytestmark = pytest.mark.lab

SCRIPT = Path(__file__).with_name("submissions.py").read_text()
PYTHON = "/nfs/envs/coursework/current/bin/python"
PRACTICUM = "/opt/practicum/current/bin/python"
WORK = """#!/bin/bash
#SBATCH --job-name=first --account=grd --time=2 --mem=100
sh -c 'ulimit -t 3; while :; do :; done'
true
"""
SLEEP = WORK.replace("sh -c 'ulimit -t 3; while :; do :; done'", "sleep 4")
SCORE = """import sys
from nbgrader.api import Gradebook
root, assignment, student = sys.argv[1:]
with Gradebook("sqlite:///" + root + "/gradebook.db") as book:
    print(book.find_submission(assignment, student).score)
"""
FIND = """import sys
from nbgrader.api import Gradebook
root, assignment, student = sys.argv[1:]
with Gradebook("sqlite:///" + root + "/gradebook.db") as book:
    comment = book.find_comment("plot", "hw", assignment, student)
"""
BY_HAND = f"""{FIND}
    grade = book.find_grade("plot", "hw", assignment, student)
    grade.manual_score, grade.needs_manual_grade = 8, False
    comment.manual_comment = "No axes."
    book.db.commit()
"""
REMARK = f"""{FIND}
    print(comment.comment)
"""
# As root on the second slot's node, the first's account against whatever the second's runs
AGAINST = """
for again in $(seq 300); do
  pgrep -u gradebox-grd-02 -f ipykernel >/dev/null && echo seen && break
  sleep 0.2
done
for pid in $(pgrep -u gradebox-grd-02); do
  for act in "kill -9 $pid" "cat /proc/$pid/environ" "ls /proc/$pid/fd" "ls /proc/$pid/root/" \
             "head -c 1 /proc/$pid/mem"; do
    runuser -u gradebox-grd-01 -- $act >/dev/null 2>&1 && echo "did $act"
  done
done
runuser -u gradebox-grd-01 -- find /tmp /var/tmp /dev/shm /run /scratch /nfs/courses \
  -user gradebox-grd-02 \\( -readable -o -writable -o -executable \\) 2>/dev/null
"""


class Grader:
    """What the tests do in the course."""

    def __init__(self, course: Course, run_on: Any) -> None:
        self.course, self.run_on = course, run_on
        self.root = f"/nfs/courses/{course.name}"

    def as_grader(self, *argv: str, input: str = "", expect: int | None = 0) -> Any:
        environment = ["env", "-C", self.root, f"JUPYTER_CONFIG_DIR=/etc/practicum/courses/{self.course.name}",
                       f"PATH={PYTHON.rpartition('/')[0]}:/usr/bin:/bin", f"HOME={self.root}"]  # fmt: skip
        command = ["runuser", "-u", f"grader-{self.course.name}", "--", *environment, *argv]
        done = self.run_on("login", command, input=input, timeout=300)
        assert expect is None or done.returncode == expect, (done.stdout, done.stderr)
        return done

    def stock(self, *words: str, expect: int | None = 0) -> Any:
        """nbgrader as it is, run as the course's grader with the class's own kernel."""
        nbgrader = f"{PYTHON.rpartition('/')[0]}/nbgrader"
        return self.as_grader(
            "env", "JUPYTER_PATH=/nfs/envs/jupyter", nbgrader, *words, expect=expect
        )

    def stored(self, student: str, assignment: str) -> float:
        """The score in the gradebook, as nbgrader itself reads it."""
        return float(self.as_grader(PYTHON, "-c", SCORE, self.root, assignment, student).stdout)

    def limit(self, cell: int, notebook: int) -> None:
        """Seconds."""
        limits = {"cell_seconds": cell, "notebook_seconds": notebook, "processes": 64}
        self.as_grader("tee", f"{self.root}/grading.json", input=json.dumps(limits))

    def hand_in(self, assignment: str, submissions: dict[str, Any]) -> None:
        wanted = {"assignment": assignment, "submissions": submissions}
        self.run_on("login", ["tee", "/tmp/submissions.py"], input=SCRIPT)
        self.as_grader(PYTHON, "/tmp/submissions.py", self.root, input=json.dumps(wanted))

    def grade(self, assignment: str, *words: str, expect: int | None = 0) -> dict[str, Any]:
        argv = ["practicum", "course", "grade", self.course.name, assignment, "--json", *words]
        done = self.run_on("login", argv, user="ines", timeout=400)
        assert expect is None or done.returncode == expect, (done.stdout, done.stderr)
        answer: dict[str, Any] = json.loads(done.stdout)
        answer["by"] = {one["student"]: one for one in answer["graded"]}
        return answer

    def autograded(self, student: str, assignment: str) -> str:
        path = f"{self.root}/autograded/{student}/{assignment}/hw.ipynb"
        return str(self.run_on("login", ["cat", path]).stdout)


@pytest.fixture(scope="module")
def grader(lab: Any, run_on: Any) -> Iterator[Grader]:
    with courses(lab, run_on, ("grd", ["ines"], ["ada", "ben"])) as made:
        grader = Grader(made[0], run_on)
        grader.limit(8, 30)
        yield grader


@pytest.fixture
def roomy(grader: Grader) -> Iterator[Grader]:
    """With time for cells that wait, on a busy machine too."""
    grader.limit(120, 600)
    yield grader
    grader.limit(8, 30)


@pytest.fixture(scope="module")
def attacked(grader: Grader) -> dict[str, Any]:
    """All of them graded in one run; some of them cannot be as they should."""
    grader.hand_in("attacks", ATTACKS)
    return grader.grade("attacks", expect=1)["by"]


def test_right_and_wrong(attacked: dict[str, Any]) -> None:
    assert (attacked["right"]["status"], attacked["right"]["score"]) == ("graded", 3.5)
    assert attacked["right"]["manual"] is True
    assert (attacked["wrong"]["status"], attacked["wrong"]["score"]) == ("graded", 0)


def test_the_assert_stripper_earns_nothing(attacked: dict[str, Any]) -> None:
    assert attacked["stripper"]["score"] == 0


def test_what_stock_does_with_two_of_them(grader: Grader) -> None:
    """Full marks for stripped asserts; munge and the course folder within a student's reach."""
    grader.hand_in("stock", {name: ATTACKS[name] for name in ("stripper", "looker")})
    grader.stock("autograde", "stock")
    assert grader.stored("stripper", "stock") == 2
    said = grader.autograded("looker", "stock")
    assert "munge True" in said
    assert "/nfs/courses/grd" in said
    grader.hand_in("stock", {"killer": {"answer": "import os\nos.kill(os.getppid(), 9)"}})
    # a student's code ends the whole of stock's run
    assert grader.stock("autograde", "stock", "--student=killer", expect=None).returncode != 0
    ours = grader.grade("stock", "--student", "stripper", "--again")
    assert ours["by"]["stripper"]["score"] == 0, "and nothing of stock's score is left"


def test_what_ends_the_kernel_is_failed_and_stops_nobody(
    grader: Grader, attacked: dict[str, Any]
) -> None:
    assert attacked["quitter"]["status"] == "failed"
    assert "died" in attacked["quitter"]["reason"]
    assert attacked["quitter"]["score"] == 0
    assert attacked["endless"]["status"] == "failed"
    assert attacked["endless"]["reason"], "it is told why"
    assert attacked["looper"]["score"] == 0
    assert "not done after 8 s" in grader.autograded("looper", "attacks")
    assert attacked["endless"]["score"] == 0
    assert set(attacked) == set(ATTACKS)
    assert attacked["bomber"]["score"] in (0, 3.5)
    assert attacked["hog"]["score"] == 0
    assert "MemoryError" in grader.autograded("hog", "attacks")


def test_a_forged_result_earns_nothing(grader: Grader, attacked: dict[str, Any]) -> None:
    assert (attacked["forger"]["status"], attacked["forger"]["score"]) == ("graded", 0)
    assert "wrote True" in grader.autograded("forger", "attacks"), "its own folder, and no other"
    # what a grading account writes in the place of another's result is not looked for there
    assert set(attacked) == set(ATTACKS)


def test_another_students_notebook_and_the_gradebook_are_out_of_reach(
    attacked: dict[str, Any],
) -> None:
    for who in ("thief", "cracker"):
        assert (attacked[who]["status"], attacked[who]["score"]) == ("graded", 0)


def test_a_notebook_does_not_say_what_its_cells_are(
    grader: Grader, attacked: dict[str, Any]
) -> None:
    """No points for what is to be graded by hand, and nothing of it taken for the instructor's."""
    told = attacked["relabeller"]
    assert (told["status"], told["score"], told["manual"]) == ("graded", 0, True)
    assert "<script" not in grader.autograded("relabeller", "attacks")


def test_the_tests_and_their_numbers_do_not_lie_about(
    grader: Grader, attacked: dict[str, Any]
) -> None:
    assert (attacked["reader"]["status"], attacked["reader"]["score"]) == ("graded", 0)
    assert "number False" in grader.autograded("reader", "attacks")


def test_what_is_no_notebook_fails_and_says_so(attacked: dict[str, Any]) -> None:
    for who, why in (("empty", "hw.ipynb is no notebook"), ("absent", "was not handed in")):
        assert (attacked[who]["status"], attacked[who]["score"]) == ("failed", 0)
        assert why in attacked[who]["reason"], attacked[who]


def test_points_by_hand_are_not_a_later_submissions(grader: Grader) -> None:
    """They stay when the same is graded anew; of an earlier one there is a remark."""
    by_hand = {"answer": GOOD, "plot": "pass"}
    grader.hand_in("by-hand", {"ada": by_hand})
    assert grader.grade("by-hand")["by"]["ada"]["score"] == 3.5
    grader.as_grader(PYTHON, "-c", BY_HAND, grader.root, "by-hand", "ada")
    assert grader.stored("ada", "by-hand") == 11.5
    same = grader.grade("by-hand", "--student", "ada", "--again")["by"]["ada"]
    assert same["score"] == 11.5
    grader.hand_in("by-hand", {"ada": {**by_hand, "at": 30}})
    later = grader.grade("by-hand")["by"]["ada"]
    assert (later["score"], later["manual"]) == (3.5, True)
    said = grader.as_grader(PYTHON, "-c", REMARK, grader.root, "by-hand", "ada").stdout
    assert said.strip() == "An earlier submission had 8 points by hand. No axes."


def test_processes_are_counted(grader: Grader, attacked: dict[str, Any]) -> None:
    """A hundred of them, where 64 are allowed; the kernel has some of these."""
    assert attacked["forker"]["score"] == 3.5
    said = re.search(r"forked (\d+)", grader.autograded("forker", "attacks"))
    assert said and 0 < int(said[1]) < 64, said


def test_nothing_is_reached_from_grading(grader: Grader, attacked: dict[str, Any]) -> None:
    assert attacked["looker"]["score"] == 3.5
    said = grader.autograded("looker", "attacks")
    for line in (
        "network False False False",
        "munge False",
        "processes True",
        "homes [] courses []",
        "kept False False",
    ):
        assert line in said, said


def test_no_process_and_no_file_is_left(
    lab: Any, grader: Grader, run_on: Any, attacked: dict[str, Any]
) -> None:
    look = ["sh", "-c", "pgrep -u gradebox-grd-01,gradebox-grd-02; find /tmp /dev/shm /var/tmp "
            "-user gradebox-grd-01 -o -user gradebox-grd-02"]  # fmt: skip
    for node in lab.nodes:
        # the epilog clears up when the last job has ended
        until(lambda node=node: run_on(node.name, look).stdout, 60, wanted=lambda left: left == "")
    staged = run_on("login", ["find", "/nfs/courses/.grading", "-mindepth", "2"]).stdout
    assert staged == ""


def test_nothing_of_a_students_runs_in_a_browser(grader: Grader, attacked: dict[str, Any]) -> None:
    said = grader.autograded("writer", "attacks")
    assert attacked["writer"]["score"] == 3.5
    assert "<b>x</b>" in said
    cells = json.loads(said)["cells"]
    shown = json.dumps([cell.get("outputs") for cell in cells])
    assert "<script" not in shown
    assert "onerror" not in shown
    assert "javascript" not in shown
    essay = "".join(cells[-1]["source"])
    assert essay.startswith("```"), essay


def test_a_grading_account_has_no_network_and_no_other_slots_files(
    run_on: Any, grader: Grader
) -> None:
    code = "import socket; socket.create_connection(('login', 22), 5)"
    box = ["runuser", "-u", "gradebox-grd-01", "--"]
    refused = run_on("node01", [*box, "python3", "-c", code])
    assert refused.returncode == 1
    assert "refused" in refused.stderr, refused.stderr
    for path in (
        "/nfs/courses/.grading/gradebox-grd-02",
        "/nfs/courses/grd",
        "/nfs/courses/.grading",
    ):
        assert run_on("node01", [*box, "ls", path]).returncode != 0


def test_a_neighbour_is_neither_read_nor_killed(roomy: Grader, run_on: Any) -> None:
    """From inside a box, and from a box's account that got out of it."""
    grader = roomy
    grader.hand_in("neighbours", NEIGHBOURS)
    look = ["squeue", "--noheader", "--user=gradebox-grd-02", "--states=R", "--format=%N"]
    with ThreadPoolExecutor() as pool:
        grading = pool.submit(grader.grade, "neighbours")
        node = until(lambda: grading.done() or run_on("login", look).stdout.strip(), 120)
        assert node is not True, grading.result()
        said = run_on(node, ["bash", "-c", AGAINST]).stdout
        found = grading.result()["by"]
    assert said == "seen\n", said
    assert {one["score"] for one in found.values()} == {3.5}, found
    assert "kept False False" in grader.autograded("c", "neighbours"), "of what a left"
    assert "spied False [] [] []" in grader.autograded("e", "neighbours")


def test_again_only_what_is_new(grader: Grader, attacked: dict[str, Any]) -> None:
    before = grader.autograded("right", "attacks")
    again = grader.grade("attacks")
    assert again["graded"] == []
    assert again["skipped"] == len(ATTACKS)
    assert grader.autograded("right", "attacks") == before
    grader.hand_in("attacks", {"wrong": {"answer": GOOD}})
    changed = grader.grade("attacks")
    assert list(changed["by"]) == ["wrong"]
    assert changed["by"]["wrong"]["score"] == 3.5
    one = grader.grade("attacks", "--student", "right", "--again")
    assert one["by"]["right"]["score"] == 3.5


def test_killed_in_the_middle_and_run_again(roomy: Grader, run_on: Any) -> None:
    grader = roomy
    slow = "import time\ntime.sleep(5)\n" + GOOD
    grader.hand_in("slow", {name: {"answer": slow} for name in ("s1", "s2", "s3", "s4")})
    start = "nohup practicum course grade grd slow >/dev/null 2>&1 & echo $!"
    run_on("login", ["bash", "-c", start], user="ines")
    state = ["cat", "/nfs/courses/grd/grading/assignments/slow/progress"]
    until(
        lambda: run_on("login", state).stdout.replace('"running": true', ""),
        120,
        wanted=lambda text: 'running"' in text,
    )
    run_on("login", ["pkill", "-KILL", "-u", "grader-grd", "-f", "coursework.act"])
    status = [PRACTICUM, "-I", "-m", "coursework.act", "grade", "grd", "slow", "--status"]
    told = json.loads(grader.as_grader(*status).stdout)["progress"]
    assert (told["running"], told["error"]) == (False, "it was ended before it was done")
    found = grader.grade("slow")
    assert {one["status"] for one in found["graded"]} == {"graded"}
    total = found["skipped"] + len(found["graded"])
    assert total == 4
    queue = run_on("login", ["squeue", "--noheader", "--name=grading"]).stdout
    assert queue == "" or "CG" in queue, queue


def test_a_job_that_a_killed_run_left_ends_before_anything_is_graded(
    grader: Grader, run_on: Any
) -> None:
    """As when it was killed before it knew the job's number."""
    sbatch = ["sudo", "-n", "-u", "gradebox-grd-01", "/usr/bin/sbatch", "--parsable", "--chdir=/",
              "--account=grd", "--output=/dev/null", "--time=5"]  # fmt: skip
    orphan = grader.as_grader(*sbatch, input="#!/bin/sh\nsleep 300\n").stdout.strip()
    assert grader.grade("slow", "--student", "s1", "--again")["by"]["s1"]["score"] == 3.5
    shown = ["sacct", "-n", "-X", "-P", "-j", orphan, "--format=State"]
    assert run_on("login", shown).stdout.startswith("CANCELLED")


# In the course's settings, which a run reads before it sends anything.
HOLD = """import time
from pathlib import Path
Path("{root}/held").touch()
while not Path("{root}/go").exists():
    time.sleep(0.1)
"""


def test_an_sbatch_that_outlives_its_run_keeps_the_next_one_out(roomy: Grader, run_on: Any) -> None:
    """The run is killed while Slurm, which stands still, has not answered it yet."""
    grader, root = roomy, roomy.root
    settings = f"{root}/nbgrader_config.py"
    words = "practicum course grade grd slow --student s1 --again"
    grader.as_grader("tee", settings, input=HOLD.format(root=root))
    run_on("login", ["bash", "-c", f"nohup {words} >/dev/null 2>&1 &"], user="ines")
    # sbatch stands still too: it would give up after ten seconds
    still = f"""until [ -e {root}/held ]; do sleep 0.05; done
        systemctl kill -s STOP slurmctld
        touch {root}/go
        until pkill -STOP -x sbatch; do sleep 0.05; done
        pkill -KILL -u grader-grd -f coursework.act"""
    try:
        assert run_on("login", ["timeout", "60", "bash", "-c", still]).returncode == 0
        refused = run_on("login", words.split(), user="ines")
        assert refused.returncode == 1 and "is being graded already" in refused.stderr
    finally:
        run_on("login", ["systemctl", "kill", "-s", "CONT", "slurmctld"])
        run_on("login", ["pkill", "-CONT", "sbatch|sudo"])  # sudo stands still with its command
        run_on("login", ["rm", "-f", settings, f"{root}/held", f"{root}/go"])
    over = "while pgrep -x sbatch; do sleep 0.1; done"
    assert run_on("login", ["timeout", "60", "bash", "-c", over]).returncode == 0
    assert grader.grade("slow", "--student", "s1", "--again")["by"]["s1"]["score"] == 3.5


def test_marks_from_the_accounting(grader: Grader, run_on: Any) -> None:
    """ada worked, ben slept under the right name: the name earns nothing."""
    grader.hand_in("jobs", {"ada": {"answer": GOOD}, "ben": {"answer": GOOD}})
    for who, script in (("ada", WORK), ("ben", SLEEP)):
        run_on("login", ["bash", "-c", "cat > first.sh"], user=who, input=script)
        done = run_on("login", ["sbatch", "--wait", "first.sh"], user=who, timeout=120)
        assert done.returncode == 0, done.stderr
        # the script is edited after the job: Slurm kept what ran
        run_on("login", ["bash", "-c", "echo '#' > first.sh"], user=who)
    found = grader.grade("jobs")["by"]
    assert found["ada"]["score"] == 7.5, grader.autograded("ada", "jobs")
    assert found["ben"]["score"] == 3.5, grader.autograded("ben", "jobs")
    assert "sleep" in grader.autograded("ben", "jobs")
    assert "a name in the script" in grader.autograded("ada", "jobs")
    # a deadline that has changed since: her job was too late
    assert grader.grade("jobs")["graded"] == []
    grader.course.teach("due", "grd", "jobs", "2020-01-01T00:00")
    assert grader.grade("jobs")["by"]["ada"]["score"] == 3.5
