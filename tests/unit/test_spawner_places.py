"""Where sessions run, what is free there, and what the keeper ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spawner_hub import job

from cluster.model import Profile
from cluster.slurm_text import JobState
from spawners import amounts, login, words
from spawners.commands import Done
from spawners.errors import SessionError
from spawners.keeper import Orphans, is_idle, working
from spawners.login import Login, Units, read_units, unit_of, view_of
from spawners.options import OptionError, choose
from spawners.places import Slurm, as_user, number_of
from spawners.supply import Crowd, Picture, Room, Supply, read_rooms, sentence, used_cores
from spawners.watcher import Kind, crowds_of

SMALL = Profile(name="small", title="Small", partition="notebook", cpus=2, memory_mb=300)
HERE = Profile(name="here", title="Here", login=True, cpus=1, memory_mb=600)


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "number"),
    [("17\n", "17"), ("17;blue\n", "17"), ("a warning\n17\n", "17"), ("", ""), ("0\n", ""),
     ("17a\n", ""), ("-3\n", ""), ("١٧\n", ""), ("17 18\n", ""), ("9" * 11, "")],
)  # fmt: skip
def test_the_number_that_sbatch_prints(out: str, number: str) -> None:
    assert number_of(out) == number


@given(st.text())
def test_whatever_sbatch_prints_only_a_number_is_taken(out: str) -> None:
    number = number_of(out)
    assert number == "" or (number.isascii() and number.isdecimal() and int(number) > 0)


@pytest.mark.parametrize("name", ["#0", "-u", "root ", "", "a\nb", "Ada", "%wheel"])
def test_sudo_gets_plain_names_only(name: str) -> None:
    with pytest.raises(SessionError, match="no account's name"):
        as_user("sudo", name, "id")


@given(st.text())
def test_a_unit_has_a_plain_name(number: str) -> None:
    try:
        unit = unit_of(number)
    except ValueError:
        return
    assert unit.startswith(login.LOGIN_PREFIX) and not set(unit) & set(" \n/;$*?[")


# --- units --------------------------------------------------------------------------------------

SHOWN = """Result=success
ExecMainStartTimestamp=@1795267024
ExecMainCode=0
ExecMainStatus=0
Id=practicum-login-here@3000.service
ActiveState=active

Result=oom-kill
ExecMainStartTimestamp=@1795267027
ExecMainCode=2
ExecMainStatus=9
Id=practicum-login-here@3001.service
ActiveState=failed
"""


def test_what_systemd_shows() -> None:
    units = read_units(SHOWN)
    runs = view_of(units["practicum-login-here@3000.service"], "login", 3000, 7200)
    assert (runs.kind, runs.node, runs.ends) == (Kind.RUNNING, "login", 1795267024 + 7200)
    died = view_of(units["practicum-login-here@3001.service"], "login", 3001, 7200)
    assert died.kind is Kind.GONE
    assert "more memory than its profile allows" in words.ending(died.state, died.record)
    assert view_of(None, "login", 3002, None).kind is Kind.GONE
    assert read_units("") == {}


@given(st.text())
def test_strange_answers_of_systemd_are_refused(text: str) -> None:
    try:
        read_units(text)
    except ValueError:
        return
    assert not text.strip() or "=" in text


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A systemd that shows ``SHOWN`` and starts nothing; what it was asked to."""
    asked: list[str] = []

    async def command(argv: list[str]) -> Done:
        asked.append(" ".join(argv))
        return Done(0, SHOWN, "") if "show" in argv else Done(1, "", "Job failed.")

    async def shared() -> Units:
        return Units(command=command)

    units = Units(command=command)
    monkeypatch.setattr(Units, "shared", classmethod(lambda _cls: units))
    monkeypatch.setattr("spawners.login._run", command)
    return asked


async def test_one_session_for_each_person(
    systemd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Account:
        pw_uid = 3000

    monkeypatch.setattr("pwd.getpwnam", lambda _name: Account)
    place = Login("login", "here", 7200)
    with pytest.raises(SessionError, match="already: stop it first"):
        await place.submit("ada", "")
    assert not [line for line in systemd if " start " in line]


async def test_what_failed_is_cleared_once_it_has_been_read(systemd: list[str]) -> None:
    command = Units.shared()._command
    place = Login("login", "here", sudo="sudo", systemctl="systemctl", command=command)
    await place.forget("login:here@3000")  # it runs
    assert not [line for line in systemd if "reset-failed" in line]
    await place.forget("login:here@3001")
    assert systemd[-1] == "sudo -n systemctl reset-failed practicum-login-here@3001.service"


async def test_a_controller_that_restarts_gets_the_job_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where nothing has been sent is it sent again."""
    monkeypatch.setattr("spawners.places.PAUSE", 0.05)
    sudo = tmp_path / "sudo"
    away = "sbatch: error: Batch job submission failed: Unable to contact slurm controller"
    for said, sent in ((f"{away} (connect failure)", 3), (f"{away} (Socket timed out)", 1)):
        count = tmp_path / str(sent)
        sudo.write_text(
            f"#!/bin/sh\necho >> {count}\n"
            f"[ $(wc -l < {count}) -ge 3 ] && {{ echo 17; exit 0; }}\n"
            f"echo '{said}' >&2; exit 1\n"
        )
        sudo.chmod(0o755)
        place = Slurm(sudo=str(sudo))
        if sent == 1:
            with pytest.raises(SessionError, match="Socket timed out"):
                await place.submit("ada", "")
        else:
            assert await place.submit("ada", "") == "17"
        assert len(count.read_text().splitlines()) == sent


async def test_silence_of_systemd_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def command(_argv: list[str]) -> Done:
        return Done(1, "", "Failed to connect to bus")

    units = Units(command=command)
    monkeypatch.setattr(Units, "shared", classmethod(lambda _cls: units))
    view = await Login("login", "here").view("login:here@3000", submitted=0, max_age=5)
    assert view.kind is Kind.UNKNOWN and "bus" in view.error


# --- what is free -------------------------------------------------------------------------------


def line(node: str, partition: str, state: str, cpus: str, memory: str, used: str) -> str:
    return f"{node:<64}{partition:<64}{state:<32}{cpus:<32}{memory:<16}{used:<16}\n"


def test_nodes_as_sinfo_tells_them() -> None:
    rows = read_rooms(
        line("node01", "batch*", "mixed", "1/3/0/4", "4000", "500")
        + line("node02", "batch*", "down*", "0/0/4/4", "4000", "0")
    )
    assert rows[0] == Room("node01", "batch", True, 4, 4000, 500)
    assert not rows[1].usable
    for bad in ("cut\n", line("node01", "batch", "mixed", "4", "4000", "0"),
                line("node01", "batch", "odd", "0/4/0/4", "4000", "0"),
                line("node01", "batch", "idle", "0/4/0/4", "much", "0")):  # fmt: skip
        with pytest.raises(ValueError, match="is not"):
            read_rooms(bad)


@given(st.text())
def test_strange_answers_of_sinfo_are_refused(text: str) -> None:
    try:
        rows = read_rooms(text)
    except ValueError:
        return
    assert all(row.node and row.cpus >= 0 for row in rows)


def picture(jobs: list[Any]) -> Picture:
    rooms = tuple(Room(f"node0{n}", "notebook", n < 3, 4, 1000, 100 * n) for n in (1, 2, 3))
    return Picture(
        rooms={"notebook": rooms},
        used=used_cores(jobs),
        crowds=crowds_of(jobs),
        shares={"notebook": 2},
        made=1000,
    )


def test_places_are_what_fits_on_one_node() -> None:
    empty = picture([])
    assert empty.of(SMALL) == Supply(3 + 2, 2, 3, 16, 900 + 800)  # 300 MB each
    assert (
        "Starts at once: 16 cores and 1.7 GB on 2 of 3 nodes" in empty.sentences([SMALL])["small"]
    )
    full = picture([job(1, cpus=8), job(2, cpus=8, nodes=("node02",), started=1000, time_limit=90),
                    job(3, JobState.PENDING)])  # fmt: skip
    assert full.of(SMALL).places == 0
    assert full.sentences([SMALL])["small"].startswith("Full now; the first job ends by ")
    assert full.sentences([SMALL])["small"].endswith("1 waiting")


def test_what_cannot_be_told_is_said() -> None:
    told = Picture(error="sinfo failed").sentences([SMALL, HERE])
    assert "cannot be told" in told["small"] and "login node" in told["here"]
    assert "No node" in sentence(Supply(0, 0, 3, 0, 0, Crowd()), 0)


@given(st.integers(0, 10**6), st.integers(0, 100), st.integers(0, 10**6), st.integers(0, 2000))
def test_the_sentence_is_short(places: int, nodes: int, memory: int, waiting: int) -> None:
    supply = Supply(places, nodes, 100, 64, memory, Crowd(1, 1, waiting, 10**9))
    assert 0 < len(sentence(supply, 10**9 - 5)) < 120


# --- choices ------------------------------------------------------------------------------------


def test_the_login_node_is_had_as_it_is() -> None:
    assert choose({"profile": "here"}, [SMALL, HERE]).profile is HERE
    with pytest.raises(OptionError, match="On the login node memory cannot be chosen"):
        choose({"profile": "here", "memory": 100}, [SMALL, HERE])


def test_a_kernel_is_one_of_those_that_there_are() -> None:
    assert choose({"kernel": "python3"}, [SMALL], ["python3"]).kernel == "python3"
    for bad in ("r", "", "--x", ["python3"], 3):
        with pytest.raises(OptionError, match="There is no kernel"):
            choose({"kernel": bad}, [SMALL], ["python3"])


# --- the keeper ---------------------------------------------------------------------------------


def test_an_orphan_is_due_after_its_grace() -> None:
    mine: dict[str, Any] = {"comment": "root/"}
    jobs = [
        job(1, **mine),
        job(2, **mine),
        job(3, comment="ben/"),  # another's comment: not the hub's
        job(4, name="my-own", **mine),
        job(5, JobState.COMPLETED, **mine),
    ]
    orphans = Orphans(grace=60)
    assert orphans.due(jobs, {"2"}, 100) == []
    assert orphans.due(jobs, {"2"}, 159) == []
    assert [one.job_id for one in orphans.due(jobs, {"2"}, 160)] == [1]


def test_a_job_that_was_known_meanwhile_starts_anew() -> None:
    jobs, orphans = [job(1, comment="root/")], Orphans(grace=60)
    assert orphans.due(jobs, set(), 0) == []
    assert orphans.due(jobs, {"1"}, 50) == []
    assert orphans.due(jobs, set(), 70) == []


def test_idle_is_without_activity_for_long() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    old, fresh = now - timedelta(hours=3), now - timedelta(minutes=5)
    assert is_idle(old, old, 120, now)
    assert is_idle(old.replace(tzinfo=None), None, 120, now)  # as the database has it
    assert not is_idle(old, fresh, 120, now)  # just started
    assert not is_idle(fresh, old, 120, now)
    assert not is_idle(old, old, 0, now)
    assert not is_idle(None, None, 120, now)


def test_who_has_jobs_is_at_work() -> None:
    jobs = [job(1), job(2, JobState.PENDING, name="mpi", user="ada"),
            job(3, JobState.COMPLETED, name="mpi", user="ben")]  # fmt: skip
    assert working(jobs) == {"ada"}


def test_the_wait_names_the_first_end() -> None:
    waits = job(9, JobState.PENDING, reason="Resources")
    told = words.waiting(waits, 2, 1000, cpus=8, first_end=1600)
    assert "8 cores of partition notebook in use, the first job there ends by " in told
    assert told.endswith("; place 2 in the queue")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(14400, "4 hours"), (3600, "1 hour"), (5400, "90 minutes"), (60, "1 minute"),
     (129600, "1 day 12 hours"), (172800, "2 days")],
)  # fmt: skip
def test_lengths_of_time(seconds: int, told: str) -> None:
    assert amounts.length(seconds) == told
