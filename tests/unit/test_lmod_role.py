"""Modulefiles and shells; read by the real Lmod where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hub_sample import FACTS, context, sample
from hypothesis import given
from hypothesis import strategies as st

from lmod import role, shells
from lmod.modulefiles import lua_string, openmpi_module, python_module, render
from provisioning.facts import Facts
from provisioning.resources import File

LUA = shutil.which("lua5.3") or shutil.which("lua5.4") or shutil.which("lua")
needs_lua = pytest.mark.skipif(LUA is None, reason="lua is not installed")
needs_lmod = pytest.mark.skipif(not Path(shells.INIT).exists(), reason="lmod is not installed")


@pytest.fixture
def core(tmp_path: Path) -> Path:
    cluster = sample()
    for path, text in (python_module(cluster, cluster.kernels[0], FACTS), openmpi_module(FACTS)):
        file = tmp_path / "Core" / path
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path / "Core"


def module(core: Path, script: str) -> str:
    """A bash script's output, in an environment like a session's."""
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/usr/bin:/bin", "HOME": str(core), "BASH_ENV": shells.INIT,
             "MODULEPATH": str(core), "MODULEPATH_ROOT": str(core.parent)},
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return done.stdout + done.stderr


@needs_lmod
def test_lmod_lists_and_loads_them(core: Path) -> None:
    assert {"python/3.11", "openmpi/4.1.4"} <= set(module(core, "module -t avail").split())
    said = module(core, "module load python openmpi; echo $PATH $MPI_HOME; module -t list")
    assert said.startswith("/nfs/envs/python3/current/bin:")
    assert "/usr/lib/x86_64-linux-gnu/openmpi" in said
    assert said.split()[-2:] == ["python/3.11", "openmpi/4.1.4"]


@needs_lmod
def test_lmod_shows_their_help(core: Path) -> None:
    said = module(core, "module help python; module whatis openmpi")
    assert "srun python script.py" in said
    assert "Packages: numpy" in said
    assert "message passing" in said


def test_another_distribution_has_another_open_mpi() -> None:
    path, text = openmpi_module(Facts(os_codename="noble", arch="aarch64"))
    assert path == "openmpi/4.1.6.lua"
    assert "/usr/lib/aarch64-linux-gnu/openmpi" in text
    assert openmpi_module(Facts(os_codename="unheard", arch="x86_64"))[0] == "openmpi/system.lua"


@needs_lua
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_stays_one_lua_string(text: str) -> None:
    code = f"io.write({lua_string(text)})"
    done = subprocess.run([str(LUA), "-e", code], capture_output=True, check=True)
    assert done.stdout == text.encode()


def test_a_hostile_title_stays_a_title() -> None:
    values = {"title": '"; os.execute("id") --', "name": "x", "prefix": "/p", "packages": "]] x"}
    assert 'whatis("Description: Python of the shared kernel " .. "\\"; os.execute' in render(
        "python.lua.j2", values
    )


def test_what_is_set_already_stays(tmp_path: Path) -> None:
    path = tmp_path / "profile.sh"
    path.write_text(shells.profile(sample()))
    script = f'. {path}; echo "$MODULEPATH_ROOT $MODULEPATH"'
    clean = {"PATH": "/usr/bin:/bin"}
    mine = {**clean, "MODULEPATH_ROOT": "/r", "MODULEPATH": "/mine"}
    for shell in ("sh", "bash"):
        for env, expected in (
            (clean, ["/nfs/apps/modulefiles", "/nfs/apps/modulefiles/Core"]),
            (mine, ["/r", "/mine"]),
        ):
            said = subprocess.run([shell, "-c", script], env=env, capture_output=True, check=True)
            assert said.stdout.decode().split() == expected


def test_modules_are_written_once_and_shells_set_up_everywhere() -> None:
    cluster = sample()
    shells_role, modules_role = role.ROLES
    assert [n.name for n in cluster.machines if modules_role.where(cluster, n)] == ["login"]
    assert all(shells_role.where(cluster, node) for node in cluster.machines)
    written = [item.path for item in role.first_modules(context()) if isinstance(item, File)]
    assert written == [
        "/nfs/apps/modulefiles/Core/python/3.11.lua",
        "/nfs/apps/modulefiles/Core/openmpi/4.1.4.lua",
    ]


def test_shell_files_are_valid_bash(tmp_path: Path) -> None:
    for text in (shells.shell_init(), shells.command(), shells.bashrc_line()):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
