"""Accounts from rosters: numbers for ever, the same list again, and the command itself."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import people
from cluster.errors import ConfigError
from cluster.load import load, public_json
from cluster.people import Account, Book
from cluster.roster import Person
from cluster.secrets import load_secrets, secrets_path
from practicum import cli, handout, start
from practicum.start import begin


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(start, "_ip", lambda *_words: [])
    path = tmp_path / "cluster.toml"
    list(begin(path))
    return path


def practicum(*words: str | Path, file: Path) -> int:
    return cli.run(["user", *map(str, words), "--file", str(file)])


def roster(file: Path, text: str) -> Path:
    path = file.parent / "roster.csv"
    path.write_text(text)
    return path


def test_import_makes_accounts_once(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = roster(file, "name,full_name,email\nzoe,Zoe <b>X,z@x.org\nyan,,\n")
    assert practicum("import", path, "--group", "hpc101", file=file) == 0
    said = capsys.readouterr().out
    cluster = load(file)
    zoe = next(user for user in cluster.users if user.name == "zoe")
    assert (zoe.uid, zoe.groups, zoe.email) == (10000, ("hpc101",), "z@x.org")
    assert next(one for one in cluster.groups if one.name == "hpc101").role == "student"
    page = file.parent / "secrets/handouts/hpc101.html"
    assert str(page) in said
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
    text = page.read_text()
    assert "Zoe &lt;b&gt;X" in text
    assert len(re.findall(r"<code>(?:[a-z0-9]{4}-){2}[a-z0-9]{4}</code>", text)) == 2
    hashes = load_secrets(secrets_path(file))
    assert hashes["password.zoe"].startswith("$6$")
    before = {one: one.read_bytes() for one in file.parent.rglob("*") if one.is_file()}
    assert practicum("import", path, "--group", "hpc101", file=file) == 0
    assert "nothing to change" in capsys.readouterr().out
    assert before == {one: one.read_bytes() for one in file.parent.rglob("*") if one.is_file()}


def test_remove_keeps_the_number_for_who_comes_back(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = roster(file, "name\nzoe\nyan\n")
    practicum("import", path, "--group", "hpc101", file=file)
    assert practicum("remove", "zoe", file=file) == 0
    assert "Its files stay in /home/zoe" in capsys.readouterr().out
    assert "zoe" not in {user.name for user in load(file).users}
    assert "password.zoe" not in load_secrets(secrets_path(file))
    practicum("import", roster(file, "name\nxia\n"), "--group", "hpc101", file=file)
    practicum("import", roster(file, "name\nzoe\n"), "--group", "hpc101", file=file)
    uids = {user.name: user.uid for user in load(file).users}
    assert (uids["zoe"], uids["yan"], uids["xia"]) == (10000, 10001, 10002)
    said = capsys.readouterr().out
    assert "not on this list, left as they are: yan, xia" in said
    assert people.read_left(file) == {}


def test_from_the_folder_of_cluster_toml(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an admin types it, without a path."""
    roster(file, "name\nzoe\nyan\n")
    monkeypatch.chdir(file.parent)
    for words in (["import", "roster.csv", "--group", "hpc101"], ["remove", "zoe"],
                  ["import", "roster.csv", "--group", "hpc101"]):  # fmt: skip
        assert cli.run(["user", *words]) == 0
    names = [user.name for user in load(file).users]
    assert names.count("zoe") == names.count("yan") == 1


def test_who_is_named_elsewhere_is_not_removed_halfway(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    practicum("import", roster(file, "name\nzoe\n"), "--group", "hpc101", file=file)
    file.write_text(file.read_text() + '[[accounts]]\nname = "theses"\nusers = ["zoe"]\n')
    before = {one: one.read_bytes() for one in file.parent.rglob("*") if one.is_file()}
    capsys.readouterr()
    assert practicum("remove", "zoe", file=file) == 2
    assert "accounts[0].users[0]: there is no user zoe" in capsys.readouterr().err
    assert before == {one: one.read_bytes() for one in file.parent.rglob("*") if one.is_file()}


def test_a_second_course_adds_a_group(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = roster(file, "name\nzoe\nada\n")
    practicum("import", path, "--group", "hpc101", file=file)
    practicum("import", path, "--group", "hpc102", file=file)
    users = {user.name: user for user in load(file).users}
    assert users["zoe"].groups == ("hpc101", "hpc102")
    assert users["ada"].groups == ("students",)  # hers is the admin's file
    assert "in cluster.toml already, left as they are: ada" in capsys.readouterr().out


def test_list(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    practicum("import", roster(file, "name\nzoe\n"), "--group", "hpc101", file=file)
    capsys.readouterr()
    assert practicum("list", "--json", file=file) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["users"]}
    assert rows["zoe"]["password"] is True
    assert rows["zoe"]["file"].endswith("users/hpc101.toml")
    assert rows["ada"]["password"] is False
    assert practicum("list", file=file) == 0
    assert "zoe   10000  hpc101" in capsys.readouterr().out


def test_who_comes_back_is_told_and_so_is_somebody_else_of_that_name(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    practicum("import", roster(file, "name\nzoe\nyan\n"), "--group", "hpc101", file=file)
    practicum("remove", "zoe", file=file)
    assert "before" not in capsys.readouterr().out
    practicum("import", roster(file, "name\nzoe\nxia\n"), "--group", "hpc101", file=file)
    said = capsys.readouterr().out
    assert "had an account before, and get its number, home and SSH keys again: zoe (" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["import", "roster.csv", "--group", "sudo"], "belongs to the system"),
        (["import", "roster.csv", "--group", "grader-x"], "belongs to the system"),
        (["import", "roster.csv", "--group", "../x"], "not a group's name"),
        (["import", "roster.csv", "--group", "admins"], "root on every node, and no class is"),
        (["import", "missing.csv", "--group", "g"], "missing.csv cannot be read: No such file"),
        (["remove", "ada"], "is declared in"),
        (["remove", "ad"], "there is no user ad (did you mean ada?)"),
        (["passwd", "ad"], "has no user ad (did you mean ada?)"),
    ],
)
def test_refusals(
    file: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    roster(file, "name\nzoe\n")
    monkeypatch.chdir(file.parent)
    before = {one: one.read_bytes() for one in file.parent.rglob("*") if one.is_file()}
    assert practicum(*words, file=file) == 2
    assert sentence in capsys.readouterr().err
    assert before == {one: one.read_bytes() for one in file.parent.rglob("*") if one.is_file()}


COURSE = """
[[courses]]
name = "hpc"
uid = 50000
instructors = ["ines"]
"""


@pytest.mark.parametrize(
    ("old", "new", "name", "group", "sentence"),
    [
        ('user = "root"', 'user = "pi"', "pi", "hpc101", "ssh.user: pi is a student"),
        ("", COURSE, "zoe", "course-hpc", "course-hpc is a user or group already"),
    ],
)
def test_a_roster_that_does_not_fit_changes_nothing(
    file: Path, old: str, new: str, name: str, group: str, sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Written all the same, it stopped every command, those that could take it back too."""
    text = file.read_text()
    file.write_text(text.replace(old, new, 1) if old else text + new)
    path = roster(file, f"name\n{name}\n")
    before = {one: one.read_bytes() for one in file.parent.rglob("*") if one.is_file()}
    assert practicum("import", path, "--group", group, file=file) == 2
    said = capsys.readouterr().err
    assert "nothing was imported" in said
    assert sentence in said
    assert before == {one: one.read_bytes() for one in file.parent.rglob("*") if one.is_file()}
    assert practicum("list", file=file) == 0


@pytest.mark.parametrize("name", ["practicum-build", "grader-hpc", "gradebox-hpc-01", "rdma"])
def test_the_systems_names_are_not_for_people(
    file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = roster(file, f"name\n{name}\n")
    assert practicum("import", path, "--group", "hpc101", file=file) == 2
    assert f"{name} is an account of the system" in capsys.readouterr().err
    file.write_text(
        file.read_text() + f'[[users]]\nname = "{name}"\nuid = 3900\ngroups = ["students"]\n'
    )
    with pytest.raises(ConfigError, match=f"{name} belongs to the system"):
        load(file)


def test_faults_of_an_accounts_file_name_it_and_the_line(file: Path) -> None:
    folder = file.parent / "users"
    folder.mkdir()
    book = folder / "hpc.toml"
    book.write_text('[[users]]\nname = "zoe"\nuid = 3000\ngroups = ["students"]\n')
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert f"{book}:3: users[0].uid: uid 3000 is taken" in str(caught.value)
    book.write_text('[[users]]\nname = "Zoe"\nuid = 10000\ngroups = ["students"]\n')
    with pytest.raises(ConfigError, match=re.escape(f"{book}:2: users[0].name: must be a name")):
        load(file)
    book.write_text("[hub]\nport = 1\n")
    with pytest.raises(ConfigError, match=r"only .*users.* may be here, not hub"):
        load(file)


def test_mail_addresses_and_keys_are_not_for_everyone(file: Path) -> None:
    practicum("import", roster(file, "name,email\nzoe,z@x.org\n"), "--group", "g", file=file)
    assert "z@x.org" not in public_json(load(file))


@given(st.lists(st.sampled_from(["ka", "kb", "kc", "kd", "ke"]), unique=True, max_size=5),
       st.lists(st.sampled_from(["ka", "kb", "kc", "kd", "ke"]), unique=True, max_size=5))  # fmt: skip
def test_numbers_are_never_given_twice(first: list[str], gone: list[str]) -> None:
    cluster = _cluster()
    made = people.plan_import(cluster, {}, {}, map(Person, first), "hpc")
    books, left = dict(made.books), {}
    for name in gone:
        if found := people.without(books, name):
            books.update(found[0])
            left[name] = found[1].uid
    taken = {one.name: one.uid for book in books.values() for one in book.accounts} | left
    again = people.plan_import(cluster, books, left, map(Person, ["kz", *first, *gone]), "hpc")
    now = {one.name: one.uid for one in again.books["hpc"].accounts}
    assert len(set(now.values())) == len(now)
    assert all(now[name] == uid for name, uid in taken.items())


def _cluster():
    from test_roles import small

    return small()


def test_rendered_text_is_read_back(tmp_path: Path) -> None:
    import tomllib

    book = Book((Account("zoe", 10000, ("a", "b"), 'Z "q" \\ \x7f', "z@x.org"),), gid=10000)
    data = tomllib.loads(people.render("a", book))
    assert data["users"][0]["full_name"] == 'Z "q" \\ \x7f'
    assert data["groups"] == [{"name": "a", "gid": 10000, "role": "student"}]


def test_passwords_are_for_paper_and_differ() -> None:
    made = {handout.password() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"[a-hj-km-np-z2-9]{4}(-[a-hj-km-np-z2-9]{4}){2}", one) for one in made)
