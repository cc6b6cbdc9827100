"""The environment builder, run for real on environments that need no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import build_env
from kernels.build_env import BuildError, Spec
from provisioning import wheel

pytestmark = pytest.mark.daemons


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """An environment with nothing in it but practicum's own wheel."""
    monkeypatch.setattr(build_env, "UV", str(Path(sys.executable).parent / "uv"))
    monkeypatch.setattr(build_env, "PYTHON", sys.executable)
    own = tmp_path / wheel.filename()
    own.write_bytes(wheel.build())
    return Spec(
        name="trial",
        root=str(tmp_path / "env"),
        wheels=(str(own),),
        files=(("etc/own.json", "{}\n"),),
        imports=("cluster.errors",),
        keep=1,
    )


def wanted(spec: Spec) -> str:
    inputs = [Path(path).read_bytes() for path in spec.inputs]
    return build_env.digest(spec, inputs, build_env.own_script())


def test_build_publishes_and_the_check_says_so(spec: Spec) -> None:
    assert not build_env.is_live(spec, wanted(spec))
    build_env.build(spec, wanted(spec))
    assert build_env.is_live(spec, wanted(spec))
    current = Path(spec.root) / "current"
    assert (current / "etc/own.json").read_text() == "{}\n"
    assert (current / "bin/practicum").is_file()
    assert "practicum" in (current / build_env.LOCK).read_text()
    open_to_all = [path for path in current.resolve().rglob("*")
                   if not path.is_symlink() and path.stat().st_mode & 0o002]  # fmt: skip
    assert open_to_all == []


def test_a_failed_build_leaves_the_live_version(spec: Spec, tmp_path: Path) -> None:
    build_env.build(spec, wanted(spec))
    before = build_env.live(Path(spec.root))
    broken = Spec(**{**vars(spec), "imports": ("no_such_module_here",)})
    with pytest.raises(BuildError, match="no_such_module_here"):
        build_env.build(broken, wanted(broken))
    assert build_env.live(Path(spec.root)) == before
    folders = {path.name for path in Path(spec.root).iterdir()}
    assert folders == {before, "current", ".lock"}


def test_a_build_that_was_cut_off_is_done_again(spec: Spec) -> None:
    half = Path(spec.root) / build_env.own_version(wanted(spec))
    half.mkdir(parents=True)
    (half / "rubbish").write_text("left over")
    build_env.build(spec, wanted(spec))
    assert not (half / "rubbish").exists()
    assert build_env.is_live(spec, wanted(spec))


def test_other_files_than_planned_are_refused(spec: Spec) -> None:
    planned = wanted(spec)
    Path(spec.wheels[0]).write_bytes(b"something else")
    with pytest.raises(BuildError, match="apply again"):
        build_env.build(spec, planned)


def test_old_versions_go_but_for_the_newest(tmp_path: Path) -> None:
    for age, name in enumerate(("c", "b", "a")):
        (tmp_path / name).mkdir()
        stamp = tmp_path / name / build_env.STAMP
        stamp.write_text("")
        os.utime(stamp, (1000 - age, 1000 - age))
    build_env.publish(tmp_path, "a")
    build_env.prune(tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "c", "current"}
    build_env.prune(tmp_path, 0)
    assert (tmp_path / "c").is_dir()


def test_it_runs_alone_and_says_what_failed_in_one_line(tmp_path: Path) -> None:
    """As on a node: the script by itself, isolated, with nothing of the application."""
    script = tmp_path / "build_env.py"
    script.write_bytes(Path(build_env.__file__).read_bytes())
    spec = Spec(name="alone", root=str(tmp_path / "env"), requirements=str(tmp_path / "none.txt"))
    (tmp_path / "alone.json").write_text(spec.text())
    words = [sys.executable, "-I", str(script), "build", str(tmp_path / "alone.json"), "0" * 64]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("environment alone: ")
    assert "none.txt" in done.stderr
    assert "what was live before stays live" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert subprocess.run(words[:3], check=False, capture_output=True).returncode == 2


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(name=TEXTS, packages=st.lists(TEXTS, max_size=3), files=st.lists(st.tuples(TEXTS, TEXTS)))
def test_spec_survives_its_file(
    name: str,
    packages: list[str],
    files: list[tuple[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    spec = Spec(name=name, root="/r", packages=tuple(packages), files=tuple(files))
    path = tmp_path_factory.mktemp("spec") / "spec.json"
    path.write_text(spec.text())
    assert Spec.read(path) == spec
