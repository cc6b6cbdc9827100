"""`practicum quota` and --format: sizes, cluster.toml changed as text, sentences for mistakes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli import practicum
from test_roles import small

from cluster.edit_quotas import with_quota, without_quota
from cluster.errors import UsageError
from cluster.load import load
from cluster.secrets import generate, save_secrets, secrets_path
from practicum import formatting, quota
from practicum.start import Place, cluster_toml
from provisioning.planning import Change, NodePlan, Plan
from provisioning.roles.disk import CONFIRMED

STORAGE = """
provider = "nfs"
quotas = true
disk = { serial = "DATA-1", format = true }
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A cluster.toml with quotas, as init writes it."""
    text = cluster_toml(Place())
    text = text.replace('provider = "external"', STORAGE.strip())
    path = tmp_path / "cluster.toml"
    path.write_text(
        text + '\n# for the class\n[[quotas]]\ngroup = "students"\nhard_mb = 1000  # all\n'
    )
    load(path)
    return path


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("0", 0), ("500", 500), ("500M", 500), ("500MB", 500), ("20G", 20480), ("1.5T", 1572864), ("20g", 20480)],
)  # fmt: skip
def test_sizes(text: str, megabytes: int) -> None:
    assert quota.size_mb(text, "soft") == megabytes


@given(st.text(alphabet="0123456789.MGTk-+e \u0660", max_size=8))
def test_what_is_no_size_is_refused(text: str) -> None:
    try:
        assert quota.size_mb(text, "hard") >= 0
    except UsageError as error:
        assert "not a size like 500M" in str(error)


def test_set_gives_somebody_a_line_that_begins_with_what_the_group_has(toml: Path) -> None:
    done = practicum("quota", "set", "ada", "--soft", "500M", "--soft-files", "9", "-f", str(toml))
    assert (done.returncode, done.stderr) == (0, "")
    assert "practicum apply --limit login brings it to login" in done.stdout
    assert "# for the class" in toml.read_text()
    assert tomllib.loads(toml.read_text())["quotas"] == [
        {"group": "students", "hard_mb": 1000},
        {"user": "ada", "hard_mb": 1000, "soft_mb": 500, "soft_files": 9},
    ]


def test_what_would_be_wrong_leaves_the_file_as_it_was(toml: Path) -> None:
    before = toml.read_text()
    done = practicum("quota", "set", "--group", "students", "--soft", "2G", "-f", str(toml))
    assert done.returncode == 2
    assert "2048 is more than hard_mb = 1000" in done.stderr
    assert toml.read_text() == before


def test_default_takes_the_line_out_again(toml: Path) -> None:
    before = tomllib.loads(toml.read_text())
    practicum("quota", "set", "ada", "--hard", "2G", "-f", str(toml))
    assert practicum("quota", "set", "ada", "--default", "-f", str(toml)).returncode == 0
    assert tomllib.loads(toml.read_text()) == before
    again = practicum("quota", "set", "ada", "--default", "-f", str(toml))
    assert again.stdout == "nothing to change\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["set", "adda", "--hard", "1G"], "there is no user adda (did you mean ada?)"),
        (["set", "--hard", "1G"], "name either a USER or --group"),
        (["set", "ada", "--group", "students", "--hard", "1G"], "name either a USER or --group"),
        (["set", "ada"], "give limits"),
        (["set", "ada", "--hard", "1G", "--default"], "give limits"),
        (["set", "ada", "--whole-group", "--hard", "1G"], "--whole-group goes with --group"),
        (["set", "ada", "--hard", "much"], "--hard much: not a size"),
        (["show", "nobody"], "there is no user nobody"),
    ],
)
def test_mistakes_with_quotas_are_one_sentence(toml: Path, words: list[str], sentence: str) -> None:
    done = practicum("quota", *words, "-f", str(toml))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_cluster_without_quotas_says_so(toml: Path) -> None:
    text = toml.read_text().replace("quotas = true", "quotas = false")
    toml.write_text(text.partition("# for the class")[0])
    done = practicum("quota", "show", "-f", str(toml))
    assert done.returncode == 2
    assert "this cluster has no quotas: set quotas = true" in done.stderr


NAMES = st.sampled_from(["ada", "ben", "cleo"])
NUMBERS = st.dictionaries(
    st.sampled_from(["soft_mb", "hard_mb", "soft_files", "hard_files"]), st.integers(0, 1 << 40), min_size=1
)  # fmt: skip


@given(st.lists(st.tuples(NAMES, NUMBERS), max_size=6))
def test_lines_of_quotas_come_and_go_and_nothing_else_changes(edits) -> None:
    text = '# mine\n[cluster]\nname = "pi"\n'
    wanted: dict[str, dict[str, int]] = {}
    new = text
    for name, numbers in edits:
        new = with_quota(new, "user", name, numbers, whole=False)
        wanted[name] = {**wanted.get(name, {}), **numbers}
    found = {row.pop("user"): row for row in tomllib.loads(new).get("quotas", [])}
    assert found == wanted
    for name in wanted:
        new = without_quota(new, "user", name, whole=False)
    assert tomllib.loads(new) == tomllib.loads(text)
    assert new.startswith("# mine")


def row(**numbers: int) -> dict[str, int]:
    keys = (
        "soft_kb",
        "hard_kb",
        "soft_files",
        "hard_files",
        "used_kb",
        "files",
        "kb_until",
        "files_until",
    )
    return {**dict.fromkeys(keys, 0), **numbers}  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ({"used_kb": 5}, ""),
        ({"used_kb": 5, "soft_kb": 6, "hard_kb": 10}, ""),
        ({"used_kb": 9, "hard_kb": 10}, "nearly out of space"),
        ({"used_kb": 10, "hard_kb": 10}, "no space left"),
        ({"files": 10, "hard_files": 10}, "no files left"),
        ({"used_kb": 7, "soft_kb": 6, "kb_until": 1000 + 3 * 86400}, "over the soft limit: 3 days left"),
        ({"used_kb": 7, "soft_kb": 6, "kb_until": 1000 + 7200}, "over the soft limit: 2 h left"),
        ({"used_kb": 7, "soft_kb": 6, "kb_until": 999}, "grace for space is over"),
    ],
)  # fmt: skip
def test_the_table_says_what_is_to_be_known(numbers: dict[str, int], text: str) -> None:
    assert quota.state(row(**numbers), 1000) == text


@pytest.mark.parametrize(("kilobytes", "text"), [(0, "0 kB"), (999, "999 kB"), (1024, "1.0 MB"), (30720, "30 MB"), (20 << 20, "20 GB")])  # fmt: skip
def test_amounts(kilobytes: int, text: str) -> None:
    assert quota.amount(kilobytes) == text


# -- formatting

CLUSTER = small(storage={"provider": "nfs", "disk": {"serial": "DATA-1", "format": True}})
SUMMARY = "format disk DATA-1, 1.8 TB, which is empty (ext4)"
FORMATS = Plan((NodePlan("login", (Change("command:storage-format", "run", SUMMARY),)),))
OTHER = Plan((NodePlan("login", (Change("file:/x", "create", "write /x"),)),))


def test_yes_never_agrees_to_format() -> None:
    with pytest.raises(UsageError, match="add --format DATA-1"):
        formatting.ask(FORMATS, CLUSTER, yes=True)
    assert formatting.ask(OTHER, CLUSTER, yes=True) == ""


def test_typing_another_name_changes_nothing(monkeypatch) -> None:
    monkeypatch.setattr("typer.prompt", lambda *_words, **_more: "yes")
    with pytest.raises(UsageError, match="that is not DATA-1: nothing was changed"):
        formatting.ask(FORMATS, CLUSTER, yes=False)
    monkeypatch.setattr("typer.prompt", lambda *_words, **_more: "DATA-1")
    assert formatting.ask(FORMATS, CLUSTER, yes=False) == "DATA-1"


def test_format_names_the_disk_of_cluster_toml() -> None:
    assert formatting.confirmed(CLUSTER, "DATA-1") == {CONFIRMED: "DATA-1"}
    assert formatting.confirmed(CLUSTER, "") == {}
    with pytest.raises(UsageError, match="asks to format DATA-1"):
        formatting.confirmed(CLUSTER, "OTHER")
    with pytest.raises(UsageError, match="asks to format none"):
        formatting.confirmed(small(), "OTHER")


def test_the_tables_of_the_admins_page_work_together(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "admin.md").read_text()
    blocks = [part.partition("```")[0] for part in page.split("```toml\n")[1:]]
    storage = next(one for one in blocks if 'provider = "nfs"' in one)
    lines = next(one for one in blocks if "[[quotas]]" in one)
    text = cluster_toml(Place())
    text = text.replace('[storage]\nprovider = "external"', storage.strip())
    path = tmp_path / "cluster.toml"
    path.write_text(f"{text}\n{lines}")
    assert load(path).quotas[0].hard_mb == 10000


def test_an_account_that_leaves_takes_its_line_along(toml: Path, tmp_path: Path) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text("name\nzoe\n")
    path = secrets_path(toml)
    path.parent.mkdir(mode=0o700)
    save_secrets(path, generate({}))
    file = ["-f", str(toml)]
    assert practicum("user", "import", str(roster), "--group", "hpc101", *file).returncode == 0
    assert practicum("quota", "set", "zoe", "--hard", "2G", *file).returncode == 0
    assert [one.user for one in load(toml).quotas] == [None, "zoe"]
    done = practicum("user", "remove", "zoe", *file)
    assert (done.returncode, done.stderr) == (0, "")
    assert [one.user for one in load(toml).quotas] == [None]
