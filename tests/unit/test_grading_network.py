"""The texts that the grading role writes, tried by the programs that read them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from test_course_model import course, read

from coursework import grade_course, layout
from coursework.grading_role import folders, rules, wanted_path, wanted_unit
from provisioning.role import Context


@pytest.fixture
def cluster(tmp_path: Path):
    return read(tmp_path, course(slots=3))


def test_only_grading_accounts_are_kept_off_the_network(cluster) -> None:
    text = rules(cluster, cluster.machines[0])
    assert "skuid { 50101, 50102, 50103 } reject" in text
    assert "ip daddr { 10.1.0.10, 127.0.0.1 } tcp dport 6817 accept" in text, "sbatch from here"
    assert text.index("accept\n") < text.index("reject")


@pytest.mark.skipif(not shutil.which("nft") or os.geteuid() != 0, reason="needs nft and root")
def test_nft_takes_the_rules(cluster, tmp_path: Path) -> None:
    path = tmp_path / "rules"
    path.write_text(rules(cluster, cluster.machines[0]))
    done = subprocess.run(
        ["unshare", "--net", "nft", "-c", "-f", str(path)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_each_slot_has_a_folder_of_its_own_group(cluster) -> None:
    top, *slots = folders(Context(cluster, cluster.machines[0], {}))
    assert top.mode == 0o711
    for number, slot in enumerate(slots, 1):
        assert (slot.owner, slot.group, slot.mode) == (
            "grader-hpc", f"gradebox-hpc-{number:02d}", 0o2750,
        )  # fmt: skip


def test_what_the_box_hides_never_holds_the_environments(cluster, tmp_path: Path) -> None:
    where = grade_course.places(cluster, layout.find(cluster, "hpc"))
    assert {"/home", "/run", "/nfs/courses"} <= set(where.hide)
    below = cluster.model_copy(
        update={"storage": cluster.storage.model_copy(update={"shared": "/srv/shared"})}
    )
    assert "/srv" not in grade_course.places(below, layout.find(below, "hpc")).hide


def test_the_buttons_units(cluster) -> None:
    place = layout.find(cluster, "hpc")
    assert "User=grader-hpc" in wanted_unit(place)
    assert "DirectoryNotEmpty=/nfs/courses/hpc/grading/wanted" in wanted_path(place)
