"""The publishing tool, with the real Lmod: trials, the cache, modulefiles with a fault."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmod import shells
from lmod.role import own_file

pytestmark = pytest.mark.daemons

TOOL = Path(importlib.util.find_spec("lmod").submodule_search_locations[0]) / "files/modules.py"  # type: ignore[union-attr,index]
needs_lmod = pytest.mark.skipif(not Path(shells.INIT).exists(), reason="lmod is not installed")
spec = importlib.util.spec_from_file_location("modules_tool", TOOL)
assert spec and spec.loader
tool = importlib.util.module_from_spec(spec)
sys.modules["modules_tool"] = tool
spec.loader.exec_module(tool)


class Site:
    """A tree of its own, and the tool on it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "modulefiles"
        for name in ("Core", "Compiler", "MPI", "Site", "etc"):
            (self.root / name).mkdir(parents=True)
        self.settings = folder / "modules.json"
        paths = [f"{self.root}/Core", f"{self.root}/Site"]
        self.settings.write_text(
            json.dumps({"root": str(self.root), "paths": paths, "init": shells.INIT})
        )
        cache = f"{self.root}/cache"
        (self.root / "etc/lmodrc.lua").write_text(
            f'scDescriptT = {{ {{ dir = "{cache}/current", timestamp = "{cache}/timestamp" }} }}\n'
        )
        self.env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "BASH_ENV": shells.INIT,
                    "MODULEPATH": ":".join(paths), "LMOD_RC": f"{self.root}/etc/lmodrc.lua",
                    "LMOD_PAGER": "none"}  # fmt: skip

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def run(self, *words: str, stdin: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-I", str(TOOL), "--settings", str(self.settings), *words],
            input=stdin, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, (done.stdout + done.stderr).strip()

    def shell(self, script: str) -> str:
        done = subprocess.run(["bash", "-c", script], env=self.env, capture_output=True, text=True,
                              timeout=30, check=False)  # fmt: skip
        return done.stdout + done.stderr

    @property
    def state(self) -> dict[str, object]:
        return dict(json.loads(self.run("state")[1]))


@pytest.fixture
def site() -> Iterator[Site]:
    """In a folder that everybody may read, which pytest's own are not: trials run as nobody."""
    with tempfile.TemporaryDirectory(prefix="modules-test-") as folder:
        Path(folder).chmod(0o755)
        yield Site(Path(folder))


@needs_lmod
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('whatis("x"', "')' expected"),
        ('nosuch("x")', "attempt to call a nil value (global 'nosuch')"),
        ('prereq("mesh")', 'Cannot load module "try/1" without these module(s) loaded: mesh'),
        ('LmodError("no licence")', "Lmod does not load try/1: no licence"),
        ('io.popen("id")', "attempt to call a nil value (field 'popen')"),
        ('load("try/1")', "C stack overflow"),
    ],
)  # fmt: skip
def test_a_modulefile_with_a_fault_is_not_published(site: Site, text: str, sentence: str) -> None:
    code, said = site.run("put", "--as", "try/1", stdin=text)
    assert code == 1
    assert sentence in said
    assert "\n" not in said
    assert not list(site.root.glob("Site/*"))
    file = site.write("try.lua", text)
    assert site.run("check", "--as", "try/1", str(file)) == (1, said)


@needs_lmod
def test_what_it_is_under_is_loaded_first(site: Site) -> None:
    site.write("Core/mesh/1.lua", 'setenv("MESH", "1")')
    text = 'prereq("mesh")\nsetenv("X", os.getenv("MESH") .. "!")'
    assert site.run("put", "--as", "try/1", "--with", "mesh", stdin=text)[0] == 0
    code, said = site.run("put", "--as", "try/2", "--with", "nothere", stdin=text)
    assert code == 1
    assert (
        "try/2 needs nothere, which cannot be loaded: The following module(s) are unknown" in said
    )


@needs_lmod
def test_modulefiles_are_not_evaluated_as_root(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has somebody else to be")
    spot = site.root.parent / "spot"
    code, _ = site.run("put", "--as", "try/1", stdin=f'os.execute("touch {spot}; id -u >&2")')
    assert not spot.exists()
    assert code in (0, 1)


@pytest.mark.parametrize("name", ["../x", "a/../b", "a", "a/b/c", ".a/1", "a/.1", "a b/1", "-a/1"])
def test_a_name_that_leads_elsewhere_is_refused(site: Site, name: str) -> None:
    for words in (["put", f"--as={name}"], ["drop", "--", name]):
        code, said = site.run(*words)
        assert code == 1 and "is no name for a module" in said


@given(st.text(max_size=30))
def test_every_name_that_is_taken_is_two_parts_without_dots_alone(name: str) -> None:
    try:
        tool.named(name)
    except tool.Trouble:
        return
    parts = name.split("/")
    assert len(parts) == 2
    assert all(part and part[0].isalnum() and ".." not in part and part.isascii() for part in parts)


@needs_lmod
def test_the_cache_is_replaced_in_one_step_and_old_ones_go(site: Site) -> None:
    for number in range(4):
        assert site.run("put", "--as", f"tool/{number}", stdin='setenv("A", "b")')[0] == 0
        assert site.state["current"]
        assert f"tool/{number}" in site.shell("module avail")
    kept = [path for path in (site.root / "cache").iterdir() if path.is_dir()]
    assert len(kept) <= 3  # the live one, the one before, and the link
    assert site.run("refresh", "--if-changed")[1] == "the cache is as new as the modulefiles"
    assert site.run("drop", "tool/0")[0] == 0
    assert "tool/0" not in site.shell("module avail")
    assert (
        site.run("drop", "tool/0")[1] == "there is no tool/0 among the modulefiles written by hand"
    )
    assert site.state["site"] == ["tool/1", "tool/2", "tool/3"]


@needs_lmod
def test_a_cache_older_than_its_tree(site: Site) -> None:
    site.run("put", "--as", "tool/1", stdin='setenv("A", "b")')
    site.write("Core/late/1.lua", 'setenv("LATE", "1")')
    assert not site.state["current"]
    assert "late/1" not in site.shell("module avail")  # Lmod believes its cache
    assert site.shell("module load late && echo LATE=$LATE").strip() == "LATE=1"  # loading does not
    # while a new one is made, or if none can be: the stamp is newer, and Lmod walks the tree
    after = time.time() + 5
    os.utime(site.root / "cache/timestamp", (after, after))
    assert "late/1" in site.shell("module avail")
    assert "the cache of 2 modules is new" in site.run("refresh", "--if-changed")[1]
    assert site.state["current"]
    assert "late/1" in site.shell("module avail")


@needs_lmod
def test_modulefiles_of_others_with_a_fault_are_named_and_stop_nothing(site: Site) -> None:
    bad = site.write("Site/bad/1.lua", 'whatis("x"')
    site.write("Site/good/1.lua", 'setenv("A", "b")')
    (site.root / "Site/loop").symlink_to(site.root / "Site")  # a cycle of links
    code, said = site.run("refresh")
    assert code == 0
    assert f"Lmod cannot read {bad}" in said
    broken = site.state["broken"]
    assert isinstance(broken, dict) and "expected" in broken[str(bad)]
    assert "good/1" in site.shell("module -t avail")


def test_settings_that_are_missing_are_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(TOOL), "--settings", str(tmp_path / "none"), "state"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No such file" in done.stderr and "Traceback" not in done.stderr


def test_the_tool_is_shipped() -> None:
    assert own_file("modules.py") == TOOL.read_text()
