"""`practicum kernel`: what is typed, what is read from files, what stands in cluster.toml after."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.edit_kernels import with_kernel, without_kernel
from cluster.errors import UsageError
from cluster.load import load
from kernels import sources
from practicum.cli import run

BASE = """# ours
[cluster]
name = "small"

[network]
subnet = "10.0.0.0/24"

[[nodes]]
name = "head"
address = "10.0.0.1"
roles = ["login", "controller", "database", "storage", "compute"]

[[groups]]
name = "students"
gid = 2000
role = "student"

[[groups]]
name = "hpc101"
gid = 2001

[[partitions]]
name = "batch"
nodes = "ALL"
default = true

[[kernels]]  # the first is the default
name = "python3"
title = "Python"
packages = ["numpy"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(BASE)
    load(path)
    return path


def refused(file: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence on stderr; nothing was changed, and no node was asked."""
    before = file.read_text()
    code = run(["kernel", *words, "--file", str(file)])
    said = capsys.readouterr().err.strip()
    assert code == 2, said
    assert file.read_text() == before
    assert len(said.splitlines()) == 1, said
    return said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a/b", "numpy"], "'a/b' is no name for a kernel"),
        (["a b", "numpy"], "'a b' is no name for a kernel"),
        (["$(x)", "numpy"], "'$(x)' is no name for a kernel"),
        (["python3", "numpy"], "there is a kernel python3 already: practicum kernel update"),
        (["server", "numpy"], "server is practicum's own"),
        (["python", "numpy"], "Jupyter reads python as python3"),
        (["demo"], "name packages, or a file"),
        (["demo", "--r", "--pyproject", "x"], "--pyproject and --r do not go together"),
        (["demo", "https://x/y.whl"], "only packages of the registry are taken"),
        (["demo", "a; python_version<'3'"], "conditions after ; are not taken"),
        (["demo", "num py"], "is not a package like numpy"),
        (["demo", "--requirements", "/nonexistent"], "/nonexistent cannot be read"),
        (["demo", "six", "--group", "nobody"], "there is no group nobody"),
        (["demo", "six", "--module", "a;b"], "kernels[1].modules[0]"),
        (["demo", "six", "--python", "three"], "must be a version of Python like 3.12"),
    ],
)
def test_bad_input_is_a_sentence(
    file: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert sentence in refused(file, capsys, "add", *words)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("requirements.txt", "-r other.txt\n", "requirements.txt:1: options are not taken (-r)"),
        ("requirements.txt", "numpy\nsix --hash=sha256:0\n", "requirements.txt:2: options are"),
        ("requirements.txt", "# nothing\n", "names no packages"),
        ("pyproject.toml", "[project]\nname = 'x'\n", "has no dependencies in [project]"),
        ("pyproject.toml", "[project\n", "is not TOML"),
        ("environment.yml", "dependencies: [python, {pip: [six]}]\n", "has a pip section"),
        ("environment.yml", "a: [\n", "is not YAML"),
        ("environment.yml", "name: x\n", "has no list of dependencies"),
        ("environment.yml", "channels: ['; rm']\ndependencies: [six]\n", "'; rm' is no channel"),
        ("from-lock", "six\n", "'six' is no pinned package"),
        ("from-lock", "six==1.0\n", "has no hashes"),
        ("from-lock", "\n", "is empty"),
    ],
)
def test_bad_files_are_a_sentence(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str,
    sentence: str,
) -> None:  # fmt: skip
    place = tmp_path / name
    place.write_text(text)
    option = f"--{name.partition('.')[0]}"
    assert sentence in refused(file, capsys, "add", "demo", option, str(place))


def test_what_files_hold() -> None:
    text = "numpy >= 1.26, <3  # for all\n\nscipy[extra]==1.*\n"
    assert sources.requirements(text, "r").packages == ("numpy>=1.26,<3", "scipy[extra]==1.*")
    found = sources.environment(
        "name: x\nchannels: [conda-forge, nodefaults]\n"
        "dependencies:\n  - python=3.12\n  - numpy 1.26.*\n  - scipy >=1.11\n",
        "e",
    )
    assert found == sources.Wanted(
        ("python=3.12", "numpy=1.26.*", "scipy>=1.11"), "conda", ("conda-forge",)
    )
    assert sources.lock("six==1.17.0 \\\n    --hash=sha256:ab\n", "l") == "python"
    assert sources.lock('six ==1.17.0 py_0[sha256="' + "a" * 64 + '"]\n', "l") == "conda"


def test_conditions_replace_those_of_the_same_package() -> None:
    old = ("numpy>=1", "Some_Thing")
    assert sources.merged(old, ("some-thing==2", "six")) == ("numpy>=1", "some-thing==2", "six")


@given(st.text(max_size=60))
def test_whatever_is_typed_is_a_package_or_a_sentence(text: str) -> None:
    try:
        found = sources.package(text, "here")
    except UsageError:
        return
    assert not set(found) & set(" \t\n;'\"$`\\/@|&")
    assert found[0].isalnum()


def test_cluster_toml_keeps_its_comments(file: Path) -> None:
    new = with_kernel(BASE, "demo", {"title": "Demo", "packages": ("six",), "group": ""})
    assert new.startswith(BASE)
    file.write_text(new)
    kernel = load(file).kernels[1]
    assert (kernel.name, kernel.packages, kernel.group) == ("demo", ("six",), None)
    assert without_kernel(new, "demo").strip() == BASE.strip()
    assert without_kernel(BASE, "demo") == BASE
    changed = with_kernel(BASE, "python3", {"packages": ("numpy", "six")})
    assert "[[kernels]]  # the first is the default" in changed


def test_a_new_kernel_stands_below_the_last_one() -> None:
    more = "# of the last\n\n# about the hub\n[hub]\nport = 8000\n"
    table = '[[kernels]]\nname = "demo"\ntitle = "Demo"\npackages = ["six"]\n'
    values = {"title": "Demo", "packages": ("six",), "group": ""}
    assert with_kernel(BASE + more, "demo", values) == (
        f"{BASE}# of the last\n\n{table}\n# about the hub\n[hub]\nport = 8000\n"
    )
    tight = BASE.replace(
        "[[kernels]]", '[[kernels]]\nname = "x"\npackages = [\n  "a",\n]\n[[kernels]]'
    )
    assert "\n" + table + "\n[hub]" in with_kernel(f"{tight}[hub]\n", "demo", values)
    none = without_kernel(BASE, "python3")
    assert with_kernel(none, "demo", values) == f"{none.rstrip()}\n\n{table}"


def test_a_lock_is_read_from_beside_cluster_toml(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(with_kernel(BASE, "demo", {"title": "D", "lock": "kernels/demo.lock"}))
    assert "there is no lock file" in refused(file, capsys, "list")
    (file.parent / "kernels").mkdir()
    (file.parent / "kernels/demo.lock").write_text("six==1.17.0 --hash=sha256:ab\n")
    assert load(file).kernels[1].lock_text.startswith("six==")
    assert "is built from kernels/demo.lock" in refused(file, capsys, "update", "demo")
    file.write_text(file.read_text().replace("kernels/demo.lock", "kernels/../../x"))
    assert "there is no lock file" in refused(file, capsys, "list")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('channels = ["x"]', "kernels[0].channels: they are conda's"),
        ('language = "r"', "numpy is no package of Debian's for R"),
        ('group = "strangers"', "kernels[0].group: there is no group strangers"),
        ('language = "conda"\npython = "3.12"', "only for language python"),
    ],
)
def test_wrong_tables_are_told(
    file: Path, capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    file.write_text(f"{BASE}{line}\n")
    assert sentence in refused(file, capsys, "list")


def test_a_course_is_a_group(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    course = '\n[[users]]\nname = "ines"\nuid = 2201\ngroups = ["hpc101"]\n'
    course += '\n[[courses]]\nname = "nla"\nuid = 50000\ninstructors = ["ines"]\n'
    for group in ("course-nla", "teach-nla"):
        file.write_text(with_kernel(BASE + course, "demo", {"title": "D", "group": group}))
        assert load(file).kernels[1].group == group
    file.write_text(with_kernel(BASE + course, "demo", {"title": "D", "group": "nla"}))
    assert "there is no group nla" in refused(file, capsys, "list")


def test_update_of_what_has_no_versions_of_its_own(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no kernel nope; there are: python3" in refused(file, capsys, "update", "nope")
    file.write_text(with_kernel(BASE, "stats", {"title": "R", "language": "r"}))
    assert "apt brings its updates" in refused(file, capsys, "update", "stats")
    assert "asks first" in refused(file, capsys, "remove", "stats")
