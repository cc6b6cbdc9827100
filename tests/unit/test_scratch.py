"""The scripts that give each job a folder on its node's own disk, run for real."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from test_roles import BOARD, SECRETS, small

from provisioning.role import Context
from provisioning.roles.own_files import own_file
from provisioning.roles.scratch import PLACES, TMPFILES, scratch, tmpfiles, where

root = pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another account: root only")
SCRIPTS = list(PLACES)


def run(
    folder: Path, name: str, job: str = "17", uid: str = "4321"
) -> subprocess.CompletedProcess[str]:
    script = own_file(name).replace("@SCRATCH@", str(folder))
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SLURM_JOB_ID": job, "SLURM_JOB_UID": uid}
    return subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=20, check=False)  # fmt: skip


@root
def test_a_job_gets_a_folder_that_only_its_user_enters(tmp_path: Path) -> None:
    assert run(tmp_path, "scratch-prolog").returncode == 0
    found = (tmp_path / "17").stat()
    assert (found.st_uid, found.st_mode & 0o7777) == (4321, 0o700)


@root
def test_what_lies_there_under_the_same_number_goes_and_no_link_is_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "scratch"
    outside.mkdir()
    folder.mkdir()
    (outside / "precious").write_text("x")
    (folder / "17").symlink_to(outside)
    (folder / "18").mkdir()
    (folder / "18" / "link").symlink_to(outside)
    (folder / "18" / "old").write_text("of somebody else")
    for job in ("17", "18"):
        assert run(folder, "scratch-prolog", job).returncode == 0
        assert not (folder / job).is_symlink()
        assert list((folder / job).iterdir()) == []
    assert (outside / "precious").read_text() == "x"
    assert outside.stat().st_uid == 0


@root
def test_the_folder_goes_with_the_job_and_nothing_outside_of_it(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "scratch"
    outside.mkdir()
    folder.mkdir()
    (outside / "precious").write_text("x")
    run(folder, "scratch-prolog")
    (folder / "17" / "deep").mkdir()
    (folder / "17" / "deep" / "link").symlink_to(outside)
    # no systemd here, or one that is not ours: the script itself must do it
    script = own_file("scratch-epilog").replace("systemd-run", "false")
    env = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "17", "SLURM_JOB_UID": "4321"}
    script = script.replace("@SCRATCH@", str(folder))
    subprocess.run(["sh", "-c", script], env=env, check=True, timeout=20)
    assert list(folder.iterdir()) == []
    assert (outside / "precious").read_text() == "x"


@pytest.mark.parametrize("job", ["", "../etc", "17; touch x", "17\n18", "-1"])
def test_only_numbers_are_taken(tmp_path: Path, job: str) -> None:
    (tmp_path / "etc").mkdir()
    folder = tmp_path / "scratch"
    folder.mkdir()
    for name in ("scratch-prolog", "scratch-epilog"):
        assert run(folder, name, job).returncode == 0
    assert list(folder.iterdir()) == []
    assert (tmp_path / "etc").is_dir()


def test_a_folder_that_cannot_be_made_holds_no_job_up(tmp_path: Path) -> None:
    """As on a full disk: the job runs without it."""
    assert run(tmp_path / "missing", "scratch-prolog").returncode == 0
    done = run(tmp_path / "missing", "scratch-taskprolog")
    assert (done.returncode, done.stdout) == (0, "")


def test_tasks_are_told_their_own_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "17").mkdir()
    done = run(tmp_path, "scratch-taskprolog")
    assert done.stdout.splitlines() == [
        f"export SLURM_TMPDIR={tmp_path}/17", f"export TMPDIR={tmp_path}/17",
    ]  # fmt: skip
    if os.geteuid() == 0:
        os.chown(tmp_path / "17", 4321, 0)
        assert run(tmp_path, "scratch-taskprolog").stdout == ""


@root
@pytest.mark.skipif(not shutil.which("systemd-tmpfiles"), reason="no systemd-tmpfiles")
def test_at_boot_what_jobs_left_goes_and_nothing_else(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "scratch"
    outside.mkdir()
    (outside / "precious").write_text("x")
    ours = ["7", "1234567890", ".gone-17-4321"]
    others = ["thesis", "2024-results", "12345678901", ".gone", "lost+found"]
    for name in (*ours, *others):
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "deep" / "file").write_text("x")
        (folder / name / "link").symlink_to(outside)
    rules = tmp_path / "rules.conf"
    rules.write_text(tmpfiles(str(folder)))
    words = ["systemd-tmpfiles", "--create", "--remove"]
    subprocess.run([*words, rules], check=True, timeout=20)
    assert len(list(folder.iterdir())) == 8, "only at boot"
    subprocess.run([*words, "--boot", rules], check=True, timeout=20)
    assert sorted(path.name for path in folder.iterdir()) == sorted(others)
    assert (folder / "thesis" / "deep" / "file").read_text() == "x"
    assert (outside / "precious").read_text() == "x"


def test_scratch_is_for_compute_nodes_of_clusters_that_ask_for_it() -> None:
    made = small(storage={"scratch": "/scratch"})
    assert [node.name for node in made.machines if where(made, node)] == ["node01", "node02"]
    assert not any(where(small(), node) for node in small().machines)
    found = {
        item.key: item
        for item in scratch(Context(made, made.node("node01"), {"node01": BOARD}, SECRETS))
    }
    assert found["directory:/scratch"].own
    assert found[f"file:{TMPFILES}"].content.decode() == tmpfiles("/scratch")
    assert set(PLACES.values()) <= {key.removeprefix("file:") for key in found}
    assert all(b"@" not in found[f"file:{path}"].content for path in PLACES.values())
