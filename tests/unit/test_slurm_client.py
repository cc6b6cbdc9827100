"""Reading squeue, sinfo and sacct: what Slurm prints, cut lines, and hostile job names."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import sacct, sinfo, slurm
from cluster.slurm_text import JobState, duration, host_names, moment, records

SEP = "\x1f0123456789abcdef\x1f"
RUNNING = [
    "17",
    "practicum-hub",
    "ada",
    "1001",
    "class",
    "RUNNING",
    "None",
    "notebook",
    "node[01-02]",
    "2",
    "4294",
    "1700000000",
    "1700000003",
    "1-02:03:04",
    "4:00:00",
    "(null)",
]
PENDING = [*RUNNING[:5], "PENDING", "Resources", "notebook", "", "1", "10", "1700000000", "N/A",
           "0:00", "UNLIMITED", "hub=1"]  # fmt: skip
COUNT = len(RUNNING)


def lines(*rows: list[str]) -> str:
    return "".join("".join(cell + SEP for cell in row) + "\n" for row in rows)


def test_squeue_rows() -> None:
    running, pending = slurm.read_squeue(lines(RUNNING, PENDING), SEP)
    assert running.nodes == ("node01", "node02")
    assert (running.elapsed, running.time_limit) == (93784, 14400)
    assert (running.submitted, running.started) == (1700000000, 1700000003)
    assert running.comment == ""
    assert (pending.state, pending.reason) == (JobState.PENDING, "Resources")
    assert (pending.nodes, pending.started, pending.time_limit) == ((), None, None)
    assert pending.state.waiting
    assert not running.state.waiting


def test_no_jobs() -> None:
    assert slurm.read_squeue("", SEP) == ()
    assert slurm.read_squeue("\n", SEP) == ()


@given(st.integers(1, len(lines(RUNNING, PENDING)) - 1))
def test_a_cut_output_is_never_taken_for_a_shorter_queue(length: int) -> None:
    text = lines(RUNNING, PENDING)
    if length == len(lines(RUNNING)):
        return
    with pytest.raises(ValueError, match="cut or malformed"):
        slurm.read_squeue(text[:length], SEP)


@given(st.text(), st.text())
def test_a_job_cannot_forge_rows(name: str, comment: str) -> None:
    own = [*RUNNING]
    own[1], own[15] = name, comment
    forged, other = slurm.read_squeue(lines(own, PENDING), SEP)
    assert forged.name == name
    assert forged.comment == ("" if comment == "(null)" else comment)
    assert other.name == PENDING[1]


def test_forged_row_in_a_name() -> None:
    other = slurm.new_separator()
    own = [*RUNNING]
    own[1] = lines(RUNNING).replace(SEP, other)
    assert len(slurm.read_squeue(lines(own), SEP)) == 1


@given(st.lists(st.lists(st.text(), min_size=3, max_size=3)))
def test_records_round_trip(rows: list[list[str]]) -> None:
    assert list(records(lines(*rows), SEP, 3)) == rows


@pytest.mark.parametrize("field, bad", [(0, "x"), (0, "-1"), (5, "WALKING"), (9, ""), (11, "now"),
                                        (13, "soon"), (8, "node[2-1]")])  # fmt: skip
def test_strange_words_are_refused(field: int, bad: str) -> None:
    row = [*RUNNING]
    row[field] = bad
    with pytest.raises(ValueError, match="not"):
        slurm.read_squeue(lines(row), SEP)


def test_every_state_is_waiting_running_or_over() -> None:
    rest = {state for state in JobState if not state.waiting and not state.over}
    assert {str(state) for state in rest} == {
        "RUNNING", "RESIZING", "SIGNALING", "STOPPED", "SUSPENDED",
    }  # fmt: skip
    assert not {state for state in JobState if state.waiting and state.over}


@pytest.mark.parametrize(
    "text, value",
    [("0:00", 0), ("1:02", 62), ("04:00:00", 14400), ("2-00:00:01", 172801), ("00:01.250", 1),
     ("UNLIMITED", None), ("NOT_SET", None), ("", None)],
)  # fmt: skip
def test_duration(text: str, value: int | None) -> None:
    assert duration(text) == value


def test_moment_and_hosts() -> None:
    assert moment("Unknown") is None
    assert moment("12") == 12
    with pytest.raises(ValueError):
        moment("2026-11-21T09:00:00")  # SLURM_TIME_FORMAT was not obeyed: never guess a zone
    assert host_names("None assigned") == ()


def test_sinfo() -> None:
    rows = [
        ["node01", "notebook", "mixed", "4", "1/3/0/4", "4000", "3500", "0.12", "none"],
        ["node02", "notebook", "down*", "4", "0/0/4/4", "4000", "N/A", "N/A", "Not responding"],
    ]
    up, down = sinfo.read_sinfo(lines(*rows), SEP)
    assert (up.state, up.responding, up.cpus_allocated, up.reason) == ("mixed", True, 1, "")
    assert up.state.usable
    assert (down.state, down.responding, down.load) == ("down", False, None)
    assert down.reason == "Not responding"
    assert not down.state.usable
    with pytest.raises(ValueError, match="node state"):
        sinfo.read_sinfo(lines([*rows[0][:2], "asleep", *rows[0][3:]]), SEP)
    with pytest.raises(ValueError, match="allocated/idle"):
        sinfo.read_sinfo(lines([*rows[0][:4], "4", *rows[0][5:]]), SEP)


def test_sacct() -> None:
    job = "17 work ada class batch COMPLETED 0:0 1700000000 1700000001 1700000061 60".split()
    job += ["01:02.500", "2", "node01", "", "240", ""]
    step = [*job]
    step[0], step[5], step[6], step[14], step[15] = "17.0", "OUT_OF_MEMORY", "0:125", "1.50M", ""
    killed = [*job]
    killed[5], killed[9], killed[6] = "CANCELLED by 1001", "Unknown", "0:15"
    first, second, third = sacct.read_sacct(lines(job, step, killed), SEP)
    assert (first.cpu_time, first.elapsed, first.time_limit) == (62, 60, 14400)
    assert (second.step, second.max_rss, second.signal) == ("0", 1572864, 125)
    assert (third.state, third.cancelled_by, third.ended) == ("CANCELLED", 1001, None)
    with pytest.raises(ValueError, match="exit code"):
        sacct.read_sacct(lines([*job[:6], "0", *job[7:]]), SEP)


def test_queries_ask_for_what_they_read() -> None:
    query = slurm.squeue_query(name="hub", job_ids=[9, 3])
    layout = next(word for word in query.argv if word.startswith("--format="))
    assert layout.count("%") == COUNT
    assert {"--name=hub", "--jobs=3,9"} <= set(query.argv)
    assert query.argv != slurm.squeue_query(name="hub", job_ids=[9, 3]).argv  # fresh separator
    assert "HOME" not in query.env


def fake(code: str) -> slurm.Query[slurm.Job]:
    return slurm.Query((sys.executable, "-c", code), {}, lambda text: slurm.read_squeue(text, SEP))


def test_run_says_what_went_wrong() -> None:
    with pytest.raises(slurm.SlurmError, match="is not installed here"):
        slurm.run(slurm.Query(("/nonexistent/squeue",), {}, lambda _: ()))
    with pytest.raises(slurm.SlurmError, match=r"did not answer within 0\.1 s"):
        slurm.run(fake("import time; time.sleep(9)"), timeout=0.1)
    with pytest.raises(slurm.SlurmError, match="failed: slurm_load_jobs error"):
        slurm.run(fake("import sys; sys.exit('x\\nslurm_load_jobs error')"))
    with pytest.raises(slurm.SlurmError, match="cannot be read: cut or malformed"):
        slurm.run(fake("print('half')"))
