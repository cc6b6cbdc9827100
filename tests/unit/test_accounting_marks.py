"""Marks from recorded accounting: what is right earns, and what students may try does not."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from accounting_made import MB, array, job, step, work

from cluster.slurm_text import JobState
from coursework.accounting import Job, Resources
from coursework.clustercells import (
    MARK,
    BrokenTestError,
    is_cluster_test,
    outputs_of,
    verdict_of,
)
from coursework.clustertests import (
    Verdict,
    best,
    gate,
    judge,
    recomputed,
    seed,
    together,
)
from coursework.criteria import (
    after,
    asked,
    busy,
    completed,
    cpu_time,
    ended,
    memory_used,
    on_nodes,
    output,
    output_of,
    ran,
    reported,
    requeued,
    script_has,
    tasks,
    that,
)
from coursework.criteria import (
    array as is_array,
)

PARALLEL = job(
    requested=Resources(4, 2, 400 * MB),
    allocated=Resources(4, 2, 400 * MB),
    cpu_time=100,
    nodes=("node01", "node02"),
    steps=(step(), step("0", tasks=4, cpus=4, cpu_time=100, nodes=("node01", "node02"))),
)


def share(one: Job | tuple[Job, ...], *criteria: Any, **changes: Any) -> float:
    jobs = one if isinstance(one, tuple) else (one,)
    return best(work(*jobs, **changes), "work", *criteria).share


def test_the_right_job_has_all() -> None:
    criteria = [completed(), ran(at_least=20), busy(0.5), cpu_time(at_least=20)]
    assert share(job(), *criteria) == 1
    assert share(PARALLEL, tasks(4, each_cpu=20).needed(), on_nodes(2)) == 1


def test_half_right_has_the_expected_part() -> None:
    greedy = job(time_limit=86400)
    assert share(greedy, completed(), asked(time_limit=(60, 600), cpus=(1, 1))) == 0.75
    assert share(greedy, completed().worth(3), asked(time_limit=(60, 600))) == 0.75


def test_the_best_run_counts_and_the_name_earns_nothing() -> None:
    failed = job(9, state=JobState.FAILED, exit_code=1)
    verdict = best(work(failed, job(10), replace(failed, job_id=11)), "work", completed())
    assert verdict.share == 1
    assert verdict.run and verdict.run.job.job_id == 10
    assert "3 such runs" in verdict.text
    assert best(work(job()), "work").share == 0, "no criteria, no marks"


def test_a_sleeping_job_earns_nothing() -> None:
    slept = job(cpu_time=0, steps=(step(cpu_time=0),))
    verdict = best(
        work(slept), "work", completed(), ran(at_least=20), cpu_time(at_least=5).needed()
    )
    assert verdict.share == 0
    assert "sleep" in verdict.text


def test_a_renamed_job_earns_nothing() -> None:
    other = job(cpu_time=1, requested=Resources(1, 1, 10 * MB), steps=(step(cpu_time=1),))
    assert share(other, cpu_time(at_least=20).needed(), completed()) == 0


def test_serial_for_parallel_earns_nothing() -> None:
    serial = replace(PARALLEL, steps=tuple(step(str(n), tasks=1) for n in range(4)))
    four = tuple(replace(serial, job_id=10 + n, steps=(step("0"),)) for n in range(4))
    idle_ranks = replace(PARALLEL, steps=(step("0", tasks=4, least_cpu=0, cpu_time=100),))
    repeated = replace(PARALLEL, cpu_time=400)
    wanted = (tasks(4, each_cpu=20).needed(), cpu_time(at_most=150).needed(), completed())
    assert share(PARALLEL, *wanted) == 1
    for cheat in (serial, four, idle_ranks, repeated):
        assert share(cheat, *wanted) == 0


def test_what_a_short_steps_tasks_used_is_not_measured() -> None:
    short = replace(PARALLEL, steps=(step("0", tasks=4, least_cpu=None, elapsed=2),))
    verdict = best(work(short), "work", completed(), tasks(4, each_cpu=1))
    assert verdict.share == 1
    assert "[not measured]" in verdict.text
    assert share(short, completed(), tasks(4, each_cpu=1).needed()) == 0
    assert share(short, tasks(4).needed()) == 1


def test_a_loop_is_no_array() -> None:
    loop = tuple(job(20 + n) for n in range(6))
    assert share(array(6), is_array(6, at_once=2).needed()) == 1
    assert share(loop, is_array(6, at_once=2).needed(), completed()) == 0
    assert share(array(5), is_array(6).needed()) == 0
    assert share(array(6, together=6), is_array(6, at_once=2)) == 0.5


def test_invented_timings_earn_nothing() -> None:
    def told(value: object) -> float:
        files = {"times.json": json.dumps({"t": value}).encode()}
        criterion = reported(lambda work: (work.json("times.json") or {}).get("t")).needed()
        return share(job(), criterion, files=files)

    assert told(31) == 1
    for invented in (12.0, 300, "30", None, True, float("inf"), float("nan")):
        assert told(invented) == 0


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (job(submitted=900), "before the assignment was released"),
        (job(submitted=9500, ended=9600), "after your deadline"),
        (job(ended=None, state=JobState.RUNNING), "not over by your deadline"),
        (job(account="students"), "account 'hpc'"),
        (job(user="bob"), "none"),
        (job(name="other"), "Your jobs are named 'other'"),
    ],
)
def test_what_does_not_count_is_told_why(one: Job, why: str) -> None:
    jobs = () if one.user == "bob" or one.account != "hpc" else (one,)
    verdict = best(work(*jobs), "work", completed())
    assert verdict.share == 0
    assert why in verdict.text
    assert best(work(one), "work", completed()).share == 0


def test_a_missing_output_file_is_told_from_a_wrong_one() -> None:
    criterion = output(lambda run, work: "42" in output_of(run, work), "the answer").needed()

    def told(**files: bytes) -> tuple[float, str]:
        handed_in = {f"{name}-10.out": content for name, content in files.items()}
        verdict = best(work(job(), files=handed_in), "work", completed(), criterion)
        return verdict.share, verdict.text

    assert told(slurm=b"42\n")[0] == 1
    assert told() == (0, told(other=b"42\n")[1])
    assert "no slurm-10.out among the files handed in" in told()[1]
    share_of_wrong, said = told(slurm=b"41\n")
    assert share_of_wrong == 0
    assert "Seen: something else in slurm-10.out. Without this, no points." in said


def test_requests_are_told_as_slurm_writes_them_with_the_option_to_change() -> None:
    greedy = job(time_limit=90061)
    criterion = asked(time_limit=(60, 600), cpus=(1, 1))
    said = best(work(greedy), "work", criterion).text
    assert "a request for 1 core, a time limit of 00:01:00 to 00:10:00" in said
    assert "Seen: 1 core, a time limit of 1-01:01:01. Set by --time:" in said


def test_late_and_early_jobs_together_are_told_by_the_last() -> None:
    jobs = (job(9, submitted=900), job(10, submitted=9500, ended=9600))
    said = best(work(*jobs), "work", completed()).text
    assert (
        "2 jobs named 'work' and none counts: the last, 10, was submitted after your deadline"
        in said
    )


def test_the_script_is_the_one_that_ran() -> None:
    """Edited afterwards, a file of the student's says something else than Slurm kept."""
    edited = {"work.sh": b"#!/bin/bash\n#SBATCH --exclusive\nsrun ./work\n"}
    wanted = script_has(r"^#SBATCH --exclusive", "the node for itself")
    assert share(job(), wanted, files=edited) == 0
    kept = job(script=edited["work.sh"].decode())
    assert share(kept, wanted) == 1


def test_another_ones_answer_is_wrong() -> None:
    def answer(of: str) -> dict[str, bytes]:
        return {"result.json": json.dumps(seed(of, "first-job") % 1000).encode()}

    def mark(files: dict[str, bytes]) -> float:
        mine = work(job(), files=files)
        right = mine.json("result.json") == mine.seed % 1000
        return gate(best(mine, "work", completed()), recomputed(right, "x", "y")).share

    assert mark(answer("ada")) == 1
    assert mark(answer("bob")) == 0
    assert mark({}) == 0
    nothing = work(files=answer("ada"))
    assert gate(best(nothing, "work", completed()), recomputed(True, "x", "y")).share == 0


def test_a_copied_job_id_is_nobodys() -> None:
    mine = work(job(10), job(11, user="bob"), *array(3))
    assert mine.run(10) is not None
    assert mine.run(11) is None
    assert mine.run(999) is None
    assert mine.run(20) is mine.run(22) or mine.run(20) == mine.run(22)


def test_the_seed_is_what_the_notebooks_line_gives() -> None:
    line = int.from_bytes(hmac.digest(b"first-job", b"ada", hashlib.sha256)[:4], "big")
    assert seed("ada", "first-job") == line == work().seed
    assert seed("bob", "first-job") != line


def test_dependencies() -> None:
    compile_job = job(10, name="compile")
    line = "sbatch --dependency=afterok:10 run.sh"
    held = job(11, submit_line=line, submitted=2005, eligible=2030, started=2031, ended=2060)
    assert share((compile_job, held), after("compile")) == 1
    for other in (
        replace(held, eligible=2005),  # says so, was never held
        replace(held, submit_line="sbatch run.sh"),
        replace(held, submit_line="sbatch -d afterok:99 run.sh"),
    ):
        assert share((compile_job, other), after("compile")) == 0


def test_memory_that_was_not_measured_counts_neither_way() -> None:
    short = job(steps=(step(elapsed=3, max_rss=1),))
    verdict = best(work(short), "work", completed(), memory_used(at_most_mb=50))
    assert verdict.share == 1
    assert "[not measured]" in verdict.text
    assert share(short, completed(), memory_used(at_most_mb=50).needed()) == 0
    assert share(job(), memory_used(at_most_mb=50)) == 0
    assert share(job(), memory_used(at_least_of_request=0.4, at_most_mb=150)) == 1


def test_states_on_purpose_and_requeues() -> None:
    late = job(state=JobState.TIMEOUT)
    assert share(late, ended("TIMEOUT")) == 1
    assert share(late, completed()) == 0
    assert share(job(state=JobState.FAILED, exit_code=3), ended("FAILED", exit_code=3)) == 1
    assert share(job(state=JobState.FAILED, exit_code=1), ended("FAILED", exit_code=3)) == 0
    assert share(job(restarts=1), requeued()) == 1
    assert share(job(), requeued()) == 0
    assert share(job(), that(lambda run, _work: run.job.cpu_time > 99, "much")) == 0


def test_the_output_file_by_its_name() -> None:
    mine = work(job(), files={"slurm-10.out": b"hello", "work-10.txt": b"other"})
    (run,) = mine.runs()
    assert output_of(run, mine) == "hello"
    named = work(job(script="#SBATCH -o %x-%j.txt\n"), files=mine.files)
    assert output_of(named.runs()[0], named) == "other"


def test_verdicts_together() -> None:
    right, wrong = Verdict(1.0), Verdict(0.0)
    assert together((3, right), wrong).share == 0.75
    assert together(right, wrong).share == 0.5
    assert judge(work(job()).runs()[0], work(), []).share == 0


CODE = f"{MARK}\n### BEGIN HIDDEN TESTS\nverdict = best(work, 'work', completed(), busy(0.5))\n"


def cell(code: str, **about: Any) -> dict[str, Any]:
    nbgrader = {"grade": True, "solution": False, "grade_id": "a", "points": 4, **about}
    return {"cell_type": "code", "source": code, "metadata": {"nbgrader": nbgrader}}


def test_which_cells_are_cluster_tests() -> None:
    assert is_cluster_test(cell(CODE))
    assert is_cluster_test(cell(CODE) | {"source": CODE.splitlines(keepends=True)})
    assert not is_cluster_test(cell(CODE, grade=False)), "a student's cell cannot be one"
    assert not is_cluster_test(cell(CODE, solution=True))
    assert not is_cluster_test(cell(f"x = 1\n{CODE}"))
    assert not is_cluster_test({"cell_type": "markdown", "source": CODE, "metadata": {}})


def test_a_cell_gives_its_share_of_the_points() -> None:
    full = outputs_of(verdict_of(CODE, work(job()), where="a"), 4)
    assert [one["output_type"] for one in full] == ["stream"]
    half = outputs_of(verdict_of(CODE, work(job(cpu_time=1)), where="a"), 4)
    assert half[-1]["data"] == {"text/plain": "2.0"}
    none = outputs_of(verdict_of(CODE, work(), where="a"), 4)
    assert none[-1]["output_type"] == "error"


def test_asserts_and_broken_tests() -> None:
    assert verdict_of("assert work.jobs, 'no job'", work(), where="a").text == "[--] no job"
    for code, why in [
        ("1/0", "fails by itself"),
        ("def", "fails by itself"),
        ("x = 1", "no verdict"),
        ("verdict = Verdict(2.0)", "between 0 and 1"),
    ]:
        with pytest.raises(BrokenTestError, match=why):
            verdict_of(code, work(), where="a")


def test_a_test_that_never_ends_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coursework.clustercells.SECONDS", 1)
    with pytest.raises(BrokenTestError, match="more than 1 s"):
        verdict_of("while True: pass", work(), where="a")
