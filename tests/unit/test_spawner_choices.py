"""Modules, limits, and a choice made again: what may enter them, and what is said of them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.checks.scheduling import profiles as profile_problems
from cluster.model import Cluster, Profile
from cluster.scheduling import Qos
from provisioning.roles import slurm_accounting
from spawners import limits, modules, words
from spawners.form import form
from spawners.launch.environment import with_modules
from spawners.launch.node import LaunchError
from spawners.modules import Shelf, listed, plain
from spawners.options import KEYS, OptionError, choose, from_form, is_told, recall

SMALL = Profile(name="small", title="Small", partition="notebook", cpus=2, memory_mb=300)
LARGE = Profile(name="large", title="Large", partition="notebook", cpus=8, memory_mb=4000)
MODULES = ("gcc/12.2.0", "openmpi/4.1.4")
hostile = st.text(
    st.characters(codec="utf-8") | st.sampled_from("\n\r\0 \"'`$;&|<>\\#%(){}*?~=,:/-"), max_size=40
)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3),
    max_leaves=6,
)


# --- modules ------------------------------------------------------------------------------------


def test_modules_are_chosen_from_those_that_there_are() -> None:
    assert choose({"modules": ["gcc/12.2.0"] * 2}, [SMALL], (), MODULES).modules == ("gcc/12.2.0",)
    assert choose({"modules": []}, [SMALL]).modules == ()
    sent = from_form({"modules": list(MODULES), "profile": ["small"]})
    assert choose(sent, [SMALL], (), MODULES).modules == MODULES


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (["gcc/13"], "There is no module 'gcc/13' to start with"),
        (["gcc/12.2.0\n"], "There is no module 'gcc/12.2.0\\n'"),
        (["$(id)"], "There is no module '$(id)'"),
        ([5], "There is no module 5"),
        ([["gcc/12.2.0"]], "There is no module list"),
        ("gcc/12.2.0", "it is a list of names"),
        ({"gcc": 1}, "it is a list of names"),
        (True, "it is a list of names"),
        (["gcc/12.2.0"] * 21, "At most 20 modules can be loaded, not 21."),
    ],
)
def test_other_modules_are_refused(sent: Any, sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        choose({"modules": sent}, [SMALL], (), MODULES)
    assert sentence in str(caught.value)


@given(json_like)
def test_no_module_but_a_listed_one_gets_through(sent: Any) -> None:
    try:
        choice = choose({"modules": sent}, [SMALL], (), MODULES)
    except OptionError as error:
        assert str(error).isprintable()
        return
    assert set(choice.modules) <= set(MODULES)


@given(json_like)
def test_kept_modules_are_plain_names(sent: Any) -> None:
    for name in plain(sent):
        assert name.count("/") == 1 and not name.startswith("-")
        assert name.isascii() and name.isprintable() and not set(name) & set(" $`;&|<>'\"\\")


def test_the_folder_of_modules_is_read_with_care(tmp_path: Path) -> None:
    for path in ("gcc/12.2.0.lua", "gcc/.modulerc.lua", "gcc/$(id).lua", "gcc/README", ".git/1.lua",
                 "open mpi/1.lua", "openmpi/4.1.4.lua"):  # fmt: skip
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (tmp_path / "file").touch()
    assert listed(tmp_path) == MODULES
    assert listed(tmp_path / "nothing") == ()


async def test_a_file_server_that_is_away_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader hangs; those who ask get what was known, and there is one reader."""
    back, readers = threading.Event(), []

    def hangs(_root: Path) -> tuple[str, ...]:
        readers.append(1)
        back.wait(30)
        return MODULES

    monkeypatch.setattr(modules, "listed", hangs)
    monkeypatch.setattr(modules, "PATIENCE", 0.05)
    shelf = Shelf()
    assert await asyncio.gather(*(shelf.names(tmp_path) for _ in range(5))) == [()] * 5
    back.set()
    monkeypatch.setattr(modules, "PATIENCE", 30)
    assert await shelf.names(tmp_path) == MODULES
    assert readers == [1]


LMOD = "/usr/share/lmod/lmod/init/bash"


@pytest.mark.skipif(not os.path.exists(LMOD), reason="lmod is not installed")
def test_chosen_modules_are_in_the_sessions_environment(tmp_path: Path) -> None:
    for name, text in (("tool/1.0", 'setenv("TOOL", "a b")\nprepend_path("PATH", "/opt/tool")'),
                       ("broken/1.0", "no lua")):  # fmt: skip
        path = tmp_path / f"{name}.lua"
        path.parent.mkdir()
        path.write_text(text)
    before = {"PATH": "/usr/bin:/bin", "HOME": "/", "MODULEPATH": str(tmp_path), "KEPT": "x=y\nz"}
    after = with_modules(before, ["tool/1.0"], LMOD)
    assert after["TOOL"] == "a b" and after["PATH"].startswith("/opt/tool:")
    assert after["LOADEDMODULES"] == "tool/1.0" == after["PRACTICUM_MODULES"]
    assert after["KEPT"] == "x=y\nz"
    assert with_modules(before, [], LMOD) is before
    for missing in ("broken/1.0", "none/1.0", "$(touch owned)"):
        with pytest.raises(LaunchError, match="could not be loaded on"):
            with_modules(before, [missing], LMOD)


@pytest.mark.skipif(not os.path.exists(LMOD), reason="lmod is not installed")
def test_a_terminal_of_the_session_has_them_too(tmp_path: Path) -> None:
    """/etc/profile has set PATH anew; in another job nothing is loaded by that."""
    from spawners import role

    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "1.0.lua").write_text('prepend_path("PATH", "/opt/tool")')
    text = f'. {LMOD}\nPATH=/usr/bin:/bin\n{role.content("profile.sh")}\nprintf %s "$PATH"'
    env = {"PATH": "/usr/bin:/bin", "MODULEPATH": str(tmp_path), "PRACTICUM_JOB_ID": "7",
           "PRACTICUM_MODULES": "tool/1.0"}  # fmt: skip
    for number, there in (("7", True), ("8", False)):
        done = subprocess.run(["/bin/bash", "--norc", "-c", text],
                              env={**env, "SLURM_JOB_ID": number}, capture_output=True, check=True)  # fmt: skip
        assert ("/opt/tool" in done.stdout.decode()) is there, done.stderr


# --- the last choice, again ---------------------------------------------------------------------


def test_what_is_gone_is_left_out_of_the_last_choice() -> None:
    last = {"profile": "large", "cpus": 4, "kernel": "gone", "modules": ["gone/1"]}
    assert recall(last, [SMALL, LARGE], ["python3"], MODULES).cpus == 4
    assert recall(last, [SMALL], ["python3"], MODULES) == choose({}, [SMALL])
    with pytest.raises(OptionError, match="no profile for you"):
        recall(last, [])


@given(st.dictionaries(st.sampled_from(KEYS) | hostile, json_like, max_size=5))
def test_whatever_was_kept_something_can_be_had(last: dict[str, Any]) -> None:
    choice = recall(last, [SMALL, LARGE], ["python3"], MODULES)
    assert choice.profile in (SMALL, LARGE)
    assert 1 <= choice.cpus <= choice.profile.cpus


@pytest.mark.parametrize(
    ("body", "told"),
    [(b"", False), (b" \n", False), (b"{}", False), (b"null", False), (b'{"profile": "a"}', True),
     (b'{"display_name": "x"}', False), (b'{"display_name": "x", "user_options": {}}', True),
     (b'{"user_options": null}', False), (b"[1]", True), (b"profile=small", True),
     (b"\xff\xfe", True), (b"[" * 100_000, True)],
)  # fmt: skip
def test_whether_a_start_was_told_anything(body: bytes, told: bool) -> None:
    assert is_told(body) is told


# --- the form -----------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(KEYS), json_like, max_size=6))
def test_nothing_that_was_kept_breaks_out_of_the_form(last: dict[str, Any]) -> None:
    from html.parser import HTMLParser

    allowed = {"fieldset", "legend", "label", "input", "span", "strong", "small", "details",
               "summary", "p", "div", "select", "option"}  # fmt: skip

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag in allowed
            assert not [name for name, _ in attrs if name.startswith("on")]

    Tags().feed(form([SMALL, LARGE], last, {}, [("python3", "Python")], MODULES, "One <p>erson"))


def test_the_form_offers_modules_and_tells_the_limits() -> None:
    text = form([SMALL], {"profile": "small", "modules": ["gcc/12.2.0"]}, {}, (), MODULES, "Two.")
    assert 'value="gcc/12.2.0" checked' in text and 'value="openmpi/4.1.4">' in text
    assert '<details class="practicum-advanced" open>' in text  # what was chosen is seen
    assert '<p class="practicum-limits">Two.</p>' in text


# --- limits -------------------------------------------------------------------------------------

NOTEBOOK = {"name": "notebook", "max_cpus_per_user": 4, "max_memory_mb_per_user": 2048,
            "max_jobs_per_user": 2}  # fmt: skip


def cluster(declared: list[dict[str, Any]], **partition: Any) -> Cluster:
    part = {"name": "notebook", "nodes": "ALL", "default": True, **partition}
    return Cluster.model_validate(
        {
            "cluster": {"name": "unit"},
            "network": {"subnet": "10.9.0.0/24"},
            "nodes": [{"name": "login", "address": "10.9.0.1", "roles": ["login", "compute"]}],
            "partitions": [part],
            "profiles": [SMALL.model_dump()],
            "qos": declared,
        }
    )


def test_what_one_person_may_have_is_on_the_start_page() -> None:
    assert limits.offer(cluster([])) == "You may have 3 sessions at a time."
    both = "You may have 3 sessions at a time, with 4 cores, 2.0 GB of memory and 2 running jobs together."
    assert limits.offer(cluster([NOTEBOOK])) == both
    assert limits.offer(cluster([{"name": "all"}, NOTEBOOK], qos="notebook")) == both
    # which of two holds depends on the person's account: no figure
    assert (
        limits.offer(cluster([{"name": "all"}, NOTEBOOK])) == "You may have 3 sessions at a time."
    )


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("QOSMaxCpuPerUserLimit", "you have all the cores that one person may have at a time (4)"),
        ("QOSMaxMemoryPerUser", "memory that one person may have at a time (2.0 GB)"),
        ("QOSMaxJobsPerUserLimit", "running jobs that one person may have at a time (2)"),
        ("QOSMaxNodePerUserLimit", "all the nodes that one person may have at a time;"),
        ("AssocMaxJobsLimit", "all the running jobs that one person"),
        ("AssocGrpCpuLimit", "your class uses all the cores"),
        ("AssocGrpCPUMinutesLimit", "computing time of your account is used up"),
        ("QOSMaxWallDurationPerJobLimit", "other time than one job may have"),
        ("AssocMaxCpuPerJobLimit", "other cores than one job may have"),
    ],
)
def test_a_limit_is_told_in_a_sentence(word: str, sentence: str) -> None:
    assert sentence in words.reason(word, Qos.model_validate(NOTEBOOK))
    assert limits.reason(word)  # also without figures


@given(st.text(max_size=60))
def test_any_other_word_is_told_as_it_is(word: str) -> None:
    said = words.reason(word)
    assert said and not [char for char in said if char < " " or char == "\x7f"]


def test_sbatchs_refusal_at_a_limit_is_told_plainly() -> None:
    said = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    plain_words = limits.refusal(
        said, cluster([{**NOTEBOOK, "max_submitted_per_user": 3}]), "notebook"
    )
    assert "4 cores, 2.0 GB of memory, 2 running jobs and 3 jobs in the queue" in plain_words
    assert "end a session or a job" in plain_words
    assert limits.refusal("Invalid account", cluster([NOTEBOOK]), "notebook") == "Invalid account"


def test_a_profile_that_nobody_could_start_is_a_problem() -> None:
    small_qos = {"name": "tight", "max_cpus_per_user": 1, "max_memory_mb_per_user": 200}
    found = [problem.text for problem in profile_problems(cluster([small_qos], qos="tight"))]
    assert len(found) == 2 and all("nobody could start it" in text for text in found)
    assert not list(profile_problems(cluster([NOTEBOOK], qos="notebook")))


def script() -> Any:
    """The script that the controller runs, as a module."""
    path = Path(slurm_accounting.__file__).parent / "files" / "accounting.py"
    spec = importlib.util.spec_from_file_location("accounting_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("cpu=4,mem=2G,node=1", 2048), ("mem=2000M", 2000), ("cpu=4", 0), ("", 0),
     ("mem=1.50G", 1536), ("mem=1T", 1024 * 1024), ("gres/mem=7", 0)],
)  # fmt: skip
def test_memory_as_sacctmgr_writes_it(text: str, megabytes: int) -> None:
    assert script().megabytes(text) == megabytes


def test_the_limits_reach_sacctmgr() -> None:
    module = script()
    wanted = json.loads(slurm_accounting.accounting(cluster([NOTEBOOK])))["qos"]["notebook"]
    (made, modified) = list(module.make_qos("notebook", wanted, None))
    assert made[:3] == ["add", "qos", "notebook"]
    assert "maxtresperuser=cpu=4,node=-1,mem=2048" in modified
    there = {**wanted, "mark": True, "deny": True}
    assert list(module.make_qos("notebook", wanted, there)) == []


def test_what_slurm_had_is_given_back_whole() -> None:
    """The QOS that Slurm has of itself is reset by every limit that can be set."""
    module = script()
    wanted = json.loads(slurm_accounting.accounting(cluster([NOTEBOOK])))["qos"]["notebook"]
    assert set(module.LIMITS) == set(wanted)
    (words,) = module.make_qos(module.NORMAL, dict.fromkeys(module.LIMITS, 0), {})
    assert "maxtresperuser=cpu=-1,node=-1,mem=-1" in words
