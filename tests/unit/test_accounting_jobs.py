"""sacct's rows as jobs with steps; what is derived from them; snapshots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from accounting_made import MB, WINDOW, array, job, step, work
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PracticumError
from cluster.slurm import SlurmError
from cluster.slurm_text import JobState
from coursework import snapshot
from coursework.accounting import (
    Resources,
    Window,
    at_once,
    jobs_query,
    memory,
    read_jobs,
    read_script,
    resources,
    tasks_of,
    waited_for,
)
from coursework.sbatch_options import line_options, script_options

SEP = "\x1fabc\x1f"
FIELDS = dict(
    JobID="12", JobIDRaw="12", JobName="work", User="ada", Account="hpc", Partition="batch",
    State="COMPLETED", ExitCode="0:0", Submit="1990", Eligible="1990", Start="2000", End="2030",
    ElapsedRaw="30", TimelimitRaw="2", ReqTRES="billing=2,cpu=2,mem=500M,node=1",
    AllocTRES="billing=2,cpu=2,mem=500M,node=1", AllocCPUS="2", NTasks="", NodeList="node01",
    TotalCPU="00:50.250", MinCPU="", MaxRSS="", SubmitLine="sbatch work.sh", WorkDir="/home/ada",
)  # fmt: skip


def rows(*changes: dict[str, str]) -> str:
    return "".join(SEP.join({**FIELDS, **one}.values()) + SEP + "\n" for one in changes)


def batch(**changes: str) -> dict[str, str]:
    usual = {"JobID": "12.batch", "JobIDRaw": "12.batch", "JobName": "batch", "User": ""}
    return {**usual, "NTasks": "1", "MinCPU": "00:24", "MaxRSS": "1024K", "ReqTRES": "", **changes}


def test_a_job_with_its_steps() -> None:
    (one,) = read_jobs(rows({}, batch(), batch(JobIDRaw="12.0", NTasks="4")), SEP)
    assert one.requested == Resources(2, 1, 500 * MB)
    assert (one.time_limit, one.cpu_time, one.elapsed) == (120, 50, 30)
    assert [part.step for part in one.steps] == ["batch", "0"]
    assert one.steps[0].max_rss == MB
    assert [part.tasks for part in one.sruns] == [4]
    assert one.busy == 50 / 60


def test_array_tasks_and_those_that_never_ran() -> None:
    text = rows(
        {"JobID": "12_1", "JobIDRaw": "13"},
        {"JobID": "12_2", "JobIDRaw": "14"},
        {"JobID": "12_[3-9%2]", "JobIDRaw": "12", "State": "PENDING", "Start": "Unknown",
         "End": "Unknown", "ElapsedRaw": "0", "AllocTRES": "", "AllocCPUS": "0"},
    )  # fmt: skip
    jobs = read_jobs(text, SEP)
    assert {one.label for one in jobs} == {"12_1", "12_2", "12_?"}
    assert [len(tasks) for tasks in tasks_of(jobs)] == [3]


def test_a_requeued_job_is_one_job() -> None:
    text = rows({"State": "REQUEUED", "Submit": "1980"}, {"Submit": "2040", "Start": "2050"})
    (one,) = read_jobs(text, SEP)
    assert (one.restarts, one.submitted, one.started) == (1, 1980, 2050)


def test_cancelled_by_somebody() -> None:
    (one,) = read_jobs(rows({"State": "CANCELLED by 2001"}), SEP)
    assert one.state is JobState.CANCELLED


@given(st.text(st.characters(exclude_characters="\x1f")))
def test_a_name_cannot_forge_a_row(name: str) -> None:
    jobs = read_jobs(rows({"JobName": name, "SubmitLine": name}), SEP)
    assert [one.name for one in jobs] == [name]


@pytest.mark.parametrize("text", [rows({})[:-3], rows(batch()), rows({"ExitCode": "0"})])
def test_what_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"cut|without its job|exit code"):
        read_jobs(text, SEP)


def test_the_question_names_user_account_and_time() -> None:
    argv = jobs_query("ada", "hpc", Window(1795267024, 1795267030)).argv
    assert {"--user=ada", "--accounts=hpc", "--starttime=uts1795267024"} <= set(argv)
    early = jobs_query("ada", "hpc", Window(0, 9)).argv
    assert "--starttime=uts1000000" in early, "Slurm refuses a smaller one"


@pytest.mark.parametrize(
    ("tres", "wanted"),
    [("", Resources()), ("cpu=4,mem=1.50G,node=2", Resources(4, 2, 1536 * MB))],
)
def test_resources(tres: str, wanted: Resources) -> None:
    assert resources(tres) == wanted


def test_a_script_without_its_head() -> None:
    head = f"Batch Script for 12\n{'-' * 80}\n"
    assert read_script(f"{head}#!/bin/sh\necho\n\n") == "#!/bin/sh\necho\n"
    assert read_script(f"{head}NONE\n") == ""
    assert read_script("") == ""


def test_options_of_script_and_line() -> None:
    script = "#!/bin/bash\n#SBATCH -N 2 --time=5 # short\n#SBATCH -Jx\nsrun a\n#SBATCH --mem=9G\n"
    assert script_options(script) == {"nodes": "2", "time": "5", "job-name": "x"}
    line = "sbatch -d afterok:5:7 --parsable --exclusive --array=1-9%2 run.sh -n 99"
    assert line_options(line)["dependency"] == "afterok:5:7"
    assert line_options(line)["array"] == "1-9%2"
    assert "ntasks" not in line_options(line)
    assert job(submit_line=line, script=script).depends_on == (5, 7)


@given(st.text())
def test_any_script_has_options_or_none(text: str) -> None:
    assert isinstance(script_options(text), dict)
    assert isinstance(line_options(text), dict)


def test_memory_of_a_short_job_is_not_measured() -> None:
    assert memory(job(steps=(step(elapsed=9),))).peak is None
    assert memory(job(steps=(step(elapsed=10),))).peak == 100 * MB
    parts = (step("extern", elapsed=900, max_rss=1), step("0", elapsed=4, max_rss=900 * MB))
    assert memory(job(steps=parts)) == replace(memory(job(steps=parts)), peak=None, samples=0)


def test_how_many_ran_at_once() -> None:
    assert at_once(array(6, together=2)) == 2
    assert at_once(array(6, together=6)) == 6
    assert at_once([]) == 0


def test_a_dependency_is_what_slurm_held() -> None:
    first = job(10)
    assert waited_for(job(11, submitted=2005, eligible=2030, started=2031), first)
    assert not waited_for(job(11, submitted=2040, eligible=2040, started=2041), first), "by hand"
    assert not waited_for(job(11, submitted=2005, eligible=2005, started=2031), first), "chance"
    assert not waited_for(job(11, submitted=2005, eligible=None, started=None), first)


def test_what_counts() -> None:
    jobs = {
        "right": job(1),
        "before the release": job(2, submitted=999),
        "after the deadline": job(3, submitted=9001, ended=9050),
        "not over": job(4, ended=9001),
        "still running": job(5, ended=None),
        "of somebody else": job(6, user="bob"),
        "another account": job(7, account="students"),
        "a notebook's session": job(8, name="practicum-hub"),
    }
    counted = work(*jobs.values()).jobs
    assert [one.job_id for one in counted] == [1]
    assert replace(WINDOW, closes=9100).holds(jobs["after the deadline"]), "an extension"


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    accounting = work(job(), *array(3)).accounting
    path = tmp_path / "recorded.json"
    path.write_text(snapshot.dump(accounting))
    assert snapshot.load(path) == accounting
    path.write_text('{"user": "ada"}')
    with pytest.raises(PracticumError, match=r"recorded\.json is not recorded accounting"):
        snapshot.load(path)
    with pytest.raises(PracticumError, match="cannot be read"):
        snapshot.load(tmp_path / "none.json")


def test_a_script_that_slurm_lost_is_empty_and_one_that_it_does_not_tell_is_an_error() -> None:
    def lost(query):
        none = "Batch Script for 10\n----\nNONE\n"
        return query.read(none) if "--batch-script" in query.argv else (job(script=""),)

    assert [one.script for one in snapshot.take("ada", "hpc", WINDOW, ask=lost).jobs] == [""]

    def busy(query):
        if "--batch-script" in query.argv:
            raise SlurmError("sacct did not answer within 10 s")
        return (job(script=""),)

    with pytest.raises(SlurmError, match="did not answer"):
        snapshot.take("ada", "hpc", WINDOW, ask=busy)
