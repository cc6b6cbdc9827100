"""Files, lines, links and directories on a scratch tree: plan, apply, again, remove."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from agent_scratch import AgentError, Scratch, scratch
from hypothesis import given
from hypothesis import strategies as st

from provisioning.agent import files
from provisioning.agent.files import edit
from provisioning.agent.host import Host
from provisioning.resources import Directory, Line, Link, Resource, file


@pytest.fixture
def tree(tmp_path: Path) -> Scratch:
    return scratch(tmp_path / "tree")


def test_a_file_is_written_whole_and_once(tree: Scratch) -> None:
    resource = file("/etc/motd", "hello\n", mode=0o640)
    (change,) = tree.plan(resource)
    assert (change.key, change.action) == ("file:/etc/motd", "create")
    assert "+hello" in change.diff
    assert not tree.path("/etc/motd").exists()
    tree.apply(resource)
    assert tree.text("/etc/motd") == "hello\n"
    assert tree.path("/etc/motd").stat().st_mode & 0o7777 == 0o640
    assert [path.name for path in tree.path("/etc").iterdir()] == ["motd"]
    assert tree.plan(resource) == []


def test_a_changed_mode_alone_is_a_change(tree: Scratch) -> None:
    tree.write("/etc/motd", "hello\n", 0o666)
    (change,) = tree.apply(file("/etc/motd", "hello\n"))
    assert "mode 0666 → 0644" in change.summary
    assert tree.path("/etc/motd").stat().st_mode & 0o7777 == 0o644


def test_a_files_lines_are_part_of_it(tree: Scratch) -> None:
    """A second run must not take the lines out and put them in again."""
    resources: list[Resource] = [
        file("/etc/conf", "a = 1\n"),
        Line(path="/etc/conf", line="b = 2"),
        Line(path="/etc/conf", line="a = 3", match="^a ="),
    ]
    (change,) = tree.apply(*resources)
    assert tree.text("/etc/conf") == "a = 3\nb = 2\n"
    assert change.diff.count("@@") == 2  # one hunk, so one diff
    assert tree.plan(*resources) == []


def test_lines_of_a_later_stage_join_their_file(tree: Scratch) -> None:
    first = [file("/etc/conf", "a\n")]
    later: list[Resource] = [Line(path="/etc/conf", line="b")]
    tree.apply(base=[*first], hub=later)
    assert tree.text("/etc/conf") == "a\nb\n"
    assert tree.plan(base=[*first], hub=later) == []
    assert tree.plan(base=later, hub=[*first]) == []


def test_many_lines_of_one_file_are_one_change(tree: Scratch) -> None:
    tree.write("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 node\n")
    lines = [Line(path="/etc/hosts", line=f"10.0.0.{i} n{i}", match=f" n{i}$") for i in range(6)]
    gone = Line(path="/etc/hosts", line="", match=r"^127\.0\.1\.1\s", present=False)
    (change,) = tree.apply(gone, *lines)
    assert change.key == "line:/etc/hosts"
    assert "-127.0.1.1 node" in change.diff
    expected = [f"10.0.0.{i} n{i}" for i in range(6)]
    assert tree.text("/etc/hosts").splitlines() == ["127.0.0.1 localhost", *expected]
    assert tree.plan(gone, *lines) == []


def test_once_leaves_the_admins_file(tree: Scratch) -> None:
    tree.write("/etc/site", "mine\n", 0o600)
    assert tree.plan(file("/etc/site", "ours\n", once=True)) == []


def test_secrets_are_in_no_plan(tree: Scratch) -> None:
    tree.write("/etc/key", "old-secret\n", 0o600)
    (change,) = tree.apply(file("/etc/key", "new-secret\n", secret=True))
    shown = f"{change.summary}{change.diff}{tree.told}"
    assert "secret " in change.diff
    assert "old-secret" not in shown
    assert "new-secret" not in shown
    state = "".join(p.read_text() for p in tree.path("/var/lib/practicum").glob("*.json"))
    assert "-secret" not in state
    # Nor when the same path holds no secret any more: the old content would be in the diff.
    (change,) = tree.plan(file("/etc/key", "public\n"))
    assert "new-secret" not in change.diff


def test_a_refused_file_leaves_the_old_one(tree: Scratch) -> None:
    tree.write("/etc/conf", "good\n")
    refuse = file("/etc/conf", "bad\n", validate=("grep", "-q", "good", "{}"))
    session = tree.session({"base": [refuse]})
    session.plan()
    session.begin()
    with pytest.raises(AgentError, match="grep refuses the new /etc/conf"):
        session.apply("base", lambda _change: None, lambda: False)
    assert tree.text("/etc/conf") == "good\n"
    assert [path.name for path in tree.path("/etc").iterdir()] == ["conf"]


def test_binary_and_huge_files_show_sizes(tree: Scratch) -> None:
    (change,) = tree.plan(file("/etc/blob", b"\0\1\2"))
    assert change.diff == "0 bytes → 3 bytes"
    (change,) = tree.plan(file("/etc/huge", "x\n" * 200_000))
    assert change.diff == "0 bytes → 400000 bytes"


@pytest.mark.parametrize(
    "resource",
    [
        file("/etc/none/x", "x"),
        Directory(path="/etc/none/x"),
        Link(path="/etc/none/x", target="y"),
    ],
)
def test_a_missing_parent_is_named(tree: Scratch, resource: Resource) -> None:
    session = tree.session({"base": [resource]})
    session.plan()
    session.begin()
    with pytest.raises(AgentError, match=r"/etc/none is not there.*declare it"):
        session.apply("base", lambda _change: None, lambda: False)


def test_a_folder_in_the_way_is_named(tree: Scratch) -> None:
    tree.path("/etc/x").mkdir()
    assert "/etc/x should be a file, but is a directory" in tree.errors(file("/etc/x", ""))[0]
    assert "but is a directory" in tree.errors(Link(path="/etc/x", target="y"))[0]
    tree.write("/etc/y", "")
    assert "should be a directory" in tree.errors(Directory(path="/etc/y"))[0]


def test_an_unknown_owner_is_named_when_it_counts(tree: Scratch) -> None:
    resource = file("/etc/x", "", owner="nobody-here")
    assert len(tree.plan(resource)) == 1  # a package may still bring the account
    session = tree.session({"base": [resource]})
    session.begin()
    with pytest.raises(AgentError, match="/etc/x belongs to user nobody-here"):
        session.apply("base", lambda _change: None, lambda: False)


def test_links_are_replaced_and_directories_made(tree: Scratch) -> None:
    resources: list[Resource] = [
        Directory(path="/etc/d", mode=0o750),
        Directory(path="/etc/d/e"),
        Link(path="/etc/d/l", target="one"),
    ]
    assert len(tree.apply(*resources)) == 3
    assert tree.path("/etc/d").stat().st_mode & 0o7777 == 0o750
    resources[2] = Link(path="/etc/d/l", target="two")
    (change,) = tree.apply(*resources)
    assert "(was one)" in change.summary
    assert os.readlink(tree.path("/etc/d/l")) == "two"
    assert tree.plan(*resources) == []


def test_a_trial_that_takes_too_long_leaves_the_old_file(
    tree: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.VALIDATE_SECONDS >= 20 + 60 + 25 + 60  # check_slurm_conf.py's own limits, and room
    monkeypatch.setattr(files, "VALIDATE_SECONDS", 0.2)
    tree.write("/etc/conf", "old\n")
    slow = file("/etc/conf", "new\n", validate=("sh", "-c", "sleep 30", "{}"))
    with pytest.raises(AgentError, match=r"the old /etc/conf stays, .* apply again \(sh did not"):
        tree.apply(slow)
    assert tree.text("/etc/conf") == "old\n"


def test_what_is_no_longer_declared_goes(tree: Scratch) -> None:
    kept = Directory(path="/etc/kept")
    tree.write("/etc/hosts", "localhost\n")
    tree.apply(
        kept,
        Directory(path="/etc/d"),
        file("/etc/d/f", "x\n"),
        Link(path="/etc/d/l", target="f"),
        Line(path="/etc/hosts", line="added"),
        Line(path="/etc/new", line="alone"),
    )
    removed = tree.apply(kept)
    assert {change.action for change in removed} == {"remove"}
    assert sorted(path.name for path in tree.path("/etc").iterdir()) == ["hosts", "kept"]
    assert tree.text("/etc/hosts") == "localhost\n"
    assert tree.plan(kept) == []


def test_what_was_there_before_comes_back(tree: Scratch) -> None:
    tree.write("/etc/conf", "distribution's\n", 0o600)
    tree.write("/etc/sshd", "Port 22\nPermitRootLogin yes\n")
    tree.path("/etc/zone").symlink_to("UTC")
    tree.apply(
        file("/etc/conf", "ours 1\n"),
        Line(path="/etc/sshd", line="PermitRootLogin no", match="^PermitRootLogin"),
        Link(path="/etc/zone", target="Europe/Berlin"),
    )
    tree.apply(
        file("/etc/conf", "ours 2\n"),
        Line(path="/etc/sshd", line="PermitRootLogin key", match="^PermitRootLogin"),
        Link(path="/etc/zone", target="Asia/Tokyo"),
    )
    tree.apply()
    assert tree.text("/etc/conf") == "distribution's\n"
    assert tree.path("/etc/conf").stat().st_mode & 0o7777 == 0o600
    assert tree.text("/etc/sshd") == "Port 22\nPermitRootLogin yes\n"
    assert os.readlink(tree.path("/etc/zone")) == "UTC"


def test_what_was_right_before_is_not_removed(tree: Scratch) -> None:
    tree.write("/etc/conf", "same\n")
    tree.path("/etc/d").mkdir()
    resources = [file("/etc/conf", "same\n"), Directory(path="/etc/d"), file("/etc/new", "")]
    assert [change.key for change in tree.apply(*resources)] == ["file:/etc/new"]
    tree.apply()
    assert tree.text("/etc/conf") == "same\n"
    assert tree.path("/etc/d").is_dir()
    assert not tree.path("/etc/new").exists()


def test_a_folder_of_our_own_is_not_somebody_elses(tree: Scratch) -> None:
    """Refused with things in it, while a disk's lost+found and what we put there are none."""
    own = Directory(path="/data", own=True)
    tree.write("/data/thesis", "precious")
    tree.path("/data").chmod(0o1777)
    (said,) = tree.errors(own)
    assert said.startswith("/data is to be practicum's own and has other things in it (thesis):")
    assert "\n" not in said and "name another folder in cluster.toml" in said
    assert tree.path("/data").stat().st_mode & 0o7777 == 0o1777
    tree.path("/data/thesis").unlink()
    tree.path("/data/lost+found").mkdir()
    assert [change.key for change in tree.apply(own)] == ["directory:/data"]
    tree.path("/data/17").mkdir()
    assert tree.plan(own) == []
    assert tree.errors(own) == []


def test_full_directories_are_only_listed(tree: Scratch) -> None:
    tree.apply(Directory(path="/etc/d"))
    tree.write("/etc/d/data", "somebody's")
    (change,) = tree.plan()
    assert (change.action, change.key) == ("list", "directory:/etc/d")
    assert tree.apply() == []
    assert tree.text("/etc/d/data") == "somebody's"


def test_a_file_changed_by_hand_is_kept_aside(tree: Scratch) -> None:
    tree.apply(file("/etc/conf", "ours\n"))
    tree.write("/etc/conf", "an hour of work\n")
    tree.apply()
    assert not tree.path("/etc/conf").exists()
    assert tree.text("/var/lib/practicum/removed/etc/conf") == "an hour of work\n"


def test_links_are_resolved_inside_the_root(tree: Scratch) -> None:
    tree.path("/etc/outside").symlink_to("/var/x")
    tree.path("/etc/up").symlink_to("../../../../../var/x")
    tree.path("/var/x").mkdir(parents=True)
    tree.apply(file("/etc/outside/a", "1"), file("/etc/up/b", "2"))
    assert tree.text("/var/x/a") + tree.text("/var/x/b") == "12"


def test_a_loop_of_links_is_an_error(tree: Scratch) -> None:
    tree.path("/etc/a").symlink_to("b")
    tree.path("/etc/b").symlink_to("a")
    with pytest.raises(AgentError, match="too many links"):
        Host(str(tree.root)).look("/etc/a/x")


line_text = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=12)
texts = st.lists(line_text, max_size=6).map("\n".join)


@given(text=texts, line=line_text, present=st.booleans())
def test_editing_twice_is_editing_once(text: str, line: str, present: bool) -> None:
    once = edit(text, line, present=present)
    assert edit(once, line, present=present) == once
    assert (line in once.split("\n")) == present or line == ""


@given(text=texts, word=st.sampled_from(["a", "b", "1"]), line=line_text)
def test_a_match_leaves_one_line_and_no_other(text: str, word: str, line: str) -> None:
    pattern = f"^{re.escape(word)}"
    once = edit(text, line, pattern)
    assert edit(once, line, pattern) == once
    others = [old for old in once.split("\n") if re.search(pattern, old) and old != line]
    assert others == []
    untouched = [old for old in text.split("\n") if not re.search(pattern, old) and old != line]
    rest = [old for old in once.split("\n") if old != line]
    assert [old for old in rest if old] == [old for old in untouched if old]


@given(content=st.lists(texts, min_size=1, max_size=4), data=st.data())
def test_the_plan_is_what_apply_does(
    tmp_path_factory: pytest.TempPathFactory, content: list[str], data: st.DataObject
) -> None:
    """Whatever lies there and whatever lines are asked for: the second plan is empty or asks
    for what the first could not settle (lines that contradict each other)."""
    tree = scratch(tmp_path_factory.mktemp("lines") / "tree")
    tree.write("/etc/f", content[0])
    lines = [
        Line(path="/etc/f", line=text)
        for text in dict.fromkeys(data.draw(st.lists(line_text, max_size=5)))
    ]
    planned = tree.plan(*lines)
    made = tree.apply(*lines)
    assert [(c.key, c.diff) for c in planned] == [(c.key, c.diff) for c in made]
    assert tree.plan(*lines) == []
