"""Files that somebody changed by hand on a node: told, kept if cluster.toml says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from agent_scratch import Scratch, scratch

from provisioning.resources import File, Line, file

PATH = "/etc/app.conf"


@pytest.fixture
def tree(tmp_path: Path) -> Scratch:
    made = scratch(tmp_path / "tree")
    made.apply(file(PATH, "port=1\n"))
    return made


def test_an_edit_by_hand_is_told_and_a_copy_stays(tree: Scratch) -> None:
    tree.write(PATH, "port=2\n")
    (change,) = tree.plan(file(PATH, "port=1\n"))
    assert "edited on the node since the last apply" in change.summary
    assert "-port=2" in change.diff
    tree.apply(file(PATH, "port=1\n"))
    assert tree.text(PATH) == "port=1\n"
    assert tree.text(f"/var/lib/practicum/backup{PATH}.edited") == "port=2\n"
    assert tree.plan(file(PATH, "port=1\n")) == []


def test_our_own_change_is_not_taken_for_an_edit(tree: Scratch) -> None:
    (change,) = tree.apply(file(PATH, "port=3\n"))
    assert change.summary == f"edit {PATH} (content)"
    assert not tree.path(f"/var/lib/practicum/backup{PATH}.edited").exists()


def test_an_edit_to_what_is_wanted_now_needs_nothing(tree: Scratch) -> None:
    tree.write(PATH, "port=2\n")
    assert tree.plan(file(PATH, "port=2\n")) == []


def test_a_kept_file_stays_and_the_plan_says_so(tree: Scratch) -> None:
    tree.write(PATH, "port=2\n")
    kept: File = replace(file(PATH, "port=1\n", notify=("run:x",)), keep=True)
    line = Line(path=PATH, line="user=me", keep=True)
    (change,) = tree.plan(kept, line)
    assert (change.action, change.key) == ("list", f"file:{PATH}")
    assert f"keep {PATH} as it is" in change.summary
    assert "-port=2" in change.diff
    assert tree.apply(kept, line) == []
    assert tree.text(PATH) == "port=2\n"
    # No longer kept: it is ours again, and the edit is told.
    assert "edited on the node" in tree.plan(file(PATH, "port=1\n"))[0].summary


def test_a_kept_file_with_other_work_in_its_stage(tree: Scratch) -> None:
    tree.write(PATH, "port=2\n")
    kept = replace(file(PATH, "port=1\n"), keep=True)
    tree.apply(kept, file("/etc/other", "1\n"))
    assert tree.text("/etc/other") == "1\n"
    assert tree.text(PATH) == "port=2\n"


def test_a_kept_file_that_is_missing_is_written(tree: Scratch) -> None:
    tree.path(PATH).unlink()
    tree.apply(replace(file(PATH, "port=1\n"), keep=True))
    assert tree.text(PATH) == "port=1\n"


def test_a_line_declared_in_other_words_stays_ours(tree: Scratch) -> None:
    """A newer practicum finds the line by another pattern: nothing is to be done, and when it is
    no longer declared, what stood there before comes back."""
    tree.write("/etc/hosts", "10.0.0.1 login\n")
    line = Line(path="/etc/hosts", line="10.0.0.1\tlogin", match=r"^\S+\s+login$")
    tree.apply(line)
    other = replace(line, match=r"^10\.0\.0\.1\s")
    assert tree.plan(other) == []
    tree.apply(other, file("/etc/more", "1\n"))
    assert tree.text("/etc/hosts") == "10.0.0.1\tlogin\n"
    assert tree.plan(other, file("/etc/more", "1\n")) == []
    tree.apply()
    assert tree.text("/etc/hosts") == "10.0.0.1 login\n"


def test_a_line_of_ours_that_changed_is_taken_out(tree: Scratch) -> None:
    """None stood there before: what was ours the time before does not come back."""
    tree.write("/etc/exports", "# the site's\n")
    line = Line(path="/etc/exports", line="/home a(rw)", match=r"^/home\s")
    tree.apply(line)
    for later in ("/home a(rw) b(rw)", "/home a(rw)"):
        tree.apply(replace(line, line=later))
        assert tree.text("/etc/exports") == f"# the site's\n{later}\n"
    tree.apply()
    assert tree.text("/etc/exports") == "# the site's\n"


def test_a_line_that_was_there_in_the_same_words_comes_back(tree: Scratch) -> None:
    tree.write("/etc/exports", "/home a(rw)\n")
    line = Line(path="/etc/exports", line="/home a(rw)", match=r"^/home\s")
    tree.apply(line)
    for later in ("/home b(rw)", "/home c(rw)"):
        tree.apply(replace(line, line=later))
    tree.apply()
    assert tree.text("/etc/exports") == "/home a(rw)\n"
