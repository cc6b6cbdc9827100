"""The job script and what a student may choose, with hostile values."""

from __future__ import annotations

import dataclasses
import html
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.courses import Course
from cluster.model import Profile
from cluster.values import seconds
from spawners import options, script
from spawners.form import form
from spawners.options import (
    KEYS,
    OptionError,
    arguments,
    choose,
    from_form,
    offered,
    usual_kernel,
)
from spawners.script import Session, render

SESSION = Session(
    user="ada",
    server="",
    home="/home/ada",
    partition="notebook",
    cpus=1,
    memory_mb=300,
    time="04:00:00",
    server_env="/nfs/envs/server",
    launcher="/usr/local/lib/practicum/launcher.py",
    hub_url="http://10.0.0.1:8081/hub/api",
    hub_uid=911,
    ports=(20000, 29999),
    jupyter_path="/nfs/envs/jupyter",
)
SMALL = Profile(name="small", title="Small", partition="notebook", cpus=2, memory_mb=300)
LARGE = Profile(name="large", title="<i>Large</i>", partition="notebook", cpus=8,
                memory_mb=4000, time="1-00:00:00", groups=("staff",))  # fmt: skip
hostile = st.text(
    st.characters(codec="utf-8") | st.sampled_from("\n\r\0 \"'`$;&|<>\\#%(){}*?~=,:/-"), max_size=40
)


def sbatch_lines(text: str) -> list[str]:
    """sbatch(1): options stand in #SBATCH lines before the first line that is a command."""
    found = []
    for line in text.splitlines()[1:]:
        if line.startswith("#SBATCH"):
            found.append(line)
        elif not line.startswith("#") and line.strip():
            break
    return found


def test_the_script_says_what_was_chosen_and_nothing_secret() -> None:
    text = render(SESSION)
    assert text.startswith("#!/bin/sh\n#SBATCH ")
    assert sbatch_lines(text) == [
        "#SBATCH --job-name=practicum-hub",
        "#SBATCH --comment=ada/",
        "#SBATCH --partition=notebook",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --mem=300M",
        "#SBATCH --time=04:00:00",
        "#SBATCH --chdir=/home/ada",
        "#SBATCH --output=/dev/null",
        "#SBATCH --export=ALL",
        "#SBATCH --no-requeue",
    ]
    assert "--get-user-env" not in text
    subprocess.run(["sh", "-n"], input=text.encode(), check=True)


@given(field=st.sampled_from(["server", "home", "partition", "user"]), value=hostile)
def test_a_hostile_value_adds_no_option(field: str, value: str) -> None:
    """Either it is refused, or there are exactly as many #SBATCH lines, each of one plain word."""
    try:
        text = render(dataclasses.replace(SESSION, **{field: value}))
    except ValueError:
        return
    lines = sbatch_lines(text)
    assert len(lines) == 12
    assert all(len(line.split()) == 2 and line.isascii() and line.isprintable() for line in lines)
    assert text.splitlines()[13:] == render(SESSION).splitlines()[13:]


@given(user=hostile.filter(bool), server=hostile)
def test_a_comment_names_one_session(user: str, server: str) -> None:
    from urllib.parse import unquote

    word = script.comment(user, server)
    assert script.PLAIN.fullmatch(word)
    assert [unquote(part) for part in word.split("/")] == [user, server]


@settings(max_examples=40, deadline=None)
@given(
    values=st.fixed_dictionaries(
        {
            name: hostile.filter(lambda text: "\0" not in text and "\n" not in text)
            for name in ("launcher", "hub_url", "jupyter_path", "server_env")
        }
    )
)
def test_the_shell_sees_the_arguments_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    """The script, run by the real shell with a Python that prints what it was given."""
    text = render(dataclasses.replace(SESSION, **values))
    folder = tmp_path_factory.mktemp("shell")
    show = folder / "python3"
    show.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    show.chmod(0o755)
    text = text.replace("python=/usr/bin/python3", f"python={show}")
    done = subprocess.run(["sh"], input=text.encode(), capture_output=True, cwd=folder, check=True)
    assert done.stdout.decode().split("\0")[:-1] == [
        "-I",
        values["launcher"],
        f"--hub-url={values['hub_url']}",
        "--hub-uid=911",
        "--ports=20000-29999",
        f"--jupyter-path={values['jupyter_path']}",
        f"--server-env={values['server_env']}",
    ]
    assert not done.stderr


def test_current_is_resolved_once(tmp_path: Path) -> None:
    """What runs is the version's own path, not the link's."""
    python = tmp_path / "1.2" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$0"\n')
    python.chmod(0o755)
    (tmp_path / "current").symlink_to("1.2")
    text = render(dataclasses.replace(SESSION, server_env=str(tmp_path)))
    done = subprocess.run(["sh"], input=text.encode(), capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(python)


@pytest.mark.parametrize(
    "changes",
    [{"time": "4"}, {"time": "04:00:00\n"}, {"cpus": 0}, {"memory_mb": -1}, {"home": "/a b"},
     {"partition": ""}, {"hub_url": "a\nb"}, {"launcher": "a"}],
)  # fmt: skip
def test_impossible_values(changes: dict[str, Any]) -> None:
    if changes == {"launcher": "a"}:
        assert " a --hub-url=" in render(dataclasses.replace(SESSION, **changes))
        return
    with pytest.raises(ValueError, match=r"."):
        render(dataclasses.replace(SESSION, **changes))


# --- options ------------------------------------------------------------------------------------


def test_only_what_the_groups_may_have_is_offered() -> None:
    assert offered([SMALL, LARGE], {"students"}) == (SMALL,)
    assert offered([SMALL, LARGE], {"staff"}) == (SMALL, LARGE)


def course(**more: Any) -> Course:
    return Course.model_validate({"name": "hpc", "uid": 50000, "instructors": ["ines"], **more})


def test_a_course_offers_its_profile_first_and_its_kernel_where_none_is_chosen() -> None:
    large, nothing = course(profile="large", kernel="mpi"), course(name="phys", uid=50100)
    assert offered([SMALL, LARGE], {"students"}, [nothing, large]) == (LARGE, SMALL)
    assert offered([SMALL, LARGE], {"staff"}, [large]) == (LARGE, SMALL)
    usual = usual_kernel(["python3", "mpi"], [nothing, large])
    assert arguments(choose({}, [SMALL]), usual) == (
        "--MappingKernelManager.default_kernel_name=mpi",
    )
    chosen = choose({"kernel": "python3"}, [SMALL], ["python3", "mpi"])
    assert arguments(chosen, usual) == ("--MappingKernelManager.default_kernel_name=python3",)
    assert usual_kernel(["python3"], [large]) == "", "one that is hidden or gone"
    assert arguments(choose({}, [SMALL])) == ()


def test_nothing_chosen_is_the_first_profile() -> None:
    choice = choose({}, [SMALL, LARGE])
    assert (choice.profile, choice.cpus, choice.memory_mb, choice.time) == (
        SMALL,
        2,
        300,
        "04:00:00",
    )


def test_form_and_rest_mean_the_same() -> None:
    fields = {
        "profile": ["large"],
        "cpus": ["3"],
        "memory": ["1000"],
        "time": ["26:30"],
        "_xsrf": ["x"],
    }
    sent = from_form(fields | {"cpus": [" 3 "]})
    with pytest.raises(OptionError, match="time '26:30' cannot be had"):
        choose(sent, [LARGE])
    sent["time"] = "01:30"
    assert choose(sent, [LARGE]) == choose(
        {"profile": "large", "cpus": 3, "memory": 1000, "time": "01:30"}, [LARGE]
    )
    assert choose(sent, [LARGE]).time == "01:30:00"
    assert from_form({"cpus": [""]}) == {}
    with pytest.raises(OptionError, match="sent 2 times"):
        from_form({"cpus": ["1", "2"]})
    with pytest.raises(OptionError, match="must be text"):
        from_form({"file": [{"body": b""}]})


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(KEYS) | hostile, json_like, max_size=5))
def test_whatever_is_sent_the_choice_stays_within_the_profile(sent: dict[str, Any]) -> None:
    try:
        choice = choose(sent, [SMALL])
    except OptionError as error:
        assert str(error).isprintable() and str(error).endswith(".")
        return
    assert set(sent) <= set(KEYS)
    assert choice.profile is SMALL
    assert 1 <= choice.cpus <= 2 and 64 <= choice.memory_mb <= 300
    assert 60 <= seconds(choice.time) <= seconds(SMALL.time)
    render(dataclasses.replace(SESSION, cpus=choice.cpus, memory_mb=choice.memory_mb,
                               time=choice.time, partition=choice.profile.partition))  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"gres": "gpu:8"}, "no option 'gres'; the options are profile, cpus, memory, time, kernel, modules."),
        ({"profile": "large"}, "There is no profile 'large' for you; the profiles are small."),
        ({"cpus": 3}, "cpus 3 cannot be had: it is a whole number from 1 to 2."),
        ({"cpus": True}, "cpus bool cannot be had: it is a whole number from 1 to 2."),
        ({"cpus": "1\n"}, "cpus '1\\n' cannot be had"),
        ({"memory": "63"}, "memory 63 cannot be had: it is a whole number from 64 to 300 MB."),
        ({"time": "00:00"}, "from 00:01 to 04:00:00."),
        ({"time": "1-00:00"}, "time '1-00:00' cannot be had"),
        ({"time": "٠١:٠٠"}, "cannot be had"),
    ],
)  # fmt: skip
def test_refusals(sent: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        choose(sent, [SMALL])
    assert sentence in str(caught.value)


def test_no_profile_at_all() -> None:
    with pytest.raises(OptionError, match="ask the administrator"):
        choose({}, [])


def test_a_profile_smaller_than_the_minimum_can_be_had_whole() -> None:
    tiny = SMALL.model_copy(update={"time": "00:00:30"})
    assert choose({"time": "00:00:30"}, [tiny]).time == "00:00:30"


def test_the_form_escapes_and_remembers() -> None:
    text = form([SMALL, LARGE], {"profile": "large"}, {})
    assert html.escape("<i>Large</i>") in text and "<i>" not in text
    assert 'value="large" checked' in text and 'value="small" required' in text
    assert 'value="small" checked' in form([SMALL, LARGE], {"profile": "gone"}, {})
    assert form([], {}, {}) == ""


def test_groups_come_from_the_system() -> None:
    assert "root" in options.groups_of("root")
    with pytest.raises(KeyError):
        options.groups_of("nosuchaccount")
