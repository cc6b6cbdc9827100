"""The script that puts new network settings in place, and the old ones back, in a folder of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioning.roles.own_files import own_file

Switch = Callable[..., list[str]]


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    """``switch("back", "--boot")`` runs it; the words of the commands that it has run."""
    script = tmp_path / "switch.py"
    script.write_text(
        own_file("network-switch.py").replace("/var/lib/practicum/network", str(tmp_path))
    )

    def run(*words: str) -> list[str]:
        argv = [sys.executable, "-I", str(script), *words]
        done = subprocess.run(argv, timeout=30, check=False)
        assert done.returncode == 0
        log = tmp_path / "log"
        return log.read_text().split() if log.exists() else []

    return run


def armed(folder: Path, name: str = "change.json", *more: str) -> None:
    """A change of two files, one of which is new, and more; each command writes its own name down."""
    (folder / "one").write_text("old")
    say = {
        when: [["sh", "-c", f"echo {when} >> {folder}/log"]]
        for when in ("before", "after_new", "after_old", "at_boot")
    }
    record = {
        "old": {f"{folder}/one": ["old", 0o644], f"{folder}/two": None},
        "new": {f"{folder}/one": ["new", 0o644], f"{folder}/two": ["new", 0o600]}
        | {path: ["new", 0o644] for path in more},
        **say,
    }
    (folder / name).write_text(json.dumps(record))


def test_new_settings_are_tried_and_taken_back(tmp_path: Path, switch: Switch) -> None:
    armed(tmp_path)
    assert switch("apply") == ["before", "after_new"]
    assert (tmp_path / "applied").exists()
    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text() == "new"
    assert (tmp_path / "two").stat().st_mode & 0o777 == 0o600
    assert switch("back")[2:] == ["before", "after_old"]
    assert (tmp_path / "one").read_text() == "old"
    assert not (tmp_path / "two").exists()
    assert not (tmp_path / "change.json").exists()
    assert (tmp_path / "taken-back.json").exists()


def test_what_was_confirmed_stays(tmp_path: Path, switch: Switch) -> None:
    armed(tmp_path)
    switch("apply")
    (tmp_path / "change.json").rename(tmp_path / "confirmed.json")
    assert switch("back") == ["before", "after_new"]
    assert (tmp_path / "one").read_text() == "new"


def test_a_file_that_cannot_be_written_takes_all_back(tmp_path: Path, switch: Switch) -> None:
    """And the interface comes up again, which was taken down before."""
    armed(tmp_path, "change.json", f"{tmp_path}/missing/three")
    assert switch("apply") == ["before", "before", "after_old"]
    assert not (tmp_path / "applied").exists()
    assert (tmp_path / "one").read_text() == "old"
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("name", ["change.json", "taking-back.json"])
def test_a_restart_takes_back_what_waits_and_what_was_cut_off(
    tmp_path: Path, switch: Switch, name: str
) -> None:
    armed(tmp_path, name)
    (tmp_path / "one").write_text("new")
    assert switch("back", "--boot") == ["at_boot"]
    assert (tmp_path / "one").read_text() == "old"
    assert not (tmp_path / name).exists()
    assert switch("back", "--boot") == ["at_boot"]  # once


def test_what_cannot_all_be_put_back_is_tried_again(tmp_path: Path, switch: Switch) -> None:
    armed(tmp_path)
    switch("apply")
    (tmp_path / "two").unlink()
    (tmp_path / "two").mkdir()  # in the way
    assert switch("back")[2:] == ["before", "after_old"]
    assert (tmp_path / "one").read_text() == "old"
    assert (tmp_path / "taking-back.json").exists()
    (tmp_path / "two").rmdir()
    assert switch("back", "--boot")[4:] == ["at_boot"]
    assert not (tmp_path / "taking-back.json").exists()


def test_nothing_waits(tmp_path: Path, switch: Switch) -> None:
    for words in (["apply"], ["back"], ["back", "--boot"]):
        assert switch(*words) == []
