"""[[modules]] and [software] in cluster.toml: the sentence for everything that cannot be."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from test_cli import practicum
from test_load import GOOD

from cluster.edit_modules import with_module, without_module
from cluster.errors import ConfigError
from cluster.load import load

FFTW = 'name = "fftw"\nversion = "3.3"\nprefix = "/nfs/apps/fftw"\n'


def refused(tmp_path: Path, *tables: str, software: str = "") -> str:
    path = tmp_path / "cluster.toml"
    text = GOOD + "".join(f"\n[[modules]]\n{table}" for table in tables)
    path.write_text(text + (f"\n[software]\n{software}" if software else ""))
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('name = "a/../b"', "one part of a module's name"),
        ('name = ".."', "one part of a module's name"),
        ('version = "1..2"', "without /, .. or a . at the end"),
        ('version = "."', "one part of a module's name"),
        ('prefix = "/nfs/../etc"', "/nfs/../etc must not have .. in it"),
        ('prefix = "apps"', "must be an absolute path"),
        ('paths = { PYTHONPATH = "../x" }', "without .."),
        ('env = { "A B" = "x" }', "the name of an environment variable"),
        ('env = { A = "x\\ny" }', "one line of text"),
        ('packages = ["-y"]', "the name of a package"),
        ('load = ["gcc/../x"]', "without .."),
        ('kind = "library"', "no such value"),
        ('under = ["icc"]', "there is no compiler icc"),
        ('under = ["gcc", "mpich"]', "there is no mpi mpich"),
        ('kind = "mpi"', 'a module of kind mpi has under = ["gcc"]'),
        ('kind = "compiler"\nunder = ["gcc"]', "a module of kind compiler has no under"),
        ('load = ["fftw"]', "fftw/3.3 asks for itself"),
        ('load = ["mesh"]\nconflict = ["mesh"]', "mesh is in conflict as well"),
        ('defalt = true', "did you mean default?"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_line(tmp_path: Path, line: str, sentence: str) -> None:
    key = line.partition(" ")[0]
    table = "".join(row + "\n" for row in FFTW.splitlines() if not row.startswith(f"{key} "))
    said = refused(tmp_path, table + line + "\n")
    assert sentence in said
    assert "cluster.toml:" in said


def test_two_of_a_family_a_cycle_and_a_repetition(tmp_path: Path) -> None:
    clang = 'name = "clang"\nversion = "17"\nkind = "compiler"\n'
    said = refused(tmp_path, clang, FFTW + 'load = ["gcc", "clang"]\n')
    assert "gcc and clang are both of the family compiler: only one can be loaded" in said
    said = refused(tmp_path, clang + 'load = ["gcc"]\n')
    assert "clang/17 and gcc are both of the family compiler" in said
    one, other = ('name = "{}"\nversion = "1"\n' + '{} = ["{}"]\n').format, "load"
    said = refused(tmp_path, one("a", other, "b"), one("b", "prereq", "c/1"), one("c", other, "a"))
    assert "these need each other: a/1 -> b/1 -> c/1 -> a/1" in said
    assert said.count("need each other") == 1
    assert "is taken by modules[0]" in refused(tmp_path, FFTW, FFTW)
    more = FFTW.replace("3.3", "4") + "default = true\n"
    said = refused(tmp_path, FFTW + "default = true\n", more)
    assert "fftw/3.3 is the default already" in said


def test_trees_of_others(tmp_path: Path) -> None:
    own = refused(tmp_path, software='module_trees = ["/nfs/apps/modulefiles/Core"]')
    assert "is practicum's own" in own
    assert "without .." in refused(tmp_path, software='hidden = ["a/../b"]')
    assert "a needs a version" in refused(tmp_path, software='defaults = ["a"]')
    assert "a needs a version" in refused(tmp_path, software='deprecated = { a = "old" }')


def test_cluster_toml_is_changed_as_text() -> None:
    text = GOOD + "# ours\n[[modules]]\n" + FFTW + "# the end\n"
    new = with_module(text, {"name": "fftw", "version": "3.3", "default": True})
    assert "# ours" in new and "# the end" in new
    assert tomllib.loads(new)["modules"] == [
        {"name": "fftw", "version": "3.3", "prefix": "/nfs/apps/fftw", "default": True}
    ]
    more = with_module(new, {"name": "fftw", "version": "3.3", "under": ["gcc"]})
    assert len(tomllib.loads(more)["modules"]) == 2
    assert tomllib.loads(without_module(more, "fftw", "3.3", ["gcc"])) == tomllib.loads(new)
    assert "modules" not in tomllib.loads(without_module(more, "fftw", "3.3"))
    assert without_module(text, "fftw", "9") == text


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(GOOD)
    return path


def test_add_and_remove_write_cluster_toml(toml: Path) -> None:
    words = ("module", "add", "fftw/3.3", "--prefix", "/nfs/apps/fftw", "--under", "gcc",
             "--env", "FFTW=a=b", "--default", "-f", str(toml))  # fmt: skip
    done = practicum(*words)
    assert done.returncode == 0, done.stderr
    assert "practicum apply --limit login publishes fftw/3.3" in done.stdout
    module = load(toml).modules[0]
    assert (module.under, module.env, module.default) == (("gcc",), {"FFTW": "a=b"}, True)
    assert "nothing to change" in practicum(*words).stdout
    shown = practicum("module", "show", "fftw", "-f", str(toml)).stdout
    assert "/nfs/apps/modulefiles/Compiler/gcc/system/fftw/3.3.lua" in shown
    assert 'setenv("FFTW", "a=b")' in shown
    done = practicum("module", "remove", "fftw/3.3", "-f", str(toml))
    assert "practicum apply takes it away" in done.stdout
    assert load(toml).modules == ()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("add", "../etc", "--prefix", "/x"), "../etc is no name for a module"),
        (("add", "a/..", "--prefix", "/x"), "a/.. is no name for a module"),
        (("add", "fftw", "--prefix", "/x"), "fftw is no name for a module: NAME/VERSION"),
        (("add", "fftw/3"), "say where it is (--prefix)"),
        (("add", "fftw/3", "--prefix", "x"), "must be an absolute path"),
        (("add", "fftw/3", "--prefix", "/x", "--under", "icc"), "there is no compiler icc"),
        (("add", "fftw/3", "--prefix", "/x", "--env", "A"), "--env A: write NAME=VALUE"),
        (("add", "a/1", "--lua", "nowhere.lua"), "nowhere.lua cannot be read as a modulefile"),
        (("add", "a/1", "--lua", "x.lua", "--default"), "--default belongs into the modulefile"),
        (("show", "nothing"), "there is no module nothing"),
        (("remove", "gcc/system"), "gcc/system is practicum's own"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_sentence(
    toml: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = practicum("module", *words, "-f", str(toml))
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
    assert toml.read_text() == GOOD
