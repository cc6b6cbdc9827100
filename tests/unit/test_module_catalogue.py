"""Which modulefiles there are, and their Lua; read by the real Lmod where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hub_sample import FACTS, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model import Cluster
from lmod import catalogue as cat
from lmod import shells
from lmod.modulefiles import Text, lua_string
from provisioning.facts import Facts

LUA = shutil.which("lua5.3") or shutil.which("lua5.4") or shutil.which("lua")
needs_lua = pytest.mark.skipif(LUA is None, reason="lua is not installed")
needs_lmod = pytest.mark.skipif(not Path(shells.INIT).exists(), reason="lmod is not installed")
FFTW = {
    "name": "fftw",
    "version": "3.3",
    "prefix": "/nfs/apps/fftw/3.3",
    "under": ["gcc", "openmpi"],
}


def on(shared: Path, **changes: Any) -> Cluster:
    """A cluster whose shared storage is that folder."""
    return sample(storage={"provider": "external", "shared": str(shared)}, **changes)


def publish(cluster: Cluster, facts: Facts = FACTS) -> dict[str, str]:
    """All of it in the folder, and the environment of a shell that reads it."""
    root = Path(cat.modulefiles(cluster))
    entries = cat.catalogue(cluster, facts)
    files = {entry.path: entry.text.lua() for entry in entries}
    files["etc/modulerc.lua"] = cat.modulerc(cluster, entries)
    files["etc/admin.list"] = cat.admin_list(cluster, entries)
    files["etc/lmodrc.lua"] = cat.lmodrc(cluster)
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "Site").mkdir(exist_ok=True)
    return {"PATH": "/usr/bin:/bin", "HOME": str(root), **shells.session_environment(cluster)}


def module(env: dict[str, str], script: str) -> str:
    """A bash script's output, errors included."""
    done = subprocess.run(
        ["bash", "-c", script], env=env, timeout=30, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return " ".join(done.stdout.split())


@needs_lmod
def test_a_student_goes_down_the_hierarchy(tmp_path: Path) -> None:
    (tmp_path / "apps/fftw/3.3/bin").mkdir(parents=True)
    fftw = {**FFTW, "prefix": f"{tmp_path}/apps/fftw/3.3"}
    env = publish(on(tmp_path, modules=[fftw]))
    assert "openmpi" not in module(env, "module -t avail")
    assert "gcc/12.2.0" in module(env, "module -t avail")
    said = module(env, "module spider fftw/3.3")
    assert "gcc/12.2.0 openmpi/4.1.4" in said
    said = module(env, "module load gcc openmpi fftw && echo $CC $MPICC $PATH; module -t list")
    assert said.startswith("gcc /usr/bin/mpicc.openmpi")
    assert f"{tmp_path}/apps/fftw/3.3/bin:/usr/bin:/bin" in said
    assert "/lib" not in said.replace("/lib/", "")  # is not there, so it is not in a path
    assert said.endswith("gcc/12.2.0 openmpi/4.1.4 fftw/3.3")
    assert (
        module(env, "module load gcc openmpi; module purge; echo $CC$MPICC$MODULEPATH")
        == (env["MODULEPATH"])
    )


@needs_lmod
def test_lmod_shows_their_help(tmp_path: Path) -> None:
    env = publish(on(tmp_path))
    said = module(env, "module help python; module load gcc; module whatis openmpi")
    assert "srun python script.py" in said
    assert "Packages: numpy" in said
    assert "message passing" in said


@needs_lmod
def test_one_of_a_family_takes_the_others_place_and_says_so(tmp_path: Path) -> None:
    clang = {"name": "clang", "version": "17", "kind": "compiler", "env": {"CC": "clang"}}
    env = publish(on(tmp_path, modules=[clang, {**FFTW, "under": ["clang"]}]))
    said = module(env, "module load gcc openmpi; module load clang; echo CC=$CC; module list")
    assert 'automatically replacing "gcc/12.2.0" with "clang/17"' in said
    assert "CC=clang" in said
    assert "Inactive Modules" in said  # Open MPI is not there for that compiler
    assert "fftw/3.3" in module(env, "module load clang; module -t avail")


@needs_lmod
def test_what_is_missing_or_does_not_go_together_is_said(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "solver", "version": "2", "prefix": "/nfs/apps/s", "prereq": ["mesh/1"]},
        {"name": "mesh", "version": "1", "prefix": "/nfs/apps/m", "conflict": ["python"]},
        {"name": "both", "version": "1", "load": ["solver", "mesh"]},
    ]
    env = publish(on(tmp_path, modules=rows))
    assert "without these module(s) loaded: mesh/1" in module(env, "module load solver")
    assert "because these module(s) are loaded: python" in module(env, "module load python mesh")
    assert module(env, "module load mesh solver && module -t list").endswith("mesh/1 solver/2")


@needs_lmod
def test_default_hidden_and_deprecated_versions(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "tool", "version": "1", "env": {"TOOL": "1"}, "default": True},
        {"name": "tool", "version": "2", "env": {"TOOL": "2"}},
        {
            "name": "tool",
            "version": "0",
            "env": {"TOOL": "0"},
            "hidden": True,
            "deprecated": "use 2",
        },
    ]
    software = {"hidden": ["old/1"], "deprecated": {"new/1": "it will go"}, "defaults": ["old/1"]}
    cluster = on(tmp_path, modules=rows, software=software)
    env = publish(cluster)
    for name in ("old", "new"):
        path = Path(cat.modulefiles(cluster)) / f"Site/{name}/1.lua"
        path.parent.mkdir(parents=True)
        path.write_text(f'setenv("SITE", "{name}")')
    assert module(env, "module load tool; echo $TOOL") == "1"
    listed = module(env, "module -t avail").split()
    assert {"tool/1", "tool/2", "new/1"} <= set(listed)
    assert not {"tool/0", "old/1"} & set(listed)
    said = module(env, "module load tool/0; echo TOOL=$TOOL")
    assert "tool/0 is deprecated: use 2" in said and "TOOL=0" in said
    assert "it will go" in module(env, "module load new")


@needs_lmod
def test_a_second_mpi_is_not_the_default_unless_it_says_so(tmp_path: Path) -> None:
    own = {"name": "openmpi", "version": "4.1.4-pmi2", "kind": "mpi", "under": ["gcc"],
           "prefix": "/nfs/apps/openmpi"}  # fmt: skip
    env = publish(on(tmp_path, modules=[own]))
    assert module(env, "module load gcc openmpi; module -t list") == "gcc/12.2.0 openmpi/4.1.4"
    env = publish(on(tmp_path / "b", modules=[{**own, "default": True}]))
    assert module(env, "module load gcc openmpi; module -t list").endswith("openmpi/4.1.4-pmi2")


@needs_lmod
def test_a_kernels_module_brings_what_the_kernel_loads(tmp_path: Path) -> None:
    kernels = [
        {"name": "mpi", "title": "MPI", "packages": ["mpi4py"], "modules": ["gcc", "openmpi"]}
    ]
    env = publish(on(tmp_path, kernels=kernels))
    said = module(env, "module load mpi; module -t list; echo $VIRTUAL_ENV")
    assert said == f"gcc/12.2.0 openmpi/4.1.4 mpi/3.11 {tmp_path}/envs/mpi/current"


def test_another_distribution_has_other_versions() -> None:
    facts = Facts(os_codename="noble", arch="aarch64")
    paths = {entry.path: entry.text.lua() for entry in cat.catalogue(sample(), facts)}
    text = paths["Compiler/gcc/13.3.0/openmpi/4.1.6.lua"]
    assert "/usr/lib/aarch64-linux-gnu/openmpi" in text
    unheard = cat.catalogue(sample(), Facts(os_codename="unheard"))
    assert {"Core/gcc/system.lua", "Compiler/gcc/system/openmpi/system.lua"} <= {
        entry.path for entry in unheard
    }


def test_what_is_needed_is_published_before() -> None:
    rows = [
        {"name": "a", "version": "1", "load": ["b"]},
        {"name": "b", "version": "1", "prereq": ["c/1"]},
        {"name": "c", "version": "1"},
    ]
    order = [entry.full for entry in cat.catalogue(sample(modules=rows), FACTS)]
    assert order.index("c/1") < order.index("b/1") < order.index("a/1")


def test_the_admins_own_takes_the_place_of_practicums() -> None:
    own = {"name": "gcc", "version": "12.2.0", "kind": "compiler", "description": "ours"}
    entries = cat.catalogue(sample(modules=[own]), FACTS)
    assert [entry.text.description for entry in entries if entry.name == "gcc"] == ["ours"]


@needs_lua
@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_stays_one_lua_string(text: str) -> None:
    code = f"io.write({lua_string(text)})"
    done = subprocess.run([str(LUA), "-e", code], capture_output=True, check=True)
    assert done.stdout == text.encode()


def test_hostile_words_stay_words() -> None:
    evil = '"; os.execute("id") --'
    text = Text(name="x", version="1", description=evil, help="]] os.exit()", env={"A": evil}).lua()
    assert 'whatis("Description: " .. "\\"; os.execute' in text
    assert 'setenv("A", "\\"; os.execute' in text
    assert 'help("]] os.exit()")' in text
